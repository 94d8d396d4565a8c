"""The built function from end to end: real runtime, real sockets, real calls to an AWS emulator.

Every shape of message, each fault of the API and a rotation of the secret are in test_demo.py.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from sandbox.pipeline.emf import json_lines, metric_sums
from sandbox.thrive_api import Fault
from tests.e2e.conftest import completion, users

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.e2e.conftest import Pipeline

METRICS = {
    "CompletionsCreated",
    "CompletionsExisting",
    "CompletionsRejected",
    "CompletionsDeferred",
    "TokenRequests",
    "SecretReads",
    "AuthFailures",
    "Throttles",
    "ConfigErrors",
    "ApiLatency",
}


def test_poison_among_good_ones_is_dead_lettered_alone(make_pipeline: Callable[..., Pipeline]) -> None:
    pipeline = make_pipeline()
    pipeline.thrive.directory.unknown_users.add("user-9")
    poison = ["not JSON", '{"userId": NaN}', "[" * 9000, json.dumps(completion(9))]
    ids = pipeline.send(completion(1), poison[0], completion(2), poison[1], poison[2], completion(3), poison[3])
    pipeline.run_until_empty()
    letters = {letter.attributes["sourceMessageId"]: letter for letter in pipeline.rig.dead_letters()}
    assert pipeline.recorded() == users(range(1, 4))
    assert [letters[ids[index]].body for index in (1, 3, 4, 6)] == poison
    assert len(letters) == 4
    assert letters[ids[6]].attributes["reason"] == "refused"
    assert letters[ids[6]].attributes["status"] == "422"
    assert {letters[ids[index]].attributes["reason"] for index in (1, 3, 4)} == {"invalid_message"}


def test_an_outage_defers_and_dead_letters_nothing(make_pipeline: Callable[..., Pipeline]) -> None:
    pipeline = make_pipeline()
    pipeline.thrive.down()
    pipeline.send(*(completion(number) for number in range(5)))
    pipeline.rig.poller.start()
    pipeline.wait(lambda: pipeline.rig.poller.counts["reported"] >= 5)
    assert pipeline.rig.backlog() == 5
    pipeline.thrive.up()
    pipeline.wait(lambda: pipeline.rig.backlog() == 0)
    assert pipeline.recorded() == users(range(5))
    assert pipeline.rig.dead_letters() == []


def test_a_killed_environment_leaves_one_record_each(make_pipeline: Callable[..., Pipeline]) -> None:
    """SIGKILL between Thrive's record and its answer: the batch is delivered again."""
    pipeline = make_pipeline(visibility=2)
    held = pipeline.thrive.faults.add(Fault(route="completion", commit=True, delay=30, times=4))
    pipeline.send(*(completion(number) for number in range(4)))
    pipeline.rig.poller.start()
    pipeline.wait(lambda: pipeline.thrive.faults.hits(held) == 4)
    pipeline.rig.environments[0].kill()
    pipeline.wait(lambda: pipeline.rig.backlog() == 0)
    pipeline.rig.poller.stop()
    assert pipeline.recorded() == users(range(4))
    assert {entry.arrivals for entry in pipeline.thrive.ledger} == {2}
    assert pipeline.rig.poller.counts["exit"] == 1
    assert pipeline.rig.environments[0].cold_starts == 2


def test_a_slow_api_ends_before_the_functions_deadline(make_pipeline: Callable[..., Pipeline]) -> None:
    pipeline = make_pipeline(overrides={"AWS_LAMBDA_FUNCTION_TIMEOUT": "6"})
    pipeline.thrive.faults.add(Fault(route="completion", user_id="user-0", ending="black_hole", times=1))
    pipeline.send(*(completion(number) for number in range(3)))
    pipeline.run_until_empty()
    assert pipeline.recorded() == users(range(3))
    assert pipeline.rig.poller.counts["timeout"] == 0
    assert pipeline.rig.poller.counts["reported"] >= 1


def test_a_function_that_times_out_gets_its_messages_again(make_pipeline: Callable[..., Pipeline]) -> None:
    """The runtime is frozen beyond its timeout and killed; the batch comes back."""
    pipeline = make_pipeline(overrides={"AWS_LAMBDA_FUNCTION_TIMEOUT": "2"}, visibility=3)
    environment = pipeline.rig.environments[0]
    held = pipeline.thrive.faults.add(Fault(route="completion", commit=True, delay=0.5, times=2))
    pipeline.send(completion(1), completion(2))
    pipeline.rig.poller.start()
    pipeline.wait(lambda: pipeline.thrive.faults.hits(held) == 2)
    environment.freeze()
    pipeline.wait(lambda: pipeline.rig.poller.counts["timeout"])
    pipeline.wait(lambda: pipeline.rig.backlog() == 0)
    pipeline.rig.poller.stop()
    assert pipeline.recorded() == users([1, 2])
    assert pipeline.rig.poller.counts["timeout"] >= 1


