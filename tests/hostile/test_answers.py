"""Every answer of both endpoints, byte by byte below urllib3: an outcome by the table, whatever else it holds."""

from __future__ import annotations

import contextlib
import re
from typing import TYPE_CHECKING

from hypothesis import example, given
from hypothesis import strategies as st

from completion_sync.clock import Instant
from completion_sync.retry import MAX_VISIBILITY_SECONDS, parse_retry_after
from tests.hostile import shapes
from tests.hostile.cases import cases
from tests.hostile.oracles import (
    HALTING,
    HOSTILE_ID,
    NEIGHBOURS,
    UNAVAILABLE,
    assert_answer,
    assert_log,
    meaning,
    neighbour,
    token_meaning,
)
from tests.hostile.worlds import COMPLETION_ROUTE, TOKEN_ROUTE, Bytes, http_answer
from tests.support.fakes import sqs_event

if TYPE_CHECKING:
    from tests.hostile.worlds import Seen, WireWorld
    from tests.support.fakes import Request

ALL = (NEIGHBOURS[0], HOSTILE_ID, NEIGHBOURS[1])
# At most three attempts, each replayed twice at the most; for a token, as many for each of two secrets.
MAX_REQUESTS_PER_MESSAGE, MAX_TOKEN_REQUESTS = 9, 6


def answered(wire: WireWorld, route: str, answer: Bytes) -> Seen:
    """Send a batch whose token request, or whose middle completion, is answered so, and all else as it should be."""

    def respond(arrived_at: str, request: Request) -> Bytes | None:
        concerned = arrived_at == route and (route == TOKEN_ROUTE or request.json["userId"] == HOSTILE_ID)
        return answer if concerned else None

    wire.fresh().thrive.answer = respond
    seen = wire.invoke(sqs_event(*(neighbour(name) for name in ALL)))
    assert seen.error is None
    assert_log(seen)
    for name, line in seen.messages.items():
        if name != HOSTILE_ID and line["outcome"] == "created":
            assert line.get("statement_id") == f"of-{name}", "an answer was taken for that to another request"
    requests = [request for request in wire.thrive.requests if request.path.startswith("/rest/")]
    assert len(requests) <= MAX_REQUESTS_PER_MESSAGE * len(ALL)
    assert len(wire.thrive.requests) - len(requests) <= MAX_TOKEN_REQUESTS
    assert len({request.body for request in requests}) <= len(ALL), "what is sent again is the same, byte for byte"
    return seen


def judge(wire: WireWorld, seen: Seen, hostile: tuple[str, str | None]) -> None:
    """Hold a batch whose middle message ended as ``hostile`` against the table."""
    held = hostile[1] in HALTING
    expected = {NEIGHBOURS[0]: ("created", None), HOSTILE_ID: hostile}
    expected[NEIGHBOURS[1]] = hostile if held else ("created", None)
    assert seen.outcomes == expected
    reported = {name for name, (outcome, _) in expected.items() if outcome == "deferred"}
    assert_answer(seen.answer, set(ALL), reported)
    assert set(wire.sqs.timeouts) == {f"receipt-of-{name}" for name in reported}
    assert len(wire.sqs.dead_letters) == (hostile[0] == "rejected")
    for entry in wire.sqs.dead_letters:
        values = {name: attribute["StringValue"] for name, attribute in entry["MessageAttributes"].items()}
        assert (values["reason"], values["sourceMessageId"]) == ("refused", HOSTILE_ID)
        assert len(values["detail"]) <= 256
        assert values["detail"].splitlines() == [values["detail"]]
        assert not re.search("[\x00-\x1f\x7f-\x9f\ud800-\udfff]", values["detail"])


@cases(1200)
@given(shapes.framed())
def test_any_answer_to_a_completion(wire: WireWorld, case: tuple[int, bytes | None, Bytes]) -> None:
    """The status alone decides what becomes of the message, whatever headers, body and framing come with it."""
    status, _, answer = case
    judge(wire, answered(wire, COMPLETION_ROUTE, answer), meaning(status))


@cases(800)
@given(shapes.framed())
def test_any_answer_of_the_token_endpoint(wire: WireWorld, case: tuple[int, bytes | None, Bytes]) -> None:
    """No answer of the token endpoint costs a message: a token is used or the whole batch is deferred by the table."""
    status, text, answer = case
    expected = token_meaning(status, text)
    seen = answered(wire, TOKEN_ROUTE, answer)
    if expected is None:
        judge(wire, seen, ("created", None))
        return
    assert seen.outcomes == dict.fromkeys(ALL, expected)
    assert_answer(seen.answer, set(ALL), set(ALL))
    assert not wire.sqs.dead_letters
    assert not [request for request in wire.thrive.requests if request.path.startswith("/rest/")]


