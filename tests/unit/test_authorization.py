"""Authorization: what a request is sent with, and how it is renewed after a 401 and through a rotation."""

from __future__ import annotations

import base64
import threading

import pytest

from completion_sync.authorization import Authorizer, Grant
from completion_sync.clock import Deadline
from completion_sync.credentials import Credentials, CredentialsCache
from completion_sync.errors import AccessError, OutOfTimeError
from completion_sync.retry import RetryPolicy
from completion_sync.tokens import REFUSAL_SECONDS, ClientCredentialsFlow, TokenCache
from completion_sync.transport import Response
from tests.support.fakes import (
    CANARY,
    TENANT,
    Counts,
    FakeClock,
    FakeSecretsManager,
    FakeTransport,
    Request,
    client_error,
    credentials,
    far_deadline,
    in_threads,
    json_response,
    secret_text,
    texts_of,
    token_response,
)

OLD, NEW = "old-7f3a9c", "new-51b08d"
MAX_AGE = 300.0
CHECK_TEXT = "Thrive answered 401: check the credentials"


class Thrive:
    """A token endpoint and an API that know which client secrets and tokens are good at the moment."""

    def __init__(self, *good: str) -> None:
        self.good = set(good)
        self.revoked: set[str] = set()
        self.tokens: dict[str, str] = {}
        self._lock = threading.Lock()

    def token(self, request: Request) -> Response:
        """Answer a token request."""
        [secret] = request.form["client_secret"]
        if secret not in self.good:
            return json_response(401, {"error": "invalid_client"})
        with self._lock:
            token = f"token-{len(self.tokens) + 1}"
            self.tokens[token] = secret
        return token_response(token)

    def revoke(self, secret: str, *, tokens: bool) -> None:
        """Take a client secret back, and with it the tokens that it gave."""
        self.good.discard(secret)
        if tokens:
            self.revoked |= {token for token, of in self.tokens.items() if of == secret}

    def accepts(self, header: str) -> bool:
        """Tell whether the API takes a request with this header, or answers 401."""
        scheme, _, value = header.partition(" ")
        if scheme == "Basic":
            return base64.b64decode(value).decode().partition(":")[2] in self.good
        return value in self.tokens and value not in self.revoked


class Case:
    """An authorizer over real caches and fakes at the edges."""

    def __init__(self, *good: str, **secret: object) -> None:
        self.clock = FakeClock()
        self.counts = Counts()
        self.thrive = Thrive(*(good or (OLD,)))
        self.transport = FakeTransport(always=self.thrive.token)
        self.manager = FakeSecretsManager(secret_text(clientSecret=OLD, **secret))
        self._secret = secret
        self.cache = CredentialsCache("learning/thrive", self.manager.client, MAX_AGE, self.clock, self.counts)
        flow = ClientCredentialsFlow(self.transport, "", 10.0, self.clock, self.counts)  # type: ignore[arg-type]
        self.tokens = TokenCache(flow, RetryPolicy(self.clock), self.clock)
        self.authorizer = Authorizer(self.cache, self.tokens, self.counts)

    def promote(self, value: str) -> None:
        """Make another client secret the current one."""
        self.manager.rotate(secret_text(clientSecret=value, **self._secret))

    def grant(self) -> Grant:
        """Take what a first attempt is sent with."""
        return self.authorizer.grant(far_deadline(self.clock))

    def renew(self, refused: Grant) -> Grant:
        """Take what an attempt after a 401 is sent with."""
        return self.authorizer.renew(refused, far_deadline(self.clock))

    def send(self) -> Grant:
        """Send one message, as the client does: renewed as long as the API answers 401. Give what it was sent with."""
        grant = self.grant()
        for _ in range(3):
            if self.thrive.accepts(grant.header):
                return grant
            grant = self.renew(grant)
        raise AssertionError("three renewals for one message are more than there can be")

    def refusal(self) -> AccessError:
        """Give the error that sending ends in."""
        with pytest.raises(AccessError) as raised:
            self.send()
        return raised.value

    @property
    def calls(self) -> tuple[int, int]:
        """How many token requests and how many secret reads there were."""
        return len(self.transport.requests), self.manager.reads


