"""`python -m sandbox demo` from start to end, as a person runs it; and that its check bites."""

from __future__ import annotations

import io
import json
import re
import subprocess
import sys
from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET

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


def test_the_demonstration_accounts_for_every_message(tmp_path: Path) -> None:
    """A stormy run ends with exit code 0, an even balance, lines that fit 80 columns, and a picture of them."""
    picture = tmp_path / "demo.svg"
    done = demo("--messages", "60", "--svg", str(picture))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Every message is accounted for" in done.stdout
    assert re.search(r"unknown_user +1 ", done.stdout)
    assert "1 environment killed" in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 80
    assert done.stderr == ""
    texts = "".join(ET.fromstring(picture.read_text()).itertext()).replace("\xa0", " ")
    assert "Every message is accounted for" in texts
    assert "http" not in texts


def test_the_users_own_events_and_configuration_are_run_and_bad_lines_are_named(tmp_path: Path) -> None:
    """Each line of the user's file is sent; a rejected one is listed with the reason, and that is no failure."""
    path, folder = tmp_path / "events.jsonl", tmp_path / "config"
    folder.mkdir()
    (folder / "mapping.json").write_text(
        '{"version": 1, "sources": [{"name": "s", "userRef": "who", "contentCode": "what", "completedAt": "at"}]}'
    )
    (folder / "content.csv").write_text("code,contentId\nA,content-a\n")
    good = {"who": "E-1", "what": "A", "at": "2024-01-01T10:00:00Z"}
    unknown = {**good, "what": "B"}
    path.write_bytes(f"{json.dumps(good)}\n\nnot JSON\n".encode() + b"\xff\n" + json.dumps(unknown).encode())
    done = demo("--calm", "--plain", "--events", str(path), "--config", str(folder))
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"created +1 ", done.stdout)
    assert re.search(r"line 3 +invalid_message", done.stdout)
    assert re.search(r"line 5 +unknown_content", done.stdout)
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
