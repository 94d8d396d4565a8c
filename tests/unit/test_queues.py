"""What is asked of SQS, to the letter, and what becomes of it when SQS refuses."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from botocore.exceptions import (
    ClientError,
    EndpointConnectionError,
    NoCredentialsError,
    NoRegionError,
    ParamValidationError,
    ReadTimeoutError,
)
from hypothesis import given
from hypothesis import strategies as st

from completion_sync.errors import InvalidMessageError
from completion_sync.events import Message
from completion_sync.outcomes import Rejected
from completion_sync.queues import MAX_BATCH_BYTES, MAX_DELAY_SECONDS, Postponed, Queues, queue_url
from tests.support.fakes import CANARY, QUEUE_ARN, FakeClock, client_error, completion
from tests.support.sqs import DEAD_LETTER_URL, RETRY_URL, FakeSqs, fail_with, throttled

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

QUEUE_URL = "https://sqs.eu-west-2.amazonaws.com/123456789012/completions"
NOW = 1_800_000_000.25  # 2027-01-15T08:00:00.250Z

REJECTED = Rejected("refused", "Thrive answered 422: no such content", 422)


def message(number: int = 1, **changes: Any) -> Message:
    """Give a message of the source queue."""
    given_message = Message(
        id=f"message-{number}",
        body=f'{{"number":{number}}}',
        content=completion(),
        receive_count=3,
        receipt_handle=f"receipt-{number}",
        queue_arn=QUEUE_ARN,
        first_received=1_609_491_600_123,
    )
    return replace(given_message, **changes)


class World:
    """Queues on a fake SQS."""

    def __init__(
        self,
        sqs: FakeSqs | None = None,
        *,
        dead_letter: str | None = DEAD_LETTER_URL,
        retry: str | None = RETRY_URL,
        client: Callable[[], Any] | None = None,
    ) -> None:
        self.sqs = sqs or FakeSqs()
        self.warnings: list[str] = []
        self.queues = Queues(client or self.sqs.client, dead_letter, retry, FakeClock(wall=NOW), self.warnings.append)

    def dead_letter(self, *messages: Message, outcome: Rejected = REJECTED) -> set[str]:
        """Dead-letter messages; give the ids of those that stand there."""
        return run(self.queues.dead_letter([(each, outcome) for each in messages]))

    def postpone(self, *postponed: Postponed) -> set[str]:
        """Set the visibility of messages."""
        return run(self.queues.postpone(postponed))


def run(calls: Iterable[Callable[[], set[str]]]) -> set[str]:
    """Make the calls."""
    return {identifier for call in calls for identifier in call()}


def attributes_of(entry: dict[str, Any]) -> dict[str, str]:
    """Give a sent message's attributes, all of which are strings."""
    assert {attribute["DataType"] for attribute in entry["MessageAttributes"].values()} == {"String"}
    return {name: attribute["StringValue"] for name, attribute in entry["MessageAttributes"].items()}


# --- Dead letters -------------------------------------------------------------------------------------------------


def test_dead_letter_is_the_body_with_the_reason() -> None:
    """A dead letter is the unchanged body, and string attributes that say what became of it."""
    # Given
    it = World()

    # When
    sent = it.dead_letter(message())

    # Then
    assert sent == {"message-1"}
    [request] = it.sqs.of("send_message_batch")
    assert request["QueueUrl"] == DEAD_LETTER_URL
    [entry] = request["Entries"]
    assert set(entry) == {"Id", "MessageBody", "MessageAttributes"}
    assert entry["MessageBody"] == '{"number":1}'
    assert attributes_of(entry) == {
        "reason": "refused",
        "detail": "Thrive answered 422: no such content",
        "status": "422",
        "sourceMessageId": "message-1",
        "sourceQueue": QUEUE_ARN,
        "receiveCount": "3",
        "firstReceivedAt": "2021-01-01T09:00:00.123Z",
        "failedAt": "2027-01-15T08:00:00.250Z",
    }
    assert it.warnings == []


def test_dead_letter_of_a_message_without_an_answer() -> None:
    """Where Thrive was not asked there is no status; an attribute without a value is left out."""
    # Given
    it = World()

    # When: nothing known of the message, as of a direct event
    it.dead_letter(
        Message("event-1", "{}", InvalidMessageError("x")), outcome=Rejected("invalid_message", "userId: must")
    )

    # Then
    [entry] = it.sqs.entries("send_message_batch")
    assert attributes_of(entry) == {
        "reason": "invalid_message",
        "detail": "userId: must",
        "sourceMessageId": "event-1",
        "failedAt": "2027-01-15T08:00:00.250Z",
    }


