"""urllib3's connections, kept on a stack of our own, without its pool and its urlopen."""

import time
from collections import deque
from collections.abc import Mapping
from urllib.parse import urlsplit

from completion_sync import transport
from completion_sync.handler import lambda_handler

_idle: deque[transport._DeadlineHTTPConnection] = deque()


def _post(
    self: transport.Transport, path: str, headers: Mapping[str, str], body: bytes, timeout: float
) -> transport.Response:
    end = time.monotonic() + timeout
    connection = _idle.pop() if _idle else _connection(self)
    connection.timeout = timeout
    if connection.sock is not None and not connection.is_connected:
        connection.close()
    headers = {"Accept": "application/json", "Accept-Encoding": "identity", **headers}
    connection.request("POST", path, body=body, headers=headers, preload_content=False, decode_content=False)
    connection.timeout = end - time.monotonic()
    answer = connection.getresponse()
    read = answer.read(transport.MAX_BODY_BYTES + 1)
    _idle.append(connection)
    return transport.Response(answer.status, read, answer.headers.get("Retry-After"))


def _connection(self: transport.Transport) -> transport._DeadlineHTTPConnection:
    pool = self._open_pool()
    parts = urlsplit(f"//{pool.host}:{pool.port}")
    return transport._DeadlineHTTPConnection(parts.hostname or "", parts.port)


transport.Transport.post = _post
