"""The stand-in Thrive API as a Python object: the server runs in a background thread, the caller controls it."""

from __future__ import annotations

import asyncio
import secrets
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from sandbox.thrive_api.accounts import Accounts, Credentials
from sandbox.thrive_api.server import Server
from sandbox.thrive_api.service import Service

if TYPE_CHECKING:
    import ssl
    from collections.abc import Coroutine, Iterator

T = TypeVar("T")

# Starting and stopping take milliseconds. If they hang, a test run must not hang with them.
_PATIENCE = 10.0

EXAMPLE_TENANT = "eu-west-2_AbcdEfghI"


class StandIn:
    """A stand-in for the Thrive API. Everything is held in memory.

    `ledger` holds the completion records, `requests` every request that arrived, `faults` what goes wrong, and
    `directory` the users, who may be created at any time, and the ids whose completions are refused.
    """

    def __init__(
        self,
        *,
        tenant_id: str = EXAMPLE_TENANT,
        client_secret: str | None = None,
        host: str = "127.0.0.1",
        port: int = 0,
        ssl_context: ssl.SSLContext | None = None,
        seed: int = 0,
    ) -> None:
        """Set up without starting.

        `client_secret` None generates one; the client id is the tenant id. Port 0 takes a free one. With an
        `ssl_context` the server speaks only TLS. `seed` is for faults that have a probability.
        """
        self.tenant_id = self.client_id = tenant_id
        self.client_secret = client_secret or secrets.token_urlsafe(24)
        self._service = service = Service(Accounts(tenant_id), seed)
        self.ledger, self.requests, self.faults = service.ledger, service.requests, service.faults
        self.directory = service.directory
        self.accept_credentials((self.client_id, self.client_secret))
        self._host = host
        self._scheme = "https" if ssl_context else "http"
        self._server = Server(service, host, port, ssl_context)
        self._loop: asyncio.AbstractEventLoop | None = None

    @property
    def url(self) -> str:
        """The base URL, without a trailing slash."""
        return f"{self._scheme}://{self._host}:{self.port}"

    @property
    def port(self) -> int:
        """The port in use; 0 before the first start if none was chosen."""
        return self._server.port

    @contextmanager
    def running(self) -> Iterator[StandIn]:
        """Serve from a background thread for the length of the block. :raises OSError: the port is taken."""
        self._loop = asyncio.new_event_loop()
        thread = threading.Thread(target=self._loop.run_forever, name="thrive-stand-in", daemon=True)
        thread.start()
        try:
            self.up()
            yield self
        finally:
            self.down()
            self._loop.call_soon_threadsafe(self._loop.stop)
            thread.join(_PATIENCE)
            self._loop.close()
            self._loop = None

    def down(self) -> None:
        """Stop listening and reset all connections: from now on connections are refused."""
        self._do(self._server.stop())

    def up(self) -> None:
        """Listen again, on the same port."""
        self._do(self._server.start())

    def accept_credentials(self, *clients: tuple[str, str]) -> None:
        """Accept these pairs of client id and secret, and no others, for new tokens; old tokens stay valid."""
        self._service.accounts.accept(Credentials(client_id, secret) for client_id, secret in clients)

    def revoke_all_tokens(self) -> None:
        """Invalidate every token issued so far."""
        self._service.accounts.revoke_all()

    def limit_rate(
        self,
        per_second: float | None,
        *,
        route: Literal["completion", "listing", "user"] = "completion",
        retry_after: bool = True,
    ) -> None:
        """Answer requests on a route above this rate with 429; None lifts the limit."""
        self._service.limiters[route].set(per_second, retry_after=retry_after)

    def reset(self) -> None:
        """Delete records, requests, faults and tokens."""
        self.ledger.clear()
        self.requests.clear()
        self.faults.clear()
        self._service.accounts.revoke_all()

    def _do(self, work: Coroutine[Any, Any, T]) -> T:
        if self._loop is None:
            work.close()
            raise RuntimeError("the stand-in is not running")
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(_PATIENCE)
