"""``content.csv``: which tables are read, what is refused with its line, and how large a table may be."""

from __future__ import annotations

import tracemalloc
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from completion_sync.catalogue import MAX_BYTES, MAX_CODES, parse_table
from completion_sync.errors import ConfigError

NO_ID = "must be a non-empty string of at most 256 characters without control characters"

TABLES = {
    "as-in-the-guide": ("code,contentId\nA,1\nB,2\n", {"A": "1", "B": "2"}),
    "columns-in-another-order": ("contentId,code\n1,A\n", {"A": "1"}),
    "further-columns": ("title,code,note,contentId\nx,A,,1\ny,B,z,2\n", {"A": "1", "B": "2"}),
    "byte-order-mark": ("\ufeffcode,contentId\nA,1\n", {"A": "1"}),
    "crlf": ("code,contentId\r\nA,1\r\n", {"A": "1"}),
    "cr": ("code,contentId\rA,1\r", {"A": "1"}),
    "no-line-end": ("code,contentId\nA,1", {"A": "1"}),
    "quoted": ('"code","contentId"\n"A, ""the first""","1"\n', {'A, "the first"': "1"}),
    "line-end-in-a-further-column": ('code,contentId,note\nA,1,"a\nb"\nB,2,\n', {"A": "1", "B": "2"}),
    "beyond-ascii": ("code,contentId\nÜbung\u2028😀,1\n", {"Übung\u2028😀": "1"}),
    "white-space-is-part-of-a-code": ("code,contentId\n A ,1\n", {" A ": "1"}),
    "empty-lines": ("code,contentId\n\nA,1\n\n\nB,2\n\n", {"A": "1", "B": "2"}),
    "longer-rows": ("code,contentId\nA,1,x,y\n", {"A": "1"}),
    "the-same-twice": ("code,contentId\nA,1\nA,1\n", {"A": "1"}),
    "no-codes": ("code,contentId\n", {}),
}

BROKEN: dict[str, tuple[str | bytes, str]] = {
    "empty": ("", "line 1: must be a header with code and contentId, separated by commas"),
    "no-header": ("A,1\n", "line 1: must be a header"),
    "semicolons": ("code;contentId\nA;1\n", "line 1: must be a header"),
    "capitals": ("Code,ContentId\nA,1\n", "line 1: must be a header"),
    "a-column-twice": ("code,contentId,code\nA,1,B\n", "line 1: must be a header"),
    "empty-first-line": ("\ncode,contentId\nA,1\n", "line 1: must be a header"),
    "too-few-fields": ("code,contentId\nA,1\nB\n", "line 3: must have as many fields as the header"),
    "empty-code": ("code,contentId\nA,1\n,2\n", f"line 3: code: {NO_ID}"),
    "empty-content-id": ("code,contentId\nA,\n", f"line 2: contentId: {NO_ID}"),
    "long-code": (f"code,contentId\n{'x' * 257},1\n", f"line 2: code: {NO_ID}"),
    "control-character": ("code,contentId\nA,1\t2\n", f"line 2: contentId: {NO_ID}"),
    "two-content-ids": ("code,contentId\nA,1\nB,2\nA,3\n", "line 4: the code occurs twice, with different content ids"),
    "after-a-field-of-two-lines": ('code,contentId,note\nA,1,"a\nb"\n,2,\n', f"line 4: code: {NO_ID}"),
    "open-quote": ('code,contentId\nA,1\n"B,2\n', "line 3: unexpected end of data"),
    "text-behind-a-quote": ('code,contentId\n"A"x,1\n', "line 2: ',' expected after '\"'"),
    "huge-field": (f"code,contentId,note\nA,1,{'x' * 200_000}\n", "line 2: field larger than field limit (131072)"),
    "latin-1": ("code,contentId\nA,1\nÜ,2\n".encode("latin-1"), "line 3: must be UTF-8"),
    "utf-16": ("code,contentId\n".encode("utf-16"), "line 1: must be UTF-8"),
    "lone-surrogate": (b"code,contentId\n\xed\xa0\x80,1\n", "line 2: must be UTF-8"),
    "too-long": (b"x" * (MAX_BYTES + 1), f"must be at most {MAX_BYTES} bytes long"),
}


@pytest.mark.parametrize(("text", "expected"), TABLES.values(), ids=TABLES)
def test_a_table_is_read(text, expected):
    assert parse_table(text.encode()) == expected


@pytest.mark.parametrize(("data", "problem"), BROKEN.values(), ids=BROKEN)
def test_a_broken_table_is_refused_with_the_line(data, problem):
    with pytest.raises(ConfigError) as refused:
        parse_table(data if isinstance(data, bytes) else data.encode())
    assert str(refused.value).startswith(f"content.csv: {problem}")


def test_a_table_as_large_as_allowed_is_read_in_bounded_memory():
    row = "COURSE-😀-%06d,64a1b2c3d4e5f6789abc%06d\n"
    data = ("code,contentId\n" + "".join(row % (number, number) for number in range(MAX_CODES))).encode()
    tracemalloc.start()
    table = parse_table(data)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(table) == MAX_CODES
    # So that the smallest function, of 256 MB, has room for the old table, the new one and the file.
    assert peak < 60_000_000

    with pytest.raises(ConfigError, match=f"^content.csv: line {MAX_CODES + 2}: must have at most {MAX_CODES} codes$"):
        parse_table(data + b"one more,1\n")


@given(st.binary(max_size=60) | st.text('code,contentId\n"\r x\0é', max_size=40).map(str.encode))
def test_any_file_is_parsed_or_refused(data):
    with suppress(ConfigError):
        parse_table(b"code,contentId\n" + data)
    with suppress(ConfigError):
        parse_table(data)


IDS = st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"]), min_size=1, max_size=20)


@given(st.dictionaries(IDS, IDS))
def test_any_table_that_is_written_as_csv_is_read_again(table):
    def quoted(text: str) -> str:
        return '"' + text.replace('"', '""') + '"'

    text = "code,contentId\r\n" + "".join(f"{quoted(code)},{quoted(to)}\r\n" for code, to in table.items())
    assert parse_table(text.encode()) == table
