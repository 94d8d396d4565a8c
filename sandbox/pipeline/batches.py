"""AWS's rules for batches from SQS: the records that the function gets, and what its answer means. No I/O."""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable

    from mypy_boto3_sqs.type_defs import MessageAttributeValueOutputTypeDef, MessageTypeDef


class MalformedAnswerError(ValueError):
    """Lambda would not accept the function's answer: the whole batch has failed."""


def record_of(message: MessageTypeDef, queue_arn: str) -> dict[str, Any]:
    """Convert a message, received with all its attributes, to a record of Lambda's SQS event."""
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
    # Unlike SQS, Lambda writes lower-case initials, binary values as Base64, and always two empty lists.
    attribute: dict[str, Any] = {"stringListValues": [], "binaryListValues": [], "dataType": value["DataType"]}
    if "StringValue" in value:
        attribute["stringValue"] = value["StringValue"]
    if "BinaryValue" in value:
        attribute["binaryValue"] = base64.b64encode(value["BinaryValue"]).decode("ascii")
    return attribute


def failed_ids(answer: bytes, received: Iterable[str]) -> frozenset[str]:
    """Return the ids of the messages that the function reports as failed; the others may be deleted.

    By AWS's rules for `ReportBatchItemFailures`, the whole batch has succeeded if the answer is `null`, or an object
    whose `batchItemFailures` is missing, null or empty. One malformed entry (`itemIdentifier` missing, empty, null or
    not of this batch) fails the whole batch.

    :raises MalformedAnswerError: the whole batch has failed.
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
    failed = set()
    for item in items:
        identifier = item.get("itemIdentifier") if isinstance(item, dict) else None
        if not isinstance(identifier, str) or identifier not in known:
            raise MalformedAnswerError("an entry of batchItemFailures names no message of this batch")
        failed.add(identifier)
    return frozenset(failed)
