"""Processor time per record, as the kernel counts it for the function's process: batches of 10, the API at 5 ms."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Any

from bench import contenders, events
from bench.setting import rotated
from bench.stats import summary

if TYPE_CHECKING:
    from bench.setting import Setting

WHO = (contenders.LOOP, contenders.POOL, contenders.OURS, contenders.TAUGHT, contenders.ASYNC, contenders.NODE)
BATCH = 10
LATENCY_MS = 5


def measure(setting: Setting) -> dict[str, Any]:
    """Return milliseconds of processor time per record, for each; one value for each round."""
    per_record = defaultdict(list)
    with setting.warm(setting.field.some(*WHO), "cpu") as functions:
        setting.services.set_latency(LATENCY_MS)
        # One round to warm up: Node.js compiles what runs often.
        for turn in range(setting.plan.cpu_rounds + 1):
            for name in rotated(list(functions), turn):
                process = functions[name].process
                before = process.cpu_seconds()
                for _ in range(setting.plan.cpu_batches):
                    functions[name].invoke(events.batch(BATCH))
                spent = process.cpu_seconds() - before
                if turn:
                    per_record[name].append(spent * 1000 / (setting.plan.cpu_batches * BATCH))
        return {name: summary(per_record[name]) for name in functions}
