"""Cold start: from the start of the process to the first answer, one message, an API that answers at once."""

from __future__ import annotations

import time
from collections import defaultdict
from typing import TYPE_CHECKING, Any

from bench import contenders, events
from bench.function import running
from bench.setting import rotated
from bench.stats import summary

if TYPE_CHECKING:
    from bench.setting import Setting

WHO = (
    contenders.NOTHING,
    contenders.BOTO3,
    contenders.OURS,
    contenders.TAUGHT,
    contenders.TAUGHT_COMPILED,
    contenders.ASYNC,
    contenders.NODE,
)


def measure(setting: Setting) -> dict[str, Any]:
    """Return milliseconds to the first answer, of the initialisation alone, and processor milliseconds, for each."""
    setting.services.set_latency(0)
    field = {contender.name: contender for contender in setting.field.some(*WHO)}
    answered, initialised, processor = defaultdict(list), defaultdict(list), defaultdict(list)
    # The first round fills the page cache and is not counted.
    for turn in range(setting.plan.cold_starts + 1):
        for name in rotated(list(field), turn):
            with running(field[name], setting.services, setting.folder, name=f"cold-{name}-{turn}") as function:
                function.invoke(events.batch(1))
                milliseconds = (time.perf_counter() - function.began) * 1000
                if turn:
                    answered[name].append(milliseconds)
                    initialised[name].append(function.init_ms())
                    processor[name].append(function.process.cpu_seconds() * 1000)
    return {
        name: {
            "first_answer_ms": summary(answered[name]),
            "init_ms": summary(initialised[name]),
            "cpu_ms": summary(processor[name]),
        }
        for name in field
    }
