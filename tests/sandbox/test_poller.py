"""The poller reads partial batch responses as AWS does. The queue logs the deletes; the function's answer is chosen."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, cast

import pytest

from sandbox.pipeline.batches import MalformedAnswerError, failed_ids
from sandbox.pipeline.poller import Poller
from sandbox.pipeline.runtime import InvocationError
from sandbox.pipeline.stack import EventSource, Queue

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mypy_boto3_sqs import SQSClient

IDS = ("m1", "m2", "m3")


def items(*identifiers: object) -> bytes:
    """Return an answer that reports these identifiers."""
    return json.dumps({"batchItemFailures": [{"itemIdentifier": one} for one in identifiers]}).encode()


@pytest.mark.parametrize(
    "answer",
    [b"null", b"{}", b'{"batchItemFailures": null}', b'{"batchItemFailures": []}', b'{"batchItemFailure": [1]}'],
)
def test_an_answer_without_failures_is_a_success(answer: bytes) -> None:
    assert failed_ids(answer, IDS) == frozenset()


@pytest.mark.parametrize("reported", [("m1",), ("m3", "m2", "m1"), ("m2", "m2")])
def test_exactly_the_reported_messages_have_failed(reported: tuple[str, ...]) -> None:
    assert failed_ids(items(*reported), IDS) == set(reported)


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b'{"batchItemFailures": [',
        b'"ok"',
        b"[]",
        b'{"batchItemFailures": {"itemIdentifier": "m1"}}',
        b'{"batchItemFailures": ["m1"]}',
        b'{"batchItemFailures": [null]}',
        b'{"batchItemFailures": [{"ItemIdentifier": "m1"}]}',
        items(""),
        items(None),
        items(1),
        items("M1"),
        items("m1", "m9"),
    ],
)
def test_a_malformed_answer_fails_the_whole_batch(answer: bytes) -> None:
    with pytest.raises(MalformedAnswerError):
        failed_ids(answer, IDS)


class FakeQueue:
    """Returns three messages and logs the deletes."""

    def __init__(self) -> None:
        self.deleted: list[str] = []

    def receive_message(self, **_: Any) -> dict[str, Any]:
        return {"Messages": [{"MessageId": m, "ReceiptHandle": m, "Body": "{}", "MD5OfBody": ""} for m in IDS]}

    def delete_message_batch(self, **request: Any) -> dict[str, Any]:
        self.deleted += [entry["ReceiptHandle"] for entry in request["Entries"]]
        return {"Successful": request["Entries"]}


class FakeFunction:
    """Returns one answer, or raises it."""

    def __init__(self, answer: bytes | Exception) -> None:
        self._answer = answer

    def invoke(self, event: Mapping[str, Any]) -> bytes:
        assert [record["messageId"] for record in event["Records"]] == list(IDS)
        if isinstance(self._answer, Exception):
            raise self._answer
        return self._answer


@pytest.mark.parametrize(
    ("answer", "reports", "deleted", "counted"),
    [
        pytest.param(items("m1", "m3"), True, ["m2"], {"reported": 2, "deleted": 1}, id="two reported"),
        pytest.param(items("m9"), True, [], {"malformed": 1}, id="malformed"),
        pytest.param(InvocationError("timeout", "for the test"), True, [], {"timeout": 1}, id="no answer"),
        pytest.param(items("m1"), False, list(IDS), {"deleted": 3}, id="without ReportBatchItemFailures"),
    ],
)
def test_what_the_answer_does_not_report_is_deleted(
    answer: bytes | Exception, *, reports: bool, deleted: list[str], counted: dict[str, int]
) -> None:
    queue = FakeQueue()
    source = EventSource(Queue("http://queue", "arn:aws:sqs:eu-west-1:1:q"), 10, reports, maximum_concurrency=10)
    poller = Poller(cast("SQSClient", queue), source, [])

    poller.poll_once(FakeFunction(answer))

    assert queue.deleted == deleted
    assert +poller.counts == {"received": 3, "invocations": 1, **counted}
