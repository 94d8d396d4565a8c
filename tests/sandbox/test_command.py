"""`python -m sandbox` answers user errors in one line."""

from __future__ import annotations

from typing import TYPE_CHECKING

from click.testing import CliRunner

from sandbox.__main__ import main

if TYPE_CHECKING:
    from pathlib import Path


def test_help_lists_every_command() -> None:
    result = CliRunner().invoke(main, ["--help"])
    assert result.exit_code == 0
    assert all(f"\n  {name} " in result.output for name in ("demo", "sam-local", "thrive-api"))


def test_a_file_without_events_is_refused_in_one_line(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    path.write_bytes(b"\n\xff\n")
    result = CliRunner().invoke(main, ["demo", "--events", str(path)])
    assert result.exit_code == 1
    assert "holds no event to send; line 2: not UTF-8" in result.output


def test_an_unknown_file_is_refused_by_name(tmp_path: Path) -> None:
    result = CliRunner().invoke(main, ["demo", "--events", str(tmp_path / "missing.jsonl")])
    assert result.exit_code == 2
    assert "missing.jsonl" in result.output
