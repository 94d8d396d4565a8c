"""Completion records: what a request body must hold, and the ledger of what was recorded."""

from __future__ import annotations

import json
import re
import uuid
from dataclasses import dataclass, replace
from datetime import date
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

# RFC 3339, section 5.6, which `format: date-time` in the contract refers to: the offset is mandatory.
_DATE_TIME = re.compile(
    r"\d{4}-\d{2}-\d{2}[Tt]([01]\d|2[0-3]):[0-5]\d:([0-5]\d|60)(\.\d+)?([Zz]|[+-]([01]\d|2[0-3]):[0-5]\d)", re.ASCII
)


class Key(NamedTuple):
    """What makes two completions the same record here.

    Thrive does not document which fields count. Comparing `completed_at` as text, not as an instant, is the strictest
    reading: a client that formats the time differently on a retry ends up with two records and is caught.
    """

    user_id: str
    content_id: str
    completed_at: str


@dataclass(frozen=True, slots=True)
class Entry:
    """One record; `arrivals` counts how often it was sent, including the first time."""

    key: Key
    statement_id: str
    arrivals: int


class Ledger:
    """The records, in order of creation. Only the server's thread records; any thread may read or clear."""

    def __init__(self) -> None:
        self._entries: dict[Key, Entry] = {}

    def record(self, key: Key) -> Entry:
        """Record a completion; `arrivals` of the entry returned is 1 if it is new."""
        known = self._entries.get(key)
        entry = replace(known, arrivals=known.arrivals + 1) if known else Entry(key, str(uuid.uuid4()), 1)
        self._entries[key] = entry
        return entry

    def entries(self) -> tuple[Entry, ...]:
        """Return all records."""
        return tuple(self._entries.values())

    def clear(self) -> None:
        """Delete all records."""
        self._entries.clear()

    def __len__(self) -> int:
        return len(self._entries)

    def __iter__(self) -> Iterator[Entry]:
        return iter(self.entries())


def parse(body: bytes) -> Any:
    """Return the JSON value of a request body, or None if it is not JSON."""
    try:
        return json.loads(body.decode())
    except (ValueError, RecursionError):
        return None


def read(payload: Any) -> Key | str:
    """Return the key of a completion, or a sentence that says how it breaks the contract's schema."""
    if not isinstance(payload, dict):
        return "the body must be a JSON object"
    values = []
    for name in ("userId", "contentId", "completedAt"):
        value = payload.get(name)
        if not isinstance(value, str) or not value:
            return f"{name} must be a non-empty string"
        values.append(value)
    key = Key(*values)
    return key if _is_date_time(key.completed_at) else "completedAt must be an RFC 3339 date-time with an offset"


def _is_date_time(text: str) -> bool:
    if not _DATE_TIME.fullmatch(text):
        return False
    try:
        # The pattern has checked the time of day; this checks the calendar.
        date.fromisoformat(text[:10])
    except ValueError:
        return False
    return True
