"""Envelopes: what SQS, EventBridge and SNS wrap around a completion, and how it is unwrapped.

A body comes from outside and is read strictly: whatever is wrong with it ends in one rejected message, never in an
exception, and never harms its neighbours.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias, TypeGuard

from .completion import Completion, Unresolved, read_completion
from .errors import DeferralError, InvalidMessageError, UnsupportedEventError
from .outcomes import Ignored

if TYPE_CHECKING:
    from collections.abc import Mapping

    from .clock import Instant
    from .mapping import Mapping as EventMapping

# A completion is three short strings; this leaves room for an envelope and for fields that do not matter here. SQS
# accepts up to 1 MiB.
MAX_BODY_BYTES = 262_144
MAX_DEPTH = 64

# Characters that SQS refuses in a message (SendMessage, MessageBody) and JSON does not escape by itself.
_NOT_FOR_SQS = re.compile("[\ud800-\udfff\ufffe\uffff]")

_MAX_KEYS_NAMED = 20
_MAX_KEY_LENGTH = 64


# What a message holds, or why it holds nothing (InvalidMessageError), or why that cannot be said now (DeferralError).
Content: TypeAlias = Completion | Unresolved | Ignored | InvalidMessageError | DeferralError


@dataclass(frozen=True, slots=True)
class Message:
    """One message and what it holds.

    ``body`` is the text as received, or a direct EventBridge event as JSON. The fields after ``content`` come from SQS
    and are None for a direct event: ``queue_arn`` of the source queue, ``sent`` and ``first_received`` in milliseconds
    since the epoch, ``group`` of a FIFO queue.
    """

    id: str
    body: str = field(repr=False)
    content: Content
    receive_count: int = 1
    receipt_handle: str | None = None
    queue_arn: str | None = None
    sent: int | None = None
    first_received: int | None = None
    group: str | None = None

    def age(self, now: Instant) -> float:
        """Return the seconds since it was sent to the queue; 0.0 for a direct event."""
        return 0.0 if self.sent is None else max(0.0, now.wall - self.sent / 1000)


def is_sqs_event(event: object) -> TypeGuard[dict[str, list[dict[str, Any]]]]:
    """Return whether it is a batch of SQS records: ``{"Records": [{"eventSource": "aws:sqs", "messageId", …}, …]}``."""
    if not isinstance(event, dict) or not isinstance(records := event.get("Records"), list):
        return False
    return all(
        isinstance(record, dict)
        and record.get("eventSource") == "aws:sqs"
        and isinstance(record.get("messageId"), str)
        and record["messageId"] != ""
        for record in records
    )


def is_eventbridge_event(event: object) -> TypeGuard[dict[str, Any]]:
    """Return whether it is an EventBridge envelope: it has a ``detail-type`` and a ``detail``."""
    return isinstance(event, dict) and "detail-type" in event and "detail" in event


def unsupported(event: object) -> UnsupportedEventError:
    """Return the error for any other event. It names the top-level keys, but no values."""
    if not isinstance(event, dict):
        return UnsupportedEventError(f"expected SQS records or an EventBridge event, got a {type(event).__name__}")
    keys = [ascii(str(key)[:_MAX_KEY_LENGTH]) for key in list(event)[:_MAX_KEYS_NAMED]]
    return UnsupportedEventError(
        "expected SQS records (eventSource aws:sqs, with messageId) or an EventBridge event (detail-type, detail), "
        f"got the keys {', '.join(keys) or 'of an empty object'}"
    )


def read_sqs_records(
    event: Mapping[str, list[dict[str, Any]]], mapping: EventMapping | DeferralError | None = None
) -> list[Message]:
    """Read each record of a batch.

    :param mapping: the configured mapping; or why there is none now, which defers every message.
    """
    return [_read_sqs_record(record, mapping) for record in event["Records"]]


def read_eventbridge_event(event: dict[str, Any], mapping: EventMapping | DeferralError | None = None) -> Message:
    """Read an EventBridge event that invoked the function directly, as it would be read from the retry queue."""
    body = ""
    try:
        # In UTF-8 and not as ASCII, so that it is as long here as in a queue.
        body = _NOT_FOR_SQS.sub(_escaped, _to_json(event))
        content = _content(body, "event", mapping)
    except RecursionError:
        content = InvalidMessageError("event: nested too deeply")
    # EventBridge gives every event an id; a hand-made one may lack it. A FIFO queue drops a message whose id it has
    # seen, so no two different events may have the same substitute.
    return Message(id=_text(event.get("id")) or hashlib.sha256(body.encode()).hexdigest(), body=body, content=content)


def _content(body: object, name: str, mapping: EventMapping | DeferralError | None) -> Content:
    if isinstance(mapping, DeferralError):
        return mapping
    try:
        return read_body(body, name, mapping)
    except InvalidMessageError as error:
        return error


def _read_sqs_record(record: dict[str, Any], mapping: EventMapping | DeferralError | None) -> Message:
    body = record.get("body")
    queue_arn = _text(record.get("eventSourceARN"))
    attributes = record.get("attributes")
    if not isinstance(attributes, dict):
        attributes = {}
    return Message(
        id=record["messageId"],
        body=body if isinstance(body, str) else "",
        content=_content(body, "body", mapping),
        receive_count=_whole_number(attributes.get("ApproximateReceiveCount")) or 1,
        receipt_handle=_text(record.get("receiptHandle")),
        queue_arn=queue_arn,
        sent=_whole_number(attributes.get("SentTimestamp")),
        first_received=_whole_number(attributes.get("ApproximateFirstReceiveTimestamp")),
        # A standard queue's messages may have a group too (fair queues), but no order.
        group=_text(attributes.get("MessageGroupId")) if (queue_arn or "").endswith(".fifo") else None,
    )


def _to_json(event: dict[str, Any]) -> str:
    try:
        return json.dumps(event, separators=(",", ":"), allow_nan=False, ensure_ascii=False)
    except ValueError:
        # A number too large for a float (1e999), for which Python would write what is not JSON.
        return json.dumps(_without_infinity(event), separators=(",", ":"), ensure_ascii=False)


def _escaped(character: re.Match[str]) -> str:
    return f"\\u{ord(character[0]):04x}"


def _without_infinity(value: Any) -> Any:
    """Replace what is no JSON number with null, as ECMA-262 (section 25.5.2) does."""
    if isinstance(value, dict):
        return {key: _without_infinity(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_without_infinity(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def read_body(
    body: object, name: str = "body", mapping: EventMapping | None = None
) -> Completion | Unresolved | Ignored:
    """Parse the completion in an SQS body: plain, in an EventBridge event, or either of them in an SNS notification.

    :param name: how an error refers to the body.
    :param mapping: the configured mapping, which comes before the native form.
    :raises InvalidMessageError: names the field and what is allowed.
    """
    fields = _read_object(body, name)
    # An SNS notification without raw delivery: the message itself is a string in it.
    if fields.get("Type") == "Notification" and "TopicArn" in fields and "Message" in fields:
        fields = _read_object(fields["Message"], "Message")
    is_envelope = is_eventbridge_event(fields)
    if mapping is not None and (content := mapping.read(fields, is_envelope=is_envelope)) is not None:
        return content
    if is_envelope:
        return _from_envelope(fields)
    return read_completion(fields)


def _from_envelope(event: Mapping[str, object]) -> Completion | Unresolved:
    detail = event["detail"]
    if not isinstance(detail, dict):
        raise InvalidMessageError("detail: must be a JSON object")
    return read_completion(detail, envelope_time=event.get("time"))


def _read_object(text: object, field: str) -> dict[str, Any]:
    """Read a JSON object (RFC 8259) strictly: no duplicate keys, NaN or lone surrogates, bounded size and depth."""
    if not isinstance(text, str):
        raise InvalidMessageError(f"{field}: must be a string that holds a JSON object")
    try:
        _check_size(text)
        value = _DECODER.decode(text)
        # Only an escape can hide a lone surrogate (\ud800), and only many brackets a great depth.
        if "\\u" in text or text.count("[") + text.count("{") > MAX_DEPTH:
            _check_depth(value)
            json.dumps(value, ensure_ascii=False).encode()
    except UnicodeError:
        raise InvalidMessageError(f"{field}: must not hold a lone surrogate") from None
    except InvalidMessageError as error:
        raise InvalidMessageError(f"{field}: {error}") from None
    except (ValueError, RecursionError):  # not JSON, or a number of thousands of digits; nested too deeply to parse
        raise InvalidMessageError(f"{field}: must be valid JSON, nested at most {MAX_DEPTH} levels deep") from None
    if isinstance(value, list):
        raise InvalidMessageError(f"{field}: must be a JSON object, not an array: one completion in each message")
    if not isinstance(value, dict):
        raise InvalidMessageError(f"{field}: must be a JSON object")
    return value


def _check_size(text: str) -> None:
    if len(text.encode()) > MAX_BODY_BYTES:
        raise InvalidMessageError(f"must be at most {MAX_BODY_BYTES} bytes long")


def _without_duplicates(pairs: list[tuple[str, object]]) -> dict[str, object]:
    fields = dict(pairs)
    if len(fields) != len(pairs):
        raise InvalidMessageError("must not hold the same key twice")
    return fields


def _refuse_constant(_name: str) -> object:
    raise InvalidMessageError("must not hold NaN or Infinity, which are not JSON")


_DECODER = json.JSONDecoder(object_pairs_hook=_without_duplicates, parse_constant=_refuse_constant)


def _check_depth(value: object) -> None:
    # Only objects and arrays count, as above: the same body must pass with and without an escape in it.
    level: list[Any] = [value] if isinstance(value, (dict, list)) else []
    for _ in range(MAX_DEPTH):
        level = [
            child
            for parent in level
            for child in (parent.values() if isinstance(parent, dict) else parent)
            if isinstance(child, (dict, list))
        ]
        if not level:
            return
    raise InvalidMessageError(f"must be nested at most {MAX_DEPTH} levels deep")


def _whole_number(value: object) -> int | None:
    """Parse a number of SQS's, which sends them as text."""
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) <= 14:
        return int(value)
    return None


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and value else None
