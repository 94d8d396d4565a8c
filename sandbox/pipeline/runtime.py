"""Execution environments: the function in Lambda's real runtime, one emulator process for each.

An environment is what Lambda runs one invocation at a time in. Here it is AWS's runtime interface emulator (it ships
inside the aws-sam-cli package) with the runtime interface client `awslambdaric` as its child. Where a platform has none
of these, a plain Python process takes their place (`plain_runtime.py`), behind the same interface.
"""

from __future__ import annotations

import http.client
import json
import os
import platform
import sys
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from sandbox.pipeline import runtime_client
from sandbox.pipeline.emulator import ACCESS, ROOT
from sandbox.pipeline.processes import LOOPBACK, Child, accepts, free_port

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from sandbox.pipeline.artefact import Artefact
    from sandbox.pipeline.stack import Function

FailureKind = Literal["error", "timeout", "exit"]

_PATH = "/2015-03-31/functions/function/invocations"
_START_SECONDS = 15.0
# Beyond the function's own timeout: a cold start, and the emulator's own clean-up after it has killed the runtime.
_GRACE_SECONDS = 20.0
_MACHINES = {"x86_64": "x86_64", "amd64": "x86_64", "aarch64": "arm64", "arm64": "arm64"}
# The emulator's and the plain runtime's line for each initialisation, that is for each cold start.
_INIT_MARK = b"INIT START"


class InvocationError(Exception):
    """The invocation gave no answer: the function raised (`error`), ran out of time (`timeout`) or died (`exit`)."""

    def __init__(self, kind: FailureKind, message: str) -> None:
        super().__init__(f"{kind}: {message}")
        self.kind = kind


@dataclass(frozen=True, slots=True)
class RuntimeSpec:
    """All that an environment needs to know; `emulator` None means plain Python."""

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
    """Return this platform's runtime interface emulator, or None where there is none or its client is missing."""
    machine = _MACHINES.get(platform.machine().lower())
    if not sys.platform.startswith("linux") or machine is None or not runtime_client.is_installed():
        return None
    pattern = f"lib/python3*/site-packages/samcli/local/rapid/aws-lambda-rie-{machine}"
    return next(iter((ROOT / ".tools" / "sam").glob(pattern)), None)


def spec_for(
    function: Function, code: Artefact, aws_url: str, *, emulator: Path | None, overrides: Mapping[str, str]
) -> RuntimeSpec:
    """Derive an environment from the deployed function: its variables, those that Lambda sets, and our `overrides`.

    `overrides` replaces variables of the function; `AWS_LAMBDA_FUNCTION_TIMEOUT` (seconds) replaces its timeout.
    """
    paths = [code.path]
    if emulator is not None:
        paths.append(runtime_client.link_client(ROOT / "build" / "runtime-client"))
    variables = {
        # Nothing of our own environment but the search path: no proxy, no profile, no real credentials.
        "PATH": os.environ.get("PATH", os.defpath),
        "PYTHONPATH": os.pathsep.join(map(str, paths)),
        # The artefact stays as it was built; its byte code is for Lambda's Python, ours goes beside it.
        "PYTHONPYCACHEPREFIX": str(ROOT / "build" / "byte-code"),
        **ACCESS,
        "AWS_DEFAULT_REGION": ACCESS["AWS_REGION"],
        "AWS_LAMBDA_FUNCTION_NAME": function.name,
        "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": str(function.memory),
        "AWS_LAMBDA_FUNCTION_TIMEOUT": str(function.timeout),
        "_HANDLER": function.handler,
        **function.environment,
        # After the template's own: whatever it says, this function must never reach the real AWS.
        "AWS_ENDPOINT_URL": aws_url,
        **overrides,
    }
    return RuntimeSpec(emulator, code, function.handler, int(variables["AWS_LAMBDA_FUNCTION_TIMEOUT"]), variables)


class Environment:
    """One execution environment; the runtime starts at the first invocation and again after a crash.

    The function's standard output and error go to `<name>.log`, the emulator's own messages to `<name>.runtime.log`.
    """

    def __init__(self, spec: RuntimeSpec, folder: Path, name: str) -> None:
        self._spec = spec
        self.log = folder / f"{name}.log"
        self._runtime_log = folder / f"{name}.runtime.log"
        self._child: Child | None = None
        self._port = 0
        # Two invocations at once would kill the emulator, as no two ever share an environment at AWS.
        self._busy = threading.Lock()

    @property
    def cold_starts(self) -> int:
        """How often the function was initialised."""
        return self._runtime_log.read_bytes().count(_INIT_MARK) if self._runtime_log.exists() else 0

    @property
    def is_busy(self) -> bool:
        """Whether an invocation is under way."""
        return self._busy.locked()

    def invoke(self, event: Mapping[str, Any]) -> bytes:
        """Invoke the function and return its answer as it came, which is JSON unless something is badly wrong.

        :raises InvocationError: the function raised, ran out of time or died.
        :raises StartError: the runtime itself does not start.
        """
        payload = json.dumps(event).encode()
        with self._busy:
            if self._child is None or not self._child.is_running():
                self._start()
            try:
                status, answer = self._post(payload)
            except TimeoutError:
                self.kill()
                raise InvocationError("timeout", "no answer, not even a late one") from None
            except (OSError, http.client.HTTPException) as error:
                self.kill()
                raise InvocationError("exit", f"the environment went away ({type(error).__name__})") from None
        return _checked(status, answer)

    def kill(self) -> None:
        """End the environment with SIGKILL, whatever it is doing; the next invocation is cold. Any thread may call."""
        child = self._child
        if child is not None:
            child.kill()

    def freeze(self) -> None:
        """Stop the function where it stands, as Lambda does between two invocations; its timeout goes on."""
        if self._child is not None:
            self._child.freeze()

    def thaw(self) -> None:
        """Let a frozen function go on."""
        if self._child is not None:
            self._child.thaw()

    def _start(self) -> None:
        self.kill()
        self._port = free_port()
        self._child = Child(
            # In the folder of the code, as at AWS: Python looks there first, and must not find this repository.
            self._command(),
            self._spec.variables,
            cwd=self._spec.code.path,
            out=self.log,
            err=self._runtime_log,
        )
        self._child.wait_until(lambda: accepts(self._port), seconds=_START_SECONDS)

    def _command(self) -> Sequence[str]:
        # Without the packages of this environment, so that the artefact must have all that it needs; the bare source
        # cannot do without them.
        python = [sys.executable, "-S"] if self._spec.code.is_built else [sys.executable]
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
    """Tell an answer from a failure, which the emulator mostly reports as HTTP 200 too."""
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