@pytest.mark.parametrize(("length", "kept"), [(255, 255), (256, 256), (257, 256), (10_000, 256)])
def test_detail_has_at_most_256_characters(length: int, kept: int) -> None:
    """However long the detail, its first 256 characters are sent."""
    it = World()
    it.dead_letter(message(), outcome=Rejected("refused", "d" * length, 400))
    [entry] = it.sqs.entries("send_message_batch")
    assert attributes_of(entry)["detail"] == "d" * kept


def test_attributes_without_a_value_are_left_out() -> None:
    """SQS refuses an empty attribute, so that an empty value is none."""
    it = World()
    it.dead_letter(message(queue_arn=None, first_received=None, id=""), outcome=Rejected("refused", "", 400))
    [entry] = it.sqs.entries("send_message_batch")
    assert set(attributes_of(entry)) == {"reason", "status", "failedAt"}


def test_first_receive_at_the_epoch_is_a_time() -> None:
    """Nought is a moment, not an absent one."""
    it = World()
    it.dead_letter(message(first_received=0))
    [entry] = it.sqs.entries("send_message_batch")
    assert attributes_of(entry)["firstReceivedAt"] == "1970-01-01T00:00:00.000Z"


def test_without_a_dead_letter_queue_there_are_no_calls() -> None:
    """Without a dead-letter queue nothing is sent, and nothing counts as sent."""
    it = World(dead_letter=None)
    assert it.queues.dead_letter([(message(), REJECTED)]) == []


@pytest.mark.parametrize(("count", "sizes"), [(1, [1]), (10, [10]), (11, [10, 1]), (25, [10, 10, 5])])
def test_calls_have_ten_entries(count: int, sizes: list[int]) -> None:
    """SQS takes ten entries in a call: eleven messages are two calls, and all are told as sent."""
    it = World()
    sent = it.dead_letter(*(message(number) for number in range(count)))
    assert [len(request["Entries"]) for request in it.sqs.of("send_message_batch")] == sizes
    assert sent == {f"message-{number}" for number in range(count)}


