"""``content.csv``: the table from the codes of the source systems to Thrive's content ids.

Imported only where codes are used.
"""

from __future__ import annotations

import csv
import io
from typing import Any

from .completion import identifier
from .errors import ConfigError, InvalidMessageError

FILE = "content.csv"
MAX_BYTES = 10_000_000
MAX_CODES = 200_000
CODE, CONTENT_ID = "code", "contentId"


def parse_table(data: bytes) -> dict[str, str]:
    """Parse the table: CSV (RFC 4180) in UTF-8, with a header that has ``code`` and ``contentId``, in any order.

    Further columns and empty lines are ignored, and so is a byte order mark.

    :raises ConfigError: names the line and says what is allowed.
    """
    if len(data) > MAX_BYTES:
        raise ConfigError(f"{FILE}: must be at most {MAX_BYTES} bytes long")
    try:
        data.decode()
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ConfigError(f"{FILE}: line {line}: must be UTF-8") from None
    # Decoded again piece by piece: the text as a whole may take four bytes for each character while the table grows.
    reader = csv.reader(io.TextIOWrapper(io.BytesIO(data), encoding="utf-8-sig", newline=""), strict=True)
    try:
        return _read(reader)
    except csv.Error as error:
        raise ConfigError(f"{FILE}: line {reader.line_num}: {error}") from None


def _read(reader: Any) -> dict[str, str]:
    header = next(reader, None)
    if header is None or header.count(CODE) != 1 or header.count(CONTENT_ID) != 1:
        raise ConfigError(f"{FILE}: line 1: must be a header with {CODE} and {CONTENT_ID}, separated by commas")
    code_at, content_id_at = header.index(CODE), header.index(CONTENT_ID)
    table: dict[str, str] = {}
    for row in reader:
        if not row:
            continue
        line = reader.line_num
        if len(row) <= max(code_at, content_id_at):
            raise ConfigError(f"{FILE}: line {line}: must have as many fields as the header")
        try:
            code = identifier(row[code_at], CODE)
            content_id = identifier(row[content_id_at], CONTENT_ID)
        except InvalidMessageError as error:
            raise ConfigError(f"{FILE}: line {line}: {error}") from None
        if table.setdefault(code, content_id) != content_id:
            raise ConfigError(f"{FILE}: line {line}: the code occurs twice, with different content ids")
        if len(table) > MAX_CODES:
            raise ConfigError(f"{FILE}: line {line}: must have at most {MAX_CODES} codes")
    return table
