"""References, codes and mappings from end to end: the built application, with Thrive's stand-in and S3 as a fake."""

import json
import threading
from contextlib import contextmanager

import pytest

from completion_sync import bootstrap
from completion_sync.clock import SystemClock
from completion_sync.errors import EventNotRecordedError
from sandbox.thrive_api import Fault
from tests.support.fakes import (
    COMPLETED_AT,
    PATIENCE_SECONDS,
    FakeClock,
    client_error,
    eventbridge_event,
    holds_any,
    sqs_record,
)
from tests.support.function import Output, functioning, secret_of
from tests.support.s3 import CONFIG_URI, FakeS3
from tests.support.sqs import RETRY_URL

HOUR = 3600
TABLE = "code,contentId\nA,content-a\n"
MAPPING = json.dumps(
    {
        "version": 1,
        "sources": [
            {"name": "vr", "when": "type == 'finished'", "userRef": "who", "contentCode": "what", "completedAt": "at"}
        ],
        "otherwise": "ignore",
    }
)


class World:
    """The function, Thrive, S3, and the records that go in."""

    def __init__(self, function, thrive, s3, capsys):
        self.function, self.thrive, self.s3, self.capsys = function, thrive, s3, capsys
        self.clock = function.clock

    def knows(self, **users):
        """Let Thrive know people, and nobody else."""
        self.thrive.directory.users = {ref: {"id": user_id} for ref, user_id in users.items()}

    def record(self, name, *, age=0, group=None, **fields):
        """Return a record with a completion: content ``c`` unless there is a code, sent ``age`` seconds ago."""
        content = {} if "contentCode" in fields else {"contentId": "c"}
        record = sqs_record({"completedAt": COMPLETED_AT, **content, **fields}, message_id=name, group=group)
        record["attributes"]["SentTimestamp"] = str(int((self.clock.now().wall - age) * 1000))
        return record

    def run(self, *records, after=120, seconds=60.0):
        """Invoke the function; return outcome, reason, user id and content id of each message, in order.

        ``created`` and ``exists`` are both ``recorded``.
        """
        if isinstance(self.clock, FakeClock):
            self.clock.advance(after)
        self.capsys.readouterr()
        self.reported = self.function.reported(*records, seconds=seconds)
        self.output = Output.read(self.capsys.readouterr().out)
        lines = {line["message_id"]: line for line in self.output.messages}
        names = {"created": "recorded", "exists": "recorded"}
        outcomes = {}
        for record in records:
            line = lines[record["messageId"]]
            outcome = names.get(line["outcome"], line["outcome"])
            outcomes[record["messageId"]] = (outcome, *(line.get(name) for name in ("reason", "user_id", "content_id")))
        return outcomes

    def requests(self, route):
        return [arrival for arrival in self.thrive.requests if arrival.route == route]

    def counts(self, *routes):
        return tuple(len(self.requests(route)) for route in routes)

    def metric(self, name):
        return sum(self.output.metric(name))

    def dead_letter(self, number=-1):
        attributes = self.function.dead_letters[number]["MessageAttributes"]
        return {name: value["StringValue"] for name, value in attributes.items()}


RECORDED = ("recorded", None)
UNKNOWN = ("deferred", "unknown_user", None, None)
REJECTED = ("rejected", "unknown_user", None, None)
UNAVAILABLE = ("deferred", "unavailable", None, None)
UNAUTHORIZED = ("deferred", "unauthorized", None, None)


@pytest.fixture
def make(monkeypatch, thrive, capsys):
    """Return what makes a world with further variables, and the files of its prefix in S3 if there are any."""

    @contextmanager
    def making(s3=None, clock=None, **variables):
        files = s3 or FakeS3()
        monkeypatch.setattr(bootstrap, "_s3_client", files.client)
        if s3 is not None:
            variables = {"CONFIG_URI": CONFIG_URI} | variables
        with functioning(monkeypatch, thrive.url, secret=secret_of(thrive), clock=clock, **variables) as function:
            yield World(function, thrive, files, capsys)

    return making


@pytest.fixture
def world(make):
    with make() as it:
        it.knows(**{"E-1": "u1", "E-2": "u2"})
        yield it


# ---- references


