"""Access tokens: what the token endpoint is sent, what its answers mean, and how long a token is used."""

import base64
import contextlib
import gc
import time
import weakref

import pytest

from completion_sync import tokens
from completion_sync.clock import Deadline, Instant
from completion_sync.errors import AccessError, CallError, OutOfTimeError, TemporaryError
from completion_sync.pressure import MIN_ATTEMPT_SECONDS
from completion_sync.retry import RetryPolicy
from completion_sync.tokens import AccessToken, ClientCredentialsFlow, TokenCache
from completion_sync.transport import Response
from tests.support.fakes import (
    CANARY,
    Counts,
    FakeClock,
    FakeTransport,
    credentials,
    in_threads,
    json_response,
    memory_of,
    pressure,
    token_response,
)

TIMEOUT = 10.0
JUST_UNDER = 0.000001
OTHER = credentials(clientSecret="other")  # pragma: allowlist secret
REFUSED = json_response(401, {"error": "invalid_client", "error_description": CANARY})
REFUSED_TEXT = "the token endpoint answered 401 invalid_client: check the credentials and the scope"
DOWN = Response(503, b"")
PAGE = Response(404, b"<html>not found</html>")
LOST = TemporaryError("unavailable", "no answer in time")
REDIRECT = Response(302, b"")


class FlowCase:
    """A flow with its fakes."""

    def __init__(self, *script, scope="api/write", always=None):
        # Clocks at zero make times exact, and must not look like "never".
        self.clock = FakeClock(wall=0.0, monotonic=0.0)
        self.counts = Counts()
        self.transport = FakeTransport(*script, always=always)
        self.flow = ClientCredentialsFlow(self.transport, scope, TIMEOUT, self.clock, self.counts)

    def fetch(self, seconds=1e9, **secret):
        return self.flow.fetch(credentials(**secret), Deadline(self.clock, seconds))

    def fetched(self):
        """Return the token or the error."""
        try:
            return self.fetch()
        except CallError as error:
            return error

    @property
    def request(self):
        [request] = self.transport.requests
        return request


# --- The request ---


def test_by_default_the_form_holds_the_credentials():
    case = FlowCase(token_response(), scope="api/read api/write")
    case.fetch(tenantId="a/../b?c#d e\u00e9", clientId="a+b c", clientSecret="&=%\u00e9;/")
    assert case.request.path == "/oauth2/token/a%2F..%2Fb%3Fc%23d%20e%C3%A9"  # one segment
    assert case.request.headers == {"Content-Type": "application/x-www-form-urlencoded"}
    assert case.request.body == (
        b"grant_type=client_credentials&client_id=a%2Bb+c&client_secret=%26%3D%25%C3%A9%3B%2F"
        b"&scope=api%2Fread+api%2Fwrite"
    )


def test_client_secret_basic_form_encodes_both_halves_first():
    case = FlowCase(token_response())
    value = "+% :\u00e9"
    case.fetch(clientId=f"id{value}", clientSecret=f"se{value}", tokenEndpointAuthMethod="client_secret_basic")
    scheme, _, encoded = case.request.headers["Authorization"].partition(" ")
    assert scheme == "Basic"
    assert base64.b64decode(encoded) == b"id%2B%25+%3A%C3%A9:se%2B%25+%3A%C3%A9"
    assert case.request.headers["Content-Type"] == "application/x-www-form-urlencoded"
    assert case.request.form == {"grant_type": ["client_credentials"], "scope": ["api/write"]}


@pytest.mark.parametrize("method", ["client_secret_post", "client_secret_basic"])
def test_an_empty_scope_is_not_sent(method):
    case = FlowCase(token_response(), scope="")
    case.fetch(tokenEndpointAuthMethod=method)
    assert "scope" not in case.request.form


def test_a_request_may_take_its_timeout_or_the_time_that_is_left():
    case = FlowCase(always=token_response())
    for seconds in (1e9, TIMEOUT, 9.5, MIN_ATTEMPT_SECONDS):
        case.fetch(seconds)
    with pytest.raises(OutOfTimeError):
        case.fetch(MIN_ATTEMPT_SECONDS - 0.001)
    assert [request.timeout for request in case.transport.requests] == [TIMEOUT, TIMEOUT, 9.5, MIN_ATTEMPT_SECONDS]
    assert case.counts == {"TokenRequests": 4}


