"""Authorization: what a request is sent with, and how it is renewed after a 401 and through a rotation."""

import base64
import threading

import pytest

from completion_sync.authorization import Authorizer
from completion_sync.clock import Deadline
from completion_sync.credentials import CredentialsCache
from completion_sync.errors import AccessError, OutOfTimeError
from completion_sync.retry import RetryPolicy
from completion_sync.tokens import REFUSAL_SECONDS, ClientCredentialsFlow, TokenCache
from completion_sync.transport import Response
from tests.support.fakes import (
    TENANT,
    Counts,
    FakeClock,
    FakeSecretsManager,
    FakeTransport,
    client_error,
    far_deadline,
    holds_any,
    in_threads,
    json_response,
    pressure,
    secret_text,
    token_response,
)

OLD, NEW, NEWER = "old-7f3a9c", "new-51b08d", "newer-22e1"
MAX_AGE = 300.0
REFUSED_BY_API = "Thrive answered 401: check the credentials"
REFUSED_BY_ENDPOINT = "the token endpoint answered 401 invalid_client: check the credentials and the scope"


class Thrive:
    """A token endpoint and an API that know which client secrets and tokens are valid at the moment."""

    def __init__(self, *valid):
        self.valid = set(valid)
        self.revoked = set()
        self.secrets = {}
        self._lock = threading.Lock()

    def token(self, request):
        [secret] = request.form["client_secret"]
        if secret not in self.valid:
            return json_response(401, {"error": "invalid_client"})
        with self._lock:
            token = f"token-{len(self.secrets) + 1}"
            self.secrets[token] = secret
        return token_response(token)

    def revoke(self, secret, *, tokens=True):
        self.valid.discard(secret)
        if tokens:
            self.revoked |= {token for token, owner in self.secrets.items() if owner == secret}

    def accepts(self, header):
        scheme, _, value = header.partition(" ")
        if scheme == "Basic":
            return base64.b64decode(value).decode().partition(":")[2] in self.valid
        return value in self.secrets and value not in self.revoked


class Case:
    """An authorizer over real caches, with fakes at the edges. The secret holds OLD."""

    def __init__(self, *valid, **secret):
        self.clock = FakeClock()
        self.counts = Counts()
        self.thrive = Thrive(*(valid or (OLD,)))
        self.transport = FakeTransport(always=self.thrive.token)
        self.manager = FakeSecretsManager(secret_text(clientSecret=OLD, **secret))
        self._secret = secret
        self.cache = CredentialsCache("learning/thrive", self.manager.client, MAX_AGE, self.clock, self.counts)
        flow = ClientCredentialsFlow(self.transport, "", 10.0, self.clock, self.counts)
        token_requests = pressure(self.clock, subjects_of_an_outage=1)
        self.tokens = TokenCache(flow, RetryPolicy(self.clock), token_requests, self.clock)
        self.authorizer = Authorizer(self.cache, self.tokens, self.counts)

    def promote(self, value=NEW, **changes):
        self.manager.rotate(secret_text(clientSecret=value, **(self._secret | changes)))

    def grant(self):
        return self.authorizer.grant(far_deadline(self.clock))

    def renew(self, refused):
        return self.authorizer.renew(refused, far_deadline(self.clock))

    def send(self):
        """Send one request, renewed while the API answers 401, and return the grant that it accepted."""
        grant = self.grant()
        for _ in range(3):
            if self.thrive.accepts(grant.header):
                return grant
            grant = self.renew(grant)
        raise AssertionError("three renewals for one request are more than there can be")

    def failure(self, call=None):
        with pytest.raises(AccessError) as raised:
            (call or self.send)()
        return raised.value

    @property
    def calls(self):
        """The number of token requests and of secret reads."""
        return len(self.transport.requests), self.manager.reads


def secret_of(grant):
    return grant.reading.credentials.client_secret


def basic(header):
    scheme, _, value = header.partition(" ")
    assert scheme == "Basic"
    return base64.b64decode(value).decode()


# --- A first attempt ---


def test_oauth2_sends_a_bearer_token_and_caches_it():
    case = Case()
    grant = case.grant()
    assert (grant.header, grant.renewals) == ("Bearer token-1", 0)
    assert grant.token is case.tokens.get(grant.reading.credentials, far_deadline(case.clock))
    assert case.grant() == grant
    assert case.calls == (1, 1)


def test_basic_sends_tenant_id_and_secret_without_a_token():
    case = Case(authMethod="basic", clientId="client-1")
    grant = case.grant()
    assert basic(grant.header) == f"{TENANT}:{OLD}"
    assert (grant.token, grant.renewals) == (None, 0)
    assert case.calls == (0, 1)


