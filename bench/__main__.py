"""`python -m bench`: measure everything, write `bench/results.json`, draw the pictures, renew the pages."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench import backlog, contenders, machine, money, report, targets
from bench.cpu_share import share_of
from bench.measures import calls, capacity, cold, cpu, durations, growth, memory, size, warm
from bench.plan import FULL, QUICK, Plan
from bench.services import running_services
from bench.setting import Setting
from bench.stats import rounded
from sandbox.pipeline.emulator import ROOT

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

RESULTS = ROOT / "bench" / "results.json"
PICTURES = ROOT / "docs" / "performance"
PAGES = (ROOT / "docs" / "performance.md", ROOT / "README.md")
# matplotlib lives in an environment of its own.
DRAWING = ROOT / ".tools" / "bench" / "bin" / "python"

MEASURES: dict[str, Callable[[Setting], Any]] = {
    "capacity": capacity.measure,
    "cold": cold.measure,
    "warm": warm.measure,
    "cpu": cpu.measure,
    "size": size.measure,
    "calls": calls.measure,
    "durations": durations.measure,
    "growth": growth.measure,
    "memory": memory.measure,
}
# The batch of the queue's default, the latency and the memory size that backlogs are computed for.
_BACKLOG_MEMORY_MB = 256


def main(arguments: Sequence[str] | None = None) -> int:
    """Run."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument(
        "--quick", action="store_true", help="ours and an empty handler, a few times: shows that it works"
    )
    parser.add_argument("--only", choices=MEASURES, nargs="+", help="measure these anew and take the rest from RESULTS")
    parser.add_argument("--render", action="store_true", help="measure nothing: pictures and pages from RESULTS")
    parser.add_argument("--results", type=Path, default=RESULTS, help="default: bench/results.json")
    options = parser.parse_args(arguments)
    if options.render:
        results = json.loads(options.results.read_text())
    else:
        plan = QUICK if options.quick else FULL
        before = json.loads(options.results.read_text())["measures"] if options.only else {}
        results = measure(plan, options.only or list(MEASURES), before)
        options.results.write_text(json.dumps(results, indent=1, ensure_ascii=False) + "\n")
    if options.results == RESULTS:
        render(results)
    return 0


def measure(plan: Plan, names: Sequence[str], before: dict[str, Any]) -> dict[str, Any]:
    """Take the measurements `names`, and derive from them, and from those taken before, what follows."""
    described = machine.describe()
    field = contenders.quick_field() if plan is QUICK else contenders.full_field()
    began = time.monotonic()
    measures = dict(before)
    with tempfile.TemporaryDirectory(prefix="completion-sync-bench-") as name, running_services(Path(name)) as services:
        setting = Setting(plan, field, services, Path(name))
        for measure_name in names:
            started = time.monotonic()
            measures[measure_name] = MEASURES[measure_name](setting)
            _say(f"{measure_name}: {time.monotonic() - started:.0f} s")
    results = {
        "machine": described,
        "plan": plan.name,
        "repetitions": {"cold": plan.cold_starts, "warm": plan.warm_repetitions, "sequential": plan.slow_repetitions},
        "runtimes": sorted({contender.runtime.name for contender in field.contenders.values()}),
        "absent": field.absent,
        "seconds": round(time.monotonic() - began),
        "measures": measures,
    }
    results["derived"] = derive(plan, measures)
    return results


def derive(plan: Plan, measures: dict[str, Any]) -> dict[str, Any]:
    """Compute money, backlogs, the stand-in's margin and the targets."""
    prices = money.of_a_million(measures["durations"], measures["calls"])
    latency = plan.money_latencies[0]
    memory_mb = _BACKLOG_MEMORY_MB if _BACKLOG_MEMORY_MB in plan.memory_sizes else plan.memory_sizes[0]
    [row] = [
        row for row in measures["durations"]["rows"] if (row["latency_ms"], row["memory_mb"]) == (latency, memory_mb)
    ]
    batch, batch_ms = measures["durations"]["batch"], row["billed_ms"][contenders.OURS]
    fastest = max(
        row["batch"] * 1000 / summary["median"] for row in measures["warm"] for summary in row["duration_ms"].values()
    )
    return {
        "money": prices,
        "cheapest_memory_mb": money.cheapest_sensible(
            prices, contenders.OURS, measures["memory"]["peak_mb"][contenders.OURS]
        ),
        "cold_at_share_ms": _cold_at_share(measures["cold"][contenders.OURS], plan.memory_sizes),
        "backlog": {
            "latency_ms": latency,
            "memory_mb": memory_mb,
            "batch": batch,
            "batch_ms": batch_ms,
            "rows": backlog.table(plan.backlogs, batch, batch_ms),
        },
        "capacity_margin": {
            "fastest_per_second": rounded(fastest),
            "times": rounded(max(measures["capacity"]["requests_per_second"].values()) / fastest, 3),
        },
        "targets": targets.check(measures),
    }


def _cold_at_share(cold: dict[str, Any], memory_sizes: Sequence[int]) -> dict[str, float]:
    """Compute our cold start when its processor time is stretched by the share of each memory size."""
    answer, processor = cold["first_answer_ms"]["median"], cold["cpu_ms"]["median"]
    return {
        str(memory_mb): rounded(answer + processor * (1 / share_of(memory_mb) - 1), 3) for memory_mb in memory_sizes
    }


def render(results: dict[str, Any]) -> None:
    """Draw the pictures and renew the marked parts of the pages."""
    if DRAWING.exists():
        PICTURES.mkdir(parents=True, exist_ok=True)
        command = [str(DRAWING), "-m", "bench.pictures", str(RESULTS), str(PICTURES)]
        subprocess.run(command, cwd=ROOT, check=True)  # noqa: S603 - our own module
    else:
        _say("no pictures: .tools/bench is not set up (make bench does it)")
    for page in PAGES:
        if page.exists():
            page.write_text(report.renewed(page.read_text(), results))


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
