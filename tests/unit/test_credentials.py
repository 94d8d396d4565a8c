"""Credentials: which secrets are accepted, what is said of the others, and when the secret is read."""

from __future__ import annotations

import base64
import gc
import json
import threading
import time
import weakref
from typing import TYPE_CHECKING
from urllib.parse import quote, quote_plus

import botocore.exceptions
import pytest
from hypothesis import given
from hypothesis import strategies as st

from completion_sync.credentials import (
    MAX_LENGTH,
    PLACEHOLDER,
    SHARED_FAILURE_SECONDS,
    STALE_RETRY_SECONDS,
    Credentials,
    CredentialsCache,
    basic_header,
)
from completion_sync.errors import AccessError
from tests.support.fakes import (
    CANARY,
    PATIENCE_SECONDS,
    TENANT,
    Counts,
    FakeClock,
    FakeSecretsManager,
    client_error,
    credentials,
    in_threads,
    secret_fields,
    secret_text,
    texts_of,
)

if TYPE_CHECKING:
    from collections.abc import Callable

MAX_AGE = 300.0
SECRET_ID = "learning/thrive"
CANARY_TENANT = "canary-tenant-51b0"
CANARY_CLIENT = "canary-client-8d2e"
OTHER = "other"
WITH_COLON = "a:b"

HARMLESS = {
    "one-character": "x",
    "longest": "x" * MAX_LENGTH,
    "all-printable-ascii": "".join(map(chr, range(0x21, 0x7F))),
    "inner-space": "two words",
    "colon": "a:b",
    "plus-percent": "a+b%20c",
    "quotes-and-backslash": "a\"b'c\\d",
    "accent": "caf\u00e9",
    "beyond-16-bits": "\U0001f511",
    "inner-no-break-space": "a\u00a0b",
}
HARMFUL = {
    "trailing-newline": f"{CANARY}\n",
    "trailing-carriage-return": f"{CANARY}\r\n",
    "trailing-space": f"{CANARY} ",
    "trailing-no-break-space": f"{CANARY}\u00a0",
    "leading-space": f" {CANARY}",
    "leading-tab": f"\t{CANARY}",
    "inner-newline": f"{CANARY}\nX-Injected: 1",
    "inner-tab": f"{CANARY}\tx",
    "NUL": f"{CANARY}\x00x",
    "last-of-C0": f"{CANARY}\x1fx",
    "DEL": f"{CANARY}\x7fx",
    "first-of-C1": f"{CANARY}\x80x",
    "last-of-C1": f"{CANARY}\x9fx",
    "high-surrogate": f"{CANARY}\ud800x",
    "low-surrogate": f"{CANARY}\udfffx",
    "white-space-alone": " ",
}
NO_TEXTS: dict[str, object] = {
    "empty": "",
    "too-long": "x" * (MAX_LENGTH + 1),
    "number": 12345,
    "zero": 0,
    "true": True,
    "false": False,
    "list": [CANARY],
    "empty-list": [],
    "object": {"value": CANARY},
}
TEXT_KEYS = ["tenantId", "clientId", "clientSecret", "apiSecret"]
NOT_AN_OBJECT: dict[str, object] = {
    "none": None,
    "bytes": secret_text().encode(),
    "empty": "",
    "words": f"hello {CANARY}",
    "cut-off": secret_text()[:-1],
    "json-null": "null",
    "json-text": json.dumps(CANARY),
    "json-list": json.dumps([secret_fields()]),
    "json-number": "5",
    "key-value-lines": f"tenantId={CANARY}",
    "trailing-text": secret_text() + CANARY,
    "too-deep": "[" * 100_000,
    "long-number": "9" * 5000,
}


def refusal(secret: object) -> AccessError:
    """Give the error that a secret is refused with."""
    with pytest.raises(AccessError) as refused:
        Credentials.parse(secret)
    error = refused.value
    assert (error.reason, error.status, error.retry_after) == ("misconfigured", None, None)
    return error


def error_about(secret: str) -> AccessError | None:
    """Give the error that a secret is refused with, if it is."""
    try:
        Credentials.parse(secret)
    except AccessError as error:
        return error
    return None


def whole_chain(error: BaseException) -> str:
    """Give the texts of an error and of everything behind it, hidden or not."""
    texts = texts_of(error)
    for behind in (error.__cause__, error.__context__):
        if behind is not None:
            texts += whole_chain(behind) + repr(vars(behind))
    return texts


