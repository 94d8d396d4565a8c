"""Connections with one deadline over an exchange, name lookup included, and a limit on how long each may be idle.

urllib3's read timeout restarts with each byte that arrives, and each address of a host gets the whole timeout.

This relies on names of urllib3 and http.client that are public but hardly documented (``ConnectionCls``,
``is_connected``, ``is_verified``, ``response_class``), and on one private method, ``HTTPResponse._read_status``.
``test_urllib3_and_http_client_still_have_what_connections_override`` fails when one of them changes.
"""

from __future__ import annotations

import http
import http.client
import queue
import socket
import ssl
import threading
import time
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import urlsplit

from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.exceptions import ConnectTimeoutError, NameResolutionError, NewConnectionError

from .clock import Clock, elapsed

if TYPE_CHECKING:
    from collections.abc import Callable

# Load balancers commonly drop a silent connection after 60 s, and a frozen environment cannot see it happen.
MAX_IDLE_SECONDS = 30.0


def connection_pool(
    base_url: str, size: int, ssl_context: Callable[[], ssl.SSLContext], clock: Clock
) -> HTTPConnectionPool:
    """Return an empty pool that keeps up to ``size`` connections to ``https://host[:port]`` or ``http://host[:port]``.

    :param ssl_context: called for https only; one context for all connections, as loading the trusted roots takes time.
    """
    parts = urlsplit(base_url)
    host = parts.hostname or ""
    if parts.scheme == "https":
        context = ssl_context()
        context.sslsocket_class = _DeadlineSSLSocket
        secure = HTTPSConnectionPool(host, parts.port, maxsize=size, block=False, ssl_context=context, clock=clock)
        secure.ConnectionCls = _SecureConnection
        return secure
    plain = HTTPConnectionPool(host, parts.port, maxsize=size, block=False, clock=clock)
    plain.ConnectionCls = _PlainConnection
    return plain


class Exchange(threading.local):
    """The exchange that the current thread is in. urllib3 hands no deadline down to its sockets, so they look here."""

    end = 0.0

    def remaining(self) -> float:
        """Return the seconds left.

        :raises TimeoutError: none are left. (A socket timeout of 0 would mean a socket that does not block.)
        """
        seconds = self.end - time.monotonic()
        if seconds <= 0:
            raise TimeoutError
        return seconds


exchange = Exchange()


class _DeadlineMixin:
    """A socket whose every read and write ends by the deadline of the exchange.

    What is written leaves at the next read: http.client and urllib3 write head and body one by one, and together they
    are one system call and one TLS record.
    """

    _unsent = b""

    def sendall(self, data: Any, _flags: int = 0) -> None:
        self._unsent += bytes(data)

    def recv_into(self, buffer: Any, *options: Any) -> int:
        if self._unsent:
            data, self._unsent = self._unsent, b""
            self._limit()
            super().sendall(data)  # type: ignore[misc] # a socket class follows in the method resolution order
        self._limit()
        count: int = super().recv_into(buffer, *options)  # type: ignore[misc] # the same
        return count

    def _limit(self) -> None:
        self.settimeout(exchange.remaining())  # type: ignore[attr-defined] # the same


class _DeadlineSocket(_DeadlineMixin, socket.socket):
    pass


class _DeadlineSSLSocket(_DeadlineMixin, ssl.SSLSocket):
    pass


class _FinalResponse(http.client.HTTPResponse):
    """Skips interim responses (RFC 9110, section 15.2) up to the final one; http.client does so for 100 only.

    101 is final: nobody asked for another protocol.
    """

    def _read_status(self) -> tuple[str, int, str]:
        while True:
            version, status, reason = super()._read_status()  # type: ignore[misc] # private, so not in the stubs
            if not http.HTTPStatus.SWITCHING_PROTOCOLS < status < http.HTTPStatus.OK:
                return version, status, reason
            http.client.parse_headers(self.fp)


class KeepAliveMixin:
    """A connection that counts as closed once it was idle for longer than ``MAX_IDLE_SECONDS``, by either clock."""

    def __init__(self, *args: Any, clock: Clock, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._clock = clock
        self._used = clock.now()

    @property
    def is_connected(self) -> bool:
        """Whether the pool may use this connection again."""
        is_fresh = elapsed(self._used, self._clock.now()) <= MAX_IDLE_SECONDS
        return is_fresh and super().is_connected  # type: ignore[misc] # urllib3's class follows

    def getresponse(self) -> Any:
        """Read the head of the answer."""
        response = super().getresponse()  # type: ignore[misc] # the same
        self._used = self._clock.now()
        return response


class _PlainConnection(KeepAliveMixin, HTTPConnection):
    response_class = _FinalResponse

    def connect(self) -> None:
        self.sock = _open(self)


class _SecureConnection(KeepAliveMixin, HTTPSConnection):
    response_class = _FinalResponse

    def connect(self) -> None:
        context = cast("ssl.SSLContext", self.ssl_context)  # connection_pool always passes one
        self.sock = context.wrap_socket(_open(self), server_hostname=self.host)
        self.is_verified = context.check_hostname and context.verify_mode is ssl.CERT_REQUIRED


def _open(connection: HTTPConnection) -> socket.socket:
    """Connect within the deadline; urllib3 would give each of the host's addresses the whole timeout.

    :raises NameResolutionError: the host has no address, or its name server did not answer in time.
    :raises ConnectTimeoutError, NewConnectionError: no address accepts a connection.
    """
    addresses = _resolve(connection)
    timed_out = False
    for index, (family, kind, protocol, _, address) in enumerate(addresses):
        try:
            # A dead address must leave the others their share of the time.
            return _connect(family, kind, protocol, address, exchange.remaining() / (len(addresses) - index))
        except OSError as error:
            timed_out = timed_out or isinstance(error, TimeoutError)
    if timed_out:
        raise ConnectTimeoutError(connection, "no address answers")
    raise NewConnectionError(connection, "no address answers")


def _connect(family: int, kind: int, protocol: int, address: Any, timeout: float) -> socket.socket:
    sock = _DeadlineSocket(family, kind, protocol)
    try:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.settimeout(timeout)
        sock.connect(address)
        # What is left is for the TLS handshake.
        sock.settimeout(exchange.remaining())
    except OSError:
        sock.close()
        raise
    return sock


def _resolve(connection: HTTPConnection) -> list[Any]:
    """Look the host's addresses up. ``getaddrinfo`` takes no timeout, so it gets a thread that can be left behind."""
    answers: queue.SimpleQueue[list[Any] | Exception] = queue.SimpleQueue()

    def look_up() -> None:
        try:
            answers.put(list(socket.getaddrinfo(connection.host, connection.port, type=socket.SOCK_STREAM)))
        except (OSError, UnicodeError) as error:  # UnicodeError: a label of the name is too long
            answers.put(error)

    threading.Thread(target=look_up, name="resolve", daemon=True).start()
    try:
        found = answers.get(timeout=exchange.remaining())
    except queue.Empty:
        found = TimeoutError()
    if isinstance(found, list):
        return found
    raise NameResolutionError(connection.host, connection, socket.gaierror()) from None
