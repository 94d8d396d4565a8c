"""The interface from end to end: events go in; what is answered, sent, queued, logged and counted comes out."""

import dataclasses
import json
import logging
import threading
import time
from contextlib import contextmanager
from typing import Any

import boto3
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from moto import mock_aws

from completion_sync import bootstrap
from completion_sync.clock import SystemClock
from completion_sync.errors import (
    AccessError,
    EventNotRecordedError,
    SettingError,
    TemporaryError,
    UnsupportedEventError,
)
from completion_sync.handler import lambda_handler
from completion_sync.observability import ALWAYS_EMITTED, METRICS
from completion_sync.outcomes import Created
from completion_sync.sync import Result
from completion_sync.transport import Response
from sandbox.pipeline.batches import failed_ids, record_of
from sandbox.thrive_api import Fault
from tests.support.fakes import (
    CANARY,
    CONTENT_ID,
    PATIENCE_SECONDS,
    QUEUE_ARN,
    TENANT,
    USER_ID,
    FakeContext,
    FakeTransport,
    body,
    client_error,
    completion_fields,
    eventbridge_event,
    holds_any,
    json_response,
    secret_text,
    sqs_event,
    sqs_record,
    texts_of,
    token_response,
)
from tests.support.function import Output, close, functioning, secret_of
from tests.support.sqs import RETRY_URL, fail_with, throttled

FIFO_ARN = QUEUE_ARN + ".fifo"
TOKEN = "token-of-the-canary"
GOOD_TOKEN = token_response(TOKEN)
GOOD = json_response(201, {"statementId": "statement-1"})

NO_QUEUES = {"DEAD_LETTER_QUEUE_URL": "", "RETRY_QUEUE_URL": ""}


@pytest.fixture
def function(thrive, monkeypatch):
    """Yield the function with both queues, on the stand-in."""
    with functioning(monkeypatch, thrive.url, secret=secret_of(thrive)) as it:
        yield it


@pytest.fixture
def offline(monkeypatch):
    """Return a function that yields the function, and a fake transport with two answers: to tokens, to completions."""

    @contextmanager
    def start(completion=GOOD, token=GOOD_TOKEN, **options):
        def respond(request):
            wanted = token if request.path.startswith("/oauth2/") else completion
            if isinstance(wanted, Exception):
                raise wanted
            return wanted if isinstance(wanted, Response) else wanted(request)

        transport = FakeTransport(always=respond)
        with monkeypatch.context() as patch:
            patch.setattr(bootstrap, "_transport", lambda *_: transport)
            with functioning(patch, "https://thrive.example", **options) as it:
                yield it, transport

    return start


@pytest.fixture
def read(capsys):
    """Return a function that reads what was printed since its last call; nothing goes to standard error."""

    def read_all():
        captured = capsys.readouterr()
        assert captured.err == ""
        return Output.read(captured.out)

    return read_all


def record(number=1, **changes):
    """Return an SQS record with a completion of its own."""
    return sqs_record(body(userId=f"user-{number}"), message_id=f"message-{number}", **changes)


def always(**fault):
    """Return a fault of every completion."""
    return Fault(route="completion", times=None, **fault)


# --- The table of outcomes ----------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Row:
    """What happens, and the outcome that the interface promises."""

    outcome: str
    reason: str | None = None
    fault: Fault | None = None
    message: dict[str, Any] | None = None
    prepare: Any = None  # called with the function and the stand-in
    seconds: float = 30.0
    timeout: str = "10"


def record_before(it, _):
    assert it.reported(record()) == []


def secret_fails(code):
    return lambda it, _: setattr(it.secrets, "failure", client_error(code))


def unavailable(**fault):
    return Row("deferred", "unavailable", always(**fault))


BROKEN = {kind: {"spoil": kind} for kind in ("html", "gzip", "gzip_bomb")}
BROKEN |= {"no JSON": {"body": "{"}, "nothing": {"body": ""}, "an array": {"body": "[]"}}
BROKEN |= {ending: {"ending": ending} for ending in ("endless", "truncate")}
ELSEWHERE = {"Location": "http://127.0.0.1:9/"}
TOKEN_REASONS = ("unauthorized", "rate_limited", "unavailable", "misconfigured")
ROWS = {
    "201": Row("created"),
    "200 for a repeat": Row("exists", prepare=record_before),
    "201 without statementId": Row("created", fault=always(status=201, commit=True, body="{}")),
    **{str(status): Row("exists", None, always(status=status)) for status in (200, 202, 409)},
    **{f"201 with {name}": unavailable(**fault) for name, fault in BROKEN.items()},
    **{f"{status} with HTML": unavailable(status=status, spoil="html") for status in (200, 400, 404, 409, 422)},
    **{f"{status} of a gateway": unavailable(status=status, body='{"message": "x"}') for status in (404, 405, 410)},
    "no completedAt": Row("rejected", "invalid_message", message={"userId": "u", "contentId": "c"}),
    "a number as userId": Row("rejected", "invalid_message", message=completion_fields(userId=7)),
    **{
        str(status): Row("rejected", "refused", always(status=status))
        for status in (400, 404, 405, 410, 418, 422, 451, 499)
    },
    "429": Row("deferred", "rate_limited", always(status=429)),
    **{str(status): unavailable(status=status) for status in (102, 103, 204, 408, 425, 500, 502, 503, 599)},
    "reset": unavailable(ending="reset"),
    "closed": unavailable(ending="close"),
    "timeout": Row("deferred", "unavailable", always(ending="black_hole"), timeout="0.4"),
    "401": Row("deferred", "unauthorized", always(status=401)),
    "403": Row("deferred", "unauthorized", always(status=403)),
    "credentials refused": Row(
        "deferred", "unauthorized", prepare=lambda _, thrive: thrive.accept_credentials(("somebody", "else"))
    ),
    **{
        f"token {status}": Row("deferred", reason, Fault(route="token", times=None, status=status))
        for status, reason in zip((400, 429, 500, 302), TOKEN_REASONS, strict=True)
    },
    "no secret": Row("deferred", "misconfigured", prepare=secret_fails("ResourceNotFoundException")),
    "secret throttled": Row("deferred", "unavailable", prepare=secret_fails("ThrottlingException")),
    "secret malformed": Row("deferred", "misconfigured", prepare=lambda it, _: it.secrets.rotate("no JSON")),
    **{
        str(status): Row("deferred", "misconfigured", always(status=status, headers=ELSEWHERE))
        for status in (101, 300, 301, 302, 303, 304, 307, 308)
    },
    "no time": Row("deferred", "out_of_time", seconds=0.1),
}


