"""What each answer of Thrive means for the message, and what of the answer people get to see."""

from __future__ import annotations

import json
import time
from base64 import b64encode
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote, quote_plus

import pytest

from completion_sync.authorization import Authorizer
from completion_sync.clock import Deadline
from completion_sync.credentials import CredentialsCache
from completion_sync.errors import (
    AccessError,
    CallError,
    DeferralError,
    OutOfTimeError,
    RefusedError,
    TemporaryError,
)
from completion_sync.outcomes import Created, Existing
from completion_sync.pressure import MIN_ATTEMPT_SECONDS
from completion_sync.retry import RetryPolicy
from completion_sync.thrive import ThriveClient
from completion_sync.tokens import ClientCredentialsFlow, TokenCache
from completion_sync.transport import Response
from tests.support.fakes import (
    CANARY,
    CONTENT_ID,
    TENANT,
    USER_ID,
    Answer,
    Counts,
    FakeClock,
    FakeSecretsManager,
    FakeTransport,
    Request,
    completion,
    far_deadline,
    json_response,
    secret_text,
    texts_of,
    token_response,
)

RECORDED = b'{"statementId":"statement-1"}'
TIMEOUT = 10.0


@dataclass
class World:
    """A client on fakes. Completions are answered from ``transport``'s script, tokens always well."""

    transport: FakeTransport
    clock: FakeClock = field(default_factory=FakeClock)
    secrets: FakeSecretsManager = field(default_factory=FakeSecretsManager)
    counts: Counts = field(default_factory=Counts)
    latencies: list[float] = field(default_factory=list)
    tokens: FakeTransport = field(init=False)
    client: ThriveClient = field(init=False)

    def __post_init__(self) -> None:
        issued = iter(range(1, 100))
        self.tokens = FakeTransport(always=lambda _: token_response(f"token-{next(issued)}"))
        flow = ClientCredentialsFlow(self.tokens, "api/write", TIMEOUT, self.clock, self.counts)  # type: ignore[arg-type]
        self.client = ThriveClient(
            self.transport,  # type: ignore[arg-type]
            Authorizer(
                CredentialsCache("secret", self.secrets.client, 300, self.clock, self.counts),
                TokenCache(flow, RetryPolicy(self.clock), self.clock),
                self.counts,
            ),
            TIMEOUT,
            self.clock,
            self.counts,
            self.latencies.append,
        )

    def record(self, seconds: float = 1e6) -> Created | Existing:
        """Record one completion."""
        return self.client.record(completion(), Deadline(self.clock, seconds))

    def failure(self, seconds: float = 1e6) -> CallError:
        """Record one completion in vain."""
        with pytest.raises(CallError) as caught:
            self.record(seconds)
        return caught.value


def world(*script: Answer, always: Answer | None = None, secret: str | None = None) -> World:
    """Give a client whose completions are answered by a script."""
    return World(FakeTransport(*script, always=always), secrets=FakeSecretsManager(secret))


# --- Every status -------------------------------------------------------------------------------------------------


