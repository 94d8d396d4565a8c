"""The outage curve as SVG: `python -m bench.outage_picture NUMBERS PICTURE`, by matplotlib in the others' style.

It has a background of its own, so that it reads the same on a light and on a dark page; the same numbers give the same
bytes.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

# In .tools/bench alone, where mypy does not look.
import matplotlib as mpl  # type: ignore[import-not-found]
from matplotlib import pyplot as plt

from bench.pictures import GRID, INK, OURS, PEER, STYLE

RATE = 1.0
HOUR = 3600.0
LINES = {
    "ours": ("this project", OURS, "-", "o"),
    "router": ("event router: 24 h, 185 attempts", "#9a4f96", "-", "s"),
    "fixed-360": ("visibility 360 s, 5 receives", PEER, "-", "^"),
    "fixed-30": ("visibility 30 s, 5 receives", "#4f8a3c", "-", "v"),
}
TICKS = {60: "1 min", 300: "5 min", 1800: "30 min", 7200: "2 h", 21600: "6 h", 86400: "24 h", 259200: "72 h"}


def main(numbers: Path, picture: Path) -> None:
    """Draw it."""
    mpl.rcParams.update(STYLE)
    rows = json.loads(numbers.read_text(encoding="utf-8"))["curve"]
    figure, panels = plt.subplots(1, 3, figsize=(10, 3.9), layout="constrained")
    _panel(panels[0], rows, "dead_lettered", 100, "Dead-lettered for nothing", "% of the messages", "linear")
    _panel(panels[1], rows, "wasted", 1, "Calls in vain", "per message", "log")
    _panel(panels[2], rows, "drain", 1 / 60, "Until the last is recorded", "minutes after the outage", "linear")
    panels[0].axvline(24 * HOUR, color=INK, linewidth=0.8, linestyle=":")
    panels[0].annotate("a day", (24 * HOUR, 50), xytext=(-4, 0), textcoords="offset points", ha="right", va="center")
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=4)
    figure.savefig(picture, metadata={"Date": None, "Creator": None})
    plt.close(figure)


def _panel(axes: Any, rows: list[dict[str, Any]], field: str, factor: float, title: str, unit: str, scale: str) -> None:
    for policy, (label, colour, line, marker) in LINES.items():
        points = [row for row in rows if row["policy"] == policy and row["rate"] == RATE]
        # What is dead-lettered is never recorded: there is no time to show.
        shown = [row for row in points if field == "dead_lettered" or row["dead_lettered"] < 0.9]
        axes.plot(
            [row["outage"] for row in shown],
            [row[field] * factor for row in shown],
            label=label,
            color=colour,
            linestyle=line,
            marker=marker,
            markersize=4,
        )
    axes.set(xscale="log", yscale=scale, title=title, ylabel=unit, xlabel="length of the outage")
    axes.set_xticks(list(TICKS), list(TICKS.values()), rotation=60)
    axes.minorticks_off()
    axes.grid(visible=True, color=GRID)
    if scale == "log":
        axes.yaxis.set_major_formatter("{x:g}")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
