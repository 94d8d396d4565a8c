"""The interface from end to end: events go in, and what is answered, sent, queued, logged and counted comes out."""

from __future__ import annotations

import dataclasses
import json
import logging
import threading
import time
from typing import TYPE_CHECKING, Any

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
from completion_sync.observability import METRICS
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
    Answer,
    FakeContext,
    FakeTransport,
    Request,
    body,
    client_error,
    completion_fields,
    eventbridge_event,
    holds_any,
    json_response,
    secret_text,
    sns_notification,
    sqs_event,
    sqs_record,
    texts_of,
    token_response,
)
from tests.support.function import Function, Output, close, functioning, secret_of
from tests.support.sockets import RawServer, answer, response
from tests.support.sqs import DEAD_LETTER_URL, RETRY_URL, FakeSqs, fail_with, throttled

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from completion_sync.clock import Deadline
    from tests.support.thrive import ContractedStandIn

FIFO_ARN = QUEUE_ARN + ".fifo"


@pytest.fixture
def function(thrive: ContractedStandIn, monkeypatch: pytest.MonkeyPatch) -> Iterator[Function]:
    """Yield the function with both queues, on the stand-in."""
    with functioning(monkeypatch, thrive.url, secret=secret_of(thrive)) as it:
        yield it


def record(number: int = 1, **changes: Any) -> dict[str, Any]:
    """Give an SQS record with a completion of its own."""
    return sqs_record(body(userId=f"user-{number}"), message_id=f"message-{number}", **changes)


def read(capsys: pytest.CaptureFixture[str]) -> Output:
    """Give what was printed so far; nothing goes to standard error."""
    captured = capsys.readouterr()
    assert captured.err == ""
    return Output.read(captured.out)


# --- The table of outcomes ----------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Row:
    """What happens, and what the interface promises of it."""

    outcome: str
    reason: str | None = None
    fault: Fault | None = None
    message: dict[str, Any] | None = None
    prepare: Callable[[Function, ContractedStandIn], None] | None = None
    seconds: float = 30.0
    status: int | None = None
    timeout: str = "10"

    @property
    def is_recorded(self) -> bool:
        """Whether Thrive holds the record."""
        return self.outcome in {"created", "exists"}


def always(**fault: Any) -> Fault:
    """Give a fault of every completion."""
    return Fault(route="completion", times=None, **fault)


def status_row(status: int, outcome: str, reason: str | None = None, **fault: Any) -> Any:
    """Give the row of a status."""
    return pytest.param(Row(outcome, reason, always(status=status, **fault), status=status), id=str(status))


def record_before(it: Function, thrive: ContractedStandIn) -> None:
    """Record the completion in an invocation before."""
    it.reported(record())
    assert len(thrive.ledger) == 1


def lock_out(_: Function, thrive: ContractedStandIn) -> None:
    """Let Thrive refuse the credentials."""
    thrive.accept_credentials(("somebody", "else"))


def secret_failing(error: Exception) -> Callable[[Function, ContractedStandIn], None]:
    """Let the secret's reading fail."""

    def prepare(it: Function, _: ContractedStandIn) -> None:
        it.secrets.failure = error

    return prepare


def secret_reading(text: str) -> Callable[[Function, ContractedStandIn], None]:
    """Let the secret be another text."""

    def prepare(it: Function, _: ContractedStandIn) -> None:
        it.secrets.secret = text

    return prepare


ROWS = [
    pytest.param(Row("created", status=201), id="201"),
    pytest.param(Row("exists", prepare=record_before, status=200), id="200 for a repeat"),
    status_row(200, "exists", body='{"statementId":"s"}'),
    status_row(202, "exists"),
    status_row(409, "exists"),
    pytest.param(Row("created", fault=always(spoil="html"), status=201), id="201 with HTML"),
    pytest.param(Row("created", fault=always(body="{}"), status=201), id="201 without statementId"),
    pytest.param(Row("created", fault=always(ending="truncate"), status=201), id="201 cut off"),
    pytest.param(Row("created", fault=always(ending="endless"), status=201), id="201 with an endless body"),
    pytest.param(Row("created", fault=always(spoil="gzip"), status=201), id="201 with gzip"),
    pytest.param(Row("rejected", "invalid_message", message={"userId": "u", "contentId": "c"}), id="no completedAt"),
    pytest.param(Row("rejected", "invalid_message", message=completion_fields(userId=7)), id="a number as userId"),
    *(status_row(status, "rejected", "refused") for status in (400, 404, 418, 422, 451, 499)),
    status_row(429, "deferred", "rate_limited"),
    *(status_row(status, "deferred", "unavailable") for status in (408, 425, 500, 502, 503, 599)),
    pytest.param(Row("deferred", "unavailable", always(ending="reset")), id="reset"),
    pytest.param(Row("deferred", "unavailable", always(ending="close")), id="closed"),
    pytest.param(Row("deferred", "unavailable", always(ending="black_hole"), timeout="0.3"), id="timeout"),
    status_row(401, "deferred", "unauthorized"),
    status_row(403, "deferred", "unauthorized"),
    pytest.param(Row("deferred", "unauthorized", prepare=lock_out), id="token refused"),
    *(
        pytest.param(
            Row("deferred", reason, Fault(route="token", times=None, status=status)), id=f"token endpoint {status}"
        )
        for status, reason in [
            (400, "unauthorized"),
            (403, "unauthorized"),
            (404, "unauthorized"),
            (429, "rate_limited"),
            (500, "unavailable"),
            (302, "misconfigured"),
        ]
    ),
    *(
        pytest.param(Row("deferred", reason, prepare=secret_failing(client_error(code))), id=f"secret {code}")
        for code, reason in [
            ("ResourceNotFoundException", "misconfigured"),
            ("AccessDeniedException", "misconfigured"),
            ("ThrottlingException", "unavailable"),
        ]
    ),
    pytest.param(Row("deferred", "misconfigured", prepare=secret_reading("no JSON")), id="secret malformed"),
    *(status_row(status, "deferred", "misconfigured") for status in (100, 102, 103, 199)),
    *(
        status_row(status, "deferred", "misconfigured", headers={"Location": "http://127.0.0.1:9/"})
        for status in (300, 301, 302, 303, 304, 307, 308, 399)
    ),
    pytest.param(Row("deferred", "out_of_time", seconds=0.1), id="no time"),
]
REFUSING = ["none", "configured", "failing", "refusing"]


def arrange(row: Row, it: Function, thrive: ContractedStandIn) -> None:
    """Bring about what a row says."""
    if row.fault is not None:
        thrive.faults.add(row.fault)
    if row.prepare is not None:
        row.prepare(it, thrive)


def refuse_in(sqs: FakeSqs, queue: str) -> None:
    """Let calls fail as a whole, or the entries in them."""
    if queue == "failing":
        sqs.on_call = fail_with(throttled())
    elif queue == "refusing":
        sqs.refused = lambda _: "InternalError"


