"""Access tokens: fetching one (:class:`ClientCredentialsFlow`) and keeping it (:class:`TokenCache`)."""

from __future__ import annotations

import json
import re
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, quote_plus, urlencode

from .credentials import SHARED_FAILURE_SECONDS, Credentials, basic_header
from .errors import AccessError, OutOfTimeError, TemporaryError
from .retry import MIN_ATTEMPT_SECONDS, Clock, Deadline, Instant, RetryPolicy, elapsed, is_within, parse_retry_after

if TYPE_CHECKING:
    from collections.abc import Callable

    from .transport import Response, Transport

# A token is given up this long before its end, or a twelfth of its life if that is less: Thrive's live 3600 s.
EXPIRY_MARGIN_SECONDS = 300.0
_EXPIRY_MARGIN_FRACTION = 1 / 12
# Where expires_in is missing or makes no sense; and the longest that is believed.
DEFAULT_LIFETIME_SECONDS = 300.0
MAX_LIFETIME_SECONDS = 86_400.0
# Refused credentials are refused again: asking for each message would only get the client locked out.
REFUSAL_SECONDS = 60.0

# RFC 6750, section 2.1: b64token.
_BEARER_TOKEN = re.compile(r"[A-Za-z0-9._~+/-]+=*")
# RFC 6749, section 5.2: the error codes that are worth repeating to people; any other text stays out of logs.
_KNOWN_ERRORS = frozenset(
    {
        "invalid_request",
        "invalid_client",
        "invalid_grant",
        "unauthorized_client",
        "unsupported_grant_type",
        "invalid_scope",
    }
)
_TEMPORARY_4XX = frozenset({408, 425, 429})


@dataclass(frozen=True, slots=True)
class AccessToken:
    """A bearer token. ``requested`` is the moment before it was asked for; ``lifetime`` is in seconds."""

    value: str = field(repr=False)
    requested: Instant
    lifetime: float

    def is_fresh(self, now: Instant) -> bool:
        """Tell whether the token may still be used: neither clock has reached its end less the margin."""
        margin = min(EXPIRY_MARGIN_SECONDS, self.lifetime * _EXPIRY_MARGIN_FRACTION)
        return elapsed(self.requested, now) < self.lifetime - margin


class ClientCredentialsFlow:
    """Asks a token endpoint for a token: OAuth 2.0 client credentials (RFC 6749, section 4.4)."""

    def __init__(
        self,
        transport: Transport,
        scope: str,
        request_timeout: float,
        clock: Clock,
        count: Callable[[str], None],
    ) -> None:
        """:param scope: space-delimited; none is sent where it is empty."""
        self._transport = transport
        self._scope = scope
        self._request_timeout = request_timeout
        self._clock = clock
        self._count = count

    def fetch(self, credentials: Credentials, deadline: Deadline) -> AccessToken:
        """Ask once.

        :raises TemporaryError: throttled, unavailable, or an answer that cannot be read; asking again may help.
        :raises AccessError: ``unauthorized``: the credentials or the scope are refused; ``misconfigured``: a redirect.
        :raises OutOfTimeError: there is no time to ask.
        """
        remaining = deadline.remaining()
        if remaining < MIN_ATTEMPT_SECONDS:
            raise OutOfTimeError
        # The token's life counts from before the request: how long the answer took to come back is not known to it.
        requested = self._clock.now()
        self._count("TokenRequests")
        headers, body = self._request(credentials)
        response = self._transport.post(
            f"/oauth2/token/{quote(credentials.tenant_id, safe='')}",
            headers,
            body,
            min(self._request_timeout, remaining),
        )
        return self._read(response, requested)

    def _request(self, credentials: Credentials) -> tuple[dict[str, str], bytes]:
        headers = {"Content-Type": "application/x-www-form-urlencoded"}
        form = {"grant_type": "client_credentials"}
        if credentials.token_endpoint_auth_method == "client_secret_basic":
            # RFC 6749, section 2.3.1: each half is form-encoded before they are joined.
            headers["Authorization"] = basic_header(
                quote_plus(credentials.client_id), quote_plus(credentials.client_secret)
            )
        else:
            form |= {"client_id": credentials.client_id, "client_secret": credentials.client_secret}
        if self._scope:
            form["scope"] = self._scope
        return headers, urlencode(form).encode("ascii")

    def _read(self, response: Response, requested: Instant) -> AccessToken:
        status = response.status
        retry_after = parse_retry_after(response.retry_after, self._clock.now())
        answer = f"the token endpoint answered {status}"
        if status == 429:
            self._count("Throttles")
            raise TemporaryError("rate_limited", answer, status=status, retry_after=retry_after)
        if status in _TEMPORARY_4XX or status >= 500:
            raise TemporaryError("unavailable", answer, status=status, retry_after=retry_after)
        fields = _json_object(response.body)
        if 400 <= status < 500 or (status == 200 and "error" in fields):
            self._count("AuthFailures")
            error = fields.get("error")
            known = f" {error}" if isinstance(error, str) and error in _KNOWN_ERRORS else ""
            raise AccessError("unauthorized", f"{answer}{known}: check the credentials and the scope", status=status)
        if status != 200:
            raise AccessError("misconfigured", f"{answer}, which is no answer to a token request", status=status)
        token = fields.get("access_token")
        if not isinstance(token, str) or not _BEARER_TOKEN.fullmatch(token):
            raise TemporaryError("unavailable", f"{answer} without a readable access_token", status=status)
        if str(fields.get("token_type")).lower() != "bearer":
            raise AccessError("misconfigured", f"{answer} with a token_type other than Bearer", status=status)
        return AccessToken(token, requested, _lifetime(fields.get("expires_in")))


