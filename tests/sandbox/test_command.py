"""`python -m sandbox`."""

from __future__ import annotations

import signal
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import urllib3
from click.testing import CliRunner

from sandbox.__main__ import main
from tests.support.plain_client import basic

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]


@contextmanager
def thrive_api(*options: str, lines: int) -> Iterator[tuple[subprocess.Popen[str], list[str]]]:
    """Run the stand-in on a free port; yield the process and the first lines that it prints."""
    process = subprocess.Popen(
        [sys.executable, "-m", "sandbox", "thrive-api", "--port", "0", *options],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        assert process.stdout is not None
        yield process, [process.stdout.readline().strip() for _ in range(lines)]
    finally:
        process.kill()
        process.communicate()


def get(url: str, tenant: str, secret: str) -> int:
    with urllib3.PoolManager(retries=False) as pool:
        return pool.request("GET", url, headers={"Authorization": basic(tenant, secret)}).status


def test_the_stand_in_prints_the_credentials_that_it_generates() -> None:
    with thrive_api(lines=3) as (_, printed):
        url, tenant, secret = (line.rpartition(" ")[2] for line in printed)
        assert get(f"{url}/rest/v1/users/ref/x", tenant, secret) == 404


@pytest.mark.parametrize("stop", [signal.SIGTERM, signal.SIGINT])
def test_the_stand_in_never_prints_a_secret_that_it_was_given(stop: signal.Signals) -> None:
    with thrive_api("--secret", "canary", lines=1) as (process, [where]):
        url = where.rpartition(" ")[2]
        assert get(f"{url}/rest/v1/users/ref/x", "eu-west-2_AbcdEfghI", "canary") == 404
        process.send_signal(stop)
        rest, _ = process.communicate(timeout=10)

    assert "canary" not in where
    assert (rest, process.returncode) == ("", 0)


def test_a_file_without_events_is_refused_in_one_line(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    path.write_bytes(b"\n\xff\n")
    result = CliRunner().invoke(main, ["demo", "--events", str(path)])
    assert result.exit_code == 1
    assert "holds no event to send; line 2: not UTF-8" in result.output
