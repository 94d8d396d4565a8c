"""Who may call: client credentials, access tokens, and the `Authorization` header that carries either."""

from __future__ import annotations

import base64
import binascii
import secrets
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from sandbox.thrive_api.answers import Answer, error

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

TOKEN_SECONDS = 3600
SCOPES = frozenset({"api/all", "api/read", "api/write", "api/webhooks"})


@dataclass(frozen=True, slots=True)
class Credentials:
    """A client id (or a tenant id, with HTTP Basic on REST calls) and its secret."""

    name: str
    secret: str = field(repr=False)


class Accounts:
    """One tenant's clients and the tokens issued to them."""

    def __init__(self, tenant_id: str) -> None:
        self.tenant_id = tenant_id
        self._clients: frozenset[Credentials] = frozenset()
        # By token: its scopes, and when it expires (monotonic seconds).
        self._tokens: dict[str, tuple[frozenset[str], float]] = {}

    def accept(self, clients: Iterable[Credentials]) -> None:
        """Replace the clients; tokens that were issued before stay valid."""
        self._clients = frozenset(clients)

    def has_client(self, tenant_id: str, client: Credentials) -> bool:
        """Return whether the token endpoint of this tenant accepts these credentials."""
        return tenant_id == self.tenant_id and client in self._clients

    def issue(self, scopes: frozenset[str]) -> str:
        """Return a new access token."""
        token = secrets.token_urlsafe(32)
        self._tokens[token] = scopes, time.monotonic() + TOKEN_SECONDS
        return token

    def revoke(self, token: str) -> None:
        """Invalidate a token; an unknown one is ignored."""
        self._tokens.pop(token, None)

    def revoke_all(self) -> None:
        """Invalidate every token issued so far."""
        self._tokens.clear()

    def refusal(self, headers: Mapping[str, str], scope: str) -> Answer | None:
        """Return the 401 or 403 for a REST call that needs `scope`, or None if it may proceed.

        HTTP Basic (tenant id and API secret) has no scopes: it may do everything.
        """
        token = bearer_of(headers)
        if token is not None:
            scopes, expires_at = self._tokens.get(token, (frozenset(), 0.0))
            if expires_at <= time.monotonic():
                challenge = {"WWW-Authenticate": 'Bearer error="invalid_token"'}
                return error(401, "the access token is unknown, expired or revoked", headers=challenge)
            return None if scopes & {scope, "api/all"} else error(403, f"the access token lacks the scope {scope}")
        basic = basic_of(headers)
        if basic and basic.name == self.tenant_id and any(basic.secret == client.secret for client in self._clients):
            return None
        challenge = {"WWW-Authenticate": "Bearer"}
        return error(401, "a bearer token or HTTP Basic credentials are required", headers=challenge)


def bearer_of(headers: Mapping[str, str]) -> str | None:
    """Return the bearer token of a request (RFC 6750), or None if there is none."""
    scheme, value = _split(headers)
    return value if scheme == "bearer" and value else None


def basic_of(headers: Mapping[str, str]) -> Credentials | None:
    """Return the HTTP Basic credentials of a request (RFC 7617), or None if there are none or they are malformed."""
    scheme, value = _split(headers)
    if scheme != "basic":
        return None
    try:
        name, colon, secret = base64.b64decode(value, validate=True).decode().partition(":")
    except (binascii.Error, ValueError):
        return None
    return Credentials(name, secret) if colon else None


def _split(headers: Mapping[str, str]) -> tuple[str, str]:
    scheme, _, value = headers.get("Authorization", "").partition(" ")
    return scheme.lower(), value.strip()
