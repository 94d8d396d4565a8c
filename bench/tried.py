"""What was tried to make it faster, each beside what ships, in turn, in one run: `bench/tried.json` and a table.

    python -m bench.tried

Each is the artefact with one thing changed: a module of `bench/variants` around the handler, or other files in it.
"""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
import time
from collections import defaultdict
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import botocore

from bench import contenders, events, machine
from bench.function import running
from bench.measures import cold
from bench.services import running_services
from bench.setting import rotated
from bench.stats import rounded, summary
from sandbox.pipeline.emulator import ROOT

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from bench.contenders import Contender
    from bench.services import Services

RESULTS = ROOT / "bench" / "tried.json"
PAGE = ROOT / "docs" / "performance.md"
VARIANTS = ROOT / "bench" / "variants"
_COLD_ROUNDS = 15
_WARM_ROUNDS = 12
_BATCHES = 30
_BATCH = 10
_LATENCIES_MS = (5, 50)


@dataclass(frozen=True, slots=True)
class Change:
    """What ``change`` does to a copy of the artefact, and whether the cold start or a warm batch is to show it."""

    what: str
    verdict: str
    is_cold: bool
    module: str | None = None
    alter: Callable[[Path], None] = lambda _: None


def _without_byte_code(code: Path) -> None:
    for file in [*code.rglob("*.pyc")]:
        file.unlink()


def _whole_endpoints(code: Path) -> None:
    name = Path("data") / "endpoints.json"
    shutil.copyfile(Path(botocore.__file__).parent / name, code / "botocore" / name)


CHANGES = (
    Change("without byte code", "it ships", is_cold=True, alter=_without_byte_code),
    Change("botocore's whole list of endpoints", "it is cut", is_cold=True, alter=_whole_endpoints),
    Change("botocore without boto3", "no: decision 8", is_cold=True, module="botocore_alone"),
    Change("head and body of a request in two sends", "one is sent", is_cold=False, module="two_sends"),
    Change("urllib3's connections without its pool", "no: too little for code of our own", False, "without_pool"),
    Change("no log line for a message", "no: a bound, what a cheaper line could save at most", False, "without_log"),
    Change("no metrics", "no: a bound, what cheaper ones could save at most", False, "without_metrics"),
)


def main() -> int:
    """Measure, write the results, renew the table."""
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="completion-sync-tried-") as name:
        folder = Path(name)
        ours = contenders.ours()
        made = {change.what: _variant(ours, change, folder / str(number)) for number, change in enumerate(CHANGES)}
        with running_services(folder) as services:
            started = _cold({"": ours, **{c.what: made[c.what] for c in CHANGES if c.is_cold}}, services, folder)
            warmed = _warm({"": ours, **{c.what: made[c.what] for c in CHANGES if not c.is_cold}}, services, folder)
    rows = [
        {
            "what": change.what,
            "kept": change.verdict,
            "figures": _beside(started if change.is_cold else warmed, change.what),
        }
        for change in CHANGES
    ]
    results = {"machine": machine.describe(), "seconds": round(time.monotonic() - began), "rows": rows}
    RESULTS.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    page = PAGE.read_text(encoding="utf-8")
    begin, end = "<!-- tried -->\n", "<!-- /tried -->"
    head, rest = page.split(begin)
    PAGE.write_text(f"{head}{begin}{table(rows)}\n{end}{rest.split(end)[1]}", encoding="utf-8")
    print(table(rows))
    return 0


def table(rows: Sequence[dict[str, Any]]) -> str:
    """Return the rows as a table of ratios."""
    lines = ["| tried | measured: as it ships → so | done |", "| --- | --- | --- |"]
    for row in rows:
        figures = "<br>".join(
            f"{figure['of']}: {figure['ships']:.3g} → {figure['with']:.3g} ms ({figure['ratio']:.2f})"
            for figure in row["figures"]
        )
        lines.append(f"| {row['what']} | {figures} | {row['kept']} |")
    return "\n".join(lines)


def _variant(ours: Contender, change: Change, code: Path) -> Contender:
    shutil.copytree(ours.code, code)
    change.alter(code)
    if change.module is None:
        return replace(ours, name=code.name, code=code)
    shutil.copy(VARIANTS / f"{change.module}.py", code)
    return replace(ours, name=change.module, code=code, handler=f"{change.module}.lambda_handler")


Series = dict[str, dict[str, list[float]]]


def _cold(field: dict[str, Contender], services: Services, folder: Path) -> Series:
    starts = cold.starts(field, services, folder, _COLD_ROUNDS)
    return {
        "cold start": {what: series["first_answer_ms"] for what, series in starts.items()},
        "its processor time": {what: series["cpu_ms"] for what, series in starts.items()},
    }


def _warm(field: dict[str, Contender], services: Services, folder: Path) -> Series:
    taken: Series = defaultdict(lambda: defaultdict(list))
    for latency in _LATENCIES_MS:
        for turn in range(_WARM_ROUNDS):
            for what in rotated(list(field), turn):
                _round(taken, what, field[what], services, folder, latency)
    return taken


def _round(taken: Series, what: str, contender: Contender, services: Services, folder: Path, latency: int) -> None:
    """Take one round in a process of its own: chance decides how fast a process is as much as the code does."""
    with running(contender, services, folder, name=f"warm-{contender.name}") as function:
        services.set_latency(0)
        for _ in range(3):
            function.invoke(events.batch(_BATCH))
        services.set_latency(latency)
        before = function.process.cpu_seconds()
        durations = [function.invoke(events.batch(_BATCH)).duration for _ in range(_BATCHES)]
        spent = function.process.cpu_seconds() - before
    if latency == _LATENCIES_MS[0]:
        taken["processor time per record"][what].append(spent * 1000 / (_BATCHES * _BATCH))
    taken[f"batch of {_BATCH}, API at {latency} ms"][what].append(summary(durations)["median"])


def _beside(taken: Series, what: str) -> list[dict[str, Any]]:
    figures = []
    for of, by_variant in taken.items():
        ships, changed = summary(by_variant[""])["median"], summary(by_variant[what])["median"]
        figures.append({"of": of, "ships": ships, "with": changed, "ratio": rounded(changed / ships, 3)})
    return figures


if __name__ == "__main__":
    sys.exit(main())
