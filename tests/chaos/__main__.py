"""`python -m tests.chaos`: the full form, ten thousand messages; `make chaos`.

CHAOS_MESSAGES and CHAOS_SEED replace the number and the seed. The seed gives the messages and the schedule, which are
printed; what happens at which moment within it depends on the machine, as it does in the real world.
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

from sandbox.pipeline.emulator import running_emulator
from sandbox.pipeline.rig import build_artefact
from tests.chaos.judgement import judge
from tests.chaos.run import gather, report, run, workload
from tests.chaos.schedule import schedule
from tests.chaos.world import running_world

_MESSAGES_PER_ROUND = 3_000

say = partial(print, flush=True)


def main() -> int:
    """Run it; return the exit code: 0 if the promise was kept and everything that should go wrong did."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    messages, seed = int(os.environ.get("CHAOS_MESSAGES", "10000")), int(os.environ.get("CHAOS_SEED", "1"))
    steps = schedule(seed, max(1, round(messages / _MESSAGES_PER_ROUND)))
    say(f"CHAOS_MESSAGES={messages} CHAOS_SEED={seed}, {len(steps)} steps")
    folder = Path(tempfile.mkdtemp(prefix="completion-sync-chaos-"))
    (folder / "aws").mkdir()
    problems = ["the run was cut short"]
    began = time.monotonic()
    try:
        code = build_artefact()
        with (
            running_emulator(folder / "aws") as emulator,
            running_world(emulator, code, folder / "function", name="chaos", seed=seed) as world,
        ):
            run(world, workload(messages, seed), steps, say=say)
            problems = judge(gather(world))
            problems += [f"never hit anything: {name}" for name in world.missed()]
            say(*report(world), sep="\n")
    finally:
        if problems:
            say(f"the logs are in {folder}")
        else:
            shutil.rmtree(folder, ignore_errors=True)
    say(*(f"PROBLEM: {problem}" for problem in problems[:50]), sep="\n", end="\n" * bool(problems))
    verdict = f"{len(problems)} problems" if problems else "each good message is one record, each bad one a dead letter"
    say(f"{verdict}; {time.monotonic() - began:.0f} s in all")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
