"""`python -m sandbox demo` from start to end, as a person runs it; and that its check bites."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from typing import TYPE_CHECKING

from rich.console import Console

from sandbox.demo.run import Options, run

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

    from sandbox.thrive_api import StandIn


def demo(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the command."""
    command = [sys.executable, "-m", "sandbox", "demo", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)


def test_the_demonstration_accounts_for_every_message() -> None:
    """A stormy run ends with exit code 0, an even balance and lines that fit 80 columns."""
    done = demo("--messages", "60")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Every message is accounted for" in done.stdout
    assert "1 environment killed" in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 80
    assert done.stderr == ""


def test_a_file_of_events_is_run_and_its_bad_lines_are_named(tmp_path: Path) -> None:
    """Each line of the user's file is sent; a rejected one is listed with the reason, and that is no failure."""
    path = tmp_path / "events.jsonl"
    good = {"userId": "u", "contentId": "c", "completedAt": "2024-01-01T10:00:00Z"}
    path.write_bytes(json.dumps(good).encode() + b"\n\nnot JSON\n\xff\n")
    done = demo("--calm", "--plain", "--events", str(path))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "line 3" in done.stdout
    assert "invalid_message" in done.stdout
    assert "not sent: line 4: not UTF-8" in done.stdout


def test_a_record_lost_behind_its_back_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Break it to see the check bite: one record less in Thrive, and the run fails, names it and keeps the logs."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)

    def lose_one(api: StandIn) -> None:
        kept = [entry.key for entry in api.ledger][1:]
        api.ledger.clear()
        for key in kept:
            api.ledger.record(key)

    said = io.StringIO()
    options = Options(messages=12, calm=True, before_check=lose_one)
    assert run(options, Console(file=said, width=80)) is False
    assert "should be recorded, but Thrive does not hold it" in said.getvalue()
    assert any(path.name.startswith("completion-sync-demo-") for path in tmp_path.iterdir())