def test_warm_invocations_share_one_token_and_one_secret_read(make_pipeline: Callable[..., Pipeline]) -> None:
    pipeline = make_pipeline()
    pipeline.send(*(completion(number) for number in range(45)))
    pipeline.run_until_empty()
    assert pipeline.rig.poller.counts["invocations"] >= 5
    assert len(pipeline.thrive.requests.of("token")) == 1
    assert len(pipeline.thrive.requests.of("completion")) == 45
    assert metric_sums(json_lines(pipeline.rig.logs))["SecretReads"] == 1
    assert pipeline.rig.environments[0].cold_starts == 1


def test_a_fifo_group_is_recorded_in_order(make_pipeline: Callable[..., Pipeline]) -> None:
    pipeline = make_pipeline(environments=2, parameters={"QueueType": "fifo", "UserWaitHours": "0"})
    pipeline.thrive.faults.add(Fault(route="completion", user_id="a-2", status=500, times=4))
    for group in ("a", "b"):
        pipeline.send(*(completion(0, userId=f"{group}-{number}") for number in range(5)), group=group)
    pipeline.run_until_empty()
    order = [entry.key.user_id for entry in pipeline.thrive.ledger]
    for group in ("a", "b"):
        assert [user for user in order if user.startswith(group)] == [f"{group}-{number}" for number in range(5)]
    assert order[-1] == "a-4"


def test_a_fifo_groups_bad_messages_are_all_dead_lettered(make_pipeline: Callable[..., Pipeline]) -> None:
    pipeline = make_pipeline(parameters={"QueueType": "fifo", "UserWaitHours": "0"})
    ids = pipeline.send("bad 1", completion(1), "bad 2", "bad 3", completion(2), group="a")
    pipeline.run_until_empty()
    letters = [letter.attributes["sourceMessageId"] for letter in pipeline.rig.dead_letters()]
    assert letters == [ids[0], ids[2], ids[3]]
    assert [entry.key.user_id for entry in pipeline.thrive.ledger] == ["user-1", "user-2"]


def test_metrics_are_written_in_embedded_metric_format(make_pipeline: Callable[..., Pipeline]) -> None:
    pipeline = make_pipeline()
    fault = Fault(route="completion", status=429, headers={"Retry-After": "3"}, times=1, user_id="user-2")
    pipeline.thrive.faults.add(fault)
    pipeline.send(completion(1), completion(2), completion(1, completedAt="2024-05-01T10:00:00+01:00"), "poison")
    pipeline.run_until_empty()
    lines = [line for line in json_lines(pipeline.rig.logs) if "_aws" in line]
    directives = [directive for line in lines for directive in line["_aws"]["CloudWatchMetrics"]]
    assert {directive["Namespace"] for directive in directives} == {"ThriveCompletionSync"}
    assert all(directive["Dimensions"] == [["service"]] for directive in directives)
    assert {metric["Name"] for directive in directives for metric in directive["Metrics"]} == METRICS
    sums = metric_sums(lines)
    assert sums["CompletionsCreated"] + sums["CompletionsExisting"] == 3
    assert sums["CompletionsRejected"] == 1
    assert sums["CompletionsDeferred"] == 1
    assert sums["Throttles"] == 1
    assert sums["TokenRequests"] == 1
    assert sums["SecretReads"] == 1


def test_no_secret_and_no_personal_data_in_any_output(make_pipeline: Callable[..., Pipeline]) -> None:
    pipeline = make_pipeline()
    person = {"email": "canary@learner.example", "name": "Canary Q. Learner"}
    echo = json.dumps({"status": 422, "message": f"no user canary@learner.example, {pipeline.thrive.client_secret}"})
    pipeline.thrive.faults.add(Fault(route="completion", user_id="user-1", status=422, body=echo))
    pipeline.thrive.faults.add(Fault(route="token", status=500, body=pipeline.thrive.client_secret, times=2))
    pipeline.send(
        {**completion(1), **person},
        {**completion(2), **person},
        json.dumps({**completion(3), **person})[:-1],
        {**completion(4, userId=5), **person},
    )
    pipeline.run_until_empty()
    letters = pipeline.rig.dead_letters()
    assert len(letters) == 3
    said = "".join(path.read_text() for path in pipeline.rig.logs) + "".join(
        str(letter.attributes) for letter in letters
    )
    tokens = [
        arrival.headers["Authorization"].partition(" ")[2] for arrival in pipeline.thrive.requests.of("completion")
    ]
    for canary in (pipeline.thrive.client_secret, "canary@", "Canary", *tokens):
        assert canary not in said


def test_an_environment_that_was_frozen_between_invocations_goes_on(make_pipeline: Callable[..., Pipeline]) -> None:
    """Lambda freezes idle environments; the kept-alive connection is dead by then."""
    pipeline = make_pipeline()
    environment = pipeline.rig.environments[0]
    pipeline.send(completion(1))
    pipeline.rig.poller.poll_once(environment)
    environment.freeze()
    pipeline.thrive.down()
    pipeline.thrive.up()
    environment.thaw()
    pipeline.send(completion(2))
    pipeline.rig.poller.poll_once(environment)
    assert pipeline.recorded() == users([1, 2])
    assert environment.cold_starts == 1