def _json_object(body: bytes | None) -> dict[str, Any]:
    try:
        fields = json.loads(body or b"")
    except (ValueError, RecursionError):
        return {}
    return fields if isinstance(fields, dict) else {}


def _lifetime(expires_in: object) -> float:
    # bool is an int in Python: True would be a lifetime of one second.
    if isinstance(expires_in, bool) or not isinstance(expires_in, (int, float)) or not expires_in > 0:
        return DEFAULT_LIFETIME_SECONDS
    return float(min(expires_in, MAX_LIFETIME_SECONDS))


class TokenCache:
    """Keeps one token across warm invocations. One thread fetches; those that wait for it share what it gets."""

    def __init__(self, flow: ClientCredentialsFlow, retry: RetryPolicy, clock: Clock) -> None:
        self._flow = flow
        self._retry = retry
        self._clock = clock
        self._lock = threading.Lock()
        self._token: AccessToken | None = None
        self._token_of: Credentials | None = None
        self._failure: tuple[AccessError, Credentials, Instant, float] | None = None

    def get(self, credentials: Credentials, deadline: Deadline) -> AccessToken:
        """Give the cached token of these credentials while it is fresh, else fetch one.

        :raises AccessError: refused, remembered for a minute; or not to be had now.
        :raises OutOfTimeError: there is no time to fetch one.
        """
        with self._lock:
            if self._token is not None and self._token_of == credentials and self._token.is_fresh(self._clock.now()):
                return self._token
            self._raise_remembered(credentials)
            self._token = None
            try:
                self._token = self._retry.call(lambda: self._flow.fetch(credentials, deadline), deadline)
            except AccessError as error:
                self._failure = (error.again(), credentials, self._clock.now(), REFUSAL_SECONDS)
                raise
            except TemporaryError as error:
                # Without a token no message can be sent: to the batch it is not one call that failed, but all.
                failure = AccessError(
                    error.reason, f"no token: {error.detail}", status=error.status, retry_after=error.retry_after
                )
                self._failure = (failure.again(), credentials, self._clock.now(), SHARED_FAILURE_SECONDS)
                raise failure from None
            self._token_of, self._failure = credentials, None
            return self._token

    def invalidate(self, token: AccessToken) -> None:
        """Forget ``token``, and only that: another thread may have replaced it already."""
        with self._lock:
            if self._token is token:
                self._token = None

    def clear(self) -> None:
        """Forget everything."""
        with self._lock:
            self._token = self._token_of = self._failure = None

    def _raise_remembered(self, credentials: Credentials) -> None:
        if self._failure is None:
            return
        error, refused, since, seconds = self._failure
        if refused == credentials and is_within(seconds, since, self._clock.now()):
            raise error.again()
