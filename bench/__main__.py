"""Measure everything, write `bench/results.json`, draw the pictures and update the pages."""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench import report
from bench.builds import UnavailableError, build, python_runtime, version_of
from bench.contenders import CONTENDERS, NOTHING, OURS
from bench.measures import MEASURES, QUICK, Bench, Plan
from bench.services import running_services
from sandbox.pipeline.emulator import ROOT

if TYPE_CHECKING:
    from collections.abc import Sequence

RESULTS = ROOT / "bench" / "results.json"
PICTURES = ROOT / "docs" / "performance"
PAGES = (ROOT / "docs" / "performance.md", ROOT / "README.md")
# matplotlib has an environment of its own.
DRAWING = ROOT / ".tools" / "bench" / "bin" / "python"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit status."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument(
        "--quick", action="store_true", help="only ours and an empty handler, only to see that it works"
    )
    parser.add_argument("--only", choices=MEASURES, nargs="+", help="repeat these and keep the other results")
    parser.add_argument("--render", action="store_true", help="measure nothing; draw and write from the results")
    parser.add_argument("--results", type=Path, default=RESULTS, help="default: bench/results.json")
    options = parser.parse_args(arguments)
    if not options.render:
        kept = json.loads(options.results.read_text()) if options.only else {"measures": {}, "runs": []}
        results = measure(options.only or list(MEASURES), kept, is_quick=options.quick)
        options.results.write_text(json.dumps(results, indent=1, ensure_ascii=False) + "\n")
    if options.results == RESULTS:
        render(json.loads(RESULTS.read_text()))
    return 0


def measure(names: Sequence[str], kept: dict[str, Any], *, is_quick: bool = False) -> dict[str, Any]:
    """Return the results of these measurements together with those that are kept.

    :raises UnavailableError: our own function cannot be built or run here.
    """
    # What the machine was busy with before we started.
    load = os.getloadavg()[0]
    plan, python = (QUICK, Path(sys.executable)) if is_quick else (Plan(), python_runtime())
    built, absent = [], {}
    for contender in CONTENDERS:
        if not is_quick or contender.name in {OURS, NOTHING}:
            try:
                built.append(build(contender, python))
            except UnavailableError as error:
                if contender.name == OURS:
                    raise
                absent[contender.name] = str(error).splitlines()[0]
                _say(f"not measured: {contender.label}: {error}")
    began, measures = time.monotonic(), dict(kept["measures"])
    with tempfile.TemporaryDirectory(prefix="completion-sync-bench-") as name, running_services(Path(name)) as services:
        bench = Bench(plan, built, services, Path(name))
        for measure_name in names:
            started = time.monotonic()
            measures[measure_name] = MEASURES[measure_name](bench)
            _say(f"{measure_name}: {time.monotonic() - started:.0f} s")
    run = {
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
        "load": load,
        "seconds": round(time.monotonic() - began),
        "measures": list(names),
    }
    return {
        "machine": _machine(),
        "runs": [*_without(kept["runs"], names), run],
        "repetitions": {
            "cold": plan.cold_starts,
            "warm": plan.warm_repetitions,
            "sequential": plan.sequential_repetitions,
        },
        "runtimes": sorted({version_of(one) for one in built}),
        "absent": absent,
        "measures": measures,
    }


def render(results: dict[str, Any]) -> None:
    """Draw the pictures and update the marked parts of the pages."""
    if DRAWING.exists():
        command = [str(DRAWING), "-m", "bench.pictures", "results", str(RESULTS), str(PICTURES)]
        subprocess.run(command, cwd=ROOT, check=True)  # noqa: S603 - our own module
    else:
        _say("no pictures: .tools/bench is missing (`make bench` sets it up)")
    for page in PAGES:
        page.write_text(report.renewed(page.read_text(), results))


def _without(runs: Sequence[dict[str, Any]], names: Sequence[str]) -> list[dict[str, Any]]:
    """Return the runs without these measurements, which have been repeated."""
    left = [run | {"measures": [name for name in run["measures"] if name not in names]} for run in runs]
    return [run for run in left if run["measures"]]


def _machine() -> dict[str, Any]:
    """Describe this machine without naming it."""
    return {
        "cpu": _field("/proc/cpuinfo", "model name") or platform.machine(),
        "cores": os.cpu_count(),
        "memory_gb": round(int(_field("/proc/meminfo", "MemTotal").split()[0]) / 1024**2),
        "system": f"{platform.system()} {platform.release().split('-')[0]}",
    }


def _field(file: str, name: str) -> str:
    fields = (line.partition(":") for line in Path(file).read_text().splitlines())
    return next((value.strip() for key, _, value in fields if key.strip() == name), "")


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
