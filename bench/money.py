"""What a million completions cost, from measured durations, calls and log bytes, at list prices."""

from __future__ import annotations

from typing import Any

from bench.stats import rounded

MILLION = 1_000_000
# US dollars, us-east-1, x86_64, beyond the free tier, as the pricing pages of AWS gave them in 2025:
# https://aws.amazon.com/lambda/pricing/ https://aws.amazon.com/sqs/pricing/
# https://aws.amazon.com/secrets-manager/pricing/ https://aws.amazon.com/cloudwatch/pricing/
GB_SECOND = 0.0000166667
LAMBDA_REQUEST = 0.20 / MILLION
SQS_REQUEST = 0.40 / MILLION
SECRET_CALL = 0.05 / 10_000
LOG_BYTE = 0.50 / 1_000_000_000
# What our cache and that of Powertools are set to.
SECRET_MAX_AGE_SECONDS = 300
# A function needs room above the peak that was seen: larger bodies, another Python, Lambda's own extensions.
ROOM = 1.5


def of_a_million(durations: dict[str, Any], calls: dict[str, Any]) -> list[dict[str, Any]]:
    """Return a row for each latency, memory size and contender."""
    rows = []
    size = durations["batch"]
    batches = MILLION / size
    for measured in durations["rows"]:
        for name, milliseconds in measured["billed_ms"].items():
            seconds = batches * milliseconds / 1000
            gb_seconds = seconds * measured["memory_mb"] / 1024
            # Each message is sent alone, received and deleted with its batch.
            sqs = (MILLION + 2 * batches) * SQS_REQUEST
            compute, requests = gb_seconds * GB_SECOND, batches * LAMBDA_REQUEST
            secrets = seconds / SECRET_MAX_AGE_SECONDS * SECRET_CALL
            logs = calls[name]["log_bytes_per_record"] * MILLION * LOG_BYTE
            rows.append(
                {
                    "latency_ms": measured["latency_ms"],
                    "memory_mb": measured["memory_mb"],
                    "contender": name,
                    "gb_seconds": rounded(gb_seconds),
                    "compute_usd": rounded(compute),
                    "requests_usd": rounded(requests),
                    "sqs_usd": rounded(sqs),
                    "secrets_usd": rounded(secrets),
                    "logs_usd": rounded(logs),
                    "total_usd": rounded(compute + requests + sqs + secrets + logs),
                }
            )
    return rows


def cheapest_sensible(rows: list[dict[str, Any]], contender: str, peak_mb: float) -> dict[str, int]:
    """Return the memory size with the lowest bill for each latency, among those with room for the peak."""
    best: dict[str, dict[str, Any]] = {}
    for row in rows:
        if row["contender"] == contender and row["memory_mb"] >= peak_mb * ROOM:
            key = str(row["latency_ms"])
            if key not in best or row["compute_usd"] < best[key]["compute_usd"]:
                best[key] = row
    return {latency: row["memory_mb"] for latency, row in best.items()}