@pytest.mark.parametrize("row", ROWS)
@pytest.mark.parametrize("queue", REFUSING)
def test_outcome_for_sqs(
    row: Row,
    queue: str,
    thrive: ContractedStandIn,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Recorded: acknowledged. Rejected: dead-lettered, else reported. Deferred: reported, with a backoff."""
    # Given
    variables = {
        "DEAD_LETTER_QUEUE_URL": "" if queue == "none" else DEAD_LETTER_URL,
        "REQUEST_TIMEOUT_SECONDS": row.timeout,
    }
    with functioning(monkeypatch, thrive.url, secret=secret_of(thrive), **variables) as it:
        arrange(row, it, thrive)
        refuse_in(it.sqs, queue)
        read(capsys)

        # When
        message = record() if row.message is None else sqs_record(row.message, message_id="message-1")
        reported = it.reported(message, seconds=row.seconds)

        # Then: the answer
        is_dead_lettered = row.outcome == "rejected" and queue == "configured"
        assert reported == ([] if row.is_recorded or is_dead_lettered else ["message-1"])

        # Then: the queues
        expected = [message["body"]] if row.outcome == "rejected" and queue != "none" else []
        assert [entry["MessageBody"] for entry in it.dead_letters] == expected
        for entry in it.dead_letters:
            attributes = {name: value["StringValue"] for name, value in entry["MessageAttributes"].items()}
            assert attributes["reason"] == row.reason
            assert attributes.get("status") == (str(row.status) if row.status else None)
        assert set(it.visibilities) == ({"receipt-of-message-1"} if row.outcome == "deferred" else set())

        # Then: the log and the metrics
        output = read(capsys)
        [line] = output.messages
        assert (line["outcome"], line.get("reason"), line.get("status")) == (
            row.outcome,
            row.reason,
            row.status if not line.get("reason") else line.get("status"),
        )
        [invocation] = output.invocations
        assert invocation["counts"] == {
            "messages": 1,
            "created": int(row.outcome == "created"),
            "exists": int(row.outcome == "exists"),
            "rejected": int(row.outcome == "rejected"),
            "deferred": int(row.outcome == "deferred"),
            "reported": len(reported),
        }
        counted = {"created": "Created", "exists": "Existing", "rejected": "Rejected", "deferred": "Deferred"}
        for outcome, name in counted.items():
            assert output.metric(f"Completions{name}") == [float(outcome == row.outcome)]
        # Misconfigured before anything was sent to Thrive: it is the secret that gives nothing usable.
        has_no_credentials = row.reason == "misconfigured" and not thrive.requests.all()
        assert output.metric("AuthFailures") == [float(row.reason == "unauthorized" or has_no_credentials)]
        assert (sum(output.metric("Throttles")) > 0) == (row.reason == "rate_limited")

        # Then: what Thrive holds is what is claimed
        if row.outcome == "created":
            assert len(thrive.ledger) == 1


@pytest.mark.parametrize("row", ROWS)
@pytest.mark.parametrize("queue", REFUSING)
def test_outcome_for_a_direct_event(
    row: Row,
    queue: str,
    thrive: ContractedStandIn,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Recorded, or standing in a queue: answered with the outcome. Else raised, so that Lambda tries again."""
    # Given
    variables = {"REQUEST_TIMEOUT_SECONDS": row.timeout}
    if queue == "none":
        variables |= {"DEAD_LETTER_QUEUE_URL": "", "RETRY_QUEUE_URL": ""}
    with functioning(monkeypatch, thrive.url, secret=secret_of(thrive), **variables) as it:
        arrange(row, it, thrive)
        refuse_in(it.sqs, queue)
        event = eventbridge_event(
            completion_fields(userId="user-1") if row.message is None else row.message,
            # No time of the envelope: the row about a missing completedAt means what it says.
            time=None if row.message is not None else "2021-01-01T10:00:00Z",
        )

        # When
        got: dict[str, Any] | Exception
        try:
            got = it.invoke(event, row.seconds)
        except EventNotRecordedError as error:
            got = error

        # Then
        settled = {
            "created": True,
            "exists": True,
            "rejected": queue == "configured",
            # One message is sent by a call of its own, which has no entries that could fail in it.
            "deferred": queue in {"configured", "refusing"},
        }[row.outcome]
        assert isinstance(got, dict) == settled
        counts = read(capsys).invocations[-1]["counts"]
        assert (counts["messages"], counts[row.outcome], counts["reported"]) == (1, 1, int(not settled))
        if isinstance(got, dict):
            assert (got["outcome"], got.get("reason")) == (row.outcome, row.reason)
            assert set(got) <= {"outcome", "statementId", "reason", "detail"}
            assert ("detail" in got) == (not row.is_recorded)
        else:
            assert str(got) == f"{row.outcome}: {row.reason}"
        if row.outcome == "deferred" and queue != "none":
            [request] = it.sqs.of("send_message")
            assert request["QueueUrl"] == RETRY_URL
            assert json.loads(request["MessageBody"]) == event
            assert 0 <= request["DelaySeconds"] <= 900
        if row.outcome == "rejected" and queue != "none":
            [entry] = it.dead_letters
            assert json.loads(entry["MessageBody"]) == event
            assert "sourceQueue" not in entry["MessageAttributes"]
            assert entry["MessageAttributes"]["sourceMessageId"]["StringValue"] == event["id"]


def test_direct_event_has_its_statement_id(function: Function, thrive: ContractedStandIn) -> None:
    """A recorded direct event is answered with Thrive's statement id."""
    assert function.invoke(eventbridge_event()) == {
        "outcome": "created",
        "statementId": thrive.ledger.entries()[0].statement_id,
    }
    assert function.sqs.calls == []


@pytest.mark.parametrize(
    "shape",
    [
        pytest.param(completion_fields(), id="plain"),
        pytest.param(eventbridge_event(), id="rule to queue"),
        pytest.param(sns_notification(completion_fields()), id="topic to queue"),
        pytest.param(sns_notification(eventbridge_event()), id="rule to topic to queue"),
    ],
)
def test_each_shape_in_a_queue_is_recorded(shape: object, function: Function, thrive: ContractedStandIn) -> None:
    """A completion is recorded in whichever envelope it stands in its queue."""
    assert function.reported(sqs_record(shape)) == []
    [entry] = thrive.ledger.entries()
    assert entry.key == (USER_ID, CONTENT_ID, "2021-01-01T09:00:00.000Z")


# --- What Lambda accepts as an answer -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "ids",
    [
        pytest.param([], id="no records"),
        pytest.param(["one"], id="one"),
        pytest.param([f"message-{number}" for number in range(30)], id="thirty"),
        pytest.param(["twice", "twice", "once"], id="an id twice"),
        pytest.param(["ünï-\u2028-\n-\"-'-💥"], id="an odd id"),
        pytest.param(["x" * 1000], id="a long id"),
        pytest.param([" "], id="a blank"),
    ],
)
@pytest.mark.parametrize("fate", ["created", "deferred", "rejected", "invalid", "mixed"])
def test_only_received_ids_are_echoed(
    ids: list[str], fate: str, thrive: ContractedStandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the ids and the fates, Lambda accepts the answer, and it names received ids alone."""
    # Given: no dead-letter queue, so that what is rejected is reported
    fates = ["created", "deferred", "rejected", "invalid"]
    mine = [fates[index % 4] if fate == "mixed" else fate for index in range(len(ids))]
    thrive.faults.add(always(status=503, content_id="deferred"))
    thrive.faults.add(always(status=422, content_id="rejected"))
    records = [
        sqs_record(
            "no JSON" if of_mine == "invalid" else body(userId=f"user-{index}", contentId=of_mine),
            message_id=identifier,
        )
        for index, (identifier, of_mine) in enumerate(zip(ids, mine, strict=True))
    ]
    with functioning(monkeypatch, thrive.url, secret=secret_of(thrive), DEAD_LETTER_QUEUE_URL="") as it:
        # When: ``reported`` asks the poller's own strict rules
        reported = it.reported(*records)

    # Then
    assert reported == list(
        dict.fromkeys(identifier for identifier, of_mine in zip(ids, mine, strict=True) if of_mine != "created")
    )


@pytest.mark.parametrize(
    "event",
    [
        pytest.param({}, id="empty object"),
        pytest.param(None, id="null"),
        pytest.param([], id="list"),
        pytest.param("Records", id="string"),
        pytest.param({"Records": None}, id="null records"),
        pytest.param({"Records": {}}, id="records as an object"),
        pytest.param({"Records": [{"eventSource": "aws:sqs", "body": CANARY}]}, id="SQS without messageId"),
        pytest.param({"Records": [{**sqs_record(), "messageId": ""}]}, id="SQS with an empty messageId"),
        pytest.param({"Records": [sqs_record(), {"eventSource": "aws:s3"}]}, id="SQS and S3"),
        pytest.param({"Records": [{"EventSource": "aws:sns", "Sns": {"Message": CANARY}}]}, id="SNS"),
        pytest.param({"Records": [{"eventSource": "aws:kinesis"}]}, id="Kinesis"),
        pytest.param({"detail": CANARY}, id="detail alone"),
        pytest.param({"detail-type": CANARY}, id="detail-type alone"),
        pytest.param(completion_fields(userId=CANARY), id="a completion"),
        pytest.param({"requestContext": {"x": CANARY}, "rawPath": CANARY}, id="function URL"),
    ],
)
def test_unsupported_event_names_keys_and_no_values(
    event: object, function: Function, thrive: ContractedStandIn, capsys: pytest.CaptureFixture[str]
) -> None:
    """A foreign event is neither an empty batch nor a success: it is raised, with its keys and without its values."""
    # When
    with pytest.raises(UnsupportedEventError) as caught:
        function.invoke(event)

    # Then
    if isinstance(event, dict):
        assert all(repr(key) in str(caught.value) for key in event)
    assert CANARY not in texts_of(caught.value)
    captured = capsys.readouterr()
    assert CANARY not in captured.out + captured.err
    assert len(thrive.requests) == 0


# --- Time ---------------------------------------------------------------------------------------------------------


def test_slow_api_ends_before_the_functions_timeout(thrive: ContractedStandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    """At a slow API the function stops in time; what it did not get to is reported, and not dead-lettered."""
    # Given: two at a time, each a quarter of the function's time; thirty would take almost four times that
    seconds = 2.0
    thrive.faults.add(always(delay=seconds / 4))
    with functioning(monkeypatch, thrive.url, secret=secret_of(thrive), clock=SystemClock(), MAX_CONCURRENCY="2") as it:
        # When
        began = time.monotonic()
        reported = it.reported(*(record(number) for number in range(30)), seconds=seconds)
        passed = time.monotonic() - began

        # Then
        assert passed < seconds
        assert it.dead_letters == []
        recorded = {entry.key.user_id for entry in thrive.ledger.entries()}
        acknowledged = {f"user-{number}" for number in range(30)} - {
            name.replace("message", "user") for name in reported
        }
        assert 1 <= len(acknowledged) <= len(recorded) < 30
        assert acknowledged <= recorded


def test_hung_sqs_does_not_take_the_answer_along(thrive: ContractedStandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    """A call to SQS that hangs costs the messages in it, and calls that still wait then are never made."""
    # Given: one thread, twelve rejected messages in two calls, and the first call hangs
    release = threading.Event()

    def hang(_operation: str, _request: Mapping[str, Any]) -> None:
        assert release.wait(PATIENCE_SECONDS)

    seconds = 4.0
    thrive.faults.add(always(status=422))
    with functioning(monkeypatch, thrive.url, secret=secret_of(thrive), clock=SystemClock(), MAX_CONCURRENCY="1") as it:
        it.sqs.on_call = hang

        # When
        began = time.monotonic()
        reported = it.reported(*(record(number) for number in range(12)), seconds=seconds)
        passed = time.monotonic() - began

        # Then
        assert passed < seconds
        assert len(reported) == 12
        release.set()
        thrive.faults.clear()
        assert it.reported(record(99)) == []
        assert len(it.sqs.calls) == 1


@pytest.mark.parametrize(("status", "outcome"), [(422, "rejected: refused"), (501, "deferred: unavailable")])
def test_hung_sqs_does_not_take_a_direct_event_along(
    thrive: ContractedStandIn, monkeypatch: pytest.MonkeyPatch, status: int, outcome: str
) -> None:
    """Where the queue does not answer in time the function says so by itself, and Lambda tries the event again."""
    # Given
    release = threading.Event()

    def hang(_operation: str, _request: Mapping[str, Any]) -> None:
        assert release.wait(PATIENCE_SECONDS)

    seconds = 4.0
    thrive.faults.add(always(status=status))
    with functioning(monkeypatch, thrive.url, secret=secret_of(thrive), clock=SystemClock()) as it:
        it.sqs.on_call = hang

        # When
        began = time.monotonic()
        with pytest.raises(EventNotRecordedError) as caught:
            it.invoke(eventbridge_event(), seconds)
        passed = time.monotonic() - began
        release.set()

        # Then
        assert passed < seconds
        assert str(caught.value) == outcome


def test_no_time_at_all(function: Function, thrive: ContractedStandIn) -> None:
    """A batch that comes with no time left is reported whole, and nothing is sent."""
    assert function.reported(*(record(number) for number in range(3)), seconds=0.0) == [
        f"message-{number}" for number in range(3)
    ]
    assert len(thrive.requests) == 0


@pytest.mark.parametrize(
    ("seconds", "messages", "kept_back"),
    [
        pytest.param(3, 1, 0.6, id="a fifth of a short time"),
        pytest.param(30, 10, 6.0, id="where both come to the same"),
        pytest.param(60, 10, 6.01, id="six seconds of a long one"),
        pytest.param(900, 10_000, 16.0, id="and a second for a thousand messages"),
    ],
)
def test_time_is_kept_back_for_the_report(
    seconds: float,
    messages: int,
    kept_back: float,
    function: Function,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """After the last call to Thrive there is time left for logs and for SQS, in proportion."""
    # Given
    remaining: list[float] = []

    class Sync:
        def run(self, batch: list[Any], deadline: Deadline) -> list[Result]:
            remaining.append(deadline.remaining())
            return [Result(Created("s", 201)) for _ in batch]

    application = dataclasses.replace(function.application, sync=Sync())
    monkeypatch.setattr(bootstrap, "application", lambda: application)

    # When
    function.invoke(
        sqs_event(*(sqs_record("{", message_id=f"message-{number}") for number in range(messages))), seconds
    )

    # Then
    assert remaining == [pytest.approx(seconds - kept_back)]


# --- Backoff ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [1, 10, 11, 25])
def test_each_deferred_message_gets_its_backoff(count: int, function: Function, thrive: ContractedStandIn) -> None:
    """All deferred messages are put off, ten in a call, the longer the more often they were received."""
    # Given
    thrive.faults.add(always(status=500))

    # When
    reported = function.reported(*(record(number, receive_count=number + 1) for number in range(count)))

    # Then
    assert len(reported) == count
    sizes = [len(request["Entries"]) for request in function.sqs.of("change_message_visibility_batch")]
    assert sorted(sizes, reverse=True) == [10] * (count // 10) + ([count % 10] if count % 10 else [])
    assert len(function.visibilities) == count
    for number in range(count):
        whole = min(3600, 30 * 2**number)
        assert whole / 2 <= function.visibilities[f"receipt-of-message-{number}"] <= whole


@pytest.mark.parametrize("failure", ["failing", "refusing"])
def test_answer_is_the_same_when_the_backoff_cannot_be_set(
    failure: str, function: Function, thrive: ContractedStandIn
) -> None:
    """Setting the visibility is best effort: the answer does not depend on it."""
    # Given
    thrive.faults.add(always(status=500, content_id="down"))
    refuse_in(function.sqs, failure)
    down = [sqs_record(body(userId=f"u{n}", contentId="down"), message_id=f"down-{n}") for n in range(11)]

    # When, then
    assert function.reported(*down, record(1)) == [f"down-{number}" for number in range(11)]


def test_partly_failed_dead_letters_are_reported(function: Function, thrive: ContractedStandIn) -> None:
    """Of eleven rejected messages, those are reported that SQS failed inside its answer."""
    # Given
    thrive.faults.add(always(status=422))
    function.sqs.refused = lambda entry: "InternalError" if '"user-7"' in entry["MessageBody"] else None

    # When, then
    assert function.reported(*(record(number) for number in range(11))) == ["message-7"]


def test_retry_after_wins_over_a_shorter_backoff(function: Function, thrive: ContractedStandIn) -> None:
    """Where Thrive asks for an hour, the message stays away for an hour, and is not tried again before."""
    thrive.faults.add(always(status=429, headers={"Retry-After": "7000"}))
    assert function.reported(record()) == ["message-1"]
    assert function.visibilities == {"receipt-of-message-1": 7000}
    assert len(thrive.requests.of("completion")) == 1


def test_direct_event_waits_a_quarter_of_an_hour_at_most(function: Function, thrive: ContractedStandIn) -> None:
    """SQS delays a message by 900 seconds at most, whatever Thrive asks for."""
    thrive.faults.add(always(status=429, headers={"Retry-After": "7000"}))
    assert function.invoke(eventbridge_event())["outcome"] == "deferred"
    assert function.sqs.of("send_message")[0]["DelaySeconds"] == 900


# --- FIFO ---------------------------------------------------------------------------------------------------------


def test_groups_of_a_fifo_queue(function: Function, thrive: ContractedStandIn) -> None:
    """Behind a deferred message its group is reported unsent; other groups, and rejected messages, go their way."""
    # Given
    thrive.faults.add(always(status=503, user_id="a2"))
    thrive.faults.add(always(status=422, user_id="b1"))
    records = [
        sqs_record(body(userId=name), message_id=name, group=name[0], queue_arn=FIFO_ARN)
        for name in ("a1", "b1", "a2", "b2", "a3", "b3")
    ]

    # When
    reported = function.reported(*records)

    # Then
    assert reported == ["a2", "a3"]
    sent = [arrival.payload["userId"] for arrival in thrive.requests.of("completion")]
    assert "a3" not in sent
    assert [name for name in sent if name[0] == "b"] == ["b1", "b2", "b3"]
    assert set(function.visibilities) == {"receipt-of-a2", "receipt-of-a3"}
    [entry] = function.dead_letters
    assert "b1" in entry["MessageBody"]


# --- One effect ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fault", "outcomes"),
    [
        pytest.param(None, ["created", "exists"], id="after the answer"),
        pytest.param({"ending": "reset", "commit": True}, ["exists", "exists"], id="after the commit, reset"),
        pytest.param({"ending": "close", "commit": True}, ["exists", "exists"], id="after the commit, closed"),
        pytest.param({"ending": "black_hole", "commit": True}, ["exists", "exists"], id="after the commit, silence"),
        pytest.param({"status": 500, "commit": True}, ["exists", "exists"], id="after the commit, 500"),
        pytest.param({"ending": "reset"}, ["created", "exists"], id="before the commit"),
        pytest.param({"ending": "close_after_headers"}, ["created", "exists"], id="within the answer"),
    ],
)
def test_one_record_whatever_is_lost(
    fault: dict[str, Any] | None,
    outcomes: list[str],
    thrive: ContractedStandIn,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Wherever the connection breaks, and though the message is delivered again: one record, from one same request."""
    # Given
    if fault is not None:
        thrive.faults.add(Fault(route="completion", **fault))
    with functioning(monkeypatch, thrive.url, secret=secret_of(thrive), REQUEST_TIMEOUT_SECONDS="0.5") as it:
        # When: the message is not deleted after the first delivery (a crash), and comes again
        assert it.reported(record()) == []
        assert it.reported(record(receive_count=2)) == []

    # Then
    assert len(thrive.ledger) == 1
    assert len({arrival.body for arrival in thrive.requests.of("completion")}) == 1
    assert [line["outcome"] for line in read(capsys).messages] == outcomes


def test_records_are_sent_once_each(function: Function, thrive: ContractedStandIn) -> None:
    """At a healthy API, N records are N calls, one token and one secret; repeats in a batch are none."""
    # When
    assert function.reported(*(record(number % 20, receive_count=1) for number in range(25))) == []

    # Then
    assert len(thrive.requests.of("completion")) == 20
    assert len(thrive.requests.of("token")) == 1
    assert function.secrets.reads == 1
    assert function.sqs.calls == []


def test_warm_invocation_asks_for_nothing_but_the_record(
    function: Function, thrive: ContractedStandIn, capsys: pytest.CaptureFixture[str]
) -> None:
    """Once warm, an invocation costs one request for each completion, over a kept connection: no token, no secret."""
    # Given
    function.reported(record(1))
    before = len(thrive.requests)
    read(capsys)

    # When
    for number in range(2, 6):
        function.reported(record(number))

    # Then
    later = thrive.requests.all()[before:]
    assert [arrival.route for arrival in later] == ["completion"] * 4
    assert {arrival.connection for arrival in later} == {thrive.requests[0].connection}
    assert function.secrets.reads == 1
    output = read(capsys)
    assert output.metric("TokenRequests") == output.metric("SecretReads") == [0.0] * 4


# --- Secrets and personal data ------------------------------------------------------------------------------------


class Leaks:
    """Gathers all that leaves the function, and finds canaries in it."""

    def __init__(self, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture) -> None:
        self._capsys = capsys
        self._caplog = caplog
        self.errors: list[str] = []

    def text(self, it: Function) -> str:
        """Give all of it in one text, as printed and with its escapes undone."""
        captured = self._capsys.readouterr()
        records = [repr(vars(record)) for record in self._caplog.records]
        raw = "\n".join([captured.out, captured.err, self._caplog.text, *records, *self.errors, repr(it.sqs.calls)])
        return raw + raw.encode("ascii", "backslashreplace").decode("unicode_escape")


@pytest.fixture
def leaks(
    capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> Leaks:
    """Return what gathers leaks, while everything that could log does, at DEBUG."""
    monkeypatch.setenv("POWERTOOLS_LOGGER_LOG_EVENT", "true")
    monkeypatch.setenv("POWERTOOLS_LOG_LEVEL", "DEBUG")
    monkeypatch.setenv("AWS_LAMBDA_LOG_LEVEL", "DEBUG")
    caplog.set_level(logging.DEBUG)
    return Leaks(capsys, caplog)


TOKEN = "token-of-the-canary"
SECRETS = (CANARY, TOKEN)


def leaky(request: Request) -> str:
    """Give a text that quotes whatever a careless server could quote."""
    authorization = request.headers.get("Authorization", "")
    return f"secret {CANARY} token {TOKEN} tenant {TENANT} header {authorization} body {request.body.decode('latin-1')}"


def echo(status: int) -> Callable[[Request], Response]:
    """Give an answer that quotes everything in every field."""

    def respond(request: Request) -> Response:
        fields = dict.fromkeys(["message", "error", "error_description", "statementId"], leaky(request))
        return json_response(status, fields, leaky(request))

    return respond


GOOD_TOKEN = token_response(TOKEN)
GOOD = json_response(201, {"statementId": "statement-1"})

SCENARIOS: dict[str, dict[str, Any]] = {
    "all is well": {},
    **{
        f"completion answered {status} with all quoted": {"completion": echo(status)}
        for status in (100, 200, 201, 301, 400, 401, 403, 408, 409, 422, 429, 500)
    },
    **{
        f"token answered {status} with all quoted": {"token": echo(status)}
        for status in (200, 201, 302, 400, 401, 403, 429, 500)
    },
    "token of a bad type": {"token": token_response(TOKEN, token_type=CANARY)},
    "token with a newline": {"token": token_response(TOKEN + "\n" + CANARY)},
    "token without an answer": {"token": TemporaryError("unavailable", "no answer in time")},
    "a defect that quotes all": {"completion": ValueError(f"{CANARY} {TOKEN}")},
    "a defect at the token": {"token": KeyError(f"{CANARY} {TOKEN}")},
    "secret with a trailing newline": {"secret": secret_text(clientSecret=CANARY + "\n")},
    "secret that is no JSON": {"secret": f'{{"clientSecret": "{CANARY}"'},
    "secret that is a list": {"secret": json.dumps([CANARY])},
    "secret with a bad method": {"secret": secret_text(authMethod=CANARY)},
    "secret with authMethod basic": {"secret": secret_text(authMethod="basic"), "completion": echo(422)},
    "secret with client_secret_basic": {
        "secret": secret_text(tokenEndpointAuthMethod="client_secret_basic"),
        "token": echo(400),
    },
    "Secrets Manager quotes it": {"secret_failure": client_error("AccessDeniedException")},
    "Secrets Manager fails oddly": {"secret_failure": RuntimeError(CANARY)},
    "SQS quotes it": {"completion": echo(422), "sqs_failure": client_error("AccessDenied")},
    "SQS fails oddly": {"completion": echo(422), "sqs_failure": RuntimeError(CANARY)},
}


@pytest.fixture
def wired(monkeypatch: pytest.MonkeyPatch) -> Callable[[Answer, Answer], FakeTransport]:
    """Return what puts answers in the place of the network: one for the token endpoint, one for completions."""

    def wire(token: Answer, completion: Answer) -> FakeTransport:
        def respond(request: Request) -> Response:
            wanted = token if request.path.startswith("/oauth2/") else completion
            if isinstance(wanted, Exception):
                raise wanted
            return wanted if isinstance(wanted, Response) else wanted(request)

        transport = FakeTransport(always=respond)
        monkeypatch.setattr(bootstrap, "_transport", lambda *_: transport)
        return transport

    return wire


@pytest.mark.parametrize("direct", [False, True], ids=["SQS", "direct"])
@pytest.mark.parametrize("queues", [True, False], ids=["with queues", "without queues"])
@pytest.mark.parametrize("scenario", SCENARIOS)
def test_no_secret_leaves_but_to_thrive(
    scenario: str,
    queues: bool,  # noqa: FBT001
    direct: bool,  # noqa: FBT001
    leaks: Leaks,
    wired: Callable[[Answer, Answer], FakeTransport],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Neither secret nor token stands in any output, error, queue or request but where it belongs."""
    # Given
    it_is = SCENARIOS[scenario]
    transport = wired(it_is.get("token", GOOD_TOKEN), it_is.get("completion", GOOD))
    variables = {} if queues else {"DEAD_LETTER_QUEUE_URL": "", "RETRY_QUEUE_URL": ""}
    with functioning(monkeypatch, "https://thrive.example", secret=it_is.get("secret"), **variables) as it:
        it.secrets.failure = it_is.get("secret_failure")
        if "sqs_failure" in it_is:
            it.sqs.on_call = fail_with(it_is["sqs_failure"])

        # When
        answered = ""
        try:
            if direct:
                answered = repr(it.invoke(eventbridge_event()))
            else:
                answered = repr(it.invoke(sqs_event(record(1), record(2), sqs_record("{}", message_id="invalid"))))
        except Exception as error:  # noqa: BLE001 - a direct event may raise; whatever it is must not leak
            assert direct
            leaks.errors.append(texts_of(error))

        # Then
        assert holds_any(answered + leaks.text(it), SECRETS) == []
    for request in transport.requests:
        headers = {name: value for name, value in request.headers.items() if name != "Authorization"}
        is_for_token = request.path.startswith("/oauth2/")
        rest = repr([request.path, headers, b"" if is_for_token else request.body])
        assert holds_any(rest, SECRETS) == []


def test_canary_is_found_where_it_is(leaks: Leaks, function: Function) -> None:
    """The search finds a secret that is printed, logged or escaped: it is no search that cannot fail."""
    print(CANARY)  # noqa: T201
    logging.getLogger("any").debug("%s", TOKEN)
    print(json.dumps("lé@learner"))  # noqa: T201
    assert holds_any(leaks.text(function), [*SECRETS, "lé@learner"]) == [CANARY, TOKEN, "lé@learner"]


def test_debug_of_the_libraries_is_silent(
    leaks: Leaks, thrive: ContractedStandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With real connections and everything at DEBUG, no URL, header or body is logged by a library."""
    with functioning(monkeypatch, thrive.url, secret=secret_of(thrive)) as it:
        it.reported(record(1), sqs_record("{", message_id="invalid"))
        text = leaks.text(it)
    issued = {arrival.headers["Authorization"].partition(" ")[2] for arrival in thrive.requests.of("completion")}
    assert len(issued) == 1
    assert holds_any(text, [thrive.client_secret, *issued, "/oauth2/token", thrive.tenant_id, "urllib3"]) == []


LEARNER = ("ada@learner.example", "Ada Lovelace", "+44 20 7946 0000")


@pytest.mark.parametrize("status", [201, 200, 422, 429, 500, 401, 403, 302])
@pytest.mark.parametrize("direct", [False, True], ids=["SQS", "direct"])
def test_learners_data_is_never_in_output(
    status: int,
    direct: bool,  # noqa: FBT001
    leaks: Leaks,
    wired: Callable[[Answer, Answer], FakeTransport],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What a message tells of a learner beside the ids is neither logged nor answered nor sent to Thrive."""
    # Given
    email, name, phone = LEARNER
    more = {"email": email, "user": {"name": name, "phones": [phone]}, name: email}
    transport = wired(GOOD_TOKEN, json_response(status, {"statementId": "s", "message": "no"}))
    fields = completion_fields() | more
    with functioning(monkeypatch, "https://thrive.example", RETRY_QUEUE_URL="", DEAD_LETTER_QUEUE_URL="") as it:
        # When
        answered = ""
        try:
            if direct:
                answered = repr(it.invoke(eventbridge_event(fields, **{name: email})))
            else:
                broken = json.dumps(fields | {"userId": 7})
                answered = repr(it.invoke(sqs_event(sqs_record(fields), sqs_record(broken), sqs_record(broken[:-1]))))
        except EventNotRecordedError as error:
            leaks.errors.append(texts_of(error))

        # Then
        assert holds_any(answered + leaks.text(it), LEARNER) == []
    assert holds_any(repr(transport.requests), LEARNER) == []


def test_words_of_thrive_are_not_logged(
    wired: Callable[[Answer, Answer], FakeTransport], leaks: Leaks, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Thrive may name the learner in its refusal: the dead letter tells of it, the log does not."""
    wired(GOOD_TOKEN, json_response(422, {"message": "Ada Lovelace (ada@learner.example) is unknown"}))
    with functioning(monkeypatch, "https://thrive.example") as it:
        assert it.reported(record()) == []
        [entry] = it.dead_letters
        it.sqs.calls.clear()
        assert holds_any(leaks.text(it), ["Lovelace", "ada@"]) == []
    assert entry["MessageAttributes"]["detail"]["StringValue"] == (
        "Thrive answered 422: Ada Lovelace [e-mail] is unknown"
    )


@pytest.mark.parametrize(
    "forging",
    [
        '\n{"level":"INFO","message":"forged"}',
        "\r\nforged",
        "\u2028forged",
        "\u2029forged",
        "\x85forged",
        '","forged":"',
    ],
    ids=["newline", "CRLF", "U+2028", "U+2029", "NEL", "quotes"],
)
def test_ids_do_not_forge_a_log_line(
    forging: str,
    wired: Callable[[Answer, Answer], FakeTransport],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Whatever an id holds, each line is one line to any reader, and JSON with the fields of that line."""
    # Given
    wired(GOOD_TOKEN, json_response(201, {"statementId": "statement" + forging}))
    with functioning(monkeypatch, "https://thrive.example", DEAD_LETTER_QUEUE_URL="") as it:
        # When
        it.invoke(
            sqs_event(
                sqs_record(body(userId="user" + forging), message_id="one" + forging),
                sqs_record(body(contentId="content" + forging), message_id="two"),
                sqs_record(body(), message_id="three"),
                sqs_record("{" + forging, message_id="four"),
            )
        )

    # Then
    output = read(capsys)
    assert output.text.isascii()
    assert len(output.text.splitlines()) == len(output.logs) + len(output.blobs)
    assert len(output.messages) == 4
    for line in output.logs:
        assert "forged" not in line
        assert line["message"] != "forged"


LINE_FIELDS = {
    "message_id",
    "outcome",
    "reason",
    "status",
    "statement_id",
    "user_id",
    "content_id",
    "attempts",
    "receive_count",
    "duration_ms",
}
POWERTOOLS_FIELDS = {"level", "message", "timestamp", "service", "function_request_id"}


def test_fields_of_the_log_are_the_promised_ones(
    function: Function, thrive: ContractedStandIn, capsys: pytest.CaptureFixture[str]
) -> None:
    """A message's line has the promised fields and no others, and each line has the invocation's request id."""
    # Given
    thrive.faults.add(always(status=422, user_id="user-2"))
    thrive.faults.add(always(status=503, user_id="user-3"))

    # When
    function.invoke(sqs_event(record(1, receive_count=4), record(2), record(3), sqs_record("{", message_id="bad")))

    # Then
    output = read(capsys)
    created, refused, deferred, invalid = output.messages
    assert set(created) - POWERTOOLS_FIELDS == LINE_FIELDS - {"reason"}
    assert set(refused) - POWERTOOLS_FIELDS == LINE_FIELDS - {"statement_id"}
    assert set(deferred) - POWERTOOLS_FIELDS == LINE_FIELDS - {"statement_id"}
    assert set(invalid) - POWERTOOLS_FIELDS == LINE_FIELDS - {"statement_id", "status", "user_id", "content_id"}
    assert created["message_id"] == "message-1"
    assert created["user_id"] == "user-1"
    assert created["content_id"] == CONTENT_ID
    assert created["receive_count"] == 4
    assert created["statement_id"] == thrive.ledger.entries()[0].statement_id
    assert [line["attempts"] for line in output.messages] == [1, 1, 3, 0]
    assert [line["level"] for line in output.messages] == ["INFO", "WARNING", "WARNING", "WARNING"]
    [invocation] = output.invocations
    assert set(invocation) - POWERTOOLS_FIELDS == {"counts"}
    assert {line["function_request_id"] for line in output.logs} == {function.contexts[0].aws_request_id}


# --- Metrics ------------------------------------------------------------------------------------------------------


def check_blob(blob: dict[str, Any]) -> None:
    """Fail unless CloudWatch would take a blob, with the one namespace, the one dimension and known metrics alone."""
    [directive] = blob["_aws"]["CloudWatchMetrics"]
    assert directive["Namespace"] == "ThriveCompletionSync"
    assert directive["Dimensions"] == [["service"]]
    assert isinstance(blob["service"], str)
    assert isinstance(blob["_aws"]["Timestamp"], int)
    names = [metric["Name"] for metric in directive["Metrics"]]
    assert len(names) == len(set(names)) <= 100
    for metric in directive["Metrics"]:
        assert metric["Unit"] == METRICS[metric["Name"]]
        assert isinstance(blob[metric["Name"]], list)
        assert 1 <= len(blob[metric["Name"]]) <= 100
        assert all(isinstance(value, float) for value in blob[metric["Name"]])
    assert set(blob) == {"_aws", "service", *names}


def test_metrics_are_the_promised_ones() -> None:
    """The metrics that dashboards and alarms are built on have their promised names and units."""
    counts = [
        *("CompletionsCreated", "CompletionsExisting", "CompletionsRejected", "CompletionsDeferred"),
        *("TokenRequests", "SecretReads", "AuthFailures", "Throttles"),
    ]
    assert {**dict.fromkeys(counts, "Count"), "ApiLatency": "Milliseconds"} == METRICS


@pytest.mark.parametrize("count", [0, 1, 99, 100, 101, 200, 250])
def test_metrics_of_an_invocation(
    count: int,
    wired: Callable[[Answer, Answer], FakeTransport],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """However many messages: valid blobs, each count once, each latency once, one dimension, no warning beside."""
    # Given
    wired(GOOD_TOKEN, GOOD)
    with functioning(monkeypatch, "https://thrive.example") as it:
        # When
        assert it.reported(*(record(number) for number in range(count))) == []

    # Then
    output = read(capsys)
    for blob in output.blobs:
        check_blob(blob)
    assert len(output.blobs) == count // 100 + 1
    assert output.metric("CompletionsCreated") == [count]
    assert len(output.metric("ApiLatency")) == count
    once = {name: len(output.metric(name)) for name in METRICS if name != "ApiLatency"}
    assert set(once.values()) == {1}


def test_metrics_count_what_happened(
    function: Function, thrive: ContractedStandIn, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each count is that of its invocation alone, noughts included."""
    # Given
    thrive.faults.add(always(status=422, user_id="user-2"))
    thrive.faults.add(always(status=429, user_id="user-3"))
    function.reported(record(9))

    # When: user-1 is new, user-9 is known; user-3 is tried three times
    read(capsys)
    function.reported(record(1), record(9), record(2), record(3), sqs_record("{", message_id="bad"))

    # Then
    output = read(capsys)
    assert {name: sum(output.metric(name)) for name in METRICS if name != "ApiLatency"} == {
        "CompletionsCreated": 1,
        "CompletionsExisting": 1,
        "CompletionsRejected": 2,
        "CompletionsDeferred": 1,
        "TokenRequests": 0,
        "SecretReads": 0,
        "AuthFailures": 0,
        "Throttles": 3,
    }
    assert len(output.metric("ApiLatency")) == 6


# --- Settings -----------------------------------------------------------------------------------------------------


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    """Yield what sets variables; the application is built from them, and forgotten at the end."""
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
        ("THRIVE_ENVIRONMENT", CANARY),
        ("THRIVE_BASE_URL", f"http://{CANARY}.example"),
        ("THRIVE_SCOPE", f"{CANARY}  two blanks"),
        ("MAX_CONCURRENCY", "0"),
        ("REQUEST_TIMEOUT_SECONDS", "-1"),
        ("SECRET_MAX_AGE_SECONDS", CANARY),
        ("BACKOFF_BASE_SECONDS", CANARY),
        ("BACKOFF_CAP_SECONDS", "1e3"),
        ("DEAD_LETTER_QUEUE_URL", CANARY),
        ("RETRY_QUEUE_URL", f"ftp://{CANARY}/q"),
    ],
)
@pytest.mark.parametrize("event", [sqs_event(sqs_record()), eventbridge_event(), {}], ids=["SQS", "direct", "foreign"])
def test_bad_setting_is_raised_for_any_event(
    event: dict[str, Any], variable: str, value: str, environment: pytest.MonkeyPatch
) -> None:
    """A bad setting is raised at every invocation, for SQS too, naming the variable and not its value."""
    environment.setenv(variable, value)
    context = FakeContext(SystemClock())
    for _ in range(2):
        with pytest.raises(SettingError) as caught:
            lambda_handler(event, context)  # type: ignore[arg-type]
        assert caught.value.variable == variable
        assert variable in str(caught.value)
        assert CANARY not in str(caught.value)


# --- A real SQS and a real Secrets Manager, in process ------------------------------------------------------------


@pytest.mark.parametrize("auth_method", ["oauth2", "basic"])
def test_from_queue_to_record(
    auth_method: str, environment: pytest.MonkeyPatch, thrive: ContractedStandIn, capsys: pytest.CaptureFixture[str]
) -> None:
    """As it is deployed: settings from the environment, boto3's own clients, a queue, a dead-letter queue, a secret."""
    # Given
    with mock_aws():
        sqs = boto3.client("sqs", region_name="eu-west-2")
        url = sqs.create_queue(QueueName="completions", Attributes={"VisibilityTimeout": "0"})["QueueUrl"]
        arn = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
        dead_letters = sqs.create_queue(QueueName="dead-letters")["QueueUrl"]
        secrets = boto3.client("secretsmanager", region_name="eu-west-2")
        secrets.create_secret(Name="thrive", SecretString=secret_of(thrive, authMethod=auth_method))
        environment.setenv("THRIVE_BASE_URL", thrive.url)
        environment.setenv("DEAD_LETTER_QUEUE_URL", dead_letters)
        environment.setenv("POWERTOOLS_SERVICE_NAME", f"from-queue-to-record-{auth_method}")
        thrive.faults.add(always(status=503, headers={"Retry-After": "600"}, user_id="down"))
        thrive.faults.add(always(status=422, user_id="refused"))
        texts = [body(userId="good"), body(userId="down"), body(userId="refused"), "{", json.dumps(eventbridge_event())]
        for text in texts:
            sqs.send_message(QueueUrl=url, MessageBody=text)
        received = sqs.receive_message(
            QueueUrl=url, MaxNumberOfMessages=10, MessageSystemAttributeNames=["All"], MessageAttributeNames=["All"]
        )["Messages"]
        records = [record_of(message, arn) for message in received]
        bodies = {record["messageId"]: record["body"] for record in records}

        # When
        got = lambda_handler(sqs_event(*records), FakeContext(SystemClock()))  # type: ignore[arg-type]

        # Then: the answer names the one that is to come again
        failed = failed_ids(json.dumps(got).encode(), bodies)
        assert [bodies[identifier] for identifier in failed] == [texts[1]]
        assert {entry.key.user_id for entry in thrive.ledger.entries()} == {"good", USER_ID}

        # Then: the rejected ones stand in the dead-letter queue, and the deferred one stays away
        dead = sqs.receive_message(QueueUrl=dead_letters, MaxNumberOfMessages=10, MessageAttributeNames=["All"])
        assert sorted(message["Body"] for message in dead["Messages"]) == sorted([texts[2], texts[3]])
        assert {message["MessageAttributes"]["sourceQueue"]["StringValue"] for message in dead["Messages"]} == {arn}
        again = sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10).get("Messages", [])
        assert texts[1] not in [message["Body"] for message in again]

        # Then: no token was asked for where none is needed
        assert len(thrive.requests.of("token")) == (1 if auth_method == "oauth2" else 0)
        assert sum(read(capsys).metric("SecretReads")) == 1


def test_first_call_of_each_client_is_the_first_need_of_it(
    environment: pytest.MonkeyPatch, thrive: ContractedStandIn
) -> None:
    """Where nothing is deferred or rejected, no SQS client is even made; where nothing is valid, none of Thrive's."""
    # Given
    made: list[str] = []
    make = boto3.client
    environment.setattr(boto3, "client", lambda name, **options: made.append(name) or make(name, **options))
    environment.setenv("THRIVE_BASE_URL", thrive.url)
    environment.setenv("POWERTOOLS_SERVICE_NAME", "first-call")
    context = FakeContext(SystemClock())
    with mock_aws():
        boto3.client("secretsmanager").create_secret(Name="thrive", SecretString=secret_of(thrive))
        made.clear()

        # When, then
        lambda_handler(sqs_event(sqs_record("{")), context)  # type: ignore[arg-type]
        assert made == []
        assert len(thrive.requests) == 0
        lambda_handler(sqs_event(record(1), record(2)), context)  # type: ignore[arg-type]
        assert made == ["secretsmanager"]


# --- When all else fails ------------------------------------------------------------------------------------------


class Broken:
    """Stands in for a part of the application and fails with a defect in one method; the rest is the part's own."""

    def __init__(self, part: object, method: str, *, after: int = 0) -> None:
        self._part = part
        self._method = method
        self._left = after

    def __getattr__(self, name: str) -> Any:
        genuine = getattr(self._part, name)
        if name != self._method:
            return genuine

        def fail(*arguments: Any, **options: Any) -> Any:
            if self._left:
                self._left -= 1
                return genuine(*arguments, **options)
            raise ZeroDivisionError(CANARY)

        return fail


@pytest.mark.parametrize(
    ("part", "method", "after", "reported"),
    [
        # Nothing is known of any message.
        pytest.param("sync", "run", 0, ["good", "down", "refused"], id="the batch"),
        # What is recorded is known; the rest comes again.
        pytest.param("telemetry", "message", 0, ["down", "refused"], id="the first line of the log"),
        pytest.param("telemetry", "message", 2, ["down", "refused"], id="a later line of the log"),
        pytest.param("backoff", "seconds", 0, ["down", "refused"], id="the backoff"),
        pytest.param("queues", "dead_letter", 0, ["down", "refused"], id="the dead letters"),
        pytest.param("queues", "postpone", 0, ["down", "refused"], id="the postponements"),
        # All is done by then.
        pytest.param("telemetry", "end", 0, ["down"], id="the metrics"),
    ],
)
def test_defect_reports_what_is_not_settled(
    part: str,
    method: str,
    after: int,
    reported: list[str],
    function: Function,
    thrive: ContractedStandIn,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Whatever breaks inside, the function answers, and reports what is neither recorded nor dead-lettered."""
    # Given
    thrive.faults.add(always(status=503, user_id="down"))
    thrive.faults.add(always(status=422, user_id="refused"))
    whole = function.application
    broken = dataclasses.replace(whole, **{part: Broken(getattr(whole, part), method, after=after)})
    monkeypatch.setattr(bootstrap, "application", lambda: broken)
    names = ("good", "down", "refused")

    # When
    got = function.reported(*(sqs_record(body(userId=name), message_id=name) for name in names))

    # Then
    assert got == reported
    output = read(capsys)
    [error] = [line for line in output.logs if line["level"] == "ERROR"]
    assert error["message"].startswith("unexpected ZeroDivisionError at fail:")
    assert CANARY not in output.text


@pytest.mark.parametrize(
    ("part", "method"),
    [("sync", "run"), ("queues", "requeue"), ("backoff", "seconds"), ("telemetry", "message"), ("telemetry", "end")],
)
def test_defect_on_the_direct_path_is_raised_in_our_words(
    part: str,
    method: str,
    function: Function,
    thrive: ContractedStandIn,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Whatever breaks inside, a direct event is raised as not recorded, so that it comes again; nothing is quoted."""
    # Given
    thrive.faults.add(always(status=503))
    whole = function.application
    broken = dataclasses.replace(whole, **{part: Broken(getattr(whole, part), method)})
    monkeypatch.setattr(bootstrap, "application", lambda: broken)

    # When
    with pytest.raises(EventNotRecordedError) as caught:
        function.invoke(eventbridge_event())

    # Then
    assert str(caught.value) == "unexpected ZeroDivisionError in this function"
    assert caught.value.__context__ is None
    output = read(capsys)
    assert next(line["message"] for line in output.logs if line["level"] == "ERROR").startswith("unexpected ")
    assert CANARY not in output.text + texts_of(caught.value)


def test_defect_in_a_queue_call_reports_what_was_in_it(function: Function, thrive: ContractedStandIn) -> None:
    """A defect in the thread of a call to SQS is not lost in that thread."""
    thrive.faults.add(always(status=422))
    function.sqs.on_call = fail_with(ZeroDivisionError())
    assert function.reported(record(1)) == ["message-1"]


# --- Property -----------------------------------------------------------------------------------------------------

API_FATES: dict[str, Answer] = {
    **{
        str(status): json_response(status, {"statementId": "s"})
        for status in (100, 200, 201, 202, 204, 301, 400, 404, 408, 409, 422, 425, 429, 500, 503)
    },
    "401": json_response(401, {}),
    "403": json_response(403, {}),
    "201 without a body": Response(201, None),
    "lost": TemporaryError("unavailable", "reset"),
    "locked": AccessError("misconfigured", "no"),
    "defect": ZeroDivisionError(),
}
SQS_FATES = ["sqs-takes", "sqs-fails", "sqs-raises", "sqs-defect"]
# Written down apart from the code.
RECORDING = {200, 201, 202, 204, 409}


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
    has_dead_letter_queue=st.booleans(),
    concurrency=st.integers(1, 4),
)
def test_acknowledged_only_if_recorded_or_dead_lettered(
    batch: list[tuple[str, int, str, str | None]],
    token: Response,
    has_dead_letter_queue: bool,  # noqa: FBT001
    concurrency: int,
    wired: Callable[[Answer, Answer], FakeTransport],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """For any API and any SQS: what Lambda would delete was recorded by Thrive or stands in the dead-letter queue."""
    # Given: the content id says what Thrive does, the note in the body what SQS does
    recorded: set[tuple[str, str]] = set()

    def thrive_answers(request: Request) -> Response:
        user, fate = request.json["userId"], request.json["contentId"]
        planned = API_FATES[fate]
        if isinstance(planned, Exception):
            raise planned
        assert isinstance(planned, Response)
        if planned.status in RECORDING:
            recorded.add((user, fate))
        return planned

    wired(token, thrive_answers)
    records = [
        sqs_record(
            f'{{"{sqs}"' if fate == "invalid" else completion_fields(userId=f"user-{number}", contentId=fate, x=sqs),
            message_id=f"message-{index}",
            group=group,
            queue_arn=FIFO_ARN if group else QUEUE_ARN,
        )
        for index, (fate, number, sqs, group) in enumerate(batch)
    ]
    variables = {"MAX_CONCURRENCY": str(concurrency)}
    if not has_dead_letter_queue:
        variables["DEAD_LETTER_QUEUE_URL"] = ""
    with monkeypatch.context() as patch, functioning(patch, "https://thrive.example", **variables) as it:
        standing: set[str] = set()
        plan_sqs(it.sqs, standing)

        # When
        reported = set(it.reported(*records))
        capsys.readouterr()

    # Then
    for each, (fate, number, _, group) in zip(records, batch, strict=True):
        identifier = each["messageId"]
        is_recorded = (f"user-{number}", fate) in recorded
        if identifier not in reported:
            assert is_recorded or identifier in standing
        # And what is done is not delivered again; but in a group it may stand behind one that is deferred.
        if is_recorded and group is None:
            assert identifier not in reported


def plan_sqs(sqs: FakeSqs, standing: set[str]) -> None:
    """Let the body of each dead letter say what becomes of it; note the ids of those that SQS takes."""

    def on_call(operation: str, request: Mapping[str, Any]) -> None:
        texts = "".join(entry.get("MessageBody", "") for entry in request["Entries"])
        if "sqs-raises" in texts:
            raise throttled()
        if "sqs-defect" in texts:
            raise ZeroDivisionError

    def refused(entry: dict[str, Any]) -> str | None:
        if "sqs-fails" in entry.get("MessageBody", ""):
            return "InternalError"
        if "MessageAttributes" in entry:
            standing.add(entry["MessageAttributes"]["sourceMessageId"]["StringValue"])
        return None

    sqs.on_call = on_call
    sqs.refused = refused


def test_raw_socket_server_that_resets_everything(monkeypatch: pytest.MonkeyPatch) -> None:
    """At a server that speaks no HTTP at all, everything is deferred as unavailable and nothing is lost."""

    def no_http(peer: Any) -> None:
        peer.send(b"220 mail.example ESMTP\r\n")
        peer.close()

    with RawServer(no_http) as server, functioning(monkeypatch, server.url) as it:
        assert it.reported(record(1), record(2)) == ["message-1", "message-2"]
        # The token's three attempts, and no completion.
        assert [request.target for request in server.requests] == [f"/oauth2/token/{TENANT}"] * 3


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_redirect_leads_nowhere(status: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A redirect of the token request or of a completion hands neither secret nor token to another host."""
    token = response(200, json.dumps({"access_token": TOKEN, "token_type": "Bearer", "expires_in": 3600}).encode())
    with RawServer(answer(201)) as trap:
        location = f"http://localhost:{trap.port}/oauth2/token/x"

        def token_then_redirect(peer: Any) -> None:
            peer.send(token)

        # Given: the token endpoint redirects
        with (
            RawServer(answer(status, b"", Location=location)) as server,
            functioning(monkeypatch, server.url) as it,
        ):
            assert it.reported(record(1), record(2)) == ["message-1", "message-2"]
            assert len(server.requests) == 1

        # Given: completions are redirected
        with (
            RawServer(token_then_redirect, answer(status, b"", Location=location)) as server,
            functioning(monkeypatch, server.url, MAX_CONCURRENCY="1") as it,
        ):
            assert it.reported(record(1), record(2)) == ["message-1", "message-2"]
            assert len(server.requests) == 2

        # Then
        assert trap.accepts == 0