class TestParsing:
    """``Credentials.parse``."""

    def test_two_keys_are_enough(self) -> None:
        """The client id defaults to the tenant id, the methods to the first of their kind."""
        assert Credentials.parse(json.dumps({"tenantId": TENANT, "clientSecret": CANARY})) == Credentials(
            TENANT, TENANT, CANARY, "oauth2", "client_secret_post"
        )

    def test_every_key_is_read(self) -> None:
        """Each key lands in its own attribute."""
        result = credentials(clientId="client-1", authMethod="basic", tokenEndpointAuthMethod="client_secret_basic")

        assert (result.tenant_id, result.client_id, result.client_secret) == (TENANT, "client-1", CANARY)
        assert (result.auth_method, result.token_endpoint_auth_method) == ("basic", "client_secret_basic")

    @pytest.mark.parametrize("method", ["oauth2", "basic"])
    def test_both_auth_methods_are_known(self, method: str) -> None:
        """Either of Thrive's schemes can be chosen."""
        assert credentials(authMethod=method).auth_method == method

    @pytest.mark.parametrize("method", ["client_secret_post", "client_secret_basic"])
    def test_both_token_endpoint_auth_methods_are_known(self, method: str) -> None:
        """The client secret can travel in the form or in the header."""
        assert credentials(tokenEndpointAuthMethod=method).token_endpoint_auth_method == method

    def test_api_secret_stands_in_for_client_secret(self) -> None:
        """Thrive's pages call the same thing the API secret; where both are there, the client secret counts."""
        assert credentials(clientSecret=None, apiSecret=OTHER).client_secret == OTHER
        assert credentials(apiSecret=OTHER).client_secret == CANARY
        assert Credentials.parse(json.dumps(secret_fields(apiSecret=OTHER) | {"clientSecret": None})).client_secret == (
            "other"
        )

    def test_null_counts_as_absent(self) -> None:
        """A key set to null has its default."""
        optional = {"clientId": None, "authMethod": None, "tokenEndpointAuthMethod": None, "apiSecret": None}

        assert Credentials.parse(json.dumps(secret_fields() | optional)) == credentials()

    def test_unknown_keys_are_ignored(self) -> None:
        """Notes beside the credentials change nothing."""
        assert credentials(note="rotated in May", clientID=5) == credentials()

    @pytest.mark.parametrize("key", TEXT_KEYS)
    @pytest.mark.parametrize("value", HARMLESS.values(), ids=HARMLESS)
    def test_harmless_values_pass_unchanged(self, key: str, value: str) -> None:
        """Printable characters of any script pass as they are."""
        changes = {"clientSecret": None} if key == "apiSecret" else {}

        result = credentials(**changes, **{key: value})

        expected = {"tenantId": result.tenant_id, "clientId": result.client_id}.get(key, result.client_secret)
        assert expected == value

    @pytest.mark.parametrize("key", TEXT_KEYS)
    @pytest.mark.parametrize("value", HARMFUL.values(), ids=HARMFUL)
    def test_harmful_characters_are_refused_unseen(self, key: str, value: str) -> None:
        """A newline would break the header and be quoted in the error about it: it is refused here, unquoted."""
        changes = {"clientSecret": None} if key == "apiSecret" else {}

        error = refusal(secret_text(**changes, **{key: value}))

        assert str(error) == (
            f"the secret is malformed: {key}: must not hold control characters, or white space at either end"
        )

    @pytest.mark.parametrize("key", TEXT_KEYS)
    @pytest.mark.parametrize("value", NO_TEXTS.values(), ids=NO_TEXTS)
    def test_what_is_no_text_of_usable_length_is_refused(self, key: str, value: object) -> None:
        """Numbers, lists, empty and endless texts are refused, the key being named."""
        changes = {"clientSecret": None} if key == "apiSecret" else {}

        error = refusal(secret_text(**changes, **{key: value}))

        assert str(error) == f"the secret is malformed: {key}: must be a text of 1 to 1024 characters"

    @pytest.mark.parametrize(
        ("missing", "named"), [("tenantId", "tenantId"), ("clientSecret", "clientSecret or apiSecret")]
    )
    def test_a_missing_key_is_named(self, missing: str, named: str) -> None:
        """What is required and not there is named, null included."""
        for secret in (secret_text(**{missing: None}), json.dumps(secret_fields() | {missing: None})):
            assert str(refusal(secret)) == f"the secret is malformed: {named}: is missing"

    @pytest.mark.parametrize("key", TEXT_KEYS)
    def test_the_placeholder_of_the_template_is_told_apart(self, key: str) -> None:
        """Whoever forgot to fill in the secret is told just that."""
        changes = {"clientSecret": None} if key == "apiSecret" else {}

        error = refusal(secret_text(**changes, **{key: PLACEHOLDER}))

        assert str(error) == (
            f"the secret is malformed: {key}: still holds the placeholder; put the value that Thrive issued"
        )
        assert PLACEHOLDER == "REPLACE_ME"

    @pytest.mark.parametrize(
        ("key", "allowed"),
        [
            ("authMethod", "oauth2 or basic"),
            ("tokenEndpointAuthMethod", "client_secret_post or client_secret_basic"),
        ],
    )
    @pytest.mark.parametrize(
        "value", ["", "OAuth2", "Basic", "none", "private_key_jwt", CANARY, 5, True, [], ["basic"], {}], ids=str
    )
    def test_another_method_is_refused(self, key: str, allowed: str, value: object) -> None:
        """A method outside the list is refused with the list."""
        assert str(refusal(secret_text(**{key: value}))) == f"the secret is malformed: {key}: must be {allowed}"

    def test_basic_cannot_carry_a_colon_in_the_user_name(self) -> None:
        """A colon in the user name would move the border of the password; OAuth 2.0 has no such trouble."""
        error = refusal(secret_text(tenantId="a:b", authMethod="basic"))

        assert str(error) == (
            "the secret is malformed: tenantId: must not hold a colon with authMethod basic (RFC 7617)"
        )
        assert credentials(tenantId="a:b").tenant_id == "a:b"
        assert credentials(clientSecret=WITH_COLON, authMethod="basic").client_secret == WITH_COLON

    @pytest.mark.parametrize("secret", NOT_AN_OBJECT.values(), ids=NOT_AN_OBJECT)
    def test_what_is_no_object_is_refused_unseen(self, secret: object) -> None:
        """A JSON error quotes the whole secret: none is chained, hidden or not."""
        error = refusal(secret)

        assert str(error) == (
            "the secret is malformed: must be a JSON object in SecretString, with tenantId and clientSecret"
        )
        assert error.__cause__ is None
        assert error.__context__ is None

    @given(
        st.fixed_dictionaries(
            {},
            optional={
                key: st.sampled_from([f"{CANARY}\n", CANARY * 200, [CANARY], {CANARY: 1}, f"{CANARY}:", CANARY])
                for key in [*TEXT_KEYS, "authMethod", "tokenEndpointAuthMethod", CANARY]
            },
        )
    )
    def test_no_error_about_a_secret_shows_any_of_it(self, fields: dict[str, object]) -> None:
        """Whatever is wrong, and wherever, the canary is in no text, argument, attribute or chained error."""
        error = error_about(json.dumps(fields))

        assert error is None or CANARY not in whole_chain(error)

    @given(
        st.text() | st.recursive(st.none() | st.text(), lambda inner: st.dictionaries(st.text(), inner)).map(json.dumps)
    )
    def test_no_secret_crashes(self, secret: str) -> None:
        """Any text is parsed or refused by our own error."""
        error = error_about(secret)

        assert error is None or error.reason == "misconfigured"


