"""Tables: everything between `<!-- bench:name -->` and `<!-- /bench -->` in a page is written from the results."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from bench import derived
from bench.contenders import ASYNC, ASYNC_COMPILED, LABELS, NODE, OURS, POOL, SEQUENTIAL, SEQUENTIAL_COMPILED

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

_METHODS = {
    "cgroup": "A cgroup limited each function to the share of a processor that its memory size comes with.",
    "model": "No cgroup could be made on this machine: processor time was stretched by the share instead.",
}


def renewed(page: str, results: dict[str, Any]) -> str:
    """Return the page with every marked region replaced.

    :raises KeyError: there is no region of that name.
    """
    return filled(page, "bench", lambda name: _REGIONS[name](results))


def filled(page: str, kind: str, write: Callable[[str], str]) -> str:
    """Return the page with what `write` returns for its name between `<!-- kind:name -->` and `<!-- /kind -->`."""
    region = re.compile(rf"(<!-- {kind}:([a-z-]+) -->\n).*?(<!-- /{kind} -->)", re.DOTALL)
    return region.sub(lambda match: f"{match[1]}{write(match[2])}\n{match[3]}", page)


def _machine(results: dict[str, Any]) -> str:
    machine, times = results["machine"], results["repetitions"]
    absent = "".join(f" Not measured: {LABELS[name]} ({reason})." for name, reason in results["absent"].items())
    runs = "; ".join(
        f"{', '.join(run['measures'])} on {run['date']} in {run['seconds']} s, load {run['load']:.2f} at the start"
        for run in results["runs"]
    )
    return (
        f"On {machine['cores']} cores of {machine['cpu']}, {machine['memory_gb']} GB, {machine['system']}; "
        f"{', '.join(results['runtimes'])}. Measured, run by run: {runs}. "
        f"Medians of {times['cold']} cold starts and {times['warm']} warm batches ({times['sequential']} where "
        f"requests are sequential), with the middle half of the values in parentheses.{absent}"
    )


def _targets(results: dict[str, Any]) -> str:
    rows = [
        (what, limit, f"{measured:.3g}", "met" if is_met else "**missed**")
        for what, limit, measured, is_met in derived.targets(results["measures"])
    ]
    return table(("", "target", "measured", ""), rows)


def _capacity(results: dict[str, Any]) -> str:
    capacity = results["measures"]["capacity"]
    rates = ", ".join(
        f"{rate:,.0f} requests a second with {in_flight} in flight"
        for in_flight, rate in capacity["requests_per_second"].items()
    )
    excess = ", ".join(
        f"{summary['median']:.1f} ms at {latency} ms" for latency, summary in capacity["beyond_the_delay_ms"].items()
    )
    fastest = max(
        row["batch"] * 1000 / summary["median"]
        for row in results["measures"]["warm"]
        for summary in row["duration_ms"].values()
    )
    times = max(capacity["requests_per_second"].values()) / fastest
    return (
        f"A client that does nothing but send and count gets {rates}. The fastest contender sent {fastest:,.0f} a "
        f"second, {times:.3g} times fewer. With 10 in flight, the stand-in and the connection add to the set latency: "
        f"{excess}."
    )


def _cold(results: dict[str, Any]) -> str:
    cold = results["measures"]["cold"]
    head = ("first answer (ms)", "initialisation (ms)", "processor time (ms)", "ours ÷ this")
    return _by_contender(
        head,
        cold,
        lambda row: (
            _spread(row["first_answer_ms"]),
            f"{row['init_ms']['median']:,.0f}",
            f"{row['cpu_ms']['median']:,.0f}",
            f"{cold[OURS]['first_answer_ms']['median'] / row['first_answer_ms']['median']:.2f}",
        ),
    )


def _warm(results: dict[str, Any]) -> str:
    """Return a column for each latency and batch size, so that a new contender is a new row."""
    columns = results["measures"]["warm"]
    excess = results["measures"]["capacity"]["beyond_the_delay_ms"]
    as_it_was = [
        column["least_ms"] * (1 + excess[str(column["latency_ms"])]["median"] / column["latency_ms"])
        for column in columns
    ]
    medians = [{name: row["median"] for name, row in column["duration_ms"].items()} for column in columns]
    names = _in_order(medians[0])
    rows = [("lower limit", *(f"{column['least_ms']:,}" for column in columns))]
    rows.append(("lower limit with the stand-in's own time", *map(_number, as_it_was)))
    rows += [(LABELS[name], *(_spread(column["duration_ms"][name]) for column in columns)) for name in names]
    ratios = [("ours ÷ lower limit", [column["least_ms"] for column in columns])]
    ratios.append(("ours ÷ lower limit with the stand-in's own time", as_it_was))
    if POOL in names:
        ratios.append(("ours ÷ bare thread pool", [by_name[POOL] for by_name in medians]))
    for what, others in ratios:
        pairs = zip(medians, others, strict=True)
        rows.append((what, *(f"{by_name[OURS] / other:.2f}" for by_name, other in pairs)))
    return table(("API, batch", *(f"{column['latency_ms']} ms, {column['batch']}" for column in columns)), rows)


def _cpu(results: dict[str, Any]) -> str:
    cpu = results["measures"]["cpu"]
    return _by_contender(
        ("processor time per record (ms)", "ours ÷ this"),
        cpu,
        lambda row: (_spread(row, 2), f"{cpu[OURS]['median'] / row['median']:.2f}"),
    )


def _memory(results: dict[str, Any]) -> str:
    memory = results["measures"]["memory"]
    text = _by_contender(("peak (MB)",), memory["peak_mb"], lambda peak: (f"{peak:.0f}",))
    first, last = memory["course"][0]["records"], memory["course"][-1]["records"]
    sizes = ", ".join(f"{point['rss_mb']:.1f}" for point in memory["course"])
    return f"{text}\n\nOurs, after every {first:,} records up to {last:,}: {sizes} MB."


def _size(results: dict[str, Any]) -> str:
    size = results["measures"]["size"]
    peer = size.get(SEQUENTIAL, size[OURS])["unzipped"]
    return _by_contender(
        ("zipped (MB)", "unzipped (MB)", f"unzipped ÷ {LABELS[SEQUENTIAL]}"),
        size,
        lambda row: (_mb(row["zipped"]), _mb(row["unzipped"]), f"{row['unzipped'] / peer:.2f}"),
    )


def _calls(results: dict[str, Any]) -> str:
    kinds = ("completions", "tokens", "secrets", "other_aws")
    return _by_contender(
        ("completions", "tokens", "secret", "SQS and other AWS", "log bytes per record"),
        results["measures"]["calls"],
        lambda row: (*(f"{row[kind]:,}" for kind in kinds), f"{row['log_bytes_per_record']:.0f}"),
    )


def _costs(results: dict[str, Any]) -> str:
    measures = results["measures"]
    rows = [
        (
            f"{row['latency_ms']} ms",
            str(row["memory_mb"]),
            LABELS[row["contender"]],
            f"{row['gb_seconds']:,.0f}",
            f"{row['lambda']:.3f}",
            *(f"{row[kind]:.2f}" for kind in ("requests", "sqs", "logs", "total")),
        )
        for row in derived.costs(measures)
    ]
    head = ("API", "MB", "", "GB-seconds", "duration", "requests", "SQS", "logs", "total (USD)")
    cheapest = derived.cheapest_memory_mb(measures)
    sizes = ", ".join(f"{cheapest[latency]} MB at {latency} ms" for latency in sorted(cheapest))
    cold = measures["cold"][OURS]
    answer, processor = cold["first_answer_ms"]["median"], cold["cpu_ms"]["median"]
    starts = ", ".join(
        f"{(answer + processor * (derived.MB_PER_CPU / memory_mb - 1)) / 1000:.1f} s at {memory_mb} MB"
        for memory_mb in dict.fromkeys(row["memory_mb"] for row in measures["durations"]["rows"])
    )
    return (
        f"{table(head, rows)}\n\n{_METHODS[measures['durations']['method']]} Cheapest for ours, with room above the "
        f"peak: {sizes}.\n\nOur cold start, if it gets no more than the share of its memory size (computed; AWS does "
        f"not document what it gets): {starts}."
    )


def _batches(results: dict[str, Any]) -> str:
    rows = [
        (str(row["batch"]), _spread(row["duration_ms"]), f"{row['duration_ms']['median'] / row['batch']:.1f}")
        for row in results["measures"]["growth"]["batches"]
    ]
    return table(("batch", "duration (ms)", "per record (ms)"), rows)


def _in_flight(results: dict[str, Any]) -> str:
    rows = results["measures"]["growth"]["in_flight"]
    sizes = list(dict.fromkeys(row["memory_mb"] for row in rows))
    rates = {(row["in_flight"], row["memory_mb"]): row["per_second"] for row in rows}
    lines = [
        (str(in_flight), *(f"{rates[in_flight, size]:,.0f}" for size in sizes))
        for in_flight in dict.fromkeys(row["in_flight"] for row in rows)
    ]
    return table(("in flight", *(f"{size} MB" for size in sizes)), lines)


def _backlog(results: dict[str, Any]) -> str:
    durations, memory_mb = results["measures"]["durations"], derived.default_memory_mb(results["measures"])
    row = next(row for row in durations["rows"] if row["memory_mb"] == memory_mb)
    batch, batch_ms = durations["batch"], row["billed_ms"][OURS]
    rate, maxima = batch * 1000 / batch_ms, derived.MAXIMUM_CONCURRENCIES
    lines = [
        (f"{messages:,}", *(_duration(derived.drain_seconds(messages, rate, maximum)) for maximum in maxima))
        for messages in derived.BACKLOGS
    ]
    lines.append(("requests a second to Thrive", *(f"{float(f'{rate * maximum:.3g}'):,.0f}" for maximum in maxima)))
    text = table(("messages", *(f"MaximumConcurrency {maximum}" for maximum in maxima)), lines)
    return (
        f"{text}\n\nComputed for batches of {batch} at {memory_mb} MB with the API at {row['latency_ms']} ms, which "
        f"took {batch_ms:.0f} ms each."
    )


def _summary(results: dict[str, Any]) -> str:
    """Return the README's table: ours beside the peers, with the rows in which a peer is ahead."""
    measures, compiled = results["measures"], {SEQUENTIAL: SEQUENTIAL_COMPILED, ASYNC: ASYNC_COMPILED}
    names = [name for name in (OURS, SEQUENTIAL, ASYNC, NODE) if name in measures["cold"]]
    cold = {name: f"{row['first_answer_ms']['median']:,.0f}" for name, row in measures["cold"].items()}
    rows = [("cold start (ms)", *map(cold.get, names))]
    if SEQUENTIAL_COMPILED in cold:
        # Ours ships byte code already, and JavaScript has none to add.
        cells = (cold.get(compiled.get(name, name), "not measured") for name in names)
        rows.append(("cold start, byte code added to the Python peers (ms)", *cells))
    latency = 50 if any(row["latency_ms"] == 50 for row in measures["warm"]) else measures["warm"][0]["latency_ms"]
    warm = {row["batch"]: row["duration_ms"] for row in measures["warm"] if row["latency_ms"] == latency}
    for batch, durations in warm.items():
        cells = (f"{durations[name]['median']:,.0f}" for name in names)
        rows.append((f"a batch of {batch}, API at {latency} ms (ms)", *cells))
    memory_mb = derived.default_memory_mb(measures)
    costs = {
        row["contender"]: f"{row['lambda'] + row['requests']:.2f}"
        for row in reversed(derived.costs(measures))
        if row["memory_mb"] == memory_mb
    }
    rows += [
        ("processor time per record (ms)", *(f"{measures['cpu'][name]['median']:.2f}" for name in names)),
        ("peak memory (MB)", *(f"{measures['memory']['peak_mb'][name]:.0f}" for name in names)),
        ("artefact, unzipped (MB)", *(_mb(measures["size"][name]["unzipped"]) for name in names)),
        (f"Lambda for a million completions at {memory_mb} MB (USD)", *map(costs.get, names)),
    ]
    text = table(("", *(LABELS[name] for name in names)), rows)
    largest = max(warm)
    unbounded = [name for name in names if name in {ASYNC, NODE}]
    ahead = [name for name in unbounded if warm[largest][name]["median"] < warm[largest][OURS]["median"]]
    if not ahead:
        return text
    return (
        f"{text}\n\n{' and '.join(LABELS[name] for name in ahead)} finish a batch of {largest} sooner because each of "
        f"their environments sends up to {largest} requests at once. That has a price: Thrive answers 429 to too many "
        "requests. Ours sends ten at once (`RequestsInFlight`)."
    )


