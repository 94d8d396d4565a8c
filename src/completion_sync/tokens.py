"""Access tokens: fetching one (:class:`ClientCredentialsFlow`) and caching it (:class:`TokenCache`)."""

from __future__ import annotations

import re
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import quote, quote_plus, urlencode

from .clock import Clock, Deadline, Instant, elapsed, is_within
from .credentials import Credentials, basic_header
from .errors import AccessError, HeldError, OutOfTimeError, TemporaryError
from .retry import RetryPolicy, attempt_within, parse_retry_after

if TYPE_CHECKING:
    from collections.abc import Callable

    from .pressure import Pressure
    from .transport import Response, Transport

# A token is renewed this long before it expires, or a twelfth of its lifetime if that is less: Thrive's live 3600 s.
EXPIRY_MARGIN_SECONDS = 300.0
_EXPIRY_MARGIN_FRACTION = 1 / 12
# After an attempt to renew a token that is still valid, the next one has to wait this long.
RENEWAL_RETRY_SECONDS = 30.0
# Used if expires_in is missing or makes no sense; and the longest lifetime that is believed.
DEFAULT_LIFETIME_SECONDS = 300.0
MAX_LIFETIME_SECONDS = 86_400.0
# Refused credentials would be refused again: asking for each message would only get the client locked out.
REFUSAL_SECONDS = 60.0

# RFC 6750, section 2.1: b64token.
_BEARER_TOKEN = re.compile(r"[A-Za-z0-9._~+/-]+=*")
# RFC 6749, section 5.2: the error codes that are worth repeating to people. Any other text stays out of logs.
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
# What a token request is about, to Pressure: there is only one.
_SUBJECT = "token"
_UNAVAILABLE_4XX = frozenset({408, 425})
# Refusals by their status, whatever the body. Others count only if they are JSON: a proxy's page is not Thrive's.
_STATUS_ALONE = frozenset({401, 403})


@dataclass(frozen=True, slots=True)
class AccessToken:
    """A bearer token. ``requested`` is the moment before it was requested; ``lifetime`` is in seconds."""

    value: str = field(repr=False)
    requested: Instant
    lifetime: float

    def is_due(self, now: Instant) -> bool:
        """Return whether the token should be renewed: it has expired or soon will."""
        margin = min(EXPIRY_MARGIN_SECONDS, self.lifetime * _EXPIRY_MARGIN_FRACTION)
        return elapsed(self.requested, now) >= self.lifetime - margin

    def has_expired(self, now: Instant) -> bool:
        """Return whether the token is too old by either clock."""
        return elapsed(self.requested, now) >= self.lifetime


class ClientCredentialsFlow:
    """Requests tokens: the OAuth 2.0 client credentials grant (RFC 6749, section 4.4)."""

    def __init__(
        self,
        transport: Transport,
        scope: str,
        request_timeout: float,
        clock: Clock,
        count: Callable[[str], None],
    ) -> None:
        """:param scope: space-delimited; if empty, none is sent."""
        self._transport = transport
        self._scope = scope
        self._request_timeout = request_timeout
        self._clock = clock
        self._count = count

    def fetch(self, credentials: Credentials, deadline: Deadline) -> AccessToken:
        """Send one token request.

        :raises TemporaryError: throttled, unavailable, or an unreadable answer; asking again may help.
        :raises AccessError: ``unauthorized``: the credentials or the scope are refused; ``misconfigured``: a redirect.
        :raises OutOfTimeError: there is no time to ask, or the deadline came before the answer.
        """
        # The lifetime counts from before the request, as nobody knows how long the answer took to arrive.
        requested = self._clock.now()
        response = attempt_within(deadline, self._request_timeout, lambda timeout: self._post(credentials, timeout))
        return self._read(response, requested)

    def _post(self, credentials: Credentials, timeout: float) -> Response:
        self._count("TokenRequests")
        headers, body = self._request(credentials)
        return self._transport.post(f"/oauth2/token/{quote(credentials.tenant_id, safe='')}", headers, body, timeout)

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
        if status in _UNAVAILABLE_4XX or status >= 500:
            raise TemporaryError("unavailable", answer, status=status, retry_after=retry_after)
        if status < 200 or 300 <= status < 400:
            raise _unusable(f"{answer}: is the base URL right?", status)
        fields = response.json_object()
        if fields is None:
            if status not in _STATUS_ALONE:
                # A proxy, a CDN or a maintenance page: it says nothing about the credentials.
                detail = f"{answer}, but the body is not a JSON object"
                raise TemporaryError("unavailable", detail, status=status, retry_after=retry_after)
            fields = {}
        if status >= 400 or (status == 200 and "error" in fields):
            self._count("AuthFailures")
            error = fields.get("error")
            known = f" {error}" if isinstance(error, str) and error in _KNOWN_ERRORS else ""
            raise AccessError("unauthorized", f"{answer}{known}: check the credentials and the scope", status=status)
        if status != 200:
            raise _unusable(f"{answer}, which is no answer to a token request", status)
        token = fields.get("access_token")
        if not isinstance(token, str) or not _BEARER_TOKEN.fullmatch(token):
            detail = f"{answer} without a readable access_token"
            raise TemporaryError("unavailable", detail, status=status, retry_after=retry_after)
        if str(fields.get("token_type")).lower() != "bearer":
            raise _unusable(f"{answer} with a token_type other than Bearer", status)
        return AccessToken(token, requested, _lifetime(fields.get("expires_in")))


