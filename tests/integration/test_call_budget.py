"""Calls per record: what a healthy batch costs Thrive and AWS, counted, never timed."""

import itertools
import json
from types import SimpleNamespace

import pytest

from completion_sync import bootstrap, handler
from tests.support.fakes import FakeSecretsManager

_numbers = itertools.count(1)


class NoSqs:
    """Counts the attempts to use SQS."""

    def __init__(self):
        self.calls = 0

    def __call__(self):
        """Count one, where a client is asked for."""
        self.calls += 1
        raise AssertionError("a healthy batch needs no call to SQS")


@pytest.fixture
def function(thrive, monkeypatch):
    """Give a function that serves batches of new completions, with the services that it calls."""
    secrets = FakeSecretsManager(
        json.dumps({"tenantId": thrive.tenant_id, "clientId": thrive.client_id, "clientSecret": thrive.client_secret})
    )
    sqs = NoSqs()
    settings = bootstrap.Settings.from_env({"THRIVE_SECRET_ID": "thrive", "THRIVE_BASE_URL": thrive.url})
    application = bootstrap.build(settings, secrets=secrets.client, sqs=sqs)
    monkeypatch.setattr(bootstrap, "application", lambda: application)
    context = SimpleNamespace(aws_request_id="request", get_remaining_time_in_millis=lambda: 30_000)

    def serve(size):
        return handler.lambda_handler({"Records": [record(next(_numbers)) for _ in range(size)]}, context)

    yield SimpleNamespace(serve=serve, thrive=thrive, secrets=secrets, sqs=sqs)
    application.reset()
    application.executor().shutdown()


def record(number):
    """Give an SQS record with a completion of its own."""
    body = {"userId": f"user-{number}", "contentId": "content", "completedAt": "2024-05-01T09:00:00Z"}
    return {"eventSource": "aws:sqs", "messageId": f"message-{number}", "body": json.dumps(body)}


def calls(thrive):
    """Count the requests that reached the stand-in, by route."""
    return {route: len(thrive.requests.of(route)) for route in ("completion", "token", "user", "other")}


def test_a_first_batch_reads_one_secret_and_fetches_one_token(function):
    """The first batch costs one secret, one token and one call for each record, however many threads begin at once."""
    assert function.serve(10) == {"batchItemFailures": []}
    assert calls(function.thrive) == {"completion": 10, "token": 1, "user": 0, "other": 0}
    assert (function.secrets.reads, function.sqs.calls) == (1, 0)


@pytest.mark.parametrize("size", [1, 10, 100])
def test_a_warm_healthy_batch_costs_one_call_for_each_record(function, size):
    """A warm, healthy batch costs one completions call for each record: no token, no secret, no SQS."""
    function.serve(1)
    function.thrive.requests.clear()
    reads = function.secrets.reads
    assert function.serve(size) == {"batchItemFailures": []}
    assert calls(function.thrive) == {"completion": size, "token": 0, "user": 0, "other": 0}
    assert (function.secrets.reads - reads, function.sqs.calls) == (0, 0)


def test_identical_completions_cost_one_call(function):
    """Ten messages with the same completion cost one call."""
    function.serve(1)
    function.thrive.requests.clear()
    one = record(next(_numbers))
    event = {"Records": [{**one, "messageId": f"message-of-ten-{number}"} for number in range(10)]}
    context = SimpleNamespace(aws_request_id="request", get_remaining_time_in_millis=lambda: 30_000)
    assert handler.lambda_handler(event, context) == {"batchItemFailures": []}
    assert calls(function.thrive)["completion"] == 1


def test_a_warm_batch_keeps_its_connections(function):
    """Warm batches open no more connections than requests were ever in flight."""
    for _ in range(5):
        function.serve(20)
    connections = {arrival.connection for arrival in function.thrive.requests}
    assert len(connections) <= 10
