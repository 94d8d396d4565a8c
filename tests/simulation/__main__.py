"""`python -m tests.simulation`: replay a seed, run many, or run for a night."""

from __future__ import annotations

import argparse
import itertools
import sys
import time

from .package import Package
from .runs import WrongError, run
from .scenario import draw
from .world import simulate


def main() -> int:
    """Run what the arguments ask for; 1 where something went wrong."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--seed", type=int, help="replay one seed and print all that happens")
    parser.add_argument("--first", type=int, default=0, metavar="SEED", help="where to begin (0)")
    parser.add_argument("--count", type=int, default=1000, help="how many seeds (1000)")
    parser.add_argument("--step", type=int, default=1, help="take each so many-th (1)")
    parser.add_argument("--soak", type=float, metavar="HOURS", help="new seeds for so many hours, beginning at --first")
    arguments = parser.parse_args()
    if arguments.seed is not None:
        return _replay(arguments.seed)
    until, seeds = float("inf"), range(arguments.first, sys.maxsize, arguments.step)
    if arguments.soak is not None:
        until, count = time.monotonic() + arguments.soak * 3600, sys.maxsize
    else:
        count = arguments.count
    try:
        summary = run(itertools.islice(seeds, count), until=until)
    except WrongError as wrong:
        print(wrong, file=sys.stderr)  # noqa: T201
        return 1
    print(summary)  # noqa: T201
    return 0


def _replay(seed: int) -> int:
    scenario = draw(seed)
    report = simulate(Package(), seed, keep_trace=True)
    for name, value in vars(scenario).items():
        if name != "sent":
            print(f"{name}: {value}")  # noqa: T201
    print(*(line.rstrip() for line in report.trace if not line.rstrip().endswith(" log")), sep="\n")  # noqa: T201
    print(f"trace {report.trace_hash}")  # noqa: T201
    print(*(report.violations or ["nothing is wrong"]), sep="\n")  # noqa: T201
    return 1 if report.violations else 0


if __name__ == "__main__":
    sys.exit(main())