@pytest.fixture
def under(thrive, monkeypatch):
    """Return a function that yields the function under the conditions of a row."""

    @contextmanager
    def arrange(row):
        with functioning(monkeypatch, thrive.url, secret=secret_of(thrive), REQUEST_TIMEOUT_SECONDS=row.timeout) as it:
            if row.prepare is not None:
                row.prepare(it, thrive)
            if row.fault is not None:
                thrive.faults.add(row.fault)
            yield it

    return arrange


@pytest.mark.parametrize("row", ROWS.values(), ids=ROWS)
def test_outcome_of_a_message(row, under, thrive, read):
    with under(row) as it:
        read()
        message = record() if row.message is None else sqs_record(row.message, message_id="message-1")
        reported = it.reported(message, seconds=row.seconds)

        # Recorded: acknowledged. Rejected: in the dead-letter queue. Deferred: reported, with a backoff.
        assert reported == (["message-1"] if row.outcome == "deferred" else [])
        assert [entry["MessageBody"] for entry in it.dead_letters] == [message["body"]] * (row.outcome == "rejected")
        assert set(it.visibilities) == ({"receipt-of-message-1"} if row.outcome == "deferred" else set())

        output = read()
        [line] = output.messages
        assert (line["outcome"], line.get("reason")) == (row.outcome, row.reason)
        status = row.fault and row.fault.status
        if row.fault and row.fault.route == "completion" and status and status not in (102, 103):
            assert line["status"] == status
        for entry in it.dead_letters:
            attributes = {name: value["StringValue"] for name, value in entry["MessageAttributes"].items()}
            assert (attributes["reason"], attributes.get("status")) == (row.reason, str(status) if status else None)
        counts = dict.fromkeys(("created", "exists", "ignored", "rejected", "deferred"), 0) | {row.outcome: 1}
        assert output.invocations[0]["counts"] == {"messages": 1, **counts, "reported": len(reported)}
        for outcome, name in zip(counts, ("Created", "Existing", "Ignored", "Rejected", "Deferred"), strict=True):
            assert sum(output.metric(f"Completions{name}")) == counts[outcome]
        # Misconfigured before anything was sent to Thrive: the secret holds nothing usable.
        has_no_credentials = row.reason == "misconfigured" and not thrive.requests.all()
        assert output.metric("AuthFailures") == [float(row.reason == "unauthorized" or has_no_credentials)]
        assert (sum(output.metric("Throttles")) > 0) == (row.reason == "rate_limited")
        if row.outcome == "created":
            assert len(thrive.ledger) == 1


@pytest.mark.parametrize("row", ROWS.values(), ids=ROWS)
def test_outcome_of_a_direct_event(row, under, thrive):
    with under(row) as it:
        event = eventbridge_event(completion_fields(userId="user-1"))
        if row.message is not None:
            # No time of the envelope: the row about a missing completedAt means what it says.
            event = eventbridge_event(row.message, time=None)
        answered = it.invoke(event, row.seconds)
        assert (answered["outcome"], answered.get("reason")) == (row.outcome, row.reason)
        assert set(answered) <= {"outcome", "statementId", "reason", "detail"}
        assert ("detail" in answered) == (row.outcome in {"rejected", "deferred"})
        if row == Row("created"):
            assert answered["statementId"] == thrive.ledger.entries()[0].statement_id
        requeued, dead = it.sqs.of("send_message"), it.dead_letters
        assert (len(requeued), len(dead)) == (row.outcome == "deferred", row.outcome == "rejected")
        for request in requeued:
            assert request["QueueUrl"] == RETRY_URL
            assert json.loads(request["MessageBody"]) == event
            assert 0 <= request["DelaySeconds"] <= 900
        for entry in dead:
            assert json.loads(entry["MessageBody"]) == event
            assert "sourceQueue" not in entry["MessageAttributes"]
            assert entry["MessageAttributes"]["sourceMessageId"]["StringValue"] == event["id"]


