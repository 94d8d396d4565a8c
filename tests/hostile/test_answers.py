"""Answers of every kind, byte by byte over real sockets, from either endpoint."""

from __future__ import annotations

import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.hostile import shapes
from tests.hostile.world import CREATED, HOSTILE, NEIGHBOURS, UNAVAILABLE, cases, neighbour, recorded, world
from tests.support.sockets import Peer, close, say

Outcome = tuple[str, str | None]

ALL = (NEIGHBOURS[0], HOSTILE, NEIGHBOURS[1])
BATCH = [neighbour(name) for name in ALL]
# At most three attempts, each replayed at most twice after a 401; for a token, three attempts for each of two secrets.
MAX_REQUESTS, MAX_TOKEN_REQUESTS = 9, 6
MISCONFIGURED, REFUSED = ("deferred", "misconfigured"), ("rejected", "refused")
UNAUTHORIZED = ("deferred", "unauthorized")

# Whatever the body. For the others an answer is Thrive's only if its body is a JSON object.
_BY_STATUS: dict[int, Outcome] = {
    **dict.fromkeys((401, 403), UNAUTHORIZED),
    **dict.fromkeys((408, 425), UNAVAILABLE),
    # The only 1xx that is no interim answer, behind which another one is missing here.
    101: MISCONFIGURED,
    429: ("deferred", "rate_limited"),
}
_STATUSES = st.integers(100, 599) | st.sampled_from([201, 301, 303, 307, 308, 404, 404, 405, 409, 410, 422, 429])


def meaning(answer: shapes.Answer) -> Outcome:
    """Return the outcome that docs/outcomes.md promises for a completion with this answer."""
    status, fields = answer.status, answer.fields
    if status in _BY_STATUS:
        return _BY_STATUS[status]
    if 300 <= status < 400:
        return MISCONFIGURED
    is_thrives = fields is not None and (status not in (404, 405, 410) or fields.get("status") == status)
    if not is_thrives or not 200 <= status < 500:
        return UNAVAILABLE
    if status == 201:
        return CREATED
    return ("exists", None) if status < 300 or status == 409 else REFUSED


def outcome_of(data: bytes, *, keep: bool = False) -> Outcome:
    """Answer one completion of a batch with these bytes; check what that does to its neighbours and to the queues.

    :param keep: do not close the connection after the answer.
    """

    def answer(peer: Peer) -> None:
        is_hostile = json.loads(peer.received.body)["userId"] == HOSTILE
        (say(data, then=None if keep else close) if is_hostile else recorded)(peer)

    with world(completion=answer) as it:
        seen = it.deliver(*BATCH)
        outcome = seen.outcomes[HOSTILE]
        [status] = [line.get("status") for line in seen.output.messages if line["message_id"] == HOSTILE]
        # What is wrong with all of Thrive is not tried again for each message; one 403 may concern one message.
        halted = outcome == MISCONFIGURED or (outcome, status) == (UNAUTHORIZED, 401)
        assert seen.outcomes == {
            NEIGHBOURS[0]: CREATED,
            HOSTILE: outcome,
            NEIGHBOURS[1]: outcome if halted else CREATED,
        }
        assert len(it.sent) <= MAX_REQUESTS + 6
        assert len(set(it.sent)) == (2 if halted else 3), "a repeat is the same request byte for byte"
        assert len(it.function.visibilities) == sum(kind == "deferred" for kind, _ in seen.outcomes.values())
        assert it.dead_lettered == ({HOSTILE} if outcome == REFUSED else set())
        for entry in it.function.dead_letters:
            detail = entry["MessageAttributes"]["detail"]["StringValue"]
            assert re.fullmatch(r"[^\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]{1,256}", detail)
        return outcome


# --- Completions --------------------------------------------------------------------------------------------------

_OK = b"HTTP/1.1 201 Created\r\n"
_BODY = b'Content-Length: 29\r\n\r\n{"statementId":"statement-1"}'
_CHUNKED = _OK + b"Transfer-Encoding: chunked\r\n\r\n"

