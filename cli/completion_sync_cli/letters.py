"""Dead letters: messages in the dead-letter queue or the undelivered queue, and what they are about."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from completion_sync.completion import Completion, Unresolved
from completion_sync.errors import InvalidMessageError
from completion_sync.events import is_eventbridge_event, read_body, read_eventbridge_event

from .formats import from_milliseconds, iso, json_object

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from datetime import datetime

    from mypy_boto3_sqs.type_defs import MessageTypeDef

    from completion_sync.mapping import Mapping as EventMapping

FIELDS = ("userId", "userRef", "contentId", "contentCode")


@dataclass(frozen=True, slots=True)
class Letter:
    """One message of the dead-letter queue or the undelivered queue; ``attributes`` are its message attributes."""

    id: str
    body: str
    receipt: str
    sent: datetime
    attributes: Mapping[str, str]
    group: str | None = None

    @classmethod
    def read(cls, message: MessageTypeDef) -> Letter:
        """Read what ReceiveMessage returned with all attributes."""
        system = message.get("Attributes", {})
        return cls(
            id=message["MessageId"],
            body=message["Body"],
            receipt=message["ReceiptHandle"],
            sent=from_milliseconds(int(system.get("SentTimestamp", "0"))),
            attributes={
                name: value.get("StringValue", "") for name, value in message.get("MessageAttributes", {}).items()
            },
            group=system.get("MessageGroupId"),
        )

    @property
    def source_id(self) -> str:
        """The id that it had on the source queue, if known, or else its own."""
        return self.attributes.get("sourceMessageId", self.id)

    @property
    def reason(self) -> str | None:
        """Why it was dead-lettered; None if SQS moved it after too many receives."""
        return self.attributes.get("reason") or self.attributes.get("ERROR_CODE") or self._context.get("condition")

    @property
    def status(self) -> int | None:
        """The HTTP status that Thrive answered with."""
        text = self.attributes.get("status", "")
        return int(text) if text.isascii() and text.isdigit() else None

    @property
    def detail(self) -> str | None:
        """More about the reason."""
        return self.attributes.get("detail") or self.attributes.get("ERROR_MESSAGE") or None

    def document(self) -> dict[str, Any]:
        """Return all of it, in the form of an export."""
        return {
            "messageId": self.id,
            "sentAt": iso(self.sent),
            "reason": self.reason,
            "status": self.status,
            "detail": self.detail,
            "group": self.group,
            "attributes": dict(self.attributes),
            "body": self.body,
        }

    def original(self) -> str:
        """Return the body to send to the source queue: its own, or the event that Lambda's destination wrapped."""
        payload = self._record.get("requestPayload")
        if "requestContext" not in self._record or payload is None:
            return self.body
        # The same text that the function sends to the source queue.
        return read_eventbridge_event(payload).body if is_eventbridge_event(payload) else json.dumps(payload)

    @property
    def _record(self) -> dict[str, Any]:
        """The record that Lambda's destination writes for a failed event; empty if the body is something else."""
        if '"requestPayload"' not in self.body:
            return {}
        return json_object(self.body)

    @property
    def _context(self) -> dict[str, Any]:
        context = self._record.get("requestContext")
        return context if isinstance(context, dict) else {}


class Reader:
    """Reads which person and content a letter is about: as the function does, or as far as possible."""

    def __init__(self, mapping: Callable[[], EventMapping | None]) -> None:
        """:param mapping: called when the first letter is read."""
        self._mapping = mapping
        self._read: list[EventMapping | None] = []

    def fields(self, letter: Letter) -> dict[str, str]:
        """Return userId, userRef, contentId and contentCode, as far as the letter holds them."""
        if not self._read:
            self._read.append(self._mapping())
        body = letter.original()
        try:
            content = read_body(body, mapping=self._read[0])
        except InvalidMessageError:
            return _native_fields(body)
        values: tuple[str | None, ...]
        if isinstance(content, Completion):
            values = (content.user_id, None, content.content_id, None)
        elif isinstance(content, Unresolved):
            values = (content.user_id, content.user_ref, content.content_id, content.content_code)
        else:
            return {}
        return {name: value for name, value in zip(FIELDS, values, strict=True) if value is not None}


def _native_fields(body: str) -> dict[str, str]:
    """Find the fields in a body that holds no valid completion."""
    value = json_object(body)
    if isinstance(value.get("Message"), str):
        value = json_object(value["Message"])
    detail = value.get("detail")
    inner = detail if isinstance(detail, dict) else value
    return {name: inner[name] for name in FIELDS if isinstance(inner.get(name), str)}
