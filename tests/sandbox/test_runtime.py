"""Execution environments and their processes: what they get, what they return, and that nothing is left behind."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING

import pytest

from sandbox.pipeline.artefact import Artefact, build
from sandbox.pipeline.processes import Child, StartError
from sandbox.pipeline.runtime import Environment, InvocationError, RuntimeSpec, spec_for
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
    if "raise" in event:
        raise ValueError(event["raise"])
    if "sleep" in event:
        time.sleep(event["sleep"])
    if "exit" in event:
        os._exit(3)
    return {"count": COUNT, "left": context.get_remaining_time_in_millis() > 0}
"""


def spec(folder: Path, overrides: dict[str, str] | None = None, **environment: str) -> RuntimeSpec:
    """Return how to run a small handler in plain Python, with a timeout of one second."""
    deployed = Function("fn", "code.handle", "python3.13", timeout=1, memory=256, environment=environment)
    return spec_for(deployed, Artefact(folder), "http://127.0.0.1:9", emulator=None, overrides=overrides or {})


@pytest.fixture
def environment(tmp_path: Path) -> Iterator[Environment]:
    (tmp_path / "code.py").write_text(HANDLER)
    running = Environment(spec(tmp_path), tmp_path, "environment")
    yield running
    running.kill()


def wait(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def is_gone(pid: int) -> bool:
    """Return whether a process has ended (a zombie has)."""
    done = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True, check=False)
    return done.stdout.strip() in ("", "Z")


def test_the_function_gets_its_own_variables_and_cannot_reach_the_real_aws(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_PROFILE", "mine")
    overrides = {"THRIVE_SCOPE": "", "AWS_LAMBDA_FUNCTION_TIMEOUT": "7"}
    overridden = spec(tmp_path, overrides, AWS_ENDPOINT_URL="", THRIVE_SCOPE="api/write", MAX_CONCURRENCY="5")
    assert overridden.variables["AWS_ENDPOINT_URL"] == "http://127.0.0.1:9"
    assert (overridden.variables["THRIVE_SCOPE"], overridden.variables["MAX_CONCURRENCY"]) == ("", "5")
    assert overridden.timeout == 7
    assert "AWS_PROFILE" not in overridden.variables


@pytest.mark.parametrize(
    ("event", "kind", "count"), [({"raise": "boom"}, "error", 3), ({"exit": 1}, "exit", 1), ({"sleep": 30}, "exit", 1)]
)
def test_an_exception_leaves_an_environment_warm_and_a_death_makes_it_start_again(
    environment: Environment, event: dict[str, object], kind: str, count: int
) -> None:
    assert environment.invoke({}) == b'{"count": 1, "left": true}'
    with pytest.raises(InvocationError) as raised:
        environment.invoke(event)
    assert raised.value.kind == kind
    assert environment.invoke({}) == f'{{"count": {count}, "left": true}}'.encode()
    assert environment.cold_starts == (1 if kind == "error" else 2)


def test_an_environment_that_is_killed_while_it_starts_has_died(environment: Environment, tmp_path: Path) -> None:
    (tmp_path / "code.py").write_text("import time; time.sleep(60)")

    def kill() -> None:
        wait(lambda: environment.cold_starts == 1)
        environment.kill()

    killer = threading.Thread(target=kill)
    killer.start()
    with pytest.raises(InvocationError) as raised:
        environment.invoke({})
    killer.join()
    assert raised.value.kind == "exit"


def test_a_child_that_does_not_start_is_named_with_its_log(tmp_path: Path) -> None:
    log = tmp_path / "log"
    with pytest.raises(StartError, match="/no/such/program cannot be run"):
        Child(["/no/such/program"], {}, cwd=tmp_path, out=log)
    child = Child([sys.executable, "-c", "raise SystemExit(1)"], os.environ, cwd=tmp_path, out=log)
    with pytest.raises(StartError, match=r"ended while starting; see .*log"):
        child.wait_until(lambda: False, seconds=10)
    child.kill()


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="sessions are looked up in /proc")
def test_killing_a_child_kills_its_whole_session(tmp_path: Path) -> None:
    """A grandchild in a process group of its own too: the runtime below Lambda's emulator is one."""
    program = (
        "import subprocess, sys, time, pathlib\n"
        "p = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'], process_group=0)\n"
        "pathlib.Path('pid').write_text(str(p.pid))\n"
        "time.sleep(60)\n"
    )
    child = Child([sys.executable, "-c", program], os.environ, cwd=tmp_path, out=tmp_path / "log")
    pid = tmp_path / "pid"
    child.wait_until(lambda: pid.exists() and pid.read_text() != "", seconds=10)
    child.kill()
    wait(lambda: is_gone(int(pid.read_text())))


def test_a_child_does_not_outlive_a_parent_that_was_killed(tmp_path: Path) -> None:
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


# --- The artefact that they run ---------------------------------------------------------------------------------------


def test_each_content_is_built_once_and_unused_builds_are_deleted(tmp_path: Path) -> None:
    source, cache, log = tmp_path / "src", tmp_path / "cache", tmp_path / "log"
    source.mkdir()
    (source / "Makefile").write_text(f"build-Fn:\n\t@cp code.py '$(ARTIFACTS_DIR)/'\n\t@echo built >> '{log}'\n")
    (source / "code.py").write_text("x = 1\n")

    first = build(source, "Fn", cache)
    assert build(source, "Fn", cache) == first
    assert [path.name for path in first.path.iterdir()] == ["code.py"]
    assert log.read_text() == "built\n"

    os.utime(first.path, (0, 0))
    (source / "code.py").write_text("x = 2\n")
    second = build(source, "Fn", cache)
    assert [path for path in (first.path, second.path) if path.is_dir()] == [second.path]
    assert log.read_text() == "built\nbuilt\n"