@pytest.mark.parametrize("queue", ["none", "failing", "refusing"])
@pytest.mark.parametrize(("status", "outcome"), [(409, "exists"), (422, "rejected"), (503, "deferred")])
def test_what_is_not_in_a_queue_comes_again(queue, status, outcome, thrive, monkeypatch, read):
    thrive.faults.add(always(status=status))
    variables = NO_QUEUES if queue == "none" else {}
    with functioning(monkeypatch, thrive.url, secret=secret_of(thrive), **variables) as it:
        refuse_in(it.sqs, queue)
        assert it.reported(record()) == ([] if outcome == "exists" else ["message-1"])
        # A single message is sent by a call without entries, of which none can be refused.
        is_settled = outcome == "exists" or (outcome == "deferred" and queue == "refusing")
        if is_settled:
            assert it.invoke(eventbridge_event())["outcome"] == outcome
        else:
            with pytest.raises(EventNotRecordedError, match=f"^{outcome}: (refused|unavailable)$"):
                it.invoke(eventbridge_event())
        assert read().invocations[-1]["counts"]["reported"] == int(not is_settled)


def refuse_in(sqs, queue):
    """Let calls to SQS fail as a whole, or each entry in them."""
    if queue == "failing":
        sqs.on_call = fail_with(throttled())
    elif queue == "refusing":
        sqs.refused = lambda _: "InternalError"


# --- What Lambda accepts as an answer -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "ids",
    [
        [],
        ["one"],
        [f"message-{number}" for number in range(30)],
        ["twice", "twice", "twice", "once"],
        ["ünï-\u2028-\n-\"-'-💥", "x" * 1000, " "],
    ],
    ids=["none", "one", "thirty", "an id more than once", "unusual"],
)
@pytest.mark.parametrize("first", range(4), ids=["created", "deferred", "rejected", "invalid"])
def test_only_received_ids_are_echoed(ids, first, thrive, monkeypatch):
    thrive.faults.add(always(status=503, content_id="deferred"))
    thrive.faults.add(always(status=422, content_id="rejected"))
    fates = [("created", "deferred", "rejected", "invalid")[(first + index) % 4] for index in range(len(ids))]
    records = [
        sqs_record("no JSON" if fate == "invalid" else body(userId=f"u{index}", contentId=fate), message_id=each)
        for index, (each, fate) in enumerate(zip(ids, fates, strict=True))
    ]
    # No dead-letter queue, so that what is rejected is reported. `reported` applies Lambda's own strict rules.
    with functioning(monkeypatch, thrive.url, secret=secret_of(thrive), DEAD_LETTER_QUEUE_URL="") as it:
        reported = it.reported(*records)
    unsettled = [each for each, fate in zip(ids, fates, strict=True) if fate != "created"]
    assert reported == list(dict.fromkeys(unsettled))


@pytest.mark.parametrize("event", [None, {}, {"Records": [{"body": CANARY}]}, {"detail": CANARY, "rawPath": CANARY}])
def test_unsupported_event_is_raised_with_its_keys_and_without_its_values(event, function, thrive, read):
    with pytest.raises(UnsupportedEventError) as caught:
        function.invoke(event)
    if isinstance(event, dict):
        assert all(repr(key) in str(caught.value) for key in event)
    assert CANARY not in texts_of(caught.value) + read().text
    assert len(thrive.requests) == 0


# --- Time ---------------------------------------------------------------------------------------------------------


class Hang:
    """A call that hangs until the ``with`` block ends."""

    def __init__(self):
        self._released = threading.Event()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._released.set()

    def __call__(self, *_):
        assert self._released.wait(PATIENCE_SECONDS)
        return Response(503, None)


def test_slow_api_ends_before_the_functions_timeout(thrive, monkeypatch):
    seconds = 2.0
    thrive.faults.add(always(delay=seconds / 4))  # two at a time: thirty would take almost four times as long
    with functioning(monkeypatch, thrive.url, secret=secret_of(thrive), clock=SystemClock(), MAX_CONCURRENCY="2") as it:
        began = time.monotonic()
        reported = it.reported(*(record(number) for number in range(30)), seconds=seconds)
        assert time.monotonic() - began < seconds
        assert it.dead_letters == []
    recorded = {entry.key.user_id for entry in thrive.ledger.entries()}
    acknowledged = {f"user-{number}" for number in range(30)} - {each.replace("message", "user") for each in reported}
    assert 1 <= len(acknowledged) <= len(recorded) < 30
    assert acknowledged <= recorded


def test_hung_sqs_does_not_hold_up_the_answer(thrive, monkeypatch):
    seconds = 4.0
    thrive.faults.add(always(status=422))
    monkeypatch.setattr(bootstrap, "REPORTERS", 1)
    with (
        functioning(monkeypatch, thrive.url, secret=secret_of(thrive), clock=SystemClock()) as it,
        Hang() as it.sqs.on_call,
    ):
        began = time.monotonic()
        reported = it.reported(*(record(number) for number in range(12)), seconds=seconds)
        assert time.monotonic() - began < seconds
        assert len(reported) == 12
        with pytest.raises(EventNotRecordedError, match="rejected: refused"):
            it.invoke(eventbridge_event(), seconds)
        assert time.monotonic() - began < seconds * 2
    # The second call of the batch, and the direct event's, never began.
    assert len(it.sqs.calls) == 1


