"""Calls per record: what a healthy batch costs Thrive and AWS, counted, never timed."""

import itertools
import json
from types import SimpleNamespace

import pytest

from completion_sync import bootstrap, handler
from tests.support.fakes import FakeSecretsManager

_numbers = itertools.count(1)


def no_sqs():
    raise AssertionError("a healthy batch needs no call to SQS")


@pytest.fixture
def function(thrive, monkeypatch):
    """Set up a function in front of the stand-in. ``serve(size)`` records a batch of as many new completions."""
    secret = {"tenantId": thrive.tenant_id, "clientId": thrive.client_id, "clientSecret": thrive.client_secret}
    secrets = FakeSecretsManager(json.dumps(secret))
    settings = bootstrap.Settings.from_env({"THRIVE_SECRET_ID": "thrive", "THRIVE_BASE_URL": thrive.url})
    application = bootstrap.build(settings, secrets=secrets.client, sqs=no_sqs)
    monkeypatch.setattr(bootstrap, "application", lambda: application)
    context = SimpleNamespace(aws_request_id="request", get_remaining_time_in_millis=lambda: 30_000)

    def serve(size, *, identical=False):
        first = next(_numbers)
        records = [record(first if identical else next(_numbers)) | {"messageId": f"m-{i}"} for i in range(size)]
        assert handler.lambda_handler({"Records": records}, context) == {"batchItemFailures": []}

    yield SimpleNamespace(serve=serve, requests=thrive.requests, secrets=secrets)
    application.reset()
    application.executor().shutdown()


def record(number):
    body = {"userId": f"user-{number}", "contentId": "content", "completedAt": "2024-05-01T09:00:00Z"}
    return {"eventSource": "aws:sqs", "body": json.dumps(body)}


def calls(function):
    """Return the number of requests to the stand-in by route, without zeros, and of secret reads."""
    routes = {route: len(function.requests.of(route)) for route in ("completion", "token", "user", "other")}
    return {route: count for route, count in routes.items() if count}, function.secrets.reads


def test_a_first_batch_reads_one_secret_and_fetches_one_token(function):
    function.serve(10)
    assert calls(function) == ({"completion": 10, "token": 1}, 1)


@pytest.mark.parametrize(("size", "identical", "requests"), [(1, False, 1), (100, False, 100), (10, True, 1)])
def test_a_warm_batch_costs_one_call_for_each_different_completion(function, size, identical, requests):
    function.serve(1)
    function.requests.clear()
    function.serve(size, identical=identical)
    assert calls(function) == ({"completion": requests}, 1)


def test_warm_batches_open_no_more_connections_than_there_are_requests_in_flight(function):
    for _ in range(5):
        function.serve(20)
    assert len({arrival.connection for arrival in function.requests}) <= 10
