"""One function in Lambda's runtime interface emulator, watched from outside."""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import subprocess
import time
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from bench.processes import Process, child_of_session
from sandbox.pipeline.emulator import ACCESS
from sandbox.pipeline.processes import LOOPBACK, free_port
from sandbox.pipeline.runtime import runtime_emulator

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from bench.contenders import Contender
    from bench.services import Services

_PATH = "/2015-03-31/functions/function/invocations"
_TIMEOUT_SECONDS = 120
_START_SECONDS = 15.0
_DURATION = re.compile(rb"\tDuration: ([0-9.]+) ms")
_INIT = re.compile(rb"INIT REPORT\(durationMs: ([0-9.]+)\)")


class AnswerError(RuntimeError):
    """An invocation did not record its whole batch: nothing may be concluded from its time."""


@dataclass(frozen=True, slots=True)
class Invocation:
    """How long one took, in milliseconds: as its caller saw it, and as the emulator's REPORT line says."""

    wall: float
    duration: float


class Function:
    """A function; its runtime starts at the first invocation."""

    def __init__(
        self,
        contender: Contender,
        services: Services,
        folder: Path,
        *,
        name: str = "",
        memory_mb: int = 1769,
        concurrency: int = 10,
    ) -> None:
        """Start the emulator, and wait until it listens."""
        emulator = runtime_emulator()
        if emulator is None:
            raise RuntimeError("the runtime interface emulator is not installed: run `make setup` (Linux)")
        self.began = time.perf_counter()
        self._log = folder / f"{name or contender.name}.log"
        self._port = free_port()
        listen = ["--runtime-interface-emulator-address", f"{LOOPBACK}:{self._port}"]
        runtime = ["--runtime-api-address", f"{LOOPBACK}:{free_port()}", "--log-level", "info"]
        with self._log.open("ab") as log, self._emulator_log.open("ab") as errors:
            self._child = subprocess.Popen(  # noqa: S603 - our own command line
                [str(emulator), *listen, *runtime, *contender.runtime.command, contender.handler],
                env=_variables(contender, services, memory_mb, concurrency),
                cwd=contender.code,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=errors,
                start_new_session=True,
            )
        self._process: Process | None = None
        self._await_port()

    @property
    def _emulator_log(self) -> Path:
        return self._log.with_suffix(".emulator.log")

    @property
    def process(self) -> Process:
        """The runtime's process; there is one after the first invocation."""
        if self._process is None:
            self._process = child_of_session(self._child.pid)
        return self._process

    def invoke(self, event: Mapping[str, Any]) -> Invocation:
        """Invoke, and check that the whole batch was recorded."""
        payload = json.dumps(event).encode()
        connection = http.client.HTTPConnection(LOOPBACK, self._port, timeout=_TIMEOUT_SECONDS + 10)
        logged = self._log.stat().st_size
        began = time.perf_counter()
        connection.request("POST", _PATH, payload, {"Content-Type": "application/json"})
        answer = connection.getresponse().read()
        wall = (time.perf_counter() - began) * 1000
        connection.close()
        if json.loads(answer) != {"batchItemFailures": []}:
            raise AnswerError(f"{self._log.stem} answered {answer[:300].decode(errors='replace')}")
        return Invocation(wall, self._reported(logged))

    def log_bytes(self) -> int:
        """Return the length of what it logged so far, with the START, END and REPORT lines that CloudWatch gets too."""
        return self._log.stat().st_size

    def init_ms(self) -> float:
        """Return how long the emulator says that the initialisation took."""
        return float(_INIT.findall(self._emulator_log.read_bytes())[0])

    def stop(self) -> None:
        """End it: the emulator and the runtime, which stays in the emulator's session."""
        for pid in {self._child.pid, *([self._process.pid] if self._process else _runtime_of(self._child.pid))}:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        self._child.wait()

    def _reported(self, offset: int) -> float:
        # The emulator answers first and writes the line right after.
        deadline = time.monotonic() + 2
        while time.monotonic() < deadline:
            with self._log.open("rb") as log:
                log.seek(offset)
                if found := _DURATION.findall(log.read()):
                    return float(found[-1])
            time.sleep(0.0005)
        raise RuntimeError(f"no REPORT line in {self._log.name}")

    def _await_port(self) -> None:
        deadline = time.monotonic() + _START_SECONDS
        while time.monotonic() < deadline:
            connection = http.client.HTTPConnection(LOOPBACK, self._port, timeout=1)
            try:
                connection.connect()
            except OSError:
                time.sleep(0.001)
            else:
                return
            finally:
                connection.close()
        self.stop()
        raise RuntimeError(f"the emulator of {self._log.stem} does not listen")


@contextmanager
def running(
    contender: Contender,
    services: Services,
    folder: Path,
    *,
    name: str = "",
    memory_mb: int = 1769,
    concurrency: int = 10,
) -> Iterator[Function]:
    """Run a function for as long as the block lasts."""
    function = Function(contender, services, folder, name=name, memory_mb=memory_mb, concurrency=concurrency)
    try:
        yield function
    finally:
        function.stop()


def _runtime_of(session: int) -> list[int]:
    try:
        return [child_of_session(session).pid]
    except LookupError:
        return []


def _variables(contender: Contender, services: Services, memory_mb: int, concurrency: int) -> dict[str, str]:
    return {
        # Nothing of our own environment but the search path: no proxy, no profile, no real credentials.
        "PATH": os.environ.get("PATH", os.defpath),
        **ACCESS,
        "AWS_DEFAULT_REGION": ACCESS["AWS_REGION"],
        "AWS_LAMBDA_FUNCTION_NAME": "bench",
        "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": str(memory_mb),
        "AWS_LAMBDA_FUNCTION_TIMEOUT": str(_TIMEOUT_SECONDS),
        "AWS_ENDPOINT_URL": services.aws_url,
        "LAMBDA_TASK_ROOT": str(contender.code),
        "PYTHONPATH": str(contender.code),
        # /var/task is read-only: what has no byte code is compiled at every cold start.
        "PYTHONDONTWRITEBYTECODE": "1",
        "_HANDLER": contender.handler,
        "POWERTOOLS_SERVICE_NAME": "thrive-completion-sync",
        "POWERTOOLS_METRICS_NAMESPACE": "ThriveCompletionSync",
        "THRIVE_BASE_URL": services.thrive_url,
        "THRIVE_SECRET_ID": "thrive",
        "MAX_CONCURRENCY": str(concurrency),
        **contender.environment,
    }
