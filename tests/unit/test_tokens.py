"""Access tokens: how one is asked for, how long it is used, and who asks when."""

from __future__ import annotations

import base64
import gc
import threading
import weakref
from urllib.parse import unquote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from completion_sync.clock import Deadline, Instant
from completion_sync.credentials import PLACEHOLDER, SHARED_FAILURE_SECONDS, Credentials
from completion_sync.errors import AccessError, CallError, OutOfTimeError, TemporaryError
from completion_sync.pressure import MIN_ATTEMPT_SECONDS
from completion_sync.retry import RetryPolicy
from completion_sync.tokens import (
    DEFAULT_LIFETIME_SECONDS,
    EXPIRY_MARGIN_SECONDS,
    MAX_LIFETIME_SECONDS,
    REFUSAL_SECONDS,
    AccessToken,
    ClientCredentialsFlow,
    TokenCache,
)
from completion_sync.transport import Response
from tests.support.fakes import (
    CANARY,
    PATIENCE_SECONDS,
    Answer,
    Counts,
    FakeClock,
    FakeTransport,
    Request,
    credentials,
    in_threads,
    json_response,
    texts_of,
    token_response,
)

TIMEOUT = 10.0
OTHER = "other"
HARD = "+% :\u00e9"
# What a client id or secret may hold, the template's placeholder apart.
VISIBLE = st.text(st.characters(min_codepoint=0x21, exclude_categories=["C", "Z"]), min_size=1, max_size=20).filter(
    lambda text: text != PLACEHOLDER
)
REFUSED = json_response(401, {"error": "invalid_client", "error_description": CANARY})
REFUSED_TEXT = "the token endpoint answered 401 invalid_client: check the credentials and the scope"
SOURCE = Instant(1_800_000_000.0, 5_000.0)


class FlowCase:
    """A flow with its fakes."""

    def __init__(self, *script: Answer, scope: str = "api/write", always: Answer | None = None) -> None:
        # A monotonic clock that begins at zero makes deadlines exact, and is what a machine just booted has.
        self.clock = FakeClock(monotonic=0.0)
        self.counts = Counts()
        self.transport = FakeTransport(*script, always=always)
        self.flow = ClientCredentialsFlow(self.transport, scope, TIMEOUT, self.clock, self.counts)  # type: ignore[arg-type]

    def fetch(self, who: Credentials | None = None, seconds: float = 1e9) -> AccessToken:
        """Ask once."""
        return self.flow.fetch(who or credentials(), Deadline(self.clock, seconds))

    @property
    def request(self) -> Request:
        """The one request."""
        [request] = self.transport.requests
        return request


class CacheCase(FlowCase):
    """A cache on top of it; each good answer gives another token."""

    def __init__(self, *script: Answer, always: Answer | None = None) -> None:
        super().__init__(*script, always=always)
        self.cache = TokenCache(self.flow, RetryPolicy(self.clock, lambda low, _high: low), self.clock)

    def get(self, who: Credentials | None = None, seconds: float = 1e9) -> AccessToken:
        """Take a token."""
        return self.cache.get(who or credentials(), Deadline(self.clock, seconds))

    def refusal(self, who: Credentials | None = None) -> AccessError:
        """Give the error instead of a token."""
        with pytest.raises(AccessError) as refused:
            self.get(who)
        return refused.value

    @property
    def fetches(self) -> int:
        """How many requests the token endpoint has seen."""
        return len(self.transport.requests)


def numbered(expires_in: object = 3600) -> Answer:
    """Answer each request with another token: token-1, token-2, and so on."""
    lock, count = threading.Lock(), [0]

    def answer(_request: Request) -> Response:
        with lock:
            count[0] += 1
            return token_response(f"token-{count[0]}", expires_in)

    return answer