class TestValue:
    """Credentials as a value."""

    def test_repr_shows_no_value(self) -> None:
        """What a debugger or a careless log prints has the methods alone."""
        result = credentials(tenantId=CANARY_TENANT, clientId=CANARY_CLIENT)

        assert (
            repr(result)
            == str(result)
            == ("Credentials(auth_method='oauth2', token_endpoint_auth_method='client_secret_post')")
        )

    def test_equality_means_authenticating_alike(self) -> None:
        """Each attribute counts, and nothing else does."""
        variants = [
            credentials(),
            credentials(tenantId="other", clientId=TENANT),
            credentials(clientId="other"),
            credentials(clientSecret=OTHER),
            credentials(authMethod="basic"),
            credentials(tokenEndpointAuthMethod="client_secret_basic"),
        ]

        assert credentials() == credentials(note="x") == credentials(clientId=TENANT)
        assert len(set(variants)) == len(variants)

    def test_the_basic_header_is_utf_8_in_base64(self) -> None:
        """RFC 7617's own examples come out as printed there."""
        assert (
            basic_header("Aladdin", "open sesame") == "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ=="
        )  # pragma: allowlist secret
        assert basic_header("test", "123\u00a3") == "Basic dGVzdDoxMjPCow=="

    @given(st.text(), st.text())
    def test_any_basic_header_can_be_read_back(self, user: str, password: str) -> None:
        """The header is ASCII in one line and holds both halves."""
        scheme, _, encoded = basic_header(user, password).partition(" ")

        assert scheme == "Basic"
        assert base64.b64decode(encoded, validate=True).decode() == f"{user}:{password}"


TOLD = {"tenantId": "tenant +/\u00e9", "clientId": "client /%2:", "clientSecret": f"{CANARY} /&+\u00e9"}


