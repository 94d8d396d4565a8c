"""What is measured. Contenders take turns, so that a machine that slows down slows all of them.

Each function returns what goes into `bench/results.json` under its name; contenders appear in the order of
:data:`bench.contenders.CONTENDERS`.
"""

from __future__ import annotations

import asyncio
import json
import math
import statistics
import tempfile
import time
from collections import defaultdict
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from shutil import make_archive
from typing import TYPE_CHECKING, Any

from bench.contenders import OURS, SEQUENTIAL
from bench.cpu_limit import CpuLimit
from bench.derived import MB_PER_CPU, rounded
from bench.function import Function
from bench.services import BASIC
from sandbox.pipeline.processes import LOOPBACK

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from bench.builds import Built
    from bench.services import Services

# The defaults of `RequestsInFlight` and `BatchSize`.
IN_FLIGHT, BATCH = 10, 10
CPU_LATENCY_MS, GROWTH_LATENCY_MS = 5, 50


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How often and with which sizes to measure; the defaults make a full run. Latencies are Thrive's, in ms."""

    cold_starts: int = 12
    warm_repetitions: int = 7
    sequential_repetitions: int = 2
    latencies: Sequence[int] = (5, 50, 200)
    batches: Sequence[int] = (10, 100)
    cpu_rounds: int = 4
    cpu_batches: int = 40
    records: int = 1_000
    course_records: int = 10_000
    memory_sizes: Sequence[int] = (128, 256, 512, 1024)
    billed_latencies: Sequence[int] = (50, 200)
    billed_repetitions: int = 8
    growth_batches: Sequence[int] = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)
    growth_in_flight: Sequence[int] = (1, 2, 4, 8, 10, 16, 32, 64)
    growth_batch: int = 100
    growth_repetitions: int = 2
    capacity_seconds: float = 2.0


QUICK = Plan(
    cold_starts=1,
    warm_repetitions=1,
    latencies=(5,),
    batches=(10,),
    cpu_rounds=1,
    cpu_batches=2,
    records=20,
    course_records=200,
    memory_sizes=(1024,),
    billed_latencies=(5,),
    billed_repetitions=1,
    growth_batches=(1, 10),
    growth_in_flight=(1, 10),
    growth_batch=20,
    capacity_seconds=1.0,
)


@dataclass(frozen=True, slots=True)
class Bench:
    """What every measurement works with."""

    plan: Plan
    built: Sequence[Built]
    services: Services
    folder: Path

    def of(self, measure: str) -> dict[str, Built]:
        """Return those that take part in a measurement, by name."""
        return {built.contender.name: built for built in self.built if measure in built.contender.measures}

    @contextmanager
    def warm(self, measure: str) -> Iterator[dict[str, Function]]:
        """Run those that take part in a measurement for the duration of the block, connected and warmed up."""
        self.services.set_latency(0)
        with ExitStack() as stack:
            functions = {
                name: stack.enter_context(Function(built, self.services, self.folder))
                for name, built in self.of(measure).items()
            }
            for function in functions.values():
                function.invoke(1)
                function.invoke(20)
            yield functions


def summary(values: Sequence[float]) -> dict[str, float]:
    """Return the median, the bounds of the middle half, and the number of values."""
    q1, _, q3 = statistics.quantiles(values, n=4, method="inclusive") if len(values) > 1 else [*values] * 3
    return {"median": rounded(statistics.median(values)), "q1": rounded(q1), "q3": rounded(q3), "n": len(values)}


def capacity(bench: Bench) -> dict[str, Any]:
    """Measure the stand-in itself: requests a second without a delay, and what its answers take beyond a delay."""
    port, seconds = bench.services.thrive_port, bench.plan.capacity_seconds
    bench.services.set_latency(0)
    per_second = {
        str(in_flight): rounded(len(asyncio.run(_load(port, in_flight, seconds))) / seconds) for in_flight in (10, 64)
    }
    excess = {}
    for latency in bench.plan.latencies:
        bench.services.set_latency(latency)
        taken = asyncio.run(_load(port, IN_FLIGHT, max(seconds, 3 * latency / 1000)))
        excess[str(latency)] = summary([milliseconds - latency for milliseconds in taken])
    return {"requests_per_second": per_second, "beyond_the_delay_ms": excess}