class TestRequest:
    """What is sent to the token endpoint."""

    def test_the_form_holds_the_credentials_by_default(self) -> None:
        """With client_secret_post the form holds grant type, id, secret and scope, and no header tells them."""
        case = FlowCase(token_response())

        case.fetch(credentials(clientId="client-1"))

        assert case.request.path == "/oauth2/token/eu-west-2_AbcdEfghI"
        assert case.request.headers == {"Content-Type": "application/x-www-form-urlencoded"}
        assert case.request.form == {
            "grant_type": ["client_credentials"],
            "client_id": ["client-1"],
            "client_secret": [CANARY],
            "scope": ["api/write"],
        }

    def test_the_form_is_encoded(self) -> None:
        """Characters with a meaning in a form are escaped, and the rest is UTF-8."""
        case = FlowCase(token_response(), scope="api/read api/write")

        case.fetch(credentials(clientId="a+b c", clientSecret="&=%\u00e9;/"))

        assert case.request.body == (
            b"grant_type=client_credentials&client_id=a%2Bb+c&client_secret=%26%3D%25%C3%A9%3B%2F"
            b"&scope=api%2Fread+api%2Fwrite"
        )

    def test_basic_form_encodes_both_halves_first(self) -> None:
        """RFC 6749, section 2.3.1: both halves are form-encoded, then joined by a colon, then in Base64."""
        case = FlowCase(token_response())

        case.fetch(
            credentials(clientId=f"id{HARD}", clientSecret=f"se{HARD}", tokenEndpointAuthMethod="client_secret_basic")
        )

        scheme, _, encoded = case.request.headers["Authorization"].partition(" ")
        assert scheme == "Basic"
        assert base64.b64decode(encoded) == b"id%2B%25+%3A%C3%A9:se%2B%25+%3A%C3%A9"
        assert case.request.headers["Content-Type"] == "application/x-www-form-urlencoded"
        assert case.request.form == {"grant_type": ["client_credentials"], "scope": ["api/write"]}

    @given(VISIBLE, VISIBLE)
    def test_a_server_reads_back_what_was_meant(self, client_id: str, client_secret: str) -> None:
        """By either method the two halves can be read back, whatever they hold."""
        basic, post = FlowCase(token_response()), FlowCase(token_response())

        who = {"clientId": client_id, "clientSecret": client_secret}
        basic.fetch(credentials(**who, tokenEndpointAuthMethod="client_secret_basic"))
        post.fetch(credentials(**who))

        header = base64.b64decode(basic.request.headers["Authorization"].removeprefix("Basic ")).decode("ascii")
        assert [unquote_plus(half) for half in header.split(":")] == [client_id, client_secret]
        assert post.request.form["client_id"] + post.request.form["client_secret"] == [client_id, client_secret]

    @pytest.mark.parametrize("method", ["client_secret_post", "client_secret_basic"])
    def test_an_empty_scope_is_not_sent(self, method: str) -> None:
        """Where no scope is set, the form has no such field: an empty one would be an error."""
        case = FlowCase(token_response(), scope="")

        case.fetch(credentials(tokenEndpointAuthMethod=method))

        assert "scope" not in case.request.form

    def test_the_tenant_is_one_segment_of_the_path(self) -> None:
        """Whatever the tenant id holds, it does not lead to another path."""
        case = FlowCase(token_response())

        case.fetch(credentials(tenantId="a/../b?c#d e\u00e9"))

        assert case.request.path == "/oauth2/token/a%2F..%2Fb%3Fc%23d%20e%C3%A9"

    @pytest.mark.parametrize(
        ("seconds", "timeout"), [(1e9, TIMEOUT), (10.0, TIMEOUT), (9.5, 9.5), (MIN_ATTEMPT_SECONDS, 0.2)], ids=str
    )
    def test_an_attempt_has_its_timeout_or_what_is_left(self, seconds: float, timeout: float) -> None:
        """One attempt may take the request's timeout, but not go beyond the deadline."""
        case = FlowCase(token_response())

        case.fetch(seconds=seconds)

        assert case.request.timeout == pytest.approx(timeout)

    @pytest.mark.parametrize("seconds", [0.199, 0.0, -1.0])
    def test_without_time_nothing_is_sent(self, seconds: float) -> None:
        """With less than the shortest attempt left, no request is made or counted."""
        case = FlowCase()

        with pytest.raises(OutOfTimeError):
            case.fetch(seconds=seconds)

        assert case.transport.requests == []
        assert case.counts == {}

    def test_each_request_is_counted(self) -> None:
        """The metric counts what was sent, whatever came back."""
        case = FlowCase(token_response(), REFUSED)

        case.fetch()
        with pytest.raises(AccessError):
            case.fetch()

        assert case.counts["TokenRequests"] == 2


TEMPORARY = {
    408: "unavailable",
    425: "unavailable",
    429: "rate_limited",
    500: "unavailable",
    502: "unavailable",
    503: "unavailable",
    504: "unavailable",
    599: "unavailable",
}

