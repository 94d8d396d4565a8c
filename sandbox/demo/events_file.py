"""The user's own events: a file of JSON lines, each the body of one message in the queue."""

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

# SQS's limits for a message: its size, and the characters of XML 1.0.
_MAX_BYTES = 1024 * 1024
_ALLOWED = re.compile("[\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]*")


@dataclass(frozen=True, slots=True)
class EventsFile:
    """The messages to send, and a sentence for each line that SQS would refuse."""

    messages: list[Message]
    unsendable: list[str]


def read_events_file(path: Path) -> EventsFile:
    """Read a file of JSON lines; empty lines are skipped.

    A line without a completion is sent too: it must end in the dead-letter queue. What a line means is decided by the
    function's own reader; the demo checks that it arrives.

    :raises OSError: the file cannot be read.
    """
    messages: list[Message] = []
    unsendable: list[str] = []
    for number, line in enumerate(path.read_bytes().removeprefix(b"\xef\xbb\xbf").splitlines(), 1):
        if line.strip():
            try:
                body = _body(line)
            except ValueError as error:
                unsendable.append(f"line {number}: {error}")
            else:
                messages.append(Message(f"line {number}", Written("queue", body), _expected(body)))
    return EventsFile(messages, unsendable)


def _body(line: bytes) -> str:
    if len(line) > _MAX_BYTES:
        raise ValueError("longer than the 1 MiB that SQS accepts")
    try:
        body = line.decode()
    except UnicodeDecodeError:
        raise ValueError("not UTF-8") from None
    if not _ALLOWED.fullmatch(body):
        raise ValueError("contains control characters that SQS does not accept")
    return body


def _expected(body: str) -> Recorded | Rejected:
    try:
        completion = read_body(body)
    except InvalidMessageError:
        return Rejected("invalid_message")
    return Recorded(Key(completion.user_id, completion.content_id, completion.completed_at))
