"""The calls to SQS against boto3's own checks and an SQS that keeps what it is sent."""

import json

import boto3
import pytest
from moto import mock_aws

from completion_sync.events import Message, read_sqs_records
from completion_sync.outcomes import Rejected
from completion_sync.queues import Postponed, Queues
from sandbox.pipeline.batches import record_of
from tests.support.fakes import FakeClock, completion, eventbridge_event

REGION = "eu-west-2"
SOURCE_ARN = f"arn:aws:sqs:{REGION}:123456789012:completions"


@pytest.fixture
def sqs(monkeypatch):
    """Yield a client of an SQS in this process, without any queue."""
    for variable in ("AWS_PROFILE", "AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_SQS"):
        monkeypatch.delenv(variable, raising=False)
    with mock_aws():
        client = boto3.client("sqs", region_name=REGION)
        yield client
        client.close()


def create_queue(sqs, name, **attributes):
    """Create a queue; return its URL and its ARN."""
    url = sqs.create_queue(QueueName=name, Attributes=attributes)["QueueUrl"]
    arn = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    return url, arn


def receive(sqs, url):
    """Receive all that is visible."""
    messages = []
    while some := sqs.receive_message(
        QueueUrl=url, MaxNumberOfMessages=10, MessageAttributeNames=["All"], MessageSystemAttributeNames=["All"]
    ).get("Messages"):
        messages += some
    return messages


def queues(sqs, warnings, *, dead_letter=None, retry=None):
    return Queues(lambda: sqs, dead_letter, retry, FakeClock(), warnings.append)


def test_postponed_messages_stay_away_and_those_postponed_by_zero_seconds_are_back_at_once(sqs):
    url, arn = create_queue(sqs, "completions", VisibilityTimeout="30")
    for number in range(12):
        sqs.send_message(QueueUrl=url, MessageBody=json.dumps({"number": number}))
    messages = read_sqs_records({"Records": [record_of(message, arn) for message in receive(sqs, url)]})
    unknown = Message("2", "{}", completion(), receipt_handle="unknown", queue_arn=arn)
    seconds = [3600] * 11 + [0]
    postponed = [Postponed(message, wait) for message, wait in zip(messages, seconds, strict=True)]
    warnings = []
    calls = queues(sqs, warnings).postpone([*postponed, Postponed(unknown, 60)])
    for call in calls:
        call()
    assert len(calls) == 2
    assert [message["MessageId"] for message in receive(sqs, url)] == [messages[-1].id]
    # The handle that SQS does not know harms no other message of its call.
    [warning] = warnings
    assert warning.startswith("the backoff of 1 messages was not set: ")


def test_dead_letters_arrive_with_body_and_attributes(sqs):
    url, _ = create_queue(sqs, "dead-letters")
    messages = [
        Message(
            f"m-{number}", f'{{"name": "Ünïcode {number}"}}', completion(), 2, None, SOURCE_ARN, None, 1_609_491_600_123
        )
        for number in range(11)
    ]
    warnings = []
    rejected = [(each, Rejected("refused", "é" * 300, 422)) for each in messages]
    sent = {each for call in queues(sqs, warnings, dead_letter=url).dead_letter(rejected) for each in call()}
    assert (warnings, sent) == ([], {message.id for message in messages})
    received = receive(sqs, url)
    assert sorted(message["Body"] for message in received) == sorted(message.body for message in messages)
    for message in received:
        attributes = {name: attribute["StringValue"] for name, attribute in message["MessageAttributes"].items()}
        assert attributes.pop("sourceMessageId") in sent
        assert attributes == {
            "reason": "refused",
            "detail": "é" * 256,
            "status": "422",
            "sourceQueue": SOURCE_ARN,
            "receiveCount": "2",
            "firstReceivedAt": "2021-01-01T09:00:00.123Z",
            "failedAt": "2027-01-15T08:00:00.000Z",
        }


def test_fifo_dead_letter_queue_keeps_groups_and_drops_repeats(sqs):
    url, _ = create_queue(sqs, "dead-letters.fifo", FifoQueue="true")
    message = Message("message-1", "{}", completion(), group="learner-7")
    warnings = []
    for _ in range(2):
        [call] = queues(sqs, warnings, dead_letter=url).dead_letter([(message, Rejected("refused", "no", 400))])
        assert call() == {"message-1"}
    [received] = receive(sqs, url)
    assert received["Attributes"]["MessageGroupId"] == "learner-7"
    assert warnings == []


@pytest.mark.parametrize("attributes", [{}, {"FifoQueue": "true"}], ids=["standard", "fifo"])
def test_requeued_event_is_read_again_as_it_was(sqs, attributes):
    url, arn = create_queue(sqs, "retries" + ".fifo" * bool(attributes), **attributes)
    event = eventbridge_event({"userId": "u", "contentId": "c"})
    warnings = []
    assert queues(sqs, warnings, retry=url).requeue(Message(event["id"], json.dumps(event), completion()), 0)
    [received] = receive(sqs, url)
    [again] = read_sqs_records({"Records": [record_of(received, arn)]})
    assert again.content == completion(userId="u", contentId="c", completedAt=event["time"])
    assert warnings == []


def test_requeued_event_is_delayed(sqs):
    url, _ = create_queue(sqs, "retries")
    assert queues(sqs, [], retry=url).requeue(Message("1", "{}", completion()), 43_200)
    assert receive(sqs, url) == []
    attributes = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["ApproximateNumberOfMessagesDelayed"])
    assert attributes["Attributes"]["ApproximateNumberOfMessagesDelayed"] == "1"
