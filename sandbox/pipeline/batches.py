"""AWS's rules for batches from SQS: what the function is handed, and what its answer means. No I/O here."""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from mypy_boto3_sqs.type_defs import MessageAttributeValueOutputTypeDef, MessageTypeDef

# Lambda's limit for the payload of one invocation.
MAX_PAYLOAD_BYTES = 6 * 1024 * 1024


class MalformedAnswerError(ValueError):
    """The function's answer is none that Lambda accepts: the whole batch counts as failed."""


def event_of(records: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the event that the function is invoked with: `{"Records": [...]}`."""
    return {"Records": list(records)}


def record_of(message: MessageTypeDef, queue_arn: str) -> dict[str, Any]:
    """Turn a received message (all attributes asked for) into a record of Lambda's SQS event."""
    record: dict[str, Any] = {
        "messageId": message["MessageId"],
        "receiptHandle": message["ReceiptHandle"],
        "body": message["Body"],
        "attributes": dict(message.get("Attributes", {})),
        "messageAttributes": {
            name: _attribute_of(value) for name, value in message.get("MessageAttributes", {}).items()
        },
        "md5OfBody": message["MD5OfBody"],
        "eventSource": "aws:sqs",
        "eventSourceARN": queue_arn,
        "awsRegion": queue_arn.split(":")[3],
    }
    if "MD5OfMessageAttributes" in message:
        record["md5OfMessageAttributes"] = message["MD5OfMessageAttributes"]
    return record


def _attribute_of(value: MessageAttributeValueOutputTypeDef) -> dict[str, Any]:
    # Lambda's spelling differs from that of the SQS API: small initials, binary as Base64, always two empty lists.
    attribute: dict[str, Any] = {"stringListValues": [], "binaryListValues": [], "dataType": value["DataType"]}
    if "StringValue" in value:
        attribute["stringValue"] = value["StringValue"]
    if "BinaryValue" in value:
        attribute["binaryValue"] = base64.b64encode(value["BinaryValue"]).decode("ascii")
    return attribute


def within_payload_limit(
    records: Iterable[dict[str, Any]], limit: int = MAX_PAYLOAD_BYTES
) -> Iterator[list[dict[str, Any]]]:
    """Split records into batches that fit one invocation, in order; a record too big for any goes alone."""
    envelope = len(json.dumps(event_of([])))
    batch: list[dict[str, Any]] = []
    size = envelope
    for record in records:
        # Two more for the comma and the space that the encoder puts between records.
        length = len(json.dumps(record)) + 2
        if batch and size + length > limit:
            yield batch
            batch, size = [], envelope
        batch.append(record)
        size += length
    if batch:
        yield batch


def failed_ids(answer: bytes, received: Iterable[str]) -> frozenset[str]:
    """Return the ids of the messages that the answer reports as failed; the others are done and may be deleted.

    AWS's rules for `ReportBatchItemFailures`: `null`, `{}` and a null or empty `batchItemFailures` mean that all is
    well, as does an object without that key. One malformed entry (no `itemIdentifier`, an empty or null one, one that
    was not received) fails the batch as a whole.

    :raises MalformedAnswerError: the whole batch failed.
    """
    known = frozenset(received)
    try:
        parsed = json.loads(answer)
    except ValueError:
        raise MalformedAnswerError("the answer is not JSON") from None
    if parsed is None:
        return frozenset()
    if not isinstance(parsed, dict):
        raise MalformedAnswerError("the answer is not an object")
    items = parsed.get("batchItemFailures")
    if items is None:
        return frozenset()
    if not isinstance(items, list):
        raise MalformedAnswerError("batchItemFailures is not a list")
    return frozenset(_identifier(item, known) for item in items)


def _identifier(item: object, known: frozenset[str]) -> str:
    identifier = item.get("itemIdentifier") if isinstance(item, dict) else None
    if not isinstance(identifier, str) or not identifier:
        raise MalformedAnswerError("an entry of batchItemFailures has no itemIdentifier")
    if identifier not in known:
        raise MalformedAnswerError("an itemIdentifier is none of this batch")
    return identifier