def _unusable(detail: str, status: int) -> AccessError:
    return AccessError("misconfigured", detail, status=status)


def _lifetime(expires_in: object) -> float:
    # bool is an int in Python: True would be a lifetime of one second.
    if isinstance(expires_in, bool) or not isinstance(expires_in, (int, float)) or not expires_in > 0:
        return DEFAULT_LIFETIME_SECONDS
    return float(min(expires_in, MAX_LIFETIME_SECONDS))


class TokenCache:
    """Keeps one token across warm invocations. One thread fetches it, while those that need one wait for it.

    Without a token nothing can be sent. So a token endpoint that fails is an outage at once, whose probes
    :class:`~completion_sync.pressure.Pressure` spaces out, and a failure to get a token is an :class:`AccessError`.
    """

    def __init__(self, flow: ClientCredentialsFlow, retry: RetryPolicy, pressure: Pressure, clock: Clock) -> None:
        self._flow = flow
        self._retry = retry
        self._pressure = pressure
        self._clock = clock
        self._lock = threading.Lock()
        self._token: AccessToken | None = None
        self._token_of: Credentials | None = None
        self._renewal_began: Instant | None = None
        self._refusal: tuple[AccessError, Credentials, Instant] | None = None

    def get(self, credentials: Credentials, deadline: Deadline) -> AccessToken:
        """Return the cached token of these credentials, or fetch one.

        One thread renews a token that is about to expire. If that fails, for whatever reason, it is used to its end.

        :raises AccessError: the credentials are refused, which is remembered for a minute; or no token can be had now.
        :raises OutOfTimeError: there is no time to fetch one.
        """
        with self._lock:
            now = self._clock.now()
            token = self._token if self._token_of == credentials else None
            if token is None or token.has_expired(now):
                token = self._fetch(credentials, deadline)
                self._keep(token, credentials)
                return token
            if not token.is_due(now) or not self._may_renew(credentials, now):
                return token
            self._renewal_began = now
        return self._renew(token, credentials, deadline)

    def invalidate(self, token: AccessToken) -> None:
        """Forget ``token``, and only that: another thread may have replaced it already."""
        with self._lock:
            if self._token is token:
                self._token = None

    def clear(self) -> None:
        """Forget everything."""
        with self._lock:
            self._token = self._token_of = self._renewal_began = self._refusal = None

    def _may_renew(self, credentials: Credentials, now: Instant) -> bool:
        is_recent = self._renewal_began is not None and is_within(RENEWAL_RETRY_SECONDS, self._renewal_began, now)
        return not is_recent and self._refusal_of(credentials) is None and not self._pressure.is_holding()

    def _renew(self, token: AccessToken, credentials: Credentials, deadline: Deadline) -> AccessToken:
        """Make one attempt to replace ``token``, without the lock: meanwhile the other threads use it."""
        # At most half of the time, so that the other half is left to send the completion with the old token.
        deadline = Deadline(self._clock, deadline.remaining() / 2)
        try:
            attempt = self._pressure.admit(deadline)
            renewed = self._request(credentials, deadline)
        except TemporaryError as error:
            if error.reason == "rate_limited":
                self._pressure.throttled(attempt, error.retry_after)
            return token
        except (HeldError, OutOfTimeError):
            return token
        except AccessError as error:
            with self._lock:
                if self._token is token:
                    self._remember_refusal(error, credentials)
            return token
        with self._lock:
            # Otherwise the token was invalidated or cleared meanwhile, or another thread has replaced it.
            if self._token is token:
                self._keep(renewed, credentials)
        return renewed

    def _fetch(self, credentials: Credentials, deadline: Deadline) -> AccessToken:
        if (refusal := self._refusal_of(credentials)) is not None:
            raise refusal
        probing = self._pressure.is_out
        if probing and not self._pressure.is_probe_due(_SUBJECT):
            raise AccessError("unavailable", "no token: the token endpoint has not been answering")
        try:
            return self._retry.call(
                lambda: self._request(credentials, deadline), deadline, self._pressure, _SUBJECT, probing=probing
            )
        except AccessError as error:
            self._remember_refusal(error, credentials)
            raise
        except (HeldError, TemporaryError) as error:
            if error.reason == "unavailable" and not probing:
                self._pressure.failed(_SUBJECT)
            raise AccessError(
                error.reason, f"no token: {error.detail}", status=error.status, retry_after=error.retry_after
            ) from None

    def _request(self, credentials: Credentials, deadline: Deadline) -> AccessToken:
        try:
            token = self._flow.fetch(credentials, deadline)
        except AccessError:
            self._pressure.answered()
            raise
        self._pressure.answered()
        return token

    def _keep(self, token: AccessToken, credentials: Credentials) -> None:
        self._token, self._token_of, self._renewal_began, self._refusal = token, credentials, None, None

    def _remember_refusal(self, error: AccessError, credentials: Credentials) -> None:
        self._refusal = (error.copy(), credentials, self._clock.now())

    def _refusal_of(self, credentials: Credentials) -> AccessError | None:
        """Return the refusal of these credentials, if there was one in the last minute."""
        if self._refusal is None:
            return None
        error, refused, since = self._refusal
        is_recent = is_within(REFUSAL_SECONDS, since, self._clock.now())
        return error.copy() if is_recent and refused == credentials else None
