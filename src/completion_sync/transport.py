"""One HTTP attempt over urllib3, and the only translator of its errors.

urllib3 gives connections, TLS and pooling; what it would do on its own is switched off: retries (a lost POST would be
sent again unseen), redirects (a POST would follow them to another host, token and all) and decompression. What it lacks
is added: a deadline over the whole exchange (its read timeout starts anew with each byte that drips in), a bound on the
body, and fresh connections after a pause.
"""

from __future__ import annotations

import http
import http.client
import io
import re
import socket
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import urllib3
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.exceptions import (
    ConnectTimeoutError,
    HTTPError,
    NameResolutionError,
    NewConnectionError,
    ReadTimeoutError,
    SSLError,
)

from .errors import TemporaryError
from .retry import Clock, Instant, elapsed

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Mapping

# Answers of this API have some hundred bytes. One byte more than this is read, to tell that there was more.
MAX_BODY_BYTES = 65_536
# Load balancers commonly drop a silent connection after 60 s, and a frozen environment cannot see it happen.
MAX_IDLE_SECONDS = 30.0
_STATUS_LINE_BYTES = 16
_INTERIM = re.compile(rb"HTTP/1\.\d (1\d\d)[ \r\n]")
# http.client ends these at their head. Whatever a server sends behind it all the same would be taken for the answer to
# the next request, so such a connection is not used again.
_BODILESS = frozenset({http.HTTPStatus.NO_CONTENT, http.HTTPStatus.NOT_MODIFIED})


@dataclass(frozen=True, slots=True)
class Response:
    """An answer. ``body`` is None where it could not be read whole: too large, cut off, too slow."""

    status: int
    body: bytes | None
    retry_after: str | None = None


class Transport:
    """Sends requests to one host, each at most once."""

    def __init__(self, open_pool: Callable[[], HTTPConnectionPool], clock: Clock) -> None:
        """:param open_pool: makes an empty connection pool for the host (:func:`connection_pool`)."""
        self._open_pool = open_pool
        self._clock = clock
        self._lock = threading.Lock()
        self._pool: HTTPConnectionPool | None = None
        self._last_used: Instant = clock.now()

    def post(self, path: str, headers: Mapping[str, str], body: bytes, timeout: float) -> Response:
        """Send one POST, whose body must not be empty, and read its answer, all within ``timeout`` seconds.

        :raises TemporaryError: ``unavailable``: no answer, or none that is HTTP. The request may have been received.
        """
        # No Accept-Encoding but identity: a body that inflates is not our problem then.
        headers = {"Accept": "application/json", "Accept-Encoding": "identity", **headers}
        try:
            answer = self._current_pool().urlopen(
                "POST",
                path,
                body=body,
                headers=headers,
                retries=False,
                redirect=False,
                assert_same_host=False,
                preload_content=False,
                decode_content=False,
                timeout=urllib3.Timeout(total=timeout),
            )
        except _InterimOnlyError as interim:
            return Response(interim.status, None)
        except (HTTPError, http.client.HTTPException, OSError, ValueError) as error:
            # The library's text may quote a header or the URL: ours alone goes on, and nothing is chained.
            raise TemporaryError("unavailable", _describe(error)) from None
        return Response(answer.status, _read(answer), answer.headers.get("Retry-After"))

    def close(self) -> None:
        """Drop every idle connection; the next request opens a new one."""
        with self._lock:
            self._drop_pool()

    def _current_pool(self) -> HTTPConnectionPool:
        with self._lock:
            now = self._clock.now()
            if elapsed(self._last_used, now) > MAX_IDLE_SECONDS:
                self._drop_pool()
            self._last_used = now
            if self._pool is None:
                self._pool = self._open_pool()
            return self._pool

    def _drop_pool(self) -> None:
        if self._pool is not None:
            self._pool.close()
            self._pool = None


def connection_pool(base_url: str, size: int, ssl_context: Callable[[], ssl.SSLContext]) -> HTTPConnectionPool:
    """Make an empty pool of ``size`` kept connections for ``https://host[:port]`` or ``http://host[:port]``.

    :param ssl_context: called for https alone; one context for all, as loading the trusted roots takes time.
    """
    parts = urlsplit(base_url)
    host = parts.hostname or ""
    if parts.scheme == "https":
        secure = HTTPSConnectionPool(host, parts.port, maxsize=size, block=False, ssl_context=ssl_context())
        secure.ConnectionCls = _DeadlineHTTPSConnection
        return secure
    plain = HTTPConnectionPool(host, parts.port, maxsize=size, block=False)
    plain.ConnectionCls = _DeadlineHTTPConnection
    return plain


def _read(answer: urllib3.BaseHTTPResponse) -> bytes | None:
    """Read the body, bounded, and hand the connection back; where that cannot be, close it.

    The status alone decides what became of the message, so that a body that cannot be read is no error.
    """
    if answer.status in _BODILESS or answer.status < http.HTTPStatus.OK:
        # Before any reading: urllib3 hands the connection back by itself where a read comes to the end.
        answer.close()
        return b""
    try:
        body = answer.read(MAX_BODY_BYTES + 1)
        # The second read raises where the first came to an end before Content-Length said so.
        if len(body) <= MAX_BODY_BYTES and not answer.read(1):
            answer.release_conn()
            return body
    except (HTTPError, http.client.HTTPException, OSError, ValueError):
        pass
    answer.close()
    return None