def meaning(status: int) -> str:
    """Give what the interface promises for a status, written down apart from the code: exactly one word for each."""
    exact = {
        201: "created",
        200: "exists",
        409: "exists",
        401: "unauthorized",
        403: "unauthorized",
        408: "unavailable",
        425: "unavailable",
        429: "rate_limited",
    }
    by_class = {1: "misconfigured", 2: "exists", 3: "misconfigured", 4: "refused", 5: "unavailable"}
    return exact.get(status, by_class[status // 100])


def test_every_meaning_occurs() -> None:
    """The table names the outcomes that a status can have, and no others."""
    assert {meaning(status) for status in range(100, 600)} == {
        "created",
        "exists",
        "refused",
        "rate_limited",
        "unavailable",
        "unauthorized",
        "misconfigured",
    }


@pytest.mark.parametrize("body", [RECORDED, b"", None], ids=["with a body", "empty", "unreadable"])
@pytest.mark.parametrize("status", range(100, 600))
def test_status(status: int, body: bytes | None) -> None:
    """Each status from 100 to 599 has the outcome that the interface promises, whatever the body is."""
    # Given
    it = world(always=Response(status, body))
    expected = meaning(status)

    # When
    try:
        got: object = it.record()
    except CallError as error:
        got = error

    # Then
    match expected:
        case "created" | "exists":
            kind = Created if expected == "created" else Existing
            assert got == kind("statement-1" if body == RECORDED else None, status)
        case "refused":
            assert type(got) is RefusedError
            assert got.status == status
        case "rate_limited" | "unavailable":
            assert type(got) is TemporaryError
            assert (got.reason, got.status) == (expected, status)
        case _:
            assert type(got) is AccessError
            assert (got.reason, got.status) == (expected, status)
    if isinstance(got, CallError):
        hint = {
            401: ": check the credentials",
            403: ": the credentials lack the scope api/write",
        }.get(status, ": is the base URL right?" if expected == "misconfigured" else "")
        assert got.detail == f"Thrive answered {status}{hint}"
    # A 401 is replayed once, with a fresh token; a freshly read secret that is unchanged is not worth a request.
    assert len(it.transport.requests) == (2 if status == 401 else 1)
    assert it.counts["Throttles"] == (1 if status == 429 else 0)
    assert it.counts["AuthFailures"] == (1 if status in {401, 403} else 0)


def test_request_is_what_the_contract_says() -> None:
    """One POST to the completions path, with the bearer token, as JSON: the three fields and no more."""
    # Given
    it = world(Response(201, RECORDED))

    # When
    it.record()

    # Then
    [request] = it.transport.requests
    assert request.path == "/rest/v1/learning/completions"
    assert request.headers == {"Authorization": "Bearer token-1", "Content-Type": "application/json"}
    assert request.json == {"userId": USER_ID, "contentId": CONTENT_ID, "completedAt": "2021-01-01T09:00:00.000Z"}
    assert request.timeout == TIMEOUT


def test_basic_credentials_need_no_token() -> None:
    """With authMethod basic, tenant id and secret are the credentials of each request."""
    # Given
    it = world(Response(201, RECORDED), secret=secret_text(authMethod="basic"))

    # When
    it.record()

    # Then
    [request] = it.transport.requests
    assert request.headers["Authorization"].startswith("Basic ")
    assert it.tokens.requests == []


# --- Bodies of a success ------------------------------------------------------------------------------------------

LONGEST = "s" * 256


@pytest.mark.parametrize("status", [200, 201, 202, 204, 299, 409])
@pytest.mark.parametrize(
    ("body", "statement_id"),
    [
        pytest.param(b'{"statementId": "abc", "more": [1]}', "abc", id="with more fields"),
        pytest.param(json.dumps({"statementId": LONGEST}).encode(), LONGEST, id="longest"),
        pytest.param('{"statementId":"å"}'.encode("utf-16"), "å", id="UTF-16"),
        pytest.param(None, None, id="unreadable"),
        pytest.param(b"", None, id="empty"),
        pytest.param(b"<html><h1>Created</h1></html>", None, id="HTML"),
        pytest.param(b'{"statementId": "abc"', None, id="cut off"),
        pytest.param(b"\xff\xfe\xfd", None, id="no text"),
        pytest.param(b"[" * 100_000, None, id="nested"),
        pytest.param(b"9" * 10_000, None, id="a number of 10,000 digits"),
        pytest.param(b'["statementId"]', None, id="a list"),
        pytest.param(b'"statementId"', None, id="a string"),
        pytest.param(b"null", None, id="null"),
        pytest.param(b"{}", None, id="no statementId"),
        pytest.param(b'{"statementId": null}', None, id="null statementId"),
        pytest.param(b'{"statementId": ""}', None, id="empty statementId"),
        pytest.param(b'{"statementId": 12}', None, id="a number as statementId"),
        pytest.param(b'{"statementId": {"a": "b"}}', None, id="an object as statementId"),
        pytest.param(json.dumps({"statementId": LONGEST + "s"}).encode(), None, id="too long"),
        pytest.param(b'{"statementId": "a\\nb"}', None, id="a newline"),
        pytest.param(b'{"statementId": "a\\u2028b"}', None, id="U+2028"),
        pytest.param(b'{"statementId": "a\\ud800b"}', None, id="a lone surrogate"),
        pytest.param(b'{"statementId": "a\\u0000"}', None, id="NUL"),
        pytest.param(b'{"statementId": "a\\u009f"}', None, id="a C1 control"),
        pytest.param(b'{"statementId": "a\\u202e"}', None, id="text turned round"),
    ],
)
def test_success_with_any_body(status: int, body: bytes | None, statement_id: str | None) -> None:
    """The status decides that the completion is recorded; a statementId is taken only where it is a decent one."""
    # Given
    it = world(Response(status, body))

    # When, then
    assert it.record().statement_id == statement_id


# --- Renewal after a 401 ------------------------------------------------------------------------------------------


def test_401_once_is_replayed_with_a_fresh_token() -> None:
    """After one 401 the same body is sent again, byte for byte, with another token."""
    # Given
    it = world(Response(401, None), Response(201, RECORDED))

    # When
    got = it.record()

    # Then
    assert got == Created("statement-1", 201)
    first, second = it.transport.requests
    assert first.body == second.body
    assert [first.headers["Authorization"], second.headers["Authorization"]] == ["Bearer token-1", "Bearer token-2"]
    assert len(it.latencies) == 2
    assert it.counts["AuthFailures"] == 0


def test_401_twice_is_replayed_with_a_fresh_secret() -> None:
    """After a second 401 a secret that has changed gets one more request, and the last."""

    # Given
    def rotate(_: Request) -> Response:
        it.secrets.rotate(secret_text(clientSecret="rotated"))
        return Response(401, None)

    it = world(Response(401, None), rotate, Response(200, RECORDED))

    # When, then
    assert it.record() == Existing("statement-1", 200)
    assert len(it.transport.requests) == 3
    assert it.tokens.requests[-1].form["client_secret"] == ["rotated"]
    assert it.secrets.reads == 2


@pytest.mark.parametrize(
    ("method", "rotated", "requests"),
    [("oauth2", False, 2), ("oauth2", True, 3), ("basic", False, 1), ("basic", True, 2)],
)
def test_401_for_ever_is_a_bounded_number_of_requests(method: str, rotated: bool, requests: int) -> None:  # noqa: FBT001
    """Each thing that can be renewed is renewed once; then it is the credentials' fault, counted once."""
    # Given
    it = world(always=Response(401, b'{"message":"no"}'), secret=secret_text(authMethod=method))
    if rotated:
        it.secrets.on_read = lambda: it.secrets.rotate(
            secret_text(authMethod=method, clientSecret=f"version-{it.secrets.reads}")
        )

    # When
    error = it.failure()

    # Then
    assert type(error) is AccessError
    assert (error.reason, error.status) == ("unauthorized", 401)
    assert len(it.transport.requests) == requests
    assert len({request.body for request in it.transport.requests}) == 1
    assert it.counts["AuthFailures"] == 1


def test_403_renews_nothing() -> None:
    """A 403 is about the scope: neither a fresh token nor a fresh secret would help, and the text says what would."""
    it = world(Response(403, None))
    error = it.failure()
    assert "scope" in error.detail
    assert len(it.tokens.requests) == it.secrets.reads == 1


# --- Time ---------------------------------------------------------------------------------------------------------


def test_no_time_no_request() -> None:
    """Where less than a worthwhile attempt's time is left, nothing is sent."""
    # Given: a token in the cache, so that none need be fetched
    it = world(Response(201, RECORDED))
    it.record()

    # When
    error = it.failure(MIN_ATTEMPT_SECONDS * 0.99)

    # Then
    assert type(error) is OutOfTimeError
    assert len(it.transport.requests) == 1


@pytest.mark.parametrize(
    ("left", "timeout"), [(MIN_ATTEMPT_SECONDS, MIN_ATTEMPT_SECONDS), (3.0, 3.0), (TIMEOUT, TIMEOUT), (60.0, TIMEOUT)]
)
def test_attempt_has_what_is_left_up_to_the_request_timeout(left: float, timeout: float) -> None:
    """An attempt never outlives the deadline, nor takes more than one attempt may."""
    # Given: a token in the cache; clocks at nought, so that nothing is rounded
    it = World(
        FakeTransport(Response(201, RECORDED), Response(200, RECORDED)), clock=FakeClock(wall=0.0, monotonic=0.0)
    )
    it.record()

    # When
    it.record(left)

    # Then
    assert it.transport.requests[-1].timeout == pytest.approx(timeout)


def lost_after(clock: FakeClock, seconds: float) -> Answer:
    """Give an answer that does not come, after a while."""

    def lose(_: Request) -> Response:
        clock.advance(seconds)
        raise TemporaryError("unavailable", "no answer in time")

    return lose


@pytest.mark.parametrize(
    ("left", "passed", "reason"),
    [
        pytest.param(4.0, 4.0, "out_of_time", id="cut off by the deadline"),
        pytest.param(4.0, 3.9, "out_of_time", id="nearly no time left"),
        pytest.param(4.0, 1.0, "unavailable", id="lost long before the deadline"),
        pytest.param(0.5, 0.3, "unavailable", id="just enough time left"),
        pytest.param(30.0, TIMEOUT, "unavailable", id="cut off by the request's own timeout"),
        pytest.param(TIMEOUT, TIMEOUT, "unavailable", id="cut off by both at once"),
    ],
)
def test_attempt_without_answer(left: float, passed: float, reason: str) -> None:
    """An attempt that our own deadline cut short says nothing about Thrive: the reason is out_of_time."""
    # Given: clocks at nought, so that nothing is rounded
    it = World(FakeTransport(Response(201, RECORDED)), clock=FakeClock(wall=0.0, monotonic=0.0))
    it.record()
    it.transport.then(lost_after(it.clock, passed))

    # When
    error = it.failure(left)

    # Then
    assert isinstance(error, DeferralError)
    assert error.reason == reason
    cut_off = "the function's deadline came before the answer"
    assert error.detail == (cut_off if reason == "out_of_time" else "no answer in time")
    assert error.__context__ is None or error.__suppress_context__


def test_latency_is_counted_for_each_answer_in_milliseconds() -> None:
    """ApiLatency has one value for each answer, and none for an attempt that got none."""

    # Given
    def slowly(_: Request) -> Response:
        it.clock.advance(0.25)
        return Response(500, None)

    it = world(slowly)

    # When
    it.failure()

    # Then
    assert it.latencies == [pytest.approx(250)]

    # And when
    it.transport.then(lost_after(it.clock, 1.0))
    it.failure()

    # Then
    assert len(it.latencies) == 1


# --- Retry-After --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [408, 425, 429, 500, 503])
@pytest.mark.parametrize(("header", "seconds"), [("120", 120.0), (None, None), ("soon", None)])
def test_retry_after_is_handed_on(status: int, header: str | None, seconds: float | None) -> None:
    """What Thrive says of when to come again goes with the error."""
    it = world(Response(status, None, header))
    error = it.failure()
    assert isinstance(error, TemporaryError)
    assert error.retry_after == seconds


def test_retry_after_date_is_judged_by_the_wall_clock() -> None:
    """A date in Retry-After becomes seconds from now."""
    it = world(Response(503, None, "Fri, 15 Jan 2027 08:01:00 GMT"))
    it.clock.step_wall(1_800_000_000.0 - it.clock.now().wall)  # 08:00:00
    error = it.failure()
    assert isinstance(error, TemporaryError)
    assert error.retry_after == 60.0


# --- What people see of a refusal ---------------------------------------------------------------------------------


def detail_of(message: object, **secret: Any) -> str:
    """Give the detail of a 422 with ``message``."""
    it = world(json_response(422, {"status": 422, "message": message}), secret=secret_text(**secret))
    return it.failure().detail


PLAIN = "Thrive answered 422"


@pytest.mark.parametrize(
    ("message", "detail"),
    [
        pytest.param("contentId is unknown", f"{PLAIN}: contentId is unknown", id="a sentence"),
        pytest.param("  spaces\t around ", f"{PLAIN}: spaces around", id="spaces"),
        pytest.param("Ünïcode ist gut", f"{PLAIN}: Ünïcode ist gut", id="letters of other scripts"),
        pytest.param("a\nb\r\nc\u2028d\u2029e\x85f", f"{PLAIN}: a b c d e f", id="lines"),
        pytest.param("a\x00b\x1b[31mc\x7fd", f"{PLAIN}: a b [31mc d", id="control characters"),
        pytest.param("a\u202eb", f"{PLAIN}: a b", id="text turned round"),
        pytest.param("a\ud800b", f"{PLAIN}: a b", id="a lone surrogate"),
        pytest.param("no user ada@learner.example here", f"{PLAIN}: no user [e-mail] here", id="an e-mail address"),
        pytest.param("<ada@learner.example>, bob@x", f"{PLAIN}: [e-mail] [e-mail]", id="two e-mail addresses"),
        pytest.param("ada@\nlearner", f"{PLAIN}: [e-mail] learner", id="an e-mail address cut in two"),
        pytest.param("x" * 1000, f"{PLAIN}: " + "x" * 160, id="long"),
        pytest.param(
            "a\u202egpj\u202c\u2066b\u2069\u200bc\u200fd\ufeffe\u00adf", f"{PLAIN}: a gpj b c d e f", id="unseen"
        ),
        pytest.param("\u061cg\u2060h\u206fi", f"{PLAIN}: g h i", id="unseen too"),
        pytest.param(
            "\u00ac\u00ae\u061b\u061d\u2010\u2027\u2070\ufefd",
            f"{PLAIN}: \u00ac\u00ae\u061b\u061d\u2010\u2027\u2070\ufefd",
            id="beside what is unseen",
        ),
        pytest.param("\n\t\u2028\u200b", PLAIN, id="nothing that shows"),
        pytest.param("", PLAIN, id="empty"),
        pytest.param(None, PLAIN, id="null"),
        pytest.param({"userId": "ada@learner.example"}, PLAIN, id="an object"),
        pytest.param(["a"], PLAIN, id="a list"),
        pytest.param(7, PLAIN, id="a number"),
        pytest.param("your token is token-1", PLAIN, id="the token"),
        pytest.param(f"secret={CANARY}!", PLAIN, id="the secret"),
        pytest.param(f"tenant {TENANT} says no", PLAIN, id="the tenant id"),
        pytest.param("x" * 1000 + CANARY, PLAIN, id="the secret far behind"),
    ],
)
def test_explanation_is_harmless(message: object, detail: str) -> None:
    """Of Thrive's message people see one short line without credentials, addresses or control characters."""
    assert detail_of(message) == detail


@pytest.mark.parametrize("quoted", [CANARY, "token-1", TENANT, f"statement-{CANARY}-1", "ada@learner.example"])
def test_credentials_are_not_quoted_in_a_statement_id(quoted: str) -> None:
    """A statementId that quotes the credentials, as a careless proxy might, or an e-mail address, is none."""
    it = world(json_response(201, {"statementId": quoted}))
    assert it.record() == Created(None, 201)


SECRET, CLIENT = "se/cret +%é", "client/1 2"


@pytest.mark.parametrize(
    "message",
    [
        pytest.param(SECRET, id="the secret"),
        pytest.param(quote(SECRET, safe=""), id="the secret in a URL"),
        pytest.param(quote_plus(SECRET), id="the secret in a form"),
        pytest.param(CLIENT, id="the client id"),
        pytest.param("client%2F1%202", id="the client id in a URL"),
        pytest.param("client%2F1+2", id="the client id in a form"),
        pytest.param(b64encode(f"{CLIENT}:{SECRET}".encode()).decode(), id="a Basic header"),
        pytest.param(
            b64encode(f"{quote_plus(CLIENT)}:{quote_plus(SECRET)}".encode()).decode(), id="a Basic header with forms"
        ),
        pytest.param("client/1\n2", id="the client id across lines"),
    ],
)
def test_credentials_are_not_explained_in_any_form(message: str) -> None:
    """Credentials are not shown in the forms either in which they travel."""
    assert detail_of(f"bad: {message} in request", clientSecret=SECRET, clientId=CLIENT) == PLAIN


def test_credentials_with_blanks_are_not_explained() -> None:
    """Credentials are looked for before blanks are put together, too."""
    assert detail_of("bad: se  cret", clientSecret="se  cret") == PLAIN


def test_address_in_a_url_is_not_explained() -> None:
    """An e-mail address is none to be shown where it is percent-encoded either."""
    assert detail_of("no user?email=ada%40learner.example here") == f"{PLAIN}: no [e-mail] here"


def test_basic_credentials_are_not_explained() -> None:
    """A message that quotes the Authorization header of the Basic scheme is not shown."""
    # Given
    it = world(
        lambda request: json_response(400, {"message": f"bad header {request.headers['Authorization']}"}),
        secret=secret_text(authMethod="basic"),
    )

    # When, then
    assert it.failure().detail == "Thrive answered 400"


@pytest.mark.parametrize("status", [401, 403, 408, 425, 429, 500, 301, 100])
def test_only_a_refusal_is_explained(status: int) -> None:
    """No other answer's words are repeated anywhere."""
    it = world(always=json_response(status, {"message": CANARY + " words of Thrive"}))
    assert "words" not in texts_of(it.failure())


@pytest.mark.parametrize(
    "text", ["a" * 65_000, "a@" * 32_000, "\n" * 65_000, " @" * 32_000], ids=["a", "a@", "line feeds", "blanks and @"]
)
def test_explanation_takes_no_time(text: str) -> None:
    """The time that a message takes to be made harmless grows with its length, and not with the square of it."""
    # Given: as many characters in short messages as the measure
    count = 200
    began = time.perf_counter()
    for _ in range(count):
        detail_of(text[: len(text) // count])
    measure = time.perf_counter() - began

    # When
    began = time.perf_counter()
    detail_of(text)

    # Then
    assert time.perf_counter() - began < 10 * measure


def test_out_of_reach_credentials_send_nothing() -> None:
    """Where no credentials are to be had, no completion is sent."""
    it = world(secret="not JSON")
    with pytest.raises(AccessError) as caught:
        it.client.record(completion(), far_deadline(it.clock))
    assert caught.value.reason == "misconfigured"
    assert it.transport.requests == it.tokens.requests == []
