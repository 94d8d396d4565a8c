"""What is sent to Thrive, and what each of its answers means for the completion."""

from contextlib import nullcontext

import pytest

from completion_sync.authorization import Authorizer
from completion_sync.clock import Deadline
from completion_sync.credentials import CredentialsCache
from completion_sync.errors import (
    AccessError,
    CallError,
    ForbiddenError,
    OutOfTimeError,
    RefusedError,
    TemporaryError,
)
from completion_sync.outcomes import Created, Existing
from completion_sync.pressure import MIN_ATTEMPT_SECONDS
from completion_sync.retry import RetryPolicy
from completion_sync.thrive import ThriveApi, ThriveClient
from completion_sync.tokens import ClientCredentialsFlow, TokenCache
from completion_sync.transport import Response
from tests.support.fakes import (
    CANARY,
    CONTENT_ID,
    USER_ID,
    Counts,
    FakeClock,
    FakeSecretsManager,
    FakeTransport,
    completion,
    json_response,
    pressure,
    secret_text,
    token_response,
)

TIMEOUT = 10.0
RECORDED = json_response(201, {"statementId": "statement-1"})


class Case:
    """A client on fakes. Completions are answered by the script, token requests always with a new token."""

    def __init__(self, *script, always=None, secret=None):
        self.clock = FakeClock(wall=0.0, monotonic=0.0)  # makes times exact
        self.counts = Counts()
        self.latencies = []
        self.transport = FakeTransport(*script, always=always)
        self.secrets = FakeSecretsManager(secret)
        issued = iter(range(1, 100))
        self.tokens = FakeTransport(always=lambda _: token_response(f"token-{next(issued)}"))
        flow = ClientCredentialsFlow(self.tokens, "api/write", TIMEOUT, self.clock, self.counts)
        self.api = ThriveApi(
            self.transport,
            Authorizer(
                CredentialsCache("secret", self.secrets.client, 300, self.clock, self.counts),
                TokenCache(flow, RetryPolicy(self.clock), pressure(self.clock), self.clock),
                self.counts,
            ),
            "api/write",
            TIMEOUT,
            self.clock,
            lambda: self.counts("answered"),
            self.counts,
            self.latencies.append,
        )
        self.client = ThriveClient(self.api)

    def result(self, seconds=1e6):
        """Return what recording one completion returns or raises."""
        try:
            return self.client.record(completion(), Deadline(self.clock, seconds))
        except CallError as error:
            return error

    @property
    def headers(self):
        return [request.headers["Authorization"] for request in self.transport.requests]


def test_the_request_is_the_one_of_the_contract():
    case = Case(RECORDED)
    case.result()
    [request] = case.transport.requests
    assert request.path == "/rest/v1/learning/completions"
    assert request.headers == {"Authorization": "Bearer token-1", "Content-Type": "application/json"}
    assert request.json == {"userId": USER_ID, "contentId": CONTENT_ID, "completedAt": "2021-01-01T09:00:00.000Z"}
    assert request.timeout == TIMEOUT


# --- Status and body ---

# Whatever the body: what the status means. Otherwise only a JSON object is Thrive's answer.
ALONE = {401: "unauthorized", 403: "forbidden", 408: "unavailable", 425: "unavailable", 429: "rate_limited"}
ALONE_BY_CLASS = {1: "misconfigured", 3: "misconfigured", 5: "unavailable"}
KINDS = {
    "created": Created,
    "exists": Existing,
    "refused": RefusedError,
    "forbidden": ForbiddenError,
    "unauthorized": AccessError,
    "misconfigured": AccessError,
    "unavailable": TemporaryError,
    "rate_limited": TemporaryError,
}
HINTS = {
    "unauthorized": ": check the credentials",
    "forbidden": ": the credentials may lack the scope api/write",
    "misconfigured": ": is the base URL right?",
    "refused": ": words",
    "page": ", but the body is not Thrive's",
}
COUNTED = {"unauthorized": "AuthFailures", "forbidden": "AuthFailures", "rate_limited": "Throttles"}

