"""The logger and the metrics: fields, bounds, threads, and each invocation apart from the next."""

import json
import logging
import uuid
from dataclasses import replace

import pytest

from completion_sync.errors import InvalidMessageError
from completion_sync.events import Message
from completion_sync.observability import Telemetry
from completion_sync.outcomes import Created, Deferred, Existing, Rejected
from completion_sync.sync import Result
from tests.support.fakes import CANARY, CONTENT_ID, USER_ID, completion, in_threads
from tests.support.function import Output, print_to_current_stdout

MESSAGE = Message("message-1", f"body {CANARY}", completion(), 3, f"receipt {CANARY}", f"arn {CANARY}", 1, "group")
COMMON = {"message_id": "message-1", "user_id": USER_ID, "content_id": CONTENT_ID}
COMMON |= {"attempts": 2, "receive_count": 3, "duration_ms": 12.3}
POWERTOOLS = {"level", "message", "timestamp", "service"}


@pytest.fixture
def telemetry():
    """Return telemetry of a service of its own: Powertools keeps one logger for each."""
    service = f"service-{uuid.uuid4()}"
    telemetry = Telemetry(service, "ThriveCompletionSync")
    print_to_current_stdout(service)
    return telemetry


@pytest.fixture
def output(capsys):
    """Return a function that reads what was printed since its last call."""

    def read():
        captured = capsys.readouterr()
        assert captured.err == ""
        return Output.read(captured.out)

    return read


@pytest.mark.parametrize(
    ("outcome", "level", "text", "fields"),
    [
        (Created("s-1", 201), "INFO", "created", {"status": 201, "statement_id": "s-1"}),
        (Existing("s-1", 200), "INFO", "exists", {"status": 200, "statement_id": "s-1"}),
        (Existing(None, 409), "INFO", "exists", {"status": 409}),
        # Thrive's own words are in the dead letter, not in the log.
        (Rejected("refused", CANARY, 422), "WARNING", "rejected", {"reason": "refused", "status": 422}),
        (Rejected("invalid_message", "userId: x"), "WARNING", "rejected: userId: x", {"reason": "invalid_message"}),
        (Deferred("out_of_time", "late"), "WARNING", "deferred: late", {"reason": "out_of_time"}),
    ],
)
def test_each_outcome_is_one_line_with_the_allowed_fields_that_have_a_value(
    outcome, level, text, fields, telemetry, output
):
    telemetry.message(MESSAGE, Result(outcome, 2, 12.345))
    [line] = output().logs
    assert (line["level"], line["message"]) == (level, text)
    fields |= {"outcome": outcome.name}
    assert {name: value for name, value in line.items() if name not in POWERTOOLS} == COMMON | fields
    assert CANARY not in repr(line)


@pytest.mark.parametrize("outcome", [Created(None, 201), Existing(None, 200), Existing(None, 202)], ids=repr)
def test_recorded_completion_without_a_statement_id_is_a_warning_of_its_own(outcome, telemetry, output):
    telemetry.message(MESSAGE, Result(outcome))
    _, line = output().logs
    assert line["level"] == "WARNING"
    assert line["message"] == "the answer to a recorded completion has no usable statementId"


def test_message_without_completion_has_no_ids_and_a_long_message_id_is_cut(telemetry, output):
    message = replace(MESSAGE, id="x" * 1000, content=InvalidMessageError("x"))
    telemetry.message(message, Result(Rejected("invalid_message", "x")))
    [line] = output().logs
    assert {"user_id", "content_id"}.isdisjoint(line)
    assert line["message_id"] == "x" * 128


@pytest.mark.parametrize(
    ("changes", "shown"),
    [
        ({"userId": "ada@learner.example"}, {"user_id": "[e-mail]", "content_id": CONTENT_ID}),
        ({"contentId": "mailto:ada%40x"}, {"user_id": USER_ID, "content_id": "[e-mail]"}),
    ],
)
def test_an_id_that_is_an_address_is_not_logged(changes, shown, telemetry, output):
    telemetry.message(replace(MESSAGE, content=completion(**changes)), Result(Created("statement-1", 201)))
    [line] = output().logs
    assert {name: line[name] for name in shown} == shown


