"""`python -m tests.simulation`: replay a seed, run many, or run for a night."""

from __future__ import annotations

import argparse
import sys
import time

from .package import Package
from .runs import run, run_in_processes
from .scenario import draw
from .world import simulate

_ENDLESS = 10**12


def main() -> int:
    """Run what the arguments ask for; 1 where something went wrong."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--seed", type=int, help="replay one seed and print all that happens")
    parser.add_argument("--first", type=int, metavar="SEED", help="where to begin (0; for a soak: made of the date)")
    parser.add_argument("--count", type=int, metavar="SEEDS", help="how many seeds (1000; for a soak: no end)")
    parser.add_argument("--soak", type=float, metavar="HOURS", help="new seeds for so many hours")
    parser.add_argument("--step", type=int, help="take each so many-th, in this process alone")
    arguments = parser.parse_args()
    if arguments.seed is not None:
        return _replay(arguments.seed)
    is_soak = arguments.soak is not None
    first = arguments.first
    if first is None:
        first = int(time.strftime("%Y%m%d")) * 10**8 if is_soak else 0
    count = (_ENDLESS if is_soak else 1000) if arguments.count is None else arguments.count
    try:
        if arguments.step is None:
            print(f"seeds from {first} on", flush=True)
            print(run_in_processes(first, count, soak=arguments.soak), end="")
        else:
            until = time.monotonic() + arguments.soak * 3600 if is_soak else float("inf")
            seeds = range(first, first + count * arguments.step, arguments.step)
            print(run(seeds, until=until))
    except AssertionError as wrong:
        print(wrong, file=sys.stderr)
        return 1
    return 0


def _replay(seed: int) -> int:
    scenario = draw(seed)
    report = simulate(Package(), seed, keep_trace=True)
    for name, value in vars(scenario).items():
        if name != "sent":
            print(f"{name}: {value}")
    print(*(line.rstrip() for line in report.trace if not line.rstrip().endswith(" log")), sep="\n")
    print(f"trace {report.trace_hash}")
    print(*(report.violations or ["nothing is wrong"]), sep="\n")
    return 1 if report.violations else 0


if __name__ == "__main__":
    sys.exit(main())