# answer → reason, text
UNREADABLE: dict[str, Response] = {
    "no-body": Response(200, None),
    "empty-body": Response(200, b""),
    "html": Response(200, b"<html>login</html>"),
    "json-list": json_response(200, [{"access_token": "a"}]),
    "json-null": json_response(200, None),
    "not-utf-8": Response(200, b'{"access_token": "\xff"}'),
    "too-deep": Response(200, b"[" * 60_000),
    "without-access-token": token_response(access_token=None),
    "access-token-null": json_response(200, {"access_token": None, "token_type": "Bearer"}),
    "access-token-empty": token_response(""),
    "access-token-number": token_response(access_token=5),
    "access-token-list": token_response(access_token=["a"]),
    "access-token-with-newline": token_response("a\n"),
    "access-token-with-injected-header": token_response("a\r\nX-Injected: 1"),
    "access-token-with-space": token_response("a b"),
    "access-token-beyond-ascii": token_response("\u00e9"),
    "access-token-with-inner-equals-sign": token_response("a=b"),
    "access-token-of-padding-alone": token_response("=="),
}


class TestAnswer:
    """What the token endpoint's answer is taken for."""

    def test_a_good_answer_is_a_token(self) -> None:
        """Value and lifetime come from the answer, the beginning from the clock before the request."""
        case = FlowCase(token_response("abc", 3600))
        before = case.clock.now()

        assert case.fetch() == AccessToken("abc", before, 3600.0)

        assert case.counts == {"TokenRequests": 1}

    @pytest.mark.parametrize("value", ["a", "header.payload.signature", "A-Z_0~9+/.==", "x" * 20_000])
    def test_every_bearer_token_is_taken_as_it_is(self, value: str) -> None:
        """RFC 6750, section 2.1: these characters make a bearer token, at any length."""
        assert FlowCase(token_response(value)).fetch().value == value

    @pytest.mark.parametrize("token_type", ["Bearer", "bearer", "BEARER", "bEaReR"])
    def test_the_token_type_is_read_in_any_case(self, token_type: str) -> None:
        """RFC 6749, section 7.1: the token type's case does not matter."""
        assert FlowCase(token_response(token_type=token_type)).fetch().value == "token-1"

    @pytest.mark.parametrize("token_type", [None, "", "mac", "DPoP", "Bearer ", 5, ["Bearer"]], ids=str)
    def test_another_token_type_is_a_wrong_set_up(self, token_type: object) -> None:
        """A token that is no bearer token cannot be used, and asking again will not change that."""
        with pytest.raises(AccessError) as raised:
            FlowCase(token_response(token_type=token_type)).fetch()

        assert (raised.value.reason, raised.value.status) == ("misconfigured", 200)
        assert str(raised.value) == "the token endpoint answered 200 with a token_type other than Bearer"

    @pytest.mark.parametrize("response", UNREADABLE.values(), ids=UNREADABLE)
    def test_a_200_without_a_usable_token_is_temporary(self, response: Response) -> None:
        """A proxy's page or half an answer may be gone next time; nothing of it is quoted."""
        with pytest.raises(TemporaryError) as raised:
            FlowCase(response).fetch()

        assert (raised.value.reason, raised.value.status) == ("unavailable", 200)
        assert str(raised.value) == "the token endpoint answered 200 without a readable access_token"

    @pytest.mark.parametrize("status", range(100, 600))
    def test_every_status_has_its_meaning(self, status: int) -> None:
        """400 to 499 refuse, save for 408, 425, 429; 500 and above pass; anything else but 200 is no token endpoint."""
        response = Response(status, token_response().body, "7")
        case = FlowCase(response)
        if status == 200:
            assert case.fetch().value == "token-1"
            return

        with pytest.raises(CallError) as raised:
            case.fetch()

        error = raised.value
        temporary = status in TEMPORARY or status >= 500
        assert isinstance(error, TemporaryError if temporary else AccessError)
        assert error.reason == (
            TEMPORARY.get(status, "unavailable") if temporary else "unauthorized" if status >= 400 else "misconfigured"
        )
        assert error.status == status
        assert error.retry_after == (7.0 if temporary else None)
        assert error.detail == f"the token endpoint answered {status}" + (
            ""
            if temporary
            else ": check the credentials and the scope"
            if status >= 400
            else ", which is no answer to a token request"
        )
        assert case.counts["AuthFailures"] == (400 <= status < 500 and not temporary)
        assert case.counts["Throttles"] == (status == 429)

    @pytest.mark.parametrize(
        "code",
        [
            "invalid_request",
            "invalid_client",
            "invalid_grant",
            "unauthorized_client",
            "unsupported_grant_type",
            "invalid_scope",
        ],
    )
    @pytest.mark.parametrize("status", [200, 400, 401])
    def test_a_known_error_code_is_repeated(self, status: int, code: str) -> None:
        """The codes of RFC 6749 tell people what to put right, also where they come with a 200."""
        case = FlowCase(json_response(status, {"error": code, "error_description": CANARY}))

        with pytest.raises(AccessError) as raised:
            case.fetch()

        assert (raised.value.reason, raised.value.status) == ("unauthorized", status)
        assert str(raised.value) == (
            f"the token endpoint answered {status} {code}: check the credentials and the scope"
        )
        assert case.counts["AuthFailures"] == 1

    @pytest.mark.parametrize("error", [CANARY, "Invalid_Client", "", None, 5, ["invalid_client"], {}], ids=str)
    @pytest.mark.parametrize("status", [200, 400])
    def test_any_other_error_text_is_not_repeated(self, status: int, error: object) -> None:
        """What else an ``error`` holds may quote a secret: it is left out."""
        with pytest.raises(AccessError) as raised:
            FlowCase(json_response(status, {"error": error})).fetch()

        assert str(raised.value) == f"the token endpoint answered {status}: check the credentials and the scope"

    def test_an_error_beats_a_token(self) -> None:
        """A 200 that holds both an error and a token is a refusal."""
        with pytest.raises(AccessError):
            FlowCase(token_response(error="invalid_scope")).fetch()

    @pytest.mark.parametrize("body", [None, b"", b"<html>", b"[]", b'"invalid_client"'], ids=str)
    def test_a_refusal_without_a_readable_body_is_still_one(self, body: bytes | None) -> None:
        """The status decides; the body only explains."""
        with pytest.raises(AccessError, match=r"^the token endpoint answered 403: check") as raised:
            FlowCase(Response(403, body)).fetch()

        assert raised.value.reason == "unauthorized"

    def test_a_lost_answer_passes_as_it_is(self) -> None:
        """What the transport raises is temporary and goes on unchanged."""
        lost = TemporaryError("unavailable", "no answer in time")

        with pytest.raises(TemporaryError) as raised:
            FlowCase(lost).fetch()

        assert raised.value is lost

    def test_a_date_is_judged_when_the_answer_is_there(self) -> None:
        """A Retry-After date counts from the moment of the answer, not of the request."""

        def slow(_request: Request) -> Response:
            case.clock.advance(20)
            return Response(503, b"", "Fri, 15 Jan 2027 08:01:00 GMT")  # a minute after the clock's beginning

        case = FlowCase(slow)

        with pytest.raises(TemporaryError) as raised:
            case.fetch()

        assert raised.value.retry_after == 40.0


