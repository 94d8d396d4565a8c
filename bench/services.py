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

from bench.contenders import CODE, PEOPLE
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
MAPPING = {
    "version": 1,
    "sources": [
        {
            "name": "bench",
            "when": "type == 'finished'",
            "userId": "trainee.id",
            "contentId": "module.id",
            "completedAt": {"expression": "endedAt", "format": "epoch-seconds"},
        }
    ],
}
OBJECTS = {
    "mapping.json": json.dumps(MAPPING).encode(),
    "content.csv": f"code,contentId\n{CODE},64a1b2c3d4e5f6789abcdef0\n".encode(),
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

    def create_person(self, ref: str, user_id: str) -> None:
        """Let the stand-in know a person."""
        self._control("POST", "users", {"ref": ref, "id": user_id})

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
    """Answers every POST with the secret, and every GET with an object of the configuration or their list."""

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

    def do_GET(self) -> None:
        path, _, query = self.path.partition("?")
        self.calls["s3"] += 1
        if "list-type=2" in query:
            rows = "".join(f"<Contents><Key>config/{n}</Key><ETag>&quot;1&quot;</ETag></Contents>" for n in OBJECTS)
            body = f"<ListBucketResult><IsTruncated>false</IsTruncated>{rows}</ListBucketResult>".encode()
        else:
            body = OBJECTS[path.rpartition("/")[2]]
        head = f'HTTP/1.1 200 OK\r\nETag: "1"\r\nContent-Length: {len(body)}\r\n\r\n'
        self.wfile.write(head.encode() + body)

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
        services = Services(port, f"http://{LOOPBACK}:{port}", f"http://{LOOPBACK}:{aws.server_port}")
        for number in range(PEOPLE):
            services.create_person(f"E-{number}", f"user-{number}")
        yield services
    finally:
        stand_in.stop()
        aws.shutdown()
        aws.server_close()