def test_hung_calls_to_thrive_never_keep_calls_to_sqs_waiting(offline):
    poison = sqs_record("no JSON", message_id="poison")
    hang = Hang()
    with offline(hang, clock=SystemClock(), MAX_CONCURRENCY="1") as (it, _), hang:
        assert it.reported(record(1), poison, record(2), seconds=2.0) == ["message-1", "message-2"]
        assert [entry["MessageBody"] for entry in it.dead_letters] == ["no JSON"]
        assert set(it.visibilities) == {"receipt-of-message-1", "receipt-of-message-2"}
        # In the next invocation the first one's call still hangs.
        assert it.reported(poison, seconds=2.0) == []


@pytest.mark.parametrize(
    ("seconds", "messages", "kept_back"),
    [
        pytest.param(3, 1, 0.6, id="a fifth of a short time"),
        pytest.param(60, 10, 6.01, id="six seconds of a long one"),
        pytest.param(900, 10_000, 16.0, id="and a second for a thousand messages"),
    ],
)
def test_time_is_kept_back_for_the_report(seconds, messages, kept_back, function, monkeypatch):
    remaining = []

    class Sync:
        def run(self, batch, deadline, _began):
            remaining.append(deadline.remaining())
            return [Result(Created("s", 201)) for _ in batch]

    application = dataclasses.replace(function.application, sync=Sync())
    monkeypatch.setattr(bootstrap, "application", lambda: application)
    function.invoke(sqs_event(*(sqs_record("{", message_id=f"m-{number}") for number in range(messages))), seconds)
    assert remaining == [pytest.approx(seconds - kept_back)]


# --- The backoff --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [1, 10, 25])
def test_each_deferred_message_has_its_backoff(count, function, thrive):
    thrive.faults.add(always(status=500))
    reported = function.reported(*(record(number, receive_count=number + 1) for number in range(count)))
    assert len(reported) == len(function.visibilities) == count
    sizes = [len(request["Entries"]) for request in function.sqs.of("change_message_visibility_batch")]
    assert sorted(sizes, reverse=True) == [10] * (count // 10) + [count % 10] * (count % 10 > 0)
    for number in range(count):
        whole = min(900, 30 * 2**number)
        assert whole / 2 <= function.visibilities[f"receipt-of-message-{number}"] <= whole


@pytest.mark.parametrize("failure", ["failing", "refusing"])
def test_answer_is_the_same_when_the_backoff_cannot_be_set(failure, function, thrive):
    thrive.faults.add(always(status=500, content_id="down"))
    refuse_in(function.sqs, failure)
    down = [sqs_record(body(userId=f"u{n}", contentId="down"), message_id=f"down-{n}") for n in range(11)]
    assert function.reported(record(1), *down) == [f"down-{number}" for number in range(11)]


def test_dead_letters_that_sqs_failed_are_reported(function, thrive):
    thrive.faults.add(always(status=422))
    function.sqs.refused = lambda entry: "InternalError" if '"user-7"' in entry["MessageBody"] else None
    assert function.reported(*(record(number) for number in range(11))) == ["message-7"]


@pytest.mark.parametrize(("retry_after", "seconds"), [("1800", 1800), ("7000", 3600)])
def test_retry_after_wins_over_a_shorter_backoff_up_to_an_hour(retry_after, seconds, function, thrive):
    thrive.faults.add(always(status=429, headers={"Retry-After": retry_after}))
    assert function.reported(record()) == ["message-1"]
    assert function.visibilities == {"receipt-of-message-1": seconds}
    assert len(thrive.requests.of("completion")) == 1
    # SQS delays a message by 900 s at most.
    assert function.invoke(eventbridge_event())["reason"] == "rate_limited"
    assert function.sqs.of("send_message")[0]["DelaySeconds"] == 900


# --- FIFO, and one effect -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fault", "outcomes"),
    [
        pytest.param({}, "created exists", id="after the answer"),
        pytest.param({"ending": "reset", "commit": True}, "exists exists", id="after the commit, reset"),
        pytest.param({"ending": "black_hole", "commit": True}, "exists exists", id="after the commit, silence"),
        pytest.param({"status": 500, "commit": True}, "exists exists", id="after the commit, 500"),
        pytest.param({"ending": "reset"}, "created exists", id="before the commit"),
        pytest.param({"ending": "close_after_headers"}, "exists exists", id="within the answer"),
    ],
)
def test_one_record_whatever_is_lost(fault, outcomes, under, thrive, read):
    with under(Row("", fault=Fault(route="completion", **fault) if fault else None)) as it:
        # The message is not deleted after the first delivery (a crash), and comes again.
        assert it.reported(record()) == []
        assert it.reported(record(receive_count=2)) == []
    assert len(thrive.ledger) == 1
    assert len({arrival.body for arrival in thrive.requests.of("completion")}) == 1
    assert " ".join(line["outcome"] for line in read().messages) == outcomes


def test_healthy_batch_is_one_call_for_each_completion_one_token_and_one_secret(function, thrive, read):
    assert function.reported(*(record(number % 20) for number in range(25))) == []
    assert [len(thrive.requests.of(route)) for route in ("completion", "token")] == [20, 1]
    # Warm, an invocation costs only the call, over a connection that was kept.
    before = thrive.requests.all()
    read()
    for number in range(100, 104):
        function.reported(record(number))
    later = thrive.requests.all()[len(before) :]
    assert [arrival.route for arrival in later] == ["completion"] * 4
    assert {arrival.connection for arrival in later} <= {arrival.connection for arrival in before}
    output = read()
    assert output.metric("TokenRequests") == output.metric("SecretReads") == [0.0] * 4
    assert (function.secrets.reads, function.sqs.calls) == (1, [])


