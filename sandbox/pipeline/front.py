"""One address for all of AWS: some calls are answered here, everything else by the emulator."""

from __future__ import annotations

import http.client
import json
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from sandbox.pipeline.runtime import InvocationError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from sandbox.pipeline.rig import Rig

    # Takes path, headers and body of a request; returns status, headers and body, or None to pass it on.
    Answer = tuple[int, Mapping[str, str], bytes]
    Answerer = Callable[[str, Mapping[str, str], bytes], Answer | None]

_SECONDS = 60.0
_OUR_OWN = frozenset({"transfer-encoding", "content-length", "connection", "date", "server"})


@contextmanager
def front(emulator_url: str, answerer: Answerer) -> Iterator[str]:
    """Serve for as long as the block lasts; yield the address."""
    target = urlsplit(emulator_url).netloc

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        # Head and body leave together and at once.
        wbufsize = 1 << 16
        disable_nagle_algorithm = True

        def _serve(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
            headers = dict(self.headers)
            answer = answerer(self.path, headers, body) or _pass_on(target, self.command, self.path, headers, body)
            self.send_response(answer[0])
            for name, value in answer[1].items():
                if name.lower() not in _OUR_OWN:
                    self.send_header(name, value)
            self.send_header("Content-Length", str(len(answer[2])))
            self.end_headers()
            self.wfile.write(answer[2])

        do_GET = do_POST = do_PUT = do_HEAD = _serve  # noqa: N815 - BaseHTTPRequestHandler's names

        def log_message(self, *_: Any) -> None:
            return None

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join(_SECONDS)


@contextmanager
def lambda_front(rig: Rig) -> Iterator[str]:
    """Serve all of AWS, with the rig's function behind Lambda's invocations."""

    def answer(path: str, _headers: Mapping[str, str], body: bytes) -> Answer | None:
        if not path.endswith("/invocations"):
            return None
        try:
            return 200, {}, rig.environments[0].invoke(json.loads(body))
        except InvocationError as error:
            return 200, {"X-Amz-Function-Error": "Unhandled"}, json.dumps({"errorType": error.kind}).encode()

    with front(rig.emulator.url, answer) as url:
        yield url


def _pass_on(target: str, method: str, path: str, headers: Mapping[str, str], body: bytes) -> Answer:
    connection = http.client.HTTPConnection(target, timeout=_SECONDS)
    try:
        connection.request(method, path, body, dict(headers))
        found = connection.getresponse()
        return found.status, dict(found.headers), found.read()
    finally:
        connection.close()
