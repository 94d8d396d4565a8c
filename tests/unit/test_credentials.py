"""The secret: which texts are accepted, what is said of the others, and when it is read."""

import gc
import json
import time
import weakref

import pytest
from botocore import exceptions as errors
from hypothesis import given
from hypothesis import strategies as st

from completion_sync import credentials as module
from completion_sync.credentials import MAX_LENGTH, PLACEHOLDER, Credentials, CredentialsCache, basic_header
from completion_sync.errors import AccessError
from tests.support.fakes import (
    CANARY,
    TENANT,
    Counts,
    FakeClock,
    FakeSecretsManager,
    client_error,
    credentials,
    in_threads,
    memory_of,
    secret_fields,
    secret_text,
    texts_of,
)

SECRET_ID = "learning/thrive"
MAX_AGE = 300.0
JUST_UNDER = 0.000001
OTHER = "other"
TEXT_KEYS = ["tenantId", "clientId", "clientSecret", "apiSecret"]
ATTRIBUTES = {"tenantId": "tenant_id", "clientId": "client_id"}
PRINTABLE = st.text(st.characters(exclude_categories=["Cc", "Cs"]), min_size=1, max_size=40)


def refusal(secret):
    with pytest.raises(AccessError, match="the secret is malformed: ") as refused:
        Credentials.parse(secret)
    error = refused.value
    assert (error.reason, error.status, error.retry_after) == ("misconfigured", None, None)
    assert error.__cause__ is error.__context__ is None, "a JSON error quotes the secret"
    return str(error).removeprefix("the secret is malformed: ")


def secret_with(key, value):
    return secret_text(**({"clientSecret": None} if key == "apiSecret" else {}), **{key: value})


# --- Parsing ---


def test_two_keys_are_enough():
    parsed = Credentials.parse(json.dumps({"tenantId": TENANT, "clientSecret": CANARY}))
    assert parsed == Credentials(TENANT, TENANT, CANARY, "oauth2", "client_secret_post")


@pytest.mark.parametrize("method", ["oauth2", "basic"])
@pytest.mark.parametrize("endpoint_method", ["client_secret_post", "client_secret_basic"])
def test_every_key_is_read(method, endpoint_method):
    parsed = credentials(clientId="client-1", authMethod=method, tokenEndpointAuthMethod=endpoint_method, note="x")
    assert parsed == Credentials(TENANT, "client-1", CANARY, method, endpoint_method)


def test_api_secret_is_used_if_there_is_no_client_secret():
    assert credentials(clientSecret=None, apiSecret=OTHER).client_secret == OTHER
    assert credentials(apiSecret=OTHER).client_secret == CANARY


def test_null_counts_as_absent():
    nulls = dict.fromkeys(["clientId", "authMethod", "tokenEndpointAuthMethod", "apiSecret"])
    assert Credentials.parse(json.dumps(secret_fields() | nulls)) == credentials()
    assert refusal(json.dumps(secret_fields() | {"tenantId": None})) == "tenantId: is missing"
    assert refusal(json.dumps(secret_fields() | {"clientSecret": None})) == "clientSecret or apiSecret: is missing"


@pytest.mark.parametrize("key", TEXT_KEYS)
@given(PRINTABLE.filter(lambda text: text == text.strip() != PLACEHOLDER))
def test_printable_text_passes_unchanged(key, value):
    assert getattr(Credentials.parse(secret_with(key, value)), ATTRIBUTES.get(key, "client_secret")) == value


WHITE_SPACE = "must not hold control characters, or white space at either end"
LENGTH = "must be a string of 1 to 1024 characters"


@pytest.mark.parametrize("key", TEXT_KEYS)
@pytest.mark.parametrize(
    ("value", "problem"),
    [
        *[(f"{CANARY}{end}", WHITE_SPACE) for end in ("\n", "\r\n", " ", "\u00a0")],
        *[(f"{start}{CANARY}", WHITE_SPACE) for start in (" ", "\t")],
        *[(f"{CANARY}{inner}x", WHITE_SPACE) for inner in "\n\t\x00\x1f\x7f\x80\x9f\ud800\udfff"],
        (" ", WHITE_SPACE),
        *[
            (value, LENGTH)
            for value in ("", "x" * (MAX_LENGTH + 1), 12345, 0, True, False, [CANARY], [], {"a": CANARY})
        ],
        (PLACEHOLDER, "is still the placeholder; set it to the value that Thrive issued"),
    ],
    ids=lambda value: ascii(value)[:24],
)
def test_unusable_values_are_refused_without_being_quoted(key, value, problem):
    assert refusal(secret_with(key, value)) == f"{key}: {problem}"


