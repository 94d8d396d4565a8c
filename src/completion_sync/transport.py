"""One HTTP attempt over urllib3, and the only place that translates its errors.

urllib3 provides connections, TLS and pooling. Switched off: its retries (a lost POST would be sent again unseen),
redirects (a POST would follow them to another host, token and all) and decompression. Added: one deadline over the
whole exchange (:mod:`completion_sync.connections`) and a bound on the body.
"""

from __future__ import annotations

import http
import http.client
import json
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import urllib3
from urllib3.exceptions import (
    ConnectTimeoutError,
    HTTPError,
    NameResolutionError,
    NewConnectionError,
    ReadTimeoutError,
    SSLError,
)

from . import __version__
from .connections import exchange
from .errors import TemporaryError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from urllib3.connectionpool import HTTPConnectionPool

# Answers of this API have a few hundred bytes. One byte more than this is read, to see whether there is more.
MAX_BODY_BYTES = 65_536
USER_AGENT = f"thrive-completion-sync/{__version__}"
# No compression: a small body that inflates to a huge one is then impossible.
_HEADERS = {"Accept": "application/json", "Accept-Encoding": "identity", "User-Agent": USER_AGENT}
# http.client ends these at their head. Anything that a server sends after it would be taken for the answer to the next
# request, so such a connection is not used again.
_BODILESS = frozenset({http.HTTPStatus.NO_CONTENT, http.HTTPStatus.NOT_MODIFIED})


@dataclass(frozen=True, slots=True)
class Response:
    """An answer. ``body`` is None if it could not be read whole: too large, cut off, too slow."""

    status: int
    body: bytes | None
    retry_after: str | None = None

    def json_object(self) -> dict[str, Any] | None:
        """Return the body as a JSON object (RFC 8259), or None if it is anything else."""
        value = self._json()
        return value if isinstance(value, dict) else None

    def json_array(self) -> list[Any] | None:
        """Return the body as a JSON array, or None if it is anything else."""
        value = self._json()
        return value if isinstance(value, list) else None

    def _json(self) -> object:
        try:
            return json.loads(self.body or b"")
        except (ValueError, RecursionError):
            return None


class Transport:
    """Sends requests to one host, each at most once."""

    def __init__(self, open_pool: Callable[[], HTTPConnectionPool], max_body_bytes: int = MAX_BODY_BYTES) -> None:
        """Open nothing yet.

        :param open_pool: makes an empty pool for the host (:func:`completion_sync.connections.connection_pool`).
        :param max_body_bytes: a larger body counts as unreadable.
        """
        self._open_pool = open_pool
        self._max_body_bytes = max_body_bytes
        self._lock = threading.Lock()
        self._pool: HTTPConnectionPool | None = None

    def post(self, path: str, headers: Mapping[str, str], body: bytes, timeout: float) -> Response:
        """Send one POST and read its answer, all within ``timeout`` seconds.

        :raises TemporaryError: ``unavailable``: no answer, or none that is HTTP. The request may have been received.
        """
        return self._exchange("POST", path, headers, body, timeout)

    def get(self, path: str, headers: Mapping[str, str], timeout: float) -> Response:
        """Send one GET, as :meth:`post` does.

        :raises TemporaryError: as :meth:`post`.
        """
        return self._exchange("GET", path, headers, None, timeout)

    def close(self) -> None:
        """Close every idle connection; the next request opens a new one."""
        with self._lock:
            if self._pool is not None:
                self._pool.close()
                self._pool = None

    def _exchange(
        self, method: str, path: str, headers: Mapping[str, str], body: bytes | None, timeout: float
    ) -> Response:
        exchange.end = time.monotonic() + timeout
        try:
            answer = self._current_pool().urlopen(
                method,
                path,
                body=body,
                headers={**_HEADERS, **headers},
                retries=False,
                redirect=False,
                assert_same_host=False,
                preload_content=False,
                decode_content=False,
                timeout=urllib3.Timeout(total=timeout),
            )
        except (HTTPError, http.client.HTTPException, OSError, ValueError) as error:
            # The library's text may quote a header or the URL: only our own text goes on.
            problem = _describe(error)
        else:
            return Response(answer.status, _read(answer, self._max_body_bytes), answer.headers.get("Retry-After"))
        # Raised outside `except`: as its context, the original error would keep a half-read answer and its socket open.
        raise TemporaryError("unavailable", problem)

    def _current_pool(self) -> HTTPConnectionPool:
        with self._lock:
            if self._pool is None:
                self._pool = self._open_pool()
            return self._pool


def _read(answer: urllib3.BaseHTTPResponse, max_bytes: int) -> bytes | None:
    """Read the body, up to the bound, and return the connection to the pool; close it if that is not possible."""
    if answer.status in _BODILESS or answer.status < http.HTTPStatus.OK:
        # Before any reading: urllib3 returns the connection to the pool by itself when a read comes to the end.
        answer.close()
        return b""
    try:
        body = answer.read(max_bytes + 1)
        # The second read raises if the first one ended before Content-Length said so.
        if len(body) <= max_bytes and not answer.read(1):
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
