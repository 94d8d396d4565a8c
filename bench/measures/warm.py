"""Warm batches at several latencies of the API, beside the least that they can take."""

from __future__ import annotations

import math
from collections import defaultdict
from typing import TYPE_CHECKING, Any

from bench import contenders, events
from bench.setting import rotated
from bench.stats import summary

if TYPE_CHECKING:
    from bench.function import Function
    from bench.setting import Setting

WHO = (contenders.OURS, contenders.POOL, contenders.TAUGHT, contenders.ASYNC, contenders.NODE)
# These take as long as all their calls together: repeated less often.
SEQUENTIAL = frozenset({contenders.TAUGHT})
IN_FLIGHT = 10


def measure(setting: Setting) -> list[dict[str, Any]]:
    """Return a row for each latency and batch size: the duration that the runtime reports, in milliseconds."""
    rows = []
    with setting.warm(setting.field.some(*WHO), "warm") as functions:
        for latency in setting.plan.latencies:
            setting.services.set_latency(latency)
            for size in setting.plan.batches:
                duration, wall = _series(setting, functions, size)
                rows.append(
                    {
                        "latency_ms": latency,
                        "batch": size,
                        "least_ms": math.ceil(size / IN_FLIGHT) * latency,
                        "duration_ms": duration,
                        "wall_ms": wall,
                    }
                )
    return rows


def _series(setting: Setting, functions: dict[str, Function], size: int) -> tuple[dict[str, Any], dict[str, Any]]:
    duration, wall = defaultdict(list), defaultdict(list)
    for name, function in functions.items():
        if name not in SEQUENTIAL:
            # The connections and threads that a batch of this size needs are there before it is timed.
            function.invoke(events.batch(size))
    for turn in range(setting.plan.warm_repetitions):
        for name in rotated(list(functions), turn):
            if name in SEQUENTIAL and turn >= setting.plan.slow_repetitions:
                continue
            invocation = functions[name].invoke(events.batch(size))
            duration[name].append(invocation.duration)
            wall[name].append(invocation.wall)
    return (
        {name: summary(duration[name]) for name in functions},
        {name: summary(wall[name]) for name in functions},
    )