def test_each_line_has_the_request_id_of_its_invocation(telemetry, output):
    for request_id in ("one", "two"):
        telemetry.begin(request_id)
        telemetry.notice("SQS answered AccessDenied")
        telemetry.end([], 0)
    lines = output().logs
    assert [line["function_request_id"] for line in lines] == ["one", "one", "two", "two"]
    assert (lines[0]["level"], lines[0]["message"]) == ("WARNING", "SQS answered AccessDenied")


def test_defect_is_logged_by_its_type_and_place_only(telemetry, output):
    def deep(levels):
        if levels:
            deep(levels - 1)
        raise ValueError(CANARY)

    with pytest.raises(ValueError, match=CANARY) as caught:
        deep(10)
    telemetry.unexpected(caught.value)
    telemetry.unexpected(ValueError(CANARY))  # never raised, so it has no place
    raised, bare = output().logs
    assert raised["level"] == "ERROR"
    assert raised["message"].startswith("unexpected ValueError at deep:")
    assert raised["message"].count("deep:") == 5
    assert bare["message"] == "unexpected ValueError at "
    assert CANARY not in json.dumps([raised, bare])
    assert "exception" not in raised


def test_counts_and_latencies_start_anew_with_each_invocation(telemetry, output):
    telemetry.count("Throttles")
    telemetry.observe_latency(12.345)
    telemetry.end([], 0)
    telemetry.end([], 0)
    first, second = output().blobs
    assert (first["Throttles"], first["ApiLatency"]) == ([1.0], [12.3])
    assert second["Throttles"] == [0.0]
    assert "ApiLatency" not in second
    assert first["_aws"]["CloudWatchMetrics"][0]["Namespace"] == "ThriveCompletionSync"


def test_line_of_an_invocation_counts_outcomes_and_what_comes_again(telemetry, output):
    outcomes = [Created("s", 201), Created("s", 201), Existing(None, 409), Deferred("unavailable", "x")]
    telemetry.end([Result(outcome) for outcome in outcomes], reported=1)
    [line] = output().logs
    assert (line["level"], line["message"]) == ("INFO", "invocation")
    counts = {"created": 2, "exists": 1, "ignored": 0, "rejected": 0, "deferred": 1}
    assert line["counts"] == {"messages": 4, **counts, "reported": 1}


@pytest.mark.parametrize(
    ("outcome", "age", "metric"),
    [
        (Rejected("unknown_content", "x"), 0, "UnknownContent"),
        (Deferred("unknown_user", "x"), 12 * 3600, "UnknownUsers"),
        (Deferred("unknown_user", "x"), 12 * 3600 - 1, None),
        (Deferred("unavailable", "x"), 12 * 3600, None),
    ],
    ids=repr,
)
def test_unknown_content_and_long_waits_for_unknown_people_are_counted(outcome, age, metric, telemetry, output):
    telemetry.message(MESSAGE, Result(outcome), age)
    telemetry.end([], 0)
    [blob] = output().blobs
    assert [name for name in ("UnknownContent", "UnknownUsers") if name in blob] == [metric] * (metric is not None)


def test_counting_is_safe_in_threads(telemetry, output):
    def work(_):
        for _ in range(500):
            telemetry.count("Throttles")
            telemetry.observe_latency(1.0)

    in_threads(8, work)
    telemetry.end([], 0)
    read = output()
    assert read.metric("Throttles") == [4000.0]
    assert len(read.metric("ApiLatency")) == 4000
    assert all(len(blob.get("ApiLatency", [])) <= 100 for blob in read.blobs)


def test_output_is_ascii_so_that_no_reader_sees_a_line_end_in_a_value(telemetry, output):
    telemetry.notice("å \u2028 \x85 💥")
    read = output()
    assert read.text.isascii()
    assert read.logs[0]["message"] == "å \u2028 \x85 💥"


@pytest.mark.parametrize("library", ["boto3", "botocore", "urllib3", "urllib3.connectionpool", "botocore.endpoint"])
def test_libraries_are_silent_at_debug(library, telemetry):
    """They would log URLs, headers and bodies."""
    assert not logging.getLogger(library).isEnabledFor(logging.ERROR)
