"""The rows of a history and what Thrive holds of each, in a database on disk."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .files import scratch_database

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from .examination import Entry
    from .tenant import Record

MISSING, AMBIGUOUS, PRESENT = 0, 1, 2


class Comparison:
    """The rows of a history, each with its state: missing until something is found."""

    def __init__(self, folder: Path) -> None:
        self._database = scratch_database(folder / "rows.sqlite")
        self._database.execute(
            "CREATE TABLE rows (number INTEGER PRIMARY KEY, line INTEGER, user TEXT, ref TEXT, content TEXT,"
            " second TEXT, state INTEGER DEFAULT 0)"
        )

    def close(self) -> None:
        """Close the database."""
        self._database.close()

    def add(self, rows: Iterable[tuple[int, int, Entry]]) -> None:
        """Add rows, each with its number, its line and what it records."""
        self._database.execute("BEGIN")
        self._database.executemany(
            "INSERT INTO rows (number, line, user, ref, content, second) VALUES (?, ?, ?, ?, ?, ?)",
            (
                (number, line, entry.user_id, entry.user_ref, entry.content_id, entry.completed_at[:19])
                for number, line, entry in rows
            ),
        )
        self._database.execute("COMMIT")
        self._database.execute("CREATE INDEX by_ref ON rows (ref) WHERE ref IS NOT NULL")

    def references(self) -> Iterator[str]:
        """Yield each reference once."""
        # All at once, because rows change in between.
        found = self._database.execute("SELECT DISTINCT ref FROM rows WHERE ref IS NOT NULL").fetchall()
        yield from (ref for [ref] in found)

    def resolve(self, ref: str, user_id: str) -> None:
        """Set the user id of a reference."""
        self._database.execute("UPDATE rows SET user = ? WHERE ref = ?", (user_id, ref))

    def index(self) -> None:
        """Create the index by user, once all references are resolved."""
        self._database.execute("CREATE INDEX by_user ON rows (user, content, second)")

    def users(self) -> int:
        """Return how many people there are whose user id is known."""
        [[count]] = self._database.execute("SELECT count(DISTINCT user) FROM rows")
        return int(count)

    def span(self) -> tuple[str, str] | None:
        """Return the first and the last second, None without rows."""
        [[first, last]] = self._database.execute("SELECT min(second), max(second) FROM rows")
        return None if first is None else (first, last)

    def users_with_missing(self) -> Iterator[str]:
        """Yield the user ids that still have missing rows."""
        last = ""
        # Page by page, because states change in between.
        query = (
            "SELECT DISTINCT user FROM rows WHERE user > ? AND state = ? AND user IS NOT NULL ORDER BY user LIMIT 1000"
        )
        while found := [user for [user] in self._database.execute(query, (last, MISSING))]:
            yield from found
            last = found[-1]

    def found(self, records: Iterable[Record]) -> None:
        """Update the state of the rows that match these records."""
        self._database.execute("BEGIN")
        for record in records:
            key = (record.user_id, record.content_id)
            self._database.execute(
                "UPDATE rows SET state = ? WHERE user = ? AND content = ? AND second = ?",
                (PRESENT, *key, record.second),
            )
            self._database.execute(
                "UPDATE rows SET state = ? WHERE user = ? AND content = ? AND state = ?", (AMBIGUOUS, *key, MISSING)
            )
        self._database.execute("COMMIT")

    def counts(self) -> dict[int, int]:
        """Return how many rows are in each state."""
        counted = dict(self._database.execute("SELECT state, count(*) FROM rows GROUP BY state").fetchall())
        return {state: int(counted.get(state, 0)) for state in (MISSING, AMBIGUOUS, PRESENT)}

    def rows(self, *states: int) -> Iterator[tuple[int, int, int]]:
        """Yield number, line and state of the rows in these states, in order."""
        marks = ", ".join("?" * len(states))
        query = f"SELECT number, line, state FROM rows WHERE state IN ({marks}) ORDER BY number"  # noqa: S608 - marks only
        yield from self._database.execute(query, states)