# Those marked "fuzzed" were found by a coverage-guided fuzzer. The transport's own tests have more.
BROKEN: dict[str, tuple[bytes, Outcome]] = {
    "HTTP/0.9": (b"<html>hello</html>", UNAVAILABLE),
    "a request": (b"POST / HTTP/1.1\r\n\r\n", UNAVAILABLE),
    "no status": (b"HTTP/1.1 \r\n\r\n", UNAVAILABLE),
    "a negative status": (b"HTTP/1.1 -201 Created\r\n\r\n", UNAVAILABLE),
    "a header line just below that": (_OK + b"X: " + b"y" * 65_000 + b"\r\n" + _BODY, CREATED),
    "ninety-nine headers": (_OK + b"X: y\r\n" * 98 + _BODY, CREATED),
    "headers without an end": (_OK + b"X: y\r\n", UNAVAILABLE),
    "a folded header": (_OK + b"X: y\r\n\tfolded: z\r\n" + _BODY, CREATED),
    "a folded Retry-After": (b"HTTP/1.1 429 x\r\nRetry-After: 5\r\n 000\r\n\r\n", ("deferred", "rate_limited")),
    "a line without a colon": (_OK + b"no colon\r\n" + _BODY, CREATED),
    "a header without a name": (_OK + b": nameless\r\n" + _BODY, CREATED),
    "control characters in a header": (_OK + b"X: a\0b\rc\xff\r\n" + _BODY, CREATED),
    "bare LF": ((_OK + _BODY).replace(b"\r", b""), CREATED),
    "two lengths": (_OK + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\n{}", UNAVAILABLE),
    "a huge length": (_OK + b"Content-Length: 99999999999999999999\r\n\r\n{}", UNAVAILABLE),
    "a length and chunks": (_CHUNKED[:-2] + b"Content-Length: 1\r\n\r\n1\r\n{\r\n", UNAVAILABLE),
    "an unknown coding": (_OK + b"Transfer-Encoding: rot13\r\n\r\n{}", CREATED),
    "a negative chunk size": (_CHUNKED + b"-2\r\n{}\r\n", UNAVAILABLE),
    "a huge chunk size": (_CHUNKED + b"ffffffffffffffff\r\n{}\r\n", UNAVAILABLE),
    "a long chunk extension": (_CHUNKED + b"2;" + b"x" * 70_000, UNAVAILABLE),
    "false gzip": (_OK + b"Content-Encoding: gzip\r\n" + _BODY, CREATED),
    "an interim answer in HTTP/1.0, fuzzed": (b"HTTP/1.0 100\r\n\r\n", UNAVAILABLE),
    "an interim answer with bare LF, fuzzed": (b"HTTP/1.1 100\n\n", UNAVAILABLE),
    **{
        f"a status that only begins like 1xx: {status!r}, fuzzed": (b"HTTP/1.1 " + status, UNAVAILABLE)
        for status in (b"121content-type x\r\n", b"100Continue\r\n\r\n", b"100\x00\r\n\r\n", b"101-\r\n\r\n", b"100")
    },
}


@pytest.mark.parametrize(("data", "expected"), BROKEN.values(), ids=BROKEN)
def test_every_broken_answer(data: bytes, expected: Outcome) -> None:
    """An answer that cannot be read defers its message alone; one with a JSON object counts, whatever else is wrong."""
    assert outcome_of(data) == expected


@cases(500)
@given(shapes.answers(_STATUSES))
def test_any_answer_to_a_completion(answer: shapes.Answer) -> None:
    """The status, and whether the body is a JSON object, decide about the message, and nothing else does."""
    assert outcome_of(answer.data, keep=answer.keep) == meaning(answer)


@cases(400)
@given(shapes.garbage)
def test_any_garbage_in_place_of_an_answer(data: bytes) -> None:
    outcome, _ = outcome_of(data)
    # To Python's int() 0201 and 2_01 are 201.
    assert outcome not in ("created", "exists") or re.search(rb"HTTP/\S*\s+[0_]*(2|409)", data)
    assert outcome != "rejected" or re.search(rb"HTTP/\S*\s+[0_]*[4-9]", data)


# --- Tokens -------------------------------------------------------------------------------------------------------


_HEADERS = {"host", "accept", "accept-encoding", "content-length", "user-agent", "content-type", "authorization"}


@cases(600)
@given(shapes.garbage | shapes.answers(st.just(200) | _STATUSES).map(lambda answer: answer.data))
def test_any_answer_of_the_token_endpoint(data: bytes) -> None:
    """No answer of the token endpoint costs a message: a token is used unchanged, or the whole batch is deferred."""
    with world(token=say(data, then=close)) as it:
        [outcome] = set(it.deliver(*BATCH).outcomes.values())
        assert outcome == CREATED or (outcome[0], it.sent) == ("deferred", [])
        assert len(it.server.requests) - len(it.sent) <= MAX_TOKEN_REQUESTS
        assert set().union(*(request.headers for request in it.server.requests)) <= _HEADERS
        for used in {request.headers.get("authorization") for request in it.server.requests} - {None}:
            assert re.fullmatch(r"Bearer [A-Za-z0-9._~+/-]+=*", used)
            # In UTF-16, which JSON may be written in, it stands between NULs.
            assert json.dumps(used.removeprefix("Bearer ")).encode() in data.replace(b"\0", b"")
