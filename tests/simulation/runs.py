"""Many seeds: in this process, or in as many processes as there are cores."""

from __future__ import annotations

import functools
import multiprocessing
import time
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from typing import TYPE_CHECKING

from .package import Package
from .world import Report, simulate

if TYPE_CHECKING:
    from collections.abc import Iterable

# Seeds that a process runs at a time, and between two looks at the clock of a soak.
_CHUNK, _ROUND = 10, 200
_package = functools.cache(Package)


def first_wrong(seeds: Iterable[int], package: Package) -> Report | None:
    return next((report for report in (simulate(package, seed) for seed in seeds) if report.violations), None)


def run(seeds: Iterable[int], package: Package | None = None) -> Counter[str]:
    """Run seeds; return the sums of what was counted.

    :raises AssertionError: at the first seed with a violation; the text says how to replay it.
    """
    total = Counter[str]()
    for seed in seeds:
        report = simulate(package or _package(), seed)
        if report.violations:
            replay = f"to see how: python -m tests.simulation --seed {seed}"
            raise AssertionError("\n".join([f"seed {seed}:", *report.violations, replay]))
        total.update(runs=1, messages=report.messages, invocations=report.invocations, switches=report.switches)
        total.update(calls=sum(report.calls.values()), virtual_seconds=round(report.virtual_seconds))
    return total


def run_in_processes(first: int, count: int, *, hours: float = float("inf")) -> str:
    """Run ``count`` seeds from ``first`` on, or as many of them as there is time for; return a summary.

    :raises AssertionError: as :func:`run`.
    """
    began, end, total = time.monotonic(), first + count, Counter[str]()
    with ProcessPoolExecutor(mp_context=multiprocessing.get_context("spawn")) as pool:
        for start in range(first, end, _ROUND):
            if time.monotonic() > began + hours * 3600:
                break
            stop = min(start + _ROUND, end)
            for part in pool.map(run, [range(one, min(one + _CHUNK, stop)) for one in range(start, stop, _CHUNK)]):
                total.update(part)
    return (
        f"{total['runs']} runs in {time.monotonic() - began:.0f} s: {total['messages']} messages, "
        f"{total['invocations']} invocations, {total['calls']} calls, {total['switches']} switch points, "
        f"{total['virtual_seconds'] / 86_400:.0f} virtual days; nothing is wrong"
    )
