"""Pictures as SVG, drawn by matplotlib, which has an environment of its own.

    python -m bench.pictures results bench/results.json docs/performance
    python -m bench.pictures outages docs/outage-curve.json docs/outage-curve.svg

Each has its own background, so that it looks the same on a light and on a dark page. The same numbers make the same
bytes.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

# Installed in .tools/bench only, where mypy does not look.
import matplotlib as mpl  # type: ignore[import-not-found] # only the environment of bench has it

mpl.use("svg")
from matplotlib import pyplot as plt

from bench import derived
from bench.contenders import ASYNC, LABELS, NODE, OURS, POOL, SEQUENTIAL

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

BLUE, ORANGE, PURPLE, GREEN, GREY = "#0b6e99", "#c77b30", "#9a4f96", "#4f8a3c", "#a8b0b8"
INK, PAPER, GRID = "#24292f", "#fbfbfa", "#d8dee4"
COLOURS = {
    LABELS[name]: colour
    for name, colour in ((OURS, BLUE), (SEQUENTIAL, ORANGE), (ASYNC, PURPLE), (NODE, GREEN), (POOL, GREY))
}
OUTAGE_RATE = 1.0
# Policy: name, colour, marker.
POLICIES = {
    "ours": ("this project", BLUE, "o"),
    "before": ("this project before it recognised outages", GREY, "x"),
    "router": ("event router: retries for 24 h, 185 attempts", PURPLE, "s"),
    "fixed-360": ("SQS: visibility timeout 360 s, 5 receives", ORANGE, "^"),
    "fixed-30": ("SQS: visibility timeout 30 s, 5 receives", GREEN, "v"),
}
DURATIONS = {60: "1 min", 300: "5 min", 1800: "30 min", 7200: "2 h", 21600: "6 h", 86400: "24 h", 259200: "72 h"}


def main(what: str, numbers: Path, target: Path) -> None:
    """Draw the results into a folder, or the outages into a file."""
    _set_style()
    read = json.loads(numbers.read_text(encoding="utf-8"))
    if what == "outages":
        _save(_outages(read["curve"]), target)
        return
    measures = read["measures"]
    cold = {name: row["first_answer_ms"] for name, row in measures["cold"].items()}
    _save(_bars(cold, "Cold start, from process start to first answer", "{:,.0f}"), target / "cold.svg")
    _save(_bars(measures["cpu"], "Processor time per record", "{:.2f}"), target / "cpu.svg")
    _save(_warm(measures["warm"]), target / "warm.svg")
    _save(_costs(derived.costs(measures)), target / "costs.svg")
    _save(_in_flight(measures["growth"]), target / "in-flight.svg")


def _set_style() -> None:
    # Text as paths and a fixed salt, so that a picture looks the same everywhere and changes with its numbers only.
    mpl.rc("svg", fonttype="path", hashsalt="bench")
    mpl.rc("axes", labelcolor=INK, edgecolor=GRID, facecolor=PAPER, grid=True, axisbelow=True)
    mpl.rc("axes", titlelocation="left", titleweight="bold", titlesize=11)
    mpl.rc("axes.spines", top=False, right=False)
    mpl.rc("grid", color=GRID, linewidth=0.7)
    mpl.rc("figure", facecolor=PAPER)
    mpl.rc("legend", frameon=False)
    mpl.rc("lines", markersize=4)
    mpl.rc("text", color=INK)
    mpl.rc(("xtick", "ytick"), color=INK)


def _save(figure: Any, file: Path) -> None:
    figure.savefig(file, metadata={"Date": None, "Creator": None})
    plt.close(figure)


def _bars(summaries: Mapping[str, Any], title: str, form: str) -> Any:
    names = sorted(summaries, key=lambda name: -summaries[name]["median"])
    figure, axes = plt.subplots(figsize=(8, 0.42 * len(names) + 1.1), layout="constrained")
    for row, name in enumerate(names):
        median, q1, q3 = (summaries[name][key] for key in ("median", "q1", "q3"))
        colour = BLUE if name.startswith(OURS) else GREY if name.startswith("baseline") else ORANGE
        axes.barh(row, median, color=colour, height=0.62)
        axes.plot([q1, q3], [row, row], color=INK, linewidth=1.2)
        place = {"xytext": (6, 0), "textcoords": "offset points", "va": "center"}
        axes.annotate(form.format(median), (max(median, q3), row), **place)
    axes.set_yticks(range(len(names)), [LABELS[name].replace(", ", ",\n") for name in names])
    axes.grid(visible=False, axis="y")
    axes.margins(x=0.1)
    axes.set(title=title, xlabel="milliseconds: the median, and the middle half as a line")
    return figure


def _warm(rows: Sequence[dict[str, Any]]) -> Any:
    least = "lower limit with 10 requests in flight"
    points = [
        (f"Warm batch of {row['batch']}", LABELS.get(name, name), row["latency_ms"], milliseconds)
        for row in rows
        for name, milliseconds in [
            *((name, summary["median"]) for name, summary in row["duration_ms"].items()),
            (least, row["least_ms"]),
        ]
    ]
    return _lines(points, "response time of the API (ms)", "duration (ms)", least)


def _costs(rows: Sequence[dict[str, Any]]) -> Any:
    points = [
        (
            f"API answers in {row['latency_ms']} ms",
            LABELS[row["contender"]],
            row["memory_mb"],
            row["lambda"] + row["requests"],
        )
        for row in rows
    ]
    return _lines(points, "memory size (MB)", "Lambda, USD per million completions")


def _in_flight(growth: dict[str, Any]) -> Any:
    rows, latency = growth["in_flight"], growth["latency_ms"]
    title = f"Throughput of one environment by memory size (API answers in {latency} ms)"
    most = "upper limit set by the API's response time"
    points = [(title, f"{row['memory_mb']} MB", row["in_flight"], row["per_second"]) for row in rows]
    counts = dict.fromkeys(row["in_flight"] for row in rows)
    points += [(title, most, count, count * 1000 / latency) for count in counts]
    return _lines(points, "requests in flight", "records per second", most)


def _lines(points: Sequence[tuple[str, str, float, float]], xlabel: str, ylabel: str, limit: str = "") -> Any:
    """Draw points, each with its panel's title and its line's label; the line `limit` is dotted."""
    titles = list(dict.fromkeys(point[0] for point in points))
    labels = list(dict.fromkeys(point[1] for point in points))
    figure, panels = plt.subplots(1, len(titles), figsize=(8, 4), layout="constrained", squeeze=False, sharey=True)
    others = iter(plt.get_cmap("viridis").resampled(len(labels)).colors)
    styles: dict[str, Any] = {label: {"marker": "o", "color": COLOURS.get(label) or next(others)} for label in labels}
    styles[limit] = {"linestyle": ":", "color": INK}
    for axes, title in zip(panels[0], titles, strict=True):
        for label in labels:
            line = [point[2:] for point in points if point[:2] == (title, label)]
            axes.plot(*zip(*line, strict=True), label=label, **styles[label])
        ticks = sorted({point[2] for point in points if point[0] == title})
        axes.set(xscale="log", yscale="log", title=title, xlabel=xlabel)
        axes.set_xticks(ticks, [str(tick) for tick in ticks])
        axes.minorticks_off()
        axes.yaxis.set_major_formatter("{x:,g}")
    panels[0][0].set_ylabel(ylabel)
    return _with_legend(figure, panels[0][0])


def _outages(rows: Sequence[dict[str, Any]]) -> Any:
    figure, panels = plt.subplots(1, 3, figsize=(10, 3.9), layout="constrained")
    kinds = [
        ("dead_lettered", 100, "Messages dead-lettered", "% of messages", "linear"),
        ("wasted", 1, "Failed calls to Thrive", "per message", "log"),
        ("drain", 1 / 60, "Time to catch up", "minutes after the outage", "linear"),
    ]
    for axes, (field, factor, title, unit, scale) in zip(panels, kinds, strict=True):
        for policy, (label, colour, marker) in POLICIES.items():
            points = [row for row in rows if (row["policy"], row["rate"]) == (policy, OUTAGE_RATE)]
            # A policy that dead-letters nearly everything has nothing to catch up with.
            shown = [row for row in points if field != "drain" or row["dead_lettered"] < 0.9]
            values = [row[field] * factor for row in shown]
            axes.plot([row["outage"] for row in shown], values, label=label, color=colour, marker=marker)
        axes.set(xscale="log", yscale=scale, title=title, ylabel=unit, xlabel="length of the outage")
        axes.set_xticks(list(DURATIONS), list(DURATIONS.values()), rotation=60)
        axes.minorticks_off()
        if scale == "log":
            axes.yaxis.set_major_formatter("{x:g}")
    return _with_legend(figure, panels[0])


def _with_legend(figure: Any, axes: Any) -> Any:
    figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=2)
    return figure


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]))
