"""What follows from the measurements: costs, backlogs, and which targets are met. Nothing here is measured."""

from __future__ import annotations

import math
from typing import Any

from bench.contenders import ASYNC, BOTO3, LABELS, OURS, POOL, SEQUENTIAL

MILLION = 1_000_000
# US dollars, us-east-1, x86_64, beyond the free tier, as on AWS's pricing pages in 2025:
# https://aws.amazon.com/lambda/pricing/ https://aws.amazon.com/sqs/pricing/
# https://aws.amazon.com/secrets-manager/pricing/ https://aws.amazon.com/cloudwatch/pricing/
GB_SECOND = 0.0000166667
LAMBDA_REQUEST = 0.20 / MILLION
SQS_REQUEST = 0.40 / MILLION
SECRET_CALL = 0.05 / 10_000
LOG_BYTE = 0.50 / 1_000_000_000
# Both our cache and Powertools' keep the secret this long.
SECRET_MAX_AGE_SECONDS = 300
# Memory to leave free above the measured peak, for larger messages, other versions and Lambda's extensions.
HEADROOM = 1.5
DEFAULT_MEMORY_MB = 256
# Lambda, "Configure Lambda function memory": at 1,769 MB a function has the equivalent of one vCPU.
MB_PER_CPU = 1769

BACKLOGS = (1_000, 10_000, 100_000, 1_000_000)
MAXIMUM_CONCURRENCIES = (5, 20, 100)
# Lambda, "Configuring scaling behavior for SQS event source mappings": five batches at once to begin with, and up to
# 300 more each minute.
FIRST_POLLERS, MORE_PER_SECOND = 5, 5


def rounded(value: float) -> float:
    """Round to four significant digits: more would pretend to a precision that no such measurement has."""
    return float(f"{value:.4g}")


def costs(measures: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the cost of a million completions in US dollars, for each latency, memory size and contender."""
    rows = []
    batches = MILLION / measures["durations"]["batch"]
    for measured in measures["durations"]["rows"]:
        for name, milliseconds in measured["billed_ms"].items():
            seconds = batches * milliseconds / 1000
            gb_seconds = seconds * measured["memory_mb"] / 1024
            parts = {
                "lambda": gb_seconds * GB_SECOND,
                "requests": batches * LAMBDA_REQUEST,
                # One message to a send; each batch is received and deleted with one request.
                "sqs": (MILLION + 2 * batches) * SQS_REQUEST,
                "secrets": seconds / SECRET_MAX_AGE_SECONDS * SECRET_CALL,
                "logs": measures["calls"][name]["log_bytes_per_record"] * MILLION * LOG_BYTE,
            }
            where = {"latency_ms": measured["latency_ms"], "memory_mb": measured["memory_mb"], "contender": name}
            parts |= {"gb_seconds": gb_seconds, "total": sum(parts.values())}
            rows.append({**where, **{part: rounded(value) for part, value in parts.items()}})
    return rows


def cheapest_memory_mb(measures: dict[str, Any]) -> dict[int, int]:
    """Return the memory size at which our function costs least, by latency, among those with headroom."""
    least = measures["memory"]["peak_mb"][OURS] * HEADROOM
    ours = [row for row in costs(measures) if row["contender"] == OURS and row["memory_mb"] >= least]
    by_cost = sorted(ours, key=lambda row: float(row["lambda"]), reverse=True)
    return {row["latency_ms"]: row["memory_mb"] for row in by_cost}


def default_memory_mb(measures: dict[str, Any]) -> int:
    """Return the template's memory size, or the first measured one if it was not measured."""
    sizes: list[int] = [row["memory_mb"] for row in measures["durations"]["rows"]]
    return DEFAULT_MEMORY_MB if DEFAULT_MEMORY_MB in sizes else sizes[0]


def drain_seconds(messages: int, per_second: float, maximum: int) -> float:
    """Return how long a backlog takes if one environment handles `per_second` and at most `maximum` are running.

    This is a lower bound, as it assumes that no time passes between two batches.
    """
    ramp = max(0.0, (maximum - FIRST_POLLERS) / MORE_PER_SECOND)
    in_ramp = per_second * (FIRST_POLLERS * ramp + MORE_PER_SECOND * ramp**2 / 2)
    if messages > in_ramp:
        return ramp + (messages - in_ramp) / (per_second * maximum)
    # Solve messages = per_second * (FIRST_POLLERS * t + MORE_PER_SECOND * t**2 / 2) for t.
    start = FIRST_POLLERS / MORE_PER_SECOND
    return math.sqrt(start**2 + 2 * messages / (per_second * MORE_PER_SECOND)) - start


def targets(measures: dict[str, Any]) -> list[tuple[str, str, float, bool]]:
    """Return what each target is about, its limit, the measured value, and whether it is met.

    The limits were set before anything was measured. Targets that involve a contender that was not measured are left
    out.
    """
    size, course = measures["size"], measures["memory"]["course"]
    # The first records fill caches, so growth counts from a fifth of the way.
    grown = course[-1]["rss_mb"] - course[len(course) // 5 - 1]["rss_mb"]
    cold = {name: row["first_answer_ms"]["median"] for name, row in measures["cold"].items()}
    cpu = {name: row["median"] for name, row in measures["cpu"].items()}
    rows = _ratios("cold start", cold, {BOTO3: 1.15, SEQUENTIAL: 0.45})
    for row in measures["warm"]:
        ours, batch = row["duration_ms"][OURS]["median"], f"batch of {row['batch']}, API at {row['latency_ms']} ms"
        # Below 50 ms the test machine's own share is too large.
        if row["latency_ms"] >= 50:
            rows.append(_at_most(f"{batch}: duration ÷ lower limit", 1.10, ours / row["least_ms"]))
        if SEQUENTIAL in row["duration_ms"]:
            times = row["duration_ms"][SEQUENTIAL]["median"] / ours
            rows.append((f"{batch}: times faster than sequential", "≥ 8", times, times >= 8))
    rows += _ratios("processor time per record", cpu, {POOL: 1.5, SEQUENTIAL: 1.0, ASYNC: 1.0})
    rows.append(_at_most(f"memory growth over {course[-1]['records']:,} records (MB)", 1.0, grown))
    for kind in ("zipped", "unzipped"):
        rows += _ratios(f"artefact, {kind}", {name: row[kind] for name, row in size.items()}, {SEQUENTIAL: 1 / 3})
    return rows


def _ratios(what: str, values: dict[str, float], limits: dict[str, float]) -> list[tuple[str, str, float, bool]]:
    return [
        _at_most(f"{what} ÷ {LABELS[other]}", limit, values[OURS] / values[other])
        for other, limit in limits.items()
        if other in values
    ]


def _at_most(what: str, limit: float, measured: float) -> tuple[str, str, float, bool]:
    return what, f"≤ {limit:.2f}", measured, measured <= limit
