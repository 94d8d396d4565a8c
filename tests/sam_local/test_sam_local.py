"""`sam build`, `sam local invoke` with every event file, and `sam local start-lambda` with boto3."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import boto3
import pytest
from botocore import UNSIGNED
from botocore.config import Config

from tests.sam_local.conftest import REGION, invoke, outcomes_in
from tests.support.contract import assert_request_matches_contract
from tests.support.event_files import EVENTS, EXPECTED

if TYPE_CHECKING:
    from pathlib import Path

    from sandbox.sam_local import Neighbours
    from sandbox.thrive_api import StandIn

DEAD_LETTERS = "thrive-completion-sync-local-dead-letters"


def recorded(api: StandIn) -> set[tuple[str, ...]]:
    return {tuple(entry.key) for entry in api.ledger}


def dead_letters(neighbours: Neighbours) -> set[tuple[str, str]]:
    """Take all messages from the dead-letter queue; return their source's id and the reason."""
    sqs = boto3.session.Session("local", "local").client(
        "sqs", region_name=REGION, endpoint_url=neighbours.emulator.url, config=Config(proxies={})
    )
    url = sqs.get_queue_url(QueueName=DEAD_LETTERS)["QueueUrl"]
    found = set()
    while messages := sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10, MessageAttributeNames=["All"]).get(
        "Messages", []
    ):
        for message in messages:
            attributes = {name: value["StringValue"] for name, value in message["MessageAttributes"].items()}
            found.add((attributes["sourceMessageId"], attributes["reason"]))
            sqs.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])
    return found


@pytest.mark.parametrize("name", sorted(EXPECTED))
def test_sam_local_invoke_does_with_every_event_file_what_its_readme_says(name: str, neighbours: Neighbours) -> None:
    """`sam local invoke -e` of each file of events/ answers, logs, sends and dead-letters what is written beside it."""
    expected = EXPECTED[name]

    answer, outcomes = invoke(EVENTS / name, neighbours.parameter_overrides)

    if expected.error:
        assert answer["errorType"] == expected.error
    elif name.startswith("sqs"):
        assert answer == {"batchItemFailures": []}
    else:
        [(outcome, reason)] = expected.outcomes.values()
        assert (answer["outcome"], answer.get("reason")) == (outcome, reason)
        assert ("statementId" in answer) == (outcome == "created")
    assert outcomes == dict(expected.outcomes)
    assert recorded(neighbours.api) == set(expected.sent)
    rejected = {(name, reason) for name, (outcome, reason) in expected.outcomes.items() if outcome == "rejected"}
    assert dead_letters(neighbours) == rejected
    for arrival in neighbours.api.requests:
        assert_request_matches_contract(arrival.method, arrival.path, arrival.headers, arrival.body)


def test_a_boto3_client_of_start_lambda_finds_the_function_warm(
    neighbours: Neighbours, start_lambda: tuple[str, Path]
) -> None:
    """A batch and a direct event are recorded by one warm environment, with one token."""
    url, log = start_lambda
    client: Any = boto3.session.Session().client(
        "lambda", region_name=REGION, endpoint_url=url, config=Config(signature_version=UNSIGNED, proxies={})
    )

    def call(name: str) -> Any:
        answer = client.invoke(FunctionName="CompletionFunction", Payload=(EVENTS / name).read_bytes())
        return json.load(answer["Payload"])

    assert call("sqs-plain-batch.json") == {"batchItemFailures": []}
    assert call("eventbridge-direct-without-completed-at.json")["outcome"] == "created"
    # SAM sets no FunctionError for it, as Lambda does: it does not expect the requestId that the runtime adds.
    assert call("unsupported-s3-put.json")["errorType"] == "UnsupportedEventError"

    sent = [EXPECTED[f"{name}.json"].sent for name in ("sqs-plain-batch", "eventbridge-direct-without-completed-at")]
    assert recorded(neighbours.api) == set().union(*sent)
    assert len(neighbours.api.requests.of("token")) == 1
    assert len(outcomes_in(log.read_text())) == 4
