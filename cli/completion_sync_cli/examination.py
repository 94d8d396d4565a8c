"""All rows of a history, checked as the function would check them, before anything is sent.

Nothing of it grows in memory: verdicts are a byte a row in a file, and what has been seen is in a database on disk.
"""

from __future__ import annotations

import csv
import hashlib
import os
import sqlite3
import tempfile
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Self

from completion_sync.completion import Completion, Unresolved
from completion_sync.errors import InvalidMessageError, UnknownContentError
from completion_sync.events import read_body

from .errors import CommandError
from .rows import Format, Row, format_of, read_rows
from .sources import Content, Source

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from .config_source import StackConfig
    from .output import Bar

VALID, REJECTED = b"V", b"R"
_CACHE_KB = 16_384
_REPORT_EVERY = 2000


class RowError(Exception):
    """A row would not be recorded. ``reason`` is one of the function's, ``duplicate`` or ``ignored``."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason
        self.detail = detail


@dataclass(frozen=True, slots=True)
class Entry:
    """What a valid row records. Of ``user_id`` and ``user_ref`` one is None; ``completed_at`` is in its final form."""

    user_id: str | None
    user_ref: str | None
    content_id: str
    completed_at: str

    @property
    def person(self) -> str:
        """The person: two rows of the same one have the same."""
        return f"id\0{self.user_id}" if self.user_id is not None else f"ref\0{self.user_ref}"

    @property
    def key(self) -> bytes:
        """A hash of everything: two rows with the same one are duplicates."""
        return digest(f"{self.person}\0{self.content_id}\0{self.completed_at}")


def digest(text: str) -> bytes:
    """Return a hash of 16 bytes."""
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()


class Judge:
    """Judges rows with the function's own parser and the stack's mapping and content table."""

    def __init__(self, config: StackConfig) -> None:
        self._config = config

    def judge(self, row: Row) -> Entry:
        """Return what a row records.

        :raises RowError: the function would not record it.
        """
        if row.problem is not None:
            raise RowError("invalid_message", row.problem)
        try:
            content = read_body(row.body, "row", self._config.mapping)
            if isinstance(content, Completion):
                return Entry(content.user_id, None, content.content_id, content.completed_at)
            if isinstance(content, Unresolved):
                code, content_id = content.content_code, content.content_id
                content_id = self._config.content_id(code) if code is not None else content_id
                return Entry(content.user_id, content.user_ref, content_id or "", content.completed_at)
        except InvalidMessageError as error:
            raise RowError("invalid_message", str(error)) from None
        except UnknownContentError as error:
            raise RowError("unknown_content", error.detail) from None
        raise RowError("ignored", "the mapping ignores it")


class Seen:
    """Which rows have been seen, by hash: a table on disk, as ten million keys need some 400 MB."""

    def __init__(self, folder: Path) -> None:
        self._database = sqlite3.connect(folder / "seen.sqlite", isolation_level=None)
        for setting in ("journal_mode=OFF", "synchronous=OFF", "locking_mode=EXCLUSIVE", f"cache_size=-{_CACHE_KB}"):
            self._database.execute(f"PRAGMA {setting}")
        self._database.execute("CREATE TABLE seen (key BLOB PRIMARY KEY, line INTEGER) WITHOUT ROWID")
        self._database.execute("BEGIN")

    def first(self, key: bytes, line: int) -> int | None:
        """Return the line that had this key first, or None and remember this one."""
        if self._database.execute("INSERT OR IGNORE INTO seen VALUES (?, ?)", (key, line)).rowcount:
            return None
        [[found]] = self._database.execute("SELECT line FROM seen WHERE key = ?", (key,))
        return int(found)

    def close(self) -> None:
        """Close the database."""
        self._database.close()


class Rejects:
    """The file of rejected rows, which appears with the first one: line, reason, detail and the row itself."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.count = 0
        self._file: IO[str] | None = None

    def add(self, line: int, reason: str, detail: str, raw: str) -> None:
        """Add a row."""
        if self._file is None:
            # Rows hold personal data.
            descriptor = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            self._file = open(descriptor, "w", encoding="utf-8", errors="replace", newline="")  # noqa: PTH123, SIM115 - a descriptor; closed below
            self._writer = csv.writer(self._file)
            self._writer.writerow(("line", "reason", "detail", "row"))
        self._writer.writerow((line, reason, detail, raw.rstrip("\r\n")))
        self.count += 1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._file is not None:
            self._file.close()


@dataclass
class Examination:
    """What came of checking all rows: how many there are, and the verdict on each."""

    source: Source
    kind: Format
    digest: str = ""
    rows: int = 0
    valid: int = 0
    reasons: dict[str, int] = field(default_factory=dict)
    version: object = None
    _verdicts: Any = None

    @property
    def rejected(self) -> int:
        """How many rows would not be recorded."""
        return self.rows - self.valid

    def valid_after(self, row: int) -> int:
        """Return how many rows after this one are valid."""
        self._verdicts.seek(row)
        return sum(chunk.count(VALID) for chunk in iter(lambda: self._verdicts.read(1 << 20), b""))

    def valid_rows(self) -> Iterator[tuple[int, Row]]:
        """Yield the valid rows with their numbers (from 1), read anew.

        :raises CommandError: the file has changed meanwhile.
        """
        self._verdicts.seek(0)
        if self.source.version() != self.version:
            raise CommandError(f"{self.source.name} has changed while it was read.", "Run the command again.", status=1)
        with Content(self.source) as content:
            for number, row in enumerate(read_rows(content, self.kind), 1):
                if self._verdicts.read(1) == VALID:
                    yield number, row


@contextmanager
def examined(
    source: Source, kind: Format | None, judge: Judge, rejects: Rejects, bar: Bar, stopped: Callable[[], bool]
) -> Iterator[Examination]:
    """Check all rows; the verdicts last as long as the block."""
    with tempfile.TemporaryFile() as verdicts:
        with Content(source) as content, tempfile.TemporaryDirectory() as folder, closing(Seen(Path(folder))) as seen:
            result = Examination(source, kind or format_of(source.name, content), version=source.version())
            result._verdicts = verdicts  # noqa: SLF001 - it is made here
            for row in read_rows(content, result.kind):
                if result.rows % _REPORT_EVERY == 0:
                    bar.update(content.position, f"{result.rows:,} rows")
                    if stopped():
                        raise KeyboardInterrupt
                result.rows += 1
                verdicts.write(_verdict(row, judge, seen, rejects, result))
            result.digest = content.digest()
        # The database of what has been seen is gone from the disk before the hours that sending takes.
        yield result


def _verdict(row: Row, judge: Judge, seen: Seen, rejects: Rejects, result: Examination) -> bytes:
    try:
        first = seen.first(judge.judge(row).key, row.line)
        if first is None:
            result.valid += 1
            return VALID
        error = RowError("duplicate", f"the same as line {first}")
    except RowError as rejection:
        error = rejection
    result.reasons[error.reason] = result.reasons.get(error.reason, 0) + 1
    rejects.add(row.line, error.reason, error.detail, row.raw)
    return REJECTED
