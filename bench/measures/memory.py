"""Memory of the function's process: its peak, and whether it grows while ten thousand records pass."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bench import contenders, events
from bench.stats import rounded

if TYPE_CHECKING:
    from bench.setting import Setting

WHO = (
    contenders.NOTHING,
    contenders.BOTO3,
    contenders.POOL,
    contenders.OURS,
    contenders.TAUGHT,
    contenders.ASYNC,
    contenders.NODE,
)
BATCH = 100
SAMPLES = 10


def measure(setting: Setting) -> dict[str, Any]:
    """Return the peak of each after a thousand records in batches of 10, and our course over ten thousand."""
    peaks = {}
    with setting.warm(setting.field.some(*WHO), "memory") as functions:
        for name, function in functions.items():
            for _ in range(setting.plan.calls_records // 10):
                function.invoke(events.batch(10))
            peaks[name] = rounded(function.process.memory_mb()[1])
        course = []
        ours = functions[contenders.OURS]
        step = setting.plan.memory_records // SAMPLES
        for number in range(1, SAMPLES + 1):
            for _ in range(max(1, step // BATCH)):
                ours.invoke(events.batch(min(BATCH, step)))
            course.append({"records": number * step, "rss_mb": rounded(ours.process.memory_mb()[0])})
        peak_of_course = rounded(ours.process.memory_mb()[1])
    return {"peak_mb": peaks, "course": course, "course_peak_mb": peak_of_course}
