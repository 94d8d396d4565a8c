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
    from collections.abc import Mapping
    from pathlib import Path

    from bench.contenders import Contender
    from bench.services import Services
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
    field = {contender.name: contender for contender in setting.field.some(*WHO)}
    taken = starts(field, setting.services, setting.folder, setting.plan.cold_starts)
    return {name: {what: summary(values) for what, values in series.items()} for name, series in taken.items()}


def starts(
    field: Mapping[str, Contender], services: Services, folder: Path, rounds: int
) -> dict[str, dict[str, list[float]]]:
    """Start each so many times, in turn; return the milliseconds of each start by name and by what they tell."""
    services.set_latency(0)
    taken: dict[str, dict[str, list[float]]] = {name: defaultdict(list) for name in field}
    # The first round fills the page cache and is not counted.
    for turn in range(rounds + 1):
        for name in rotated(list(field), turn):
            with running(field[name], services, folder, name=f"cold-{field[name].name}-{turn}") as function:
                function.invoke(events.batch(1))
                milliseconds = (time.perf_counter() - function.began) * 1000
                if turn:
                    taken[name]["first_answer_ms"].append(milliseconds)
                    taken[name]["init_ms"].append(function.init_ms())
                    taken[name]["cpu_ms"].append(function.process.cpu_seconds() * 1000)
    return taken
