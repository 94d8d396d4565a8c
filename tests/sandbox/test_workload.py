"""The demonstration's workload: repeatable, of every shape, and right about what must become of each message."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import pytest

from completion_sync.errors import InvalidMessageError
from completion_sync.events import read_body
from sandbox.demo.events_file import read_events_file
from sandbox.demo.shapes import BAD, GOOD
from sandbox.demo.workload import Message, Recorded, Rejected, generate
from sandbox.thrive_api import Key

if TYPE_CHECKING:
    from pathlib import Path


def read(message: Message) -> Key | None:
    """Read a message as the function would; None is one that holds no completion."""
    body = message.written.content
    if message.written.channel == "bus":
        body = f'{{"detail-type": "LearningCompleted", "time": "2020-01-01T00:00:00Z", "detail": {body}}}'
    try:
        completion = read_body(body)
    except InvalidMessageError:
        return None
    return Key(completion.user_id, completion.content_id, completion.completed_at)


def test_the_same_seed_makes_the_same_messages() -> None:
    """A run can be repeated by its seed, and another seed makes another run."""
    assert generate(200, 7) == generate(200, 7)
    assert generate(200, 7) != generate(200, 8)


@pytest.mark.parametrize("number", [1, 2, 400])
def test_as_many_messages_as_asked_for_each_with_a_label_of_its_own(number: int) -> None:
    """The report names messages by label, so no two share one."""
    messages = generate(number, 1)
    assert len({message.label for message in messages}) == number


def test_a_run_of_ordinary_length_has_every_shape_and_every_kind_of_bad() -> None:
    """Nothing that the demonstration claims to send is left out of the default run."""
    labels = [message.label for message in generate(400, 1)]
    for shape in GOOD:
        assert any(label.endswith(shape) for label in labels), shape
    for kind in BAD:
        assert any(f"({kind})" in label for label in labels), kind
    assert any("(repeat)" in label for label in labels)


@pytest.mark.parametrize("seed", range(5))
def test_what_is_expected_of_a_message_is_what_the_function_reads(seed: int) -> None:
    """Expected records are built from the moment itself, by hand; the function's own reader must agree."""
    for message in generate(300, seed):
        match message.expected:
            case Recorded(key):
                assert read(message) == key, message.label
            case Rejected("invalid_message"):
                assert read(message) is None, message.label
            case Rejected("refused"):
                assert read(message) is not None, message.label


def test_most_messages_are_good() -> None:
    """The default run is about recording, not about rejecting."""
    kinds = Counter(type(message.expected) for message in generate(400, 1))
    assert kinds[Recorded] > 300
    assert kinds[Rejected] > len(BAD)


def test_a_file_is_read_line_by_line(tmp_path: Path) -> None:
    """Good lines are expected as records, lines without a completion as rejected, all labelled by line number."""
    path = tmp_path / "events.jsonl"
    path.write_bytes(
        b'\xef\xbb\xbf{"userId": "u", "contentId": "c", "completedAt": "2024-01-01T10:00:00+02:00"}\r\n'
        b"\n"
        b"   \n"
        b"not JSON\n"
        b'{"userId": 1, "contentId": "c", "completedAt": "2024-01-01T10:00:00Z"}'
    )
    file = read_events_file(path)
    assert file.unsendable == []
    assert [message.label for message in file.messages] == ["line 1", "line 4", "line 5"]
    assert [message.expected for message in file.messages] == [
        Recorded(Key("u", "c", "2024-01-01T08:00:00.000Z")),
        Rejected("invalid_message"),
        Rejected("invalid_message"),
    ]


def test_lines_that_sqs_would_not_take_are_named_and_not_sent(tmp_path: Path) -> None:
    """Bytes that are no UTF-8, control characters and more than 1 MiB end as a sentence with the line's number."""
    path = tmp_path / "events.jsonl"
    path.write_bytes(b"\xff\n{}\n\x00\n" + b"x" * (1024 * 1024 + 1))
    file = read_events_file(path)
    assert [message.label for message in file.messages] == ["line 2"]
    assert [line.partition(":")[0] for line in file.unsendable] == ["line 1", "line 3", "line 4"]