# --- The answer ---


def test_a_good_answer_is_a_token_that_counts_from_before_the_request():
    def slow(_request):
        case.clock.advance(5)
        return token_response("abc", 3600)

    case = FlowCase(slow)
    before = case.clock.now()

    assert case.fetch() == AccessToken("abc", before, 3600.0)
    assert case.counts == {"TokenRequests": 1}


REASONS = {401: "unauthorized", 403: "unauthorized", 408: "unavailable", 425: "unavailable", 429: "rate_limited"}
REASONS_BY_CLASS = {1: "misconfigured", 2: "misconfigured", 3: "misconfigured", 4: "unauthorized", 5: "unavailable"}
COUNTED = {"unauthorized": "AuthFailures", "rate_limited": "Throttles"}
HINTS = {
    "unauthorized": ": check the credentials and the scope",
    "misconfigured": ": is the base URL right?",
    "no-object": ", but the body is not a JSON object",
}


@pytest.mark.parametrize("body", [token_response().body, b"<html>", b"[]", b"[" * 60_000, b'{"a": "\xff"}', b"", None])
def test_every_status_has_one_meaning(body):
    is_object = body == token_response().body
    for status in range(100, 600):
        case = FlowCase(Response(status, body, "7"))
        reason = hint = REASONS.get(status, REASONS_BY_CLASS[status // 100])
        if not is_object and status // 100 in (2, 4) and status not in REASONS:
            reason, hint = "unavailable", "no-object"

        result = case.fetched()

        if status == 200 and is_object:
            assert isinstance(result, AccessToken)
            continue
        is_temporary = reason in ("unavailable", "rate_limited")
        text = ", which is no answer to a token request" if status // 100 == 2 and is_object else HINTS.get(hint, "")
        assert type(result) is (TemporaryError if is_temporary else AccessError), status
        assert (result.reason, result.status, result.retry_after) == (reason, status, 7 if is_temporary else None)
        assert result.detail == f"the token endpoint answered {status}{text}"
        assert case.counts == Counts(["TokenRequests", *filter(None, [COUNTED.get(reason)])])


KNOWN = [
    "invalid_request", "invalid_client", "invalid_grant", "unauthorized_client", "unsupported_grant_type",
    "invalid_scope",
]  # fmt: skip


@pytest.mark.parametrize(
    ("error", "shown"),
    [
        *[(code, f" {code}") for code in KNOWN],
        *[(error, "") for error in (CANARY, "Invalid_Client", "", None, 5, ["invalid_client"], {})],
    ],
    ids=str,
)
@pytest.mark.parametrize("status", [200, 400, 401])
def test_only_the_error_codes_of_rfc_6749_are_repeated(status, error, shown):
    # In a 200 as well, and even beside a token.
    fields = {"error": error, "error_description": CANARY, "access_token": "a", "token_type": "Bearer"}
    result = FlowCase(json_response(status, fields)).fetched()
    assert (type(result), result.reason, result.status) == (AccessError, "unauthorized", status)
    assert str(result) == f"the token endpoint answered {status}{shown}: check the credentials and the scope"


@pytest.mark.parametrize("value", ["a", "header.payload.signature", "A-Z_0~9+/.==", "x" * 20_000], ids=len)
@pytest.mark.parametrize("token_type", ["Bearer", "bearer", "BEARER", "bEaReR"])
def test_every_bearer_token_is_accepted(value, token_type):
    assert FlowCase(token_response(value, token_type=token_type)).fetch().value == value


@pytest.mark.parametrize("token_type", [None, "", "mac", "DPoP", "Bearer ", 5, ["Bearer"]], ids=str)
def test_another_token_type_is_misconfigured(token_type):
    result = FlowCase(token_response(token_type=token_type)).fetched()
    assert (type(result), result.reason, result.status) == (AccessError, "misconfigured", 200)
    assert str(result) == "the token endpoint answered 200 with a token_type other than Bearer"


@pytest.mark.parametrize(
    "token", [None, "", 5, ["a"], "a\n", "a\r\nX-Injected: 1", "a b", "\u00e9", "a=b", "=="], ids=ascii
)
def test_an_unreadable_access_token_is_temporary(token):
    result = FlowCase(json_response(200, {"access_token": token, "token_type": "Bearer"}, "7")).fetched()
    assert (type(result), result.reason, result.status, result.retry_after) == (TemporaryError, "unavailable", 200, 7)
    assert str(result) == "the token endpoint answered 200 without a readable access_token"


@pytest.mark.parametrize(
    ("expires_in", "lifetime"),
    [
        *[(value, value) for value in (3600, 1, 0.5, 59.9, 86_400)],
        *[(value, tokens.MAX_LIFETIME_SECONDS) for value in (86_401, 10**400, 1e308, float("inf"))],
        *[(value, tokens.DEFAULT_LIFETIME_SECONDS) for value in (0, 0.0, -1, -(10**400), float("nan"), float("-inf"))],
        *[(value, tokens.DEFAULT_LIFETIME_SECONDS) for value in ("3600", "", True, False, [3600], {}, None)],
    ],
    ids=lambda value: str(value)[:12],
)
def test_expires_in_is_a_positive_number_of_at_most_a_day_or_replaced(expires_in, lifetime):
    result = FlowCase(token_response(expires_in=expires_in)).fetch().lifetime
    assert (result, type(result)) == (lifetime, float)


def test_the_date_in_retry_after_counts_from_the_answer():
    def slow(_request):
        case.clock.advance(20)
        return Response(503, b"", "Thu, 01 Jan 1970 00:01:00 GMT")

    case = FlowCase(slow)

    assert case.fetched().retry_after == 40.0


# --- The age of a token ---

START = Instant(0.0, 0.0)


@pytest.mark.parametrize(
    ("lifetime", "margin"), [(3600, 300), (7200, 300), (86_400, 300), (3588, 299), (1200, 100), (60, 5), (0.6, 0.05)]
)
@pytest.mark.parametrize(("wall", "monotonic"), [(1, 1), (1, 0), (0, 1), (-1, 1)])
def test_a_token_is_due_a_twelfth_or_300_seconds_before_it_expires_by_either_clock(lifetime, margin, wall, monotonic):
    token = AccessToken("a", START, lifetime)

    def state_after(seconds):
        now = Instant(START.wall + wall * seconds, START.monotonic + monotonic * seconds)
        return token.is_due(now), token.has_expired(now)

    assert state_after(0) == (False, False)
    assert state_after(lifetime - margin - JUST_UNDER) == (False, False)
    assert state_after(lifetime - margin + JUST_UNDER) == (True, False)
    assert state_after(lifetime - JUST_UNDER) == (True, False)
    assert state_after(lifetime) == (True, True)
    assert state_after(lifetime * 100) == (True, True)


def test_repr_shows_no_token():
    assert CANARY not in repr(AccessToken(CANARY, START, 1.0))


# --- The cache ---


class Case(FlowCase):
    """A cache over the flow. Unless the script says otherwise, tokens are numbered from token-1 on."""

    def __init__(self, *script, always=None, expires_in=3600):
        def number(_request):
            self.issued += 1
            return token_response(f"token-{self.issued}", expires_in)

        super().__init__(*script, always=always or number)
        self.issued = 0
        self.pressure = pressure(self.clock, subjects_of_an_outage=1)
        retry = RetryPolicy(self.clock, lambda low, _high: low)
        self.cache = TokenCache(self.flow, retry, self.pressure, self.clock)

    def get(self, who=None, seconds=1e9):
        return self.cache.get(who or credentials(), Deadline(self.clock, seconds))

    def value(self, who=None):
        return self.get(who).value

    def failure(self, who=None):
        with pytest.raises(AccessError) as raised:
            self.get(who)
        return raised.value

    @property
    def requests(self):
        return len(self.transport.requests)


DUE = 3600 - tokens.EXPIRY_MARGIN_SECONDS


@pytest.mark.parametrize("passing", ["advance", "freeze", "step_wall"])
@pytest.mark.parametrize(
    ("seconds", "value"), [(0, "token-1"), (DUE - 0.001, "token-1"), (DUE, "token-2"), (7200, "token-2")]
)
def test_a_token_is_used_until_it_is_due_by_either_clock(passing, seconds, value):
    case = Case()
    assert case.requests == 0
    first = case.get()
    getattr(case.clock, passing)(seconds)
    second = case.get()
    assert second.value == value
    assert (second is first) == (value == "token-1")
    assert case.get() is second


def test_a_token_that_expired_on_its_way_is_used_once():
    def slow(_request):
        case.clock.advance(5)
        return token_response(expires_in=1)

    case = Case(slow, slow)

    assert case.get() is not case.get()


def test_a_token_belongs_to_its_credentials():
    case = Case()
    assert case.get() is case.get(credentials())
    assert [case.value(OTHER), case.value(OTHER), case.value()] == ["token-2", "token-2", "token-3"]


def test_invalidate_forgets_that_token_and_no_newer_one():
    # The endpoint issues the same text again: it is the object that counts.
    case = Case(always=token_response("same"))
    old = case.get()
    case.cache.invalidate(old)
    new = case.get()
    assert old == new
    case.cache.invalidate(old)
    assert case.get() is new
    assert case.requests == 2


def test_clear_forgets_token_refusal_and_renewal():
    case = due_case(DOWN, REFUSED)
    case.get()
    case.cache.clear()
    case.failure()
    case.cache.clear()
    assert case.value() == "token-1"
    case.clock.advance(DUE)
    assert case.value() == "token-2"


# --- Renewal of a token that is about to expire ---


def due_case(*script, always=None):
    """Return a case that holds a token, "old", that is due but valid."""
    case = Case(token_response("old"), *script, always=always)
    case.get()
    case.clock.advance(DUE)
    return case


FAILED_RENEWALS = [DOWN, PAGE, LOST, Response(429, b""), REFUSED, REDIRECT]


@pytest.mark.parametrize("answer", FAILED_RENEWALS, ids=["503", "page", "lost", "429", "401", "302"])
def test_a_token_whose_renewal_fails_is_used_until_it_expires(answer):
    case = due_case(always=answer)
    assert case.value() == "old"
    assert (case.requests, case.clock.sleeps) == (2, [])
    case.clock.advance(tokens.EXPIRY_MARGIN_SECONDS - JUST_UNDER)
    assert case.value() == "old"
    case.clock.advance(JUST_UNDER)
    assert case.failure()


@pytest.mark.parametrize(("passing", "seconds", "holds"), memory_of(tokens.RENEWAL_RETRY_SECONDS))
def test_a_failed_renewal_is_repeated_after_30_seconds(passing, seconds, holds):
    case = due_case(DOWN)
    case.get()
    getattr(case.clock, passing)(seconds)
    assert (case.value(), case.requests) == (("old", 2) if holds else ("token-1", 3))


def test_the_next_token_may_be_renewed_as_soon_as_it_is_due():
    case = Case(expires_in=12)
    for _ in range(4):
        case.get()
        case.clock.advance(11)
    assert case.value() == "token-5"


def test_refused_credentials_are_not_renewed_with_for_a_minute():
    case = due_case(REFUSED)
    case.get()
    case.clock.advance(tokens.REFUSAL_SECONDS - JUST_UNDER)
    assert (case.value(), case.requests) == ("old", 2)
    case.clock.advance(JUST_UNDER)
    assert (case.value(), case.requests) == ("token-1", 3)


def test_a_renewal_that_is_throttled_pauses_token_requests():
    case = due_case(Response(429, b"", "120"))
    case.get()
    assert case.pressure.pause() == 120
    case.clock.advance(120 - JUST_UNDER)
    assert (case.value(), case.requests) == ("old", 2)
    case.clock.advance(JUST_UNDER)
    assert (case.value(), case.requests) == ("token-1", 3)


def test_a_valid_token_is_used_while_the_token_endpoint_is_out():
    case = due_case()
    for _ in range(2):
        case.pressure.failed("token")
    assert (case.value(), case.requests) == ("old", 1)


def test_a_renewal_that_the_pace_holds_back_is_left_for_later():
    case = due_case()
    case.pressure.throttled(case.clock.now(), None)
    case.clock.advance(1)
    case.pressure.admit(Deadline(case.clock, 1))  # takes the slot of the next two seconds
    assert (case.get(seconds=1).value, case.requests) == ("old", 1)


def test_a_renewal_leaves_half_of_the_time_to_the_completion():
    def cut_short(request):
        case.clock.advance(request.timeout)
        raise LOST

    case = due_case(cut_short)

    assert case.get(seconds=6).value == "old"
    assert case.transport.requests[-1].timeout == pytest.approx(3)
    case.clock.advance(tokens.RENEWAL_RETRY_SECONDS)
    assert case.get(seconds=MIN_ATTEMPT_SECONDS * 1.9).value == "old"
    assert case.requests == 2


def renewal_during(work, answer=None):
    """Return a case whose token is due. While it is renewed, another thread does ``work(case, token)``."""

    def renew(_request):
        results.extend(in_threads(1, lambda _: work(case, old)))
        return answer or token_response("renewed")

    results = []
    case = Case(token_response("old"))
    old = case.get()
    case.clock.advance(DUE)
    case.transport.then(renew)
    return case, results


def test_while_one_thread_renews_the_others_use_the_old_token():
    case, results = renewal_during(lambda case, _: case.value())
    assert case.value() == "renewed"
    assert results == ["old"]
    assert case.value() == "renewed"
    assert case.requests == 2


@pytest.mark.parametrize(
    ("work", "who"),
    [
        pytest.param(lambda case, old: case.cache.invalidate(old), credentials(), id="invalidated"),
        pytest.param(lambda case, _: case.cache.clear(), credentials(), id="cleared"),
        pytest.param(lambda case, _: case.get(OTHER), OTHER, id="replaced"),
    ],
)
@pytest.mark.parametrize("answer", [None, REFUSED], ids=["renewed", "refused"])
def test_a_renewal_changes_nothing_that_changed_meanwhile(work, who, answer):
    case, _ = renewal_during(work, answer)
    assert case.value() == ("old" if answer else "renewed")
    assert case.value(who) == "token-1"
    # Nor was a refusal remembered.
    case.cache.invalidate(case.get(who))
    assert case.value() == "token-2"


# --- No token ---


@pytest.mark.parametrize(
    ("answer", "remembered"),
    [
        (REFUSED, ("unauthorized", REFUSED_TEXT, 401)),
        (REDIRECT, ("misconfigured", "the token endpoint answered 302: is the base URL right?", 302)),
    ],
    ids=["401", "302"],
)
@pytest.mark.parametrize(("passing", "seconds", "holds"), memory_of(tokens.REFUSAL_SECONDS))
def test_a_refusal_is_remembered_for_a_minute(answer, remembered, passing, seconds, holds):
    def slow(_request):
        case.clock.advance(100)  # it counts from the answer
        return answer

    case = Case(always=slow)
    first = case.failure()

    getattr(case.clock, passing)(seconds)
    second = case.failure()

    assert (case.requests, case.clock.sleeps) == (1 if holds else 2, [])
    assert second is not first
    assert vars(first) == vars(second)
    assert (second.reason, second.detail, second.status) == remembered


def test_a_refusal_belongs_to_its_credentials_and_ends_with_a_success():
    case = Case(REFUSED)
    case.failure()
    assert case.value(OTHER) == "token-1"
    assert case.value() == "token-2"


@pytest.mark.parametrize("answer", [REFUSED, DOWN], ids=["refused", "unavailable"])
def test_a_remembered_failure_keeps_no_frames_alive(answer):
    case = Case(always=answer)
    error = weakref.ref(case.failure())
    gc.collect()
    assert error() is None
    assert case.failure()


@pytest.mark.parametrize(
    ("answer", "status", "detail"),
    [
        (DOWN, 503, "the token endpoint answered 503"),
        (Response(408, b""), 408, "the token endpoint answered 408"),
        (PAGE, 404, "the token endpoint answered 404, but the body is not a JSON object"),
        (token_response(""), 200, "the token endpoint answered 200 without a readable access_token"),
        (LOST, None, "no answer in time"),
    ],
    ids=["503", "408", "page", "no token", "lost"],
)
def test_two_failed_attempts_are_an_outage_that_halts_the_batch(answer, status, detail):
    case = Case(always=answer)
    error = case.failure()
    assert (error.reason, error.status, str(error)) == ("unavailable", status, f"no token: {detail}")
    assert error.__cause__ is None
    assert error.__suppress_context__
    assert (case.requests, case.clock.sleeps) == (2, [0.1])
    assert case.pressure.is_out
    error = case.failure()
    assert (error.reason, str(error)) == ("unavailable", "no token: the token endpoint has not been answering")
    assert case.requests == 2


def test_a_single_attempt_is_an_outage_if_there_is_no_time_for_a_second():
    case = Case(always=Response(503, b"", "120"))
    error = case.failure()
    assert (error.reason, error.retry_after, case.requests) == ("unavailable", 120, 1)
    assert case.pressure.is_out


def test_an_outage_is_probed_1_2_4_8_and_then_every_10_seconds():
    case = Case(always=DOWN)
    case.failure()
    for interval in (1, 2, 4, 8, 10, 10):
        case.clock.advance(interval - JUST_UNDER)
        before = case.requests
        assert "has not been answering" in str(case.failure())
        assert case.requests == before
        case.clock.advance(JUST_UNDER * 2)
        assert str(case.failure()) == "no token: the token endpoint answered 503"
        assert case.requests == before + 1


@pytest.mark.parametrize("answer", [token_response(), REFUSED, REDIRECT], ids=["token", "refusal", "redirect"])
def test_any_answer_ends_the_outage(answer):
    case = Case(DOWN, DOWN, answer)
    case.failure()
    case.clock.advance(1)
    with contextlib.suppress(AccessError):
        case.get()
    assert not case.pressure.is_out


def test_a_second_attempt_may_succeed():
    case = Case(DOWN)
    assert case.value() == "token-1"
    assert not case.pressure.is_out


def test_throttled_requests_are_repeated_after_short_pauses():
    case = Case(always=Response(429, b""))
    error = case.failure()
    assert (error.reason, error.status, error.retry_after) == ("rate_limited", 429, 0.8)
    assert str(error) == "no token: the token endpoint answered 429"
    assert (case.requests, sum(case.clock.sleeps)) == (3, pytest.approx(0.6))
    assert not case.pressure.is_out


def test_a_long_pause_holds_token_requests_back_until_it_ends():
    case = Case(Response(429, b"", "120"))
    assert (case.failure().retry_after, case.requests) == (120, 1)
    case.clock.advance(20)
    error = case.failure()
    assert (error.reason, error.status, error.retry_after) == ("rate_limited", None, 100)
    assert case.requests == 1
    case.clock.advance(100)
    assert case.value() == "token-1"


def test_without_time_it_is_only_this_message_that_has_none():
    case = Case()
    with pytest.raises(OutOfTimeError):
        case.get(seconds=0.1)
    assert case.value() == "token-1"


# --- Threads ---


@pytest.mark.parametrize(
    ("answer", "requests"), [(token_response(), 1), (REFUSED, 1), (DOWN, 2)], ids=["token", "refusal", "outage"]
)
def test_a_bad_credential_and_a_batch_make_one_call(answer, requests):
    def slow(_request):
        time.sleep(0.05)  # long enough for all threads to come
        return answer

    case = Case(always=slow)

    results = in_threads(16, lambda _: case.get())

    assert case.requests == requests
    is_token = answer not in (REFUSED, DOWN)
    assert {type(result) for result in results} == {AccessToken if is_token else AccessError}
    assert len({id(result) for result in results}) == (1 if is_token else 16)


def test_threads_whose_common_token_was_refused_share_one_new_token():
    case = Case()
    old = case.get()

    def renew(_index):
        case.cache.invalidate(old)
        return case.value()

    assert set(in_threads(16, renew)) == {"token-2"}
    assert case.requests == 2


def test_the_bounds_are_the_documented_ones():
    assert (tokens.EXPIRY_MARGIN_SECONDS, tokens.RENEWAL_RETRY_SECONDS, tokens.REFUSAL_SECONDS) == (300.0, 30.0, 60.0)
    assert (tokens.DEFAULT_LIFETIME_SECONDS, tokens.MAX_LIFETIME_SECONDS) == (300.0, 86_400.0)
