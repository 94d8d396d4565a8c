"""Keeps credentials, references and e-mail addresses out of what is logged or stored."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from urllib.parse import quote_plus, unquote, unquote_plus

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
    """Finds in text what one request was authorized with, and whom it was about, however it is encoded."""

    def __init__(self, credentials: Credentials, authorization: str, user_ref: str | None = None) -> None:
        """Prepare the search.

        :param authorization: the Authorization header of the request that the text answers.
        :param user_ref: the reference of the person whom the request was about, if it is known.
        """
        tenant_id, client_id, secret = credentials.tenant_id, credentials.client_id, credentials.client_secret
        headers = (
            basic_header(tenant_id, secret),
            basic_header(client_id, secret),
            basic_header(quote_plus(client_id), quote_plus(secret)),
        )
        values = {tenant_id, client_id, secret, *(_parameter(header).rstrip("=") for header in headers)}
        self._sought = {value for value in values if len(value) >= _MIN_SOUGHT_LENGTH} | {_parameter(authorization)}
        self._user_ref = user_ref

    def printable_id(self, value: object) -> str | None:
        """Return an id that may be logged, or None if it is not a plain id or quotes something sensitive."""
        if not isinstance(value, str) or not 0 < len(value) <= MAX_ID_LENGTH or _NOT_PRINTABLE.search(value):
            return None
        return None if _holds_address(value) or self._is_sensitive(value) else value

    def one_line(self, value: object) -> str:
        """Return a text for people as one short line, with e-mail addresses replaced.

        The line is empty if the text quotes a credential or the reference, or is not a text.
        """
        if not isinstance(value, str):
            return ""
        words = _NOT_PRINTABLE.sub(" ", value).split()
        if self._is_sensitive(value) or self._is_sensitive(" ".join(words)):
            return ""
        return " ".join(map(without_address, words))[:MAX_TEXT_LENGTH]

    def _is_sensitive(self, text: str) -> bool:
        # As it is, percent-encoded as in a path, and form-encoded.
        readings = (text, unquote(text), unquote_plus(text))
        if self._user_ref is not None and any(_has_word(reading, self._user_ref) for reading in readings):
            return True
        return any(value in reading for value in self._sought for reading in readings)


def _has_word(text: str, word: str) -> bool:
    """Return whether a text holds a reference, in any letter case; only whole, as it may be a short number."""
    if word.casefold() not in text.casefold():  # before a pattern is compiled, which takes a hundred times as long
        return False
    return re.search(rf"(?<!\w){re.escape(word)}(?!\w)", text, re.IGNORECASE) is not None


def _parameter(header: str) -> str:
    """Return what follows the scheme in an Authorization header."""
    return header.partition(" ")[2]


def _holds_address(text: str) -> bool:
    return "@" in text or "%40" in text


def without_address(value: str) -> str:
    """Return an id as it may be logged: a sender may have taken an e-mail address for one."""
    return "[e-mail]" if _holds_address(value) else value


def printable(text: str) -> str:
    """Return a text as it may be logged: no e-mail addresses, and no characters that do not show as they are."""
    words = _NOT_PRINTABLE.sub(" ", text).split()
    return " ".join(map(without_address, words))