def with_secret(value: str) -> Credentials:
    """Give credentials with this client secret."""
    return credentials(clientSecret=value)


class TestGrant:
    """What a first attempt is sent with."""

    def test_oauth_sends_a_bearer_token(self) -> None:
        """By default the header holds a token of the token endpoint."""
        case = Case()

        grant = case.grant()

        assert grant == Grant("Bearer token-1", with_secret(OLD), grant.token, 0)
        assert grant.token is case.tokens.get(with_secret(OLD), far_deadline(case.clock))

    def test_basic_sends_tenant_and_secret(self) -> None:
        """With authMethod basic the header holds the tenant id and the secret, and no token is asked for."""
        case = Case(authMethod="basic", clientId="client-1")

        grant = case.grant()

        assert base64.b64decode(grant.header.removeprefix("Basic ")) == f"{TENANT}:{OLD}".encode()
        assert (grant.token, grant.renewals) == (None, 0)
        assert case.calls == (0, 1)

    def test_token_and_secret_are_cached(self) -> None:
        """A second request needs neither the token endpoint nor Secrets Manager."""
        case = Case()

        assert case.grant() == case.grant()

        assert case.calls == (1, 1)

    def test_repr_shows_neither_header_nor_token(self) -> None:
        """A grant in a log or a traceback shows nothing that could be used."""
        for case in (Case(), Case(authMethod="basic")):
            grant = case.grant()

            assert grant.header not in repr(grant)
            assert grant.header.partition(" ")[2] not in repr(grant)
            assert OLD not in repr(grant)
            assert TENANT not in repr(grant)

    def test_without_time_for_a_token_it_is_out_of_time(self) -> None:
        """The deadline reaches the token endpoint's caller."""
        case = Case()

        with pytest.raises(OutOfTimeError):
            case.authorizer.grant(Deadline(case.clock, 0.1))

    def test_a_failed_secret_read_passes(self) -> None:
        """Without credentials there is nothing to send."""
        case = Case()
        case.manager.failure = client_error("AccessDeniedException")

        with pytest.raises(AccessError) as raised:
            case.grant()

        assert raised.value.reason == "misconfigured"
        assert case.calls == (0, 1)

    @pytest.mark.parametrize(
        ("response", "reason"),
        [
            (Response(503, b""), "unavailable"),
            (Response(429, b"", "60"), "rate_limited"),
            (Response(302, b""), "misconfigured"),
        ],
        ids=["503", "429", "302"],
    )
    def test_only_refused_credentials_lead_to_a_reread(self, response: Response, reason: str) -> None:
        """An outage or a wrong set-up of the token endpoint says nothing about the secret."""
        case = Case()
        case.transport.then(response, response, response)

        with pytest.raises(AccessError) as raised:
            case.grant()

        assert raised.value.reason == reason
        assert case.manager.reads == 1

    def test_refused_credentials_lead_to_one_reread(self) -> None:
        """Where the token endpoint refuses what is cached and the secret has changed, the new one is used at once."""
        case = Case(NEW)
        case.cache.get()
        case.promote(NEW)

        grant = case.grant()

        assert (grant.credentials, grant.header, grant.renewals) == (with_secret(NEW), "Bearer token-1", 0)
        assert case.calls == (2, 2)

    def test_refused_and_unchanged_is_said_in_the_endpoint_s_words(self) -> None:
        """Where the secret is unchanged, the refusal stands; it costs one token request and one forced read."""
        case = Case(NEW)

        error = case.refusal()

        assert (error.reason, error.status) == ("unauthorized", 401)
        assert str(error) == "the token endpoint answered 401 invalid_client: check the credentials and the scope"
        assert case.calls == (1, 2)
        assert case.counts["AuthFailures"] == 1

    def test_a_changed_secret_that_is_refused_too_ends_it(self) -> None:
        """Two refusals in a row are raised: there is no third secret to try."""
        case = Case("neither")
        case.cache.get()
        case.promote(NEW)

        error = case.refusal()

        assert error.reason == "unauthorized"
        assert case.calls == (2, 2)

    def test_a_secret_put_right_within_the_minute_is_found(self) -> None:
        """A remembered refusal does not keep a corrected secret out."""
        case = Case(NEW)
        case.refusal()
        case.promote(NEW)

        assert case.send().credentials == with_secret(NEW)

    def test_a_reread_secret_may_change_the_scheme(self) -> None:
        """Whoever puts authMethod basic into a refused secret has the very next request sent so."""
        case = Case(NEW)
        case.cache.get()
        case.manager.rotate(secret_text(clientSecret=NEW, authMethod="basic"))

        grant = case.send()

        assert grant.header.startswith("Basic ")
        assert grant.token is None
        assert len(case.transport.requests) == 1

    def test_a_failed_reread_is_what_is_raised(self) -> None:
        """Refused credentials and a secret that can no longer be read: the latter is what must be put right."""
        case = Case(NEW)
        case.cache.get()
        case.manager.failure = client_error("ResourceNotFoundException")

        error = case.refusal()

        assert error.reason == "misconfigured"

    def test_refused_during_an_outage_of_secrets_manager(self) -> None:
        """Nothing new can be learned: the refusal stands."""
        case = Case(NEW)
        case.cache.get()
        case.manager.failure = client_error("InternalServiceError", 500)

        assert case.refusal().reason == "unauthorized"


