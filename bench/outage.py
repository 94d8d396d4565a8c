"""Run the model of outages and write the numbers, tables and picture of docs/outages.md."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sandbox.outages import HOUR, MINUTE, alternatives, curve

if TYPE_CHECKING:
    from collections.abc import Sequence

ROOT = Path(__file__).parents[1]
NUMBERS = ROOT / "docs" / "outage-curve.json"
PICTURE = ROOT / "docs" / "outage-curve.svg"
PAGE = ROOT / "docs" / "outages.md"
# matplotlib has an environment of its own.
DRAWING = ROOT / ".tools" / "bench" / "bin" / "python"

LABELS = {
    "ours": "this project",
    "fixed-30": "visibility 30 s, 5 receives",
    "fixed-360": "visibility 360 s, 5 receives",
    "router": "event router: 24 h, 185 attempts",
}


def table(rows: Sequence[dict[str, Any]], rate: float) -> str:
    """Return the table for one rate, with a row for each outage and a column for each policy."""
    lines = [
        "| outage | messages | " + " | ".join(LABELS.values()) + " |",
        "| --- | ---: |" + " --- |" * len(LABELS),
    ]
    for outage in sorted({row["outage"] for row in rows}):
        found = {row["policy"]: row for row in rows if (row["outage"], row["rate"]) == (outage, rate)}
        cells = [_cell(found[name]) for name in LABELS]
        lines.append(f"| {_time(outage)} | {found['ours']['messages']:,} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _cell(row: dict[str, Any]) -> str:
    if row["dead_lettered"] > 0.9995:
        return f"**all dead-lettered** ({row['wasted']:.0f} calls)"
    dead = f"**{row['dead_lettered']:.0%} dead-lettered**, " if row["dead_lettered"] > 0.0005 else ""
    return f"{dead}{row['wasted']:.0f} calls, done after {_time(row['drain'])}"


def _traffic_table(rows: Sequence[dict[str, Any]]) -> str:
    rates = sorted({row["rate"] for row in rows})
    lines = [
        "| outage | " + " | ".join(f"{rate:g} a second" for rate in rates) + " |",
        "| --- |" + " --- |" * len(rates),
    ]
    for outage in sorted({row["outage"] for row in rows}):
        cells = [
            f"{row['messages']:,}: {row['wasted']:.0f} calls, {_time(row['drain'])}, {_time(row['oldest'])}"
            for row in sorted((row for row in rows if row["outage"] == outage), key=lambda row: float(row["rate"]))
        ]
        lines.append(f"| {_time(outage)} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _alternatives_table(rows: Sequence[dict[str, Any]]) -> str:
    heads = ["messages a second", "Thrive takes a second", "failed calls per message", "calls a second"]
    heads += ["dead-lettered", "done after"]
    lines = [f"| | {' | '.join(heads)} |", "| --- |" + " ---: |" * len(heads)]
    for row in rows:
        limit = "all" if row["limit"] is None else f"{row['limit']:.0f}"
        pace = row["wasted"] * row["messages"] / (row["outage"] + (row["drain"] if row["limit"] else 0))
        cells = [row["what"], f"{row['rate']:g}", limit, f"{row['wasted']:.0f}", f"{pace:.0f}"]
        cells += [f"{row['dead_lettered']:.0%}", _time(row["drain"])]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _time(seconds: float) -> str:
    if seconds < MINUTE:
        return f"{seconds:.0f} s"
    if seconds < 90 * MINUTE:
        return f"{seconds / MINUTE:.0f} min"
    return f"{seconds / HOUR:.0f} h" if seconds >= 9.95 * HOUR or seconds % HOUR == 0 else f"{seconds / HOUR:.1f} h"


def renewed(page: str, numbers: dict[str, Any]) -> str:
    """Return the page with its marked regions replaced."""
    for name, text in (
        ("curve", table(numbers["curve"], 10.0)),
        ("traffic", _traffic_table([row for row in numbers["curve"] if row["policy"] == "ours"])),
        ("alternatives", _alternatives_table(numbers["alternatives"])),
    ):
        begin, end = f"<!-- outage:{name} -->", "<!-- /outage -->"
        before, _, rest = page.partition(begin)
        page = f"{before}{begin}\n{text}\n{end}{rest.partition(end)[2]}"
    return page


def main() -> int:
    """Run the command and return its exit status."""
    parser = argparse.ArgumentParser(prog="python -m bench.outage", description=__doc__)
    parser.add_argument("--render", action="store_true", help="compute nothing; write and draw from the numbers")
    if not parser.parse_args().render:
        numbers = {"curve": curve(), "alternatives": alternatives()}
        NUMBERS.write_text(json.dumps(numbers, indent=1) + "\n", encoding="utf-8")
    numbers = json.loads(NUMBERS.read_text(encoding="utf-8"))
    PAGE.write_text(renewed(PAGE.read_text(encoding="utf-8"), numbers), encoding="utf-8")
    if not DRAWING.exists():
        print(f"no picture: {DRAWING.relative_to(ROOT)} is missing (make bench sets it up)", file=sys.stderr)
        return 1
    command = [str(DRAWING), "-m", "bench.pictures", "outages", str(NUMBERS), str(PICTURE)]
    subprocess.run(command, cwd=ROOT, check=True)  # noqa: S603 - our own module
    return 0


if __name__ == "__main__":
    sys.exit(main())
