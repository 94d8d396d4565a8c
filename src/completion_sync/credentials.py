"""Credentials: read from Secrets Manager, validated key by key, cached."""

from __future__ import annotations

import base64
import json
import re
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import botocore.exceptions
from botocore.exceptions import BotoCoreError, ClientError, HTTPClientError

from .clock import Clock, Instant, elapsed, is_within
from .errors import AccessError

if TYPE_CHECKING:
    from collections.abc import Callable

    from mypy_boto3_secretsmanager import SecretsManagerClient

AuthMethod = Literal["oauth2", "basic"]
TokenEndpointAuthMethod = Literal["client_secret_post", "client_secret_basic"]

# What the template of 0.1.0 wrote into a new secret: refused with a text that says what to do.
PLACEHOLDER = "REPLACE_ME"
MAX_LENGTH = 1024
# After a failed read in a Secrets Manager outage, the cached secret is used for this long before the next try.
STALE_RETRY_SECONDS = 30.0
# Threads that queued up behind a failed read share its failure instead of reading in turn.
SHARED_FAILURE_SECONDS = 1.0

# RFC 6749 (appendix A) allows printable ASCII in client ids and secrets. Letters of other scripts are harmless. Control
# characters are not: a trailing newline would break the header that holds the secret, and the error would quote it.
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
_THROTTLED = frozenset({"ThrottlingException", "TooManyRequestsException", "RequestLimitExceeded", "Throttling"})
_SERVER_ERROR = 500


@dataclass(frozen=True, slots=True)
class Credentials:
    """One tenant's credentials. Two are equal if they authenticate in the same way; ``repr`` shows no secret."""

    tenant_id: str = field(repr=False)
    client_id: str = field(repr=False)
    client_secret: str = field(repr=False)
    auth_method: AuthMethod
    token_endpoint_auth_method: TokenEndpointAuthMethod

    @classmethod
    def parse(cls, secret: object) -> Credentials:
        """Parse the secret's text.

        It is ``{"tenantId", "clientSecret" (or "apiSecret"), "clientId"?, "authMethod"?, "tokenEndpointAuthMethod"?}``;
        docs/configuration.md gives each key's meaning.

        :raises AccessError: ``misconfigured``; names the key and what is allowed, never a value.
        """
        try:
            fields = json.loads(secret) if isinstance(secret, str) else None
        except (ValueError, RecursionError):  # the error's own text would quote the secret
            fields = None
        if not isinstance(fields, dict):
            raise _malformed("must be a JSON object in SecretString, with tenantId and clientSecret")
        tenant_id = _text(fields, "tenantId")
        auth_method = _choice(fields, "authMethod", ("oauth2", "basic"))
        if auth_method == "basic" and ":" in tenant_id:
            raise _malformed("tenantId: must not hold a colon with authMethod basic (RFC 7617)")
        return cls(
            tenant_id=tenant_id,
            client_id=_text(fields, "clientId") if fields.get("clientId") is not None else tenant_id,
            client_secret=_text(fields, "clientSecret", "apiSecret"),
            auth_method=auth_method,
            token_endpoint_auth_method=_choice(
                fields, "tokenEndpointAuthMethod", ("client_secret_post", "client_secret_basic")
            ),
        )


def basic_header(user: str, password: str) -> str:
    """Return an Authorization header of the Basic scheme (RFC 7617), in UTF-8."""
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode("ascii")


def _malformed(problem: str) -> AccessError:
    return AccessError("misconfigured", f"the secret is malformed: {problem}")


def _text(fields: dict[str, Any], *keys: str) -> str:
    """Return the value of the first of ``keys`` that is present."""
    key = next((key for key in keys if fields.get(key) is not None), keys[0])
    value = fields.get(key)
    if value is None:
        raise _malformed(f"{' or '.join(keys)}: is missing")
    if not isinstance(value, str) or not 0 < len(value) <= MAX_LENGTH:
        raise _malformed(f"{key}: must be a string of 1 to {MAX_LENGTH} characters")
    if value == PLACEHOLDER:
        raise _malformed(f"{key}: is still the placeholder; set it to the value that Thrive issued")
    if value != value.strip() or _CONTROL.search(value):
        raise _malformed(f"{key}: must not hold control characters, or white space at either end")
    return value


