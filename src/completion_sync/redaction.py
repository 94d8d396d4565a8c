"""Keeps credentials and e-mail addresses out of the text that other systems send us, before it is logged or stored."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from urllib.parse import quote, quote_plus, unquote

from .credentials import basic_header

if TYPE_CHECKING:
    from .credentials import Credentials

MAX_ID_LENGTH = 256
MAX_TEXT_LENGTH = 160

# A shorter value is no secret, and would be found in any text.
_MIN_SOUGHT_LENGTH = 8
# Characters that do not show as they are: control characters, line ends and surrogates, and those that show nothing or
# change the direction of writing (U+00AD, U+061C, U+200B to U+200F, U+202A to U+202E, U+2060 to U+206F, U+FEFF).
_NOT_PRINTABLE = re.compile(
    r"[^\x20-\x7e\u00a0-\u00ac\u00ae-\u061b\u061d-\u200a\u2010-\u2027\u202f-\u205f\u2070-\ud7ff\ue000-\ufefe\uff00-\ufffd]+"
)


class Redactor:
    """Finds one tenant's credentials in text, however they are encoded."""

    def __init__(self, credentials: Credentials) -> None:
        plain = (credentials.tenant_id, credentials.client_id, credentials.client_secret)
        headers = (
            basic_header(credentials.tenant_id, credentials.client_secret),
            basic_header(credentials.client_id, credentials.client_secret),
            basic_header(quote_plus(credentials.client_id), quote_plus(credentials.client_secret)),
        )
        spellings = {
            *plain,
            *(quote(value, safe="") for value in plain),
            *(quote_plus(value) for value in plain),
            *(header.partition(" ")[2].rstrip("=") for header in headers),
        }
        self._spellings = tuple(spelling for spelling in spellings if len(spelling) >= _MIN_SOUGHT_LENGTH)

    def printable_id(self, value: object, authorization: str) -> str | None:
        """Return an id that may be logged, or None if it is not a plain id or quotes a credential or an address.

        :param authorization: the Authorization header of the request that it answers.
        """
        if not isinstance(value, str) or not 0 < len(value) <= MAX_ID_LENGTH or _NOT_PRINTABLE.search(value):
            return None
        return None if "@" in value or self._quotes_credentials(value, authorization) else value

    def one_line(self, value: object, authorization: str) -> str:
        """Return a text for people as one short line, with e-mail addresses replaced.

        The line is empty if the text quotes a credential, or is not a text.
        """
        if not isinstance(value, str):
            return ""
        words = _NOT_PRINTABLE.sub(" ", value).split()
        if any(self._quotes_credentials(text, authorization) for text in (value, " ".join(words))):
            return ""
        return " ".join("[e-mail]" if "@" in word or "%40" in word else word for word in words)[:MAX_TEXT_LENGTH]

    def _quotes_credentials(self, text: str, authorization: str) -> bool:
        token = authorization.partition(" ")[2]
        return token in text or token in unquote(text) or any(spelling in text for spelling in self._spellings)


def printable(text: str) -> str:
    """Return a text as it may be logged: no e-mail addresses, and no characters that do not show as they are."""
    words = _NOT_PRINTABLE.sub(" ", text).split()
    return " ".join("[e-mail]" if "@" in word or "%40" in word else word for word in words)
