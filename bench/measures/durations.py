"""What a batch of 10 is billed at each memory size: the runtime gets the share of a processor that goes with it."""

from __future__ import annotations

import math
import statistics
from collections import defaultdict
from typing import TYPE_CHECKING, Any

from bench import contenders, events
from bench.cpu_share import CpuShare, share_of
from bench.measures.warm import SEQUENTIAL
from bench.setting import rotated
from bench.stats import rounded

if TYPE_CHECKING:
    from bench.function import Function
    from bench.setting import Setting

WHO = (contenders.OURS, contenders.TAUGHT, contenders.ASYNC, contenders.NODE)
BATCH = 10


def measure(setting: Setting) -> dict[str, Any]:
    """Return the mean billed milliseconds of a batch, for each latency, memory size and contender: money adds up."""
    group = CpuShare.create()
    rows = []
    try:
        with setting.warm(setting.field.some(*WHO), "durations") as functions:
            for latency in setting.plan.money_latencies:
                setting.services.set_latency(latency)
                for memory in setting.plan.memory_sizes:
                    billed = _series(setting, functions, group, share_of(memory))
                    rows.append({"latency_ms": latency, "memory_mb": memory, "billed_ms": billed})
    finally:
        if group is not None:
            group.remove()
    return {"method": "model" if group is None else "cgroup", "batch": BATCH, "rows": rows}


def _series(setting: Setting, functions: dict[str, Function], group: CpuShare | None, share: float) -> dict[str, float]:
    billed = defaultdict(list)
    for turn in range(setting.plan.money_repetitions + 1):
        for name in rotated(list(functions), turn):
            if name in SEQUENTIAL and turn > setting.plan.slow_repetitions:
                continue
            milliseconds = limited_ms(functions[name], BATCH, group, share)
            # The first one opens connections that were closed in the meantime.
            if turn:
                billed[name].append(math.ceil(milliseconds))
    return {name: rounded(statistics.fmean(billed[name])) for name in functions}


def limited_ms(function: Function, size: int, group: CpuShare | None, share: float) -> float:
    """Return the duration of one batch with a share of a processor.

    Without a group it is modelled: what the batch took unhindered, and its processor time stretched by the share, which
    is too much where it would have overlapped with waiting.
    """
    if group is None:
        before = function.process.cpu_seconds()
        duration = function.invoke(events.batch(size)).duration
        return duration + (function.process.cpu_seconds() - before) * 1000 * max(0.0, 1 / share - 1)
    group.set(share)
    group.add(function.process.pid)
    try:
        return function.invoke(events.batch(size)).duration
    finally:
        group.release(function.process.pid)
