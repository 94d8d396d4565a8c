"""The logger and the metrics by themselves: fields, bounds, threads, and one invocation apart from the next."""

from __future__ import annotations

import json
import logging
import uuid
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from completion_sync.errors import InvalidMessageError
from completion_sync.events import Message
from completion_sync.observability import METRICS, Telemetry
from completion_sync.outcomes import Created, Deferred, Existing, Outcome, Rejected
from completion_sync.sync import Result
from tests.support.fakes import CANARY, CONTENT_ID, USER_ID, completion, in_threads
from tests.support.function import Output

if TYPE_CHECKING:
    from collections.abc import Callable

MESSAGE = Message("message-1", f"body {CANARY}", completion(), 3, f"receipt {CANARY}", f"arn {CANARY}", 1, "group")


@pytest.fixture
def telemetry() -> Telemetry:
    """Return telemetry of a service of its own: Powertools keeps a logger for each."""
    return Telemetry(f"service-{uuid.uuid4()}", "ThriveCompletionSync")


@pytest.fixture
def output(capsys: pytest.CaptureFixture[str]) -> Callable[[], Output]:
    """Return what reads what was printed since the last time."""

    def read() -> Output:
        captured = capsys.readouterr()
        assert captured.err == ""
        return Output.read(captured.out)

    return read


@pytest.fixture
def log(capsys: pytest.CaptureFixture[str]) -> Callable[[Outcome], list[dict[str, Any]]]:
    """Return what gives the log's lines for an outcome; the telemetry is made within the test, for its stream."""

    def lines(outcome: Outcome, message: Message = MESSAGE) -> list[dict[str, Any]]:
        Telemetry(f"service-{uuid.uuid4()}", "N").message(message, Result(outcome, 2, 12.345))
        return Output.read(capsys.readouterr().out).logs

    return lines


COMMON = {
    "message_id": "message-1",
    "user_id": USER_ID,
    "content_id": CONTENT_ID,
    "attempts": 2,
    "receive_count": 3,
    "duration_ms": 12.3,
}
OURS = {"level", "message", "timestamp", "service"}


@pytest.mark.parametrize(
    ("outcome", "level", "text", "fields"),
    [
        pytest.param(
            Created("s-1", 201),
            "INFO",
            "created",
            {"outcome": "created", "status": 201, "statement_id": "s-1"},
            id="created",
        ),
        pytest.param(
            Existing("s-1", 200),
            "INFO",
            "exists",
            {"outcome": "exists", "status": 200, "statement_id": "s-1"},
            id="exists",
        ),
        pytest.param(Existing(None, 409), "INFO", "exists", {"outcome": "exists", "status": 409}, id="409"),
        pytest.param(
            Rejected("refused", "words of Thrive", 422),
            "WARNING",
            "rejected",
            {"outcome": "rejected", "reason": "refused", "status": 422},
            id="refused",
        ),
        pytest.param(
            Rejected("invalid_message", "userId: must be"),
            "WARNING",
            "rejected: userId: must be",
            {"outcome": "rejected", "reason": "invalid_message"},
            id="invalid",
        ),
        pytest.param(
            Deferred("unavailable", "Thrive answered 503", 503, 60.0),
            "WARNING",
            "deferred: Thrive answered 503",
            {"outcome": "deferred", "reason": "unavailable", "status": 503},
            id="deferred",
        ),
    ],
)
def test_line_of_a_message(
    outcome: Outcome,
    level: str,
    text: str,
    fields: dict[str, Any],
    log: Callable[[Outcome], list[dict[str, Any]]],
) -> None:
    """Each outcome is one line with the allowed fields that have a value, and nothing else of the message."""
    # When
    [line] = log(outcome)

    # Then
    assert (line["level"], line["message"]) == (level, text)
    assert {name: value for name, value in line.items() if name not in OURS} == COMMON | fields
    assert CANARY not in repr(line)


@pytest.mark.parametrize("outcome", [Created(None, 201), Existing(None, 200), Existing(None, 204)], ids=repr)
def test_recorded_without_a_statement_id_is_told(
    outcome: Outcome, log: Callable[[Outcome], list[dict[str, Any]]]
) -> None:
    """That the answer to a recorded completion cannot be read is worth a line of its own, at WARNING."""
    _, line = log(outcome)
    assert line["level"] == "WARNING"
    assert "no readable statementId" in line["message"]


def test_message_without_completion_has_no_ids(log: Callable[..., list[dict[str, Any]]]) -> None:
    """Of a message that holds no completion nothing is known but its id."""
    [line] = log(Rejected("invalid_message", "x"), replace(MESSAGE, content=InvalidMessageError("x")))
    assert {"user_id", "content_id"}.isdisjoint(line)


def test_id_of_any_length_is_bounded(log: Callable[..., list[dict[str, Any]]]) -> None:
    """A message's id is cut to 128 characters."""
    [line] = log(Created("s", 201), replace(MESSAGE, id="x" * 1000))
    assert line["message_id"] == "x" * 128


def test_request_id_is_that_of_the_invocation(output: Callable[[], Output]) -> None:
    """Every line from the beginning of an invocation on carries its request id, until the next begins."""
    # Given
    telemetry = Telemetry(f"service-{uuid.uuid4()}", "N")

    # When
    for request_id in ("one", "two"):
        telemetry.begin(request_id)
        telemetry.notice("a problem")
        telemetry.end([], 0)

    # Then
    assert [line["function_request_id"] for line in output().logs] == ["one", "one", "two", "two"]


