"""The user's own events: a file of JSON lines, each the body of one message in the queue."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from completion_sync import outcomes
from completion_sync.completion import Completion
from completion_sync.errors import InvalidMessageError
from completion_sync.events import read_body
from sandbox.demo.foreign import user_id
from sandbox.demo.shapes import Written
from sandbox.demo.workload import Ignored, Message, Recorded, Rejected
from sandbox.thrive_api import Key

if TYPE_CHECKING:
    from pathlib import Path

    from sandbox.config import Configuration

# SQS's limits for a message: its size, and the characters of XML 1.0.
_MAX_BYTES = 1024 * 1024
_ALLOWED = re.compile("[\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]*")


@dataclass(frozen=True, slots=True)
class EventsFile:
    """The messages to send, a sentence for each line that is not sent, and the references of people."""

    messages: list[Message] = field(default_factory=list)
    unsendable: list[str] = field(default_factory=list)
    refs: set[str] = field(default_factory=set)


def read_events_file(path: Path, configuration: Configuration) -> EventsFile:
    """Read a file of JSON lines; empty lines are skipped.

    A line without a completion is sent too: it must end in the dead-letter queue. What a line means is decided by the
    function's own readers; the demo checks that it arrives. Everyone whom the file names by a reference exists.

    :raises OSError: the file cannot be read.
    """
    file = EventsFile()
    for number, line in enumerate(path.read_bytes().removeprefix(b"\xef\xbb\xbf").splitlines(), 1):
        if line.strip():
            try:
                body = _body(line)
                expected = expected_of(body, configuration, file.refs)
            except ValueError as error:
                file.unsendable.append(f"line {number}: {error}")
            else:
                file.messages.append(Message(f"line {number}", Written("queue", body), expected))
    return file


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


def expected_of(body: str, configuration: Configuration, refs: set[str]) -> Recorded | Rejected | Ignored:
    """Return what must become of a message; add the reference in it to `refs`. :raises ValueError: it would wait."""
    try:
        content = read_body(body, mapping=configuration.mapping)
    except InvalidMessageError:
        return Rejected("invalid_message")
    if isinstance(content, outcomes.Ignored):
        return Ignored()
    if isinstance(content, Completion):
        return Recorded(Key(content.user_id, content.content_id, content.completed_at))
    content_id = content.content_id
    if content.content_code is not None:
        if not configuration.files:
            return Rejected("invalid_message")
        if configuration.table is None:
            raise ValueError("it has a contentCode, but there is no content.csv: it would wait until there is one")
        content_id = configuration.table.get(content.content_code)
    if content_id is None:
        return Rejected("unknown_content")
    if content.user_ref is not None:
        refs.add(content.user_ref)
    return Recorded(Key(content.user_id or user_id(content.user_ref or ""), content_id, content.completed_at))
