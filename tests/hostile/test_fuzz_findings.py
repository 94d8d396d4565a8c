"""What the fuzzer found (``python -m tests.hostile.fuzz``), held for good."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.hostile.oracles import HOSTILE_ID, UNAVAILABLE, meaning
from tests.hostile.test_answers import answered, judge
from tests.hostile.worlds import COMPLETION_ROUTE, Bytes

if TYPE_CHECKING:
    from tests.hostile.worlds import WireWorld


@pytest.mark.parametrize(
    "number", [b"121content-type x\r\n", b"100Continue\r\n\r\n", b"100\x00\r\n\r\n", b"101-\r\n\r\n", b"100"]
)
@pytest.mark.parametrize("end", ["keep", "end", "reset"])
def test_garbage_that_begins_like_an_interim_answer(wire: WireWorld, number: bytes, end: str) -> None:
    """A status that only begins with an interim one's digits is garbage, and does not hold up the whole batch."""
    judge(wire, answered(wire, COMPLETION_ROUTE, Bytes(b"HTTP/1.1 " + number, end)), UNAVAILABLE)


@pytest.mark.parametrize("line", [b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.0 100\r\n\r\n", b"HTTP/1.1 100\n\n"])
def test_an_interim_answer_alone_is_seen(wire: WireWorld, line: bytes) -> None:
    """An interim answer with nothing behind it is a wrong set-up, as the table has it."""
    seen = answered(wire, COMPLETION_ROUTE, Bytes(line, "end"))
    assert seen.outcomes[HOSTILE_ID] == meaning(100)
