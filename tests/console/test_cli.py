"""The command line: quick to answer, and clear about what it does not take."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

from click.testing import CliRunner

from console.cli import main

if TYPE_CHECKING:
    from pathlib import Path


def test_help_lists_every_command() -> None:
    """One look tells what there is."""
    result = CliRunner().invoke(main, ["--help"])
    assert result.exit_code == 0
    assert "demo" in result.output
    assert "thrive-api" in result.output


def test_each_command_has_help() -> None:
    """Commands that are imported only when called answer like the others."""
    for command in ("demo", "thrive-api"):
        result = CliRunner().invoke(main, [command, "--help"])
        assert result.exit_code == 0, result.output
        assert "Usage:" in result.output


def test_help_imports_nothing_heavy() -> None:
    """`--help` must not wait for boto3, aiohttp or rich."""
    code = (
        "import sys\n"
        "from console.cli import main\n"
        "main(['--help'], standalone_mode=False)\n"
        "assert not {'boto3', 'aiohttp', 'rich'} & sys.modules.keys(), 'too much is imported'\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_a_file_without_events_is_refused_in_one_line(tmp_path: Path) -> None:
    """Nothing to send is a mistake worth a sentence, and the lines that could not be sent are named."""
    path = tmp_path / "events.jsonl"
    path.write_bytes(b"\n\xff\n")
    result = CliRunner().invoke(main, ["demo", "--events", str(path)])
    assert result.exit_code == 1
    assert "holds no event to send; line 2: not UTF-8" in result.output


def test_an_unknown_file_is_refused_by_name(tmp_path: Path) -> None:
    """A wrong path ends in a usage error, not in a traceback."""
    result = CliRunner().invoke(main, ["demo", "--events", str(tmp_path / "missing.jsonl")])
    assert result.exit_code == 2
    assert "missing.jsonl" in result.output
