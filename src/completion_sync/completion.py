"""The completion: who finished what, and when. Parsed strictly, so that a retry sends the same bytes."""

from __future__ import annotations

import json
import re
import unicodedata
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone
from typing import TYPE_CHECKING

from .errors import InvalidMessageError

if TYPE_CHECKING:
    from collections.abc import Mapping

MAX_ID_LENGTH = 256

# ISO 8601, extended or basic; RFC 3339 (section 5.6) also allows a space and lower-case letters. Seconds are optional.
# The standard library's parser accepts more, and differs between Python versions: a message would be valid on one
# runtime and rejected on the next.
_TIMESTAMP = re.compile(
    r"(?P<year>\d{4})(?P<dash>-?)(?P<month>\d{2})(?P=dash)(?P<day>\d{2})"
    r"[Tt ]"
    r"(?P<hour>\d{2})(?P<colon>:?)(?P<minute>\d{2})(?:(?P=colon)(?P<second>\d{2})(?:[.,](?P<fraction>\d{1,30}))?)?"
    r"(?:[Zz]|(?P<sign>[+-])(?P<offset_hour>\d{2})(?::?(?P<offset_minute>\d{2}))?)",
    re.ASCII,
)
_TIMESTAMP_ALLOWED = "must be an ISO 8601 date and time with a UTC offset or Z, such as 2021-01-01T09:00:00Z"
_ID_ALLOWED = f"must be a non-empty string of at most {MAX_ID_LENGTH} characters without control characters"
# Cc: control characters; Cs: lone surrogates, which no encoding of Unicode can carry.
_FORBIDDEN_CATEGORIES = frozenset({"Cc", "Cs"})


@dataclass(frozen=True, slots=True)
class Completion:
    """One learner's completion of one piece of content.

    ``completed_at`` is UTC, ``YYYY-MM-DDTHH:MM:SS.sssZ``, and comes from the event alone, never from the clock:
    Thrive's pages do not say which fields make two records the same, so a retry must send what the first attempt sent.
    """

    user_id: str
    content_id: str
    completed_at: str

    @classmethod
    def parse(cls, fields: Mapping[str, object], *, envelope_time: object = None) -> Completion:
        """Parse ``userId``, ``contentId`` and ``completedAt``; unknown fields are ignored.

        :param envelope_time: the ``time`` of an EventBridge envelope, used if ``completedAt`` is absent.
        :raises InvalidMessageError: names the field and what is allowed.
        """
        if "completedAt" in fields or envelope_time is None:
            completed_at = utc_timestamp(fields.get("completedAt"), field="completedAt")
        else:
            completed_at = utc_timestamp(envelope_time, field="time")
        return cls(
            user_id=_identifier(fields, "userId"),
            content_id=_identifier(fields, "contentId"),
            completed_at=completed_at,
        )

    def to_json(self) -> bytes:
        """Return the body of ``POST /rest/v1/learning/completions``: always the same bytes for the same completion."""
        fields = {"userId": self.user_id, "contentId": self.content_id, "completedAt": self.completed_at}
        return json.dumps(fields, separators=(",", ":")).encode("ascii")


def _identifier(fields: Mapping[str, object], field: str) -> str:
    value = fields.get(field)
    if not isinstance(value, str) or not 0 < len(value) <= MAX_ID_LENGTH:
        raise InvalidMessageError(f"{field}: {_ID_ALLOWED}")
    # The usual case, letters and digits, needs no look at each character.
    if not (value.isascii() and value.isalnum()) and any(
        unicodedata.category(character) in _FORBIDDEN_CATEGORIES for character in value
    ):
        raise InvalidMessageError(f"{field}: {_ID_ALLOWED}")
    return value


def utc_timestamp(value: object, *, field: str) -> str:
    """Convert an ISO 8601 date and time to ``YYYY-MM-DDTHH:MM:SS.sssZ`` in UTC; digits beyond milliseconds are cut off.

    :raises InvalidMessageError: not a string, no such date, or no UTC offset: a naive time is ambiguous.
    """
    match = _TIMESTAMP.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        raise InvalidMessageError(f"{field}: {_TIMESTAMP_ALLOWED}")
    microsecond = int((match["fraction"] or "0")[:6].ljust(6, "0"))
    try:
        moment = datetime(
            int(match["year"]),
            int(match["month"]),
            int(match["day"]),
            int(match["hour"]),
            int(match["minute"]),
            int(match["second"] or 0),
            microsecond,
            tzinfo=_offset(match),
        ).astimezone(UTC)
    except (ValueError, OverflowError):  # 30 February, 25 o'clock; an offset that leads out of the years 1 to 9999
        raise InvalidMessageError(f"{field}: {_TIMESTAMP_ALLOWED}") from None
    return format_timestamp(moment)


def _offset(match: re.Match[str]) -> timezone:
    if match["sign"] is None:
        return UTC
    minutes = int(match["offset_minute"] or 0)
    if minutes >= 60:
        raise ValueError
    offset = timedelta(hours=int(match["offset_hour"]), minutes=minutes)
    return timezone(-offset if match["sign"] == "-" else offset)


def format_timestamp(moment: datetime) -> str:
    """Return an aware moment in UTC as ``YYYY-MM-DDTHH:MM:SS.sssZ``."""
    return moment.replace(tzinfo=None).isoformat(timespec="milliseconds") + "Z"
