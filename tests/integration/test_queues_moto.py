"""The calls to SQS against boto3's own checks and an SQS that keeps what it is sent."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import boto3
import pytest
from moto import mock_aws

from completion_sync.events import Message, read_sqs_records
from completion_sync.outcomes import Rejected
from completion_sync.queues import Postponed, Queues
from sandbox.pipeline.batches import record_of
from tests.support.fakes import FakeClock, completion, eventbridge_event

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mypy_boto3_sqs import SQSClient
    from mypy_boto3_sqs.type_defs import MessageTypeDef

REGION = "eu-west-2"


@pytest.fixture
def sqs(monkeypatch: pytest.MonkeyPatch) -> Iterator[SQSClient]:
    """Yield a client of an SQS in process, without any queue."""
    for variable in ("AWS_PROFILE", "AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_SQS"):
        monkeypatch.delenv(variable, raising=False)
    with mock_aws():
        client = boto3.client("sqs", region_name=REGION)
        yield client
        client.close()


def make_queue(sqs: SQSClient, name: str, **attributes: str) -> tuple[str, str]:
    """Make a queue; give its URL and its ARN."""
    url = sqs.create_queue(QueueName=name, Attributes=attributes)["QueueUrl"]  # type: ignore[arg-type]
    arn = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    return url, arn


def receive(sqs: SQSClient, url: str) -> list[MessageTypeDef]:
    """Receive all that is visible."""
    messages: list[MessageTypeDef] = []
    while some := sqs.receive_message(
        QueueUrl=url, MaxNumberOfMessages=10, MessageAttributeNames=["All"], MessageSystemAttributeNames=["All"]
    ).get("Messages"):
        messages += some
    return messages


def queues(sqs: SQSClient, warnings: list[str], *, dead_letter: str | None = None, retry: str | None = None) -> Queues:
    """Give queues on the client."""
    return Queues(lambda: sqs, dead_letter, retry, FakeClock(), warnings.append)


def text_attributes(message: MessageTypeDef) -> dict[str, str]:
    """Give a received message's attributes, all of which are strings."""
    assert {attribute["DataType"] for attribute in message["MessageAttributes"].values()} == {"String"}
    return {name: attribute["StringValue"] for name, attribute in message["MessageAttributes"].items()}


def test_eleven_received_messages_stay_away_for_their_backoff(sqs: SQSClient) -> None:
    """Eleven messages, taken from a queue and postponed, are invisible; those postponed by nought are back at once."""
    # Given
    url, arn = make_queue(sqs, "completions", VisibilityTimeout="30")
    for number in range(12):
        sqs.send_message(QueueUrl=url, MessageBody=json.dumps({"number": number}))
    messages = read_sqs_records({"Records": [record_of(message, arn) for message in receive(sqs, url)]})
    assert len(messages) == 12
    warnings: list[str] = []

    # When
    seconds = [3600] * 11 + [0]
    postponed = [Postponed(message, wait) for message, wait in zip(messages, seconds, strict=True)]
    calls = queues(sqs, warnings).postpone(postponed)
    for call in calls:
        call()

    # Then
    assert len(calls) == 2
    assert warnings == []
    assert [message["MessageId"] for message in receive(sqs, url)] == [messages[-1].id]


def test_handle_that_is_no_longer_good(sqs: SQSClient) -> None:
    """A receipt handle that SQS does not know is told, and harms no other."""
    # Given
    url, arn = make_queue(sqs, "completions", VisibilityTimeout="0")
    sqs.send_message(QueueUrl=url, MessageBody="{}")
    received = sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=1)["Messages"][0]
    good = Message("1", "{}", completion(), receipt_handle=received["ReceiptHandle"], queue_arn=arn)
    bad = Message("2", "{}", completion(), receipt_handle="unknown", queue_arn=arn)
    warnings: list[str] = []

    # When
    [call] = queues(sqs, warnings).postpone([Postponed(bad, 60), Postponed(good, 60)])
    call()

    # Then
    assert len(warnings) == 1
    assert receive(sqs, url) == []


