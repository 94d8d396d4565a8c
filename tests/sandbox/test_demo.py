"""The demo's messages are what their labels say, and its check finds every message that is not where it belongs."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from completion_sync.errors import InvalidMessageError
from completion_sync.events import read_body
from sandbox.demo.events_file import read_events_file
from sandbox.demo.reconcile import Balance, Sent, reconcile
from sandbox.demo.shapes import BAD, GOOD, Written
from sandbox.demo.workload import Message, Recorded, Rejected, generate
from sandbox.pipeline.mail import Letter
from sandbox.thrive_api import Entry, Key

if TYPE_CHECKING:
    from pathlib import Path


# --- The messages -----------------------------------------------------------------------------------------------------


def read(message: Message) -> Key | None:
    """Read a message as the function does; return None if it holds no completion."""
    body = message.written.content
    if message.written.channel == "bus":
        body = f'{{"detail-type": "LearningCompleted", "time": "2020-01-01T00:00:00Z", "detail": {body}}}'
    try:
        completion = read_body(body)
    except InvalidMessageError:
        return None
    return Key(completion.user_id, completion.content_id, completion.completed_at)


def test_the_same_seed_makes_the_same_messages() -> None:
    assert generate(200, 7) == generate(200, 7)
    assert generate(200, 7) != generate(200, 8)


def test_the_default_run_has_every_shape_and_every_kind_of_bad_message() -> None:
    messages = generate(400, 1)
    labels = [message.label for message in messages]
    assert len(set(labels)) == 400
    assert [shape for shape in GOOD if not any(label.endswith(shape) for label in labels)] == []
    assert [kind for kind in BAD if not any(f"({kind})" in label for label in labels)] == []
    assert any("(repeat)" in label for label in labels)
    assert Counter(type(message.expected) for message in messages)[Recorded] > 300


@pytest.mark.parametrize("seed", range(3))
def test_the_function_reads_from_a_message_what_is_expected_of_it(seed: int) -> None:
    for message in generate(300, seed):
        match message.expected:
            case Recorded(key):
                assert read(message) == key, message.label
            case Rejected("invalid_message"):
                assert read(message) is None, message.label
            case Rejected("refused"):
                assert read(message) is not None, message.label


def test_a_file_is_read_line_by_line_and_lines_that_sqs_refuses_are_named(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    good = b'\xef\xbb\xbf{"userId": "u", "contentId": "c", "completedAt": "2024-01-01T10:00:00+02:00"}\r\n'
    path.write_bytes(good + b"\n   \nnot JSON\n\xff\n\x00\n" + b"x" * (1024 * 1024 + 1) + b'\n{"userId": 1}')

    file = read_events_file(path)

    assert {message.label: message.expected for message in file.messages} == {
        "line 1": Recorded(Key("u", "c", "2024-01-01T08:00:00.000Z")),
        "line 4": Rejected("invalid_message"),
        "line 8": Rejected("invalid_message"),
    }
    assert [line.partition(":")[0] for line in file.unsendable] == ["line 5", "line 6", "line 7"]


# --- The check --------------------------------------------------------------------------------------------------------

KEY = Key("u", "c", "2024-01-01T00:00:00.000Z")
ONE = Sent(Message("1", Written("queue", "{}"), Recorded(KEY)), "id-1")
REPEAT = Sent(Message("2", Written("bus", "{}"), Recorded(KEY)), "id-2")
REFUSED = Sent(Message("3", Written("queue", "x"), Rejected("refused")), "id-3")
INVALID = Sent(Message("4", Written("bus", "{}"), Rejected("invalid_message")), "event-4")

RECORD = Entry(KEY, "statement", 1)
LETTER = Letter("new-id", "x", {"reason": "refused", "detail": "no such user", "sourceMessageId": "id-3"})
BUS_LETTER = Letter(
    "new-id-2",
    json.dumps({"id": "event-4", "detail-type": "t", "detail": {}}),
    {"reason": "invalid_message", "sourceMessageId": "any"},
)


# Delivery is at least once: a crash after the dead letter was sent makes a second one.
@pytest.mark.parametrize("letters", [[LETTER, BUS_LETTER], [LETTER, LETTER, BUS_LETTER]])
def test_the_check_passes_if_every_message_is_where_it_belongs(letters: list[Letter]) -> None:
    balance = reconcile([ONE, REPEAT, REFUSED, INVALID], [RECORD], letters, 0)
    assert balance.is_even
    assert (balance.sent, balance.created, balance.existing, balance.unaccounted) == (4, 1, 1, 0)
    assert balance.rejected == {"refused": 1, "invalid_message": 1}
    assert balance.rejections[0] == ("3", "refused", "no such user")


@pytest.mark.parametrize(
    ("balance", "problem"),
    [
        pytest.param(reconcile([ONE], [], [], 0), "1: should be recorded, but Thrive does not hold it", id="lost"),
        pytest.param(reconcile([REFUSED], [], [], 0), "3: should be rejected (refused), but is not", id="bad one lost"),
        pytest.param(
            reconcile([ONE], [RECORD], [Letter("id-1", "{}", {})], 0),
            "1: should be recorded, but is a dead letter: moved by the queue",
            id="good one dead-lettered",
        ),
        pytest.param(
            reconcile([REFUSED], [], [replace(LETTER, attributes={"sourceMessageId": "id-3"})], 0),
            "3: should be rejected as refused, but: moved by the queue",
            id="no reason",
        ),
        pytest.param(
            reconcile([ONE], [RECORD, Entry(KEY._replace(user_id="v"), "s", 1)], [], 0),
            "a record that nobody sent: ('v',",
            id="record that nobody sent",
        ),
        pytest.param(
            reconcile([ONE], [RECORD], [LETTER], 0),
            "a dead letter that nobody sent: refused",
            id="dead letter that nobody sent",
        ),
        pytest.param(reconcile([ONE], [RECORD], [], 2), "2 still in the queue", id="still queued"),
    ],
)
def test_the_check_names_what_is_not_where_it_belongs(balance: Balance, problem: str) -> None:
    assert not balance.is_even
    assert [line for line in balance.problems if line.startswith(problem)]