@pytest.mark.parametrize("method", ["oauth2", "basic"])
def test_repr_shows_neither_header_nor_secret(method):
    grant = Case(authMethod=method).grant()
    assert not holds_any(repr(grant), [grant.header, grant.header.partition(" ")[2], OLD, TENANT])


def test_the_deadline_reaches_the_token_request():
    case = Case()
    refused = case.grant()
    with pytest.raises(OutOfTimeError):
        case.authorizer.renew(refused, Deadline(case.clock, 0.1))
    with pytest.raises(OutOfTimeError):
        case.authorizer.grant(Deadline(case.clock, 0.1))


@pytest.mark.parametrize(
    ("response", "reason"),
    [
        (Response(503, b""), "unavailable"),
        (Response(429, b"", "60"), "rate_limited"),
        (Response(302, b""), "misconfigured"),
    ],
    ids=["503", "429", "302"],
)
def test_only_refused_credentials_lead_to_another_read(response, reason):
    case = Case()
    case.transport.then(response, response)
    assert case.failure().reason == reason
    assert case.manager.reads == 1


@pytest.mark.parametrize("method", ["oauth2", "basic"])
def test_credentials_that_the_token_endpoint_refuses_are_read_again(method):
    case = Case(NEW)
    case.cache.get()
    case.promote(authMethod=method)
    grant = case.grant()
    assert (secret_of(grant), grant.renewals) == (NEW, 0)
    assert grant.header.startswith("Bearer token-1" if method == "oauth2" else "Basic ")
    assert case.calls == (2 if method == "oauth2" else 1, 2)


@pytest.mark.parametrize("promoted", [OLD, NEW])
def test_refused_credentials_stay_refused_if_the_secret_holds_no_better_ones(promoted):
    case = Case("neither")
    case.cache.get()
    case.promote(promoted)
    error = case.failure()
    assert (error.reason, error.status, str(error)) == ("unauthorized", 401, REFUSED_BY_ENDPOINT)
    requests = 1 if promoted == OLD else 2
    assert case.calls == (requests, 2)
    assert case.counts["AuthFailures"] == requests


@pytest.mark.parametrize(
    ("code", "status", "reason"),
    [("ResourceNotFoundException", 400, "misconfigured"), ("InternalServiceError", 500, "unauthorized")],
)
def test_if_the_secret_cannot_be_read_again_the_cause_to_be_fixed_is_raised(code, status, reason):
    case = Case(NEW)
    case.cache.get()
    case.manager.failure = client_error(code, status)
    assert case.failure().reason == reason


# --- After a 401 ---


def test_first_a_new_token_then_the_new_secret_then_nothing():
    case = Case(OLD, NEW, NEWER)
    grant = case.grant()
    case.promote()

    first = case.renew(grant)
    assert (first.header, secret_of(first), first.renewals, case.calls) == ("Bearer token-2", OLD, 1, (2, 1))
    second = case.renew(first)
    assert (second.header, secret_of(second), second.renewals, case.calls) == ("Bearer token-3", NEW, 2, (3, 2))
    case.promote(NEWER)
    assert case.counts["AuthFailures"] == 0
    error = case.failure(lambda: case.renew(second))

    assert (error.reason, str(error), error.status) == ("unauthorized", REFUSED_BY_API, 401)
    assert case.calls == (3, 2)
    assert case.counts["AuthFailures"] == 1


def test_a_new_token_and_an_unchanged_secret_leave_nothing_to_try():
    case = Case()
    refused = case.renew(case.grant())
    assert str(case.failure(lambda: case.renew(refused))) == REFUSED_BY_API
    assert case.counts["AuthFailures"] == 1
    assert case.calls == (2, 2)
    # The refused token is not used again.
    assert case.grant().header == "Bearer token-3"


def test_basic_reads_the_secret_at_the_first_401_and_ends_at_the_second():
    case = Case(OLD, NEW, NEWER, authMethod="basic")
    grant = case.grant()
    case.promote()
    renewed = case.renew(grant)
    case.promote(NEWER)
    assert (basic(renewed.header), renewed.renewals) == (f"{TENANT}:{NEW}", 2)
    assert str(case.failure(lambda: case.renew(renewed))) == REFUSED_BY_API
    assert case.calls == (0, 2)


def test_the_scheme_may_change_at_a_renewal():
    case, back = Case(OLD, NEW), Case(OLD, NEW, authMethod="basic")
    oauth, grant = case.renew(case.grant()), back.grant()
    case.promote(authMethod="basic")
    back.promote(authMethod="oauth2")
    renewed = case.renew(oauth)
    assert (basic(renewed.header), renewed.token) == (f"{TENANT}:{NEW}", None)
    assert back.renew(grant).header == "Bearer token-1"