class TestOccurrence:
    """Whether a text quotes the credentials."""

    @pytest.mark.parametrize(
        "spell", [str, lambda text: quote(text, safe=""), quote_plus], ids=["plain", "path", "form"]
    )
    @pytest.mark.parametrize("key", TOLD)
    def test_each_value_is_found_as_it_is_and_in_a_url(self, key: str, spell: Callable[[str], str]) -> None:
        """Tenant id, client id and client secret are found plain, percent-encoded and form-encoded."""
        assert credentials(**TOLD).occur_in(f"refused <{spell(TOLD[key])}>")

    @pytest.mark.parametrize("more", ["", "x", "xx"], ids=["0", "1", "2"])
    @pytest.mark.parametrize(
        ("key", "spell"),
        [("tenantId", str), ("clientId", str), ("clientId", quote_plus)],
        ids=["api", "token-endpoint-plain", "token-endpoint-encoded"],
    )
    def test_each_basic_header_is_found(self, key: str, spell: Callable[[str], str], more: str) -> None:
        """The Basic headers of both endpoints are found, whatever their length, with padding or without."""
        told = TOLD | {"clientSecret": TOLD["clientSecret"] + more}
        encoded = basic_header(spell(told[key]), spell(told["clientSecret"])).removeprefix("Basic ")

        assert credentials(**told).occur_in(f"you sent Basic {encoded}")
        assert credentials(**told).occur_in(f"you sent {encoded.rstrip('=')}, sorry")

    @pytest.mark.parametrize("text", ["", "user not found", CANARY[:-1], CANARY.upper(), TENANT[1:]])
    def test_another_text_quotes_nothing(self, text: str) -> None:
        """A text without the whole value is harmless."""
        assert not credentials().occur_in(text)

    def test_what_is_too_short_for_a_secret_is_not_sought(self) -> None:
        """Seven characters occur anywhere by chance, eight count."""
        assert not credentials(clientId="a" * 7).occur_in("a" * 7)
        assert credentials(clientId="a" * 8).occur_in("a" * 8)


class CacheCase:
    """A cache with its fakes."""

    def __init__(self, max_age: float = MAX_AGE, clock: FakeClock | None = None) -> None:
        self.clock = clock or FakeClock()
        self.manager = FakeSecretsManager()
        self.counts = Counts()
        self.cache = CredentialsCache(SECRET_ID, self.manager.client, max_age, self.clock, self.counts)

    def rotate(self, value: str) -> Credentials:
        """Promote another client secret; give the credentials that it makes."""
        self.manager.rotate(secret_text(clientSecret=value))
        return credentials(clientSecret=value)


@pytest.fixture
def case() -> CacheCase:
    """Give a cache of 300 seconds, nothing read so far."""
    return CacheCase()


UNAVAILABLE: dict[str, tuple[Exception, str]] = {
    "throttled": (client_error("ThrottlingException"), "Secrets Manager answered ThrottlingException"),
    "throttled-older-name": (client_error("Throttling"), "Secrets Manager answered Throttling"),
    "too-many-requests": (
        client_error("TooManyRequestsException"),
        "Secrets Manager answered TooManyRequestsException",
    ),
    "request-limit": (client_error("RequestLimitExceeded"), "Secrets Manager answered RequestLimitExceeded"),
    "internal-error": (client_error("InternalServiceError", 500), "Secrets Manager answered InternalServiceError"),
    "unavailable": (client_error("ServiceUnavailable", 503), "Secrets Manager answered ServiceUnavailable"),
    "no-connection": (
        botocore.exceptions.EndpointConnectionError(endpoint_url=f"https://{CANARY}"),
        "Secrets Manager cannot be reached: EndpointConnectionError",
    ),
    "connect-timeout": (
        botocore.exceptions.ConnectTimeoutError(endpoint_url=f"https://{CANARY}"),
        "Secrets Manager cannot be reached: ConnectTimeoutError",
    ),
    "read-timeout": (
        botocore.exceptions.ReadTimeoutError(endpoint_url=f"https://{CANARY}"),
        "Secrets Manager cannot be reached: ReadTimeoutError",
    ),
    "connection-closed": (
        botocore.exceptions.ConnectionClosedError(endpoint_url=f"https://{CANARY}"),
        "Secrets Manager cannot be reached: ConnectionClosedError",
    ),
    "tls": (
        botocore.exceptions.SSLError(endpoint_url=f"https://{CANARY}", error=CANARY),
        "Secrets Manager cannot be reached: SSLError",
    ),
    "other-transport-error": (
        botocore.exceptions.HTTPClientError(error=CANARY),
        "Secrets Manager cannot be reached: HTTPClientError",
    ),
}
MISCONFIGURED: dict[str, tuple[Exception, str]] = {
    "denied": (
        client_error("AccessDeniedException"),
        "the secret cannot be read: Secrets Manager answered AccessDeniedException",
    ),
    "missing": (
        client_error("ResourceNotFoundException"),
        "the secret cannot be read: Secrets Manager answered ResourceNotFoundException",
    ),
    "scheduled-for-deletion": (
        client_error("InvalidRequestException"),
        "the secret cannot be read: Secrets Manager answered InvalidRequestException",
    ),
    "key-denied": (
        client_error("DecryptionFailure"),
        "the secret cannot be read: Secrets Manager answered DecryptionFailure",
    ),
    "status-499": (client_error("Odd", 499), "the secret cannot be read: Secrets Manager answered Odd"),
    "long-code": (client_error("x" * 100), f"the secret cannot be read: Secrets Manager answered {'x' * 64}"),
    "no-code": (
        botocore.exceptions.ClientError({}, "GetSecretValue"),
        "the secret cannot be read: Secrets Manager answered unknown",
    ),
    "no-aws-credentials": (
        botocore.exceptions.NoCredentialsError(),
        "Secrets Manager cannot be called: NoCredentialsError",
    ),
    "no-region": (botocore.exceptions.NoRegionError(), "Secrets Manager cannot be called: NoRegionError"),
    "bad-parameter": (
        botocore.exceptions.ParamValidationError(report=CANARY),
        "Secrets Manager cannot be called: ParamValidationError",
    ),
    "bad-endpoint": (ValueError(f"Invalid endpoint: {CANARY}"), "Secrets Manager cannot be called: ValueError"),
}
MALFORMED: dict[str, str | None] = {
    "not-json": CANARY,
    "no-tenant": secret_text(tenantId=None),
    "placeholder": secret_text(clientSecret=PLACEHOLDER),
}