def test_references_are_looked_up_once_in_a_batch_and_then_cached(world):
    records = [world.record(f"m{n}", userRef=f"E-{1 + n % 2}", contentId=f"c{n}") for n in range(10)]
    assert world.run(*records) == {f"m{n}": (*RECORDED, f"u{1 + n % 2}", f"c{n}") for n in range(10)}
    assert (world.counts("user", "completion", "token"), world.metric("UserLookups")) == ((2, 10, 2), 2)
    assert world.run(world.record("next", userRef="E-1"))["next"] == (*RECORDED, "u1", "c")
    assert (world.counts("user"), world.metric("UserLookups")) == ((2,), 0)


def test_an_unknown_person_waits_and_is_recorded_when_they_appear(world):
    record = world.record("m1", userRef="E-3")
    assert world.run(record) == {"m1": UNKNOWN}
    assert world.reported == ["m1"]
    assert 150 <= world.function.visibilities["receipt-of-m1"] <= 300
    world.knows(**{"E-3": "u3"})
    assert world.run(record) == {"m1": (*RECORDED, "u3", "c")}


@pytest.mark.parametrize(
    ("age", "least", "most"),
    [
        (0, 150, 300),
        (300, 150, 300),
        (HOUR, 1800, 3600),
        (6 * HOUR, 3 * HOUR, 6 * HOUR),
        (71 * HOUR, 3 * HOUR, 6 * HOUR),
    ],
)
def test_the_wait_follows_the_age_of_the_message_and_not_its_receives(world, age, least, most):
    record = world.record("m1", userRef="E-3", age=age)
    record["attributes"]["ApproximateReceiveCount"] = "90"
    assert world.run(record, after=0) == {"m1": UNKNOWN}
    assert least <= world.function.visibilities["receipt-of-m1"] <= most


@pytest.mark.parametrize(("hours", "limit"), [("72", 72), ("0", 0), ("1.5", 1.5)])
def test_from_the_age_of_user_wait_hours_it_is_rejected(make, hours, limit):
    with make(USER_WAIT_HOURS=hours) as world:
        if limit:
            assert world.run(world.record("m1", userRef="E-3", age=limit * HOUR - 60), after=0) == {"m1": UNKNOWN}
        assert world.run(world.record("m1", userRef="E-3", age=limit * HOUR), after=0) == {"m1": REJECTED}
        assert world.reported == []
        letter = world.dead_letter()
        assert (letter["reason"], letter["status"]) == ("unknown_user", "404")


def test_on_a_fifo_queue_an_unknown_person_is_rejected_at_once_and_holds_nobody(world):
    records = [
        world.record(f"m{n}", userRef=ref, group="g", contentId=f"c{n}") for n, ref in enumerate(["E-1", "E-3", "E-2"])
    ]
    assert list(world.run(*records).values()) == [(*RECORDED, "u1", "c0"), REJECTED, (*RECORDED, "u2", "c2")]


def test_a_group_of_a_standard_queue_waits(world):
    record = world.record("m1", userRef="E-3", group="g")
    record["eventSourceARN"] = record["eventSourceARN"].removesuffix(".fifo")
    assert world.run(record) == {"m1": UNKNOWN}


# ---- a cached id that Thrive refuses


@pytest.mark.parametrize("status", [404, 422])
def test_a_completion_that_is_refused_with_a_cached_id_is_tried_once_more_with_a_new_one(world, status):
    world.run(world.record("m0", userRef="E-1"))
    world.thrive.faults.add(Fault(route="completion", user_id="u1", status=status, times=None))
    world.knows(**{"E-1": "u9"})
    records = [world.record(f"m{n}", userRef="E-1", contentId=f"c{n}") for n in range(4)]
    assert set(world.run(*records).values()) == {(*RECORDED, "u9", f"c{n}") for n in range(4)}
    assert world.counts("user") == (2,)
    assert all(line["attempts"] in (1, 2) for line in world.output.messages)


def test_it_is_refused_if_the_id_is_the_same(world):
    world.run(world.record("m0", userRef="E-1"))
    world.thrive.directory.unknown_users = {"u1"}
    assert world.run(world.record("m1", userRef="E-1"))["m1"] == ("rejected", "refused", "u1", "c")
    assert world.counts("user", "completion") == (2, 2)


def test_it_waits_if_the_person_is_gone_and_if_they_cannot_be_looked_up(world):
    world.run(world.record("m0", userRef="E-1"), world.record("m1", userRef="E-2"))
    world.thrive.directory.unknown_users = {"u1", "u2"}
    world.knows()
    assert world.run(world.record("m2", userRef="E-1"))["m2"][:2] == ("deferred", "unknown_user")
    world.thrive.faults.add(Fault(route="user", status=503, times=None))
    assert world.run(world.record("m3", userRef="E-2"))["m3"][:2] == ("deferred", "unavailable")


