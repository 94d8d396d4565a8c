"""The stand-in Thrive API as a Python object: a server in a background thread, steered from the caller's."""

from __future__ import annotations

import asyncio
import secrets
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

from sandbox.thrive_api.accounts import Accounts, Client
from sandbox.thrive_api.server import Server
from sandbox.thrive_api.service import Directory, Service

if TYPE_CHECKING:
    import ssl
    from collections.abc import Coroutine, Iterable, Iterator, Mapping

    from sandbox.thrive_api.arrivals import RequestLog
    from sandbox.thrive_api.fault_book import FaultBook
    from sandbox.thrive_api.ledger import Ledger

T = TypeVar("T")

# Starting, stopping: a matter of milliseconds. More than this is a bug that must not hang a test run.
_PATIENCE = 10.0

EXAMPLE_TENANT = "eu-west-2_AbcdEfghI"


class StandIn:
    """A stand-in for the Thrive API; everything is held in memory and forgotten at the end.

    One object may be run several times, one after the other; its records, tokens and faults stay.
    """

    def __init__(
        self,
        *,
        tenant_id: str = EXAMPLE_TENANT,
        client_secret: str | None = None,
        client_id: str | None = None,
        host: str = "127.0.0.1",
        port: int = 0,
        ssl_context: ssl.SSLContext | None = None,
        token_lifetime: int = 3600,
        users: Mapping[str, Mapping[str, Any]] | None = None,
        unknown_users: Iterable[str] = (),
        unknown_contents: Iterable[str] = (),
        unknown_status: int = 422,
        per_second: float | None = None,
        seed: int = 0,
    ) -> None:
        """Set up without starting.

        `client_secret` None generates one; `client_id` None means the tenant id; port 0 takes a free one; with an
        `ssl_context` the server speaks TLS only. `token_lifetime` is in seconds. `users` maps a ref to the members
        of its user (`id` at least). Completions for unknown users or contents get `unknown_status`. `per_second`
        limits completions (429 above it). `seed` drives faults that have a probability.
        """
        self.tenant_id = tenant_id
        self.client_id = client_id or tenant_id
        self.client_secret = client_secret or secrets.token_urlsafe(24)
        self.accounts = Accounts(token_lifetime=token_lifetime)
        self.accounts.accept(tenant_id, [Client(self.client_id, self.client_secret)])
        self.directory = Directory(dict(users or {}), set(unknown_users), set(unknown_contents), unknown_status)
        self._service = Service(self.accounts, self.directory, per_second=per_second, seed=seed)
        self._host = host
        self._port = port
        self._ssl_context = ssl_context
        self._server: Server | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    @property
    def url(self) -> str:
        """The base URL, without a slash at the end; an address that listens everywhere is named as loopback."""
        host = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(self._host, self._host)  # noqa: S104 - only reads it
        return f"{'https' if self._ssl_context else 'http'}://{host}:{self.port}"

    @property
    def port(self) -> int:
        """The port in use; RuntimeError when the stand-in does not run."""
        return self._running_server().port

    @property
    def ledger(self) -> Ledger:
        """The completion records."""
        return self._service.ledger

    @property
    def requests(self) -> RequestLog:
        """Every request that arrived, control requests apart."""
        return self._service.requests

    @property
    def faults(self) -> FaultBook:
        """The faults in force."""
        return self._service.faults

    @contextmanager
    def running(self) -> Iterator[StandIn]:
        """Serve from a background thread for as long as the block lasts; OSError if the port is taken."""
        if self._server is not None:
            raise RuntimeError("the stand-in runs already")
        self._loop = asyncio.new_event_loop()
        thread = threading.Thread(target=self._loop.run_forever, name="thrive-stand-in", daemon=True)
        thread.start()
        self._server = Server(self._service, self._host, self._port, self._ssl_context)
        try:
            self._do(self._server.start())
            yield self
        finally:
            self._do(self._server.aclose())
            self._loop.call_soon_threadsafe(self._loop.stop)
            thread.join(_PATIENCE)
            self._loop.close()
            self._server = self._loop = None

    def down(self) -> None:
        """Stop listening and reset all connections: connecting is refused from now on."""
        self._do(self._running_server().stop())

    def up(self) -> None:
        """Listen again, on the same port."""
        self._do(self._running_server().start())

    def accept_credentials(self, *clients: tuple[str, str]) -> None:
        """Let these pairs of client id and secret, and no others, obtain tokens; old tokens stay good."""
        self.accounts.accept(self.tenant_id, [Client(client_id, secret) for client_id, secret in clients])

    def revoke_all_tokens(self) -> None:
        """Make every token bad that was issued until now."""
        self.accounts.revoke_all()

    def limit_rate(self, per_second: float | None) -> None:
        """Limit the completions accepted per second; None lifts the limit."""
        self._service.limiter.set(per_second)

    def reset(self) -> None:
        """Forget records, requests, faults and tokens."""
        self._service.reset()

    def _running_server(self) -> Server:
        if self._server is None:
            raise RuntimeError("the stand-in does not run")
        return self._server

    def _do(self, work: Coroutine[Any, Any, T]) -> T:
        assert self._loop is not None  # noqa: S101 - callers hold a running server
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(_PATIENCE)
