"""`python -m bench.backfill ROWS [SENT]`: how fast `completion-sync backfill` is, and that its memory does not grow.

It checks ROWS rows on a deployed stack (a dry run), and sends SENT rows (as many, unless it is given) to a queue that
accepts everything at once, as fast as it can. The figures are those of the process; 1,000 rows are for comparison.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from sandbox.pipeline.emulator import ACCESS, ROOT, running_emulator
from sandbox.pipeline.front import front
from sandbox.pipeline.rig import LOGICAL_ID, TEMPLATE
from sandbox.pipeline.stack import deploy

if TYPE_CHECKING:
    from collections.abc import Mapping

_SEND = "AmazonSQS.SendMessageBatch"


def main(rows: int, sent: int) -> None:
    """Print a line for each run."""
    with tempfile.TemporaryDirectory() as name, running_emulator(Path(name)) as emulator:
        deploy(emulator, TEMPLATE, LOGICAL_ID, "bench", {})
        with front(emulator.url, _accept) as url:
            env = {"PATH": os.defpath, "PYTHONPATH": f"{ROOT / 'src'}:{ROOT / 'cli'}", "TMPDIR": name, **ACCESS}
            env |= {"AWS_ENDPOINT_URL": url, "AWS_DEFAULT_REGION": ACCESS["AWS_REGION"]}
            send = ("--yes", "--rate", "1000000")
            for what, count, options in (
                ("checked", 1000, ()),
                ("checked", rows, ()),
                ("sent", 1000, send),
                ("sent", sent, send),
            ):
                file = Path(name) / f"{count}.csv"
                _write(file, count)
                _measure(what, file, count, env, *options)


def _accept(_path: str, headers: Mapping[str, str], body: bytes) -> tuple[int, Mapping[str, str], bytes] | None:
    if headers.get("X-Amz-Target") != _SEND:
        return None
    entries = json.loads(body)["Entries"]
    sent = [{"Id": entry["Id"], "MessageId": "m", "MD5OfMessageBody": ""} for entry in entries]
    return 200, {"Content-Type": "application/x-amz-json-1.0"}, json.dumps({"Successful": sent}).encode()


def _write(file: Path, rows: int) -> None:
    with file.open("w") as out:
        out.write("userId,contentId,completedAt\n")
        for number in range(rows):
            out.write(
                f"{number:024x},64a1b2c3d4e5f6789abcdef0,2021-01-01T09:{number // 60 % 60:02d}:{number % 60:02d}Z\n"
            )


def _measure(what: str, file: Path, rows: int, env: Mapping[str, str], *options: str) -> None:
    command = [sys.executable, "-m", "completion_sync_cli", "backfill", str(file), "--stack", "bench", *options]
    began = time.monotonic()
    child = subprocess.Popen(command, env=dict(env), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)  # noqa: S603 - our own command
    _, status, used = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    seconds = time.monotonic() - began
    print(
        f"{rows:>12,} rows {what} in {seconds:,.0f} s ({rows / seconds:,.0f} a second), "
        f"peak memory {used.ru_maxrss / 1024:.1f} MB, exit status {child.returncode}",
        flush=True,
    )


if __name__ == "__main__":
    numbers = [int(argument) for argument in sys.argv[1:]] or [1_000_000]
    main(numbers[0], numbers[-1])