# --- Secrets and personal data ------------------------------------------------------------------------------------

SECRETS = (CANARY, TOKEN)
LEARNER = ("ada@learner.example", "Ada Lovelace", "+44 20 7946 0000")
DIRECT = pytest.mark.parametrize("direct", [False, True], ids=["SQS", "direct"])


@pytest.fixture
def everything(capsys, caplog, monkeypatch):
    """Return a function that invokes with an event, and returns everything that leaves the function, unescaped.

    Everything that could log does so, at DEBUG.
    """
    for variable in ("POWERTOOLS_LOG_LEVEL", "AWS_LAMBDA_LOG_LEVEL"):
        monkeypatch.setenv(variable, "DEBUG")
    monkeypatch.setenv("POWERTOOLS_LOGGER_LOG_EVENT", "true")
    caplog.set_level(logging.DEBUG)

    def invoke(it, event):
        try:
            answered = repr(it.invoke(event))
        except Exception as error:  # noqa: BLE001 - a direct event may raise; whatever it is must not leak
            assert "Records" not in event
            answered = texts_of(error)
        captured = capsys.readouterr()
        logs = [repr(vars(each)) for each in caplog.records]
        raw = "\n".join([answered, captured.out, captured.err, caplog.text, *logs, repr(it.sqs.calls)])
        return raw + raw.encode("ascii", "backslashreplace").decode("unicode_escape")

    return invoke


def echo(status):
    """Return an answer that quotes, in every field, everything that a careless server could quote."""

    def respond(request):
        header = request.headers.get("Authorization", "")
        quoted = f"secret {CANARY} token {TOKEN} tenant {TENANT} header {header} body {request.body.decode('latin-1')}"
        fields = dict.fromkeys(["message", "error", "error_description", "statementId"], quoted)
        return json_response(status, fields, quoted)

    return respond


# tests/hostile/test_canaries.py has many more.
SCENARIOS = {
    **{f"answered {status}": {"completion": echo(status)} for status in (200, 201, 301, 401, 403, 422, 500)},
    **{f"token answered {status}": {"token": echo(status)} for status in (200, 302, 400, 401, 500)},
    "a defect": {"completion": ValueError(f"{CANARY} {TOKEN}")},
    "a defect at the token": {"token": KeyError(f"{CANARY} {TOKEN}")},
    "secret with a trailing newline": {"secret": secret_text(clientSecret=CANARY + "\n")},
    "secret that is no JSON": {"secret": f'{{"clientSecret": "{CANARY}"'},
    "secret with authMethod basic": {"secret": secret_text(authMethod="basic"), "completion": echo(422)},
    "Secrets Manager quotes it": {"secret_failure": client_error("AccessDeniedException")},
    "SQS quotes it": {"completion": echo(422), "sqs_failure": client_error("AccessDenied")},
}


@DIRECT
@pytest.mark.parametrize("variables", [{}, NO_QUEUES], ids=["with queues", "without queues"])
@pytest.mark.parametrize("scenario", SCENARIOS.values(), ids=SCENARIOS)
def test_no_secret_leaves_but_to_thrive(scenario, variables, everything, offline, direct):
    answers = {name: scenario[name] for name in ("completion", "token", "secret") if name in scenario}
    event = eventbridge_event() if direct else sqs_event(record(1), record(2), sqs_record("{}", message_id="invalid"))
    with offline(**answers, **variables) as (it, transport):
        it.secrets.failure = scenario.get("secret_failure")
        if "sqs_failure" in scenario:
            it.sqs.on_call = fail_with(scenario["sqs_failure"])
        assert holds_any(everything(it, event), SECRETS) == []
    for request in transport.requests:
        headers = {name: value for name, value in request.headers.items() if name != "Authorization"}
        is_for_token = request.path.startswith("/oauth2/")
        assert holds_any(repr([request.path, headers, b"" if is_for_token else request.body]), SECRETS) == []


@DIRECT
@pytest.mark.parametrize("status", [201, 422, 500, 401])
def test_learners_data_is_never_in_output(status, everything, offline, direct):
    email, name, phone = LEARNER
    fields = completion_fields() | {"email": email, "user": {"name": name, "phones": [phone]}, name: email}
    broken = json.dumps(fields | {"userId": 7})
    event = eventbridge_event(fields, **{name: email})
    if not direct:
        event = sqs_event(sqs_record(fields), sqs_record(broken), sqs_record(broken[:-1]))
    with offline(json_response(status, {"statementId": "s", "message": "no"}), **NO_QUEUES) as (it, transport):
        text = everything(it, event)
        # The search is able to find them.
        assert holds_any(text + json.dumps(event), LEARNER) == list(LEARNER)
        assert holds_any(text + repr(transport.requests), LEARNER) == []


def test_words_of_thrive_are_not_logged(everything, offline):
    with offline(json_response(422, {"message": "Ada Lovelace (ada@learner.example) is unknown"})) as (it, _):
        text = everything(it, sqs_event(record()))
        [entry] = it.dead_letters
    detail = entry["MessageAttributes"]["detail"]["StringValue"]
    assert detail == "Thrive answered 422: Ada Lovelace [e-mail] is unknown"
    assert holds_any(text.replace(detail, ""), ["Lovelace", "ada@"]) == []
    assert text.count(detail) == 2  # the call to SQS, with and without escapes


