"""How often what is measured: the whole run, and a tiny one that only shows that the harness works."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Repetitions and sizes; latencies in milliseconds."""

    name: str
    capacity_seconds: float
    cold_starts: int
    latencies: tuple[int, ...]
    batches: tuple[int, ...]
    warm_repetitions: int
    slow_repetitions: int
    cpu_rounds: int
    cpu_batches: int
    memory_records: int
    calls_records: int
    memory_sizes: tuple[int, ...]
    money_latencies: tuple[int, ...]
    money_repetitions: int
    growth_batch: int
    growth_batches: tuple[int, ...]
    growth_concurrencies: tuple[int, ...]
    growth_repetitions: int
    backlogs: tuple[int, ...] = field(default=(1_000, 10_000, 100_000, 1_000_000))


FULL = Plan(
    name="full",
    capacity_seconds=2.0,
    cold_starts=12,
    latencies=(5, 50, 200),
    batches=(10, 100),
    warm_repetitions=7,
    slow_repetitions=2,
    cpu_rounds=4,
    cpu_batches=40,
    memory_records=10_000,
    calls_records=1_000,
    memory_sizes=(128, 256, 512, 1024),
    money_latencies=(50, 200),
    money_repetitions=8,
    growth_batch=100,
    growth_batches=(1, 2, 5, 10, 20, 50, 100, 200, 500, 1000),
    growth_concurrencies=(1, 2, 4, 8, 10, 16, 32, 64),
    growth_repetitions=2,
)
QUICK = Plan(
    name="quick",
    capacity_seconds=1.0,
    cold_starts=1,
    latencies=(5,),
    batches=(10,),
    warm_repetitions=1,
    slow_repetitions=1,
    cpu_rounds=1,
    cpu_batches=2,
    memory_records=200,
    calls_records=20,
    memory_sizes=(1024,),
    money_latencies=(5,),
    money_repetitions=1,
    growth_batch=20,
    growth_batches=(1, 10),
    growth_concurrencies=(1, 10),
    growth_repetitions=1,
)
