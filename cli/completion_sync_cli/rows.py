"""Rows of a history: CSV with columns in any order, or JSON lines. Each becomes the body of a message."""

from __future__ import annotations

import csv
import json
import zlib
from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Literal

from .errors import CommandError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .sources import Content

Format = Literal["csv", "jsonl"]

# Longer than any message that the function accepts.
MAX_LINE_BYTES = 1_048_576
_BOM = "\ufeff"
_DELIMITERS = (",", ";", "\t")
_JSON_SUFFIXES = (".jsonl", ".ndjson", ".json")
_CSV_SUFFIXES = (".csv", ".tsv", ".txt")


@dataclass(frozen=True, slots=True)
class Row:
    """One row: the line on which it begins, its text, and the message body, or the problem that prevents one."""

    line: int
    raw: str
    body: str = ""
    problem: str | None = None


def format_of(name: str, content: Content) -> Format:
    """Return the format by the name's ending, or else by the first bytes."""
    bare = name.lower().removesuffix(".gz")
    if bare.endswith(_JSON_SUFFIXES):
        return "jsonl"
    if bare.endswith(_CSV_SUFFIXES):
        return "csv"
    start = content.stream.peek(64).lstrip(b"\xef\xbb\xbf \t\r\n")  # type: ignore[attr-defined] # a BufferedReader has it
    return "jsonl" if start.startswith(b"{") else "csv"


def read_rows(content: Content, kind: Format) -> Iterator[Row]:
    """Yield the rows of a source, without empty lines.

    :raises CommandError: the file is damaged, or its header is not usable.
    """
    lines = _lines(content.stream)
    try:
        yield from _csv_rows(lines) if kind == "csv" else _json_rows(lines)
    except (EOFError, zlib.error, OSError) as error:
        raise CommandError(f"The file cannot be read to its end: {error}") from None


def _lines(stream: IO[bytes]) -> Iterator[str]:
    """Yield lines, decoded. A byte that is not UTF-8 becomes a lone surrogate, which the check rejects."""
    is_first = True
    while line := stream.readline(MAX_LINE_BYTES):
        text = line.decode("utf-8", "surrogateescape")
        if len(line) == MAX_LINE_BYTES and not line.endswith(b"\n"):
            while (rest := stream.readline(MAX_LINE_BYTES)) and not rest.endswith(b"\n"):
                pass
        yield text.removeprefix(_BOM) if is_first else text
        is_first = False


def _json_rows(lines: Iterator[str]) -> Iterator[Row]:
    for number, line in enumerate(lines, 1):
        if body := line.strip():
            yield Row(number, body, body)


def _csv_rows(lines: Iterator[str]) -> Iterator[Row]:
    consumed: list[str] = []

    def remembered() -> Iterator[str]:
        for line in lines:
            consumed.append(line)
            yield line

    text = remembered()
    first = next(text, "")
    delimiter = max(_DELIMITERS, key=first.count)
    header = _header(next(csv.reader([first], delimiter=delimiter), []))
    reader = csv.reader(text, delimiter=delimiter, strict=True)
    # The reader does not count the header.
    line = 2
    while True:
        consumed.clear()
        try:
            with field_size_limit(MAX_LINE_BYTES):
                cells = next(reader, None)
        except csv.Error as error:
            # The reader continues with the next line.
            lost = f" (up to line {reader.line_num + 1})" if len(consumed) > 1 else ""
            yield Row(line, "".join(consumed), problem=f"{error}{lost}")
            line = reader.line_num + 2
            continue
        if cells is None:
            return
        raw = "".join(consumed)
        if len(cells) == len(header):
            yield Row(line, raw, _body(header, cells))
        elif cells:
            yield Row(line, raw, problem=f"it has {len(cells)} fields, but the header has {len(header)}")
        line = reader.line_num + 2


@contextmanager
def field_size_limit(limit: int) -> Iterator[None]:
    """Change the csv module's limit temporarily. It is process-wide, and the content table relies on the default."""
    previous = csv.field_size_limit(limit)
    try:
        yield
    finally:
        csv.field_size_limit(previous)


def _header(cells: list[str]) -> list[str]:
    names = [cell.strip() for cell in cells]
    if not any(names):
        raise CommandError("The file or its first line is empty.", "The first line must name the columns.")
    if doubles := [name for name in names if name and names.count(name) > 1]:
        raise CommandError(f"The column {doubles[0]} occurs twice.")
    return names


def _body(header: list[str], cells: list[str]) -> str:
    """Return a row as a JSON object, without its empty cells."""
    fields = {name: cell for name, cell in zip(header, cells, strict=True) if name and cell}
    text = json.dumps(fields, ensure_ascii=False, separators=(",", ":"))
    return text if _is_for_sqs(text) else json.dumps(fields, separators=(",", ":"))


def _is_for_sqs(text: str) -> bool:
    """Return whether SQS accepts all characters of the text (SendMessage, MessageBody): all but two of them."""
    return "\ufffe" not in text and "\uffff" not in text
