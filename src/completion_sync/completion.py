"""The completion: who finished what, and when. Parsed strictly, so that a retry sends the same bytes."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from .errors import InvalidMessageError
from .timestamps import utc_timestamp

if TYPE_CHECKING:
    from collections.abc import Mapping

MAX_ID_LENGTH = 256

_ID_ALLOWED = f"must be a non-empty string of at most {MAX_ID_LENGTH} characters without control characters"
# Unicode's categories Cc, control characters, and Cs, lone surrogates, which no encoding can carry. Both are fixed for
# all versions of Unicode.
_FORBIDDEN = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
# RFC 3986, section 5.2.4: as a segment of a path, these mean another path.
_DOT_SEGMENTS = frozenset({".", ".."})


@dataclass(frozen=True, slots=True)
class Completion:
    """One learner's completion of one piece of content, in Thrive's own ids.

    ``completed_at`` is UTC, ``YYYY-MM-DDTHH:MM:SS.sssZ``, and comes from the event alone, never from the clock:
    Thrive's pages do not say which fields make two records the same, so a retry must send what the first attempt sent.
    """

    user_id: str
    content_id: str
    completed_at: str

    def to_json(self) -> bytes:
        """Return the body of ``POST /rest/v1/learning/completions``: always the same bytes for the same completion."""
        fields = {"userId": self.user_id, "contentId": self.content_id, "completedAt": self.completed_at}
        return json.dumps(fields, separators=(",", ":")).encode("ascii")


@dataclass(frozen=True, slots=True)
class Unresolved:
    """A completion that names the person, the content or both as the source system knows them.

    Of ``user_id`` and ``user_ref`` one is None, and likewise of ``content_id`` and ``content_code``. A reference is
    personal data, so ``repr`` does not show it.
    """

    user_id: str | None
    user_ref: str | None = field(repr=False)
    content_id: str | None
    content_code: str | None
    completed_at: str

    def resolve(self, user_id: str, content_id: str) -> Completion:
        """Return the completion with the ids that were looked up."""
        return Completion(user_id, content_id, self.completed_at)


def read_completion(fields: Mapping[str, object], *, envelope_time: object = None) -> Completion | Unresolved:
    """Read ``userId`` or ``userRef``, ``contentId`` or ``contentCode``, and ``completedAt``; ignore unknown fields.

    A field that is null counts as absent.

    :param envelope_time: the ``time`` of an EventBridge envelope, used if ``completedAt`` is absent.
    :raises InvalidMessageError: names the field and what is allowed.
    """
    if "completedAt" in fields or envelope_time is None:
        completed_at = utc_timestamp(fields.get("completedAt"), field="completedAt")
    else:
        completed_at = utc_timestamp(envelope_time, field="time")
    return build_completion(fields, completed_at)


def build_completion(fields: Mapping[str, object], completed_at: str) -> Completion | Unresolved:
    """Return the completion of a person and a content; ``completed_at`` is in its final form.

    :raises InvalidMessageError: names the field and what is allowed.
    """
    user_id, user_ref = _one_of(fields, "userId", "userRef")
    content_id, content_code = _one_of(fields, "contentId", "contentCode")
    if user_ref in _DOT_SEGMENTS:
        raise InvalidMessageError("userRef: must not be . or ..")
    if user_id is not None and content_id is not None:
        return Completion(user_id, content_id, completed_at)
    return Unresolved(user_id, user_ref, content_id, content_code, completed_at)


def _one_of(fields: Mapping[str, object], first: str, second: str) -> tuple[str | None, str | None]:
    one, other = fields.get(first), fields.get(second)
    if one is None and other is None:
        raise InvalidMessageError(f"{first} or {second}: must be given")
    if other is None:
        return identifier(one, first), None
    if one is None:
        return None, identifier(other, second)
    raise InvalidMessageError(f"{first} and {second}: must not both be given")


def identifier(value: object, name: str) -> str:
    """Return a valid id, reference or code.

    :raises InvalidMessageError: names it and what is allowed.
    """
    if not isinstance(value, str) or not 0 < len(value) <= MAX_ID_LENGTH or _FORBIDDEN.search(value):
        raise InvalidMessageError(f"{name}: {_ID_ALLOWED}")
    return value
