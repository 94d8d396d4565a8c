"""The user's own events: a file of JSON lines, each line the body of one message, just as it would lie in the queue."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from completion_sync.errors import InvalidMessageError
from completion_sync.events import read_body
from sandbox.demo.shapes import Written
from sandbox.demo.workload import Message, Recorded, Rejected
from sandbox.thrive_api import Key

if TYPE_CHECKING:
    from pathlib import Path

_MOST_BYTES = 1024 * 1024
# All that SQS carries: XML 1.0's characters.
_CARRIED = re.compile("[\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]*")


@dataclass(frozen=True, slots=True)
class EventsFile:
    """What a file holds: messages to send, and a sentence for each line that SQS itself would not take."""

    messages: list[Message]
    unsendable: list[str]


def read_events_file(path: Path) -> EventsFile:
    """Read a file of JSON lines; empty lines are passed over.

    A line that holds no completion is sent all the same: it belongs into the dead-letter queue, and the report says
    why. What a line means is asked of the function's own reader; that it arrives is what the demonstration checks.

    :raises OSError: the file cannot be read.
    """
    messages: list[Message] = []
    unsendable: list[str] = []
    for number, line in enumerate(path.read_bytes().removeprefix(b"\xef\xbb\xbf").splitlines(), 1):
        if not line.strip():
            continue
        try:
            messages.append(_message(number, line))
        except ValueError as error:
            unsendable.append(f"line {number}: {error}")
    return EventsFile(messages, unsendable)


def _message(number: int, line: bytes) -> Message:
    if len(line) > _MOST_BYTES:
        raise ValueError("longer than the 1 MiB that SQS takes")
    try:
        body = line.decode()
    except UnicodeDecodeError:
        raise ValueError("not UTF-8") from None
    if not _CARRIED.fullmatch(body):
        raise ValueError("holds control characters that SQS does not take")
    return Message(f"line {number}", Written("queue", body), _expected(body))


def _expected(body: str) -> Recorded | Rejected:
    try:
        completion = read_body(body)
    except InvalidMessageError:
        return Rejected("invalid_message")
    return Recorded(Key(completion.user_id, completion.content_id, completion.completed_at))