@cases(300)
@given(shapes.answers)
def test_any_fields_of_a_token(wire: WireWorld, fields: object) -> None:
    """Whatever type and size the fields of a token have, it is used, refused or waited out by the table."""
    text = shapes.dumped(fields).encode()
    expected = token_meaning(200, text if len(text) <= 65_536 else None)
    seen = answered(wire, TOKEN_ROUTE, Bytes(http_answer(200, text)))
    assert seen.outcomes == dict.fromkeys(ALL, expected or ("created", None))
    for request in wire.thrive.requests:
        assert re.fullmatch(r"Bearer [\w.~+/=-]+", request.headers.get("Authorization", "Bearer x"), re.ASCII)
        assert set(request.headers) <= {"Host", "Accept", "Accept-Encoding", "Content-Length", "User-Agent"} | {
            "Content-Type",
            "Authorization",
        }


def permitted(data: bytes) -> set[tuple[str, str | None]]:
    """Give the outcomes that these bytes may have: those of the statuses at the beginning of a line, or no answer."""
    outcomes = {UNAVAILABLE}
    for line in data.decode("latin-1").split("\n"):
        # As http.client does it: 0201 and 2_01 are 201 to int(), and control characters are white space to split().
        version, status = (*line.split(None, 2), "", "")[:2]
        with contextlib.suppress(ValueError):
            outcomes |= {meaning(int(status))} if version.startswith("HTTP/") and 100 <= int(status) <= 999 else set()
    return outcomes


@cases(700)
@given(shapes.garbage())
@example(Bytes(b"HTTP/1.1 201 Created\r\n" + b"X: y\r\n" * 101 + b"\r\n", "end"))
@example(Bytes(b"HTTP/1.1 201 Created\r\nX: " + b"y" * 65_536 + b"\r\n\r\n", "end"))
def test_any_garbage_in_place_of_an_answer(wire: WireWorld, answer: Bytes) -> None:
    """Bytes that are no answer are no success: a message is recorded only where a status line says so."""
    judge_garbage_answer(wire, answer)


def judge_garbage_answer(wire: WireWorld, answer: Bytes) -> None:
    """Hold a batch, one completion of which was answered with these bytes, against the tables."""
    seen = answered(wire, COMPLETION_ROUTE, answer)
    outcome = seen.outcomes[HOSTILE_ID]
    assert outcome in permitted(answer.data)
    if b"HTTP/" not in answer.data:
        assert outcome == UNAVAILABLE
    judge(wire, seen, outcome)


@cases(300)
@given(shapes.garbage())
def test_any_garbage_in_place_of_a_token(wire: WireWorld, answer: Bytes) -> None:
    """Garbage from the token endpoint defers the batch; it rejects no message and records none."""
    judge_garbage_token(wire, answer)


def judge_garbage_token(wire: WireWorld, answer: Bytes) -> None:
    """Hold a batch whose token request was answered with these bytes against the tables."""
    seen = answered(wire, TOKEN_ROUTE, answer)
    if b"access_token" not in answer.data:
        assert {outcome for outcome, _ in seen.outcomes.values()} == {"deferred"}
    outcomes = set(seen.outcomes.values())
    assert len(outcomes) == 1, "a token is for all"
    assert not wire.sqs.dead_letters
    assert_answer(seen.answer, set(ALL), set() if outcomes == {("created", None)} else set(ALL))


@cases(500)
@given(shapes.retry_afters, st.sampled_from([429, 503, 408]))
def test_any_retry_after(wire: WireWorld, value: bytes, status: int) -> None:
    """Whatever ``Retry-After`` says, the message is put off for a time that SQS takes, and its neighbours are not."""
    seen = answered(wire, COMPLETION_ROUTE, Bytes(http_answer(status, b"{}", [(b"Retry-After", value)])))
    judge(wire, seen, meaning(status))
    [seconds] = wire.sqs.timeouts.values()
    said = parse_retry_after(value.decode("latin-1"), wire.clock.now())
    assert min(said or 0.0, MAX_VISIBILITY_SECONDS - 301) - 60 <= seconds <= MAX_VISIBILITY_SECONDS


@cases(300)
@given(st.one_of(shapes.texts, shapes.retry_afters.map(lambda value: value.decode("latin-1"))))
def test_any_text_is_read_tolerantly(text: str) -> None:
    """Reading ``Retry-After`` raises nothing and gives more than nothing and at most twelve hours, or None."""
    seconds = parse_retry_after(text, Instant(1_800_000_000.0, 0.0))
    assert seconds is None or 0 < seconds <= MAX_VISIBILITY_SECONDS


def test_every_status_of_both_endpoints(wire: WireWorld) -> None:
    """Each status from 100 to 599, and one that no registry knows, has its row in the table, from either endpoint."""
    for status in (*range(100, 600), 600, 999):
        data = b"HTTP/1.1 %d x\r\nContent-Length: 0\r\nConnection: close\r\n\r\n" % status
        judge(wire, answered(wire, COMPLETION_ROUTE, Bytes(data, "end")), meaning(status))
        seen = answered(wire, TOKEN_ROUTE, Bytes(data, "end"))
        assert seen.outcomes == dict.fromkeys(ALL, token_meaning(status, b"")), status
