"""Many seeds: in this process, or shared out among processes of their own."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from .package import Package
from .world import Report, simulate

if TYPE_CHECKING:
    from collections.abc import Iterable


ROOT = Path(__file__).parents[2]
_LOOK_SECONDS = 0.1


@dataclass
class Summary:
    runs: int = 0
    messages: int = 0
    invocations: int = 0
    calls: int = 0
    switches: int = 0
    virtual_days: float = 0.0
    seconds: float = 0.0

    def add(self, report: Report) -> None:
        self.runs += 1
        self.messages += report.messages
        self.invocations += report.invocations
        self.calls += sum(report.calls.values())
        self.switches += report.switches
        self.virtual_days += report.virtual_seconds / 86_400

    def __str__(self) -> str:
        return (
            f"{self.runs} runs in {self.seconds:.0f} s: {self.messages} messages, {self.invocations} invocations, "
            f"{self.calls} calls, {self.switches} switch points, {self.virtual_days:.0f} virtual days; nothing is wrong"
        )


class WrongError(AssertionError):
    """A run in which something happened that must not."""

    def __init__(self, report: Report) -> None:
        replay = f"python -m tests.simulation --seed {report.seed}"
        super().__init__("\n".join([f"seed {report.seed}:", *report.violations, f"to see how: {replay}"]))


def first_wrong(seeds: Iterable[int], package: Package) -> Report | None:
    return next((report for report in (simulate(package, seed) for seed in seeds) if report.violations), None)


def run(seeds: Iterable[int], *, until: float = float("inf")) -> Summary:
    """Run seeds, until a moment of ``time.monotonic``.

    :raises WrongError: at the first that goes wrong.
    """
    package, summary, began = Package(), Summary(), time.monotonic()
    for seed in itertools.takewhile(lambda _: time.monotonic() < until, seeds):
        report = simulate(package, seed)
        if report.violations:
            raise WrongError(report)
        summary.add(report)
    summary.seconds = time.monotonic() - began
    return summary


def run_in_processes(first: int, count: int, *, soak: float | None = None) -> str:
    """Run ``count`` seeds from ``first`` on, shared out among as many processes as there are cores.

    :param soak: end after so many hours.
    :returns: what they print.
    :raises AssertionError: one went wrong, at which the others are ended; the text holds what they had printed.
    """
    processes = os.cpu_count() or 1
    command = [sys.executable, "-m", "tests.simulation", "--step", str(processes)]
    if soak is not None:
        command += ["--soak", str(soak)]
    running = [
        subprocess.Popen(
            [*command, "--first", str(first + index), "--count", str(-(-(count - index) // processes))],
            cwd=ROOT,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        for index in range(processes)
    ]
    while any(process.poll() is None for process in running) and not any(process.returncode for process in running):
        time.sleep(_LOOK_SECONDS)
    gone_wrong = any(process.poll() for process in running)
    for process in running:
        process.terminate()
    text = "".join(process.communicate()[0] for process in running)
    if gone_wrong:
        raise AssertionError(text)
    return text