class TestCacheAge:
    """How long what was read is used."""

    def test_it_reads_on_first_use_alone(self, case: CacheCase) -> None:
        """Making the cache reads nothing; then one read serves until it is too old."""
        assert case.manager.reads == 0

        assert case.cache.get() == credentials()
        assert case.cache.get() is case.cache.get()

        assert case.manager.requests == [{"SecretId": SECRET_ID, "VersionStage": "AWSCURRENT"}]
        assert case.counts == {"SecretReads": 1}

    @pytest.mark.parametrize(
        ("age", "reads"), [(0.0, 1), (299.999999, 1), (300.0, 2), (300.000001, 2), (1e6, 2)], ids=str
    )
    def test_it_reads_anew_at_its_maximum_age(self, case: CacheCase, age: float, reads: int) -> None:
        """Up to its maximum age a secret is used, from then on it is read anew."""
        case.cache.get()
        new = case.rotate("new")

        case.clock.advance(age)

        assert case.cache.get() == (new if reads == 2 else credentials())
        assert case.manager.reads == reads

    @pytest.mark.parametrize(("age", "reads"), [(299.999999, 1), (300.0, 2), (7200.0, 2)], ids=str)
    def test_a_freeze_ages_the_secret(self, case: CacheCase, age: float, reads: int) -> None:
        """While the environment is frozen the monotonic clock stands still; the wall clock tells."""
        case.cache.get()

        case.clock.freeze(age)
        case.cache.get()

        assert case.manager.reads == reads

    @pytest.mark.parametrize(("age", "reads"), [(299.999999, 1), (300.0, 2)], ids=str)
    def test_a_wall_clock_that_steps_back_does_not_keep_the_secret(
        self, case: CacheCase, age: float, reads: int
    ) -> None:
        """The monotonic clock tells where the wall clock was set back."""
        case.cache.get()

        case.clock.step_wall(-86_400)
        case.clock.advance(age)
        case.cache.get()

        assert case.manager.reads == reads

    def test_a_wall_clock_that_steps_on_costs_one_read(self, case: CacheCase) -> None:
        """A step forward makes the secret look old once; after that the new read counts."""
        case.cache.get()

        case.clock.step_wall(86_400)
        case.cache.get()
        case.cache.get()
        case.clock.step_wall(-86_400)
        case.cache.get()

        assert case.manager.reads == 2

    @pytest.mark.parametrize("monotonic", [0.0, 0.001, -1.0])
    def test_a_clock_near_zero_is_not_never(self, monotonic: float) -> None:
        """Just after boot the monotonic clock is near zero: the first read must happen, and only once."""
        case = CacheCase(clock=FakeClock(monotonic=monotonic, wall=monotonic))

        case.cache.get()
        case.cache.get()
        case.clock.advance(MAX_AGE)
        case.cache.get()

        assert case.manager.reads == 2

    def test_an_age_of_zero_reads_each_time(self) -> None:
        """A maximum age of zero turns caching off."""
        case = CacheCase(max_age=0)

        case.cache.get()
        case.cache.get()

        assert case.manager.reads == 2

    def test_the_age_counts_from_before_the_read(self, case: CacheCase) -> None:
        """How long Secrets Manager took to answer belongs to the secret's age."""
        case.manager.on_read = lambda: case.clock.advance(10)
        case.cache.get()

        case.clock.advance(290)
        case.cache.get()

        assert case.manager.reads == 2

    def test_clear_forgets(self, case: CacheCase) -> None:
        """After a restore nothing of before is used."""
        case.cache.get()

        case.cache.clear()

        assert case.rotate("new") == case.cache.get()
        assert case.manager.reads == 2

    def test_clear_forgets_a_failure_too(self, case: CacheCase) -> None:
        """After a restore a failure of before does not count."""
        case.manager.failure = client_error("AccessDeniedException")
        with pytest.raises(AccessError):
            case.cache.get()
        case.manager.failure = None

        case.cache.clear()

        assert case.cache.get() == credentials()

    def test_clear_leaves_nothing_to_serve(self, case: CacheCase) -> None:
        """What was cleared does not come back when Secrets Manager is down."""
        case.cache.get()
        case.manager.failure = client_error("InternalServiceError", 500)

        case.cache.clear()

        with pytest.raises(AccessError):
            case.cache.get()