class TestLifetime:
    """``expires_in``."""

    @pytest.mark.parametrize(
        ("expires_in", "lifetime"),
        [
            (3600, 3600.0),
            (1, 1.0),
            (0.5, 0.5),
            (59.9, 59.9),
            (86_400, MAX_LIFETIME_SECONDS),
            (86_401, MAX_LIFETIME_SECONDS),
            (10**400, MAX_LIFETIME_SECONDS),
            (1e308, MAX_LIFETIME_SECONDS),
            (float("inf"), MAX_LIFETIME_SECONDS),
            (float("nan"), DEFAULT_LIFETIME_SECONDS),
            (float("-inf"), DEFAULT_LIFETIME_SECONDS),
            (0, DEFAULT_LIFETIME_SECONDS),
            (0.0, DEFAULT_LIFETIME_SECONDS),
            (-1, DEFAULT_LIFETIME_SECONDS),
            (-(10**400), DEFAULT_LIFETIME_SECONDS),
            ("3600", DEFAULT_LIFETIME_SECONDS),
            ("", DEFAULT_LIFETIME_SECONDS),
            (True, DEFAULT_LIFETIME_SECONDS),
            (False, DEFAULT_LIFETIME_SECONDS),
            ([3600], DEFAULT_LIFETIME_SECONDS),
            ({}, DEFAULT_LIFETIME_SECONDS),
            (None, DEFAULT_LIFETIME_SECONDS),
        ],
        ids=lambda value: str(value)[:12],
    )
    def test_expires_in_is_read_strictly(self, expires_in: object, lifetime: float) -> None:
        """Positive numbers count, up to a day; anything else is the short default."""
        result = FlowCase(token_response(expires_in=expires_in)).fetch().lifetime

        assert (result, type(result)) == (lifetime, float)

    def test_null_and_absent_are_alike(self) -> None:
        """A null is as good as nothing."""
        response = json_response(200, {"access_token": "a", "token_type": "bearer", "expires_in": None})

        assert FlowCase(response).fetch().lifetime == DEFAULT_LIFETIME_SECONDS

    @given(
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
            lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
        )
    )
    def test_no_expires_in_breaks_anything(self, expires_in: object) -> None:
        """Whatever stands there, the token has a lifetime above zero and of a day at most."""
        lifetime = FlowCase(token_response(expires_in=expires_in)).fetch().lifetime

        assert 0 < lifetime <= MAX_LIFETIME_SECONDS


