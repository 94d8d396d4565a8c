"""Execution environments and their processes: what they are told, what comes back, and that nothing is left behind."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest

from sandbox.pipeline.artefact import Artefact
from sandbox.pipeline.processes import Child, StartError
from sandbox.pipeline.runtime import Environment, InvocationError, spec_for
from sandbox.pipeline.stack import Function

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

HANDLER = """
import os, time
COUNT = 0
def handle(event, context):
    global COUNT
    COUNT += 1
    print("called", flush=True)
    if "raise" in event:
        raise ValueError(event["raise"])
    if "sleep" in event:
        time.sleep(event["sleep"])
    if "exit" in event:
        os._exit(3)
    return {"count": COUNT, "function": context.function_name, "left": context.get_remaining_time_in_millis() > 0}
"""


def function(**environment: str) -> Function:
    """Make a deployed function."""
    return Function("fn", "code.handle", "python3.13", timeout=1, memory=256, environment=environment)


@pytest.fixture
def environment(tmp_path: Path) -> Iterator[Environment]:
    """Yield a plain environment (no emulator needed) around a small handler; its timeout is one second."""
    (tmp_path / "code.py").write_text(HANDLER)
    spec = spec_for(function(), Artefact(tmp_path, is_built=True), "http://127.0.0.1:1", emulator=None, overrides={})
    running = Environment(spec, tmp_path, "environment")
    yield running
    running.kill()


def is_gone(pid: int) -> bool:
    """Tell whether a process has ended; one that only waits to be reaped has."""
    done = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True, check=False)
    return done.stdout.strip() in ("", "Z")


def wait(condition: Callable[[], bool]) -> None:
    """Wait until it holds."""
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_the_function_never_reaches_the_real_aws(tmp_path: Path) -> None:
    """Whatever the template says of the endpoint, it is the emulator's; nothing of our own environment goes along."""
    os.environ["LEAK"] = "1"
    try:
        deployed = function(AWS_ENDPOINT_URL="", THRIVE_SCOPE="api/write")
        spec = spec_for(deployed, Artefact(tmp_path, is_built=True), "http://127.0.0.1:9", emulator=None, overrides={})
    finally:
        del os.environ["LEAK"]
    assert spec.variables["AWS_ENDPOINT_URL"] == "http://127.0.0.1:9"
    assert spec.variables["THRIVE_SCOPE"] == "api/write"
    assert "LEAK" not in spec.variables


def test_overrides_win_and_may_change_the_timeout(tmp_path: Path) -> None:
    """A test or the demonstration may hurry things along."""
    overrides = {"THRIVE_SCOPE": "", "AWS_LAMBDA_FUNCTION_TIMEOUT": "7"}
    deployed = function(THRIVE_SCOPE="api/write")
    spec = spec_for(deployed, Artefact(tmp_path, is_built=True), "http://x", emulator=None, overrides=overrides)
    assert spec.variables["THRIVE_SCOPE"] == ""
    assert spec.timeout == 7


def test_a_warm_environment_keeps_its_state(environment: Environment) -> None:
    """Two invocations share one initialisation, and what the function prints is in the log."""
    assert environment.invoke({}) == b'{"count": 1, "function": "fn", "left": true}'
    assert environment.invoke({}).startswith(b'{"count": 2')
    assert environment.cold_starts == 1
    assert environment.log.read_text().count("called") == 2


def test_an_exception_is_an_error_and_the_environment_stays_warm(environment: Environment) -> None:
    """What the function raises comes back by type and text."""
    with pytest.raises(InvocationError, match="ValueError: boom") as raised:
        environment.invoke({"raise": "boom"})
    assert raised.value.kind == "error"
    assert environment.invoke({}).startswith(b'{"count": 2')


@pytest.mark.parametrize("event", [{"exit": 1}, {"sleep": 30}])
def test_a_dead_environment_starts_again(environment: Environment, event: dict[str, int]) -> None:
    """After an exit, or the timeout, the next invocation is cold."""
    with pytest.raises(InvocationError):
        environment.invoke(event)
    assert environment.invoke({}).startswith(b'{"count": 1')
    assert environment.cold_starts == 2


def test_a_child_that_ends_while_starting_is_named(tmp_path: Path) -> None:
    """The error says which program, and where its log is."""
    child = Child([sys.executable, "-c", "raise SystemExit(1)"], os.environ, cwd=tmp_path, out=tmp_path / "log")
    with pytest.raises(StartError, match=r"ended while starting; see .*log"):
        child.wait_until(lambda: False, seconds=10)
    child.kill()


def test_a_program_that_is_not_there_is_named(tmp_path: Path) -> None:
    """A missing program is an error of its own, not a traceback of Popen's."""
    with pytest.raises(StartError, match="/no/such/program cannot be run"):
        Child(["/no/such/program"], {}, cwd=tmp_path, out=tmp_path / "log")


def test_killing_a_child_ends_its_whole_session(tmp_path: Path) -> None:
    """A grandchild in a process group of its own goes too, as the runtime below the emulator must."""
    if not sys.platform.startswith("linux"):
        pytest.skip("sessions are looked up in /proc")
    program = (
        "import os, subprocess, sys, time, pathlib\n"
        "p = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'], process_group=0)\n"
        "pathlib.Path('pid').write_text(str(p.pid))\n"
        "time.sleep(60)\n"
    )
    child = Child([sys.executable, "-c", program], os.environ, cwd=tmp_path, out=tmp_path / "log")
    pid = tmp_path / "pid"
    child.wait_until(lambda: pid.exists() and pid.read_text() != "", seconds=10)
    child.kill()
    wait(lambda: is_gone(int(pid.read_text())))


def test_a_child_does_not_outlive_us(tmp_path: Path) -> None:
    """Even SIGKILL for the program that started it leaves no child behind."""
    program = (
        "import os, sys, pathlib\n"
        "from sandbox.pipeline.processes import Child\n"
        f"here = pathlib.Path({str(tmp_path)!r})\n"
        "inner = 'import os, time, pathlib; pathlib.Path(\"pid\").write_text(str(os.getpid())); time.sleep(60)'\n"
        "child = Child([sys.executable, '-c', inner], os.environ, cwd=here, out=here / 'log')\n"
        "child.wait_until(lambda: (here / 'pid').exists() and (here / 'pid').read_text() != '', seconds=10)\n"
        "os.kill(os.getpid(), 9)\n"
    )
    subprocess.run([sys.executable, "-c", program], check=False)
    wait(lambda: is_gone(int((tmp_path / "pid").read_text())))
