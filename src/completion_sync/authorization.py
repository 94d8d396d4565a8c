"""The Authorization header of a request, in either of Thrive's schemes, and its renewal after a 401."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from .credentials import basic_header
from .errors import AccessError

if TYPE_CHECKING:
    from collections.abc import Callable

    from .clock import Deadline
    from .credentials import CredentialsCache, Reading
    from .tokens import AccessToken, TokenCache


@dataclass(frozen=True, slots=True)
class Grant:
    """What authorizes one request. ``renewals`` counts how often it was renewed for that request."""

    header: str = field(repr=False)
    reading: Reading
    token: AccessToken | None
    renewals: int


class Authorizer:
    """Provides the Authorization header of requests."""

    def __init__(self, credentials: CredentialsCache, tokens: TokenCache, count: Callable[[str], None]) -> None:
        self._credentials = credentials
        self._tokens = tokens
        self._count = count

    def grant(self, deadline: Deadline) -> Grant:
        """Return the grant for a first attempt.

        :raises AccessError: there are no usable credentials, or no token can be had.
        :raises OutOfTimeError: there is no time to fetch a token.
        """
        return self._grant(self._credentials.get(), deadline, renewals=0)

    def renew(self, refused: Grant, deadline: Deadline) -> Grant:
        """Return the grant for the next attempt after a 401: first with a new token, then with a newly read secret.

        :raises AccessError: ``unauthorized``: the secret has not changed, so there is nothing left to try.
        :raises OutOfTimeError: there is no time to fetch a token.
        """
        if refused.token is not None:
            self._tokens.invalidate(refused.token)
            if refused.renewals == 0:
                # Another thread may have read a rotated secret meanwhile. If it found the same credentials, keep the
                # older generation: at the next 401, reread() then returns what was read, and does not read again.
                latest = self._credentials.get()
                is_same = latest.credentials == refused.reading.credentials
                return self._grant(refused.reading if is_same else latest, deadline, renewals=1)
        if refused.renewals <= 1:
            reading = self._credentials.reread(refused.reading.generation)
            if reading.credentials != refused.reading.credentials:
                return self._grant(reading, deadline, renewals=2)
        self._count("AuthFailures")
        raise AccessError("unauthorized", "Thrive answered 401: check the credentials", status=401)

    def _grant(self, reading: Reading, deadline: Deadline, *, renewals: int) -> Grant:
        try:
            return self._authorize(reading, deadline, renewals)
        except AccessError as error:
            if error.reason != "unauthorized":
                raise
        # The secret may have been rotated or corrected since it was read. If not, the remembered refusal is raised.
        return self._authorize(self._credentials.reread(reading.generation), deadline, renewals)

    def _authorize(self, reading: Reading, deadline: Deadline, renewals: int) -> Grant:
        credentials = reading.credentials
        if credentials.auth_method == "basic":
            return Grant(basic_header(credentials.tenant_id, credentials.client_secret), reading, None, renewals)
        token = self._tokens.get(credentials, deadline)
        return Grant(f"Bearer {token.value}", reading, token, renewals)