class TestFreshness:
    """``AccessToken.is_fresh``."""

    @pytest.mark.parametrize(
        ("lifetime", "margin"),
        [
            (3600.0, 300.0),
            (7200.0, 300.0),
            (86_400.0, 300.0),
            (3588.0, 299.0),
            (1200.0, 100.0),
            (300.0, 25.0),
            (60.0, 5.0),
            (12.0, 1.0),
            (0.6, 0.05),
        ],
    )
    @pytest.mark.parametrize("clock", ["both", "wall", "monotonic"])
    def test_the_margin_is_exact_to_the_microsecond(self, lifetime: float, margin: float, clock: str) -> None:
        """A token ends 300 s before its end, or a twelfth of its life if that is less, on whichever clock says so."""
        token = AccessToken("a", SOURCE, lifetime)

        def fresh_after(seconds: float) -> bool:
            wall = 0.0 if clock == "monotonic" else seconds
            monotonic = 0.0 if clock == "wall" else seconds
            return token.is_fresh(Instant(SOURCE.wall + wall, SOURCE.monotonic + monotonic))

        assert fresh_after(0)
        assert fresh_after(lifetime - margin - 0.000001)
        assert not fresh_after(lifetime - margin + 0.000001)
        assert not fresh_after(lifetime)
        assert not fresh_after(lifetime * 100)

    def test_at_the_margin_itself_it_is_over(self) -> None:
        """A token of 3600 s is given up after 3300 s, not a moment later."""
        token = AccessToken("a", SOURCE, 3600.0)

        assert not token.is_fresh(Instant(SOURCE.wall + 3600 - EXPIRY_MARGIN_SECONDS, SOURCE.monotonic))

    def test_a_wall_clock_that_steps_back_leaves_it_to_the_other(self) -> None:
        """A wall clock set back makes no token younger than the monotonic clock says."""
        token = AccessToken("a", SOURCE, 3600.0)

        assert token.is_fresh(Instant(SOURCE.wall - 86_400, SOURCE.monotonic + 3299))
        assert not token.is_fresh(Instant(SOURCE.wall - 86_400, SOURCE.monotonic + 3300))

    def test_repr_shows_no_token(self) -> None:
        """What a debugger or a careless log prints has no token in it."""
        assert CANARY not in repr(AccessToken(CANARY, SOURCE, 1.0)) + str(AccessToken(CANARY, SOURCE, 1.0))


