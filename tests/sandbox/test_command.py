"""`python -m sandbox`."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest
import urllib3
from click.testing import CliRunner

from sandbox.__main__ import main
from sandbox.thrive_api import EXAMPLE_TENANT
from tests.support.plain_client import basic

ROOT = Path(__file__).parents[2]


def started(*options: str) -> subprocess.Popen[str]:
    """Start the stand-in on a free port."""
    command = [sys.executable, "-m", "sandbox", "thrive-api", "--port", "0", *options]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def lookup(url: str, secret: str) -> int:
    """Return the status of a lookup with this secret."""
    headers = {"Authorization": basic(EXAMPLE_TENANT, secret)}
    return urllib3.request("GET", f"{url}/rest/v1/users/ref/x", headers=headers, retries=False).status


@pytest.mark.parametrize("stop", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("given", ["canary", None])
def test_the_stand_in_prints_a_secret_only_if_it_generated_it(given: str | None, stop: signal.Signals) -> None:
    with started(*(["--secret", given] if given else [])) as process:
        assert process.stdout is not None
        lines = [process.stdout.readline().rpartition(" ")[2].strip() for _ in range(1 if given else 3)]
        assert lookup(lines[0], given or lines[2]) == 404
        process.send_signal(stop)
        rest, _ = process.communicate(timeout=10)

    assert (rest, process.returncode) == ("", 0)
    assert "canary" not in lines[0]
    assert lines[1:2] == ([] if given else [EXAMPLE_TENANT])


def test_a_file_without_events_is_refused_in_one_line(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    path.write_bytes(b"\n\xff\n")
    result = CliRunner().invoke(main, ["demo", "--events", str(path)])
    assert result.exit_code == 1
    assert "holds no event to send; line 2: not UTF-8" in result.output
