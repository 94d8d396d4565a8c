"""Points in time, from the forms in which they arrive to the one in which they are sent."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta, timezone

from .errors import InvalidMessageError

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
