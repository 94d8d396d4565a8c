"""Execution environments: the function in Lambda's real runtime, one process of it for each.

An environment runs one invocation at a time. Here it is AWS's runtime interface emulator (part of the aws-sam-cli
package) with AWS's runtime interface client `awslambdaric` as its child. Where these do not run, a plain Python process
takes their place (`plain_runtime.py`), with the same interface.
"""

from __future__ import annotations

import http.client
import json
import os
import platform
import sys
import threading
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from sandbox.pipeline.emulator import ACCESS, ROOT
from sandbox.pipeline.processes import LOOPBACK, Child, StartError, accepts, free_port

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from sandbox.pipeline.artefact import Artefact
    from sandbox.pipeline.stack import Function

FailureKind = Literal["error", "timeout", "exit"]

_PATH = "/2015-03-31/functions/function/invocations"
_START_SECONDS = 15.0
# Added to the function's timeout: a cold start, and the emulator's own clean-up after it has killed the runtime.
_GRACE_SECONDS = 20.0
_MACHINES = {"x86_64": "x86_64", "amd64": "x86_64", "aarch64": "arm64", "arm64": "arm64"}
# Printed for each cold start, by the emulator and by the plain runtime.
_INIT_MARK = b"INIT START"
_CLIENT_PACKAGES = ("awslambdaric", "simplejson", "snapshot-restore-py")


class InvocationError(Exception):
    """The invocation has no answer: the function raised (`error`), ran out of time (`timeout`) or died (`exit`)."""

    def __init__(self, kind: FailureKind, message: str) -> None:
        super().__init__(f"{kind}: {message}")
        self.kind = kind


@dataclass(frozen=True, slots=True)
class RuntimeSpec:
    """How to run an environment; `emulator` None means plain Python, `timeout` is in seconds."""

    emulator: Path | None
    code: Artefact
    handler: str
    timeout: int
    variables: Mapping[str, str]

    @property
    def name(self) -> str:
        """What runs the function, for people."""
        version = ".".join(map(str, sys.version_info[:2]))
        if self.emulator is None:
            return f"plain Python {version}, without Lambda's runtime"
        return f"Lambda's runtime emulator, Python {version}"


def runtime_emulator() -> Path | None:
    """Return this platform's runtime interface emulator, or None if it or its client is missing."""
    machine = _MACHINES.get(platform.machine().lower())
    if not sys.platform.startswith("linux") or machine is None:
        return None
    try:
        metadata.distribution(_CLIENT_PACKAGES[0])
    except metadata.PackageNotFoundError:
        return None
    pattern = f"lib/python3*/site-packages/samcli/local/rapid/aws-lambda-rie-{machine}"
    return next(iter((ROOT / ".tools" / "sam").glob(pattern)), None)


def spec_for(
    function: Function, code: Artefact, aws_url: str, *, emulator: Path | None, overrides: Mapping[str, str]
) -> RuntimeSpec:
    """Derive an environment from the deployed function.

    `overrides` replaces variables of the function; `AWS_LAMBDA_FUNCTION_TIMEOUT` (seconds) replaces its timeout.
    """
    paths = [code.path]
    if emulator is not None:
        paths.append(_link_client(ROOT / "build" / "runtime-client"))
    variables = {
        # Of our own environment only the search path: no proxy, no profile, no real credentials.
        "PATH": os.environ.get("PATH", os.defpath),
        "PYTHONPATH": os.pathsep.join(map(str, paths)),
        # The artefact's byte code is for Lambda's Python. Ours goes elsewhere, so that the artefact stays as built.
        "PYTHONPYCACHEPREFIX": str(ROOT / "build" / "byte-code"),
        **ACCESS,
        "AWS_DEFAULT_REGION": ACCESS["AWS_REGION"],
        "AWS_LAMBDA_FUNCTION_NAME": function.name,
        "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": str(function.memory),
        "AWS_LAMBDA_FUNCTION_TIMEOUT": str(function.timeout),
        "_HANDLER": function.handler,
        **function.environment,
        # After the template's variables: whatever they say, this function must never reach the real AWS.
        "AWS_ENDPOINT_URL": aws_url,
        **overrides,
    }
    return RuntimeSpec(emulator, code, function.handler, int(variables["AWS_LAMBDA_FUNCTION_TIMEOUT"]), variables)