class TestRenewal:
    """After a 401: a fresh token, then a fresh secret, then no more."""

    def test_the_first_401_fetches_a_token(self) -> None:
        """A token that Thrive no longer takes is replaced by one of the same credentials."""
        case = Case()
        refused = case.grant()

        renewed = case.renew(refused)

        assert (renewed.header, renewed.credentials, renewed.renewals) == ("Bearer token-2", refused.credentials, 1)
        assert case.calls == (2, 1)
        assert case.counts["AuthFailures"] == 0

    def test_the_second_401_reads_the_secret(self) -> None:
        """A fresh token that is refused as well points at the secret: the new one's token is taken."""
        case = Case(OLD, NEW)
        refused = case.renew(case.grant())
        case.promote(NEW)

        renewed = case.renew(refused)

        assert (renewed.header, renewed.credentials, renewed.renewals) == ("Bearer token-3", with_secret(NEW), 2)
        assert case.calls == (3, 2)

    def test_the_second_401_with_an_unchanged_secret_ends_it(self) -> None:
        """A fresh token and an unchanged secret leave nothing to try; the token is not given out again."""
        case = Case()
        refused = case.renew(case.grant())

        with pytest.raises(AccessError) as raised:
            case.renew(refused)

        assert (raised.value.reason, str(raised.value), raised.value.status) == ("unauthorized", CHECK_TEXT, 401)
        assert case.counts["AuthFailures"] == 1
        assert case.calls == (2, 2)
        assert case.grant().header == "Bearer token-3"

    def test_the_third_401_ends_it(self) -> None:
        """After a fresh token and a fresh secret nothing is read or asked any more."""
        case = Case(OLD, NEW, "newer")
        refused = case.renew(case.grant())
        case.promote(NEW)
        refused = case.renew(refused)
        case.promote("newer")

        with pytest.raises(AccessError, match=CHECK_TEXT):
            case.renew(refused)

        assert case.calls == (3, 2)
        assert case.counts["AuthFailures"] == 1

    def test_basic_reads_the_secret_at_the_first_401(self) -> None:
        """With HTTP Basic there is no token to renew: the secret is read at once."""
        case = Case(OLD, NEW, authMethod="basic")
        refused = case.grant()
        case.promote(NEW)

        renewed = case.renew(refused)

        assert base64.b64decode(renewed.header.removeprefix("Basic ")).decode() == f"{TENANT}:{NEW}"
        assert (renewed.credentials.client_secret, renewed.renewals) == (NEW, 2)
        assert case.calls == (0, 2)

    def test_basic_with_an_unchanged_secret_ends_at_once(self) -> None:
        """The same password would be refused again."""
        case = Case(authMethod="basic")

        with pytest.raises(AccessError, match=CHECK_TEXT) as raised:
            case.renew(case.grant())

        assert (raised.value.reason, raised.value.status) == ("unauthorized", 401)
        assert case.calls == (0, 2)
        assert case.counts["AuthFailures"] == 1

    def test_basic_ends_at_the_second_401(self) -> None:
        """A fresh secret that is refused as well is the last."""
        case = Case(OLD, NEW, "newer", authMethod="basic")
        refused = case.grant()
        case.promote(NEW)
        refused = case.renew(refused)
        case.promote("newer")

        with pytest.raises(AccessError, match=CHECK_TEXT):
            case.renew(refused)

        assert case.calls == (0, 2)

    def test_the_scheme_may_change_at_a_renewal(self) -> None:
        """A secret that now says basic is followed, and one that now says oauth2 as well."""
        case = Case(OLD, NEW)
        refused = case.renew(case.grant())
        case.manager.rotate(secret_text(clientSecret=NEW, authMethod="basic"))
        basic = case.renew(refused)
        back = Case(OLD, NEW, authMethod="basic")
        refused = back.grant()
        back.manager.rotate(secret_text(clientSecret=NEW))

        assert (basic.header.partition(" ")[0], basic.token) == ("Basic", None)
        assert back.renew(refused).header == "Bearer token-1"

    def test_a_renewal_without_time_is_out_of_time(self) -> None:
        """The deadline reaches the token endpoint's caller here as well."""
        case = Case()
        refused = case.grant()

        with pytest.raises(OutOfTimeError):
            case.authorizer.renew(refused, Deadline(case.clock, 0.1))

    def test_a_token_refused_at_renewal_leads_to_the_new_secret(self) -> None:
        """Token and client secret were revoked together: one renewal finds the new secret."""
        case = Case(OLD, NEW)
        refused = case.grant()
        case.thrive.revoke(OLD, tokens=True)
        case.promote(NEW)

        renewed = case.renew(refused)

        assert (renewed.credentials, renewed.renewals) == (with_secret(NEW), 1)
        assert case.thrive.accepts(renewed.header)
        assert case.calls == (3, 2)

    def test_a_renewal_takes_the_token_of_another_thread(self) -> None:
        """Who comes late with the refused token gets the one that was fetched meanwhile."""
        case = Case()
        refused = case.grant()
        first = case.renew(refused)

        second = case.renew(refused)

        assert second.token is first.token
        assert case.calls == (2, 1)

    @pytest.mark.parametrize("method", ["oauth2", "basic"])
    def test_a_401_for_all_under_threads_has_a_bound(self, method: str) -> None:
        """Sixteen threads that meet nothing but 401 make at most one token request each, and one secret read in all."""
        case = Case(authMethod=method)
        first = case.grant()

        def send(_index: int) -> None:
            grant = first
            while True:
                grant = case.renew(grant)

        results = in_threads(16, send)

        assert {str(result) for result in results} == {CHECK_TEXT}
        fetches, reads = case.calls
        # The unchanged secret is read once for all. A thread that comes late finds the common new token invalidated by
        # the others, and fetches one of its own: at the most one for each thread.
        assert reads == 2
        assert 0 <= fetches - 2 <= 15 if method == "oauth2" else fetches == 0


