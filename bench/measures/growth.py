"""How the cost grows with the batch, and with the requests in flight at each memory size: ours, the API at 50 ms."""

from __future__ import annotations

import statistics
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from bench import contenders, events
from bench.cpu_share import CpuShare, share_of
from bench.function import running
from bench.measures.durations import limited_ms
from bench.stats import rounded, summary

if TYPE_CHECKING:
    from bench.setting import Setting

LATENCY_MS = 50


def measure(setting: Setting) -> dict[str, Any]:
    """Return milliseconds by batch size with 10 in flight, and records per second by requests in flight and memory."""
    return {
        "latency_ms": LATENCY_MS,
        "batches": _by_batch(setting),
        "in_flight_batch": setting.plan.growth_batch,
        "in_flight": _by_concurrency(setting),
    }


def _by_batch(setting: Setting) -> list[dict[str, Any]]:
    rows = []
    with setting.warm(setting.field.some(contenders.OURS), "growth") as functions:
        function = functions[contenders.OURS]
        setting.services.set_latency(LATENCY_MS)
        for size in setting.plan.growth_batches:
            function.invoke(events.batch(min(size, 10)))
            durations = [function.invoke(events.batch(size)).duration for _ in range(setting.plan.growth_repetitions)]
            rows.append({"batch": size, "duration_ms": summary(durations)})
    return rows


def _by_concurrency(setting: Setting) -> list[dict[str, Any]]:
    group = CpuShare.create()
    ours, batch = setting.field.contenders[contenders.OURS], setting.plan.growth_batch
    rows: list[dict[str, Any]] = []
    try:
        for in_flight in setting.plan.growth_concurrencies:
            with ExitStack() as stack:
                name = f"growth-{in_flight}"
                function = stack.enter_context(
                    running(ours, setting.services, setting.folder, name=name, concurrency=in_flight)
                )
                setting.services.set_latency(0)
                function.invoke(events.batch(batch))
                setting.services.set_latency(LATENCY_MS)
                for memory in (*setting.plan.memory_sizes, 1769):
                    repetitions = setting.plan.growth_repetitions if in_flight > 2 else 1
                    durations = [limited_ms(function, batch, group, share_of(memory)) for _ in range(repetitions)]
                    per_second = batch * 1000 / statistics.median(durations)
                    rows.append({"in_flight": in_flight, "memory_mb": memory, "per_second": rounded(per_second)})
    finally:
        if group is not None:
            group.remove()
    return rows