def _link_client(folder: Path) -> Path:
    """Link the runtime interface client and its dependencies into `folder`, and return it.

    At AWS the function sees only its own files and the runtime's. The development environment holds other packages
    too, which would hide what the artefact lacks.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for name in _CLIENT_PACKAGES:
        distribution = metadata.distribution(name)
        for top in {file.parts[0] for file in distribution.files or ()} - {"..", "__pycache__"}:
            link = folder / top
            if not link.is_symlink():
                link.symlink_to(Path(str(distribution.locate_file(top))))
    return folder


class Environment:
    """One execution environment. The runtime starts at the first invocation, and again after a crash.

    The function's standard output and error go to `<name>.log`, the emulator's messages to `<name>.runtime.log`.
    """

    def __init__(self, spec: RuntimeSpec, folder: Path, name: str) -> None:
        self._spec = spec
        self.log = folder / f"{name}.log"
        self._runtime_log = folder / f"{name}.runtime.log"
        self._child: Child | None = None
        self._port = 0
        self._was_killed = False
        # Lambda never sends two invocations to one environment at once, and the emulator does not survive it.
        self._busy = threading.Lock()

    @property
    def cold_starts(self) -> int:
        """How often the function was initialised."""
        return self._runtime_log.read_bytes().count(_INIT_MARK) if self._runtime_log.exists() else 0

    @property
    def is_busy(self) -> bool:
        """Whether an invocation is in progress."""
        return self._busy.locked()

    def invoke(self, event: Mapping[str, Any]) -> bytes:
        """Invoke the function and return its answer unchanged.

        :raises InvocationError: the function raised, ran out of time or died.
        :raises StartError: the runtime does not start.
        """
        payload = json.dumps(event).encode()
        with self._busy:
            if self._child is None or not self._child.is_running():
                try:
                    self._start()
                except StartError:
                    if not self._was_killed:
                        raise
                    raise InvocationError("exit", "the environment was killed while it started") from None
            try:
                status, answer = self._post(payload)
            except TimeoutError:
                self.kill()
                raise InvocationError("timeout", "no answer within the timeout and a grace period") from None
            except (OSError, http.client.HTTPException) as error:
                self.kill()
                raise InvocationError("exit", f"the environment died ({type(error).__name__})") from None
        return _checked(status, answer)

    def kill(self) -> None:
        """Kill the environment with SIGKILL; the next invocation is a cold start. Any thread may call this."""
        self._was_killed = True
        if self._child is not None:
            self._child.kill()

    def retire(self) -> None:
        """End the environment between two invocations, as a deployment does; the next invocation is a cold start."""
        with self._busy:
            self.kill()

    def freeze(self) -> None:
        """Freeze the function, as Lambda does between two invocations; its timeout goes on."""
        if self._child is not None:
            self._child.freeze()

    def thaw(self) -> None:
        """Let a frozen function continue."""
        if self._child is not None:
            self._child.thaw()

    def _start(self) -> None:
        self.kill()
        self._was_killed = False
        self._port = free_port()
        self._child = Child(
            self._command(),
            self._spec.variables,
            # As at AWS, in the folder of the code. Python looks there first, and must not find this repository.
            cwd=self._spec.code.path,
            out=self.log,
            err=self._runtime_log,
        )
        self._child.wait_until(lambda: accepts(self._port), seconds=_START_SECONDS)

    def _command(self) -> Sequence[str]:
        # -S: without the packages of the development environment, so that the artefact must be complete.
        python = [sys.executable, "-S"]
        if self._spec.emulator is None:
            script = Path(__file__).with_name("plain_runtime.py")
            return [*python, str(script), str(self._port), self._spec.handler]
        return [
            str(self._spec.emulator),
            "--runtime-interface-emulator-address",
            f"{LOOPBACK}:{self._port}",
            "--runtime-api-address",
            f"{LOOPBACK}:{free_port()}",
            "--log-level",
            "info",
            *python,
            "-m",
            "awslambdaric",
            self._spec.handler,
        ]

    def _post(self, payload: bytes) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection(LOOPBACK, self._port, timeout=self._spec.timeout + _GRACE_SECONDS)
        try:
            connection.request("POST", _PATH, payload, {"Content-Type": "application/json"})
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()


def _checked(status: int, answer: bytes) -> bytes:
    """Return the function's answer, or raise if it is a failure, which the emulator mostly reports as HTTP 200 too."""
    text = answer.decode(errors="replace")
    if text.startswith("Task timed out after"):
        raise InvocationError("timeout", text)
    if status != http.HTTPStatus.OK:
        raise InvocationError("exit", text)
    try:
        parsed = json.loads(answer)
    except ValueError:
        return answer
    if isinstance(parsed, dict) and {"errorMessage", "errorType"} <= parsed.keys():
        raise InvocationError("error", f"{parsed['errorType']}: {parsed['errorMessage']}")
    return answer