def test_the_longest_value_is_accepted():
    assert credentials(clientSecret="x" * MAX_LENGTH).client_secret == "x" * MAX_LENGTH


@pytest.mark.parametrize(
    ("key", "allowed"),
    [("authMethod", "oauth2 or basic"), ("tokenEndpointAuthMethod", "client_secret_post or client_secret_basic")],
)
@pytest.mark.parametrize("value", ["", "OAuth2", "Basic", "none", CANARY, 5, True, [], ["basic"], {}], ids=str)
def test_an_unknown_method_is_refused_with_the_known_ones(key, allowed, value):
    assert refusal(secret_text(**{key: value})) == f"{key}: must be {allowed}"


def test_basic_authentication_allows_no_colon_in_the_user_name():
    with_colon = "a:b"
    assert refusal(secret_text(tenantId=with_colon, authMethod="basic")) == (
        "tenantId: must not hold a colon with authMethod basic (RFC 7617)"
    )
    assert credentials(tenantId=with_colon).tenant_id == with_colon
    assert credentials(clientSecret=with_colon, authMethod="basic").client_secret == with_colon


NOT_AN_OBJECT = [
    None, secret_text().encode(), "", f"hello {CANARY}", secret_text()[:-1], secret_text() + CANARY, "null",
    f'"{CANARY}"', f"[{secret_text()}]", f"tenantId={CANARY}", "[" * 100_000, "9" * 5000,
]  # fmt: skip


@pytest.mark.parametrize("secret", NOT_AN_OBJECT, ids=lambda secret: ascii(secret)[:20])
def test_anything_but_a_json_object_is_refused_without_being_quoted(secret):
    assert refusal(secret) == "must be a JSON object in SecretString, with tenantId and clientSecret"


def test_repr_shows_no_value():
    shown = repr(credentials(tenantId="canary-tenant", clientId="canary-client"))
    assert shown == "Credentials(auth_method='oauth2', token_endpoint_auth_method='client_secret_post')"


def test_credentials_are_equal_if_they_authenticate_in_the_same_way():
    variants = [
        credentials(),
        credentials(tenantId=OTHER, clientId=TENANT),
        credentials(clientId=OTHER),
        credentials(clientSecret=OTHER),
        credentials(authMethod="basic"),
        credentials(tokenEndpointAuthMethod="client_secret_basic"),
    ]

    assert credentials() == credentials(note="x") == credentials(clientId=TENANT)
    assert len(set(variants)) == len(variants)


def test_basic_header_matches_the_examples_of_rfc_7617():
    assert basic_header("Aladdin", "open sesame") == "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ=="  # pragma: allowlist secret
    assert basic_header("test", "123\u00a3") == "Basic dGVzdDoxMjPCow=="


# --- The cache ---


class Case:
    """A cache with its fakes."""

    def __init__(self, max_age=MAX_AGE):
        # Clocks at zero must not look like "never".
        self.clock = FakeClock(wall=0.0, monotonic=0.0)
        self.manager = FakeSecretsManager()
        self.counts = Counts()
        self.cache = CredentialsCache(SECRET_ID, self.manager.client, max_age, self.clock, self.counts)

    def get(self):
        return self.cache.get().credentials

    def failure(self):
        with pytest.raises(AccessError) as raised:
            self.cache.get()
        return raised.value

    def rotate(self, value="new"):
        self.manager.rotate(secret_text(clientSecret=value))
        return credentials(clientSecret=value)


@pytest.fixture
def case():
    return Case()


OUTAGE = client_error("InternalServiceError", 500)
DENIED = client_error("AccessDeniedException")


def test_the_secret_is_read_on_first_use_and_then_cached(case):
    assert case.manager.reads == 0
    reading = case.cache.get()
    assert reading.credentials == credentials()
    assert case.cache.get() is reading
    assert case.manager.requests == [{"SecretId": SECRET_ID, "VersionStage": "AWSCURRENT"}]
    assert case.counts == {"SecretReads": 1}


@pytest.mark.parametrize("passing", ["advance", "freeze", "step_wall"])
@pytest.mark.parametrize(("age", "reads"), [(0, 1), (MAX_AGE - JUST_UNDER, 1), (MAX_AGE, 2), (1e6, 2)])
def test_the_secret_is_read_again_at_its_maximum_age_by_either_clock(case, passing, age, reads):
    case.get()
    new = case.rotate()
    getattr(case.clock, passing)(age)
    assert case.get() == (new if reads == 2 else credentials())
    assert case.get() == (new if reads == 2 else credentials())
    assert case.manager.reads == reads


