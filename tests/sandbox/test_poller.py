"""The poller against a queue that notes every call, and a function that answers as told."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, cast

import pytest

from sandbox.pipeline.poller import Poller
from sandbox.pipeline.runtime import FailureKind, InvocationError
from sandbox.pipeline.stack import EventSource, Queue

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from mypy_boto3_sqs import SQSClient

QUEUE = Queue("http://queue", "arn:aws:sqs:eu-west-1:123456789012:completions")


class FakeQueue:
    """Hands out messages `m1`, `m2`, …, and notes what was asked and what was deleted."""

    def __init__(self, waiting: int, body: str = "{}") -> None:
        self.waiting = [f"m{number}" for number in range(1, waiting + 1)]
        self.body = body
        self.receives: list[dict[str, Any]] = []
        self.deletes: list[list[str]] = []
        self.gone: set[str] = set()

    def receive_message(self, **request: Any) -> dict[str, Any]:
        """Hand out as many as were asked for."""
        self.receives.append(request)
        most = request["MaxNumberOfMessages"]
        assert 1 <= most <= 10
        given, self.waiting = self.waiting[:most], self.waiting[most:]
        messages = [
            {"MessageId": one, "ReceiptHandle": f"handle-{one}", "Body": self.body, "MD5OfBody": ""} for one in given
        ]
        return {"Messages": messages} if messages else {}

    def delete_message_batch(self, **request: Any) -> dict[str, Any]:
        """Delete all but what is gone."""
        assert 1 <= len(request["Entries"]) <= 10
        assert len({entry["Id"] for entry in request["Entries"]}) == len(request["Entries"])
        self.deletes.append([entry["ReceiptHandle"].removeprefix("handle-") for entry in request["Entries"]])
        done = [e for e in request["Entries"] if e["ReceiptHandle"].removeprefix("handle-") not in self.gone]
        return {"Successful": [{"Id": entry["Id"]} for entry in done]}

    @property
    def deleted(self) -> list[str]:
        """All that was deleted."""
        return [one for call in self.deletes for one in call]


class FakeFunction:
    """Answers as told, and keeps the events."""

    def __init__(self, answer: Callable[[list[str]], object]) -> None:
        self._answer = answer
        self.batches: list[list[str]] = []

    def invoke(self, event: Mapping[str, Any]) -> bytes:
        """Answer with JSON, with raw bytes, or raise."""
        batch = [record["messageId"] for record in event["Records"]]
        self.batches.append(batch)
        answer = self._answer(batch)
        return answer if isinstance(answer, bytes) else json.dumps(answer).encode()


def source(*, batch_size: int = 10, window: int = 0, reports: bool = True, concurrency: int = 10) -> EventSource:
    """Make an event source mapping."""
    return EventSource(QUEUE, batch_size, window, reports, concurrency)


def poller(queue: FakeQueue, mapping: EventSource, **options: Any) -> Poller:
    """Make a poller of the fake queue."""
    return Poller(cast("SQSClient", queue), mapping, [], **options)


def reporting(*failed: str) -> Callable[[list[str]], object]:
    """Report these messages as failed."""
    return lambda _: {"batchItemFailures": [{"itemIdentifier": one} for one in failed]}


def test_exactly_the_unreported_messages_are_deleted() -> None:
    """What is not reported is done and leaves the queue; what is reported stays."""
    queue, function = FakeQueue(5), FakeFunction(reporting("m2", "m5"))
    p = poller(queue, source())
    assert p.poll_once(function) == 5
    assert queue.deleted == ["m1", "m3", "m4"]
    assert p.counts == {"received": 5, "invocations": 1, "reported": 2, "deleted": 3}


@pytest.mark.parametrize("answer", [None, {}, {"batchItemFailures": None}, {"batchItemFailures": []}])
def test_an_empty_answer_deletes_the_whole_batch(answer: object) -> None:
    """Lambda takes null, an empty object and an empty or null list for success."""
    queue = FakeQueue(3)
    poller(queue, source()).poll_once(FakeFunction(lambda _: answer))
    assert queue.deleted == ["m1", "m2", "m3"]


@pytest.mark.parametrize("identifier", ["", None, "unknown", 7])
def test_a_bad_identifier_keeps_the_whole_batch(identifier: object) -> None:
    """One identifier that Lambda does not know fails the batch: nothing is deleted."""
    queue = FakeQueue(3)
    p = poller(queue, source())
    p.poll_once(
        FakeFunction(lambda _: {"batchItemFailures": [{"itemIdentifier": "m1"}, {"itemIdentifier": identifier}]})
    )
    assert queue.deletes == []
    assert p.counts["malformed"] == 1


@pytest.mark.parametrize("answer", [b"", b"not JSON", b"[]", b'{"batchItemFailures": [{"id": "m1"}]}'])
def test_a_malformed_answer_keeps_the_whole_batch(answer: bytes) -> None:
    """Invalid JSON, a wrong type or a misspelt key fails the batch: nothing is deleted."""
    queue = FakeQueue(3)
    poller(queue, source()).poll_once(FakeFunction(lambda _: answer))
    assert queue.deletes == []


@pytest.mark.parametrize("kind", ["error", "timeout", "exit"])
def test_a_failed_invocation_keeps_the_whole_batch(kind: FailureKind) -> None:
    """An exception, a timeout or a dead environment deletes nothing, and is counted by its kind."""

    def fail(_: list[str]) -> object:
        raise InvocationError(kind, "as told")

    queue = FakeQueue(3)
    p = poller(queue, source())
    p.poll_once(FakeFunction(fail))
    assert queue.deletes == []
    assert p.counts[kind] == 1


def test_all_failed_means_no_delete_call() -> None:
    """SQS refuses an empty batch request, so none is made."""
    queue = FakeQueue(2)
    poller(queue, source()).poll_once(FakeFunction(reporting("m1", "m2")))
    assert queue.deletes == []


def test_without_report_batch_item_failures_the_answer_is_not_read() -> None:
    """A mapping that does not ask for item failures deletes all after any answer, even nonsense."""
    queue = FakeQueue(2)
    poller(queue, source(reports=False)).poll_once(FakeFunction(lambda _: b"nonsense"))
    assert queue.deleted == ["m1", "m2"]


def test_an_empty_queue_invokes_nothing() -> None:
    """No messages, no invocation."""
    function = FakeFunction(reporting())
    assert poller(FakeQueue(0), source()).poll_once(function) == 0
    assert function.batches == []


def test_a_batch_is_never_larger_than_the_mapping_says() -> None:
    """The batch size bounds one receive."""
    queue, function = FakeQueue(9), FakeFunction(reporting())
    poller(queue, source(batch_size=4)).poll_once(function)
    assert function.batches == [["m1", "m2", "m3", "m4"]]


def test_a_window_gathers_several_receives_into_one_batch() -> None:
    """With a window, receives go on until the batch is full, ten messages at most in each, and so do deletes."""
    queue, function = FakeQueue(40), FakeFunction(reporting())
    poller(queue, source(batch_size=25, window=5)).poll_once(function)
    assert [len(batch) for batch in function.batches] == [25]
    assert [request["MaxNumberOfMessages"] for request in queue.receives] == [10, 10, 5]
    assert [len(call) for call in queue.deletes] == [10, 10, 5]


def test_a_window_ends_when_its_time_is_up() -> None:
    """A batch that does not fill is handed over when the window has passed since its first message."""
    times = iter([0.0, 0.0, 2.0, 5.0])
    queue, function = FakeQueue(3), FakeFunction(reporting())
    poller(queue, source(batch_size=25, window=5), clock=lambda: next(times)).poll_once(function)
    assert function.batches == [["m1", "m2", "m3"]]
    assert [request["WaitTimeSeconds"] for request in queue.receives] == [0, 5, 3]


def test_all_attributes_are_asked_for() -> None:
    """The function needs the receive count and the group; the message's own attributes go along."""
    queue = FakeQueue(1)
    poller(queue, source()).poll_once(FakeFunction(reporting()))
    assert queue.receives[0]["MessageSystemAttributeNames"] == ["All"]
    assert queue.receives[0]["MessageAttributeNames"] == ["All"]