class TestCache:
    """``TokenCache``: one token, used until it is no longer fresh."""

    def test_a_fresh_token_is_used_again(self) -> None:
        """The token endpoint is asked once, and not before a token is wanted."""
        case = CacheCase(always=numbered())
        assert case.fetches == 0

        first = case.get()
        case.clock.advance(3299.999)

        assert case.get() is first
        assert case.fetches == 1

    @pytest.mark.parametrize("passing", ["advance", "freeze", "step_wall"])
    def test_an_old_token_is_replaced(self, passing: str) -> None:
        """Time that passed on either clock ends a token: a frozen environment of two hours cannot hide it."""
        case = CacheCase(always=numbered())
        case.get()

        getattr(case.clock, passing)(7200)

        assert case.get().value == "token-2"
        assert case.get().value == "token-2"
        assert case.fetches == 2

    def test_a_wall_clock_that_steps_back_does_not_keep_it(self) -> None:
        """After a step back the monotonic clock ends the token in time."""
        case = CacheCase(always=numbered())
        case.get()

        case.clock.step_wall(-86_400)
        case.clock.advance(3299)
        assert case.get().value == "token-1"
        case.clock.advance(1)

        assert case.get().value == "token-2"

    def test_a_clock_near_zero_is_not_never(self) -> None:
        """Just after boot, with clocks near zero, the first token is fetched, and only once."""
        case = CacheCase(always=numbered())
        case.clock.step_wall(-case.clock.now().wall)

        first = case.get()

        assert case.clock.now() == Instant(0.0, 0.0)
        assert case.get() is first
        assert case.fetches == 1

    def test_the_life_counts_from_before_the_request(self) -> None:
        """A token endpoint that takes a minute to answer shortens what is left of the token by that."""

        def slow(_request: Request) -> Response:
            case.clock.advance(60)
            return token_response("slow")

        case = CacheCase(slow, numbered())
        assert case.get().value == "slow"

        case.clock.advance(3239)
        assert case.get().value == "slow"
        case.clock.advance(1)

        assert case.get().value == "token-1"

    def test_a_token_that_was_old_at_its_arrival_is_used_once(self) -> None:
        """A life shorter than the request took gives each caller a token of its own, and no endless loop."""

        def slow(_request: Request) -> Response:
            case.clock.advance(5)
            return token_response(expires_in=1)

        case = CacheCase(slow, slow)

        case.get()
        case.get()

        assert case.fetches == 2

    def test_a_token_belongs_to_its_credentials(self) -> None:
        """Other credentials get a token of their own, equal ones the same."""
        case = CacheCase(always=numbered())
        old, new = credentials(), credentials(clientSecret=OTHER)

        assert case.get(old) is case.get(credentials())
        assert case.get(new).value == "token-2"
        assert case.get(new).value == "token-2"
        assert case.get(old).value == "token-3"

    def test_invalidate_forgets_the_token_that_was_used(self) -> None:
        """A refused token is not given again."""
        case = CacheCase(always=numbered())

        case.cache.invalidate(case.get())

        assert case.get().value == "token-2"

    def test_invalidate_spares_a_newer_token(self) -> None:
        """Who comes late with the old token does not take the new one from the others."""
        case = CacheCase(always=numbered())
        old = case.get()
        case.cache.invalidate(old)
        new = case.get()

        case.cache.invalidate(old)

        assert case.get() is new
        assert case.fetches == 2

    def test_tokens_are_told_apart_by_identity(self) -> None:
        """An endpoint that gives the same token again does not let the old one's refusal hit the new one."""
        case = CacheCase(always=token_response("same"))
        old = case.get()
        case.cache.invalidate(old)
        new = case.get()
        assert old == new

        case.cache.invalidate(old)

        assert case.get() is new

    def test_clear_forgets(self) -> None:
        """After a restore no token of before is used, and no refusal."""
        case = CacheCase(token_response("before"), REFUSED, token_response("after"))
        case.get()
        case.cache.clear()
        case.refusal()

        case.cache.clear()

        assert case.get().value == "after"

    def test_a_token_survives_no_failed_renewal(self) -> None:
        """Once a token is old and the new one is refused, the old one is not given out."""
        case = CacheCase(token_response("old"), REFUSED, token_response("new"))
        case.get()
        case.clock.advance(3300)

        case.refusal()
        case.clock.advance(REFUSAL_SECONDS)

        assert case.get().value == "new"


