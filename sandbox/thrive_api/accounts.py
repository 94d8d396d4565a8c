"""Tenants, the credentials they may use, and the access tokens that were issued to them."""

from __future__ import annotations

import secrets
import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

SCOPES = frozenset({"api/all", "api/read", "api/write", "api/webhooks"})


@dataclass(frozen=True, slots=True)
class Client:
    """One pair of client id and secret."""

    client_id: str
    secret: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Grant:
    """What a token allows: scopes within one tenant, until `expires_at` (monotonic seconds)."""

    tenant_id: str
    scopes: frozenset[str]
    expires_at: float

    def allows(self, scope: str) -> bool:
        """Tell whether the scope, or the one that covers all, was granted."""
        return scope in self.scopes or "api/all" in self.scopes


class Accounts:
    """Who may obtain a token and which tokens are good; every method may be called from any thread."""

    def __init__(self, *, token_lifetime: int = 3600, clock: Callable[[], float] = time.monotonic) -> None:
        """Start empty; tokens live `token_lifetime` seconds by `clock`."""
        self.token_lifetime = token_lifetime
        self._clock = clock
        self._clients: dict[str, frozenset[Client]] = {}
        self._tokens: dict[str, Grant] = {}
        self._lock = threading.Lock()

    def accept(self, tenant_id: str, clients: Iterable[Client]) -> None:
        """Replace the credentials a tenant may use; tokens already issued stay good."""
        with self._lock:
            self._clients[tenant_id] = frozenset(clients)

    def knows_client(self, tenant_id: str, client_id: str, secret: str) -> bool:
        """Tell whether these are a client's credentials at the token endpoint."""
        return Client(client_id, secret) in self._clients.get(tenant_id, ())

    def knows_api_secret(self, tenant_id: str, secret: str) -> bool:
        """Tell whether this is one of the tenant's secrets, whatever client id goes with it (HTTP Basic on REST)."""
        return any(client.secret == secret for client in self._clients.get(tenant_id, ()))

    def issue(self, tenant_id: str, scopes: frozenset[str]) -> str:
        """Return a new access token."""
        token = secrets.token_urlsafe(32)
        with self._lock:
            self._tokens[token] = Grant(tenant_id, scopes, self._clock() + self.token_lifetime)
        return token

    def grant_of(self, token: str) -> Grant | None:
        """Return what a token allows, or None when it is unknown, revoked or expired."""
        grant = self._tokens.get(token)
        if grant is None or grant.expires_at <= self._clock():
            return None
        return grant

    def revoke(self, token: str) -> None:
        """Make a token bad from now on; an unknown one is no error."""
        with self._lock:
            self._tokens.pop(token, None)

    def revoke_all(self) -> None:
        """Make every token bad that was issued until now."""
        with self._lock:
            self._tokens.clear()
