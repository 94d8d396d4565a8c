"""What is asked of SQS, to the letter, and what follows when SQS refuses."""

from dataclasses import replace

import pytest
from botocore.exceptions import (
    ClientError,
    EndpointConnectionError,
    NoCredentialsError,
    NoRegionError,
    ParamValidationError,
    ReadTimeoutError,
)

from completion_sync.errors import InvalidMessageError
from completion_sync.events import Message
from completion_sync.outcomes import Rejected
from completion_sync.queues import MAX_BATCH_BYTES, Postponed, Queues, queue_url
from tests.support.fakes import CANARY, QUEUE_ARN, FakeClock, client_error, completion
from tests.support.sqs import DEAD_LETTER_URL, ENDPOINT, RETRY_URL, FakeSqs, fail_with, throttled

QUEUE_URL = f"{ENDPOINT}/123456789012/completions"
NOW = 1_800_000_000.25  # 2027-01-15T08:00:00.250Z
REJECTED = Rejected("refused", "Thrive answered 422: no such content", 422)


def message(number=1, **changes):
    """Return a message of the source queue."""
    body, receipt = f'{{"number":{number}}}', f"receipt-{number}"
    whole = Message(f"message-{number}", body, completion(), 3, receipt, QUEUE_ARN, None, 1_609_491_600_123)
    return replace(whole, **changes)


class World:
    """Queues on a fake SQS."""

    def __init__(self, *, dead_letter=DEAD_LETTER_URL, retry=RETRY_URL, client=None):
        self.sqs = FakeSqs()
        self.warnings = []
        self.queues = Queues(client or self.sqs.client, dead_letter, retry, FakeClock(wall=NOW), self.warnings.append)

    def dead_letter(self, *messages, outcome=REJECTED):
        """Dead-letter messages; return the ids of those that are there."""
        return run(self.queues.dead_letter([(each, outcome) for each in messages]))

    def postpone(self, *postponed):
        return run(self.queues.postpone(postponed))

    @property
    def sizes(self):
        """The number of entries of each batch call."""
        return [len(request["Entries"]) for _, request in self.sqs.calls]

    @property
    def bodies(self):
        return [entry["MessageBody"] for entry in self.sqs.entries("send_message_batch")]


def run(calls):
    return {identifier for call in calls for identifier in call()}


def attributes_of(it):
    """Return the attributes of the only dead letter, all of which are strings."""
    [entry] = it.sqs.entries("send_message_batch")
    assert {attribute["DataType"] for attribute in entry["MessageAttributes"].values()} == {"String"}
    return {name: attribute["StringValue"] for name, attribute in entry["MessageAttributes"].items()}


# --- Dead letters -------------------------------------------------------------------------------------------------