def test_the_age_counts_from_before_the_read(case):
    case.manager.on_read = lambda: case.clock.advance(10)
    case.get()
    case.clock.advance(MAX_AGE - 10)
    case.get()
    assert case.manager.reads == 2


def test_clear_forgets_the_secret_and_the_failure(case):
    case.get()
    case.cache.clear()
    case.manager.failure = OUTAGE
    assert case.failure().reason == "unavailable"
    case.manager.failure = None
    case.cache.clear()
    assert case.get() == credentials()
    assert case.manager.reads == 3


THROTTLED = ["ThrottlingException", "Throttling", "TooManyRequestsException", "RequestLimitExceeded"]
UNREACHABLE = [
    errors.EndpointConnectionError, errors.ConnectTimeoutError, errors.ReadTimeoutError, errors.ConnectionClosedError,
    errors.SSLError, errors.HTTPClientError,
]  # fmt: skip
UNAVAILABLE = [
    *[(client_error(code), f"answered {code}") for code in THROTTLED],
    *[(client_error(code, code), f"answered {code}") for code in (500, 503)],
    *[
        (kind(endpoint_url=f"https://{CANARY}", error=CANARY), f"cannot be reached: {kind.__name__}")
        for kind in UNREACHABLE
    ],
]
CANNOT_BE_READ = "the secret cannot be read: Secrets Manager answered"
NOT_CALLABLE = [
    errors.NoCredentialsError(), errors.NoRegionError(), errors.ParamValidationError(report=CANARY),
    ValueError(f"Invalid endpoint: {CANARY}"),
]  # fmt: skip
MISCONFIGURED = [
    *[
        (client_error(code), f"{CANNOT_BE_READ} {code[:64]}")
        for code in ("AccessDeniedException", "InvalidRequestException", "DecryptionFailure", "x" * 100)
    ],
    (
        client_error("ResourceNotFoundException"),
        "the secret does not exist or has no value yet: put the credentials in",
    ),
    (client_error("Odd", 499), f"{CANNOT_BE_READ} Odd"),
    (errors.ClientError({}, "GetSecretValue"), f"{CANNOT_BE_READ} unknown"),
    *[(error, f"Secrets Manager cannot be called: {type(error).__name__}") for error in NOT_CALLABLE],
]


@pytest.mark.parametrize(
    ("failure", "reason", "text"),
    [
        *[(failure, "unavailable", f"Secrets Manager {text}") for failure, text in UNAVAILABLE],
        *[(failure, "misconfigured", text) for failure, text in MISCONFIGURED],
    ],
    ids=lambda value: value[:60] if isinstance(value, str) else "",
)
def test_a_failed_read_defers_in_our_own_words(case, failure, reason, text):
    case.manager.failure = failure
    error = case.failure()
    assert (error.reason, str(error), error.status) == (reason, text, None)
    assert CANARY not in texts_of(error)
    assert error.__suppress_context__ or error.__context__ is None
    assert case.counts == Counts(SecretReads=1, AuthFailures=int(reason == "misconfigured"))


@pytest.mark.parametrize("binary", [None, secret_text().encode()])
def test_a_malformed_or_binary_secret_defers_as_misconfigured(case, binary):
    case.manager.secret, case.manager.binary = CANARY, binary
    error = case.failure()
    assert error.reason == "misconfigured"
    assert str(error).startswith("the secret is malformed: must be a JSON object in SecretString")
    assert CANARY not in texts_of(error)
    assert case.counts["AuthFailures"] == 1


def test_an_error_in_creating_the_client_is_an_error_of_the_read():
    def no_client():
        raise errors.NoRegionError

    cache = CredentialsCache(SECRET_ID, no_client, MAX_AGE, FakeClock(), Counts())

    with pytest.raises(AccessError, match="Secrets Manager cannot be called: NoRegionError"):
        cache.get()


def test_an_error_that_boto3_does_not_raise_passes(case):
    case.manager.failure = KeyError("defect")
    with pytest.raises(KeyError):
        case.cache.get()


@pytest.mark.parametrize("failure", [failure for failure, _ in UNAVAILABLE], ids=lambda error: str(error)[:40])
def test_an_outage_is_bridged_by_the_cached_secret(case, failure):
    first = case.cache.get()
    case.manager.failure = failure
    reads = []
    case.clock.advance(MAX_AGE)

    for passed in (0, module.STALE_RETRY_SECONDS - JUST_UNDER, JUST_UNDER):
        case.clock.advance(passed)
        assert case.cache.get() is first
        reads.append(case.manager.reads)

    assert reads == [2, 2, 3]
    assert case.counts["AuthFailures"] == 0


