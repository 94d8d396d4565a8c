"""Values as text: numbers, durations and times as people write them, and JSON."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime, timedelta
from typing import Any

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
_PERIOD = re.compile(r"(\d{1,6})([smhdw])")


def number(value: int) -> str:
    """Return 1234567 as 1,234,567."""
    return f"{value:,}"


def count(value: int, singular: str) -> str:
    """Return "1 row", "2 rows"."""
    return f"{value:,} {singular if value == 1 else singular + 's'}"


def duration(seconds: float) -> str:
    """Return the two largest units of a duration, such as "3 h 20 min"."""
    whole = round(seconds)
    if whole < 1:
        return "under a second"
    parts: list[tuple[int, str]] = []
    for name, size in (("d", 86_400), ("h", 3600), ("min", 60), ("s", 1)):
        value, whole = divmod(whole, size)
        if value or parts:
            parts.append((value, name))
    return " ".join(f"{value} {name}" for value, name in parts[:2] if value)


def ago(moment: datetime, now: datetime) -> str:
    """Return how long ago it was in the largest unit, such as "3 h ago"."""
    seconds = max(0, int((now - moment).total_seconds()))
    for name, size in (("d", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * size or (name != "d" and seconds >= size):
            return f"{seconds // size} {name} ago"
    return f"{seconds} s ago"


def iso(moment: datetime) -> str:
    """Return a time as ``2026-01-31T09:00:00Z``."""
    return moment.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def from_milliseconds(value: int) -> datetime:
    """Return the time of a Unix timestamp in milliseconds."""
    return datetime.fromtimestamp(value / 1000, UTC)


def moment(text: str, now: datetime) -> datetime:
    """Parse ``2h`` or ``3d`` (this long ago), a date, or an ISO 8601 time, which is in UTC if it has no offset.

    :raises ValueError: it is none of these.
    """
    if match := _PERIOD.fullmatch(text):
        try:
            return now - timedelta(seconds=int(match[1]) * _UNITS[match[2]])
        except OverflowError:
            raise ValueError(text) from None
    parsed = datetime.fromisoformat(text)
    return parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)


def json_object(text: str) -> dict[str, Any]:
    """Return the JSON object that a text holds, empty if it holds none."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}