def _describe(error: Exception) -> str:
    # The order matters: urllib3 derives some of these from others.
    for kinds, text in _DESCRIPTIONS:
        if isinstance(error, kinds):
            return text
    return "the connection was lost, or the answer was not HTTP"


_DESCRIPTIONS: tuple[tuple[tuple[type[Exception], ...], str], ...] = (
    ((NameResolutionError,), "the host name could not be resolved"),
    ((NewConnectionError,), "the connection could not be opened"),
    ((ConnectTimeoutError,), "no connection in time"),
    ((ReadTimeoutError, TimeoutError), "no answer in time"),
    ((SSLError,), "TLS failed: the server's certificate or protocol is not accepted"),
)


class _InterimOnlyError(Exception):
    """The only answer was an interim one (1xx, RFC 9110, section 15.2), with nothing final behind it."""

    def __init__(self, status: int) -> None:
        super().__init__(status)
        self.status = status


class _FinalResponse(http.client.HTTPResponse):
    """Passes over interim answers (RFC 9110, section 15.2) to the final one; http.client does so for 100 alone.

    101 is final: nobody asked for another protocol.
    """

    def begin(self) -> None:
        super().begin()
        while http.HTTPStatus.SWITCHING_PROTOCOLS < self.status < http.HTTPStatus.OK:
            # Or begin would take itself to have been called before; the stubs do not know that it starts as None.
            self.headers = None  # type: ignore[assignment]
            super().begin()


class _DeadlineReader(io.RawIOBase):
    """A socket's incoming side, with one deadline over all reads: head and body together."""

    def __init__(self, sock: socket.socket, seconds: float) -> None:
        self._sock = sock
        self._raw = sock.makefile("rb", buffering=0)
        self._end = time.monotonic() + seconds
        self.beginning = b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        remaining = self._end - time.monotonic()
        if remaining <= 0:
            raise TimeoutError
        self._sock.settimeout(remaining)
        count = self._raw.readinto(buffer)
        if count and len(self.beginning) < _STATUS_LINE_BYTES:
            self.beginning += bytes(buffer[: min(count, _STATUS_LINE_BYTES)])
        return count

    def close(self) -> None:
        self._raw.close()
        super().close()


class _ReadingSide:
    """What http.client wants of a socket: ``makefile`` and no more."""

    def __init__(self, reader: _DeadlineReader) -> None:
        self._reader = reader

    def makefile(self, _mode: str) -> io.BufferedReader:
        return io.BufferedReader(self._reader)


# The type checker does not see what a mixin will stand beside, nor what stands in for a socket: hence the ignores.
class _DeadlineMixin:
    """Puts the deadline under connecting and under http.client's parser, and sends a request in one piece.

    When ``getresponse`` is called, urllib3 has set ``timeout`` to what is left of the total after connecting.
    """

    host: str
    port: Any
    sock: Any
    timeout: Any
    response_class: Any
    _head = b""

    def send(self, data: Any) -> None:
        """Hold the head back until the body comes, as it always does: one system call and one TLS record, not two."""
        if not self._head:
            self._head = data
            return
        head, self._head = self._head, b""
        super().send(head + data)  # type: ignore[misc]

    def _new_conn(self) -> socket.socket:
        """Connect; urllib3 would give each of the host's addresses the whole time anew, and TLS once more."""
        end = time.monotonic() + self.timeout
        try:
            found = socket.getaddrinfo(self.host.strip("[]"), self.port, type=socket.SOCK_STREAM)
        except OSError as error:
            raise NameResolutionError(self.host, self, error) from None  # type: ignore[arg-type]
        timed_out = False
        for index, (family, kind, protocol, _, address) in enumerate(found):
            sock = socket.socket(family, kind, protocol)
            try:
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                # A dead address leaves the others their share.
                sock.settimeout(_left(end) / (len(found) - index))
                sock.connect(address)
            except OSError as error:
                sock.close()
                timed_out = timed_out or isinstance(error, TimeoutError)
            else:
                sock.settimeout(_left(end))
                return sock
        raise (ConnectTimeoutError if timed_out else NewConnectionError)(self, "no address answers")  # type: ignore[arg-type]

    def getresponse(self) -> Any:
        reader = _DeadlineReader(self.sock, self.timeout)

        def response_class(_sock: object, *args: Any, **kwargs: Any) -> http.client.HTTPResponse:
            return _FinalResponse(_ReadingSide(reader), *args, **kwargs)  # type: ignore[arg-type]

        self.response_class = response_class
        try:
            return super().getresponse()  # type: ignore[misc]
        except (http.client.HTTPException, OSError):
            # The final answer was waited for in vain.
            if interim := _INTERIM.match(reader.beginning):
                raise _InterimOnlyError(int(interim[1])) from None
            raise


def _left(end: float) -> float:
    # Nought would mean a socket that does not wait, and less is an error.
    return max(end - time.monotonic(), 0.001)


class _DeadlineHTTPConnection(_DeadlineMixin, HTTPConnection):
    pass


class _DeadlineHTTPSConnection(_DeadlineMixin, HTTPSConnection):
    pass