@pytest.mark.parametrize("end", ["\n", "\r\n", "\u2028", "\u2029", "\x85", '","forged":"'])
def test_ids_do_not_forge_a_log_line(end, offline, read):
    forging = end + '{"level":"INFO","message":"forged"}'
    with offline(json_response(201, {"statementId": "statement" + forging}), DEAD_LETTER_QUEUE_URL="") as (it, _):
        it.reported(
            sqs_record(body(userId="user" + forging), message_id="one" + forging),
            sqs_record(body(contentId="content" + forging), message_id="two"),
            sqs_record("{" + forging, message_id="three"),
        )
    output = read()
    assert output.text.isascii()
    assert len(output.text.splitlines()) == len(output.logs) + len(output.blobs)
    assert len(output.messages) == 3
    for line in output.logs:
        assert "forged" not in line
        assert line["message"] != "forged"


# --- The log and the metrics --------------------------------------------------------------------------------------

LINE_FIELDS = {"message_id", "outcome", "reason", "status", "user_id", "content_id", "attempts", "receive_count"}
LINE_FIELDS |= {"duration_ms"}
POWERTOOLS_FIELDS = {"level", "message", "timestamp", "service", "function_request_id"}


def test_fields_of_the_log_are_the_promised_ones(function, thrive, read):
    thrive.faults.add(always(status=422, user_id="user-2"))
    thrive.faults.add(always(status=503, user_id="user-3"))
    function.invoke(sqs_event(record(1, receive_count=4), record(2), record(3), sqs_record("{", message_id="bad")))
    output = read()
    fields = [set(line) - POWERTOOLS_FIELDS for line in output.messages]
    assert fields == [
        LINE_FIELDS - {"reason"} | {"statement_id"},
        LINE_FIELDS,
        LINE_FIELDS,
        LINE_FIELDS - {"status", "user_id", "content_id"},
    ]
    created = output.messages[0]
    assert [created[name] for name in ("message_id", "user_id", "content_id", "receive_count", "statement_id")] == [
        *("message-1", "user-1", CONTENT_ID, 4, thrive.ledger.entries()[0].statement_id)
    ]
    assert [line["attempts"] for line in output.messages] == [1, 1, 3, 0]
    assert [line["level"] for line in output.messages] == ["INFO", "WARNING", "WARNING", "WARNING"]
    [invocation] = output.invocations
    assert set(invocation) - POWERTOOLS_FIELDS == {"counts"}
    assert {line["function_request_id"] for line in output.logs} == {function.contexts[0].aws_request_id}


def test_metrics_are_the_promised_ones():
    """Dashboards and alarms are built on them."""
    counts = [
        *("CompletionsCreated", "CompletionsExisting", "CompletionsRejected", "CompletionsDeferred"),
        *("CompletionsIgnored", "UnknownUsers", "UnknownContent", "UserLookups", "ConfigErrors"),
        *("TokenRequests", "SecretReads", "AuthFailures", "Throttles", "OutageProbes", "DeferredWithoutCall"),
    ]
    assert {**dict.fromkeys(counts, "Count"), "ApiLatency": "Milliseconds"} == METRICS


@pytest.mark.parametrize("count", [0, 1, 99, 100, 101, 250])
def test_metrics_of_an_invocation_are_valid_blobs_with_each_value_once(count, offline, read):
    with offline() as (it, _):
        assert it.reported(*(record(number) for number in range(count))) == []
    output = read()
    assert len(output.blobs) == count // 100 + 1
    for blob in output.blobs:
        # What CloudWatch accepts, with the one namespace, the one dimension and the promised metrics.
        [directive] = blob["_aws"]["CloudWatchMetrics"]
        assert (directive["Namespace"], directive["Dimensions"]) == ("ThriveCompletionSync", [["service"]])
        assert isinstance(blob["_aws"]["Timestamp"], int)
        names = [metric["Name"] for metric in directive["Metrics"]]
        assert {metric["Name"]: metric["Unit"] for metric in directive["Metrics"]}.items() <= METRICS.items()
        assert set(blob) == {"_aws", "service", *names}
        assert len(blob) == len(names) + 2 <= 100
        assert all(1 <= len(blob[name]) <= 100 and {type(each) for each in blob[name]} == {float} for name in names)
    assert output.metric("CompletionsCreated") == [count]
    assert len(output.metric("ApiLatency")) == count
    # Alarms need the zeros of these; the others cost nothing while there is nothing to count.
    assert {name for name in METRICS if len(output.metric(name)) == 1} - {"ApiLatency"} == ALWAYS_EMITTED


def test_outage_is_logged_and_counted(function, thrive, read):
    thrive.faults.add(always(status=503))
    function.reported(*(record(number) for number in range(20)))
    assert function.reported(record(20), record(21)) == ["message-20", "message-21"]
    function.clock.sleep(1)
    function.reported(record(22), record(23), record(24))
    thrive.faults.clear()
    function.clock.sleep(2)
    assert function.reported(record(25), record(26), record(27)) == []
    output = read()
    assert output.metric("OutageProbes") == [2, 1]
    assert output.metric("DeferredWithoutCall")[1:] == [2, 1]
    assert len([line for line in output.logs if "outage" in line["message"]]) == 2


# --- Settings -----------------------------------------------------------------------------------------------------