@pytest.mark.parametrize(
    ("lengths", "sizes"),
    [
        pytest.param([60_000] * 4, [3, 1], id="four of 60 kB"),
        pytest.param([MAX_BATCH_BYTES - 512, 1], [1, 1], id="one that fills a call"),
        pytest.param([MAX_BATCH_BYTES - 1024 - 1, 1], [2], id="two that just fit"),
        pytest.param([MAX_BATCH_BYTES - 1024, 1], [1, 1], id="two that just do not fit"),
        pytest.param([MAX_BATCH_BYTES - 512, MAX_BATCH_BYTES - 1024 - 1, 1], [1, 2], id="two that just fit the next"),
        pytest.param([1_000_000, 1, 1_000_000], [1, 1, 1], id="larger than a call may be"),
    ],
)
@pytest.mark.parametrize("letter", ["x", "é"], ids=["one byte each", "two bytes each"])
def test_calls_have_a_bounded_size(lengths: list[int], sizes: list[int], letter: str) -> None:
    """The bodies of one call stay below what SQS takes, counted in bytes and with room for the attributes."""
    it = World()
    width = len(letter.encode())
    bodies = [letter * (length // width) + "x" * (length % width) for length in lengths]
    it.dead_letter(*(message(number, body=body) for number, body in enumerate(bodies)))
    assert [len(request["Entries"]) for request in it.sqs.of("send_message_batch")] == sizes
    assert [entry["MessageBody"] for entry in it.sqs.entries("send_message_batch")] == bodies


@given(lengths=st.lists(st.sampled_from([1, 2, 100, 50_000, 150_000, 250_000]), max_size=30))
def test_cutting_into_calls_loses_nothing(lengths: list[int]) -> None:
    """Cut into calls in any way, each message is sent exactly once, in order, within SQS's limits."""
    it = World()
    messages = [message(number, body="x" * length) for number, length in enumerate(lengths)]
    assert it.dead_letter(*messages) == {each.id for each in messages}
    requests = it.sqs.of("send_message_batch")
    assert [entry["MessageBody"] for entry in it.sqs.entries("send_message_batch")] == [each.body for each in messages]
    for request in requests:
        total = sum(len(entry["MessageBody"]) for entry in request["Entries"])
        assert total <= MAX_BATCH_BYTES or len(request["Entries"]) == 1


def test_empty_body_harms_no_neighbour() -> None:
    """A record without a body, which no queue can hold, is not sent, so that SQS need not refuse those beside it."""
    it = World()
    sent = it.dead_letter(message(1), message(2, body=""), message(3))
    assert sent == {"message-1", "message-3"}
    assert [entry["MessageBody"] for entry in it.sqs.entries("send_message_batch")] == ['{"number":1}', '{"number":3}']


def test_body_with_a_lone_surrogate_is_no_crash() -> None:
    """A body that no encoding can carry is left to SQS to refuse; the messages beside it are sent."""
    it = World()
    assert it.dead_letter(message(1, body="\ud800"), message(2)) == {"message-2"}


def test_partial_failure_of_a_send() -> None:
    """Of a call that SQS took in part, those count as sent that it names as successful."""
    # Given
    it = World()
    it.sqs.refused = lambda entry: {"1": "InternalError", "3": "InvalidMessageContents"}.get(entry["Id"])

    # When
    sent = it.dead_letter(*(message(number) for number in range(5)))

    # Then
    assert sent == {"message-0", "message-2", "message-4"}
    assert it.warnings == ["2 messages were not dead-lettered: InternalError, InvalidMessageContents"]


@pytest.mark.parametrize(("entry", "code"), [({"Code": "x" * 100}, "x" * 64), ({}, "unknown")], ids=["long", "none"])
def test_odd_code_of_a_failed_entry(entry: dict[str, str], code: str) -> None:
    """A code of a failed entry is told shortened, and one that is missing as unknown."""
    it = World()
    it.sqs.send_message_batch = lambda **_: {"Failed": [{"Id": "0", **entry}]}  # type: ignore[method-assign]
    assert it.dead_letter(message()) == set()
    assert it.warnings == [f"1 messages were not dead-lettered: {code}"]


def test_send_that_succeeds_for_none() -> None:
    """An answer without any success counts none as sent, whatever else it holds."""
    it = World()
    it.sqs.refused = lambda _entry: "InternalError"
    assert it.dead_letter(message(1), message(2)) == set()
    assert it.warnings == ["2 messages were not dead-lettered: InternalError"]


ERRORS = [
    pytest.param(client_error("AccessDenied", 403, "SendMessageBatch"), "SQS answered AccessDenied", id="refused"),
    pytest.param(throttled(), "SQS answered ThrottlingException", id="throttled"),
    pytest.param(ClientError({}, "SendMessageBatch"), "SQS answered unknown", id="an error without a code"),
    pytest.param(
        client_error("x" * 100, 400, "SendMessageBatch"), "SQS answered " + "x" * 64, id="an error with a long code"
    ),
    pytest.param(EndpointConnectionError(endpoint_url=CANARY), "EndpointConnectionError", id="no connection"),
    pytest.param(ReadTimeoutError(endpoint_url=CANARY), "ReadTimeoutError", id="no answer"),
    pytest.param(NoCredentialsError(), "NoCredentialsError", id="no AWS credentials"),
    pytest.param(ParamValidationError(report=CANARY), "ParamValidationError", id="a bad parameter"),
    pytest.param(ValueError(CANARY), "ValueError", id="a bad endpoint"),
]


@pytest.mark.parametrize(("error", "text"), ERRORS)
def test_send_that_fails_sends_none(error: Exception, text: str) -> None:
    """Where a call fails as a whole none of its messages counts as sent; the others' calls are not touched."""
    # Given
    it = World()
    it.sqs.on_call = lambda _operation, request: _raise(error) if len(request["Entries"]) == 10 else None

    # When
    sent = it.dead_letter(*(message(number) for number in range(11)))

    # Then
    assert sent == {"message-10"}
    assert it.warnings == [f"10 messages were not dead-lettered: {text}"]


def _raise(error: Exception) -> None:
    raise error


def test_client_that_cannot_be_made() -> None:
    """Where no client can be made (no region), nothing is raised and nothing counts as done."""

    def no_client() -> Any:
        raise NoRegionError

    it = World(client=no_client)
    assert it.dead_letter(message()) == set()
    assert it.postpone(Postponed(message(), 30)) == set()
    assert not it.queues.requeue(message(), 30)
    assert [warning.rpartition(" ")[2] for warning in it.warnings] == ["NoRegionError"] * 3


def test_defect_is_not_hidden() -> None:
    """An error that is not SQS's is not swallowed here."""
    it = World()
    it.sqs.on_call = fail_with(ZeroDivisionError())
    with pytest.raises(ZeroDivisionError):
        it.dead_letter(message())


@pytest.mark.parametrize(("group", "group_id"), [(None, "message-1"), ("learner-7", "learner-7")])
def test_fifo_dead_letter_queue(group: str | None, group_id: str) -> None:
    """A FIFO dead-letter queue keeps the group, and takes the message's id to tell repeats."""
    it = World(dead_letter=DEAD_LETTER_URL + ".fifo")
    it.dead_letter(message(group=group))
    [entry] = it.sqs.entries("send_message_batch")
    assert (entry["MessageGroupId"], entry["MessageDeduplicationId"]) == (group_id, "message-1")


# --- Backoff ------------------------------------------------------------------------------------------------------


def test_postpone_sets_the_visibility() -> None:
    """A deferred message's visibility is set at its own queue, by its receipt handle."""
    it = World()
    assert it.postpone(Postponed(message(1), 30), Postponed(message(2), 3600)) == set()
    assert it.sqs.calls == [
        (
            "change_message_visibility_batch",
            {
                "QueueUrl": QUEUE_URL,
                "Entries": [
                    {"Id": "0", "ReceiptHandle": "receipt-1", "VisibilityTimeout": 30},
                    {"Id": "1", "ReceiptHandle": "receipt-2", "VisibilityTimeout": 3600},
                ],
            },
        )
    ]
    assert it.warnings == []


def test_eleven_messages_are_two_calls() -> None:
    """The visibility of eleven messages is set in two calls, whatever their sizes."""
    it = World()
    it.postpone(*(Postponed(message(number, body="x" * 250_000), 30) for number in range(11)))
    requests = it.sqs.of("change_message_visibility_batch")
    assert [len(request["Entries"]) for request in requests] == [10, 1]
    assert [entry["ReceiptHandle"] for request in requests for entry in request["Entries"]] == [
        f"receipt-{number}" for number in range(11)
    ]


def test_postpone_goes_to_each_messages_own_queue() -> None:
    """Messages of two queues in one batch are two calls."""
    it = World()
    other = "arn:aws:sqs:eu-west-2:999999999999:other.fifo"
    it.postpone(
        *(Postponed(message(number, queue_arn=arn), 1) for number, arn in enumerate([QUEUE_ARN, other, QUEUE_ARN]))
    )
    assert {
        request["QueueUrl"]: [entry["ReceiptHandle"] for entry in request["Entries"]]
        for request in it.sqs.of("change_message_visibility_batch")
    } == {
        QUEUE_URL: ["receipt-0", "receipt-2"],
        "https://sqs.eu-west-2.amazonaws.com/999999999999/other.fifo": ["receipt-1"],
    }


@pytest.mark.parametrize("missing", ["queue_arn", "receipt_handle"])
def test_message_that_cannot_be_postponed_is_passed_over(missing: str) -> None:
    """A message without a queue or a receipt handle is left to the queue's own timeout, without a call."""
    it = World()
    it.postpone(Postponed(message(**{missing: None}), 30))
    assert it.sqs.calls == []


@pytest.mark.parametrize(("error", "text"), ERRORS)
def test_postpone_that_fails_changes_nothing(error: Exception, text: str) -> None:
    """Best effort: where SQS fails, that is told in our own words and nothing is raised."""
    it = World()
    it.sqs.on_call = fail_with(error)
    assert it.postpone(Postponed(message(), 30)) == set()
    assert it.warnings == [f"the backoff of 1 messages was not set: {text}"]


def test_partial_failure_of_a_postponement() -> None:
    """Entries that SQS fails inside its answer are told by their codes, each once."""
    it = World()
    it.sqs.refused = lambda entry: None if entry["Id"] == "0" else "ReceiptHandleIsInvalid"
    it.postpone(*(Postponed(message(number), 30) for number in range(3)))
    assert it.warnings == ["the backoff of 2 messages was not set: ReceiptHandleIsInvalid"]


def test_queue_arn_that_is_none_is_told() -> None:
    """A message whose queue has no ARN in SQS's form is left to the queue's own timeout."""
    it = World()
    it.postpone(Postponed(message(queue_arn="queue"), 30))
    assert it.sqs.calls == []
    assert it.warnings == ["the backoff of 1 messages was not set: ValueError"]


@pytest.mark.parametrize(
    ("arn", "endpoint", "url"),
    [
        pytest.param(QUEUE_ARN, "https://sqs.eu-west-2.amazonaws.com", QUEUE_URL, id="aws"),
        pytest.param(
            "arn:aws-cn:sqs:cn-north-1:123456789012:q",
            "https://sqs.cn-north-1.amazonaws.com.cn",
            "https://sqs.cn-north-1.amazonaws.com.cn/123456789012/q",
            id="aws-cn",
        ),
        pytest.param(
            "arn:aws-us-gov:sqs:us-gov-west-1:123456789012:q.fifo",
            "https://sqs.us-gov-west-1.amazonaws.com",
            "https://sqs.us-gov-west-1.amazonaws.com/123456789012/q.fifo",
            id="aws-us-gov, FIFO",
        ),
        pytest.param(
            "arn:aws:sqs:us-east-1:000000000000:q",
            "http://127.0.0.1:4566",
            "http://127.0.0.1:4566/000000000000/q",
            id="AWS_ENDPOINT_URL",
        ),
        pytest.param(
            "arn:aws:sqs:us-east-1:000000000000:q",
            "http://127.0.0.1:4566/",
            "http://127.0.0.1:4566/000000000000/q",
            id="AWS_ENDPOINT_URL with a slash",
        ),
    ],
)
def test_queue_url(arn: str, endpoint: str, url: str) -> None:
    """A queue's URL follows from its ARN and the endpoint in use, in every partition and at an emulator."""
    assert queue_url(arn, endpoint) == url


@pytest.mark.parametrize("arn", ["", "queue", "arn:aws:sqs:eu-west-2:completions", "a:b:c:d:e:f:g"])
def test_queue_url_of_what_is_no_arn(arn: str) -> None:
    """What has not the form of a queue's ARN has no URL."""
    with pytest.raises(ValueError, match="values to unpack"):
        queue_url(arn, "https://sqs.eu-west-2.amazonaws.com")


# --- The retry queue ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("seconds", "delay"), [(0, 0), (30, 30), (900, 900), (901, 900), (43_200, 900)])
def test_requeue_delays_up_to_what_sqs_allows(seconds: int, delay: int) -> None:
    """The event goes to the retry queue as it came, delayed by its backoff, by a quarter of an hour at most."""
    it = World()
    assert it.queues.requeue(message(), seconds)
    assert it.sqs.calls == [
        ("send_message", {"QueueUrl": RETRY_URL, "MessageBody": '{"number":1}', "DelaySeconds": delay})
    ]
    assert delay <= MAX_DELAY_SECONDS


def test_requeue_to_a_fifo_queue() -> None:
    """A FIFO retry queue takes no delay for one message: the event's id is its group and tells repeats."""
    it = World(retry=RETRY_URL + ".fifo")
    assert it.queues.requeue(message(), 30)
    assert it.sqs.calls == [
        (
            "send_message",
            {
                "QueueUrl": RETRY_URL + ".fifo",
                "MessageBody": '{"number":1}',
                "MessageGroupId": "message-1",
                "MessageDeduplicationId": "message-1",
            },
        )
    ]


def test_requeue_without_a_queue() -> None:
    """Without a retry queue nothing is sent, and the caller is told so."""
    it = World(retry=None)
    assert it.queues.requeue(message(), 30) is False
    assert it.sqs.calls == it.warnings == []


@pytest.mark.parametrize("suffix", ["", ".fifo"], ids=["standard", "fifo"])
@pytest.mark.parametrize(("error", "text"), ERRORS)
def test_requeue_that_fails(error: Exception, text: str, suffix: str) -> None:
    """Where SQS fails, the caller is told that the event stands nowhere."""
    it = World(retry=RETRY_URL + suffix)
    it.sqs.on_call = fail_with(error)
    assert it.queues.requeue(message(), 30) is False
    assert it.warnings == [f"the event was not handed to the retry queue: {text}"]


def test_making_queues_makes_no_client() -> None:
    """The client is made when it is first needed, and not before."""

    def no_client() -> Any:
        raise AssertionError("a client")

    it = World(client=no_client)
    assert it.queues.postpone([]) == it.queues.dead_letter([]) == []
    # Calls are given, not made.
    assert len(it.queues.dead_letter([(message(), REJECTED)])) == 1
