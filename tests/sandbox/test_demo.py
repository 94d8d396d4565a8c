"""The demo's messages are what their labels say, and its check finds every message that is not where it belongs."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from sandbox.config import EXAMPLE, Configuration, parse
from sandbox.demo import foreign
from sandbox.demo.events_file import expected_of, read_events_file
from sandbox.demo.reconcile import Sent, reconcile
from sandbox.demo.run import Options, made_up
from sandbox.demo.shapes import BAD, GOOD, Written
from sandbox.demo.workload import Ignored, Message, Recorded, Rejected
from sandbox.pipeline.mail import Letter
from sandbox.thrive_api import Entry, Key

if TYPE_CHECKING:
    from pathlib import Path


# --- The messages -----------------------------------------------------------------------------------------------------


def test_the_same_seed_makes_the_same_messages() -> None:
    assert made_up(Options(seed=7)) == made_up(Options(seed=7))
    assert made_up(Options(seed=7)) != made_up(Options(seed=8))


def test_the_default_run_has_every_shape_and_every_kind_of_bad_message() -> None:
    work = made_up(Options())
    labels = [message.label for message in work.messages]
    assert len(set(labels)) == 400
    assert [shape for shape in (*GOOD, *foreign.GOOD) if not any(label.endswith(shape) for label in labels)] == []
    kinds = [*BAD, *foreign.BAD, "repeat", "late", "missing"]
    assert [kind for kind in kinds if not any(f"({kind})" in label for label in labels)] == []
    assert all("waiting" in label for label in labels[: work.waiting])
    assert Counter(type(message.expected) for message in work.messages)[Recorded] > 300


def test_the_function_reads_from_a_message_what_is_expected_of_it() -> None:
    configuration = parse(EXAMPLE)
    for message in made_up(Options()).messages:
        body = message.written.content
        if message.written.channel == "bus":
            body = f'{{"detail-type": "LearningCompleted", "time": "2020-01-01T00:00:00Z", "detail": {body}}}'
        found = expected_of(body, configuration, set())
        match message.expected:
            case Rejected("refused" | "unknown_user"):
                assert isinstance(found, Recorded), message.label
            case expected:
                assert found == expected, message.label


def test_a_file_is_read_line_by_line_and_lines_that_sqs_refuses_are_named(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    good = b'\xef\xbb\xbf{"userId": "u", "contentId": "c", "completedAt": "2024-01-01T10:00:00+02:00"}\r\n'
    path.write_bytes(good + b"\n   \nnot JSON\n\xff\n\x00\n" + b"x" * (1024 * 1024 + 1) + b'\n{"userId": 1}')

    file = read_events_file(path, Configuration())

    assert {message.label: message.expected for message in file.messages} == {
        "line 1": Recorded(Key("u", "c", "2024-01-01T08:00:00.000Z")),
        "line 4": Rejected("invalid_message"),
        "line 8": Rejected("invalid_message"),
    }
    assert [line.partition(":")[0] for line in file.unsendable] == ["line 5", "line 6", "line 7"]


def test_a_file_is_read_with_its_configuration_and_everyone_in_it_exists(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    hr = {"employeeNumber": "7", "course": "FIRE-2", "finished": "01.05.2024 10:00:00", "status": "passed"}
    lines = [hr, {**hr, "course": "X"}, {**hr, "finished": ""}, {**hr, "status": "enrolled"}]
    path.write_text("\n".join(map(json.dumps, lines)))

    file = read_events_file(path, parse(EXAMPLE))

    assert [message.expected for message in file.messages] == [
        Recorded(Key(foreign.user_id("7"), "64a1b2c3d4e5f6789abcdef1", "2024-05-01T09:00:00.000Z")),
        Rejected("unknown_content"),
        Rejected("invalid_message"),
        Ignored(),
    ]
    assert file.refs == {"7"}
    without_table = read_events_file(path, parse({"mapping.json": EXAMPLE["mapping.json"]}))
    assert [line.partition(":")[0] for line in without_table.unsendable] == ["line 1", "line 2"]


# --- The check --------------------------------------------------------------------------------------------------------

KEY = Key("u", "c", "2024-01-01T00:00:00.000Z")
ONE = Sent(Message("1", Written("queue", "{}"), Recorded(KEY)), "id-1")
REPEAT = Sent(Message("2", Written("bus", "{}"), Recorded(KEY)), "id-2")
REFUSED = Sent(Message("3", Written("queue", "x"), Rejected("refused")), "id-3")
INVALID = Sent(Message("4", Written("bus", "{}"), Rejected("invalid_message")), "event-4")
IGNORED = Sent(Message("5", Written("queue", "{}"), Ignored()), "id-5")
RECORD = Entry(KEY, "statement", 1)
LETTER = Letter("new-id", "x", {"reason": "refused", "detail": "no such user", "sourceMessageId": "id-3"})
MOVED = Letter("id-1", "{}", {})
BUS_LETTER = Letter(
    "new-id-2",
    json.dumps({"id": "event-4", "detail-type": "t", "detail": {}}),
    {"reason": "invalid_message", "sourceMessageId": "any"},
)


# Delivery is at least once: a crash after the dead letter was sent makes a second one.
@pytest.mark.parametrize("letters", [[LETTER, BUS_LETTER], [LETTER, LETTER, BUS_LETTER]])
def test_the_check_passes_if_every_message_is_where_it_belongs(letters: list[Letter]) -> None:
    balance = reconcile([ONE, REPEAT, REFUSED, INVALID, IGNORED], [RECORD], letters, 0)
    assert balance.is_even
    assert (balance.sent, balance.created, balance.existing, balance.ignored, balance.unaccounted) == (5, 1, 1, 1, 0)
    assert balance.rejected == {"refused": 1, "invalid_message": 1}
    assert balance.rejections[0] == ("3", "refused", "no such user")


@pytest.mark.parametrize(
    ("sent", "records", "letters", "problem"),
    [
        (ONE, [], [], "1: should be recorded, but Thrive does not hold it"),
        (REFUSED, [], [], "3: should be rejected (refused), but is not"),
        (ONE, [RECORD], [MOVED], "1: should be recorded, but is a dead letter: moved by the queue"),
        (REFUSED, [], [replace(MOVED, message_id="id-3")], "3: should be rejected as refused, but: moved by the queue"),
        (ONE, [RECORD, Entry(KEY._replace(user_id="v"), "s", 1)], [], "a record that nobody sent: ('v',"),
        (ONE, [RECORD], [LETTER], "a dead letter that nobody sent: refused"),
        (IGNORED, [], [replace(MOVED, message_id="id-5")], "5: should be ignored, but is a dead letter: moved by"),
    ],
)
def test_the_check_names_what_is_not_where_it_belongs(
    sent: Sent, records: list[Entry], letters: list[Letter], problem: str
) -> None:
    [found] = reconcile([sent], records, letters, 0).problems
    assert found.startswith(problem)


def test_the_check_names_what_is_still_queued() -> None:
    assert reconcile([ONE], [RECORD], [], 2).problems == ["2 still in the queue"]
