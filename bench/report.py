"""Tables: what stands between `<!-- bench:name -->` and `<!-- /bench -->` is written here, from the results alone."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from bench import contenders
from bench.contenders import LABELS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

_REGION = re.compile(r"(<!-- bench:(?P<name>[a-z-]+) -->\n).*?(<!-- /bench -->)", re.DOTALL)


def renewed(page: str, results: dict[str, Any]) -> str:
    """Return the page with every marked region written anew.

    :raises KeyError: a region has a name that is not known here.
    """
    return _REGION.sub(lambda match: f"{match[1]}{_REGIONS[match['name']](results)}\n{match[3]}", page)


def _machine(results: dict[str, Any]) -> str:
    machine, repetitions = results["machine"], results["repetitions"]
    cores = f"{machine['cores']} cores of {machine['cpu']}, {machine['memory_gb']} GB"
    absent = "".join(f" Not measured: {LABELS[name]} ({reason})." for name, reason in results["absent"].items())
    return (
        f"Taken on {machine['date']} in {results['seconds']} s on {cores}, {machine['system']}, load "
        f"{machine['load']:.2f} at the start; {', '.join(results['runtimes'])}. Medians of {repetitions['cold']} cold "
        f"starts and {repetitions['warm']} warm batches ({repetitions['sequential']} where it is sequential); the "
        f"middle half of the values in parentheses.{absent}"
    )


def _targets(results: dict[str, Any]) -> str:
    rows = [
        (row["what"], row["target"], f"{row['measured']:g}", "met" if row["met"] else "**missed**")
        for row in results["derived"]["targets"]
    ]
    return _table(("what", "target", "measured", ""), rows)


def _capacity(results: dict[str, Any]) -> str:
    capacity, margin = results["measures"]["capacity"], results["derived"]["capacity_margin"]
    rates = ", ".join(
        f"{rate:,.0f} requests a second with {in_flight} in flight"
        for in_flight, rate in capacity["requests_per_second"].items()
    )
    excess = ", ".join(
        f"{summary['median']:.1f} ms at {latency} ms" for latency, summary in capacity["beyond_the_delay_ms"].items()
    )
    return (
        f"A client that only writes and counts gets {rates}. The fastest contender asked for "
        f"{margin['fastest_per_second']:,.0f} a second: {margin['times']:g} times less. To each answer the stand-in "
        f"and the way there add, as that client sees it with 10 in flight: {excess}."
    )


def _cold(results: dict[str, Any]) -> str:
    cold = results["measures"]["cold"]
    ours = cold[contenders.OURS]["first_answer_ms"]["median"]
    rows = [
        (
            LABELS[name],
            _spread(row["first_answer_ms"]),
            f"{row['init_ms']['median']:.0f}",
            f"{row['cpu_ms']['median']:.0f}",
            f"{ours / row['first_answer_ms']['median']:.2f}",
        )
        for name, row in cold.items()
    ]
    return _table(("", "first answer (ms)", "of it initialisation", "processor time (ms)", "ours ÷ it"), rows)


def _warm(results: dict[str, Any]) -> str:
    rows = []
    names = list(results["measures"]["warm"][0]["duration_ms"])
    excess = results["measures"]["capacity"]["beyond_the_delay_ms"]
    for row in results["measures"]["warm"]:
        ours = row["duration_ms"][contenders.OURS]["median"]
        cells = [_spread(row["duration_ms"][name]) for name in names]
        pool = row["duration_ms"].get(contenders.POOL)
        api = row["latency_ms"] + excess[str(row["latency_ms"])]["median"]
        ratios = (
            f"{ours / row['least_ms']:.2f}",
            f"{ours / (row['least_ms'] / row['latency_ms'] * api):.2f}",
            f"{ours / pool['median']:.2f}" if pool else "",
        )
        rows.append((f"{row['latency_ms']} ms", str(row["batch"]), str(row["least_ms"]), *ratios, *cells))
    head = ("API", "batch", "least (ms)", "ours ÷ least", "ours ÷ least as it was", "ours ÷ pool")
    return _table((*head, *(LABELS[name] for name in names)), rows)


def _cpu(results: dict[str, Any]) -> str:
    cpu = results["measures"]["cpu"]
    ours = cpu[contenders.OURS]["median"]
    rows = [
        (LABELS[name], f"{row['median']:.2f} ({row['q1']:.2f} to {row['q3']:.2f})", f"{ours / row['median']:.2f}")
        for name, row in cpu.items()
    ]
    return _table(("", "processor time per record (ms)", "ours ÷ it"), rows)


def _memory(results: dict[str, Any]) -> str:
    memory = results["measures"]["memory"]
    rows = [(LABELS[name], f"{peak:.0f}") for name, peak in memory["peak_mb"].items()]
    course = ", ".join(f"{point['rss_mb']:.1f}" for point in memory["course"])
    last = memory["course"][-1]["records"]
    step = last // len(memory["course"])
    return f"{_table(('', 'peak (MB)'), rows)}\n\nOurs, every {step:,} of {last:,} records: {course} MB."


def _size(results: dict[str, Any]) -> str:
    size = results["measures"]["size"]
    taught = size.get(contenders.TAUGHT, size[contenders.OURS])
    rows = [
        (LABELS[name], _mb(row["zipped"]), _mb(row["unzipped"]), f"{row['unzipped'] / taught['unzipped']:.2f}")
        for name, row in size.items()
    ]
    return _table(("", "zipped (MB)", "unzipped (MB)", "unzipped ÷ the taught stack"), rows)


def _calls(results: dict[str, Any]) -> str:
    rows = [
        (
            LABELS[name],
            *(f"{row[kind]:,}" for kind in ("completions", "tokens", "secrets", "other_aws")),
            f"{row['log_bytes_per_record']:.0f}",
        )
        for name, row in results["measures"]["calls"].items()
    ]
    return _table(("", "completions", "tokens", "secrets", "SQS and other AWS", "log bytes per record"), rows)


def _money(results: dict[str, Any]) -> str:
    rows = [
        (
            f"{row['latency_ms']} ms",
            str(row["memory_mb"]),
            LABELS[row["contender"]],
            f"{row['gb_seconds']:,.0f}",
            f"{row['compute_usd']:.3f}",
            *(f"{row[kind]:.2f}" for kind in ("requests_usd", "sqs_usd", "logs_usd", "total_usd")),
        )
        for row in results["derived"]["money"]
    ]
    head = ("API", "MB", "", "GB-seconds", "compute", "requests", "SQS", "logs", "total (USD)")
    how = {
        "cgroup": "The runtime was held to its share of a processor by a cgroup.",
        "model": "No cgroup could be made here: durations are modelled, as processor time stretched by the share.",
    }
    cheapest = ", ".join(
        f"{memory} MB at {latency} ms" for latency, memory in results["derived"]["cheapest_memory_mb"].items()
    )
    method = how[results["measures"]["durations"]["method"]]
    cold = ", ".join(
        f"{milliseconds / 1000:.1f} s at {memory} MB"
        for memory, milliseconds in results["derived"]["cold_at_share_ms"].items()
    )
    return (
        f"{_table(head, rows)}\n\n{method} Cheapest with room for the peak: {cheapest}.\n\nOur cold start, if it got "
        f"no more than the share of its memory size (computed; AWS does not say what it gets): {cold}."
    )


def _batches(results: dict[str, Any]) -> str:
    rows = [
        (
            str(row["batch"]),
            _spread(row["duration_ms"]),
            f"{row['duration_ms']['median'] / row['batch']:.1f}",
        )
        for row in results["measures"]["growth"]["batches"]
    ]
    return _table(("batch", "duration (ms)", "per record (ms)"), rows)


def _in_flight(results: dict[str, Any]) -> str:
    rows = results["measures"]["growth"]["in_flight"]
    sizes = list(dict.fromkeys(row["memory_mb"] for row in rows))
    rates = {(row["in_flight"], row["memory_mb"]): row["per_second"] for row in rows}
    lines = [
        (str(in_flight), *(f"{rates[in_flight, size]:,.0f}" for size in sizes))
        for in_flight in dict.fromkeys(row["in_flight"] for row in rows)
    ]
    return _table(("in flight", *(f"{size} MB" for size in sizes)), lines)


def _backlog(results: dict[str, Any]) -> str:
    backlog = results["derived"]["backlog"]
    maxima = list(dict.fromkeys(row["maximum_concurrency"] for row in backlog["rows"]))
    seconds = {(row["messages"], row["maximum_concurrency"]): row["seconds"] for row in backlog["rows"]}
    rate = {row["maximum_concurrency"]: row["requests_per_second_to_thrive"] for row in backlog["rows"]}
    lines = [
        (f"{messages:,}", *(_duration(seconds[messages, maximum]) for maximum in maxima))
        for messages in dict.fromkeys(row["messages"] for row in backlog["rows"])
    ]
    lines.append(("requests a second to Thrive", *(f"{rate[maximum]:,.0f}" for maximum in maxima)))
    basis = (
        f"Computed for batches of {backlog['batch']} at {backlog['memory_mb']} MB with the API at "
        f"{backlog['latency_ms']} ms, which took {backlog['batch_ms']:.0f} ms each."
    )
    return f"{_table(('messages', *(f'MaximumConcurrency {maximum}' for maximum in maxima)), lines)}\n\n{basis}"


def _summary(results: dict[str, Any]) -> str:
    """Return the README's short table: ours beside the peers."""
    measures, money = results["measures"], results["derived"]["money"]
    names = [name for name in (contenders.OURS, contenders.TAUGHT, contenders.ASYNC) if name in measures["cold"]]
    names += [name for name in (contenders.NODE,) if name in measures["cold"]]
    warm = max(measures["warm"], key=lambda row: (row["batch"] == 10, row["latency_ms"] == 50))
    row_of = {(row["contender"], row["memory_mb"]): row for row in money if row["latency_ms"] == money[0]["latency_ms"]}
    memory_mb = results["derived"]["backlog"]["memory_mb"]
    lines: list[tuple[str, Callable[[str], str]]] = [
        ("cold start (ms)", lambda name: f"{measures['cold'][name]['first_answer_ms']['median']:.0f}"),
        (
            f"a batch of {warm['batch']}, API at {warm['latency_ms']} ms (ms)",
            lambda name: f"{warm['duration_ms'][name]['median']:.0f}",
        ),
        ("processor time per record (ms)", lambda name: f"{measures['cpu'][name]['median']:.2f}"),
        ("peak memory (MB)", lambda name: f"{measures['memory']['peak_mb'][name]:.0f}"),
        ("artefact, unzipped (MB)", lambda name: _mb(measures["size"][name]["unzipped"])),
        (
            f"Lambda for a million completions at {memory_mb} MB (USD)",
            lambda name: f"{row_of[name, memory_mb]['compute_usd'] + row_of[name, memory_mb]['requests_usd']:.2f}",
        ),
    ]
    return _table(("", *(LABELS[name] for name in names)), [(what, *map(cell, names)) for what, cell in lines])


_REGIONS: dict[str, Callable[[dict[str, Any]], str]] = {
    "machine": _machine,
    "targets": _targets,
    "capacity": _capacity,
    "cold": _cold,
    "warm": _warm,
    "cpu": _cpu,
    "memory": _memory,
    "size": _size,
    "calls": _calls,
    "money": _money,
    "batches": _batches,
    "in-flight": _in_flight,
    "backlog": _backlog,
    "summary": _summary,
}


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    # The first column holds words, the others numbers.
    rule = [" --- ", *(" ---: " for _ in head[1:])]
    lines = [f"| {' | '.join(head)} |", f"|{'|'.join(rule)}|"]
    return "\n".join([*lines, *(f"| {' | '.join(row)} |" for row in rows)])


def _spread(summary: dict[str, float]) -> str:
    digits = 0 if summary["median"] >= 100 else 1
    return f"{summary['median']:,.{digits}f} ({summary['q1']:,.{digits}f} to {summary['q3']:,.{digits}f})"


def _mb(size: float) -> str:
    return f"{size / 1e6:.1f}"


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
