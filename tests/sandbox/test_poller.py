"""The poller reads partial batch responses as AWS does. The queue logs every call; the function's answer is chosen."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, cast

import pytest

from sandbox.pipeline.poller import Poller
from sandbox.pipeline.runtime import FailureKind, InvocationError
from sandbox.pipeline.stack import EventSource, Queue

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mypy_boto3_sqs import SQSClient

ARN = "arn:aws:sqs:eu-west-1:123456789012:completions"


def items(*identifiers: object) -> bytes:
    """Return an answer that reports these identifiers."""
    return json.dumps({"batchItemFailures": [{"itemIdentifier": one} for one in identifiers]}).encode()


SUCCESS = [b"null", b"{}", b'{"batchItemFailures": null}', b'{"batchItemFailures": []}', b'{"batchItemFailure": [1]}']
MALFORMED = [
    b"",
    b'{"batchItemFailures": [',
    b'"ok"',
    b"[]",
    b'{"batchItemFailures": {}}',
    b'{"batchItemFailures": {"itemIdentifier": "m1"}}',
    b'{"batchItemFailures": ["m1"]}',
    b'{"batchItemFailures": [null]}',
    b'{"batchItemFailures": [{"ItemIdentifier": "m1"}]}',
    items(""),
    items(None),
    items(1),
    items("M1"),
    items("m1", "m9"),
]


class FakeQueue:
    """Returns messages `m1`, `m2`, …, and logs the receives and the deletes."""

    def __init__(self, waiting: int, body: str = "{}") -> None:
        self.waiting = [f"m{number}" for number in range(1, waiting + 1)]
        self.body = body
        self.receives: list[dict[str, Any]] = []
        self.deleted: list[str] = []
        self.gone: set[str] = set()

    def receive_message(self, **request: Any) -> dict[str, Any]:
        self.receives.append(request)
        most = request["MaxNumberOfMessages"]
        given, self.waiting = self.waiting[:most], self.waiting[most:]
        return {"Messages": [{"MessageId": m, "ReceiptHandle": m, "Body": self.body, "MD5OfBody": ""} for m in given]}

    def delete_message_batch(self, **request: Any) -> dict[str, Any]:
        entries = request["Entries"]
        assert 1 <= len(entries) <= 10  # as SQS demands
        assert len({entry["Id"] for entry in entries}) == len(entries)
        self.deleted += [entry["ReceiptHandle"] for entry in entries]
        return {"Successful": [{"Id": entry["Id"]} for entry in entries if entry["ReceiptHandle"] not in self.gone]}


class FakeFunction:
    """Returns one answer, or raises it, and keeps the ids of each batch."""

    def __init__(self, answer: bytes | Exception = b"{}") -> None:
        self._answer = answer
        self.batches: list[list[str]] = []

    def invoke(self, event: Mapping[str, Any]) -> bytes:
        self.batches.append([record["messageId"] for record in event["Records"]])
        if isinstance(self._answer, Exception):
            raise self._answer
        return self._answer


def poll(queue: FakeQueue, function: FakeFunction, *, batch_size: int = 10, reports: bool = True) -> Poller:
    """Poll once."""
    source = EventSource(Queue("http://queue", ARN), batch_size, reports, maximum_concurrency=10)
    poller = Poller(cast("SQSClient", queue), source, [])
    poller.poll_once(function)
    return poller


# --- What the answer means --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("answer", SUCCESS)
def test_an_answer_without_failures_deletes_the_whole_batch(answer: bytes) -> None:
    queue = FakeQueue(3)
    poll(queue, FakeFunction(answer))
    assert queue.deleted == ["m1", "m2", "m3"]


@pytest.mark.parametrize("answer", MALFORMED)
def test_a_malformed_answer_deletes_nothing(answer: bytes) -> None:
    queue = FakeQueue(3)
    assert poll(queue, FakeFunction(answer)).counts["malformed"] == 1
    assert queue.deleted == []


@pytest.mark.parametrize("reported", [("m1",), ("m1", "m3"), ("m3", "m2", "m1"), ("m2", "m2")])
def test_exactly_the_messages_that_are_not_reported_are_deleted(reported: tuple[str, ...]) -> None:
    queue = FakeQueue(3)
    counts = poll(queue, FakeFunction(items(*reported))).counts
    assert queue.deleted == [one for one in ("m1", "m2", "m3") if one not in reported]
    assert (counts["received"], counts["invocations"]) == (3, 1)
    assert (counts["reported"], counts["deleted"]) == (len(set(reported)), len(queue.deleted))


@pytest.mark.parametrize("kind", ["error", "timeout", "exit"])
def test_a_failed_invocation_deletes_nothing(kind: FailureKind) -> None:
    queue = FakeQueue(3)
    assert poll(queue, FakeFunction(InvocationError(kind, "for the test"))).counts[kind] == 1
    assert queue.deleted == []


def test_without_report_batch_item_failures_the_answer_is_not_read() -> None:
    queue = FakeQueue(2)
    poll(queue, FakeFunction(b"nonsense"), reports=False)
    assert queue.deleted == ["m1", "m2"]


# --- How the queue is polled ------------------------------------------------------------------------------------------


def test_a_batch_has_at_most_the_configured_size_and_all_attributes() -> None:
    queue, function = FakeQueue(9), FakeFunction()
    poll(queue, function, batch_size=4)
    assert function.batches == [["m1", "m2", "m3", "m4"]]
    assert queue.receives[0]["MessageSystemAttributeNames"] == queue.receives[0]["MessageAttributeNames"] == ["All"]


def test_a_batch_over_the_payload_limit_is_split() -> None:
    queue, function = FakeQueue(10, "x" * 1024 * 1024), FakeFunction()
    poll(queue, function)
    assert function.batches == [["m1", "m2", "m3", "m4", "m5"], ["m6", "m7", "m8", "m9", "m10"]]
    assert len(queue.deleted) == 10


def test_a_message_that_was_received_again_meanwhile_does_not_count_as_deleted() -> None:
    queue = FakeQueue(2)
    queue.gone = {"m1"}
    assert poll(queue, FakeFunction()).counts["deleted"] == 1


def test_an_exception_in_a_thread_is_raised_by_stop() -> None:
    class GoneQueue(FakeQueue):
        def receive_message(self, **request: Any) -> dict[str, Any]:
            raise ConnectionError("the queue is gone")

    source = EventSource(Queue("http://queue", ARN), 10, reports_failures=True, maximum_concurrency=10)
    poller = Poller(cast("SQSClient", GoneQueue(0)), source, [FakeFunction()])
    poller.start()
    with pytest.raises(ConnectionError, match="the queue is gone"):
        poller.stop()