class TestCacheFailures:
    """What happens when Secrets Manager does not give the secret."""

    @pytest.mark.parametrize(("failure", "text"), UNAVAILABLE.values(), ids=UNAVAILABLE)
    def test_an_outage_before_the_first_read_defers(self, case: CacheCase, failure: Exception, text: str) -> None:
        """With nothing cached the batch is deferred as unavailable, in our own words."""
        case.manager.failure = failure

        with pytest.raises(AccessError) as raised:
            case.cache.get()

        assert (raised.value.reason, str(raised.value), raised.value.status) == ("unavailable", text, None)
        assert case.counts["AuthFailures"] == 0
        assert CANARY not in texts_of(raised.value)

    @pytest.mark.parametrize(("failure", "_text"), UNAVAILABLE.values(), ids=UNAVAILABLE)
    def test_an_outage_is_bridged_by_the_cached_secret(self, case: CacheCase, failure: Exception, _text: str) -> None:
        """While Secrets Manager cannot be asked, the last secret serves on, and it is asked every thirty seconds."""
        first = case.cache.get()
        case.manager.failure = failure
        case.clock.advance(MAX_AGE)

        assert case.cache.get() is first
        assert case.manager.reads == 2
        case.clock.advance(STALE_RETRY_SECONDS - 0.000001)
        assert case.cache.get() is first
        assert case.manager.reads == 2
        case.clock.advance(0.000001)
        assert case.cache.get() is first
        assert case.manager.reads == 3

    def test_after_an_outage_the_maximum_age_holds_again(self, case: CacheCase) -> None:
        """The first good read after an outage is used for its full time."""
        case.cache.get()
        case.manager.failure = client_error("ThrottlingException")
        case.clock.advance(MAX_AGE)
        case.cache.get()
        case.manager.failure = None
        new = case.rotate("new")

        case.clock.advance(STALE_RETRY_SECONDS)
        assert case.cache.get() == new
        case.clock.advance(MAX_AGE - 1)
        case.cache.get()

        assert case.manager.reads == 3

    def test_a_short_maximum_age_also_bounds_the_bridge(self) -> None:
        """Where the age is below thirty seconds, Secrets Manager is asked that often during an outage too."""
        case = CacheCase(max_age=10)
        case.cache.get()
        case.manager.failure = client_error("ThrottlingException")

        for _ in range(3):
            case.clock.advance(10)
            case.cache.get()

        assert case.manager.reads == 4

    @pytest.mark.parametrize(("failure", "text"), MISCONFIGURED.values(), ids=MISCONFIGURED)
    def test_a_refused_read_defers_as_misconfigured(self, case: CacheCase, failure: Exception, text: str) -> None:
        """Denied, missing or impossible to call: someone must act, and the words say on what."""
        case.manager.failure = failure

        with pytest.raises(AccessError) as raised:
            case.cache.get()

        assert (raised.value.reason, str(raised.value), raised.value.status) == ("misconfigured", text, None)
        assert CANARY not in texts_of(raised.value)

    @pytest.mark.parametrize("secret", MALFORMED.values(), ids=MALFORMED)
    def test_a_malformed_secret_defers_as_misconfigured(self, case: CacheCase, secret: str) -> None:
        """A secret that holds no credentials is the operator's to put right."""
        case.manager.secret = secret

        with pytest.raises(AccessError, match="the secret is malformed") as raised:
            case.cache.get()

        assert raised.value.reason == "misconfigured"
        assert CANARY not in texts_of(raised.value)

    def test_a_binary_secret_is_malformed(self, case: CacheCase) -> None:
        """A secret without a SecretString is named as such."""
        case.manager.binary = secret_text().encode()

        with pytest.raises(AccessError, match="must be a JSON object in SecretString"):
            case.cache.get()

    @pytest.mark.parametrize("kind", ["denied", "missing", "malformed"])
    def test_a_refused_read_is_not_bridged(self, case: CacheCase, kind: str) -> None:
        """Denied, missing or malformed is no outage: the cached secret was taken away on purpose."""
        case.cache.get()
        case.clock.advance(MAX_AGE)
        if kind == "malformed":
            case.manager.secret = "{}"
        else:
            case.manager.failure = MISCONFIGURED[kind][0]

        with pytest.raises(AccessError) as raised:
            case.cache.get()

        assert raised.value.reason == "misconfigured"

    @pytest.mark.parametrize(
        ("passed", "reads"), [(0.0, 1), (0.999999, 1), (SHARED_FAILURE_SECONDS, 2), (60.0, 2)], ids=str
    )
    def test_a_failure_is_shared_for_a_second(self, case: CacheCase, passed: float, reads: int) -> None:
        """Who comes right behind a failed read gets its error; a second later it is tried again."""
        case.manager.failure = client_error("AccessDeniedException")
        with pytest.raises(AccessError) as first:
            case.cache.get()

        case.clock.advance(passed)
        with pytest.raises(AccessError) as second:
            case.cache.get()

        assert case.manager.reads == case.counts["AuthFailures"] == reads
        assert second.value is not first.value
        assert (second.value.reason, second.value.detail) == (first.value.reason, first.value.detail)

    def test_what_is_remembered_keeps_no_frames(self, case: CacheCase) -> None:
        """The error that was raised, with its traceback and all that the frames held, is gone once dealt with."""
        case.manager.secret = "{}"
        with pytest.raises(AccessError) as raised:
            case.cache.get()
        error = weakref.ref(raised.value)

        del raised
        gc.collect()

        assert error() is None
        with pytest.raises(AccessError):
            case.cache.get()

    @pytest.mark.parametrize("step", ["freeze", "back"])
    def test_a_shared_failure_ends_by_either_clock(self, case: CacheCase, step: str) -> None:
        """Neither a freeze nor a wall clock set back keeps a failure alive."""
        case.manager.failure = client_error("AccessDeniedException")
        with pytest.raises(AccessError):
            case.cache.get()
        case.manager.failure = None

        if step == "freeze":
            case.clock.freeze(SHARED_FAILURE_SECONDS)
        else:
            case.clock.step_wall(-86_400)
            case.clock.advance(SHARED_FAILURE_SECONDS)

        assert case.cache.get() == credentials()

    def test_a_shared_failure_ends_when_the_wall_clock_steps_back(self, case: CacheCase) -> None:
        """A freeze and a step back together could stop both clocks: the step alone ends what is remembered."""
        case.manager.failure = client_error("AccessDeniedException")
        with pytest.raises(AccessError):
            case.cache.get()
        case.manager.failure = None

        case.clock.step_wall(-0.5)

        assert case.cache.get() == credentials()

    def test_the_second_of_a_failure_counts_from_its_end(self, case: CacheCase) -> None:
        """Threads that waited through a slow failure share it, however long it took."""
        case.manager.failure = client_error("InternalServiceError", 500)
        case.manager.on_read = lambda: case.clock.advance(5)
        with pytest.raises(AccessError):
            case.cache.get()

        with pytest.raises(AccessError):
            case.cache.get()

        assert case.manager.reads == 1

    def test_a_defect_is_not_taken_for_a_failure(self, case: CacheCase) -> None:
        """An error that boto3 does not raise is a defect and passes as it is."""
        case.manager.failure = KeyError("defect")

        with pytest.raises(KeyError):
            case.cache.get()

    def test_the_client_is_made_within_the_read(self) -> None:
        """What goes wrong when the client is made counts as what goes wrong when it is called."""

        def no_client() -> object:
            raise botocore.exceptions.NoRegionError

        cache = CredentialsCache(SECRET_ID, no_client, MAX_AGE, FakeClock(), Counts())  # type: ignore[arg-type]

        with pytest.raises(AccessError, match="Secrets Manager cannot be called: NoRegionError"):
            cache.get()


