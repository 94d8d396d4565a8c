"""Sends messages to a queue in batches, at a given rate, and returns which ones SQS has accepted."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from botocore.exceptions import BotoCoreError, ClientError

from completion_sync.queues import MAX_BATCH_BYTES

from .aws_errors import code_of, is_temporary

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from mypy_boto3_sqs import SQSClient
    from mypy_boto3_sqs.type_defs import SendMessageBatchRequestEntryTypeDef

    from completion_sync.clock import Clock

    from .interrupts import Stop

_FIRST_WAIT_SECONDS, _LONGEST_WAIT_SECONDS = 1.0, 60.0


class Pace:
    """A rate limit: in any period, ``per_second`` messages a second and one more batch at most."""

    def __init__(self, per_second: float, clock: Clock) -> None:
        self.per_second = per_second
        self._clock = clock
        self._next = clock.now().monotonic

    @property
    def batch_size(self) -> int:
        """How many messages to send in one call: those of one second, at most ten."""
        return max(1, min(10, int(self.per_second)))

    def wait(self, messages: int) -> None:
        """Wait until this many messages may be sent."""
        now = self._clock.now().monotonic
        if self._next > now:
            self._clock.sleep(self._next - now)
        self._next = max(self._next, now) + messages / self.per_second


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A message to send. ``key`` identifies it to the caller."""

    key: str
    body: str
    group: str | None = None
    deduplication: str | None = None

    def entry(self, index: int) -> SendMessageBatchRequestEntryTypeDef:
        """Return the entry of a batch call."""
        entry: SendMessageBatchRequestEntryTypeDef = {"Id": str(index), "MessageBody": self.body}
        if self.group is not None:
            entry["MessageGroupId"] = self.group
        if self.deduplication is not None:
            entry["MessageDeduplicationId"] = self.deduplication
        return entry


@dataclass(frozen=True, slots=True)
class Receipt:
    """The result of sending one message: its new id, or SQS's error code and whether a retry may succeed."""

    key: str
    message_id: str | None = None
    error: str | None = None
    is_temporary: bool = False


class SqsUnavailableError(Exception):
    """SQS has not accepted a message for minutes."""

    def __init__(self, code: str | None) -> None:
        super().__init__(f"SQS has not accepted messages for minutes ({code}).")


class Sender:
    """Sends to one queue."""

    def __init__(self, sqs: SQSClient, url: str, pace: Pace, clock: Clock, stop: Stop, *, attempts: int = 3) -> None:
        """:param attempts: how often to try to send a message while the error is temporary."""
        self._sqs = sqs
        self._url = url
        self._pace = pace
        self._clock = clock
        self._stop = stop
        self._attempts = attempts

    def batches(self, messages: Iterable[Outgoing]) -> Iterator[list[Outgoing]]:
        """Split into batches that fit into one call, keeping the order.

        On a FIFO queue a batch has at most one message of each group: if SQS refuses it, no later one has been sent.
        """
        batch: list[Outgoing] = []
        size = 0
        for message in messages:
            weight = len(message.body.encode("utf-8", "replace"))
            is_full = len(batch) == self._pace.batch_size or size + weight > MAX_BATCH_BYTES
            if batch and (is_full or self._has_group(batch, message)):
                yield batch
                batch, size = [], 0
            batch.append(message)
            size += weight
        if batch:
            yield batch

    def send(self, batch: Sequence[Outgoing]) -> list[Receipt]:
        """Send one batch when the rate allows it, and return a receipt for each message, in order.

        There are none if the operator stopped the command before anything was sent.

        :raises BotoCoreError, ClientError: the call failed, and a retry would not help.
        """
        self._pace.wait(len(batch))
        receipts: dict[str, Receipt] = {}
        waiting = list(batch)
        wait = _FIRST_WAIT_SECONDS
        for attempt in range(self._attempts):
            if attempt:
                self._clock.sleep(wait)
                wait = min(2 * wait, _LONGEST_WAIT_SECONDS)
            if self._stop.requested:
                break
            receipts |= {receipt.key: receipt for receipt in self._attempt(waiting)}
            waiting = [message for message in waiting if receipts[message.key].is_temporary]
            if not waiting:
                break
        return [receipts[message.key] for message in batch if message.key in receipts]

    def _attempt(self, batch: list[Outgoing]) -> Iterator[Receipt]:
        entries = [message.entry(index) for index, message in enumerate(batch)]
        try:
            answer = self._sqs.send_message_batch(QueueUrl=self._url, Entries=entries)
        except (BotoCoreError, ClientError) as error:
            if not is_temporary(error):
                raise
            code = code_of(error) or type(error).__name__
            yield from (Receipt(message.key, error=code, is_temporary=True) for message in batch)
            return
        sent = {item["Id"]: item for item in answer.get("Successful", [])}
        failed = {item["Id"]: item for item in answer.get("Failed", [])}
        for index, message in enumerate(batch):
            if str(index) in sent:
                yield Receipt(message.key, sent[str(index)]["MessageId"])
            elif str(index) in failed:
                item = failed[str(index)]
                yield Receipt(message.key, error=item["Code"], is_temporary=not item["SenderFault"])
            else:
                yield Receipt(message.key, error="no answer", is_temporary=True)

    def _has_group(self, batch: Sequence[Outgoing], message: Outgoing) -> bool:
        return self._url.endswith(".fifo") and any(other.group == message.group for other in batch)
