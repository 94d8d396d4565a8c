"""Run the model of outages and write the numbers, tables and picture of docs/outages.md."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.derived import DEFAULT_MEMORY_MB, GB_SECOND, LAMBDA_REQUEST, LOG_BYTE, SQS_REQUEST
from bench.report import filled, table
from sandbox.outages import BATCH, FAILING_SECONDS, HEALTHY_SECONDS, HOUR, IDLE_SECONDS, MINUTE, alternatives, curve

if TYPE_CHECKING:
    from collections.abc import Sequence

ROOT = Path(__file__).parents[1]
NUMBERS = ROOT / "docs" / "outage-curve.json"
PICTURE = ROOT / "docs" / "outage-curve.svg"
PAGE = ROOT / "docs" / "outages.md"
# matplotlib has an environment of its own.
DRAWING = ROOT / ".tools" / "bench" / "bin" / "python"

# What a message's line in the log takes up when it is deferred.
LOG_LINE_BYTES = 450
LABELS = {
    "ours": "this project",
    "before": "before the rules",
    "fixed-30": "visibility 30 s, 5 receives",
    "fixed-360": "visibility 360 s, 5 receives",
    "router": "event router: 24 h, 185 attempts",
}


def _curve_table(rows: Sequence[dict[str, Any]], rate: float) -> str:
    """Return the table for one rate, with a row for each outage and a column for each policy."""
    lines = []
    for outage in sorted({row["outage"] for row in rows}):
        found = {row["policy"]: row for row in rows if (row["outage"], row["rate"]) == (outage, rate)}
        cells = [_cell(found[name]) for name in LABELS]
        lines.append((_time(outage), f"{found['ours']['messages']:,}", *cells))
    return table(("outage", "messages", *LABELS.values()), lines, "lr" + "l" * len(LABELS))


def _cell(row: dict[str, Any]) -> str:
    if row["dead_lettered"] > 0.9995:
        return f"**all dead-lettered** ({_calls(row)})"
    dead = f"**{row['dead_lettered']:.0%} dead-lettered**, " if row["dead_lettered"] > 0.0005 else ""
    return f"{dead}{_calls(row)}, done after {_time(row['drain'])}"


def _calls(row: dict[str, Any]) -> str:
    calls = row["wasted"]
    return f"{calls:.0f} calls" if calls >= 9.5 else f"{calls:.2g} calls"


def _traffic_table(rows: Sequence[dict[str, Any]]) -> str:
    rates = sorted({row["rate"] for row in rows})
    lines = []
    for outage in sorted({row["outage"] for row in rows}):
        cells = [
            f"{row['messages']:,}: {_cell(row)}, {_time(row['oldest'])}"
            for row in sorted((row for row in rows if row["outage"] == outage), key=lambda row: float(row["rate"]))
        ]
        lines.append((_time(outage), *cells))
    return table(("outage", *(f"{rate:g} a second" for rate in rates)), lines, "l" * (len(rates) + 1))


def cost(row: dict[str, Any]) -> float:
    """Return what an outage costs in US dollars: what is received, deferred and recorded, in Lambda, SQS and logs."""
    # Each invocation is a receive and a call that sets the backoff or deletes.
    requests = row["invocations"] * (LAMBDA_REQUEST + 2 * SQS_REQUEST)
    busy = row["wasted"] * row["messages"] * FAILING_SECONDS + row["messages"] * HEALTHY_SECONDS / BATCH
    seconds = row["invocations"] * IDLE_SECONDS + busy
    lines = row["receives"] * row["messages"] * LOG_LINE_BYTES
    return float(requests + seconds * DEFAULT_MEMORY_MB / 1024 * GB_SECOND + lines * LOG_BYTE)


def _alternatives_table(rows: Sequence[dict[str, Any]]) -> str:
    heads = ("", "messages a second", "Thrive takes a second", "failed calls per message", "receives per message")
    lines = []
    for row in rows:
        limit = "all" if row["limit"] is None else f"{row['limit']:.0f}"
        cells = [row["what"], f"{row['rate']:g}", limit, _calls(row).removesuffix(" calls"), f"{row['receives']:.0f}"]
        cells += [f"{row['dead_lettered']:.0%}", _time(row["drain"]), f"{cost(row):.0f}"]
        lines.append(cells)
    return table((*heads, "dead-lettered", "done after", "USD"), lines)


def targets(numbers: dict[str, Any]) -> list[tuple[str, str, str, bool]]:
    """Return the targets: what is measured, its limit, the result, and whether the target is met."""
    rows = {(row["what"], row["rate"], row["limit"]): row for row in numbers["alternatives"]}
    slow, fast = rows["this project", 1.0, None], rows["this project", 10.0, None]
    limited = rows["this project", 10.0, 20.0]
    found = [
        ("failed calls per message, 24 h, 1 a second", 3.0, slow["wasted"], "{:.2f}"),
        ("failed calls per message, 24 h, 10 a second", 1.0, fast["wasted"], "{:.2f}"),
        ("failed calls per message, 24 h, 10 a second, Thrive takes 20", 2.0, limited["wasted"], "{:.2f}"),
    ]
    for rate, row in ((1, slow), (10, fast)):
        found.append((f"minutes until all is recorded, 24 h, {rate} a second", 20.0, row["drain"] / MINUTE, "{:.0f}"))
    curve = {(row["policy"], row["outage"], row["rate"]): row for row in numbers["curve"]}
    ratios = {key: row["drain"] / curve["before", *key[1:]]["drain"] for key, row in curve.items() if key[0] == "ours"}
    # The worst row, and each other one that misses the target.
    for key in sorted(ratios, key=lambda key: ratios[key], reverse=True):
        if ratios[key] > 1.1 or ratios[key] == max(ratios.values()):
            what = f"time until all is recorded, against before: {_time(key[1])}, {key[2]:g} a second"
            found.append((what, 1.1, ratios[key], "{:.2f} times"))
    for limit in (20.0, 50.0):
        row = rows["this project", 10.0, limit]
        least = row["messages"] / (limit - row["rate"])
        found.append(
            (f"time at {limit:.0f} a second, against the least possible", 1.1, row["drain"] / least, "{:.2f} times")
        )
    dead = max(row["dead_lettered"] for key, row in curve.items() if key[0] == "ours" and key[1] <= 24 * HOUR)
    found.append(("share dead-lettered in any outage of up to 24 h", 0.0, dead, "{:.0%}"))
    return [(name, form.format(most), form.format(value), value <= most) for name, most, value, form in found]


def _targets_table(numbers: dict[str, Any]) -> str:
    rows = [(what, most, value, "yes" if is_met else "**no**") for what, most, value, is_met in targets(numbers)]
    return table(("", "at most", "result", "met"), rows, "lrrl")


def _time(seconds: float) -> str:
    if seconds < MINUTE:
        return f"{seconds:.0f} s"
    if seconds < 90 * MINUTE:
        return f"{seconds / MINUTE:.0f} min"
    return f"{seconds / HOUR:.0f} h" if seconds >= 9.95 * HOUR or seconds % HOUR == 0 else f"{seconds / HOUR:.1f} h"


def renewed(page: str, numbers: dict[str, Any]) -> str:
    """Return the page with its marked regions replaced."""
    regions = {
        "curve": _curve_table(numbers["curve"], 10.0),
        "traffic": _traffic_table([row for row in numbers["curve"] if row["policy"] == "ours"]),
        "alternatives": _alternatives_table(numbers["alternatives"]),
        "targets": _targets_table(numbers),
    }
    return filled(page, "outage", regions.__getitem__)


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