def _choice(fields: dict[str, Any], key: str, allowed: tuple[str, ...]) -> Any:
    value = fields.get(key)
    if value is None:
        return allowed[0]
    if value not in allowed:
        raise _malformed(f"{key}: must be {' or '.join(allowed)}")
    return value


@dataclass(frozen=True, slots=True)
class Reading:
    """Credentials as one read of the secret returned them. ``generation`` grows with every read."""

    credentials: Credentials
    generation: int


class CredentialsCache:
    """The current credentials, read at most once in ``max_age`` seconds, by one thread at a time."""

    def __init__(
        self,
        secret_id: str,
        client: Callable[[], SecretsManagerClient],
        max_age: float,
        clock: Clock,
        count: Callable[[str], None],
    ) -> None:
        """:param count: called with ``SecretReads`` for each call, ``AuthFailures`` for each unusable secret."""
        self._secret_id = secret_id
        self._client = client
        self._max_age = max_age
        self._clock = clock
        self._count = count
        self._lock = threading.Lock()
        self._current: Reading | None = None
        self._generation = 0
        self._read_at = clock.now()
        self._valid_for = max_age
        self._failure: tuple[AccessError, Instant] | None = None

    def get(self) -> Reading:
        """Return the cached credentials, or read the secret if they are too old.

        :raises AccessError: ``misconfigured``: missing, denied or malformed; ``unavailable``: Secrets Manager does not
            answer and nothing is cached.
        """
        with self._lock:
            if self._current is None or elapsed(self._read_at, self._clock.now()) >= self._valid_for:
                return self._read()
            return self._current

    def reread(self, generation: int) -> Reading:
        """Read the secret regardless of its age, because Thrive refused the credentials of ``generation``.

        A thread whose generation is older than the latest gets the latest: another thread has read it already.

        :raises AccessError: as :meth:`get`.
        """
        with self._lock:
            if self._current is not None and self._current.generation > generation:
                return self._current
            return self._read()

    def clear(self) -> None:
        """Forget everything."""
        with self._lock:
            self._current = self._failure = None

    def _read(self) -> Reading:
        now = self._clock.now()
        failure = self._recent_failure(now)
        if failure is None:
            self._count("SecretReads")
            try:
                credentials = Credentials.parse(_fetch(self._client, self._secret_id))
            except AccessError as error:
                if error.reason == "misconfigured":
                    self._count("AuthFailures")
                failure = error.copy()
                self._failure = (failure, self._clock.now())
            else:
                self._generation += 1
                self._current = Reading(credentials, self._generation)
                self._read_at, self._valid_for, self._failure = now, self._max_age, None
                return self._current
        if failure.reason == "unavailable" and self._current is not None:
            # Keep using the cached secret during a Secrets Manager outage.
            self._read_at, self._valid_for = now, min(STALE_RETRY_SECONDS, self._max_age)
            return self._current
        raise failure.copy()

    def _recent_failure(self, now: Instant) -> AccessError | None:
        if self._failure is None:
            return None
        error, since = self._failure
        return error if is_within(SHARED_FAILURE_SECONDS, since, now) else None


def _fetch(client: Callable[[], SecretsManagerClient], secret_id: str) -> str | None:
    """Return the text of the secret's current version.

    :raises AccessError: ``unavailable`` if asking again may help, otherwise ``misconfigured``; never boto3's own text.
    """
    try:
        return client().get_secret_value(SecretId=secret_id, VersionStage="AWSCURRENT").get("SecretString")
    except ClientError as error:
        code = str(error.response.get("Error", {}).get("Code", "unknown"))[:64]
        status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
        if status >= _SERVER_ERROR or code in _THROTTLED:
            raise AccessError("unavailable", f"Secrets Manager answered {code}") from None
        if code == "ResourceNotFoundException":
            missing = "the secret does not exist or has no value yet: put the credentials in"
            raise AccessError("misconfigured", missing) from None
        raise AccessError("misconfigured", f"the secret cannot be read: Secrets Manager answered {code}") from None
    except (HTTPClientError, botocore.exceptions.ConnectionError) as error:
        raise AccessError("unavailable", f"Secrets Manager cannot be reached: {type(error).__name__}") from None
    except (BotoCoreError, ValueError) as error:  # no region, no AWS credentials, a bad endpoint
        raise AccessError("misconfigured", f"Secrets Manager cannot be called: {type(error).__name__}") from None