@pytest.mark.parametrize(("status", "looks_up"), [(400, False), (422, True)])
def test_only_a_refusal_that_may_be_about_the_person_is_looked_into(world, status, looks_up):
    world.thrive.contract_checked = False
    world.run(world.record("m0", userRef="E-1"))
    world.thrive.faults.add(Fault(route="completion", status=status, times=None))
    assert world.run(world.record("m1", userRef="E-1"))["m1"][:2] == ("rejected", "refused")
    assert world.counts("user") == (2 if looks_up else 1,)


# ---- lookups that fail


def mixed(world, count=6):
    """Return messages with references first, each its own, and as many with user ids."""
    return [world.record(f"ref{n}", userRef=f"X-{n}") for n in range(count)] + [
        world.record(f"id{n}", userId=f"u{n}") for n in range(count)
    ]


def by_kind(outcomes):
    """Return the outcomes of messages with references, and of those with user ids."""
    return (
        {outcome[:2] for name, outcome in outcomes.items() if name.startswith("ref")},
        {outcome[:2] for name, outcome in outcomes.items() if name.startswith("id")},
    )


@pytest.mark.parametrize("status", [500, 503, 408])
def test_an_outage_of_lookups_touches_no_message_with_a_user_id(world, status):
    world.thrive.faults.add(Fault(route="user", status=status, times=None))
    for _ in range(3):
        assert by_kind(world.run(*mixed(world))) == ({("deferred", "unavailable")}, {RECORDED})
    # Recognised in the first batch; two probes in each of the others.
    assert world.counts("user")[0] <= 3 * 6 + 2 + 2
    assert world.metric("OutageProbes") == 2
    assert world.metric("DeferredWithoutCall") == 4
    world.thrive.faults.clear()
    world.knows(**{f"X-{n}": f"x{n}" for n in range(6)})
    assert by_kind(world.run(*mixed(world))) == ({RECORDED}, {RECORDED})


def test_a_pause_of_lookups_touches_no_message_with_a_user_id(world):
    world.thrive.faults.add(Fault(route="user", status=429, headers={"Retry-After": "600"}, times=None))
    for _ in range(2):
        assert by_kind(world.run(*mixed(world))) == ({("deferred", "rate_limited")}, {RECORDED})
        assert world.counts("user")[0] <= 5  # those that were in flight when the pause began


def test_an_outage_of_completions_holds_lookups_too(world):
    world.thrive.faults.add(Fault(route="completion", status=503, times=None))
    world.run(*(world.record(f"m{n}", userId=f"u{n}") for n in range(4)))
    assert set(world.run(*(world.record(f"m{n}", userRef=f"X-{n}") for n in range(4)), after=0).values()) == {
        UNAVAILABLE
    }
    assert world.counts("user") == (0,)


def test_outages_of_both_kinds_are_probed_with_completions_only(world):
    world.thrive.faults.add(Fault(route="user", status=503, times=None))
    world.run(*(world.record(f"m{n}", userRef=f"X-{n}") for n in range(4)))
    world.thrive.faults.add(Fault(route="completion", status=503, times=None))
    world.run(*(world.record(f"m{n}", userId=f"u{n}") for n in range(4)))
    lookups = world.counts("user")
    assert by_kind(world.run(*mixed(world))) == ({UNAVAILABLE[:2]}, {UNAVAILABLE[:2]})
    assert world.counts("user") == lookups


def test_the_second_probe_of_lookups_is_another_person(world):
    world.thrive.faults.add(Fault(route="user", status=503, times=None))
    world.run(*(world.record(f"m{n}", userRef=f"X-{n}") for n in range(4)))
    lookups = world.counts("user")[0]
    for ref, after, probes in [("X-1", 120, 1), ("X-1", 0, 1), ("X-2", 0, 2)]:
        world.run(world.record("m", userRef=ref), after=after)
        assert world.counts("user")[0] == lookups + probes