@pytest.fixture
def environment(monkeypatch):
    """Yield a patcher of variables; the application is built from them, and forgotten at the end."""
    for variable in ("DEAD_LETTER_QUEUE_URL", "RETRY_QUEUE_URL", "AWS_PROFILE", "AWS_ENDPOINT_URL"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("THRIVE_SECRET_ID", "thrive")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-west-2")
    bootstrap.application.cache_clear()
    yield monkeypatch
    if bootstrap.application.cache_info().currsize:
        close(bootstrap.application())
    bootstrap.application.cache_clear()


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("THRIVE_SECRET_ID", ""),
        ("THRIVE_BASE_URL", f"http://{CANARY}.example"),
        ("BACKOFF_CAP_SECONDS", CANARY),
        ("POWERTOOLS_LOG_LEVEL", CANARY),
        ("POWERTOOLS_LOGGER_SAMPLE_RATE", CANARY),
    ],
)
@pytest.mark.parametrize("event", [sqs_event(sqs_record()), eventbridge_event(), {}], ids=["SQS", "direct", "foreign"])
def test_bad_setting_is_raised_for_any_event(event, variable, value, environment):
    environment.setenv(variable, value)
    environment.setenv("POWERTOOLS_SERVICE_NAME", f"bad-{variable}")
    for _ in range(2):
        with pytest.raises(SettingError) as caught:
            lambda_handler(event, FakeContext(SystemClock()))
        assert caught.value.variable in {variable, "POWERTOOLS_*"}
        assert CANARY not in texts_of(caught.value)
        assert caught.value.__context__ is None


@pytest.mark.parametrize("auth_method", ["oauth2", "basic"])
def test_from_queue_to_record(auth_method, environment, thrive, read):
    """As deployed: settings from the environment, boto3's own clients, a queue, a dead-letter queue, a secret."""
    environment.setenv("THRIVE_BASE_URL", thrive.url)
    environment.setenv("POWERTOOLS_SERVICE_NAME", f"from-queue-to-record-{auth_method}")
    thrive.faults.add(always(status=503, headers={"Retry-After": "600"}, user_id="down"))
    thrive.faults.add(always(status=422, user_id="refused"))
    texts = [body(userId="good"), body(userId="down"), body(userId="refused"), "{", json.dumps(eventbridge_event())]
    with mock_aws():
        sqs = boto3.client("sqs", region_name="eu-west-2")
        url = sqs.create_queue(QueueName="completions", Attributes={"VisibilityTimeout": "0"})["QueueUrl"]
        arn = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
        dead_letters = sqs.create_queue(QueueName="dead-letters")["QueueUrl"]
        environment.setenv("DEAD_LETTER_QUEUE_URL", dead_letters)
        secrets = boto3.client("secretsmanager", region_name="eu-west-2")
        secrets.create_secret(Name="thrive", SecretString=secret_of(thrive, authMethod=auth_method))
        for text in texts:
            sqs.send_message(QueueUrl=url, MessageBody=text)
        received = sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10, MessageSystemAttributeNames=["All"])
        records = [record_of(message, arn) for message in received["Messages"]]
        bodies = {record["messageId"]: record["body"] for record in records}

        answered = lambda_handler(sqs_event(*records), FakeContext(SystemClock()))

        failed = failed_ids(json.dumps(answered).encode(), bodies)
        assert [bodies[identifier] for identifier in failed] == [texts[1]]
        assert {entry.key.user_id for entry in thrive.ledger.entries()} == {"good", USER_ID}
        dead = sqs.receive_message(QueueUrl=dead_letters, MaxNumberOfMessages=10, MessageAttributeNames=["All"])
        assert sorted(message["Body"] for message in dead["Messages"]) == sorted([texts[2], texts[3]])
        assert {message["MessageAttributes"]["sourceQueue"]["StringValue"] for message in dead["Messages"]} == {arn}
        # The deferred one stays away.
        again = sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10).get("Messages", [])
        assert texts[1] not in [message["Body"] for message in again]
    assert len(thrive.requests.of("token")) == (auth_method == "oauth2")
    assert sum(read().metric("SecretReads")) == 1


# --- Defects ------------------------------------------------------------------------------------------------------


class Broken:
    """A part of the application whose one method fails with a defect, from its n-th call on."""

    def __init__(self, part, method, after):
        self._part = part
        self._method = method
        self._left = after

    def __getattr__(self, name):
        genuine = getattr(self._part, name)
        if name != self._method:
            return genuine

        def fail(*arguments, **options):
            if self._left:
                self._left -= 1
                return genuine(*arguments, **options)
            raise ZeroDivisionError(CANARY)

        return fail


def break_part(it, monkeypatch, part, method, after=0):
    broken = dataclasses.replace(it.application, **{part: Broken(getattr(it.application, part), method, after)})
    monkeypatch.setattr(bootstrap, "application", lambda: broken)


