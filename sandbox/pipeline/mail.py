"""Sending messages and reading queues, with real calls to SQS and EventBridge."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sandbox import SandboxError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from mypy_boto3_events import EventBridgeClient
    from mypy_boto3_sqs import SQSClient
    from mypy_boto3_sqs.type_defs import SendMessageBatchRequestEntryTypeDef

    from sandbox.pipeline.stack import Rule

# Both services take ten entries per call; SQS 1 MiB in all, EventBridge 256 KiB.
_MAX_ENTRIES = 10
_MAX_BYTES = 240 * 1024
# Longer than a run, so that no message is read twice.
_HIDDEN_SECONDS = 600


@dataclass(frozen=True, slots=True)
class Letter:
    """A message found in a queue; `attributes` are its message attributes, as text."""

    message_id: str
    body: str
    attributes: Mapping[str, str]


def send(sqs: SQSClient, url: str, bodies: Sequence[str], *, group: str | None = None) -> list[str]:
    """Send bodies to a queue, in order, and return their message ids. A FIFO queue needs a `group`.

    :raises SandboxError: SQS refused a message.
    """
    ids: list[str] = []
    for chunk in _chunks(bodies):
        entries: list[SendMessageBatchRequestEntryTypeDef] = []
        for number, body in enumerate(chunk):
            entry: SendMessageBatchRequestEntryTypeDef = {"Id": str(number), "MessageBody": body}
            if group is not None:
                # Unlike content-based deduplication, this does not drop a message that repeats another.
                entry |= {"MessageGroupId": group, "MessageDeduplicationId": f"{group}-{len(ids) + number}"}
            entries.append(entry)
        answer = sqs.send_message_batch(QueueUrl=url, Entries=entries)
        if failed := answer.get("Failed"):
            raise SandboxError(f"SQS refused a message: {failed[0].get('Message', failed[0]['Code'])}")
        by_entry = {entry["Id"]: entry["MessageId"] for entry in answer["Successful"]}
        ids += [by_entry[str(number)] for number in range(len(chunk))]
    return ids


def put(events: EventBridgeClient, rule: Rule | None, details: Sequence[str]) -> list[str]:
    """Put events with these details on the bus, labelled so that the rule matches, and return their event ids.

    :raises SandboxError: there is no rule, or EventBridge refused an event.
    """
    if rule is None:
        raise SandboxError("no rule sends events to the queue")
    ids: list[str] = []
    for chunk in _chunks(details):
        answer = events.put_events(
            Entries=[
                {"Source": rule.source, "DetailType": rule.detail_type, "EventBusName": rule.bus, "Detail": detail}
                for detail in chunk
            ]
        )
        for result in answer["Entries"]:
            if "EventId" not in result:
                raise SandboxError(f"EventBridge refused an event: {result.get('ErrorMessage', 'no reason given')}")
            ids.append(result["EventId"])
    return ids


def backlog(sqs: SQSClient, url: str) -> int:
    """Return the number of messages in a queue: waiting, in flight or delayed."""
    counts = sqs.get_queue_attributes(
        QueueUrl=url,
        AttributeNames=[
            "ApproximateNumberOfMessages",
            "ApproximateNumberOfMessagesNotVisible",
            "ApproximateNumberOfMessagesDelayed",
        ],
    )
    return sum(map(int, counts["Attributes"].values()))


def show(sqs: SQSClient, url: str, handles: Sequence[str]) -> None:
    """Make messages in flight visible at once; handles that are out of date are ignored."""
    for start in range(0, len(handles), _MAX_ENTRIES):
        chunk = handles[start : start + _MAX_ENTRIES]
        sqs.change_message_visibility_batch(
            QueueUrl=url,
            Entries=[
                {"Id": str(number), "ReceiptHandle": handle, "VisibilityTimeout": 0}
                for number, handle in enumerate(chunk)
            ],
        )


def read_all(sqs: SQSClient, url: str) -> list[Letter]:
    """Read every waiting message of a queue and leave it there, hidden for ten minutes.

    Messages of a FIFO queue are deleted: while one of a message group is hidden, SQS returns no others of that group.
    """
    letters: list[Letter] = []
    while messages := sqs.receive_message(
        QueueUrl=url,
        MaxNumberOfMessages=_MAX_ENTRIES,
        VisibilityTimeout=_HIDDEN_SECONDS,
        WaitTimeSeconds=0,
        MessageAttributeNames=["All"],
    ).get("Messages"):
        letters += [
            Letter(
                message["MessageId"],
                message["Body"],
                {name: value.get("StringValue", "") for name, value in message.get("MessageAttributes", {}).items()},
            )
            for message in messages
        ]
        if url.endswith(".fifo"):
            for message in messages:
                sqs.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])
    return letters


def _chunks(items: Iterable[str]) -> Iterator[list[str]]:
    """Split into what one call takes, in order; an item too big for any call goes alone."""
    chunk: list[str] = []
    total = 0
    for item in items:
        if chunk and (len(chunk) == _MAX_ENTRIES or total + len(item.encode()) > _MAX_BYTES):
            yield chunk
            chunk, total = [], 0
        chunk.append(item)
        total += len(item.encode())
    if chunk:
        yield chunk