def test_a_message_whose_table_is_not_available_is_no_probe(make):
    s3 = FakeS3(mapping__json=MAPPING)
    with make(s3) as world:
        world.thrive.faults.add(Fault(route="completion", status=503, times=None))
        world.run(*(world.record(f"m{n}", userId=f"u{n}") for n in range(3)))
        world.thrive.faults.clear()
        needs_table = [world.record(f"c{n}", userId=f"c{n}", contentCode="A") for n in range(3)]
        healthy = world.record("m9", userId="u9")
        outcomes = world.run(*needs_table, healthy)
        assert [outcomes[f"c{n}"][:2] for n in range(3)] == [("deferred", "misconfigured")] * 3
        assert outcomes["m9"][:2] == RECORDED


def test_lookups_that_hang_keep_no_message_with_a_user_id_waiting(make):
    with make(clock=SystemClock(), MAX_CONCURRENCY="2", REQUEST_TIMEOUT_SECONDS="0.3") as world:
        world.thrive.faults.add(Fault(route="user", ending="black_hole", times=None))
        assert by_kind(world.run(*mixed(world, 4), seconds=20))[1] == {RECORDED}
        assert max(arrival.at for arrival in world.requests("completion")) < world.requests("user")[1].at


def test_lookups_take_half_of_the_requests_in_flight(make):
    delay = 0.2
    with make(clock=SystemClock(), MAX_CONCURRENCY="5") as world:
        world.knows(**{f"X-{n}": f"x{n}" for n in range(8)})
        world.thrive.faults.add(Fault(route="user", delay=delay, times=None))
        assert by_kind(world.run(*mixed(world, 8))) == ({RECORDED}, {RECORDED})
        arrivals = [arrival.at for arrival in world.requests("user")]
        in_flight = [sum(at - delay < other <= at for other in arrivals) for at in arrivals]
        assert max(in_flight) == 2


def test_one_reference_whose_lookup_fails_costs_one_lookup_and_no_outage(world):
    world.thrive.faults.add(Fault(route="user", status=503, times=None))
    records = [world.record(f"m{n}", userRef="E-1", contentId=f"c{n}") for n in range(10)]
    assert set(world.run(*records).values()) == {UNAVAILABLE}
    assert world.counts("user") == (3,)
    world.thrive.faults.clear()
    assert {outcome[:2] for outcome in world.run(*records).values()} == {RECORDED}


# ---- who may read


def test_two_forbidden_references_halt_lookups_and_nothing_else(world):
    world.thrive.faults.add(Fault(route="user", status=403, times=None))
    assert by_kind(world.run(*mixed(world, 10))) == ({("deferred", "unauthorized")}, {RECORDED})
    assert 2 <= world.counts("user")[0] <= 6
    assert world.metric("AuthFailures") == world.counts("user")[0]


def test_one_forbidden_reference_halts_nothing_however_many_messages_have_it(world):
    world.thrive.faults.add(Fault(route="user", status=403, times=1))
    bad = [world.record(f"bad{n}", userRef="E-1", contentId=f"c{n}") for n in range(3)]
    assert set(world.run(*bad).values()) == {UNAUTHORIZED}
    assert world.counts("user") == (1,)
    world.thrive.faults.clear()
    world.thrive.faults.add(Fault(route="user", status=403, times=1))
    outcomes = world.run(*bad, *(world.record(f"good{n}", userRef="E-2", contentId=f"c{n}") for n in range(3)))
    assert sorted(outcome[0] for outcome in outcomes.values()) == ["deferred"] * 3 + ["recorded"] * 3


@pytest.mark.parametrize("scope", ["api/unheard-of", "api/webhooks"], ids=["no-such-scope", "scope-that-may-not-read"])
def test_credentials_that_may_not_read_lose_nothing_but_references(make, scope):
    with make(THRIVE_READ_SCOPE=scope) as world:
        for _ in range(2):
            assert by_kind(world.run(*mixed(world))) == ({("deferred", "unauthorized")}, {RECORDED})


def test_cached_people_are_recorded_while_lookups_are_refused(world):
    world.run(world.record("m0", userRef="E-1"))
    world.thrive.faults.add(Fault(route="user", status=403, times=None))
    outcomes = world.run(
        *mixed(world), *(world.record(f"id-cached{n}", userRef="E-1", contentId=f"c{n}") for n in range(9))
    )
    assert by_kind(outcomes) == ({("deferred", "unauthorized")}, {RECORDED})


