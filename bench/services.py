"""The two services that every contender calls: the stand-in Thrive API, and as much of AWS as a healthy run needs."""

from __future__ import annotations

import base64
import json
import os
import sys
import threading
import urllib.request
from collections import Counter
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, ClassVar

from sandbox.pipeline.emulator import ROOT
from sandbox.pipeline.processes import LOOPBACK, Child, accepts, free_port
from sandbox.thrive_api.stand_in import EXAMPLE_TENANT

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_START_SECONDS = 20.0
# No proxy, whatever the environment says.
_DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))
# Valid at the stand-in on this machine and nowhere else.
SECRET = {
    "tenantId": EXAMPLE_TENANT,
    "clientId": EXAMPLE_TENANT,
    "clientSecret": "of-the-bench",  # pragma: allowlist secret
}
BASIC = "Basic " + base64.b64encode(f"{SECRET['tenantId']}:{SECRET['clientSecret']}".encode()).decode()


@dataclass(frozen=True, slots=True)
class Services:
    """The services' addresses and counts, and control of how fast Thrive answers."""

    thrive_port: int
    thrive_url: str
    aws_url: str

    def set_latency(self, milliseconds: int) -> None:
        """Make the stand-in take this long to answer a completion; 0 means as fast as it can."""
        self._control("DELETE", "faults")
        if milliseconds:
            self._control("POST", "faults", {"route": "completion", "times": None, "delay": milliseconds / 1000})

    def thrive_calls(self) -> Counter[str]:
        """Return the number of requests to Thrive so far, by route."""
        counts = self._control("GET", "requests")["counts"]
        return Counter({route: sum(by_status.values()) for route, by_status in counts.items()})

    def aws_calls(self) -> Counter[str]:
        """Return the number of calls to AWS so far, by `X-Amz-Target`."""
        return Counter(_Aws.calls)

    def _control(self, method: str, name: str, fields: Any = None) -> Any:
        body = None if fields is None else json.dumps(fields).encode()
        request = urllib.request.Request(f"{self.thrive_url}/_stand-in/{name}", body, method=method)  # noqa: S310 - ours
        with _DIRECT.open(request, timeout=30) as answer:
            return json.load(answer)


class _Aws(BaseHTTPRequestHandler):
    """Answers every call with the secret, and counts it."""

    protocol_version = "HTTP/1.1"
    calls: ClassVar[Counter[str]] = Counter()
    body = json.dumps({"Name": "thrive", "VersionId": "1" * 32, "SecretString": json.dumps(SECRET)}).encode()

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.calls[self.headers["X-Amz-Target"]] += 1
        head = (
            f"HTTP/1.1 200 OK\r\nContent-Type: application/x-amz-json-1.1\r\nContent-Length: {len(self.body)}\r\n\r\n"
        )
        # In one write, as a body that follows its head would wait for the head's acknowledgement.
        self.wfile.write(head.encode() + self.body)

    def log_message(self, *_: object) -> None:
        """Log nothing."""


@contextmanager
def running_services(folder: Path) -> Iterator[Services]:
    """Run both services for the duration of the block; the stand-in has a process of its own and a log in `folder`."""
    aws = ThreadingHTTPServer((LOOPBACK, 0), _Aws)
    port = free_port()
    command = [sys.executable, "-m", "sandbox", "thrive-api", "--port", str(port)]
    environment = {"PATH": os.environ.get("PATH", os.defpath), "THRIVE_STAND_IN_SECRET": SECRET["clientSecret"]}
    stand_in = Child(command, environment, cwd=ROOT, out=folder / "stand-in.log")
    threading.Thread(target=aws.serve_forever, daemon=True).start()
    try:
        stand_in.wait_until(partial(accepts, port), seconds=_START_SECONDS)
        yield Services(port, f"http://{LOOPBACK}:{port}", f"http://{LOOPBACK}:{aws.server_port}")
    finally:
        stand_in.stop()
        aws.shutdown()
        aws.server_close()
