"""`python -m sandbox.recordings`: pictures of completion-sync in a terminal, for docs/command.md.

Each picture is the output of a real run: on the template, deployed to the emulator, with the built function in Lambda's
runtime and the stand-in Thrive API behind it.
"""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.text import Text

from sandbox.demo import picture
from sandbox.pipeline import mail
from sandbox.pipeline.emulator import ACCESS, ROOT, running_emulator
from sandbox.pipeline.front import lambda_front
from sandbox.pipeline.rig import Plan, build_artefact, running_rig
from sandbox.thrive_api import StandIn

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mypy_boto3_logs.type_defs import InputLogEventTypeDef

    from sandbox.pipeline.rig import Rig

TARGET = ROOT / "docs" / "recordings"
WIDTH = 110
NAME = "learning"
_DRAIN_SECONDS = 60.0

# The commands of each picture. Seven messages were sent before, of which three cannot be recorded.
PICTURES: dict[str, list[str]] = {
    "help": ["--help"],
    "check": ["check"],
    "dead-letters": ["dead-letters", "dead-letters show --reason invalid_message"],
    "redrive": ["redrive --reason refused", "redrive --reason refused --yes"],
    "backfill": ["backfill history.csv", "backfill history.csv --yes --rate 50"],
    "reconcile": ["reconcile history.csv"],
    "trace": ["trace --user-id user-2"],
}
HISTORY = """userId,contentId,completedAt,note
user-20,induction,2019-03-01T09:00:00Z,imported
user-21,induction,2019-03-01,no time
user-22,induction,2019-03-02T10:30:00+01:00,
user-20,induction,2019-03-01T10:00:00+01:00,the same as the first
user-23,first-aid,2019-04-11T08:15:00Z,
"""


def main() -> None:
    """Take all pictures."""
    TARGET.mkdir(exist_ok=True)
    api = StandIn()
    with tempfile.TemporaryDirectory() as scratch, api.running(), running_emulator(Path(scratch)) as emulator:
        folder = Path(scratch)
        plan = Plan(environments=1, parameters={"AlarmEmail": "ops@example.com"})
        code = build_artefact()
        with running_rig(emulator, api, code, folder, name=NAME, plan=plan) as rig, lambda_front(rig) as url:
            env = {"PATH": os.defpath, "PYTHONPATH": f"{ROOT / 'src'}:{ROOT / 'cli'}", **ACCESS}
            env |= {"AWS_ENDPOINT_URL": url, "AWS_DEFAULT_REGION": ACCESS["AWS_REGION"], "COMPLETION_SYNC_STACK": NAME}
            env |= {"COLUMNS": str(WIDTH), "FORCE_COLOR": "1", "TTY_INTERACTIVE": "0"}
            (folder / "history.csv").write_text(HISTORY)
            api.directory.unknown_users.add("user-2")
            rig.poller.start()
            _send(rig)
            for name, lines in PICTURES.items():
                if name == "redrive":
                    api.directory.unknown_users.clear()
                _take(name, lines, env, folder)
                _drain(rig)


def _send(rig: Rig) -> None:
    completions = [
        {"userId": f"user-{number}", "contentId": "fire-safety", "completedAt": f"2026-05-0{number}T09:00:00Z"}
        for number in range(1, 6)
    ]
    broken = [{"userId": "user-6", "contentId": "fire-safety"}, {"contentId": "fire-safety"}]
    mail.send(rig.emulator.sqs, rig.queue_url, [json.dumps(each) for each in [*completions, *broken]])
    _drain(rig)


def _drain(rig: Rig) -> None:
    """Wait until the queue is empty, and copy the function's log to the log group that the command searches."""
    deadline = time.monotonic() + _DRAIN_SECONDS
    while rig.backlog() and time.monotonic() < deadline:
        time.sleep(0.05)
    logs, stream = rig.emulator.logs, str(time.time_ns())
    group = f"/aws/lambda/{rig.queue_url.rpartition('/')[2].replace('-completions', '')}"
    logs.create_log_stream(logGroupName=group, logStreamName=stream)
    lines = [line for path in rig.logs for line in path.read_text().splitlines() if line.startswith("{")]
    now = int(time.time() * 1000) - len(lines)
    events: list[InputLogEventTypeDef] = [
        {"timestamp": now + number, "message": line} for number, line in enumerate(lines)
    ]
    if events:
        logs.put_log_events(logGroupName=group, logStreamName=stream, logEvents=events)
    for path in rig.logs:
        path.write_text("")


def _take(name: str, lines: list[str], env: Mapping[str, str], folder: Path) -> None:
    console = Console(record=True, width=WIDTH, file=open(os.devnull, "w"), force_terminal=True)  # noqa: SIM115, PTH123 - nothing is written
    for line in lines:
        console.print(Text(f"$ completion-sync {line}", style="bold"))
        command = [sys.executable, "-m", "completion_sync_cli", *shlex.split(line)]
        done = subprocess.run(  # noqa: S603 - our own command
            command, env=dict(env), cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
        )
        console.print(Text.from_ansi(done.stdout.rstrip()))
        console.print()
    picture.save(console, TARGET / f"{name}.svg", title="completion-sync", name=name)


if __name__ == "__main__":
    main()