@pytest.mark.parametrize(
    ("variables", "scopes"),
    [
        ({}, [["api/write"], ["api/read"]]),
        ({"THRIVE_READ_SCOPE": ""}, [["api/write"], []]),
        ({"THRIVE_SCOPE": "api/all"}, [["api/all"]]),
        ({"THRIVE_SCOPE": "api/write api/all"}, [["api/write api/all"]]),
        ({"THRIVE_SCOPE": "api/write api/read"}, [["api/write api/read"]]),
    ],
)
def test_a_token_for_lookups_is_fetched_with_the_first_reference_and_only_if_it_is_needed(make, variables, scopes):
    with make(**variables) as world:
        world.knows(**{"E-1": "u1"})
        world.run(world.record("m1", userId="u1"))
        assert world.counts("token") == (1,)
        assert world.run(world.record("m2", userRef="E-1"))["m2"][:2] == RECORDED
        assert [parse_scope(arrival.body) for arrival in world.requests("token")] == scopes


def parse_scope(body):
    from urllib.parse import parse_qs  # noqa: PLC0415

    return parse_qs(body.decode()).get("scope", [])


# ---- codes and mappings


def vr(**changes):
    return {"type": "finished", "who": "E-1", "what": "A", "at": COMPLETED_AT} | changes


def test_codes_become_content_ids_and_unknown_ones_are_rejected(make):
    with make(FakeS3(content__csv=TABLE)) as world:
        outcomes = world.run(*(world.record(code, userId="u", contentCode=code) for code in ("A", "B")))
        assert outcomes == {"A": (*RECORDED, "u", "content-a"), "B": ("rejected", "unknown_content", None, None)}
        assert world.dead_letter()["detail"] == "content.csv does not have the code B"
        world.s3.put("content.csv", TABLE + "B,content-b\n")
        assert world.run(world.record("B", userId="u", contentCode="B"))["B"] == (*RECORDED, "u", "content-b")


def test_a_code_without_a_configuration_is_invalid_and_without_a_table_misconfigured(make):
    with make() as world:
        assert world.run(world.record("m1", userId="u", contentCode="A"))["m1"][:2] == ("rejected", "invalid_message")
    with make(FakeS3(mapping__json=MAPPING)) as world:
        outcomes = world.run(world.record("m1", userId="u", contentCode="A"), world.record("m2", userId="u"))
        assert [outcome[:2] for outcome in outcomes.values()] == [("deferred", "misconfigured"), RECORDED]


def test_a_mapping_reads_ignores_and_refuses(make):
    with make(FakeS3(mapping__json=MAPPING, content__csv=TABLE)) as world:
        world.knows(**{"E-1": "u1"})
        records = {
            "read": vr(),
            "ignored": {"type": "started"},
            "refused": vr(at="yesterday"),
            "native": {"userId": "u", "contentId": "c", "completedAt": COMPLETED_AT},
        }
        outcomes = world.run(*(sqs_record(event, message_id=name) for name, event in records.items()))
        assert outcomes == {
            "read": (*RECORDED, "u1", "content-a"),
            "ignored": ("ignored", None, None, None),
            "refused": ("rejected", "invalid_message", None, None),
            "native": (*RECORDED, "u", "c"),
        }
        assert world.reported == []
        assert (world.metric("CompletionsIgnored"), world.output.invocations[0]["counts"]["ignored"]) == (1, 1)


@pytest.mark.parametrize(
    ("s3", "reason"),
    [
        (FakeS3(mapping__json="{"), "misconfigured"),
        (FakeS3(), "misconfigured"),
        (FakeS3(mapping__json=MAPPING), "unavailable"),
    ],
    ids=["invalid", "missing", "s3-fails"],
)
def test_without_a_mapping_that_can_be_read_everything_waits(make, s3, reason):
    if reason == "unavailable":
        s3.fail(client_error("InternalError", 500))
    with make(s3) as world:
        outcomes = world.run(world.record("m1", userId="u"), sqs_record("junk", message_id="m2"))
        assert {outcome[:2] for outcome in outcomes.values()} == {("deferred", reason)}
        assert world.reported == ["m1", "m2"]
        assert world.metric("ConfigErrors") == (1 if reason == "misconfigured" else 0)
        # The alarm stays on although nothing is read again.
        world.run(world.record("m1", userId="u"))
        assert world.metric("ConfigErrors") == (1 if reason == "misconfigured" else 0)
        s3.recover()
        s3.put("mapping.json", MAPPING)
        assert world.run(world.record("m1", userId="u"))["m1"][:2] == RECORDED
        assert world.metric("ConfigErrors") == 0


