"""The completion records that the stand-in holds."""

from __future__ import annotations

import threading
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator


class Key(NamedTuple):
    """What makes two completions the same here.

    Thrive does not say which fields count. Comparing `completed_at` as sent, not as an instant, is the strictest
    reading: a client that writes the time differently on a retry is caught with two records.
    """

    user_id: str
    content_id: str
    completed_at: str


@dataclass(frozen=True, slots=True)
class Entry:
    """One record; `arrivals` counts how often it was sent, the first time included."""

    key: Key
    statement_id: str
    arrivals: int


class Ledger:
    """Completion records by key, in order of creation; safe to read while the server writes."""

    def __init__(self) -> None:
        self._statement_ids: dict[Key, str] = {}
        self._arrivals: dict[Key, int] = {}
        self._lock = threading.Lock()

    def record(self, key: Key) -> tuple[str, bool]:
        """Record a completion; return its statement id and whether it is new."""
        with self._lock:
            known = self._statement_ids.get(key)
            if known is not None:
                self._arrivals[key] += 1
                return known, False
            statement_id = self._statement_ids[key] = str(uuid.uuid4())
            self._arrivals[key] = 1
            return statement_id, True

    def find(self, user_id: str, content_id: str) -> tuple[Entry, ...]:
        """Return the records of one user and one content."""
        return tuple(e for e in self.entries() if (e.key.user_id, e.key.content_id) == (user_id, content_id))

    def entries(self) -> tuple[Entry, ...]:
        """Return all records."""
        with self._lock:
            return tuple(Entry(key, sid, self._arrivals[key]) for key, sid in self._statement_ids.items())

    def clear(self) -> None:
        """Forget all records."""
        with self._lock:
            self._statement_ids.clear()
            self._arrivals.clear()

    def __len__(self) -> int:
        return len(self._statement_ids)

    def __iter__(self) -> Iterator[Entry]:
        return iter(self.entries())
