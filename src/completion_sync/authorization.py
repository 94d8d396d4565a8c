"""Authorization: what goes into the header of a request, by either of Thrive's schemes, and how it is renewed."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from .credentials import Credentials, CredentialsCache, basic_header
from .errors import AccessError

if TYPE_CHECKING:
    from collections.abc import Callable

    from .retry import Deadline
    from .tokens import AccessToken, TokenCache


@dataclass(frozen=True, slots=True)
class Grant:
    """What one request is sent with. ``renewals`` counts how often it was renewed for that request."""

    header: str = field(repr=False)
    credentials: Credentials
    token: AccessToken | None = None
    renewals: int = 0


class Authorizer:
    """Gives each request its Authorization header, by either of Thrive's schemes, and renews it when it is refused."""

    def __init__(self, credentials: CredentialsCache, tokens: TokenCache, count: Callable[[str], None]) -> None:
        self._credentials = credentials
        self._tokens = tokens
        self._count = count

    def grant(self, deadline: Deadline) -> Grant:
        """Give what a first attempt is sent with.

        :raises AccessError: there are no usable credentials, or no token is to be had.
        :raises OutOfTimeError: there is no time to fetch one.
        """
        return self._grant(self._credentials.get(), deadline, renewals=0)

    def renew(self, refused: Grant, deadline: Deadline) -> Grant:
        """Give what a request is sent with after a 401: first a fresh token, then what a fresh secret gives.

        :raises AccessError: ``unauthorized``: the secret is unchanged, or nothing new is left to try.
        :raises OutOfTimeError: there is no time to fetch a token.
        """
        if refused.token is not None:
            self._tokens.invalidate(refused.token)
            if refused.renewals == 0:
                # Another thread may have replaced the credentials meanwhile, and fetched a token with the new ones.
                # Equal ones stay the same object: by that, reread knows who has not seen its latest.
                current = self._credentials.get()
                credentials = refused.credentials if current == refused.credentials else current
                return self._grant(credentials, deadline, renewals=1)
        if refused.renewals <= 1:
            credentials = self._credentials.reread(refused.credentials)
            if credentials != refused.credentials:
                return self._grant(credentials, deadline, renewals=2)
        self._count("AuthFailures")
        raise AccessError("unauthorized", "Thrive answered 401: check the credentials", status=401)

    def _grant(self, credentials: Credentials, deadline: Deadline, *, renewals: int) -> Grant:
        try:
            return self._grant_by(credentials, deadline, renewals)
        except AccessError as error:
            if error.reason != "unauthorized":
                raise
            # The secret may have been rotated under us, or put right within the remembered minute: one look is cheap.
            reread = self._credentials.reread(credentials)
            if reread == credentials:
                raise
        return self._grant_by(reread, deadline, renewals)

    def _grant_by(self, credentials: Credentials, deadline: Deadline, renewals: int) -> Grant:
        if credentials.auth_method == "basic":
            return Grant(basic_header(credentials.tenant_id, credentials.client_secret), credentials, None, renewals)
        token = self._tokens.get(credentials, deadline)
        return Grant(f"Bearer {token.value}", credentials, token, renewals)
