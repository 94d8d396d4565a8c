"""The shapes in which a completion may arrive, good and bad."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime, timezone
from typing import TYPE_CHECKING, Any, Literal

from sandbox.thrive_api import Key

if TYPE_CHECKING:
    from collections.abc import Callable

# The stand-in refuses completions with these.
UNKNOWN_USER = "000000000000000000000000"
UNKNOWN_CONTENT = "ffffffffffffffffffffffff"

Channel = Literal["queue", "bus"]


@dataclass(frozen=True, slots=True)
class Completion:
    """A completion before it is written in some shape; `at` is in whole milliseconds."""

    user_id: str
    content_id: str
    at: datetime

    @property
    def key(self) -> Key:
        """The record that Thrive must have."""
        return Key(self.user_id, self.content_id, f"{self.at:%Y-%m-%dT%H:%M:%S}.{self.at.microsecond // 1000:03}Z")

    def fields(self, zone: timezone = UTC) -> dict[str, Any]:
        """Return its fields as an application would write them, with the time in some time zone."""
        local = self.at.astimezone(zone).isoformat(timespec="milliseconds" if self.at.microsecond else "seconds")
        return {"userId": self.user_id, "contentId": self.content_id, "completedAt": local.replace("+00:00", "Z")}


@dataclass(frozen=True, slots=True)
class Written:
    """A message as it is sent: `content` is the body on the channel `queue`, the event's detail on `bus`."""

    channel: Channel
    content: str


def _event(detail: dict[str, Any], time: str) -> str:
    """Return an event as a rule of EventBridge delivers it."""
    event = {"version": "0", "id": "17793124-05d4-b198-2fde-7ededc63b103", "account": "123456789012"}
    event |= {"region": "eu-west-1", "source": "learning.completions", "detail-type": "LearningCompleted", "time": time}
    return json.dumps({**event, "resources": [], "detail": detail})


def _notification(message: str) -> str:
    """Wrap a message as SNS does without raw delivery."""
    topic = {"Type": "Notification", "TopicArn": "arn:aws:sns:eu-west-1:123456789012:completions"}
    signature = {"SignatureVersion": "1", "Signature": "EXAMPLE", "Timestamp": "2025-01-01T00:00:00.000Z"}
    return json.dumps({**topic, "MessageId": "5e2b0f0c-6f0a-5f43-9d4b-5245f3a1c0de", "Message": message, **signature})


def _with_more_fields(fields: dict[str, Any]) -> str:
    more = {"score": 0.75, "course": {"title": "Ladders & scaffolds, höher"}, "tags": ["a", None]}
    return json.dumps({**more, **fields}, ensure_ascii=False, indent=1)


def _timed_by_its_envelope(fields: dict[str, Any]) -> str:
    # Sent to the queue, because the emulated bus would replace the time with the present.
    return _event({k: v for k, v in fields.items() if k != "completedAt"}, fields["completedAt"])


# By name: how to write a completion's fields. "on the bus" names the channel, here and below.
GOOD: dict[str, Callable[[dict[str, Any]], str]] = {
    "plain": json.dumps,
    "with more fields": _with_more_fields,
    "on the bus": json.dumps,
    "timed by its envelope": _timed_by_its_envelope,
    "through a topic": lambda fields: _notification(json.dumps(fields)),
    "an event through a topic": lambda fields: _notification(_event(fields, "2025-01-01T00:00:00Z")),
}


def _but(**changes: object) -> Callable[[dict[str, Any]], str]:
    """Write the fields with changes; None leaves a field out."""
    return lambda fields: json.dumps({k: v for k, v in {**fields, **changes}.items() if v is not None})


# By name: how to make a bad message from good fields. Thrive refuses an unknown user or content; the others hold no
# completion.
BAD: dict[str, Callable[[dict[str, Any]], str]] = {
    "not JSON": lambda fields: f"completed: {fields['userId']}",
    "cut off": lambda fields: json.dumps(fields)[:-7],
    "a list": lambda fields: json.dumps([fields]),
    "no userId": _but(userId=None),
    "no contentId on the bus": _but(contentId=None),
    "no completedAt": _but(completedAt=None),
    "userId is a number": _but(userId=42),
    "userId is empty": _but(userId=""),
    "userId is too long": _but(userId="u" * 257),
    "control character": _but(contentId="line\nbreak"),
    "lone surrogate": _but(userId="\ud83d"),
    "time without offset": _but(completedAt="2024-05-01T09:00:00"),
    "no date on the bus": _but(completedAt="yesterday"),
    "no such day": _but(completedAt="2024-02-30T09:00:00Z"),
    "duplicate key": lambda fields: '{"userId": "somebody", ' + json.dumps(fields)[1:],
    "not a number": lambda fields: json.dumps({**fields, "score": float("nan")}),
    "nested too deeply": lambda fields: json.dumps(fields)[:-1] + ', "more": ' + "[" * 5000 + "]" * 5000 + "}",
    "far too big": lambda fields: json.dumps({**fields, "essay": "word " * 100_000}),
    "unknown user": _but(userId=UNKNOWN_USER),
    "unknown content": _but(contentId=UNKNOWN_CONTENT),
}


def channel_of(name: str) -> Channel:
    """Return where a message of this name is sent."""
    return "bus" if name.endswith("on the bus") else "queue"