def test_a_batch_over_the_payload_limit_is_split() -> None:
    """Ten messages of 1 MiB do not fit one invocation: two are made, and each answer counts for its own."""
    queue, function = FakeQueue(10, "x" * 1024 * 1024), FakeFunction(reporting())
    poller(queue, source()).poll_once(function)
    assert [len(batch) for batch in function.batches] == [5, 5]
    assert len(queue.deleted) == 10


def test_a_message_that_came_back_meanwhile_counts_as_not_deleted() -> None:
    """SQS refuses a handle whose message is with somebody else: it comes again, and that is no error."""
    queue = FakeQueue(2)
    queue.gone = {"m1"}
    p = poller(queue, source())
    p.poll_once(FakeFunction(reporting()))
    assert p.counts["deleted"] == 1


def test_no_more_threads_than_the_maximum_concurrency() -> None:
    """Environments beyond ScalingConfig.MaximumConcurrency stay idle."""
    functions = [FakeFunction(reporting()) for _ in range(5)]
    p = Poller(cast("SQSClient", FakeQueue(1000)), source(concurrency=2), functions)
    p.start()
    while p.counts["deleted"] < 1000:
        p.check()
    p.stop()
    assert sum(bool(function.batches) for function in functions) <= 2


def test_what_breaks_the_poller_is_raised_by_stop() -> None:
    """A queue that goes away must not end as a run that looks quiet."""

    class GoneQueue(FakeQueue):
        def receive_message(self, **request: Any) -> dict[str, Any]:
            raise ConnectionError("the queue went away")

    p = Poller(cast("SQSClient", GoneQueue(0)), source(), [FakeFunction(reporting())])
    p.start()
    with pytest.raises(ConnectionError, match="went away"):
        p.stop()
