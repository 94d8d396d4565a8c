"""SAM's own commands for real: the function in a container, an AWS emulator and a stand-in Thrive API beside it."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from sandbox.pipeline.emulator import PROGRAM as EMULATOR
from sandbox.pipeline.emulator import ROOT
from sandbox.pipeline.processes import LOOPBACK, Child, accepts, free_port
from sandbox.sam_local import running_neighbours

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from sandbox.sam_local import Neighbours

SAM = ROOT / ".tools" / "sam" / "bin" / "sam"
REGION = "eu-west-2"
# One command takes seconds; the first one makes an image of its own, or fetches one. This only ends a test that hangs.
PATIENCE = 300.0


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark every test below this folder, and skip it where the programs are not installed."""
    installed = SAM.exists() and EMULATOR.exists()
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.docker)
            if not installed:
                item.add_marker(pytest.mark.skip(reason="needs make setup"))


def sam_environment() -> dict[str, str]:
    """Return what `sam` needs of ours, and nothing that leads it to an AWS account."""
    ours = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "SAM_"))}
    return ours | {
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_DEFAULT_REGION": REGION,
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        "SAM_CLI_TELEMETRY": "0",
    }


def sam(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a `sam` command in the project's folder, as a person would."""
    done = subprocess.run(
        [str(SAM), *arguments],
        cwd=ROOT,
        env=sam_environment(),
        capture_output=True,
        check=False,
        text=True,
        timeout=PATIENCE,
    )
    assert done.returncode == 0, f"sam {' '.join(arguments)}:\n{done.stderr}"
    return done


def invoke(event: Path, overrides: Sequence[str]) -> tuple[Any, dict[str, tuple[str, str | None]]]:
    """Run `sam local invoke` with an event file; return the function's answer and the outcomes in its log."""
    done = sam("local", "invoke", "-e", str(event.relative_to(ROOT)), "--parameter-overrides", *overrides)
    return json.loads(done.stdout), outcomes_in(done.stderr)


def outcomes_in(log: str) -> dict[str, tuple[str, str | None]]:
    """Return outcome and reason by message id, from a log with other lines in it."""
    lines = [json.loads(line) for line in log.splitlines() if line.startswith("{")]
    return {line["message_id"]: (line["outcome"], line.get("reason")) for line in lines if "message_id" in line}


@pytest.fixture(scope="session")
def docker() -> None:
    """Skip where Docker does not answer or has no way to the runtime's image."""
    prepare = ["sandbox/sam_local/prepare", "--check"]
    check = subprocess.run(prepare, cwd=ROOT, capture_output=True, check=False, text=True, timeout=PATIENCE)
    if check.returncode:
        pytest.skip(check.stderr.strip().splitlines()[-1])


@pytest.fixture(scope="session")
def built(docker: None) -> None:
    sam("build")


@pytest.fixture(scope="session")
def running(docker: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Neighbours]:
    """Run the stand-in API and the emulator on free ports."""
    with running_neighbours(tmp_path_factory.mktemp("neighbours")) as neighbours:
        yield neighbours


@pytest.fixture
def neighbours(built: None, running: Neighbours) -> Neighbours:
    """Give them, with an empty ledger."""
    running.api.reset()
    return running


@pytest.fixture
def start_lambda(neighbours: Neighbours, tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """Run `sam local start-lambda` and yield its address and its log."""
    port, log = free_port(), tmp_path / "start-lambda.log"
    command = [str(SAM), "local", "start-lambda", "--port", str(port), "--parameter-overrides"]
    child = Child([*command, *neighbours.parameter_overrides], sam_environment(), cwd=ROOT, out=log)
    try:
        child.wait_until(lambda: accepts(port), seconds=PATIENCE)
        yield f"http://{LOOPBACK}:{port}", log
    finally:
        # It removes its containers before it ends.
        child.stop(patience=30)
