"""What was to be reached, beside what was measured: met or not, no more and no less."""

from __future__ import annotations

from typing import Any

from bench import contenders
from bench.stats import rounded

# Set before anything was measured, in the issue that asked for these measurements.
COLD_TO_BOTO3, COLD_TO_TAUGHT = 1.15, 0.45
WARM_TO_LEAST, WARM_TO_TAUGHT = 1.10, 8.0
CPU_TO_POOL, CPU_TO_PEER = 1.5, 1.0
GROWTH_MB = 1.0
SIZE_TO_TAUGHT = 1 / 3
# Below this latency what the machine adds by itself is too large a part for the first of the two warm targets.
WARM_FROM_MS = 50


def check(measures: dict[str, Any]) -> list[dict[str, Any]]:
    """Return a row for each target whose measurements are there."""
    return [*_cold(measures["cold"]), *_warm(measures["warm"]), *_cpu(measures["cpu"]), *_rest(measures)]


def _cold(cold: dict[str, Any]) -> list[dict[str, Any]]:
    rows = []
    for other, limit in ((contenders.BOTO3, COLD_TO_BOTO3), (contenders.TAUGHT, COLD_TO_TAUGHT)):
        if other in cold:
            ratio = cold[contenders.OURS]["first_answer_ms"]["median"] / cold[other]["first_answer_ms"]["median"]
            rows.append(_at_most(f"cold start ÷ {contenders.LABELS[other]}", limit, ratio))
    return rows


def _warm(warm: list[dict[str, Any]]) -> list[dict[str, Any]]:
    rows = []
    for row in warm:
        ours = row["duration_ms"][contenders.OURS]["median"]
        what = f"batch of {row['batch']}, API at {row['latency_ms']} ms"
        if row["latency_ms"] >= WARM_FROM_MS:
            rows.append(_at_most(f"{what}: duration ÷ the least possible", WARM_TO_LEAST, ours / row["least_ms"]))
        if contenders.TAUGHT in row["duration_ms"]:
            faster = row["duration_ms"][contenders.TAUGHT]["median"] / ours
            rows.append(_at_least(f"{what}: times faster than sequential", WARM_TO_TAUGHT, faster))
    return rows


def _cpu(cpu: dict[str, Any]) -> list[dict[str, Any]]:
    limits = {contenders.POOL: CPU_TO_POOL, contenders.TAUGHT: CPU_TO_PEER, contenders.ASYNC: CPU_TO_PEER}
    return [
        _at_most(
            f"processor time per record ÷ {contenders.LABELS[other]}",
            limit,
            cpu[contenders.OURS]["median"] / cpu[other]["median"],
        )
        for other, limit in limits.items()
        if other in cpu
    ]


def _rest(measures: dict[str, Any]) -> list[dict[str, Any]]:
    rows = []
    course = measures["memory"]["course"]
    # From a fifth of the way on: the first records fill caches.
    growth = course[-1]["rss_mb"] - course[len(course) // 5 - 1]["rss_mb"]
    rows.append(_at_most(f"memory grown over {course[-1]['records']:,} records (MB)", GROWTH_MB, growth))
    size = measures["size"]
    if contenders.TAUGHT in size:
        for kind in ("zipped", "unzipped"):
            ratio = size[contenders.OURS][kind] / size[contenders.TAUGHT][kind]
            rows.append(_at_most(f"artefact, {kind} ÷ {contenders.LABELS[contenders.TAUGHT]}", SIZE_TO_TAUGHT, ratio))
    return rows


def _at_most(what: str, limit: float, measured: float) -> dict[str, Any]:
    return {"what": what, "target": f"≤ {limit:.2f}", "measured": rounded(measured, 3), "met": measured <= limit}


def _at_least(what: str, limit: float, measured: float) -> dict[str, Any]:
    return {"what": what, "target": f"≥ {limit:g}", "measured": rounded(measured, 3), "met": measured >= limit}