def test_problem_is_a_warning_in_our_words(output: Callable[[], Output]) -> None:
    """What went wrong beside the messages is a line at WARNING."""
    Telemetry(f"service-{uuid.uuid4()}", "N").notice("SQS answered AccessDenied")
    [line] = output().logs
    assert (line["level"], line["message"]) == ("WARNING", "SQS answered AccessDenied")


def deep(levels: int) -> None:
    """Fail some calls below."""
    if levels:
        deep(levels - 1)
    raise ValueError(CANARY)


def test_defect_is_told_by_kind_and_place_alone(output: Callable[[], Output]) -> None:
    """A defect's line names its kind and the innermost five functions, and quotes nothing."""
    # Given
    telemetry = Telemetry(f"service-{uuid.uuid4()}", "N")
    try:
        deep(10)
    except ValueError as error:
        # When
        telemetry.unexpected(error)

    # Then
    [line] = output().logs
    assert line["level"] == "ERROR"
    assert line["message"].startswith("unexpected ValueError at deep:")
    assert line["message"].count("deep:") == 5
    assert CANARY not in json.dumps(line)
    assert "exception" not in line


def test_defect_without_a_traceback_is_told(output: Callable[[], Output]) -> None:
    """An error that was never raised has no place, and is told all the same."""
    Telemetry(f"service-{uuid.uuid4()}", "N").unexpected(ValueError(CANARY))
    [line] = output().logs
    assert line["message"] == "unexpected ValueError at "


def test_counts_and_latencies_start_anew_with_each_invocation(output: Callable[[], Output]) -> None:
    """What one invocation counted is not counted again in the next."""
    # Given
    telemetry = Telemetry(f"service-{uuid.uuid4()}", "ThriveCompletionSync")
    telemetry.count("Throttles")
    telemetry.observe_latency(12.345)

    # When
    telemetry.end([Result(Created("s", 201))], 0)
    telemetry.end([], 0)

    # Then
    first, second = output().blobs
    assert first["Throttles"] == [1.0]
    assert first["ApiLatency"] == [12.3]
    assert second["Throttles"] == [0.0]
    assert "ApiLatency" not in second
    assert first["_aws"]["CloudWatchMetrics"][0]["Namespace"] == "ThriveCompletionSync"


def test_line_of_an_invocation_counts_outcomes(output: Callable[[], Output]) -> None:
    """An invocation's line has the number of messages by outcome, noughts included, and of those that come again."""
    # When
    outcomes: list[Outcome] = [Created("s", 201), Created("s", 201), Existing(None, 409), Deferred("unavailable", "x")]
    Telemetry(f"service-{uuid.uuid4()}", "N").end([Result(outcome) for outcome in outcomes], reported=1)

    # Then
    [line] = output().logs
    assert (line["level"], line["message"]) == ("INFO", "invocation")
    assert line["counts"] == {"messages": 4, "created": 2, "exists": 1, "rejected": 0, "deferred": 1, "reported": 1}


def test_counting_is_safe_in_threads(output: Callable[[], Output]) -> None:
    """Counts and latencies from several threads are all there."""
    # Given
    telemetry = Telemetry(f"service-{uuid.uuid4()}", "N")

    def work(_: int) -> None:
        for _ in range(500):
            telemetry.count("Throttles")
            telemetry.observe_latency(1.0)

    # When
    in_threads(8, work)
    telemetry.end([], 0)

    # Then
    read = output()
    assert read.metric("Throttles") == [4000.0]
    assert len(read.metric("ApiLatency")) == 4000
    assert all(len(blob.get("ApiLatency", [])) <= 100 for blob in read.blobs)


def test_every_outcome_has_its_metric(output: Callable[[], Output]) -> None:
    """Logging a message counts its outcome under a metric of the promised set."""
    # Given
    telemetry = Telemetry(f"service-{uuid.uuid4()}", "N")

    # When
    for outcome in (Created("s", 201), Existing("s", 200), Rejected("refused", "x"), Deferred("unavailable", "x")):
        telemetry.message(MESSAGE, Result(outcome))
    telemetry.end([], 0)

    # Then
    [blob] = output().blobs
    ones = {name for name in METRICS if blob.get(name) == [1.0]}
    assert ones == {"CompletionsCreated", "CompletionsExisting", "CompletionsRejected", "CompletionsDeferred"}


def test_output_is_ascii(output: Callable[[], Output]) -> None:
    """Whatever characters a value has, they are escaped: no reader sees a line end that is none."""
    Telemetry(f"service-{uuid.uuid4()}", "N").notice("å \u2028 \x85 💥")
    read = output()
    assert read.text.isascii()
    assert read.logs[0]["message"] == "å \u2028 \x85 💥"


@pytest.mark.parametrize("library", ["boto3", "botocore", "urllib3", "urllib3.connectionpool", "botocore.endpoint"])
def test_libraries_are_silent_at_debug(library: str, telemetry: Telemetry) -> None:
    """What the libraries would log at DEBUG, URLs, headers and bodies, is not logged, whatever the root's level."""
    assert telemetry is not None
    assert not logging.getLogger(library).isEnabledFor(logging.ERROR)
