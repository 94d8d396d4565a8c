"""`trace`: log lines, dead letters and Thrive's records in order of time; Logs Insights by botocore's own model."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

import boto3
import pytest
from botocore.stub import Stubber

from sandbox.thrive_api import Fault
from sandbox.thrive_api.ledger import Key
from tests.cli.conftest import Deployed, World, completion, invoke

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.support.thrive import ContractedStandIn

NOW = 1_800_000_000


def line(message_id: str, outcome: str, user: str | None = "user-1", **more: Any) -> str:
    fields = {"level": "INFO", "message_id": message_id, "outcome": outcome, "user_id": user, **more}
    return json.dumps({name: value for name, value in fields.items() if value is not None}, separators=(",", ":"))


class Insights:
    """Logs Insights, with these lines of the log: answers are checked against botocore's model of the service."""

    def __init__(self, *lines: str, statuses: tuple[str, ...] | None = ("Scheduled", "Running", "Complete")) -> None:
        self.client = boto3.client("logs", region_name="eu-west-2", aws_access_key_id="x", aws_secret_access_key="x")
        self.stub = Stubber(self.client)
        self.stub.activate()
        self.queries: list[dict[str, Any]] = []
        self.client.meta.events.register(
            "provide-client-params.cloudwatch-logs.StartQuery", lambda params, **_: self.queries.append(params)
        )
        self.statuses = statuses or ()
        if statuses is not None:
            self.answer(*lines)

    def answer(self, *lines: str) -> None:
        self.stub.add_response("start_query", {"queryId": "q"})
        for status in self.statuses:
            results = [
                [
                    {"field": "@timestamp", "value": f"2027-01-15 07:00:{second:02d}.500"},
                    {"field": "@message", "value": text},
                    {"field": "@ptr", "value": "p"},
                ]
                for second, text in enumerate(lines)
            ]
            self.stub.add_response(
                "get_query_results", {"status": status, "results": results if status == "Complete" else []}
            )


@pytest.fixture
def world(world: World, thrive: ContractedStandIn) -> World:
    world.thrive = thrive
    return world


def test_a_learners_record_is_followed_from_every_source(world: World) -> None:
    world.thrive.ledger.record(Key("user-1", "content", "2027-01-15T06:00:00.000Z"))
    world.letter(completion(1), reason="refused", status="404", sourceMessageId="m-2")
    world.letter(completion(2), reason="refused")
    insights = Insights(
        "REPORT …", line("m-1", "created", content_id="content", receive_count=2), line("m-9", "created", "user-12")
    )
    insights.answer(
        line("m-1", "deferred", None, reason="unknown_user", receive_count=1),
        line("m-1", "created", content_id="content", receive_count=2),
    )
    world.logs = insights.client

    outcome = world.run("trace", "--user-id", "user-1", "--since", "3d", "--json")

    assert outcome.status == 0, outcome.err
    assert [(e["time"], e["source"], e["outcome"]) for e in outcome.document["events"]] == [
        ("2027-01-15T06:00:00Z", "thrive", "recorded"),
        ("2027-01-15T07:00:00Z", "log", "deferred"),
        ("2027-01-15T07:00:01Z", "log", "created"),
        ("2027-01-15T08:00:00Z", "dead-letter", "waiting"),
    ]
    assert outcome.document["events"][-1]["status"] == 404
    assert len(world.dead.messages) == 2
    assert world.sqs.in_flight(world.dead) == []
    assert insights.queries[0] == {
        "logGroupName": "/aws/lambda/stack",
        "startTime": NOW - 3 * 86_400,
        "endTime": NOW,
        "queryString": 'fields @timestamp, @message | filter @message like /"user_id": ?"(user-1)"/'
        " | sort @timestamp asc | limit 10000",
        "limit": 10_000,
    }


def test_a_message_is_followed_to_thrive(world: World) -> None:
    world.thrive.ledger.record(Key("user-1", "content", "2027-01-15T06:00:00.000Z"))
    world.thrive.ledger.record(Key("user-1", "other", "2027-01-15T06:00:00.000Z"))
    world.logs = Insights(line("m-1", "exists", content_id="content")).client

    outcome = world.run("trace", "--message-id", "m-1", "--json")

    assert [(e["source"], e.get("contentId")) for e in outcome.document["events"]] == [
        ("thrive", "content"),
        ("log", "content"),
    ]