WORDS = '"statementId": "statement-1", "message": "words"'
OBJECTS = {"object": f"{{{WORDS}}}", "object with the status": f'{{"status": %d, {WORDS}}}'}
OTHER_BODIES = {
    "HTML": b"<html>",
    "list": b'[{"statementId": "statement-1"}]',
    "text": b'"statementId"',
    "null": b"null",
    "empty": b"",
    "unreadable": None,
    "cut off": b'{"statementId": "statement-1"',
    "not UTF-8": b'{"a": "\xff"}',
    "too deep": b"[" * 100_000,
    "too many digits": b"9" * 10_000,
}


def meaning(status, body):
    """Return what settles a message, as the outcomes page states it."""
    if status in ALONE or status // 100 in ALONE_BY_CLASS:
        return ALONE.get(status) or ALONE_BY_CLASS[status // 100]
    if body not in OBJECTS or (status in (404, 405, 410) and body != "object with the status"):
        return "page"
    return "created" if status == 201 else "exists" if status // 100 == 2 or status == 409 else "refused"


@pytest.mark.parametrize("body", [*OBJECTS, *OTHER_BODIES])
def test_every_status_and_body_has_one_meaning(body):
    for status in range(100, 600):
        text = OBJECTS[body].replace("%d", str(status)).encode() if body in OBJECTS else OTHER_BODIES[body]
        expected = meaning(status, body)
        reason = "unavailable" if expected == "page" else expected
        case = Case(always=Response(status, text, "7"))

        result = case.result()

        assert type(result) is KINDS[reason], status
        assert result.status == status
        if reason in ("created", "exists"):
            assert result.statement_id == "statement-1"
        else:
            assert result.detail == f"Thrive answered {status}{HINTS.get(expected, '')}"
        if reason not in ("created", "exists", "refused"):
            assert result.reason == ("unauthorized" if reason == "forbidden" else reason)
            assert result.retry_after == (7 if isinstance(result, TemporaryError) else None)
        # A 401 is repeated once, with a new token; the secret is unchanged, so no third request follows.
        assert len(case.transport.requests) == (2 if status == 401 else 1)
        assert len(case.tokens.requests) == len(case.transport.requests)
        assert case.counts[COUNTED.get(reason, "none")] == (1 if reason in COUNTED else 0)
        settled = expected in ("created", "exists", "refused", "forbidden", "unauthorized")
        assert case.counts["answered"] == len(case.transport.requests) * settled


@pytest.mark.parametrize("status", ["404", 405, None, [404], {"a": 404}], ids=str)
def test_a_404_whose_body_names_another_status_is_a_gateway_s(status):
    result = Case(json_response(404, {"status": status, "message": "Not Found"})).result()
    assert (type(result), result.reason) == (TemporaryError, "unavailable")


@pytest.mark.parametrize(("body", "items"), [(b'[{"id": 1}]', [{"id": 1}]), (b"{}", None), (b"<html>", None)])
def test_a_list_is_thrive_s_only_if_it_is_an_array(body, items):
    case = Case(always=Response(200, body))
    with nullcontext() if items else pytest.raises(TemporaryError, match="the body is not Thrive's"):
        assert case.api.call("/list", Deadline(case.clock, 60), b"{}", expects_list=True).items == items


def test_a_refusal_is_explained_in_thrive_s_words_on_one_line():
    result = Case(json_response(422, {"message": "contentId\nis unknown to ada@learner.example"})).result()
    assert str(result) == "Thrive answered 422: contentId is unknown to [e-mail]"


@pytest.mark.parametrize("quoted", [CANARY, "token-1"])
@pytest.mark.parametrize("status", [200, 201, 409, 422])
def test_an_answer_that_quotes_the_credentials_is_not_repeated(status, quoted):
    result = Case(json_response(status, {"statementId": quoted, "message": quoted})).result()
    assert str(result) == "Thrive answered 422" if status == 422 else result.statement_id is None


def test_a_retry_after_date_counts_from_the_wall_clock():
    result = Case(Response(503, None, "Thu, 01 Jan 1970 00:01:00 GMT")).result()
    assert result.retry_after == 60.0


# --- Authorization ---


def test_a_401_is_repeated_with_a_new_token_and_the_same_body():
    case = Case(Response(401, None), RECORDED)
    assert case.result() == Created("statement-1", 201)
    assert case.headers == ["Bearer token-1", "Bearer token-2"]
    assert len({request.body for request in case.transport.requests}) == 1
    assert len(case.latencies) == 2
    assert case.counts["AuthFailures"] == 0


@pytest.mark.parametrize(
    ("method", "secrets", "requests"), [("oauth2", 1, 2), ("oauth2", 9, 3), ("basic", 1, 1), ("basic", 9, 2)]
)
def test_401_for_ever_is_a_bounded_number_of_requests(method, secrets, requests):
    case = Case(always=Response(401, b'{"message":"no"}'), secret=secret_text(authMethod=method))
    if secrets > 1:
        case.secrets.on_read = lambda: case.secrets.rotate(
            secret_text(authMethod=method, clientSecret=f"version-{case.secrets.reads}")
        )

    result = case.result()

    assert (type(result), result.reason, result.status) == (AccessError, "unauthorized", 401)
    assert len(case.transport.requests) == requests
    assert len({request.body for request in case.transport.requests}) == 1
    assert case.counts["AuthFailures"] == 1


def test_without_credentials_nothing_is_sent():
    case = Case(secret="not JSON")
    assert case.result().reason == "misconfigured"
    assert case.transport.requests == case.tokens.requests == []


# --- Time ---


def test_an_attempt_may_take_its_timeout_or_the_time_that_is_left():
    case = Case(always=RECORDED)
    for left in (60.0, TIMEOUT, 3.0, MIN_ATTEMPT_SECONDS):
        case.result(left)
    assert type(case.result(MIN_ATTEMPT_SECONDS - 0.001)) is OutOfTimeError
    assert [request.timeout for request in case.transport.requests] == [TIMEOUT, TIMEOUT, 3.0, MIN_ATTEMPT_SECONDS]


@pytest.mark.parametrize(
    ("left", "passed", "reason"),
    [
        pytest.param(4.0, 4.0, "out_of_time", id="cut short by the deadline"),
        pytest.param(4.0, 3.9, "out_of_time", id="hardly any time left"),
        pytest.param(4.0, 1.0, "unavailable", id="lost long before the deadline"),
        pytest.param(0.5, 0.3, "unavailable", id="just enough time left"),
        pytest.param(30.0, TIMEOUT, "unavailable", id="cut short by the request's own timeout"),
        pytest.param(TIMEOUT, TIMEOUT, "unavailable", id="cut short by both at once"),
    ],
)
def test_an_attempt_that_our_own_deadline_cuts_short_says_nothing_about_thrive(left, passed, reason):
    def lose(_request):
        case.clock.advance(passed)
        raise TemporaryError("unavailable", "no answer in time")

    case = Case(RECORDED, lose)
    case.result()

    error = case.result(left)

    cut_short = "the function's deadline came before the answer"
    assert (error.reason, error.detail) == (reason, cut_short if reason == "out_of_time" else "no answer in time")
    assert error.__context__ is None or error.__suppress_context__
    assert case.counts["answered"] == 1
    assert len(case.latencies) == 1


def test_latency_is_in_milliseconds():
    def slow(_request):
        case.clock.advance(0.25)
        return Response(500, None)

    case = Case(slow)
    case.result()

    assert case.latencies == [pytest.approx(250)]
