"""How long a backlog takes to drain: computed from the measured duration of a batch; nobody waits for a million here.

The pace at which Lambda takes on pollers is what its documentation says for standard queues: five batches at once to
begin with, 300 more for each minute that messages are left, up to MaximumConcurrency
(https://docs.aws.amazon.com/lambda/latest/dg/services-sqs-scaling.html). Time between two batches is taken as none, so
these are the shortest times.
"""

from __future__ import annotations

from typing import Any

from bench.stats import rounded

FIRST = 5
MORE_PER_SECOND = 300 / 60
MAXIMUM_CONCURRENCIES = (5, 20, 100)
_STEP_SECONDS = 0.1


def drain_seconds(messages: int, batch: int, batch_ms: float, maximum: int) -> float:
    """Return how long `messages` take when each environment needs `batch_ms` for a batch."""
    per_environment = batch / batch_ms * 1000
    left, seconds = float(messages), 0.0
    while True:
        environments = min(maximum, FIRST + MORE_PER_SECOND * seconds)
        done = environments * per_environment * _STEP_SECONDS
        if done >= left:
            return seconds + _STEP_SECONDS * left / done
        left -= done
        seconds += _STEP_SECONDS


def table(backlogs: tuple[int, ...], batch: int, batch_ms: float) -> list[dict[str, Any]]:
    """Return a row for each backlog and MaximumConcurrency."""
    return [
        {
            "messages": messages,
            "maximum_concurrency": maximum,
            "seconds": rounded(drain_seconds(messages, batch, batch_ms, maximum)),
            "requests_per_second_to_thrive": rounded(maximum * batch / batch_ms * 1000, 3),
        }
        for messages in backlogs
        for maximum in MAXIMUM_CONCURRENCIES
    ]