class TestReread:
    """Reading anew because Thrive refused what is cached."""

    def test_it_reads_whatever_the_age(self, case: CacheCase) -> None:
        """The refused credentials are replaced at once by what the secret holds now."""
        refused = case.cache.get()
        new = case.rotate("new")

        assert case.cache.reread(refused) == new
        assert case.cache.get() == new
        assert case.manager.reads == 2

    def test_an_unchanged_secret_is_told_by_equality(self, case: CacheCase) -> None:
        """Where the secret is the same, equal credentials come back."""
        refused = case.cache.get()

        assert case.cache.reread(refused) == refused
        assert case.manager.reads == 2

    def test_who_comes_late_gets_the_replacement(self, case: CacheCase) -> None:
        """Another thread has read anew already: its result is taken, without a further read."""
        refused = case.cache.get()
        case.rotate("new")
        replacement = case.cache.reread(refused)

        assert case.cache.reread(refused) is replacement
        assert case.manager.reads == 2

    def test_it_reads_where_nothing_is_cached(self, case: CacheCase) -> None:
        """After a restore there is nothing to give but what is read."""
        assert case.cache.reread(credentials(clientSecret="gone")) == credentials()

    def test_a_reread_starts_a_new_age(self, case: CacheCase) -> None:
        """What a forced read gave is used for its full time."""
        refused = case.cache.get()
        case.clock.advance(MAX_AGE - 1)
        case.cache.reread(refused)

        case.clock.advance(MAX_AGE - 1)
        case.cache.get()

        assert case.manager.reads == 2

    def test_an_outage_gives_the_refused_ones_back(self, case: CacheCase) -> None:
        """Where Secrets Manager cannot be asked, nothing new is known: the same credentials come back."""
        refused = case.cache.get()
        case.manager.failure = client_error("ThrottlingException")

        assert case.cache.reread(refused) is refused

    def test_a_refused_read_is_raised(self, case: CacheCase) -> None:
        """Denied, missing or malformed is said as such also here."""
        refused = case.cache.get()
        case.manager.failure = client_error("AccessDeniedException")

        with pytest.raises(AccessError) as raised:
            case.cache.reread(refused)

        assert raised.value.reason == "misconfigured"