def test_dead_letter_is_the_unchanged_body_with_the_reason():
    it = World()
    assert it.dead_letter(message()) == {"message-1"}
    [request] = it.sqs.of("send_message_batch")
    assert request["QueueUrl"] == DEAD_LETTER_URL
    [entry] = request["Entries"]
    assert set(entry) == {"Id", "MessageBody", "MessageAttributes"}
    assert entry["MessageBody"] == '{"number":1}'
    assert attributes_of(it) == {
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


def test_attribute_without_a_value_is_left_out_as_sqs_refuses_empty_ones():
    it = World()
    event = Message("event-1", "{}", InvalidMessageError("x"))
    it.dead_letter(event, outcome=Rejected("invalid_message", "userId: must"))
    assert attributes_of(it) == {
        "reason": "invalid_message",
        "detail": "userId: must",
        "sourceMessageId": "event-1",
        "failedAt": "2027-01-15T08:00:00.250Z",
    }
    bare = World()
    bare.dead_letter(replace(event, id=""), outcome=Rejected("refused", ""))
    assert set(attributes_of(bare)) == {"reason", "failedAt"}


def test_first_receive_at_the_epoch_is_a_moment():
    it = World()
    it.dead_letter(message(first_received=0))
    assert attributes_of(it)["firstReceivedAt"] == "1970-01-01T00:00:00.000Z"


@pytest.mark.parametrize(("length", "kept"), [(255, 255), (256, 256), (257, 256), (10_000, 256)])
def test_detail_has_at_most_256_characters(length, kept):
    it = World()
    it.dead_letter(message(), outcome=Rejected("refused", "d" * length, 400))
    assert attributes_of(it)["detail"] == "d" * kept


def test_without_a_dead_letter_queue_there_are_no_calls():
    assert World(dead_letter=None).queues.dead_letter([(message(), REJECTED)]) == []


@pytest.mark.parametrize(("count", "sizes"), [(1, [1]), (10, [10]), (11, [10, 1]), (25, [10, 10, 5])])
def test_calls_have_at_most_ten_entries(count, sizes):
    it, other = World(), World()
    messages = [message(number) for number in range(count)]
    assert it.dead_letter(*messages) == {each.id for each in messages}
    assert it.sizes == sizes
    # Visibilities hold no bodies, so they are not split by size.
    other.postpone(*(Postponed(replace(each, body="x" * 250_000), 30) for each in messages))
    assert other.sizes == sizes


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
def test_calls_have_a_bounded_size_in_bytes(lengths, sizes, letter):
    it = World()
    width = len(letter.encode())
    bodies = [letter * (length // width) + "x" * (length % width) for length in lengths]
    it.dead_letter(*(message(number, body=body) for number, body in enumerate(bodies)))
    assert (it.sizes, it.bodies) == (sizes, bodies)


def test_empty_body_which_no_queue_can_hold_is_not_sent_and_harms_no_neighbour():
    it = World()
    assert it.dead_letter(message(1), message(2, body=""), message(3)) == {"message-1", "message-3"}
    assert it.bodies == ['{"number":1}', '{"number":3}']


def test_body_with_a_lone_surrogate_is_left_to_sqs_to_refuse():
    it = World()
    it.sqs.refused = lambda entry: "InvalidMessageContents" if entry["MessageBody"] == "\ud800" else None
    assert it.dead_letter(message(1, body="\ud800"), message(2)) == {"message-2"}


def test_only_entries_that_sqs_names_as_successful_count_as_sent():
    it = World()
    it.sqs.refused = lambda entry: {"1": "InternalError", "3": "InvalidMessageContents"}.get(entry["Id"])
    assert it.dead_letter(*(message(number) for number in range(5))) == {"message-0", "message-2", "message-4"}
    it.sqs.refused = lambda _entry: "InternalError"
    assert it.dead_letter(message(1), message(2)) == set()
    assert it.warnings == [
        "2 messages were not dead-lettered: InternalError, InvalidMessageContents",
        "2 messages were not dead-lettered: InternalError",
    ]


@pytest.mark.parametrize(("entry", "code"), [({"Code": "x" * 100}, "x" * 64), ({}, "unknown")], ids=["long", "none"])
def test_unusual_code_of_a_failed_entry_is_shortened_or_unknown(entry, code):
    it = World()
    it.sqs.send_message_batch = lambda **_: {"Failed": [{"Id": "0", **entry}]}
    assert it.dead_letter(message()) == set()
    assert it.warnings == [f"1 messages were not dead-lettered: {code}"]


@pytest.mark.parametrize(("group", "group_id"), [(None, "message-1"), ("learner-7", "learner-7")])
def test_fifo_dead_letter_queue_keeps_the_group_and_recognises_repeats_by_the_id(group, group_id):
    it = World(dead_letter=DEAD_LETTER_URL + ".fifo")
    it.dead_letter(message(group=group))
    [entry] = it.sqs.entries("send_message_batch")
    assert (entry["MessageGroupId"], entry["MessageDeduplicationId"]) == (group_id, "message-1")


# --- Failures -----------------------------------------------------------------------------------------------------

ERRORS = [
    (client_error("AccessDenied", 403, "SendMessageBatch"), "SQS answered AccessDenied"),
    (throttled(), "SQS answered ThrottlingException"),
    (ClientError({}, "SendMessageBatch"), "SQS answered unknown"),
    (client_error("x" * 100, 400, "SendMessageBatch"), "SQS answered " + "x" * 64),
    (EndpointConnectionError(endpoint_url=CANARY), "EndpointConnectionError"),
    (ReadTimeoutError(endpoint_url=CANARY), "ReadTimeoutError"),
    (NoCredentialsError(), "NoCredentialsError"),
    (ParamValidationError(report=CANARY), "ParamValidationError"),
    (ValueError(CANARY), "ValueError"),
]


@pytest.mark.parametrize(("error", "text"), ERRORS, ids=[text[:40] for _, text in ERRORS])
def test_call_that_fails_settles_nothing_and_is_logged_in_our_own_words(error, text):
    it = World()

    def fail_the_first_ten(_operation, request):
        if len(request.get("Entries", range(10))) == 10:
            raise error

    it.sqs.on_call = fail_the_first_ten
    assert it.dead_letter(*(message(number) for number in range(11))) == {"message-10"}
    it.sqs.on_call = fail_with(error)
    assert it.postpone(Postponed(message(), 30)) == set()
    fifo = World(retry=RETRY_URL + ".fifo")
    fifo.sqs.on_call = fail_with(error)
    assert [it.queues.requeue(message(), 30), fifo.queues.requeue(message(), 30)] == [False, False]
    assert it.warnings + fifo.warnings == [
        f"10 messages were not dead-lettered: {text}",
        f"the backoff of 1 messages was not set: {text}",
        f"the event was not sent to the retry queue: {text}",
        f"the event was not sent to the retry queue: {text}",
    ]


def test_client_that_cannot_be_created_settles_nothing():
    def no_client():
        raise NoRegionError

    it = World(client=no_client)
    assert it.dead_letter(message()) == it.postpone(Postponed(message(), 30)) == set()
    assert not it.queues.requeue(message(), 30)
    assert [warning.rpartition(" ")[2] for warning in it.warnings] == ["NoRegionError"] * 3


def test_defect_is_not_hidden():
    it = World()
    it.sqs.on_call = fail_with(ZeroDivisionError())
    with pytest.raises(ZeroDivisionError):
        it.dead_letter(message())


def test_client_is_created_by_the_first_call_and_not_before():
    def no_client():
        raise AssertionError("a client")

    it = World(client=no_client)
    assert it.queues.postpone([]) == it.queues.dead_letter([]) == []
    assert len(it.queues.dead_letter([(message(), REJECTED)])) == 1


# --- The backoff --------------------------------------------------------------------------------------------------


def test_postpone_sets_the_visibility_of_each_message_at_its_own_queue():
    it = World()
    other = "arn:aws:sqs:eu-west-2:999999999999:other.fifo"
    postponed = [Postponed(message(number, queue_arn=arn), 30 * number) for number, arn in [(1, QUEUE_ARN), (2, other)]]
    assert it.postpone(*postponed, Postponed(message(3), 3600)) == set()
    assert it.warnings == []
    assert it.sqs.of("change_message_visibility_batch") == [
        {
            "QueueUrl": QUEUE_URL,
            "Entries": [
                {"Id": "0", "ReceiptHandle": "receipt-1", "VisibilityTimeout": 30},
                {"Id": "1", "ReceiptHandle": "receipt-3", "VisibilityTimeout": 3600},
            ],
        },
        {
            "QueueUrl": f"{ENDPOINT}/999999999999/other.fifo",
            "Entries": [{"Id": "0", "ReceiptHandle": "receipt-2", "VisibilityTimeout": 60}],
        },
    ]


@pytest.mark.parametrize("missing", ["queue_arn", "receipt_handle"])
def test_message_that_cannot_be_postponed_is_left_to_the_queues_own_timeout(missing):
    it = World()
    it.postpone(Postponed(replace(message(), **{missing: None}), 30))
    assert (it.sqs.calls, it.warnings) == ([], [])
    it.postpone(Postponed(message(queue_arn="queue"), 30))
    assert it.sqs.calls == []
    assert it.warnings == ["the backoff of 1 messages was not set: ValueError"]


def test_entries_that_sqs_failed_are_logged_by_their_codes():
    it = World()
    it.sqs.refused = lambda entry: None if entry["Id"] == "0" else "ReceiptHandleIsInvalid"
    it.postpone(*(Postponed(message(number), 30) for number in range(3)))
    assert it.warnings == ["the backoff of 2 messages was not set: ReceiptHandleIsInvalid"]


@pytest.mark.parametrize(
    ("arn", "endpoint", "url"),
    [
        (QUEUE_ARN, ENDPOINT, QUEUE_URL),
        (
            "arn:aws-cn:sqs:cn-north-1:123456789012:q",
            "https://sqs.cn-north-1.amazonaws.com.cn",
            "https://sqs.cn-north-1.amazonaws.com.cn/123456789012/q",
        ),
        ("arn:aws:sqs:us-east-1:000000000000:q", "http://127.0.0.1:4566", "http://127.0.0.1:4566/000000000000/q"),
        ("arn:aws:sqs:us-east-1:000000000000:q", "http://127.0.0.1:4566/", "http://127.0.0.1:4566/000000000000/q"),
    ],
)
def test_url_of_a_queue_follows_from_its_arn_and_the_endpoint(arn, endpoint, url):
    assert queue_url(arn, endpoint) == url


@pytest.mark.parametrize("arn", ["", "queue", "arn:aws:sqs:eu-west-2:completions", "a:b:c:d:e:f:g"])
def test_what_is_no_arn_of_a_queue_has_no_url(arn):
    with pytest.raises(ValueError, match="values to unpack"):
        queue_url(arn, ENDPOINT)


# --- The retry queue ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("seconds", "delay"), [(0, 0), (30, 30), (900, 900), (901, 900), (43_200, 900)])
def test_event_is_requeued_as_it_came_and_delayed_as_long_as_sqs_allows(seconds, delay):
    it = World()
    assert it.queues.requeue(message(), seconds) is True
    request = {"QueueUrl": RETRY_URL, "MessageBody": '{"number":1}', "DelaySeconds": delay}
    assert it.sqs.calls == [("send_message", request)]


def test_fifo_retry_queue_takes_no_delay_and_recognises_repeats_by_the_id():
    it = World(retry=RETRY_URL + ".fifo")
    assert it.queues.requeue(message(), 30) is True
    ids = {"MessageGroupId": "message-1", "MessageDeduplicationId": "message-1"}
    request = {"QueueUrl": RETRY_URL + ".fifo", "MessageBody": '{"number":1}', **ids}
    assert it.sqs.calls == [("send_message", request)]


def test_without_a_retry_queue_nothing_is_sent():
    it = World(retry=None)
    assert it.queues.requeue(message(), 30) is False
    assert (it.sqs.calls, it.warnings) == ([], [])