class TestFailures:
    """What the cache does when no token is to be had."""

    @pytest.mark.parametrize(
        ("passed", "fetches"),
        [(0.0, 1), (1.0, 1), (59.999, 1), (REFUSAL_SECONDS, 2), (61.0, 2)],
        ids=str,
    )
    def test_a_refusal_is_remembered_for_a_minute(self, passed: float, fetches: int) -> None:
        """Refused credentials are not tried again within a minute, only then."""
        case = CacheCase(always=REFUSED)
        first = case.refusal()

        case.clock.advance(passed)
        second = case.refusal()

        assert case.fetches == fetches
        assert case.clock.sleeps == []
        assert second is not first
        assert (second.reason, second.detail, second.status) == ("unauthorized", REFUSED_TEXT, 401)

    @pytest.mark.parametrize("answer", [REFUSED, Response(503, b"")], ids=["refused", "unavailable"])
    def test_what_is_remembered_keeps_no_frames(self, answer: Answer) -> None:
        """The error that was raised, with its traceback and all that the frames held, is gone once dealt with."""
        case = CacheCase(always=answer)
        error = weakref.ref(case.refusal())

        gc.collect()

        assert error() is None
        assert case.refusal()

    @pytest.mark.parametrize("how", ["freeze", "step_back"])
    def test_a_refusal_ends_by_either_clock(self, how: str) -> None:
        """Neither a freeze nor a wall clock set back keeps a refusal alive."""
        case = CacheCase(REFUSED, token_response())
        case.refusal()

        if how == "freeze":
            case.clock.freeze(REFUSAL_SECONDS)
        else:
            case.clock.step_wall(-86_400)
            case.clock.advance(REFUSAL_SECONDS)

        assert case.get().value == "token-1"

    def test_a_refusal_ends_when_the_wall_clock_steps_back(self) -> None:
        """A freeze and a step back together could stop both clocks: the step alone ends what is remembered."""
        case = CacheCase(REFUSED, token_response())
        case.refusal()

        case.clock.step_wall(-0.5)

        assert case.get().value == "token-1"

    def test_a_refusal_belongs_to_its_credentials(self) -> None:
        """Other credentials are tried at once: the secret may have been put right."""
        case = CacheCase(REFUSED, token_response("good"))
        case.refusal(credentials())

        assert case.get(credentials(clientSecret=OTHER)).value == "good"

    def test_a_success_ends_a_refusal(self) -> None:
        """Once other credentials have succeeded, the first ones are asked about anew, not from memory."""
        case = CacheCase(REFUSED, token_response("good"), token_response("again"))
        case.refusal(credentials())
        case.get(credentials(clientSecret=OTHER))

        assert case.get(credentials()).value == "again"

    def test_a_misconfiguration_is_remembered_as_well(self) -> None:
        """A redirect will be there the next time too."""
        case = CacheCase(always=Response(302, b""))

        assert case.refusal().reason == case.refusal().reason == "misconfigured"

        assert case.fetches == 1

    def test_a_bad_credential_and_a_batch_make_one_call(self) -> None:
        """Ten threads with refused credentials make one token call, and each gets an error of its own."""
        case = CacheCase(always=REFUSED)

        results = in_threads(10, lambda _: case.get())

        assert case.fetches == 1
        assert {str(result) for result in results} == {REFUSED_TEXT}
        assert len({id(result) for result in results}) == 10

    @pytest.mark.parametrize("status", sorted(TEMPORARY))
    def test_a_temporary_failure_is_tried_three_times(self, status: int) -> None:
        """Throttled or unavailable: three attempts, then the batch is deferred, for it is not one call that failed."""
        case = CacheCase(always=Response(status, b"", None))

        error = case.refusal()

        assert case.fetches == 3
        assert len(case.clock.sleeps) == 2
        assert (error.reason, error.status) == (TEMPORARY[status], status)
        assert str(error) == f"no token: the token endpoint answered {status}"
        assert error.__cause__ is None
        assert error.__suppress_context__

    @pytest.mark.parametrize("failures", [1, 2])
    def test_a_temporary_failure_may_pass(self, failures: int) -> None:
        """A second or third attempt that works gives the token."""
        case = CacheCase(*[Response(503, b"")] * failures, token_response("late"))

        assert case.get().value == "late"

        assert case.transport.unused == 0

    def test_a_lost_connection_is_tried_three_times(self) -> None:
        """No answer at all is as temporary as a 503."""
        case = CacheCase(always=TemporaryError("unavailable", "no answer in time"))

        assert str(case.refusal()) == "no token: no answer in time"
        assert case.fetches == 3

    def test_a_long_retry_after_is_handed_on(self) -> None:
        """A wait that cannot be afforded ends the attempts and reaches the queue."""
        case = CacheCase(always=Response(429, b"", "120"))

        error = case.refusal()

        assert (error.reason, error.retry_after) == ("rate_limited", 120.0)
        assert case.fetches == 1
        assert case.counts["Throttles"] == 1

    @pytest.mark.parametrize(
        ("passed", "fetches"), [(0.0, 3), (0.999, 3), (SHARED_FAILURE_SECONDS, 4), (5.0, 4)], ids=str
    )
    def test_a_temporary_failure_is_shared_for_a_second(self, passed: float, fetches: int) -> None:
        """Threads that queued up share the failure; a second later it is tried anew."""
        case = CacheCase(*[Response(503, b"")] * 3, token_response("later"))
        case.refusal()

        case.clock.advance(passed)
        if fetches == 3:
            assert str(case.refusal()) == "no token: the token endpoint answered 503"
        else:
            assert case.get().value == "later"

        assert case.fetches == fetches

    def test_many_threads_share_a_temporary_failure(self) -> None:
        """An outage of the token endpoint costs a batch three calls, not three for each message."""
        case = CacheCase(always=Response(503, b""))

        results = in_threads(10, lambda _: case.get())

        assert case.fetches == 3
        assert {type(result) for result in results} == {AccessError}

    def test_the_memory_counts_from_the_end_of_the_failure(self) -> None:
        """Threads that waited through slow attempts share the failure, however long they took."""

        def slow(_request: Request) -> Response:
            case.clock.advance(100)
            return REFUSED

        case = CacheCase(slow)
        case.refusal()

        assert str(case.refusal()) == REFUSED_TEXT

    def test_the_second_of_an_outage_counts_from_its_end(self) -> None:
        """Threads that waited through three slow attempts share the failure as well."""

        def lost(_request: Request) -> Response:
            case.clock.advance(5)
            raise TemporaryError("unavailable", "no answer in time")

        case = CacheCase(lost, lost, lost)
        case.refusal()

        assert str(case.refusal()) == "no token: no answer in time"

    def test_being_out_of_time_is_remembered_by_nobody(self) -> None:
        """One caller's deadline says nothing about the next one's."""
        case = CacheCase(token_response("in-time"))

        with pytest.raises(OutOfTimeError):
            case.get(seconds=0.1)

        assert case.get().value == "in-time"

    def test_out_of_time_between_attempts_ends_them(self) -> None:
        """A failure that left no time for another attempt is raised, and no attempt goes beyond the deadline."""

        def slow(_request: Request) -> Response:
            case.clock.advance(9.9)
            return Response(503, b"")

        case = CacheCase(slow)

        with pytest.raises(AccessError) as raised:
            case.get(seconds=10)

        assert (raised.value.reason, case.fetches) == ("unavailable", 1)

    @pytest.mark.parametrize(
        "response",
        [
            REFUSED,
            json_response(400, {"error": CANARY, "error_description": CANARY}),
            json_response(200, {"error": CANARY, "access_token": CANARY}),
            json_response(200, {"access_token": CANARY, "token_type": CANARY}),
            json_response(200, {"access_token": f"{CANARY}\n", "token_type": "Bearer"}),
            Response(200, CANARY.encode()),
            Response(503, CANARY.encode(), CANARY),
            Response(302, CANARY.encode()),
            TemporaryError("unavailable", "no answer in time"),
        ],
        ids=["401", "400", "200-error", "200-type", "200-token", "200-junk", "503", "302", "lost"],
    )
    def test_no_failure_shows_a_secret_or_an_answer(self, response: Answer) -> None:
        """Neither the client secret nor anything of the answer's body is in the error or its chain."""
        error = CacheCase(always=response).refusal()

        assert CANARY not in texts_of(error)


