"""What happens to messages that were not recorded: postponed, dead-lettered, or sent to the retry queue."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, TypeVar

from botocore.exceptions import BotoCoreError, ClientError

from .timestamps import format_timestamp

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from mypy_boto3_sqs import SQSClient
    from mypy_boto3_sqs.type_defs import (
        MessageAttributeValueTypeDef,
        SendMessageBatchRequestEntryTypeDef,
    )

    from .clock import Clock
    from .events import Message
    from .outcomes import Rejected

T = TypeVar("T")

# SQS: ten entries in a batch call; DelaySeconds at most 900.
MAX_ENTRIES = 10
MAX_DELAY_SECONDS = 900
MAX_DETAIL_LENGTH = 256
# Below the smallest limit that SQS ever had for a batch call, attributes included.
MAX_BATCH_BYTES = 200_000


@dataclass(frozen=True, slots=True)
class Postponed:
    """A message, and for how many seconds it stays invisible."""

    message: Message
    seconds: int


class Queues:
    """Calls to SQS. None of them raises: what could not be done is reported, and SQS delivers it again."""

    def __init__(
        self,
        client: Callable[[], SQSClient],
        dead_letter_queue_url: str | None,
        retry_queue_url: str | None,
        clock: Clock,
        warn: Callable[[str], None],
    ) -> None:
        """:param warn: called with a line for the log about what SQS refused."""
        self._client = client
        self._dead_letter_queue_url = dead_letter_queue_url
        self._retry_queue_url = retry_queue_url
        self._clock = clock
        self._warn = warn

    def postpone(self, postponed: Sequence[Postponed]) -> list[Callable[[], set[str]]]:
        """Return the calls, for ten messages each, that keep messages invisible for their backoff.

        Best effort: if one fails, the queue's own visibility timeout applies. They return no ids: nothing is settled.
        """
        by_queue: defaultdict[str, list[Postponed]] = defaultdict(list)
        for item in postponed:
            if item.message.queue_arn and item.message.receipt_handle:
                by_queue[item.message.queue_arn].append(item)
        return [
            _bind(self._change_visibility, queue_arn, chunk)
            for queue_arn, items in by_queue.items()
            for chunk in _chunks(items, lambda _: 0)
        ]

    def _change_visibility(self, queue_arn: str, chunk: Sequence[Postponed]) -> set[str]:
        try:
            client = self._client()
            answer = client.change_message_visibility_batch(
                QueueUrl=queue_url(queue_arn, client.meta.endpoint_url),
                Entries=[
                    {
                        "Id": str(index),
                        "ReceiptHandle": item.message.receipt_handle or "",
                        "VisibilityTimeout": item.seconds,
                    }
                    for index, item in enumerate(chunk)
                ],
            )
        except (BotoCoreError, ClientError, ValueError) as error:
            self._warn(f"the backoff of {len(chunk)} messages was not set: {describe(error)}")
            return set()
        if failed := answer.get("Failed"):
            self._warn(f"the backoff of {len(failed)} messages was not set: {_codes(failed)}")
        return set()

    def dead_letter(self, rejected: Sequence[tuple[Message, Rejected]]) -> list[Callable[[], set[str]]]:
        """Return the calls, for up to ten messages each, that send messages to the dead-letter queue with the reason.

        Each returns the ids of the messages that are there. Without a dead-letter queue there are no calls.
        """
        url = self._dead_letter_queue_url
        if url is None:
            return []
        return [
            _bind(self._send, url, chunk)
            for chunk in _chunks(
                # SQS takes no empty body, and might refuse the others because of it. It never came from a queue.
                [
                    (message, message.body, _attributes(message, outcome, self._clock))
                    for message, outcome in rejected
                    if message.body
                ],
                lambda entry: len(entry[1].encode("utf-8", "replace")) + 2 * MAX_DETAIL_LENGTH,
            )
        ]

    def _send(self, url: str, chunk: Sequence[tuple[Message, str, Mapping[str, str]]]) -> set[str]:
        entries: list[SendMessageBatchRequestEntryTypeDef] = []
        for index, (message, body, attributes) in enumerate(chunk):
            typed: dict[str, MessageAttributeValueTypeDef] = {
                name: {"DataType": "String", "StringValue": value} for name, value in attributes.items()
            }
            entry: SendMessageBatchRequestEntryTypeDef = {
                "Id": str(index),
                "MessageBody": body,
                "MessageAttributes": typed,
            }
            if url.endswith(".fifo"):
                entry["MessageGroupId"] = message.group or message.id
                entry["MessageDeduplicationId"] = message.id
            entries.append(entry)
        try:
            answer = self._client().send_message_batch(QueueUrl=url, Entries=entries)
        except (BotoCoreError, ClientError, ValueError) as error:
            self._warn(f"{len(chunk)} messages were not dead-lettered: {describe(error)}")
            return set()
        if failed := answer.get("Failed"):
            self._warn(f"{len(failed)} messages were not dead-lettered: {_codes(failed)}")
        sent = {entry["Id"] for entry in answer.get("Successful", [])}
        return {message.id for index, (message, _, _) in enumerate(chunk) if str(index) in sent}

    def requeue(self, message: Message, seconds: int) -> bool:
        """Send a direct event to the retry queue, to be delivered in ``seconds`` (SQS: at most 900).

        :returns: whether it is there; False without a retry queue.
        """
        url = self._retry_queue_url
        if url is None:
            return False
        try:
            if url.endswith(".fifo"):  # a FIFO queue takes no delay for one message
                self._client().send_message(
                    QueueUrl=url, MessageBody=message.body, MessageGroupId=message.id, MessageDeduplicationId=message.id
                )
            else:
                delay = min(seconds, MAX_DELAY_SECONDS)
                self._client().send_message(QueueUrl=url, MessageBody=message.body, DelaySeconds=delay)
        except (BotoCoreError, ClientError, ValueError) as error:
            self._warn(f"the event was not sent to the retry queue: {describe(error)}")
            return False
        return True


def queue_url(arn: str, endpoint_url: str) -> str:
    """Return the URL of the queue with the ARN ``arn:partition:sqs:region:account:name``, without a call to SQS.

    :raises ValueError: it is not the ARN of a queue.
    """
    _, _, _, _, account, name = arn.split(":")
    return f"{endpoint_url.rstrip('/')}/{account}/{name}"


def _attributes(message: Message, outcome: Rejected, clock: Clock) -> dict[str, str]:
    """Return the dead letter's attributes, as strings for people. SQS allows ten, and no empty one."""
    first_received = None if message.first_received is None else message.first_received / 1000
    values = {
        "reason": outcome.reason,
        "detail": outcome.detail[:MAX_DETAIL_LENGTH],
        "status": None if outcome.status is None else str(outcome.status),
        "sourceMessageId": message.id,
        "sourceQueue": message.queue_arn,
        "receiveCount": None if message.queue_arn is None else str(message.receive_count),
        "firstReceivedAt": None if first_received is None else _iso(first_received),
        "failedAt": _iso(clock.now().wall),
    }
    return {name: value for name, value in values.items() if value}


def _iso(seconds: float) -> str:
    return format_timestamp(datetime.fromtimestamp(seconds, UTC))


def describe(error: BotoCoreError | ClientError | ValueError) -> str:
    """Describe an error of boto3's without its text, which may quote what was sent."""
    if isinstance(error, ClientError):
        return f"SQS answered {str(error.response.get('Error', {}).get('Code', 'unknown'))[:64]}"
    return type(error).__name__


def _codes(failed: Iterable[Mapping[str, object]]) -> str:
    return ", ".join(sorted({str(entry.get("Code", "unknown"))[:64] for entry in failed}))


def _chunks(items: Iterable[T], size: Callable[[T], int]) -> Iterator[list[T]]:
    """Split into chunks that fit into one batch call."""
    chunk: list[T] = []
    total = 0
    for item in items:
        weight = size(item)
        if chunk and (len(chunk) == MAX_ENTRIES or total + weight > MAX_BATCH_BYTES):
            yield chunk
            chunk, total = [], 0
        chunk.append(item)
        total += weight
    if chunk:
        yield chunk


def _bind(function: Callable[..., T], *arguments: object) -> Callable[[], T]:
    return lambda: function(*arguments)
