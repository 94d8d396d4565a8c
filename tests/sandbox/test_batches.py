"""AWS's rules for batches: the record's shape, the payload's limit, and what an answer means."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, cast

import pytest

from sandbox.pipeline.batches import MalformedAnswerError, event_of, failed_ids, record_of, within_payload_limit

if TYPE_CHECKING:
    from mypy_boto3_sqs.type_defs import MessageTypeDef

ARN = "arn:aws:sqs:eu-west-1:123456789012:completions"
RECEIVED = ("a", "b", "c")


def items(*identifiers: object) -> bytes:
    """Write an answer that reports these identifiers."""
    return json.dumps({"batchItemFailures": [{"itemIdentifier": one} for one in identifiers]}).encode()


@pytest.mark.parametrize(
    "answer",
    [b"null", b"{}", b'{"batchItemFailures": null}', b'{"batchItemFailures": []}', b'{"batchItemFailure": [1]}'],
)
def test_an_answer_without_failures_means_that_all_is_well(answer: bytes) -> None:
    """Null, an empty object, a null, empty or absent list: the whole batch counts as done."""
    assert failed_ids(answer, RECEIVED) == frozenset()


@pytest.mark.parametrize("reported", [("a",), ("a", "c"), ("c", "b", "a"), ("b", "b")])
def test_reported_messages_and_no_others_have_failed(reported: tuple[str, ...]) -> None:
    """Exactly the identifiers reported are failed, in any order, once or twice."""
    assert failed_ids(items(*reported), RECEIVED) == frozenset(reported)


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"Task timed out", id="text"),
        pytest.param(b'{"batchItemFailures": [', id="cut off"),
        pytest.param(b'"ok"', id="string"),
        pytest.param(b"[]", id="list"),
        pytest.param(b"true", id="boolean"),
        pytest.param(b'{"batchItemFailures": "a"}', id="failures no list"),
        pytest.param(b'{"batchItemFailures": {"itemIdentifier": "a"}}', id="failures an object"),
        pytest.param(b'{"batchItemFailures": ["a"]}', id="item no object"),
        pytest.param(b'{"batchItemFailures": [null]}', id="item null"),
        pytest.param(b'{"batchItemFailures": [{}]}', id="item empty"),
        pytest.param(b'{"batchItemFailures": [{"ItemIdentifier": "a"}]}', id="key misspelt"),
        pytest.param(items(""), id="identifier empty"),
        pytest.param(items(None), id="identifier null"),
        pytest.param(items(1), id="identifier number"),
        pytest.param(items("d"), id="identifier unknown"),
        pytest.param(items("a", "d"), id="one good, one unknown"),
        pytest.param(items("A"), id="identifier in another case"),
    ],
)
def test_a_malformed_answer_fails_the_whole_batch(answer: bytes) -> None:
    """Anything that Lambda cannot read, or an identifier that it did not send, fails the batch as a whole."""
    with pytest.raises(MalformedAnswerError):
        failed_ids(answer, RECEIVED)


def test_a_record_has_lambdas_shape_and_not_that_of_sqs() -> None:
    """Names, attribute spelling, Base64 and Region are as Lambda writes them."""
    message = {
        "MessageId": "1",
        "ReceiptHandle": "handle",
        "MD5OfBody": "md5",
        "Body": "{}",
        "Attributes": {"ApproximateReceiveCount": "2", "MessageGroupId": "g"},
        "MD5OfMessageAttributes": "md5a",
        "MessageAttributes": {
            "text": {"StringValue": "x", "DataType": "String"},
            "bytes": {"BinaryValue": b"\x00\xff", "DataType": "Binary"},
        },
    }
    assert record_of(cast("MessageTypeDef", message), ARN) == {
        "messageId": "1",
        "receiptHandle": "handle",
        "body": "{}",
        "attributes": {"ApproximateReceiveCount": "2", "MessageGroupId": "g"},
        "messageAttributes": {
            "text": {"stringValue": "x", "stringListValues": [], "binaryListValues": [], "dataType": "String"},
            "bytes": {"binaryValue": "AP8=", "stringListValues": [], "binaryListValues": [], "dataType": "Binary"},
        },
        "md5OfBody": "md5",
        "md5OfMessageAttributes": "md5a",
        "eventSource": "aws:sqs",
        "eventSourceARN": ARN,
        "awsRegion": "eu-west-1",
    }


def test_batches_stay_within_the_payload_limit_and_keep_their_order() -> None:
    """No invocation's payload exceeds the limit, nothing is lost, nothing changes places."""
    records: list[dict[str, Any]] = [{"body": "x" * size} for size in (10, 200, 30, 30, 500, 1, 1, 1)]
    batches = list(within_payload_limit(records, limit=300))
    assert [record for batch in batches for record in batch] == records
    assert all(len(json.dumps(event_of(batch))) <= 300 or len(batch) == 1 for batch in batches)
    assert len(batches) < len(records)