def test_dead_letters_arrive_with_body_and_attributes(sqs: SQSClient) -> None:
    """Eleven dead letters stand in the queue, bodies unchanged, with attributes that SQS accepts."""
    # Given
    url, _ = make_queue(sqs, "dead-letters")
    bodies = [f'{{"name": "Ünïcode {number}"}}' for number in range(11)]
    messages = [
        Message(
            f"message-{number}",
            body,
            completion(),
            receive_count=2,
            queue_arn=f"arn:aws:sqs:{REGION}:123456789012:completions",
            first_received=1_609_491_600_123,
        )
        for number, body in enumerate(bodies)
    ]
    warnings: list[str] = []

    # When
    calls = queues(sqs, warnings, dead_letter=url).dead_letter(
        [(each, Rejected("refused", "é" * 300, 422)) for each in messages]
    )
    sent = {identifier for call in calls for identifier in call()}

    # Then
    assert warnings == []
    assert sent == {message.id for message in messages}
    received = receive(sqs, url)
    assert sorted(message["Body"] for message in received) == sorted(bodies)
    for message in received:
        attributes = text_attributes(message)
        assert attributes.pop("sourceMessageId") in sent
        assert attributes == {
            "reason": "refused",
            "detail": "é" * 256,
            "status": "422",
            "sourceQueue": f"arn:aws:sqs:{REGION}:123456789012:completions",
            "receiveCount": "2",
            "firstReceivedAt": "2021-01-01T09:00:00.123Z",
            "failedAt": "2027-01-15T08:00:00.000Z",
        }


def test_no_dead_letter_queue_of_that_name(sqs: SQSClient) -> None:
    """A dead-letter queue that does not exist takes nothing, and SQS's code is told."""
    warnings: list[str] = []
    url = f"https://sqs.{REGION}.amazonaws.com/123456789012/absent"
    [call] = queues(sqs, warnings, dead_letter=url).dead_letter([(Message("1", "{}", completion()), REJECTED)])
    assert call() == set()
    assert len(warnings) == 1
    assert "NonExistentQueue" in warnings[0]


REJECTED = Rejected("refused", "no", 400)


def test_fifo_dead_letter_queue_keeps_groups_and_drops_repeats(sqs: SQSClient) -> None:
    """A message that is dead-lettered twice stands once in a FIFO dead-letter queue, in its group."""
    # Given
    url, _ = make_queue(sqs, "dead-letters.fifo", FifoQueue="true")
    message = Message("message-1", "{}", completion(), group="learner-7")
    warnings: list[str] = []

    # When
    for _ in range(2):
        [call] = queues(sqs, warnings, dead_letter=url).dead_letter([(message, REJECTED)])
        assert call() == {"message-1"}

    # Then
    [received] = receive(sqs, url)
    assert received["Attributes"]["MessageGroupId"] == "learner-7"
    assert warnings == []


@pytest.mark.parametrize("fifo", [False, True], ids=["standard", "fifo"])
def test_requeued_event_is_read_again_as_it_was(sqs: SQSClient, fifo: bool) -> None:  # noqa: FBT001
    """A direct event that went through the retry queue holds the same completion, time of the envelope and all."""
    # Given
    url, arn = make_queue(sqs, "retries.fifo", FifoQueue="true") if fifo else make_queue(sqs, "retries")
    event: dict[str, Any] = eventbridge_event({"userId": "u", "contentId": "c"})
    message = Message(event["id"], json.dumps(event), completion())
    warnings: list[str] = []

    # When
    assert queues(sqs, warnings, retry=url).requeue(message, 0)

    # Then
    [received] = receive(sqs, url)
    [again] = read_sqs_records({"Records": [record_of(received, arn)]})
    assert again.content == completion(userId="u", contentId="c", completedAt=event["time"])
    assert warnings == []


def test_requeued_event_is_delayed(sqs: SQSClient) -> None:
    """A delay keeps the event away for the time being."""
    url, _ = make_queue(sqs, "retries")
    assert queues(sqs, [], retry=url).requeue(Message("1", "{}", completion()), 43_200)
    assert receive(sqs, url) == []
    attributes = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["ApproximateNumberOfMessagesDelayed"])
    assert attributes["Attributes"]["ApproximateNumberOfMessagesDelayed"] == "1"