async def _load(port: int, in_flight: int, seconds: float) -> list[float]:
    """Keep `in_flight` requests under way, with as little work for each as possible; return their milliseconds."""
    taken: list[float] = []
    end = time.perf_counter() + seconds

    async def client(number: int) -> None:
        reader, writer = await asyncio.open_connection(LOOPBACK, port)
        while (began := time.perf_counter()) < end:
            completion = {"userId": f"{number}-{began}", "contentId": "c", "completedAt": "2021-01-01T09:00:00Z"}
            body = json.dumps(completion)
            head = f"POST /rest/v1/learning/completions HTTP/1.1\r\nHost: {LOOPBACK}\r\nAuthorization: {BASIC}"
            more = f"Content-Type: application/json\r\nContent-Length: {len(body)}"
            writer.write(f"{head}\r\n{more}\r\n\r\n{body}".encode())
            answer = await reader.readuntil(b"\r\n\r\n")
            if not answer.startswith(b"HTTP/1.1 201"):
                raise RuntimeError(f"the stand-in answered {answer[:40]!r}")
            await reader.readexactly(int(answer.lower().partition(b"content-length:")[2].split(b"\r\n")[0]))
            taken.append((time.perf_counter() - began) * 1000)
        writer.close()
        await writer.wait_closed()

    await asyncio.gather(*map(client, range(in_flight)))
    return taken


def cold(bench: Bench) -> dict[str, Any]:
    """Measure from the start of the process to the first answer, for one message and a Thrive that answers at once."""
    bench.services.set_latency(0)
    field = bench.of("cold")
    taken: dict[str, dict[str, list[float]]] = {name: defaultdict(list) for name in field}
    # The first round fills the page cache and does not count.
    for turn, name in _turns(field, bench.plan.cold_starts + 1):
        with Function(field[name], bench.services, bench.folder) as function:
            function.invoke(1)
            milliseconds = (time.perf_counter() - function.started) * 1000
            if turn:
                taken[name]["first_answer_ms"].append(milliseconds)
                taken[name]["init_ms"].append(function.init_ms)
                taken[name]["cpu_ms"].append(function.cpu_ms)
    return {name: {what: summary(values) for what, values in series.items()} for name, series in taken.items()}


def warm(bench: Bench) -> list[dict[str, Any]]:
    """Measure durations of warm batches, beside the least that they can take with ten requests in flight."""
    rows, plan = [], bench.plan
    with bench.warm("warm") as functions:
        for latency in plan.latencies:
            bench.services.set_latency(latency)
            for size in plan.batches:
                take = partial(Function.invoke, size=size)
                taken = _in_turn(functions, plan.warm_repetitions, take, plan.sequential_repetitions)
                rows.append(
                    {
                        "latency_ms": latency,
                        "batch": size,
                        "least_ms": math.ceil(size / IN_FLIGHT) * latency,
                        "duration_ms": {name: summary(values) for name, values in taken.items()},
                    }
                )
    return rows


def cpu(bench: Bench) -> dict[str, Any]:
    """Measure processor milliseconds per record, as the kernel counts them for the runtime's process."""

    def per_record(function: Function) -> float:
        before = function.cpu_ms
        for _ in range(bench.plan.cpu_batches):
            function.invoke(BATCH)
        return (function.cpu_ms - before) / (bench.plan.cpu_batches * BATCH)

    with bench.warm("cpu") as functions:
        bench.services.set_latency(CPU_LATENCY_MS)
        taken = _in_turn(functions, bench.plan.cpu_rounds, per_record)
    return {name: summary(values) for name, values in taken.items()}


def size(bench: Bench) -> dict[str, Any]:
    """Measure the bytes of what is deployed, as files and as the archive that is uploaded."""
    sizes = {}
    with tempfile.TemporaryDirectory() as scratch:
        for name, built in bench.of("size").items():
            archive = make_archive(f"{scratch}/{name}", "zip", built.code)
            unzipped = sum(path.stat().st_size for path in built.code.rglob("*") if path.is_file())
            sizes[name] = {"zipped": Path(archive).stat().st_size, "unzipped": unzipped}
    return sizes