class TestRotation:
    """The state machine of a rotation: the old credential revoked before or after the new one is promoted."""

    @pytest.mark.parametrize("method", ["oauth2", "basic"])
    def test_revoked_after_promotion_costs_no_message(self, method: str) -> None:
        """New promoted, old revoked with its tokens a moment later: the next message is sent with the new one."""
        case = Case(OLD, authMethod=method)
        assert case.send().credentials.client_secret == OLD
        case.thrive.good.add(NEW)
        case.promote(NEW)
        assert case.send().credentials.client_secret == OLD

        case.thrive.revoke(OLD, tokens=True)

        assert case.send().credentials.client_secret == NEW
        assert case.send().renewals == 0
        assert case.counts["AuthFailures"] == (1 if method == "oauth2" else 0)

    def test_revoked_after_promotion_with_tokens_that_live_on(self) -> None:
        """Where old tokens stay good, they serve on, and the new secret comes with its age."""
        case = Case(OLD)
        case.send()
        case.thrive.good.add(NEW)
        case.promote(NEW)
        case.thrive.revoke(OLD, tokens=False)

        assert case.send().header == "Bearer token-1"
        case.clock.advance(MAX_AGE)

        assert case.send().credentials.client_secret == NEW
        assert case.counts["AuthFailures"] == 0

    def test_revoked_before_promotion_defers_until_promotion(self) -> None:
        """While the secret still holds what was revoked, messages wait; at promotion the next one is sent."""
        case = Case(OLD)
        case.send()
        case.thrive.revoke(OLD, tokens=True)
        case.thrive.good.add(NEW)

        assert case.refusal().reason == "unauthorized"
        fetches = len(case.transport.requests)
        assert case.refusal().reason == "unauthorized"
        assert len(case.transport.requests) == fetches
        case.promote(NEW)

        assert case.send().credentials.client_secret == NEW

    def test_revoked_before_promotion_with_basic(self) -> None:
        """With HTTP Basic the same holds: refused until promotion, sent right after it."""
        case = Case(OLD, authMethod="basic")
        case.send()
        case.thrive.revoke(OLD, tokens=True)
        case.thrive.good.add(NEW)

        assert case.refusal().reason == "unauthorized"
        case.promote(NEW)

        assert case.send().credentials.client_secret == NEW

    def test_promoted_before_it_is_known_defers_until_it_is(self) -> None:
        """A promoted secret that Thrive does not know yet defers; it is asked about once a minute."""
        case = Case(OLD)
        case.send()
        case.promote(NEW)
        case.thrive.revoke(OLD, tokens=True)

        assert case.refusal().reason == "unauthorized"
        case.thrive.good.add(NEW)
        assert case.refusal().reason == "unauthorized"
        case.clock.advance(REFUSAL_SECONDS)

        assert case.send().credentials.client_secret == NEW

    def test_a_rotation_is_picked_up_by_age_without_any_401(self) -> None:
        """Where both are good for a while, the new secret is in use five minutes after promotion at the latest."""
        case = Case(OLD, NEW)
        case.send()
        case.promote(NEW)
        case.clock.advance(MAX_AGE)

        assert case.send().credentials.client_secret == NEW
        assert case.calls == (2, 2)

    def test_secrets_manager_throttled_during_a_rotation(self) -> None:
        """Revoked while Secrets Manager cannot be asked: messages wait, and are sent when it answers again."""
        case = Case(OLD, NEW)
        case.send()
        case.promote(NEW)
        case.manager.failure = client_error("ThrottlingException")
        case.thrive.revoke(OLD, tokens=True)

        assert case.refusal().reason == "unauthorized"
        case.manager.failure = None

        assert case.send().credentials.client_secret == NEW

    def test_a_rotation_during_a_freeze_is_found(self) -> None:
        """An environment that thaws after two hours has neither the old token nor the old secret."""
        case = Case(OLD)
        case.send()
        case.thrive.good.add(NEW)
        case.promote(NEW)
        case.thrive.revoke(OLD, tokens=True)

        case.clock.freeze(7200)

        grant = case.send()
        assert (grant.credentials.client_secret, grant.renewals) == (NEW, 0)
        assert case.calls == (2, 2)
        assert case.counts["AuthFailures"] == 0

    def test_no_refusal_on_the_way_shows_a_secret(self) -> None:
        """Whichever step of a renewal fails, neither secret nor token is in the error or its chain."""
        case = Case(OLD, clientId=CANARY)
        case.send()
        case.thrive.revoke(OLD, tokens=True)

        texts = texts_of(case.refusal())

        assert not [canary for canary in (OLD, CANARY, TENANT, "token-1", "token-2") if canary in texts]