def test_time_that_s3_takes_is_not_there_for_thrive(make):
    s3 = FakeS3(mapping__json=MAPPING)
    with make(s3) as world:
        s3.on_call = lambda _operation: world.clock.advance(10)
        # Of the two reasons it is "unavailable" if the clock jumps before the handler begins to wait for the thread.
        outcome = world.run(world.record("m1", userId="u"), seconds=25)["m1"][:2]
        assert outcome in {("deferred", "out_of_time"), ("deferred", "unavailable")}
        assert world.counts("completion") == (0,)


def test_s3_that_hangs_defers_in_time(make):
    s3 = FakeS3(mapping__json=MAPPING)
    go_on = threading.Event()
    s3.on_call = lambda _operation: go_on.wait(PATIENCE_SECONDS) and None
    with make(s3, clock=SystemClock()) as world:
        assert world.run(world.record("m1", userId="u"), seconds=1.0)["m1"][:2] == ("deferred", "unavailable")
        go_on.set()
        assert world.run(world.record("m1", userId="u"), seconds=20)["m1"][:2] == RECORDED


# ---- direct events


@pytest.mark.parametrize(
    ("detail", "expected"),
    [
        ({"userRef": "E-1", "contentCode": "A"}, {"outcome": "created"}),
        ({"userRef": "E-3", "contentId": "c"}, {"outcome": "deferred", "reason": "unknown_user"}),
        ({"userId": "u", "contentCode": "B"}, {"outcome": "rejected", "reason": "unknown_content"}),
        ({"userRef": "E-1", "userId": "u", "contentId": "c"}, {"outcome": "rejected", "reason": "invalid_message"}),
        ({"something": "else"}, {"outcome": "ignored"}),
    ],
)
def test_a_direct_event_has_the_same_outcome(make, detail, expected):
    with make(FakeS3(mapping__json=MAPPING, content__csv=TABLE)) as world:
        world.knows(**{"E-1": "u1"})
        answer = world.function.invoke(eventbridge_event(detail))
        assert {name: answer.get(name) for name in expected} == expected
        retried = [call for call in world.function.sqs.of("send_message") if call["QueueUrl"] == RETRY_URL]
        assert [150 <= call["DelaySeconds"] <= 300 for call in retried] == [True] * (expected["outcome"] == "deferred")
        assert len(world.function.dead_letters) == (expected["outcome"] == "rejected")


def test_a_direct_event_for_an_unknown_person_is_rejected_at_once_where_nobody_waits(make):
    with make(USER_WAIT_HOURS="0") as world:
        answer = world.function.invoke(eventbridge_event({"userRef": "E-3", "contentId": "c"}))
        assert (answer["outcome"], answer["reason"]) == ("rejected", "unknown_user")
    with make(RETRY_QUEUE_URL="") as world, pytest.raises(EventNotRecordedError, match=r"^deferred: unknown_user$"):
        world.function.invoke(eventbridge_event({"userRef": "E-3", "contentId": "c"}))


# ---- discretion


def test_no_reference_and_no_address_is_in_anything_that_is_written(make):
    secret = ["ada.lovelace", "E-4711-ada"]
    s3 = FakeS3(mapping__json=MAPPING, content__csv=TABLE)
    with make(s3) as world:
        world.thrive.contract_checked = False
        refs = ["ada.lovelace@example.com", "E-4711-ada"]
        world.thrive.directory.users = {refs[0]: {"id": "u1", "email": refs[0]}, "other": {"id": "u2", "ref": refs[1]}}
        written = []
        for fault in (None, 422, 404, 403, 429, 503):
            if fault:
                world.thrive.faults.clear()
                text = json.dumps({"status": fault, "message": f"no {refs[0]} {refs[1]}"})
                world.thrive.faults.add(Fault(route="user", status=fault, body=text, times=None))
            events = [vr(who=ref, what=what) for ref in (*refs, "other") for what in ("A", "ada.lovelace@example.com")]
            world.run(
                *(sqs_record(event, message_id=str(n)) for n, event in enumerate([*events, vr(who=refs, at=refs[0])]))
            )
            world.clock.advance(1000)
            answers = [world.function.invoke(eventbridge_event(vr(who=ref))) for ref in refs]
            written += [world.output.text, world.capsys.readouterr().out, json.dumps(answers)]
        written += [json.dumps(letter["MessageAttributes"]) for letter in world.function.dead_letters]
        assert not holds_any("\n".join(written), secret)
        assert all(outcome in "".join(written) for outcome in ("unknown_user", "unknown_content", "created", "refused"))