def calls(bench: Bench) -> dict[str, Any]:
    """Count calls and log bytes for some batches of new completions, from a cold start on."""
    bench.services.set_latency(0)
    counted = {}
    for name, built in bench.of("calls").items():
        thrive, aws = bench.services.thrive_calls(), bench.services.aws_calls()
        with Function(built, bench.services, bench.folder) as function:
            for _ in range(bench.plan.records // BATCH):
                function.invoke(BATCH)
            log_bytes = function.log_bytes
        thrive, aws = bench.services.thrive_calls() - thrive, bench.services.aws_calls() - aws
        secrets = aws.pop("secretsmanager.GetSecretValue", 0)
        counted[name] = {
            "records": bench.plan.records,
            "completions": thrive["completion"],
            "tokens": thrive["token"],
            "secrets": secrets,
            "other_aws": aws.total(),
            "log_bytes_per_record": rounded(log_bytes / bench.plan.records),
        }
    return counted


def durations(bench: Bench) -> dict[str, Any]:
    """Measure the mean billed milliseconds of a batch of ten, by Thrive's latency and memory size."""
    rows, plan = [], bench.plan
    with CpuLimit() as limit, bench.warm("durations") as functions:
        for latency in plan.billed_latencies:
            bench.services.set_latency(latency)
            for memory_mb in plan.memory_sizes:
                take = partial(limit.duration_ms, size=BATCH, memory_mb=memory_mb)
                taken = _in_turn(functions, plan.billed_repetitions, take, plan.sequential_repetitions)
                # Lambda bills whole milliseconds.
                billed = {name: rounded(statistics.fmean(map(math.ceil, taken[name]))) for name in taken}
                rows.append({"latency_ms": latency, "memory_mb": memory_mb, "billed_ms": billed})
    return {"method": limit.method, "batch": BATCH, "rows": rows}


def growth(bench: Bench) -> dict[str, Any]:
    """Measure our duration by batch size, and records a second by requests in flight and memory size."""
    plan, services = bench.plan, bench.services
    batches, in_flight = [], []
    with bench.warm("growth") as functions:
        services.set_latency(GROWTH_LATENCY_MS)
        for batch in plan.growth_batches:
            functions[OURS].invoke(min(batch, BATCH))
            taken = [functions[OURS].invoke(batch) for _ in range(plan.growth_repetitions)]
            batches.append({"batch": batch, "duration_ms": summary(taken)})
    with CpuLimit() as limit:
        for concurrency in plan.growth_in_flight:
            with Function(bench.of("growth")[OURS], services, bench.folder, concurrency=concurrency) as function:
                services.set_latency(0)
                function.invoke(plan.growth_batch)
                services.set_latency(GROWTH_LATENCY_MS)
                for memory_mb in (*plan.memory_sizes, MB_PER_CPU):
                    repetitions = plan.growth_repetitions if concurrency > 2 else 1
                    taken = [limit.duration_ms(function, plan.growth_batch, memory_mb) for _ in range(repetitions)]
                    rate = rounded(plan.growth_batch * 1000 / statistics.median(taken))
                    in_flight.append({"in_flight": concurrency, "memory_mb": memory_mb, "per_second": rate})
    return {"latency_ms": GROWTH_LATENCY_MS, "batches": batches, "in_flight": in_flight}


def memory(bench: Bench) -> dict[str, Any]:
    """Measure peak memory after some batches of ten, and then how ours develops over many batches of a hundred."""
    step = bench.plan.course_records // 10
    course = []
    with bench.warm("memory") as functions:
        for _ in range(bench.plan.records // BATCH):
            for function in functions.values():
                function.invoke(BATCH)
        peaks = {name: rounded(function.memory_mb("VmHWM")) for name, function in functions.items()}
        for number in range(1, 11):
            for _ in range(max(1, step // 100)):
                functions[OURS].invoke(min(100, step))
            course.append({"records": number * step, "rss_mb": rounded(functions[OURS].memory_mb("VmRSS"))})
    return {"peak_mb": peaks, "course": course}


def _turns(names: Iterable[str], rounds: int) -> Iterator[tuple[int, str]]:
    """Yield the number of the round and each name in turn, starting with another name in each round."""
    order = list(names)
    for turn in range(rounds):
        for place in range(len(order)):
            yield turn, order[(turn + place) % len(order)]


def _in_turn(
    functions: dict[str, Function], rounds: int, take: Callable[[Function], float], sequential: int | None = None
) -> dict[str, list[float]]:
    """Return the values that `take` returned for each function in so many rounds.

    A round before them does not count: it opens connections and threads, and Node.js compiles what runs often. The
    peer that sends one request after another, ten times as slow, takes part in only `sequential` rounds if given.
    """
    taken: dict[str, list[float]] = {name: [] for name in functions}
    for turn, name in _turns(functions, rounds + 1):
        if name == SEQUENTIAL and sequential is not None and not 0 < turn <= sequential:
            continue
        value = take(functions[name])
        if turn:
            taken[name].append(value)
    return taken


MEASURES: dict[str, Callable[[Bench], Any]] = {
    measure.__name__: measure for measure in (capacity, cold, warm, cpu, size, calls, durations, growth, memory)
}
