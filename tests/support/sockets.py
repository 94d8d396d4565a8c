"""Raw socket servers on loopback that misbehave below HTTP, as no HTTP library would let a server do.

A behaviour is a function of the :class:`Peer` that it answers. Each request is answered by the next behaviour of the
server's script; the last one answers all further requests.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import socket
import ssl
import struct
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from types import TracebackType

    import trustme

STATEMENT = b'{"statementId":"statement-1"}'
# Far longer than any test takes; only reached when something hangs.
_PATIENCE_SECONDS = 20.0


@dataclass(frozen=True)
class Received:
    """One request as it was received, byte for byte."""

    head: bytes
    body: bytes

    @property
    def target(self) -> str:
        """The request target."""
        return self.head.split(b" ", 2)[1].decode("ascii")

    @property
    def headers(self) -> dict[str, str]:
        """The header fields, by their names in lower case."""
        lines = self.head.decode("latin-1").split("\r\n")[1:]
        return {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines) if name}


class Peer:
    """One accepted connection, as a behaviour sees it; ``received`` is the request to be answered."""

    def __init__(self, sock: socket.socket, stopped: threading.Event) -> None:
        self._sock = sock
        self._stopped = stopped
        self.received = Received(b"", b"")

    def send(self, data: bytes) -> None:
        """Send all of ``data``."""
        self._sock.sendall(data)

    def pause(self, seconds: float) -> bool:
        """Send nothing for a while; return whether the server still runs."""
        return not self._stopped.wait(seconds)

    def silence(self) -> None:
        """Send nothing more until the server stops, and keep the connection open."""
        self._stopped.wait(_PATIENCE_SECONDS)

    def reset(self) -> None:
        """Reset the connection (RST)."""
        self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._sock.close()

    def close(self) -> None:
        """Close the connection properly (FIN)."""
        with contextlib.suppress(OSError):
            self._sock.shutdown(socket.SHUT_RDWR)
        self._sock.close()


Behaviour = Callable[[Peer], None]


class RawServer:
    """Listens on a free port of 127.0.0.1 for as long as its ``with`` block lasts.

    ``accepts`` counts connections; ``requests`` holds complete requests and ``partial`` the bytes of incomplete ones.
    """

    def __init__(
        self, *script: Behaviour, at_accept: Behaviour | None = None, tls: ssl.SSLContext | None = None
    ) -> None:
        """:param at_accept: called for each connection, before a request is read."""
        self._script = list(script)
        self._at_accept = at_accept
        self._tls = tls
        self._stopped = threading.Event()
        self._lock = threading.Lock()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._sockets: list[socket.socket] = []
        self._threads: list[threading.Thread] = []
        self.accepts = 0
        self.requests: list[Received] = []
        self.partial: list[bytes] = []

    def __enter__(self) -> Self:
        self._start(self._accept)
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self._stopped.set()
        # Closing a socket does not interrupt a blocked accept; shutting it down does.
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for sock in list(self._sockets):
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
        for thread in list(self._threads):
            thread.join(_PATIENCE_SECONDS)
            assert not thread.is_alive(), "a server thread hangs"
        for sock in self._sockets:
            sock.close()

    @property
    def port(self) -> int:
        """The port in use."""
        port: int = self._listener.getsockname()[1]
        return port

    @property
    def url(self) -> str:
        """The base URL."""
        return f"{'https' if self._tls else 'http'}://127.0.0.1:{self.port}"

    def _start(self, work: Callable[..., None], *arguments: object) -> None:
        thread = threading.Thread(target=work, args=arguments, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while not self._stopped.is_set():
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            self._sockets.append(sock)
            self.accepts += 1
            self._start(self._converse, sock)

    def _converse(self, sock: socket.socket) -> None:
        if self._tls is not None:
            try:
                sock = self._tls.wrap_socket(sock, server_side=True)
            except OSError:
                return
            self._sockets.append(sock)
        peer = Peer(sock, self._stopped)
        # The client hangs up in the middle of many behaviours: that ends the connection, not the test.
        with contextlib.suppress(OSError), sock:
            if self._at_accept is not None:
                self._at_accept(peer)
            while (received := self._receive(sock)) is not None:
                peer.received = received
                with self._lock:
                    self.requests.append(received)
                    behaviour = self._script.pop(0) if len(self._script) > 1 else self._script[0]
                behaviour(peer)

    def _receive(self, sock: socket.socket) -> Received | None:
        data = b""
        while b"\r\n\r\n" not in data:
            more = sock.recv(65_536)
            if not more:
                if data:
                    self.partial.append(data)
                return None
            data += more
        head, _, body = data.partition(b"\r\n\r\n")
        length = int(Received(head, b"").headers.get("content-length", "0"))
        while len(body) < length:
            more = sock.recv(65_536)
            if not more:
                self.partial.append(data)
                return None
            body += more
        return Received(head, body)


def head(status: int, **fields: str) -> bytes:
    """Return a status line and header fields; an underscore in a name becomes a hyphen."""
    lines = [f"HTTP/1.1 {status} Status", *(f"{name.replace('_', '-')}: {value}" for name, value in fields.items())]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


def response(status: int, body: bytes = STATEMENT, **fields: str) -> bytes:
    """Return a complete response with a correct Content-Length."""
    return head(status, Content_Length=str(len(body)), **fields) + body


def answer(status: int, body: bytes = STATEMENT, **fields: str) -> Behaviour:
    """Send a complete response and keep the connection open."""
    return say(response(status, body, **fields))


def say(*parts: bytes, pause: float = 0.0, then: Behaviour | None = None) -> Behaviour:
    """Send ``parts`` with a pause between them, then do ``then``, or keep the connection open."""

    def behave(peer: Peer) -> None:
        for index, part in enumerate(parts):
            if index and not peer.pause(pause):
                return
            peer.send(part)
        if then is not None:
            then(peer)

    return behave


def drip(data: bytes, interval: float) -> Behaviour:
    """Send ``data`` byte by byte, ``interval`` seconds apart."""
    return say(*(data[index : index + 1] for index in range(len(data))), pause=interval)


def endless(beginning: bytes, chunk: bytes) -> Behaviour:
    """Send ``beginning``, then ``chunk`` repeatedly until the client hangs up or the server stops."""

    def behave(peer: Peer) -> None:
        peer.send(beginning)
        while peer.pause(0):
            peer.send(chunk)

    return behave


reset: Behaviour = Peer.reset
close: Behaviour = Peer.close
silence: Behaviour = Peer.silence


def server_context(authority: trustme.CA, *names: str, expired: bool = False) -> ssl.SSLContext:
    """Return a server's TLS context with a certificate of ``authority`` for ``names``."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    past = dt.datetime(2001, 1, 1, tzinfo=dt.UTC) if expired else None
    authority.issue_cert(*names, not_after=past).configure_cert(context)
    return context
