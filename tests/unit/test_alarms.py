"""Each alarm of the template, evaluated as CloudWatch does it over invented metrics: when it goes on and off.

A scenario reports the metrics of some hours, minute by minute; it returns its length and the changes of state that it
causes, by alarm. Any other alarm must stay off throughout.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

import pytest

from completion_sync.observability import ALWAYS_EMITTED, METRICS
from tests.support import sam_template
from tests.support.alarms import Change, Metrics, changes

if TYPE_CHECKING:
    from collections.abc import Callable

BUS = "learning"
QUEUE = {name: {"QueueName": {"Fn::GetAtt": [name, "QueueName"]}} for name in ("SourceQueue", "DeadLetterQueue")}
QUEUE["UndeliveredQueue"] = {"QueueName": {"Fn::GetAtt": ["UndeliveredQueue", "QueueName"]}}
FUNCTION = {"FunctionName": {"Ref": "CompletionFunction"}}
RULE = {"RuleName": f"thrive-3f2a91c0-{BUS}", "EventBusName": BUS}
HOUR = 60

Expected = dict[str, list[Change]]


@functools.cache
def alarms(hours: str = "6") -> dict[str, dict[str, Any]]:
    """Return the alarms by name, for parameters that create all of them."""
    values = {"EventDelivery": "direct", "EventBusName": BUS, "BacklogAlarmHours": hours, **sam_template.CONFIG}
    found = sam_template.transform(values).of_type("AWS::CloudWatch::Alarm").values()
    return {alarm["AlarmName"].removeprefix(sam_template.STACK + "-"): alarm for alarm in found}


class Operation(Metrics):
    """Metrics as the services and the function report them."""

    def invocation(self, minute: int, **counts: int) -> None:
        """Report an invocation that came to its end: the function's counts, with those zeros that it emits."""
        assert counts.keys() <= METRICS.keys()
        for name in ALWAYS_EMITTED | counts.keys():
            self.report(minute, "ThriveCompletionSync", name, {"service": sam_template.STACK}, counts.get(name, 0))
        for name in ("Errors", "Throttles"):
            self.report(minute, "AWS/Lambda", name, FUNCTION, 0)

    def queue(
        self,
        minute: int,
        visible: int = 0,
        in_flight: int = 0,
        deleted: int = 0,
        age: int = 0,
        name: str = "SourceQueue",
    ) -> None:
        """Report a queue; the age is that of the oldest message, in seconds."""
        for metric, value in {
            "ApproximateAgeOfOldestMessage": age,
            "ApproximateNumberOfMessagesNotVisible": in_flight,
            "ApproximateNumberOfMessagesVisible": visible,
            "NumberOfMessagesDeleted": deleted,
        }.items():
            self.report(minute, "AWS/SQS", metric, QUEUE[name], value)

    def healthy(self, minutes: range, a_minute: int) -> None:
        """Report traffic at a steady pace, all of it recorded within a second."""
        for minute in minutes:
            self.invocation(minute, CompletionsCreated=a_minute)
            self.queue(minute, in_flight=a_minute // 60, visible=a_minute // 120, deleted=a_minute, age=1)

    def count(self, minute: int, namespace: str, name: str) -> None:
        """Report one failure, to Lambda's or EventBridge's metric of that name."""
        self.report(minute, namespace, name, FUNCTION if namespace == "AWS/Lambda" else RULE, 1)


def attempts(until: int) -> list[int]:
    """Return the minutes in which one message is tried, at the longest waits: 30 s, doubling up to an hour."""
    found, moment, wait = [], 0.0, 0.5
    while moment < until:
        found.append(int(moment))
        moment, wait = moment + wait, min(60.0, wait * 2)
    return found


def waits_for_a_person(until: int) -> list[int]:
    """Return the minutes in which a message for an unknown person is tried, at the longest waits."""
    found, moment = [], 0.0
    while moment < until:
        found.append(int(moment))
        moment += min(6 * HOUR, max(5, moment))
    return found


def on(minute: int) -> Change:
    return Change(minute, "ALARM")


def off(minute: int) -> Change:
    return Change(minute, "OK")


SCENARIOS: list[Callable[[Operation], tuple[int, Expected]]] = []


def scenario(story: Callable[[Operation], tuple[int, Expected]]) -> Callable[[Operation], tuple[int, Expected]]:
    SCENARIOS.append(story)
    return story


# ---- nothing is wrong


@scenario
def nothing_happens(world: Operation) -> tuple[int, Expected]:
    for minute in range(8 * HOUR):
        world.queue(minute)
    return 8 * HOUR, {}


@scenario
def steady_traffic(world: Operation) -> tuple[int, Expected]:
    # Ten a second, a call that is refused now and then, and every metric reports at least once that nothing failed.
    world.healthy(range(10 * HOUR), 600)
    for minute in range(0, 10 * HOUR, 40):
        world.invocation(minute, CompletionsCreated=9, CompletionsDeferred=1, Throttles=1)
    for name in ("AsyncEventsDropped", "DestinationDeliveryFailures"):
        world.report(5, "AWS/Lambda", name, FUNCTION, 0)
    for name in ("FailedInvocations", "InvocationsFailedToBeSentToDlq"):
        world.report(5, "AWS/Events", name, RULE, 0)
    for name in ("DeadLetterQueue", "UndeliveredQueue"):
        world.queue(5, name=name)
    world.invocation(5, UnknownContent=0, UnknownUsers=0)
    return 10 * HOUR, {}


@scenario
def heavy_traffic(world: Operation) -> tuple[int, Expected]:
    # A hundred a second: the queue is never empty, and 60,000 of an import wait or are in work for an hour.
    world.healthy(range(HOUR, 10 * HOUR), 6000)
    for minute in range(HOUR):
        world.invocation(minute, CompletionsCreated=6000)
        world.queue(minute, visible=60_000, in_flight=60_000, deleted=6000, age=3600)
    return 10 * HOUR, {}


@scenario
def a_trickle(world: Operation) -> tuple[int, Expected]:
    # One every two hours; each is deferred once and recorded a minute later.
    for minute in range(24 * HOUR):
        world.queue(minute)
    for minute in range(0, 24 * HOUR, 2 * HOUR):
        world.invocation(minute, CompletionsDeferred=1)
        world.invocation(minute + 1, CompletionsExisting=1)
    return 24 * HOUR, {}


@scenario
def a_rotation(world: Operation) -> tuple[int, Expected]:
    # The old credentials are revoked 20 minutes before the new ones are current; then nothing is sent for hours.
    world.healthy(range(HOUR), 60)
    for minute in range(HOUR, HOUR + 20):
        world.invocation(minute, CompletionsDeferred=1, AuthFailures=1)
    world.invocation(HOUR + 20, CompletionsExisting=20)
    return 5 * HOUR, {}


@scenario
def a_burst_that_thrive_throttles(world: Operation) -> tuple[int, Expected]:
    world.healthy(range(3 * HOUR), 60)
    for minute in range(HOUR, HOUR + 20):
        world.invocation(minute, CompletionsCreated=10, CompletionsDeferred=1, Throttles=1)
    return 3 * HOUR, {}


# ---- some or all completions cannot be recorded


@scenario
def one_kind_of_completion_always_fails(world: Operation) -> tuple[int, Expected]:
    # 60 a minute are recorded, while one message is answered 500 each time, until it is corrected after 8 hours.
    for minute in range(11 * HOUR):
        stuck = 1 if minute < 8 * HOUR else 0
        world.invocation(minute, CompletionsCreated=60)
        world.queue(minute, in_flight=15 + stuck, deleted=60, age=1)
    for minute in attempts(8 * HOUR):
        world.invocation(minute, CompletionsDeferred=1)
    return 11 * HOUR, {"backlog": [on(342), off(8 * HOUR + 19)]}


@scenario
def an_outage_with_one_waiting_message(world: Operation) -> tuple[int, Expected]:
    # The message is recorded after a day, and nothing else is sent. An alarm that is on stays on between attempts.
    end = 24 * HOUR
    for minute in attempts(end):
        world.invocation(minute, CompletionsDeferred=1)
    world.invocation(end, CompletionsCreated=1)
    for minute in range(27 * HOUR):
        world.queue(minute, in_flight=1 if minute < end else 0)
    return 27 * HOUR, {"nothing-recorded": [on(60), off(end + 16)], "backlog": [on(342), off(end + 19)]}


@scenario
def credentials_refused_with_one_waiting_message(world: Operation) -> tuple[int, Expected]:
    # They are corrected after a day.
    end = 24 * HOUR
    for minute in attempts(end):
        world.invocation(minute, CompletionsDeferred=1, AuthFailures=1)
    world.invocation(end, CompletionsExisting=1)
    for minute in range(27 * HOUR):
        world.queue(minute, in_flight=1 if minute < end else 0)
    return 27 * HOUR, {
        "credentials-refused": [on(30), off(end + 46)],
        "nothing-recorded": [on(60), off(end + 16)],
        "backlog": [on(342), off(end + 19)],
    }


@scenario
def credentials_refused_under_traffic(world: Operation) -> tuple[int, Expected]:
    for minute in range(5 * HOUR):
        refused = HOUR <= minute < 3 * HOUR
        counts = {"CompletionsDeferred": 9, "AuthFailures": 1} if refused else {"CompletionsCreated": 9}
        world.invocation(minute, **counts)
    start, end = HOUR, 3 * HOUR
    return 5 * HOUR, {
        "credentials-refused": [on(start + 30), off(end + 71)],
        "nothing-recorded": [on(start + 60), off(end + 71)],
    }


@scenario
def an_outage_under_traffic_fills_the_flight(world: Operation) -> tuple[int, Expected]:
    # Ten a second for four hours: SQS stops at 120,000 in flight, and the rest waits and grows old; then it drains.
    for minute in range(9 * HOUR):
        if minute < 4 * HOUR:
            world.invocation(minute, CompletionsDeferred=625)
            in_flight = min(120_000, 625 * minute)
            visible = 625 * minute - in_flight
            world.queue(minute, visible=visible, in_flight=in_flight, age=60 * max(0, minute - 192))
        else:
            left = max(0, 150_000 - 3000 * (minute - 4 * HOUR))
            world.invocation(minute, CompletionsCreated=3600)
            world.queue(minute, in_flight=left, deleted=3600 if left else 600, age=1)
    return 9 * HOUR, {
        "nothing-recorded": [on(60), off(4 * HOUR + 71)],
        "in-flight": [on(161), off(4 * HOUR + 22)],
    }


@scenario
def a_paused_event_source(world: Operation) -> tuple[int, Expected]:
    # Nothing runs for eight hours, while one message a minute arrives.
    for minute in range(8 * HOUR):
        world.queue(minute, visible=minute + 1, age=60 * minute)
    world.healthy(range(8 * HOUR, 10 * HOUR), 60)
    return 10 * HOUR, {"oldest-message": [on(62), off(8 * HOUR + 5)], "backlog": [on(342), off(8 * HOUR + 19)]}


@scenario
def a_paused_event_source_and_no_senders(world: Operation) -> tuple[int, Expected]:
    # SQS reports the queue for six hours. What waits there is still there when it reports again, after ten.
    for minute in range(6 * HOUR):
        world.queue(minute, visible=3, age=60 * minute)
    world.healthy(range(10 * HOUR, 12 * HOUR), 60)
    return 12 * HOUR, {"oldest-message": [on(62), off(10 * HOUR + 1)], "backlog": [on(342), off(10 * HOUR + 1)]}


@scenario
def thrive_throttles(world: Operation) -> tuple[int, Expected]:
    # For an hour and a half every four minutes at least one call is refused.
    world.healthy(range(4 * HOUR), 60)
    for minute in range(HOUR, HOUR + 90, 4):
        world.invocation(minute, CompletionsCreated=10, CompletionsDeferred=1, Throttles=1)
    return 4 * HOUR, {"throttled-by-thrive": [on(HOUR + 26), off(HOUR + 94)]}


# ---- people, content, configuration


@scenario
def a_person_appears_within_a_few_hours(world: Operation) -> tuple[int, Expected]:
    world.healthy(range(30 * HOUR), 60)
    for minute in waits_for_a_person(5 * HOUR):
        world.invocation(minute, CompletionsDeferred=1)
    return 30 * HOUR, {}


@scenario
def a_person_never_appears(world: Operation) -> tuple[int, Expected]:
    world.healthy(range(100 * HOUR), 60)
    for minute in waits_for_a_person(72 * HOUR):
        world.invocation(minute, CompletionsDeferred=1, UnknownUsers=int(minute >= 12 * HOUR))
    return 100 * HOUR, {"unknown-users": [on(1001), off(5321)]}


@scenario
def codes_are_missing_from_the_table(world: Operation) -> tuple[int, Expected]:
    world.healthy(range(3 * HOUR), 60)
    for minute in range(HOUR, HOUR + 30):
        world.invocation(minute, CompletionsRejected=1, UnknownContent=1)
    return 3 * HOUR, {"unknown-content": [on(HOUR + 1), off(HOUR + 45)]}


@scenario
def a_bad_table_is_uploaded_and_corrected(world: Operation) -> tuple[int, Expected]:
    # Every invocation counts it until its environment has noticed the correction. For three hours nothing is sent.
    for minute in (*range(2 * HOUR), *range(5 * HOUR, 8 * HOUR)):
        world.invocation(minute, CompletionsCreated=60, ConfigErrors=int(HOUR <= minute < 6 * HOUR))
    return 8 * HOUR, {"config-errors": [on(HOUR + 1), off(6 * HOUR + 5)]}


# ---- letters


def letters(world: Operation, queue: str) -> None:
    """One comes in minute 10; SQS reports the queue for six hours; somebody empties it in minute 900."""
    for minute in range(10, 6 * HOUR + 10):
        world.queue(minute, visible=1, name=queue)
    for minute in range(900, 20 * HOUR):
        world.queue(minute, visible=1 if minute == 900 else 0, name=queue)


@scenario
def a_dead_letter_that_nobody_looks_at(world: Operation) -> tuple[int, Expected]:
    world.invocation(9, CompletionsRejected=1)
    letters(world, "DeadLetterQueue")
    return 20 * HOUR, {"dead-letters": [on(11), off(902)]}


@scenario
def an_undelivered_event_that_nobody_looks_at(world: Operation) -> tuple[int, Expected]:
    letters(world, "UndeliveredQueue")
    return 20 * HOUR, {"undelivered": [on(11), off(902)]}


# ---- the function, the rule, Lambda


@scenario
def the_function_crashes_on_one_batch(world: Operation) -> tuple[int, Expected]:
    # It comes back every seven minutes, for two hours, among traffic.
    world.healthy(range(4 * HOUR), 60)
    for minute in range(HOUR, 3 * HOUR, 7):
        world.count(minute, "AWS/Lambda", "Errors")
    return 4 * HOUR, {"function-errors": [on(HOUR + 1), off(3 * HOUR + 15)]}


@scenario
def lambda_refuses_invocations(world: Operation) -> tuple[int, Expected]:
    # For an hour some are refused; once before, it was for five minutes.
    world.healthy(range(4 * HOUR), 60)
    for minute in (*range(30, 35), *range(HOUR, 2 * HOUR)):
        world.count(minute, "AWS/Lambda", "Throttles")
    return 4 * HOUR, {"function-throttles": [on(HOUR + 11), off(2 * HOUR + 5)]}


def rare_failures(world: Operation, namespace: str, *names: str) -> list[Change]:
    """Four, each 50 minutes after the one before; the metric has gaps and no zeros.

    The newest existing datapoints count, so that the alarm stays on until the last failure is out of what is read.
    """
    for minute in range(10, 200, 50):
        for name in names:
            world.count(minute, namespace, name)
    return [on(11), off(160 + 1 + 3 * HOUR)]


@scenario
def the_rule_fails(world: Operation) -> tuple[int, Expected]:
    return 8 * HOUR, {"rule-failed": rare_failures(world, "AWS/Events", "FailedInvocations")}


@scenario
def the_rule_loses_events(world: Operation) -> tuple[int, Expected]:
    both = rare_failures(world, "AWS/Events", "FailedInvocations", "InvocationsFailedToBeSentToDlq")
    return 8 * HOUR, {"rule-failed": both, "rule-events-lost": both}


@scenario
def direct_events_are_dropped(world: Operation) -> tuple[int, Expected]:
    return 8 * HOUR, {"direct-events-dropped": rare_failures(world, "AWS/Lambda", "AsyncEventsDropped")}


@scenario
def direct_events_are_lost(world: Operation) -> tuple[int, Expected]:
    both = rare_failures(world, "AWS/Lambda", "AsyncEventsDropped", "DestinationDeliveryFailures")
    return 8 * HOUR, {"direct-events-dropped": both, "destination-failed": both}


@functools.cache
def played(story: Callable[[Operation], tuple[int, Expected]]) -> tuple[Operation, int, Expected]:
    world = Operation()
    minutes, expected = story(world)
    return world, minutes, expected


@pytest.mark.parametrize("story", SCENARIOS, ids=lambda story: story.__name__)
def test_each_alarm_is_on_when_it_should_be_and_never_otherwise(story: Any) -> None:
    world, minutes, expected = played(story)
    found = {name: changes(alarm, world, minutes) for name, alarm in alarms().items()}
    assert {name: states for name, states in found.items() if states} == expected


@pytest.mark.parametrize("story", SCENARIOS, ids=lambda story: story.__name__)
def test_no_alarm_rests_on_how_much_cloudwatch_reads(story: Any) -> None:
    """AWS does not say how many periods it reads. Reading more may only delay an OK, where a metric has gaps."""
    world, minutes, expected = played(story)
    for name, alarm in alarms().items():
        found, usual = changes(alarm, world, minutes, extra=0), expected.get(name, [])
        assert [change.state for change in found] == [change.state for change in usual], name
        assert [c for c in found if c.state == "ALARM"] == [c for c in usual if c.state == "ALARM"], name


def test_every_alarm_goes_on_and_off_in_some_scenario() -> None:
    states: dict[str, set[str]] = {}
    for story in SCENARIOS:
        for name, found in played(story)[2].items():
            states.setdefault(name, set()).update(change.state for change in found)
    assert states == {name: {"ALARM", "OK"} for name in alarms()}


def test_levels_are_maxima_and_counts_are_sums() -> None:
    """Of numbers that are never negative, some statistics exceed 0 together; which one is meant is said here."""
    for alarm in alarms().values():
        stats = [query["MetricStat"] for query in alarm.get("Metrics", []) if "MetricStat" in query]
        watched = [(stat["Metric"]["MetricName"], stat["Stat"]) for stat in stats]
        for name, stat in watched or [(alarm["MetricName"], alarm["Statistic"])]:
            assert stat == ("Maximum" if name.startswith("Approximate") else "Sum"), name


def test_alarms_on_queues_keep_their_state_without_data_and_others_are_then_fine() -> None:
    """SQS stops reporting a queue that nothing uses; the other metrics are missing when nothing happens."""
    treated = {name: alarm["TreatMissingData"] for name, alarm in alarms().items()}
    queues = {"dead-letters", "undelivered", "oldest-message", "backlog", "in-flight"}
    # Nor does the function look at its configuration when nothing happens.
    assert treated == {name: "ignore" if name in queues | {"config-errors"} else "notBreaching" for name in treated}


@pytest.mark.parametrize("hours", [6, 12, 24])
def test_a_backlog_may_last_as_long_as_the_parameter_says(hours: int) -> None:
    """95 % of the time must pass, so that a reading that is too low now and then does not start it anew."""
    world = Operation()
    for minute in range(25 * HOUR):
        world.queue(minute, in_flight=0 if minute % 30 == 7 else 1)
    (change,) = changes(alarms(str(hours))["backlog"], world, 25 * HOUR)
    assert 0.95 * hours * HOUR <= change.minute <= hours * HOUR


@pytest.mark.parametrize(
    ("datapoints", "needed", "treated"),
    [
        # "Configuring how CloudWatch alarms treat missing data": 3 periods are evaluated, 5 are read; X is breaching.
        ("0-X-X", 3, {"notBreaching": "OK", "breaching": "OK", "ignore": "OK"}),
        ("0----", 3, {"notBreaching": "OK", "breaching": "OK", "ignore": "OK"}),
        ("-----", 3, {"notBreaching": "OK", "breaching": "ALARM", "ignore": "retained"}),
        ("0XX-X", 3, {"notBreaching": "ALARM", "breaching": "ALARM", "ignore": "ALARM"}),
        ("--X--", 3, {"notBreaching": "OK", "breaching": "ALARM", "ignore": "retained"}),
        ("0-X-X", 2, {"notBreaching": "ALARM", "breaching": "ALARM", "ignore": "ALARM"}),
        ("00X0X", 2, {"notBreaching": "ALARM", "breaching": "ALARM", "ignore": "ALARM"}),
        ("0-X--", 2, {"notBreaching": "OK", "breaching": "ALARM", "ignore": "OK"}),
        ("----0", 2, {"notBreaching": "OK", "breaching": "ALARM", "ignore": "OK"}),
        ("---X-", 2, {"notBreaching": "OK", "breaching": "ALARM", "ignore": "retained"}),
    ],
)
def test_the_evaluation_is_the_one_that_aws_documents(datapoints: str, needed: int, treated: dict[str, str]) -> None:
    """The two tables of AWS's guide, column by column; "retained" is shown from either state."""
    for missing, state in treated.items():
        for before in ("OK", "ALARM"):
            metrics = Metrics()
            for minute, value in enumerate(("X" if before == "ALARM" else "0") * 10 + datapoints):
                if value != "-":
                    metrics.report(minute, "N", "M", {}, 1.0 if value == "X" else 0.0)
            # The metrics before the table's five are read no more when its last one is evaluated.
            alarm = {"Namespace": "N", "MetricName": "M", "Statistic": "Maximum", "Period": 60, "Threshold": 0}
            alarm |= {"EvaluationPeriods": 3, "DatapointsToAlarm": needed, "TreatMissingData": missing}
            alarm["ComparisonOperator"] = "GreaterThanThreshold"
            found = changes(alarm, metrics, 15)
            assert (found[-1].state if found else "OK") == (before if state == "retained" else state), (missing, before)