def test_after_an_outage_the_maximum_age_applies_again(case):
    case.get()
    case.manager.failure = OUTAGE
    case.clock.advance(MAX_AGE)
    case.get()
    case.manager.failure = None
    for passed in (module.STALE_RETRY_SECONDS, MAX_AGE - 1):
        case.clock.advance(passed)
        case.get()
    assert case.manager.reads == 3


def test_a_short_maximum_age_also_bounds_the_bridge():
    case = Case(max_age=10)
    case.get()
    case.manager.failure = OUTAGE
    for _ in range(3):
        case.clock.advance(10)
        case.get()
    assert case.manager.reads == 4


@pytest.mark.parametrize("failure", [DENIED, client_error("ResourceNotFoundException"), None])
def test_a_secret_that_was_taken_away_or_is_malformed_is_not_bridged(case, failure):
    case.get()
    case.clock.advance(MAX_AGE)
    case.manager.secret, case.manager.failure = "{}", failure
    assert case.failure().reason == "misconfigured"


@pytest.mark.parametrize(("passing", "seconds", "holds"), memory_of(module.SHARED_FAILURE_SECONDS))
def test_a_failure_is_shared_for_a_second_from_its_end(case, passing, seconds, holds):
    case.manager.failure = DENIED
    case.manager.on_read = lambda: case.clock.advance(5)
    first = case.failure()
    getattr(case.clock, passing)(seconds)
    second = case.failure()
    assert case.manager.reads == case.counts["AuthFailures"] == (1 if holds else 2)
    assert second is not first
    assert vars(second) == vars(first)


def test_a_remembered_failure_keeps_no_frames_alive(case):
    case.manager.secret = "{}"
    error = weakref.ref(case.failure())
    gc.collect()
    assert error() is None
    assert case.failure()


# --- Reading again because Thrive refused ---


def test_reread_reads_whatever_the_age_and_starts_a_new_one(case):
    refused = case.cache.get()
    case.clock.advance(MAX_AGE - 1)
    new = case.rotate()
    reading = case.cache.reread(refused.generation)
    assert (reading.credentials, reading.generation) == (new, refused.generation + 1)
    case.clock.advance(MAX_AGE - 1)
    assert case.cache.get() is reading
    assert case.manager.reads == 2


@pytest.mark.parametrize("rotated", [True, False])
def test_a_stale_generation_gets_what_another_thread_has_read(case, rotated):
    refused = case.cache.get()
    if rotated:
        case.rotate()
    replacement = case.cache.reread(refused.generation)
    assert (replacement.credentials == refused.credentials) == (not rotated)
    assert case.cache.reread(refused.generation) is replacement
    assert case.manager.reads == 2


def test_generations_go_on_growing_after_clear(case):
    before = case.cache.get()
    case.cache.clear()
    after = case.cache.reread(before.generation)
    assert after.generation > before.generation
    assert case.cache.reread(before.generation) is after


def test_in_an_outage_reread_returns_the_refused_credentials_and_reads_once_a_second(case):
    refused = case.cache.get()
    case.manager.failure = OUTAGE
    assert case.cache.reread(refused.generation) is refused
    assert case.cache.reread(refused.generation) is refused
    assert case.manager.reads == 2
    case.manager.failure = None
    case.clock.advance(module.SHARED_FAILURE_SECONDS)
    assert case.cache.reread(refused.generation).generation > refused.generation


# --- Threads ---


def test_many_threads_make_one_read(case):
    case.manager.on_read = lambda: time.sleep(0.05)  # long enough for all threads to come
    assert len(set(map(id, in_threads(16, lambda _: case.cache.get())))) == 1
    assert case.manager.reads == 1


@pytest.mark.parametrize("failure", [None, OUTAGE, DENIED])
def test_many_refused_threads_make_one_read(case, failure):
    refused = case.cache.get()
    case.manager.failure = failure
    case.manager.on_read = lambda: time.sleep(0.05)  # long enough for all threads to come
    results = in_threads(16, lambda _: case.cache.reread(refused.generation))
    assert case.manager.reads == 2
    if failure is DENIED:
        assert {str(result) for result in results} == {f"{CANNOT_BE_READ} AccessDeniedException"}
        assert len({id(result) for result in results}) == 16
    else:
        assert {result.credentials for result in results} == {credentials()}


def test_the_bounds_are_the_documented_ones():
    assert (module.STALE_RETRY_SECONDS, module.SHARED_FAILURE_SECONDS) == (30.0, 1.0)
    assert (MAX_LENGTH, PLACEHOLDER) == (1024, "REPLACE_ME")
