"""`python -m tests.simulation`: replay a seed, run many, or run for a night."""

from __future__ import annotations

import argparse
import sys
import time

from .package import Package
from .runs import run_in_processes
from .scenario import draw
from .world import simulate

_ENDLESS = 10**12


def main() -> int:
    """Run what the arguments ask for; return 1 if a run had a violation."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--seed", type=int, help="replay one seed and print everything that happens")
    parser.add_argument("--first", type=int, metavar="SEED", help="the first seed (0; of a soak: made from the date)")
    parser.add_argument("--count", type=int, metavar="SEEDS", help="how many seeds (1000; of a soak: no end)")
    parser.add_argument("--soak", type=float, metavar="HOURS", help="run new seeds for so many hours")
    arguments = parser.parse_args()
    if arguments.seed is not None:
        return _replay(arguments.seed)
    first, count, hours = 0, 1000, float("inf")
    if arguments.soak is not None:
        first, count, hours = int(time.strftime("%Y%m%d")) * 10**8, _ENDLESS, arguments.soak
    first = first if arguments.first is None else arguments.first
    count = count if arguments.count is None else arguments.count
    print(f"seeds from {first} on", flush=True)
    try:
        print(run_in_processes(first, count, hours=hours))
    except AssertionError as wrong:
        print(wrong, file=sys.stderr)
        return 1
    return 0


def _replay(seed: int) -> int:
    report = simulate(Package(), seed, keep_trace=True)
    for name, value in vars(draw(seed)).items():
        if name != "sent":
            print(f"{name}: {value}")
    print(*(line.rstrip() for line in report.trace if not line.rstrip().endswith(" log")), sep="\n")
    print(f"trace {report.trace_hash}")
    print(*(report.violations or ["nothing is wrong"]), sep="\n")
    return 1 if report.violations else 0


if __name__ == "__main__":
    sys.exit(main())
