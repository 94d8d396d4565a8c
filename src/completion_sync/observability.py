"""Logs and metrics: what operators and auditors see, without secrets or personal data."""

from __future__ import annotations

import json
import logging
import threading
import traceback
from collections import Counter
from typing import TYPE_CHECKING, Any

from aws_lambda_powertools.logging import Logger
from aws_lambda_powertools.metrics.provider.cloudwatch_emf.cloudwatch import AmazonCloudWatchEMFProvider

from .completion import Completion
from .outcomes import Created, Deferred, Existing, Ignored, Rejected
from .redaction import without_address

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .events import Message
    from .sync import Result

# Every metric that this package emits, with its CloudWatch unit. The only dimension is ``service``: one per learner,
# content or queue would multiply the bill.
METRICS: dict[str, str] = {
    "CompletionsCreated": "Count",
    "CompletionsExisting": "Count",
    "CompletionsRejected": "Count",
    "CompletionsDeferred": "Count",
    "CompletionsIgnored": "Count",
    "TokenRequests": "Count",
    "SecretReads": "Count",
    "UserLookups": "Count",
    "AuthFailures": "Count",
    "Throttles": "Count",
    "OutageProbes": "Count",
    "DeferredWithoutCall": "Count",
    "UnknownUsers": "Count",
    "UnknownContent": "Count",
    "ConfigErrors": "Count",
    "ApiLatency": "Milliseconds",
}
# Emitted by every invocation, zeros too, so that an alarm can tell "nothing went wrong" from "nothing ran". The others
# are emitted only when there is something to count, as CloudWatch charges for each metric that is in use.
ALWAYS_EMITTED = frozenset(
    {
        "CompletionsCreated",
        "CompletionsExisting",
        "CompletionsRejected",
        "CompletionsDeferred",
        "TokenRequests",
        "SecretReads",
        "AuthFailures",
        "Throttles",
        "ConfigErrors",
    }
)
# From this age on, a message that waits for an unknown person is counted.
LONG_WAIT_SECONDS = 12 * 3600
_METRIC_OF_OUTCOME = {
    Created: "CompletionsCreated",
    Existing: "CompletionsExisting",
    Ignored: "CompletionsIgnored",
    Rejected: "CompletionsRejected",
    Deferred: "CompletionsDeferred",
}
# At DEBUG these would log URLs, headers and bodies, the secret among them.
_LIBRARIES = ("boto3", "botocore", "urllib3")


class Telemetry:
    """The logger and the metrics of one execution environment. May be called from any thread."""

    def __init__(self, service: str, namespace: str, level: str = "INFO") -> None:
        for library in _LIBRARIES:
            logging.getLogger(library).setLevel(logging.CRITICAL)
        # ASCII only: a U+2028 inside a value would end the line for some readers.
        self._logger = Logger(service=service, level=level, json_serializer=_ascii_json, location=None)
        self._metrics = AmazonCloudWatchEMFProvider(service=service, namespace=namespace)
        self._lock = threading.Lock()
        self._counts: Counter[str] = Counter()
        self._latencies: list[float] = []

    def begin(self, request_id: str) -> None:
        """Start an invocation: every line from now on has its request id."""
        self._logger.append_keys(function_request_id=request_id)

    def count(self, metric: str) -> None:
        """Add one to a count of :data:`METRICS`."""
        with self._lock:
            self._counts[metric] += 1

    def observe_latency(self, milliseconds: float) -> None:
        """Add one value to ``ApiLatency``."""
        with self._lock:
            self._latencies.append(milliseconds)

    def message(self, message: Message, result: Result, age: float = 0.0) -> None:
        """Log the outcome of one message: allow-listed, bounded fields, and a reason in our own words.

        :param age: seconds since the message was sent.
        """
        outcome = result.outcome
        self.count(_METRIC_OF_OUTCOME[type(outcome)])
        if outcome.reason == "unknown_content":
            self.count("UnknownContent")
        if outcome.reason == "unknown_user" and age >= LONG_WAIT_SECONDS:
            self.count("UnknownUsers")
        completion = message.content if isinstance(message.content, Completion) else result.completion
        fields: dict[str, Any] = {
            "message_id": message.id[:128],
            "outcome": outcome.name,
            "reason": outcome.reason,
            "status": outcome.status,
            "statement_id": outcome.statement_id,
            "user_id": completion and without_address(completion.user_id),
            "content_id": completion and without_address(completion.content_id),
            "attempts": result.attempts,
            "receive_count": message.receive_count,
            "duration_ms": round(result.duration_ms, 1),
        }
        text: str = outcome.name
        # The detail of a refusal may hold Thrive's own words, which go to the dead letter and not to the log.
        if isinstance(outcome, (Rejected, Deferred)) and outcome.reason != "refused":
            text = f"{outcome.name}: {outcome.detail}"
        log = self._logger.warning if isinstance(outcome, (Rejected, Deferred)) else self._logger.info
        log(text, extra={name: value for name, value in fields.items() if value is not None})
        if isinstance(outcome, (Created, Existing)) and outcome.statement_id is None and outcome.status < 300:
            self._logger.warning("the answer to a recorded completion has no usable statementId")

    def notice(self, text: str) -> None:
        """Log something that concerns no single message, in our own words."""
        self._logger.warning(text)

    def unexpected(self, error: Exception) -> None:
        """Log a defect of this package: the type of error and its place, never its text, which may quote anything."""
        frames = traceback.extract_tb(error.__traceback__)
        place = " < ".join(f"{frame.name}:{frame.lineno}" for frame in reversed(frames[-5:]))
        self._logger.error("unexpected %s at %s", type(error).__name__, place)

    def end(self, results: Sequence[Result], reported: int) -> None:
        """Log the counts of one invocation, ``reported`` of whose messages come again; emit its metrics."""
        with self._lock:
            counts, self._counts = self._counts, Counter()
            latencies, self._latencies = self._latencies, []
        outcomes = Counter(result.outcome.name for result in results)
        self._logger.info(
            "invocation",
            extra={
                "counts": {
                    "messages": len(results),
                    **{name: outcomes[name] for name in _OUTCOME_NAMES},
                    "reported": reported,
                }
            },
        )
        # Powertools flushes by itself at 100 values of a metric. The counts come last, so that they are in one blob.
        for value in latencies:
            self._metrics.add_metric(name="ApiLatency", unit=METRICS["ApiLatency"], value=round(value, 1))
        for name, unit in METRICS.items():
            if name in ALWAYS_EMITTED or counts[name]:
                self._metrics.add_metric(name=name, unit=unit, value=counts[name])
        self._metrics.flush_metrics()


_OUTCOME_NAMES = (Created.name, Existing.name, Ignored.name, Rejected.name, Deferred.name)


def _ascii_json(record: dict[str, Any]) -> str:
    return json.dumps(record, separators=(",", ":"), default=str)
