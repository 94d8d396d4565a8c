"""A function in Lambda's runtime interface emulator, observed from outside."""

from __future__ import annotations

import hashlib
import http.client
import itertools
import json
import os
import re
import signal
import subprocess
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from bench.derived import MB_PER_CPU
from bench.services import BASIC
from sandbox.pipeline.emulator import ACCESS, ROOT
from sandbox.pipeline.processes import LOOPBACK, accepts, free_port, proc_stat, session_members
from sandbox.pipeline.runtime import runtime_emulator

if TYPE_CHECKING:
    from bench.builds import Built
    from bench.services import Services

_PATH = "/2015-03-31/functions/function/invocations"
_TIMEOUT_SECONDS = 120
_START_SECONDS = 15.0
_TICK_SECONDS = 1 / os.sysconf("SC_CLK_TCK")
_DURATION = re.compile(rb"\tDuration: ([0-9.]+) ms")
_INIT = re.compile(rb"INIT REPORT\(durationMs: ([0-9.]+)\)")
_NUMBERS = itertools.count(1)
[_RECORD] = json.loads((ROOT / "events" / "sqs-plain.json").read_text())["Records"]


class Function:
    """A running function, to be used as a context manager. Its runtime starts with the first invocation."""

    def __init__(self, built: Built, services: Services, folder: Path, *, concurrency: int = 10) -> None:
        """Start the emulator and wait until it listens; logs go to `folder`."""
        emulator = runtime_emulator()
        if emulator is None:
            raise RuntimeError("the runtime interface emulator is not installed: run `make setup` (Linux)")
        self._completion = built.contender.completion
        self._log = folder / f"{next(_NUMBERS)}-{built.contender.name}.log"
        self._emulator_log = self._log.with_suffix(".emulator.log")
        self._port = free_port()
        self._pid = 0
        listen = ["--runtime-interface-emulator-address", f"{LOOPBACK}:{self._port}"]
        runtime = ["--runtime-api-address", f"{LOOPBACK}:{free_port()}", "--log-level", "info"]
        self.started = time.perf_counter()
        with self._log.open("wb") as log, self._emulator_log.open("wb") as errors:
            self._emulator = subprocess.Popen(  # noqa: S603 - our own command line
                [str(emulator), *listen, *runtime, *built.command, built.contender.handler],
                env=_variables(built, services, concurrency),
                cwd=built.code,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=errors,
                start_new_session=True,
            )
        while not accepts(self._port):
            if time.perf_counter() > self.started + _START_SECONDS:
                self._stop()
                raise RuntimeError(f"the emulator of {built.contender.name} does not listen")
            time.sleep(0.001)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stop()

    def invoke(self, size: int) -> float:
        """Invoke the function with a batch of new completions and return the reported duration in milliseconds.

        :raises RuntimeError: it did not record the whole batch, so that its duration means nothing.
        """
        payload = json.dumps({"Records": [self._record() for _ in range(size)]})
        logged = self._log.stat().st_size
        connection = http.client.HTTPConnection(LOOPBACK, self._port, timeout=_TIMEOUT_SECONDS + 10)
        connection.request("POST", _PATH, payload, {"Content-Type": "application/json"})
        answer = connection.getresponse().read()
        connection.close()
        if json.loads(answer) != {"batchItemFailures": []}:
            raise RuntimeError(f"{self._log.stem} answered {answer[:300].decode(errors='replace')}")
        return self._duration(logged)

    @property
    def log_bytes(self) -> int:
        """The length of everything logged so far, including the START, END and REPORT lines that CloudWatch gets."""
        return self._log.stat().st_size

    @property
    def init_ms(self) -> float:
        """The duration of the initialisation as reported by the emulator."""
        return float(_INIT.findall(self._emulator_log.read_bytes())[0])

    @property
    def pid(self) -> int:
        """The runtime's process id, known from the first invocation on."""
        # The emulator leads the session; the runtime is the newest process in it.
        self._pid = self._pid or session_members(self._emulator.pid)[-1]
        return self._pid

    @property
    def cpu_ms(self) -> float:
        """The processor time that all threads of the runtime have used, including ended ones."""
        fields = proc_stat(self.pid)
        return (int(fields[11]) + int(fields[12])) * _TICK_SECONDS * 1000

    def memory_mb(self, field: str) -> float:
        """Return the runtime's resident memory: `VmRSS` now, `VmHWM` at its peak."""
        status = Path(f"/proc/{self.pid}/status").read_text()
        [kilobytes] = re.findall(rf"^{field}:\s+(\d+) kB", status, re.MULTILINE)
        return int(kilobytes) / 1024

    def _record(self) -> dict[str, Any]:
        number = next(_NUMBERS)
        body = json.dumps(self._completion(number))
        md5 = hashlib.md5(body.encode(), usedforsecurity=False).hexdigest()
        return {**_RECORD, "messageId": f"00000000-0000-4000-8000-{number:012x}", "body": body, "md5OfBody": md5}

    def _duration(self, offset: int) -> float:
        # The emulator writes the REPORT line just after it has answered.
        deadline = time.monotonic() + 2
        while time.monotonic() < deadline:
            with self._log.open("rb") as log:
                log.seek(offset)
                if found := _DURATION.findall(log.read()):
                    return float(found[-1])
            time.sleep(0.0005)
        raise RuntimeError(f"no REPORT line in {self._log.name}")

    def _stop(self) -> None:
        for pid in session_members(self._emulator.pid):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self._emulator.wait()


def _variables(built: Built, services: Services, concurrency: int) -> dict[str, str]:
    return {
        # Of our own environment only the search path: no proxy, no profile, no real credentials.
        "PATH": os.environ.get("PATH", os.defpath),
        **ACCESS,
        "AWS_DEFAULT_REGION": ACCESS["AWS_REGION"],
        "AWS_LAMBDA_FUNCTION_NAME": "bench",
        "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": str(MB_PER_CPU),
        "AWS_LAMBDA_FUNCTION_TIMEOUT": str(_TIMEOUT_SECONDS),
        "AWS_ENDPOINT_URL": services.aws_url,
        "LAMBDA_TASK_ROOT": str(built.code),
        "PYTHONPATH": str(built.code),
        # As in Lambda, where /var/task is read-only: modules without byte code are compiled at every cold start.
        "PYTHONDONTWRITEBYTECODE": "1",
        "_HANDLER": built.contender.handler,
        "POWERTOOLS_SERVICE_NAME": "thrive-completion-sync",
        "POWERTOOLS_METRICS_NAMESPACE": "ThriveCompletionSync",
        "THRIVE_BASE_URL": services.thrive_url,
        "THRIVE_SECRET_ID": "thrive",
        "MAX_CONCURRENCY": str(concurrency),
        # For the urllib3 baselines.
        "BENCH_AUTHORIZATION": BASIC,
        **built.contender.environment,
    }