def test_a_late_renewal_takes_what_another_thread_has_renewed():
    case = Case(OLD, NEW)
    refused = case.grant()
    first = case.renew(refused)
    assert case.renew(refused).token is first.token
    assert case.calls == (2, 1)
    case.promote()
    second = case.renew(first)
    assert case.renew(first).token is second.token
    assert case.renew(refused).token is second.token
    assert case.calls == (3, 2)


@pytest.mark.parametrize("method", ["oauth2", "basic"])
def test_threads_that_meet_nothing_but_401_make_a_bounded_number_of_calls(method):
    case = Case(authMethod=method)
    first = case.grant()

    def send(_index):
        grant = first
        while True:
            grant = case.renew(grant)

    results = in_threads(16, send)

    assert {str(result) for result in results} == {REFUSED_BY_API}
    fetches, reads = case.calls
    # The unchanged secret is read once for all. A thread that comes late finds the common new token invalidated by the
    # others, and fetches one of its own: at most one for each thread.
    assert reads == 2
    assert 0 <= fetches - 2 <= 15 if method == "oauth2" else fetches == 0


# --- Rotations: the old secret is revoked before or after the new one is promoted ---


@pytest.mark.parametrize("method", ["oauth2", "basic"])
def test_revoked_after_promotion_costs_no_message(method):
    case = Case(OLD, NEW, authMethod=method)
    case.send()
    case.promote()
    assert secret_of(case.send()) == OLD

    case.thrive.revoke(OLD)

    grant = case.send()
    assert (secret_of(grant), grant.renewals) == (NEW, 1 if method == "oauth2" else 2)
    assert case.send().renewals == 0
    # The token endpoint's refusal of the old secret.
    assert case.counts["AuthFailures"] == (1 if method == "oauth2" else 0)


def test_old_tokens_that_stay_valid_are_used_until_the_secret_s_age_brings_the_new_one():
    case = Case(OLD, NEW)
    case.send()
    case.promote()
    case.thrive.revoke(OLD, tokens=False)
    assert case.send().header == "Bearer token-1"
    case.clock.advance(MAX_AGE)
    assert secret_of(case.send()) == NEW
    assert case.counts["AuthFailures"] == 0


@pytest.mark.parametrize("method", ["oauth2", "basic"])
def test_revoked_before_promotion_defers_until_promotion(method):
    case = Case(OLD, NEW, authMethod=method)
    case.send()
    case.thrive.revoke(OLD)
    assert case.failure().reason == "unauthorized"
    requests = len(case.transport.requests)
    assert case.failure().reason == "unauthorized"
    assert len(case.transport.requests) == requests
    case.promote()
    assert secret_of(case.send()) == NEW


def test_promoted_before_thrive_knows_it_defers_and_is_tried_once_a_minute():
    case = Case(OLD)
    case.send()
    case.promote()
    case.thrive.revoke(OLD)
    assert case.failure().reason == "unauthorized"
    case.thrive.valid.add(NEW)
    assert case.failure().reason == "unauthorized"
    case.clock.advance(REFUSAL_SECONDS)
    assert secret_of(case.send()) == NEW


@pytest.mark.parametrize("passing", ["advance", "freeze"])
def test_a_rotation_is_picked_up_by_age_without_any_401(passing):
    case = Case(OLD, NEW)
    case.send()
    case.promote()
    if passing == "freeze":
        case.thrive.revoke(OLD)

    getattr(case.clock, passing)(MAX_AGE)

    grant = case.send()
    assert (secret_of(grant), grant.renewals) == (NEW, 0)
    assert case.calls == (2, 2)
    assert case.counts["AuthFailures"] == 0


def test_a_rotation_during_an_outage_of_secrets_manager_is_found_afterwards():
    case = Case(OLD, NEW)
    case.send()
    case.promote()
    case.manager.failure = client_error("ThrottlingException")
    case.thrive.revoke(OLD)
    assert case.failure().reason == "unauthorized"
    case.manager.failure = None
    case.clock.advance(1)
    assert secret_of(case.send()) == NEW


def test_a_secret_refused_while_the_token_is_due_costs_no_message():
    case = Case(OLD, NEW)
    case.send()
    case.thrive.revoke(OLD, tokens=False)
    case.clock.advance(3400)
    assert case.send().header == "Bearer token-1"
    case.promote()
    case.clock.advance(200)
    assert secret_of(case.send()) == NEW
