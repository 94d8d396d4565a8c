"""The two services that every contender calls, each in a process of its own: the stand-in Thrive API, and AWS."""

from __future__ import annotations

import http.client
import json
import os
import sys
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from sandbox.pipeline.emulator import ROOT
from sandbox.pipeline.processes import LOOPBACK, Child, accepts, free_port
from sandbox.thrive_api.stand_in import EXAMPLE_TENANT

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_START_SECONDS = 20.0
# Opens nothing but the stand-in on this machine.
SECRET = {
    "tenantId": EXAMPLE_TENANT,
    "clientId": EXAMPLE_TENANT,
    "clientSecret": "of-the-bench",  # pragma: allowlist secret
}


@dataclass(frozen=True, slots=True)
class Services:
    """Where they listen."""

    thrive_port: int
    aws_port: int

    @property
    def thrive_url(self) -> str:
        """The stand-in's base URL."""
        return f"http://{LOOPBACK}:{self.thrive_port}"

    @property
    def aws_url(self) -> str:
        """The stub's base URL."""
        return f"http://{LOOPBACK}:{self.aws_port}"

    def set_latency(self, milliseconds: int) -> None:
        """Let the stand-in take this long to answer a completion; 0: as fast as it can."""
        _ask(self.thrive_port, "DELETE", "/_stand-in/faults")
        if milliseconds:
            fault = {"route": "completion", "times": None, "delay": milliseconds / 1000}
            _ask(self.thrive_port, "POST", "/_stand-in/faults", fault)

    def thrive_calls(self) -> dict[str, int]:
        """Count the requests that reached the stand-in, by route."""
        counts = _ask(self.thrive_port, "GET", "/_stand-in/requests")["counts"]
        return {route: sum(by_status.values()) for route, by_status in counts.items()}

    def created(self) -> int:
        """Count the completions answered with 201."""
        counts = _ask(self.thrive_port, "GET", "/_stand-in/requests")["counts"]
        return int(counts.get("completion", {}).get("201", 0))

    def aws_calls(self) -> dict[str, int]:
        """Count the calls to AWS, by target."""
        return {str(target): int(count) for target, count in _ask(self.aws_port, "GET", "/counts").items()}


@contextmanager
def running_services(folder: Path) -> Iterator[Services]:
    """Run both for as long as the block lasts."""
    services = Services(free_port(), free_port())
    environment = {
        "PATH": os.environ.get("PATH", os.defpath),
        "THRIVE_STAND_IN_SECRET": SECRET["clientSecret"],
        "BENCH_SECRET": json.dumps(SECRET),
    }
    commands = {
        services.thrive_port: ["sandbox", "thrive-api", "--port", str(services.thrive_port)],
        services.aws_port: ["bench.aws_stub", str(services.aws_port)],
    }
    children = [
        Child([sys.executable, "-m", *command], environment, cwd=ROOT, out=folder / f"{command[0]}.log")
        for command in commands.values()
    ]
    try:
        for port, child in zip(commands, children, strict=True):
            child.wait_until(partial(accepts, port), seconds=_START_SECONDS)
        yield services
    finally:
        for child in children:
            child.stop()


def _ask(port: int, method: str, path: str, fields: Any = None) -> Any:
    connection = http.client.HTTPConnection(LOOPBACK, port, timeout=30)
    try:
        connection.request(method, path, None if fields is None else json.dumps(fields))
        answer = connection.getresponse()
        body = answer.read()
        if answer.status >= http.HTTPStatus.BAD_REQUEST:
            raise RuntimeError(f"{method} {path} was answered {answer.status}")
        return json.loads(body)
    finally:
        connection.close()