class TestThreads:
    """Many threads at once."""

    def test_many_threads_make_one_read(self, case: CacheCase) -> None:
        """Threads that come together share one read."""
        case.manager.on_read = lambda: time.sleep(0.05)  # long enough for all threads to come

        results = in_threads(16, lambda _: case.cache.get())

        assert case.manager.reads == 1
        assert all(result is results[0] for result in results)

    def test_threads_wait_for_a_slow_read(self, case: CacheCase) -> None:
        """While one thread reads, a second waits for it and reads nothing."""
        reading, go_on = threading.Event(), threading.Event()

        def on_read() -> None:
            reading.set()
            assert go_on.wait(PATIENCE_SECONDS)

        case.manager.on_read = on_read
        results: list[Credentials] = []
        threads = [threading.Thread(target=lambda: results.append(case.cache.get()), daemon=True) for _ in range(2)]
        for thread in threads:
            thread.start()
        assert reading.wait(PATIENCE_SECONDS)
        assert results == []
        go_on.set()
        for thread in threads:
            thread.join(PATIENCE_SECONDS)

        assert len(results) == 2
        assert case.manager.reads == 1

    def test_many_threads_share_one_failure(self, case: CacheCase) -> None:
        """A failed read is shared, each thread getting an error of its own."""
        case.manager.failure = client_error("AccessDeniedException")

        results = in_threads(16, lambda _: case.cache.get())

        assert case.manager.reads == 1
        assert len({id(result) for result in results}) == 16
        assert {str(result) for result in results} == {MISCONFIGURED["denied"][1]}

    @pytest.mark.parametrize("rotated", [True, False], ids=["rotated", "unchanged"])
    def test_many_refusals_make_one_reread(self, case: CacheCase, *, rotated: bool) -> None:
        """Threads whose common credentials were refused share one forced read, also where nothing has changed."""
        refused = case.cache.get()
        expected = case.rotate("new") if rotated else refused
        case.manager.on_read = lambda: time.sleep(0.05)  # long enough for all threads to come

        results = in_threads(16, lambda _: case.cache.reread(refused))

        assert case.manager.reads == 2
        assert results == [expected] * 16


def test_the_bounds_are_the_documented_ones() -> None:
    """A cached secret bridges an outage with a try every thirty seconds, and a failure is shared for one second."""
    assert (STALE_RETRY_SECONDS, SHARED_FAILURE_SECONDS, MAX_LENGTH) == (30.0, 1.0, 1024)