_REGIONS: dict[str, Callable[[dict[str, Any]], str]] = {
    region.__name__.strip("_").replace("_", "-"): region
    for region in (
        *(_machine, _targets, _capacity, _cold, _warm, _cpu, _memory, _size, _calls),
        *(_costs, _batches, _in_flight, _backlog, _summary),
    )
}


def _by_contender(head: Sequence[str], values: dict[str, Any], cells: Callable[[Any], Sequence[str]]) -> str:
    return table(("", *head), [(LABELS[name], *cells(values[name])) for name in _in_order(values)])


def table(head: Sequence[str], rows: Iterable[Sequence[str | None]], align: str = "l") -> str:
    """Return a table in Markdown; `align` has `l` or `r` for each column, by default `r` for the later ones."""
    rule = [" --- " if side == "l" else " ---: " for side in align.ljust(len(head), "r")]
    lines = [f"| {' | '.join(head)} |", f"|{'|'.join(rule)}|"]
    return "\n".join([*lines, *(f"| {' | '.join(cell or '' for cell in row)} |" for row in rows)])


def _in_order(names: Iterable[str]) -> list[str]:
    return [name for name in LABELS if name in set(names)]


def _number(value: float) -> str:
    return f"{value:,.{0 if value >= 100 else 1}f}"


def _spread(summary: dict[str, float], digits: int | None = None) -> str:
    digits = (0 if summary["median"] >= 100 else 1) if digits is None else digits
    median, q1, q3 = (f"{summary[key]:,.{digits}f}" for key in ("median", "q1", "q3"))
    return f"{median} ({q1} to {q3})"


def _mb(size: float) -> str:
    return f"{size / 1e6:.1f}"


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
