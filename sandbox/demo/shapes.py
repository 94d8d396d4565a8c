"""The shapes that a completion may arrive in, good and bad."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime, timezone
from typing import TYPE_CHECKING, Any, Literal

from sandbox.thrive_api import Key

if TYPE_CHECKING:
    from collections.abc import Callable

# The stand-in refuses completions of these.
UNKNOWN_USER = "000000000000000000000000"
UNKNOWN_CONTENT = "ffffffffffffffffffffffff"

Channel = Literal["queue", "bus"]


@dataclass(frozen=True, slots=True)
class Completion:
    """A completion before it is written down in some shape; the moment is in whole milliseconds."""

    user_id: str
    content_id: str
    at: datetime

    @property
    def key(self) -> Key:
        """The record that Thrive must hold."""
        return Key(self.user_id, self.content_id, f"{self.at.strftime('%Y-%m-%dT%H:%M:%S')}.{self._milliseconds:03}Z")

    @property
    def _milliseconds(self) -> int:
        return self.at.microsecond // 1000

    def fields(self, zone: timezone = UTC) -> dict[str, Any]:
        """Write it down as an application would, in some time zone."""
        local = self.at.astimezone(zone).isoformat(timespec="milliseconds" if self._milliseconds else "seconds")
        written = local.replace("+00:00", "Z")
        return {"userId": self.user_id, "contentId": self.content_id, "completedAt": written}


@dataclass(frozen=True, slots=True)
class Written:
    """A message as it is sent: the body on the channel `queue`, the event's detail on `bus`."""

    channel: Channel
    content: str


def _plain(completion: Completion, zone: timezone) -> Written:
    return Written("queue", json.dumps(completion.fields(zone)))


def _with_more_fields(completion: Completion, zone: timezone) -> Written:
    more = {"score": 0.75, "course": {"title": "Ladders & scaffolds, höher"}, "tags": ["a", None]}
    return Written("queue", json.dumps({**more, **completion.fields(zone)}, ensure_ascii=False, indent=1))


def _on_the_bus(completion: Completion, zone: timezone) -> Written:
    return Written("bus", json.dumps(completion.fields(zone)))


def _timed_by_its_envelope(completion: Completion, zone: timezone) -> Written:
    fields = completion.fields(zone)
    # As a rule would deliver it. Straight to the queue, because the emulated bus stamps every event with the present.
    return Written("queue", _envelope({k: v for k, v in fields.items() if k != "completedAt"}, fields["completedAt"]))


def _through_a_topic(completion: Completion, zone: timezone) -> Written:
    return Written("queue", _notification(json.dumps(completion.fields(zone))))


def _event_through_a_topic(completion: Completion, zone: timezone) -> Written:
    return Written("queue", _notification(_envelope(completion.fields(zone), "2025-01-01T00:00:00Z")))


def _envelope(detail: dict[str, Any], time: str) -> str:
    """Wrap a detail as EventBridge does."""
    return json.dumps(
        {
            "version": "0",
            "id": "17793124-05d4-b198-2fde-7ededc63b103",
            "detail-type": "LearningCompleted",
            "source": "learning.completions",
            "account": "123456789012",
            "time": time,
            "region": "eu-west-1",
            "resources": [],
            "detail": detail,
        }
    )


def _notification(message: str) -> str:
    """Wrap a message as SNS does without raw delivery."""
    return json.dumps(
        {
            "Type": "Notification",
            "MessageId": "5e2b0f0c-6f0a-5f43-9d4b-5245f3a1c0de",
            "TopicArn": "arn:aws:sns:eu-west-1:123456789012:completions",
            "Message": message,
            "Timestamp": "2025-01-01T00:00:00.000Z",
            "SignatureVersion": "1",
            "Signature": "EXAMPLE",
            "SigningCertURL": "https://sns.eu-west-1.amazonaws.com/example.pem",
            "UnsubscribeURL": "https://sns.eu-west-1.amazonaws.com/?Action=Unsubscribe",
        }
    )


# By name: how the completion is written down, in some time zone.
GOOD: dict[str, Callable[[Completion, timezone], Written]] = {
    "plain": _plain,
    "with more fields": _with_more_fields,
    "on the bus": _on_the_bus,
    "timed by its envelope": _timed_by_its_envelope,
    "through a topic": _through_a_topic,
    "an event through a topic": _event_through_a_topic,
}


def _but(**changes: object) -> Callable[[dict[str, Any]], str]:
    """Write the fields with some changed; None leaves one out."""
    return lambda fields: json.dumps({k: v for k, v in {**fields, **changes}.items() if v is not None})


# By name: what is made of good fields. Those of an unknown user or content are refused by Thrive, the others hold no
# completion; a name that ends so goes over the bus.
BAD: dict[str, Callable[[dict[str, Any]], str]] = {
    "not JSON": lambda fields: f"completed: {fields['userId']}",
    "cut off": lambda fields: json.dumps(fields)[:-7],
    "a list": lambda fields: json.dumps([fields]),
    "no fields": lambda fields: json.dumps({"learner": fields["userId"]}),
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
    "key given twice": lambda fields: '{"userId": "somebody", ' + json.dumps(fields)[1:],
    "not a number": lambda fields: json.dumps({**fields, "score": float("nan")}),
    "nested too deeply": lambda fields: json.dumps(fields)[:-1] + ', "more": ' + "[" * 5000 + "]" * 5000 + "}",
    "far too big": lambda fields: json.dumps({**fields, "essay": "word " * 100_000}),
    "unknown user": _but(userId=UNKNOWN_USER),
    "unknown content": _but(contentId=UNKNOWN_CONTENT),
}