def test_a_value_with_special_characters_is_searched_for_safely(world: World) -> None:
    value = 'a"/|.*é) | limit 1'
    insights = Insights(line("m-1", "created", value))
    insights.answer(line("m-1", "created", value))
    world.logs = insights.client

    outcome = world.run("trace", "--user-id", value, "--json")

    assert [event["userId"] for event in outcome.document["events"]] == [value]
    [pattern] = [query["queryString"].partition("(")[2].partition(")")[0] for query in insights.queries[:1]]
    assert set(pattern) <= set("alimt10eu9._-")


def test_a_reference_is_resolved_and_the_limits_are_said(world: World) -> None:
    world.thrive.directory.users["E-1"] = {"id": "user-1"}
    world.letter(completion(1, userId=None, userRef="E-1"), reason="unknown_user")
    world.logs = Insights().client

    outcome = world.run("trace", "--user-ref", "E-1")
    assert "unknown_user" in outcome.out
    assert "logs hold no references" in outcome.err
    assert "E-1" not in outcome.out + outcome.err
    unknown = world.run("trace", "--user-ref", "E-2", "--json")

    assert (unknown.status, unknown.document) == (0, {"events": []})
    assert "cannot be found" in unknown.err


@pytest.mark.parametrize("status", ["Failed", "Timeout", "Cancelled"])
def test_a_query_without_a_result_leaves_a_gap_and_the_rest_is_shown(world: World, status: str) -> None:
    world.thrive.ledger.record(Key("user-1", "content", "2027-01-15T06:00:00.000Z"))
    world.logs = Insights(statuses=("Running", status)).client

    outcome = world.run("trace", "--user-id", "user-1", "--json")

    assert outcome.status == 1
    assert [event["source"] for event in outcome.document["events"]] == ["thrive"]
    assert "Without the log" in outcome.err


def test_denied_logs_and_a_missing_list_leave_gaps(world: World) -> None:
    world.thrive.faults.add(Fault(route="listing", times=None, status=404))
    insights = Insights(statuses=None)
    insights.stub.add_client_error("start_query", "LimitExceededException")
    insights.stub.add_client_error("start_query", "AccessDeniedException")
    world.logs = insights.client
    world.letter(completion(1))

    outcome = world.run("trace", "--user-id", "user-1", "--json")

    assert outcome.status == 1
    assert [event["source"] for event in outcome.document["events"]] == ["dead-letter"]
    assert "AWS denied StartQuery" in outcome.err
    assert "does not offer its list" in outcome.err


def test_an_interrupted_query_is_stopped(world: World) -> None:
    insights = Insights(statuses=("Running",))
    insights.stub.add_response("stop_query", {"success": True}, {"queryId": "q"})
    world.logs = insights.client
    sleep = world.clock.sleep

    def interrupt(seconds: float) -> None:
        world.interrupt()
        sleep(seconds)

    world.clock.sleep = interrupt
    assert world.run("trace", "--user-id", "user-1").status == 1
    insights.stub.assert_no_pending_responses()


@pytest.mark.parametrize("arguments", [[], ["--user-id", "a", "--message-id", "b"]])
def test_exactly_one_criterion_is_required(world: World, arguments: list[str]) -> None:
    assert world.run("trace", *arguments).status == 2


def test_on_the_emulator(deploy: Callable[..., Deployed], thrive: ContractedStandIn) -> None:
    deployed = deploy()
    thrive.ledger.record(Key("user-1", "content", "2026-01-15T06:00:00.000Z"))
    logs, group = deployed.client("logs"), deployed.outputs["LogGroupName"]
    logs.create_log_stream(logGroupName=group, logStreamName="s")
    now = int(time.time() * 1000) - 5000
    texts = [line("m-1", "deferred", reason="unavailable"), line("m-1", "created"), line("m-2", "created", "user-2")]
    events = [{"timestamp": now + index, "message": text} for index, text in enumerate(texts)]
    logs.put_log_events(logGroupName=group, logStreamName="s", logEvents=events)

    outcome = invoke("trace", "--user-id", "user-1", "--json")

    assert [(e["source"], e["outcome"]) for e in outcome.document["events"]] == [
        ("thrive", "recorded"),
        ("log", "deferred"),
        ("log", "created"),
    ]