class TestThreads:
    """Many threads at once."""

    def test_many_threads_make_one_fetch(self) -> None:
        """Threads that come together without a token share one request."""
        case = CacheCase(always=numbered())

        results = in_threads(16, lambda _: case.get())

        assert case.fetches == 1
        assert all(result is results[0] for result in results)

    def test_threads_wait_for_a_slow_fetch(self) -> None:
        """While one thread fetches, a second waits for it and sends nothing."""
        sending, go_on = threading.Event(), threading.Event()

        def slow(_request: Request) -> Response:
            sending.set()
            assert go_on.wait(PATIENCE_SECONDS)
            return token_response()

        case = CacheCase(slow)
        results: list[AccessToken] = []
        threads = [threading.Thread(target=lambda: results.append(case.get()), daemon=True) for _ in range(2)]
        for thread in threads:
            thread.start()
        assert sending.wait(PATIENCE_SECONDS)
        assert results == []
        go_on.set()
        for thread in threads:
            thread.join(PATIENCE_SECONDS)

        assert len(results) == 2
        assert case.fetches == 1

    def test_a_refusal_for_all_makes_one_fetch(self) -> None:
        """Sixteen threads whose common token was refused invalidate it and share one new token."""
        case = CacheCase(always=numbered())
        old = case.get()

        def renew(_index: int) -> AccessToken:
            case.cache.invalidate(old)
            return case.get()

        results = in_threads(16, renew)

        assert case.fetches == 2
        assert {result.value for result in results if isinstance(result, AccessToken)} == {"token-2"}


def test_the_bounds_are_the_documented_ones() -> None:
    """A margin of five minutes, a default life of five minutes, a day at most, a refusal for one minute."""
    assert (EXPIRY_MARGIN_SECONDS, DEFAULT_LIFETIME_SECONDS, MAX_LIFETIME_SECONDS, REFUSAL_SECONDS) == (
        300.0,
        300.0,
        86_400.0,
        60.0,
    )
