"""Checks all rows of a history as the function would, before anything is sent.

Memory does not grow with the number of rows: verdicts are one byte per row in a file, and the rows that have been seen
are in a database on disk.
"""

from __future__ import annotations

import csv
import hashlib
import tempfile
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, TextIO

from completion_sync.completion import Completion, Unresolved
from completion_sync.errors import InvalidMessageError, UnknownContentError
from completion_sync.events import read_body

from .errors import CommandError
from .files import open_private, scratch_database
from .rows import Format, Row, format_of, read_rows
from .sources import Content, Source

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from .config_source import StackConfig
    from .output import Bar

VALID, REJECTED = b"V", b"R"
_REPORT_EVERY = 2000


class RowError(Exception):
    """A row would not be recorded. ``reason`` is one of the function's, ``duplicate`` or ``ignored``."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason
        self.detail = detail


@dataclass(frozen=True, slots=True)
class Entry:
    """What a valid row records. Either ``user_id`` or ``user_ref`` is None; ``completed_at`` is in its final form."""

    user_id: str | None
    user_ref: str | None
    content_id: str
    completed_at: str

    @property
    def person(self) -> str:
        """A key of the person, equal for two rows of the same person."""
        return f"id\0{self.user_id}" if self.user_id is not None else f"ref\0{self.user_ref}"

    @property
    def key(self) -> bytes:
        """A hash of all fields, equal for duplicates."""
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
    """The hashes of the rows seen so far, in a table on disk: ten million need about 400 MB."""

    def __init__(self, folder: Path) -> None:
        self._database = scratch_database(folder / "seen.sqlite")
        self._database.execute("CREATE TABLE seen (key BLOB PRIMARY KEY, line INTEGER) WITHOUT ROWID")
        self._database.execute("BEGIN")

    def first(self, key: bytes, line: int) -> int | None:
        """Return the line that had this key first. If there is none, remember this line and return None."""
        if self._database.execute("INSERT OR IGNORE INTO seen VALUES (?, ?)", (key, line)).rowcount:
            return None
        [[found]] = self._database.execute("SELECT line FROM seen WHERE key = ?", (key,))
        return int(found)

    def close(self) -> None:
        """Close the database."""
        self._database.close()


class Rejects:
    """The file of rejected rows (line, reason, detail and the row), created with the first of them."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.count = 0
        self._file: TextIO | None = None

    def add(self, line: int, reason: str, detail: str, raw: str) -> None:
        """Add a row."""
        if self._file is None:
            self._file = open_private(self.path)
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
    """The result of checking all rows: how many there are, and the verdict on each."""

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
        """Read the source again and yield the valid rows with their numbers (from 1).

        :raises CommandError: the file has changed since it was checked.
        """
        self._verdicts.seek(0)
        if self.source.version() != self.version:
            raise CommandError(
                f"{self.source.name} changed while it was being read.", "Run the command again.", status=1
            )
        with Content(self.source) as content:
            for number, row in enumerate(read_rows(content, self.kind), 1):
                if self._verdicts.read(1) == VALID:
                    yield number, row


@contextmanager
def examined(
    source: Source, kind: Format | None, judge: Judge, rejects: Rejects, bar: Bar, stopped: Callable[[], bool]
) -> Iterator[Examination]:
    """Check all rows. The verdicts exist until the end of the block."""
    with tempfile.TemporaryFile() as verdicts:
        with Content(source) as content, tempfile.TemporaryDirectory() as folder, closing(Seen(Path(folder))) as seen:
            result = Examination(source, kind or format_of(source.name, content), version=source.version())
            result._verdicts = verdicts  # noqa: SLF001 - created here
            for row in read_rows(content, result.kind):
                if result.rows % _REPORT_EVERY == 0:
                    bar.update(content.position, f"{result.rows:,} rows")
                    if stopped():
                        raise KeyboardInterrupt
                result.rows += 1
                verdicts.write(_verdict(row, judge, seen, rejects, result))
            bar.update(content.position, f"{result.rows:,} rows")
            result.digest = content.digest()
        # The database of seen rows is deleted before sending begins, which may take hours.
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
