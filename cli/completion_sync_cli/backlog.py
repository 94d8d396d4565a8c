"""Keeps a queue from filling faster than it drains: sending pauses while the queue is too deep or too old."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

from botocore.exceptions import BotoCoreError, ClientError

from .formats import duration, number
from .queue_pass import depth

if TYPE_CHECKING:
    from collections.abc import Callable

    from .context import Operator
    from .stack import Queue

# The defaults of --max-depth and --max-age.
MAX_DEPTH, MAX_AGE_SECONDS = 10_000, 3600
# How often the queue is checked, while sending and while paused.
_LOOK_SECONDS = 10.0
# CloudWatch has one value per minute.
_AGE_SECONDS = 60.0
_METRIC = {
    "Namespace": "AWS/SQS",
    "MetricName": "ApproximateAgeOfOldestMessage",
    "Period": 60,
    "Statistics": ["Maximum"],
}


class Backlog:
    """The state of the source queue."""

    def __init__(self, operator: Operator, queue: Queue, max_depth: int, max_age: float) -> None:
        """:param max_age: in seconds; 0 ignores the age."""
        self._operator = operator
        self._queue = queue
        self._max_depth = max_depth
        self._max_age = max_age
        self._room = 0
        self._looked: float | None = None
        self._aged: float | None = None
        self._age = 0.0

    def wait(self, messages: int, show: Callable[[str], None]) -> None:
        """Wait until this many more messages may be sent.

        :param show: called with the reason for waiting, and with an empty string when the wait is over.
        """
        clock, stop = self._operator.clock, self._operator.stop
        began = clock.now().monotonic
        is_paused = False
        while not stop.requested and (reason := self._reason(messages)):
            if not is_paused:
                self._operator.output.warn(f"Paused: {reason}.")
            is_paused = True
            show(f"paused: {reason}")
            clock.sleep(_LOOK_SECONDS)
            self._looked = None
        if is_paused:
            show("")
            self._operator.output.say(f"Resumed after {duration(clock.now().monotonic - began)}.")
        self._room -= messages

    def _reason(self, messages: int) -> str | None:
        now = self._operator.clock.now().monotonic
        if self._looked is None or now - self._looked >= _LOOK_SECONDS or self._room < messages:
            found = depth(self._operator.aws.sqs, self._queue.url)
            self._looked, self._room = now, self._max_depth - found
            if self._room < 0:
                return f"the queue holds {number(found)} messages (--max-depth {number(self._max_depth)})"
            self._room = max(self._room, messages)
        if self._max_age and (self._aged is None or now - self._aged >= _AGE_SECONDS):
            self._aged, self._age = now, self._oldest()
        if self._max_age and self._age > self._max_age:
            return f"the oldest message has waited for {duration(self._age)} (--max-age {self._max_age:g})"
        return None

    def _oldest(self) -> float:
        """Return CloudWatch's newest value for the age of the oldest message, in seconds; 0.0 if there is none."""
        now = self._operator.now
        query: dict[str, Any] = {**_METRIC, "StartTime": now - timedelta(minutes=10), "EndTime": now}
        try:
            found = self._operator.aws.client("cloudwatch").get_metric_statistics(
                Dimensions=[{"Name": "QueueName", "Value": self._queue.name}], **query
            )["Datapoints"]
        except (BotoCoreError, ClientError) as error:
            self._operator.output.warn(f"The age of the oldest message is unknown: {type(error).__name__}.")
            self._max_age = 0
            return 0.0
        return max(found, key=lambda point: point["Timestamp"])["Maximum"] if found else 0.0