@pytest.mark.parametrize(
    ("part", "method", "after", "reported"),
    [
        pytest.param("sync", "run", 0, ["good", "down", "refused"], id="nothing is known of any message"),
        pytest.param("telemetry", "message", 0, ["down", "refused"], id="the first line of the log"),
        pytest.param("telemetry", "message", 2, ["down", "refused"], id="a later line of the log"),
        pytest.param("backoff", "seconds", 0, ["down", "refused"], id="the backoff"),
        pytest.param("queues", "dead_letter", 0, ["down", "refused"], id="the dead letters"),
        pytest.param("queues", "postpone", 0, ["down", "refused"], id="the postponements"),
        pytest.param("telemetry", "end", 0, ["down"], id="the metrics: all is done by then"),
    ],
)
def test_defect_reports_what_is_not_settled(part, method, after, reported, function, thrive, monkeypatch, read):
    thrive.faults.add(always(status=503, user_id="down"))
    thrive.faults.add(always(status=422, user_id="refused"))
    break_part(function, monkeypatch, part, method, after)
    users = ("good", "down", "refused")
    assert function.reported(*(sqs_record(body(userId=user), message_id=user) for user in users)) == reported
    output = read()
    [error] = [line["message"] for line in output.logs if line["level"] == "ERROR"]
    assert error.startswith("unexpected ZeroDivisionError at fail:")
    assert CANARY not in output.text


@pytest.mark.parametrize(
    ("part", "method"),
    [("sync", "run"), ("queues", "requeue"), ("backoff", "seconds"), ("telemetry", "message"), ("telemetry", "end")],
)
def test_defect_on_the_direct_path_is_raised_in_our_own_words(part, method, function, thrive, monkeypatch, read):
    thrive.faults.add(always(status=503))
    break_part(function, monkeypatch, part, method)
    with pytest.raises(EventNotRecordedError, match="unexpected ZeroDivisionError in this f") as caught:
        function.invoke(eventbridge_event())
    assert caught.value.__context__ is None
    output = read()
    assert next(line["message"] for line in output.logs if line["level"] == "ERROR").startswith("unexpected ")
    assert CANARY not in output.text + texts_of(caught.value)


def test_defect_in_a_call_to_sqs_reports_what_was_in_it(function, thrive):
    thrive.faults.add(always(status=422))
    function.sqs.on_call = fail_with(ZeroDivisionError())
    assert function.reported(record(1)) == ["message-1"]


# --- Property -----------------------------------------------------------------------------------------------------

API_FATES = {
    **{
        str(status): json_response(status, {"statementId": "s", "status": status})
        for status in (101, 200, 201, 202, 301, 400, 401, 403, 404, 408, 409, 422, 425, 429, 500, 503)
    },
    "201 without a body": Response(201, None),
    "200 of a proxy": Response(200, b"<html>"),
    "404 of a gateway": json_response(404, {"message": "Not Found"}),
    "lost": TemporaryError("unavailable", "reset"),
    "locked": AccessError("misconfigured", "no"),
    "defect": ZeroDivisionError(),
}
# Written down apart from the code.
RECORDING = {"200", "201", "202", "409"}
SQS_FATES = ["sqs-takes", "sqs-fails", "sqs-raises", "sqs-defect"]


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    batch=st.lists(
        st.tuples(
            st.sampled_from([*API_FATES, "invalid"]),
            st.integers(0, 3),
            st.sampled_from(SQS_FATES),
            st.sampled_from([None, None, "a", "b"]),
        ),
        max_size=24,
    ),
    token=st.sampled_from([GOOD_TOKEN] * 5 + [json_response(401, {}), json_response(503, {})]),
    dead_letter_queue=st.sampled_from([{}, {"DEAD_LETTER_QUEUE_URL": ""}]),
    concurrency=st.integers(1, 4),
)
def test_acknowledged_only_if_recorded_or_dead_lettered(batch, token, dead_letter_queue, concurrency, offline, read):
    # The content id says what Thrive does, the note in the body what SQS does.
    recorded = set()

    def thrive_answers(request):
        user, fate = request.json["userId"], request.json["contentId"]
        planned = API_FATES[fate]
        if isinstance(planned, Exception):
            raise planned
        assert isinstance(planned, Response)
        if fate in RECORDING:
            recorded.add((user, fate))
        return planned

    records = [
        sqs_record(
            f'{{"{sqs}"' if fate == "invalid" else completion_fields(userId=f"user-{number}", contentId=fate, x=sqs),
            message_id=f"message-{index}",
            group=group,
            queue_arn=FIFO_ARN if group else QUEUE_ARN,
        )
        for index, (fate, number, sqs, group) in enumerate(batch)
    ]
    variables = {"MAX_CONCURRENCY": str(concurrency), **dead_letter_queue}
    with offline(thrive_answers, token, **variables) as (it, _):
        dead_lettered = set()
        plan_sqs(it.sqs, dead_lettered)
        reported = set(it.reported(*records))
        read()

    for each, (fate, number, _, group) in zip(records, batch, strict=True):
        is_recorded = (f"user-{number}", fate) in recorded
        if each["messageId"] not in reported:
            assert is_recorded or each["messageId"] in dead_lettered
        # What is done is not delivered again, unless it is behind a deferred message of its group.
        if is_recorded and group is None:
            assert each["messageId"] not in reported


def plan_sqs(sqs, dead_lettered):
    """Let the body of each dead letter say what SQS does; note the ids of those that it accepts."""

    def on_call(_operation, request):
        texts = "".join(entry.get("MessageBody", "") for entry in request["Entries"])
        for text, error in {"sqs-raises": throttled(), "sqs-defect": ZeroDivisionError()}.items():
            if text in texts:
                raise error

    def refused(entry):
        if "sqs-fails" in entry.get("MessageBody", ""):
            return "InternalError"
        if "MessageAttributes" in entry:
            dead_lettered.add(entry["MessageAttributes"]["sourceMessageId"]["StringValue"])
        return None

    sqs.on_call = on_call
    sqs.refused = refused
