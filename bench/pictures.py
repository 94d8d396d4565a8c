"""Pictures of the results, as SVG: `python -m bench.pictures RESULTS FOLDER`, with matplotlib and nothing of ours.

Each has a background of its own, so that it reads the same on a light and on a dark page; the same results give the
same bytes.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

# In .tools/bench alone, where mypy does not look.
import matplotlib as mpl  # type: ignore[import-not-found]

mpl.use("svg")
from matplotlib import pyplot as plt

OURS, PEER, FLOOR = "#0b6e99", "#c77b30", "#a8b0b8"
INK, PAPER, GRID = "#24292f", "#fbfbfa", "#d8dee4"
SHORT = {
    "ours": "thrive-completion-sync",
    "powertools_requests": "Powertools + requests",
    "powertools_requests_compiled": "… with byte code added",
    "powertools_async": "Powertools async + httpx",
    "node": "Node.js: Powertools + fetch",
    "floor_nothing": "floor: empty handler",
    "floor_boto3": "floor: boto3 + client",
    "floor_loop": "floor: urllib3 loop",
    "floor_pool": "floor: urllib3 pool",
}
COLOURS = {
    "ours": OURS,
    "powertools_requests": PEER,
    "powertools_async": "#9a4f96",
    "node": "#4f8a3c",
    "floor_pool": FLOOR,
}
STYLE = {
    "svg.fonttype": "path",
    "svg.hashsalt": "bench",
    "font.size": 10,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": GRID,
    "axes.facecolor": PAPER,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlelocation": "left",
    "axes.titleweight": "bold",
    "axes.titlesize": 11,
    "figure.facecolor": PAPER,
    "grid.color": GRID,
    "grid.linewidth": 0.7,
    "legend.frameon": False,
    "xtick.color": INK,
    "ytick.color": INK,
}


def main(results_file: Path, folder: Path) -> None:
    """Draw all."""
    results = json.loads(results_file.read_text())
    mpl.rcParams.update(STYLE)
    measures, derived = results["measures"], results["derived"]
    for name, draw, data in (
        ("cold", _cold, measures["cold"]),
        ("warm", _warm, measures["warm"]),
        ("cpu", _cpu, measures["cpu"]),
        ("money", _money, derived["money"]),
        ("in-flight", _in_flight, measures["growth"]),
        ("memory", _memory, measures["memory"]),
    ):
        figure = draw(data)
        figure.savefig(folder / f"{name}.svg", metadata={"Date": None, "Creator": None})
        plt.close(figure)


def _cold(cold: dict[str, Any]) -> Any:
    return _bars(
        {name: row["first_answer_ms"] for name, row in cold.items()},
        "Cold start: process start to first answer",
        "milliseconds, median; the line spans the middle half",
        "{:.0f}",
    )


def _cpu(cpu: dict[str, Any]) -> Any:
    return _bars(cpu, "Processor time per record", "milliseconds, median; the line spans the middle half", "{:.2f}")


def _bars(summaries: dict[str, Any], title: str, label: str, form: str) -> Any:
    names = sorted(summaries, key=lambda name: -summaries[name]["median"])
    figure, axes = plt.subplots(figsize=(8, 0.42 * len(names) + 1.1), layout="constrained")
    for row, name in enumerate(names):
        summary = summaries[name]
        colour = OURS if name == "ours" else FLOOR if name.startswith("floor") else PEER
        axes.barh(row, summary["median"], color=colour, height=0.62)
        axes.plot([summary["q1"], summary["q3"]], [row, row], color=INK, linewidth=1.2)
        axes.annotate(
            form.format(summary["median"]),
            (max(summary["median"], summary["q3"]), row),
            xytext=(6, 0),
            textcoords="offset points",
            va="center",
        )
    axes.set_yticks(range(len(names)), [SHORT[name] for name in names])
    axes.grid(visible=False, axis="y")
    axes.margins(x=0.1)
    axes.set_title(title)
    axes.set_xlabel(label)
    return figure


def _warm(warm: list[dict[str, Any]]) -> Any:
    batches = sorted({row["batch"] for row in warm})
    figure, all_axes = plt.subplots(1, len(batches), figsize=(8, 3.6), layout="constrained", squeeze=False)
    for axes, batch in zip(all_axes[0], batches, strict=True):
        rows = [row for row in warm if row["batch"] == batch]
        latencies = [row["latency_ms"] for row in rows]
        for name in rows[0]["duration_ms"]:
            values = [row["duration_ms"][name]["median"] for row in rows]
            axes.plot(latencies, values, marker="o", markersize=4, color=COLOURS[name], label=SHORT[name])
        axes.plot(latencies, [row["least_ms"] for row in rows], color=INK, linestyle=":", label="least, 10 in flight")
        axes.set(xscale="log", yscale="log", xlabel="latency of the API (ms)", title=f"A warm batch of {batch}")
        axes.set_xticks(latencies, [str(latency) for latency in latencies])
        axes.minorticks_off()
    all_axes[0][0].set_ylabel("duration (ms)")
    handles, labels = all_axes[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=3)
    return figure


def _money(money: list[dict[str, Any]]) -> Any:
    latencies = sorted({row["latency_ms"] for row in money})
    figure, all_axes = plt.subplots(1, len(latencies), figsize=(8, 3.6), layout="constrained", squeeze=False)
    for axes, latency in zip(all_axes[0], latencies, strict=True):
        names = list(dict.fromkeys(row["contender"] for row in money))
        for name in names:
            rows = [row for row in money if row["latency_ms"] == latency and row["contender"] == name]
            sizes = [row["memory_mb"] for row in rows]
            costs = [row["compute_usd"] + row["requests_usd"] for row in rows]
            axes.plot(sizes, costs, marker="o", markersize=4, color=COLOURS[name], label=SHORT[name])
        axes.set(xscale="log", yscale="log", xlabel="memory size (MB)", title=f"API at {latency} ms")
        axes.set_xticks(sizes, [str(size) for size in sizes])
        axes.minorticks_off()
        axes.yaxis.set_major_formatter("{x:g}")
    all_axes[0][0].set_ylabel("Lambda for a million completions (USD)")
    handles, labels = all_axes[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=2)
    return figure


def _in_flight(growth: dict[str, Any]) -> Any:
    rows = growth["in_flight"]
    figure, axes = plt.subplots(figsize=(8, 3.8), layout="constrained")
    sizes = sorted({row["memory_mb"] for row in rows})
    in_flight = sorted({row["in_flight"] for row in rows})
    shades = plt.get_cmap("viridis")
    for number, size in enumerate(sizes):
        rates = [row["per_second"] for row in rows if row["memory_mb"] == size]
        colour = shades(0.85 * number / max(1, len(sizes) - 1))
        axes.plot(in_flight, rates, marker="o", markersize=4, color=colour, label=f"{size} MB")
    ideal = [count * 1000 / growth["latency_ms"] for count in in_flight]
    axes.plot(in_flight, ideal, color=INK, linestyle=":", label="waiting alone")
    axes.set(xscale="log", yscale="log", xlabel="requests in flight", ylabel="records a second, one environment")
    axes.set_xticks(in_flight, [str(count) for count in in_flight])
    axes.minorticks_off()
    axes.yaxis.set_major_formatter("{x:g}")
    axes.set_title(f"Where more requests in flight stop to help (API at {growth['latency_ms']} ms)")
    axes.legend(loc="upper left")
    return figure


def _memory(memory: dict[str, Any]) -> Any:
    figure, axes = plt.subplots(figsize=(8, 2.8), layout="constrained")
    records = [point["records"] for point in memory["course"]]
    axes.plot(records, [point["rss_mb"] for point in memory["course"]], marker="o", markersize=4, color=OURS)
    axes.set_ylim(0, max(point["rss_mb"] for point in memory["course"]) * 1.25)
    axes.set(xlabel="records served", ylabel="resident memory (MB)", title="Memory while records pass")
    return figure


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
