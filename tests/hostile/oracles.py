"""What must become of hostile input, said a second time and apart from the code: from the README's tables alone."""

from __future__ import annotations

import json
import re
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any

from tests.hostile.worlds import _acceptable
from tests.support.fakes import body, sqs_event, sqs_record

if TYPE_CHECKING:
    from tests.hostile.worlds import Seen, World

Triple = tuple[str, str, str]

# --- Records ------------------------------------------------------------------------------------------------------

_MAX_BYTES, _MAX_DEPTH = 262_144, 64
_CONTROL_OR_SURROGATE = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
_SURROGATE = re.compile("[\ud800-\udfff]")
_DATE = re.compile(r"([0-9]{4})-([0-9]{2})-([0-9]{2})|([0-9]{4})([0-9]{2})([0-9]{2})")
_TIME = re.compile(r"([0-9]{2}):([0-9]{2})(?::([0-9]{2}))?|([0-9]{2})([0-9]{2})([0-9]{2})?")
_OFFSET = re.compile(r"([+-])([0-9]{2}):?([0-9]{2})?")


class _NotStrictError(Exception):
    pass


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len({key for key, _ in pairs}) < len(pairs):
        raise _NotStrictError
    return dict(pairs)


def _never(_name: str) -> None:
    raise _NotStrictError


def _strict(text: object) -> dict[str, Any] | None:
    """Read a JSON object as strictly as the README says, or None."""
    if not isinstance(text, str) or _SURROGATE.search(text) or len(text.encode()) > _MAX_BYTES:
        return None
    try:
        value = json.loads(text, object_pairs_hook=_once, parse_constant=_never)
    except (ValueError, RecursionError, _NotStrictError):
        return None
    return value if isinstance(value, dict) and _is_tame(value) else None


def _is_tame(value: Any) -> bool:
    stack = [(value, 1)]
    while stack:
        item, depth = stack.pop()
        if isinstance(item, str) and _SURROGATE.search(item):
            return False
        if isinstance(item, (dict, list)):
            if depth > _MAX_DEPTH:
                return False
            children = [*item, *item.values()] if isinstance(item, dict) else item
            stack += [(child, depth + 1) for child in children]
    return True


def _moment(text: object) -> str | None:  # noqa: PLR0911 - one for each way not to be a moment
    if not isinstance(text, str) or not text.isascii() or len(text) < 8:
        return None
    cut = max(text.find(separator, 8, 11) for separator in "Tt ")
    if cut < 0:
        return None
    date, rest = text[:cut], text[cut + 1 :]
    if rest[-1:] in ("Z", "z"):
        clock, zone = rest[:-1], "+00:00"
    else:
        sign = max(rest.rfind("+"), rest.rfind("-"))
        if sign < 0:
            return None
        clock, zone = rest[:sign], rest[sign:]
    clock, point, digits = clock.partition("." if "." in clock else ",")
    day, hours, offset = _DATE.fullmatch(date), _TIME.fullmatch(clock), _OFFSET.fullmatch(zone)
    if not (day and hours and offset) or (point and not re.fullmatch("[0-9]{1,30}", digits)):
        return None
    year, month, date_of_month = (int(part) for part in day.groups() if part)
    hour, minute, *second = (int(part) for part in hours.groups() if part)
    if point and not second:
        return None
    shift = timedelta(hours=int(offset[2]), minutes=int(offset[3] or 0))
    if shift >= timedelta(days=1) or int(offset[3] or 0) > 59:
        return None
    try:
        utc = datetime(
            year,
            month,
            date_of_month,
            hour,
            minute,
            *second,
            tzinfo=timezone(shift if offset[1] == "+" else -shift),
        ).astimezone(timezone.utc)  # noqa: UP017 - the same on every version
    except (ValueError, OverflowError):
        return None
    return f"{utc.year:04}-{utc:%m-%dT%H:%M:%S}.{digits[:3].ljust(3, '0')}Z"


def _fields(fields: object, time: object = None) -> Triple | None:
    if not isinstance(fields, dict):
        return None
    moment = _moment(fields.get("completedAt", time))
    ids = [fields.get("userId"), fields.get("contentId")]
    good = all(isinstance(one, str) and 1 <= len(one) <= 256 and not _CONTROL_OR_SURROGATE.search(one) for one in ids)
    return (ids[0], ids[1], moment) if good and moment else None  # type: ignore[return-value]


def completion_in_body(text: object) -> Triple | None:
    """Give what an SQS body holds: user, content and moment as they must be sent; None where it is poison."""
    fields = _strict(text)
    if fields and fields.get("Type") == "Notification" and "TopicArn" in fields and "Message" in fields:
        fields = _strict(fields["Message"])
    if fields is None:
        return None
    if "detail" in fields and "detail-type" in fields:
        return _completion_in_event(fields)
    return _fields(fields)


def _completion_in_event(event: dict[str, Any]) -> Triple | None:
    """Give what an EventBridge event holds."""
    return _fields(event["detail"], event.get("time"))


NEIGHBOURS = ("neighbour-before", "neighbour-after")
HOSTILE_ID = "hostile"


def neighbour(name: str, **changes: Any) -> dict[str, Any]:
    """Give a good record; its completion's user and its message have one name."""
    return sqs_record(body(userId=name), message_id=name, **changes)


def judge_record(world: World, record: dict[str, Any], *, group: str | None = None) -> Seen:
    """Send one hostile record among good ones and hold what comes of it against the tables."""
    before, after = (neighbour(name, group=group) for name in NEIGHBOURS)
    seen = world.fresh().invoke(sqs_event(before, record, after))
    assert seen.error is None, "an SQS event never raises"
    expected = completion_in_body(record.get("body"))
    identifier = record["messageId"]
    good = [completion_in_body(one["body"]) for one in (before, after)]
    ledger = world.thrive.ledger
    assert set(ledger) == {*good, *([expected] if expected else [])}, "neither a neighbour lost nor anything made up"
    outcomes = dict(seen.outcomes)
    hostile = outcomes.pop(identifier[:128])
    assert outcomes == dict.fromkeys(NEIGHBOURS, ("created", None)), "the neighbours are unharmed"
    if expected:
        assert hostile == ("created", None)
        reported = set()
    else:
        assert hostile == ("rejected", "invalid_message")
        reported = judge_dead_letter(world, record)
    assert_answer(seen.answer, {*NEIGHBOURS, identifier}, reported)
    assert_log(seen)
    return seen


def judge_dead_letter(world: World, record: dict[str, Any]) -> set[str]:
    """Hold the dead letter of a rejected record against the README; give the ids to be reported instead."""
    text = record.get("body") if isinstance(record.get("body"), str) else ""
    calls = [request for operation, request in world.sqs.calls if operation == "send_message_batch"]
    if not text:  # no queue can have carried it, and none takes it: SQS's own redrive has the last word
        assert not calls
        return {record["messageId"]}
    [request] = calls
    [entry] = request["Entries"]
    values = {name: attribute["StringValue"] for name, attribute in entry["MessageAttributes"].items()}
    assert entry["MessageBody"] == text, "the body goes on unchanged"
    assert values["reason"] == "invalid_message"
    assert values["sourceMessageId"] == record["messageId"]
    assert re.match(r"(body|Message|detail|userId|contentId|completedAt|time): ", values["detail"])
    assert len(values["detail"]) <= 256
    assert set(values) <= {"reason", "detail", "sourceMessageId", "sourceQueue", "receiveCount"} | {
        "firstReceivedAt",
        "failedAt",
    }
    if _acceptable(text, entry["MessageAttributes"]):
        assert world.sqs.dead_letters == [entry]
        return set()
    # The same holds for characters that SQS refuses, and for a body that leaves no room for the attributes.
    return {record["messageId"]}


def assert_answer(answer: Any, received: set[str], reported: set[str]) -> None:
    """AWS's rules: one key, a list of one-key objects, ids that were received, none twice; and the right ones."""
    assert type(answer) is dict
    assert set(answer) == {"batchItemFailures"}
    assert type(answer["batchItemFailures"]) is list
    assert all(type(item) is dict and set(item) == {"itemIdentifier"} for item in answer["batchItemFailures"])
    identifiers = [item["itemIdentifier"] for item in answer["batchItemFailures"]]
    assert len(set(identifiers)) == len(identifiers)
    assert set(identifiers) <= received
    assert set(identifiers) == reported
    assert json.loads(json.dumps(answer)) == answer


_LOGGED = frozenset(
    [
        "level",
        "message",
        "timestamp",
        "service",
        "function_request_id",
        "message_id",
        "outcome",
        "reason",
        "status",
        "statement_id",
        "user_id",
        "content_id",
        "attempts",
        "receive_count",
        "duration_ms",
        "counts",
    ]
)
_METRICS = frozenset(
    [
        "CompletionsCreated",
        "CompletionsExisting",
        "CompletionsRejected",
        "CompletionsDeferred",
        "TokenRequests",
        "SecretReads",
        "AuthFailures",
        "Throttles",
        "ApiLatency",
    ]
)


def assert_log(seen: Seen) -> None:
    """Every line is one JSON object in ASCII with allow-listed, bounded fields, and no line is anyone else's."""
    assert seen.output.isascii()
    # Line endings of every kind that a reader may know: splitlines() and a split at newlines must agree.
    assert seen.output.splitlines() == seen.output.split("\n")[:-1]
    for line in seen.lines:
        if "_aws" in line:
            assert set(line) <= _METRICS | {"_aws", "service"}
            [directive] = line["_aws"]["CloudWatchMetrics"]
            assert directive["Dimensions"] == [["service"]]
            continue
        assert set(line) <= _LOGGED
        assert all(len(value) <= 320 for value in line.values() if isinstance(value, str))
        assert "unexpected" not in line["message"], "a defect of ours is no outcome"


# --- Answers ------------------------------------------------------------------------------------------------------

_EXACT: dict[int, tuple[str, str | None]] = {
    201: ("created", None),
    409: ("exists", None),
    401: ("deferred", "unauthorized"),
    403: ("deferred", "unauthorized"),
    408: ("deferred", "unavailable"),
    425: ("deferred", "unavailable"),
    429: ("deferred", "rate_limited"),
}
_BY_CLASS: dict[int, tuple[str, str | None]] = {
    1: ("deferred", "misconfigured"),
    2: ("exists", None),
    3: ("deferred", "misconfigured"),
    4: ("rejected", "refused"),
}
UNAVAILABLE = ("deferred", "unavailable")
HALTING = frozenset({"unauthorized", "misconfigured"})


def meaning(status: int) -> tuple[str, str | None]:
    """Give the outcome and reason for a completion that was answered with ``status``."""
    return _EXACT.get(status) or _BY_CLASS.get(status // 100, UNAVAILABLE)


def token_meaning(status: int, text: bytes | None) -> tuple[str, str] | None:  # noqa: PLR0911 - a table
    """Give the outcome and reason for a batch whose token request was answered so; None where a token was given."""
    if status in (408, 425) or status >= 500:
        return "deferred", "unavailable"
    if status == 429:
        return "deferred", "rate_limited"
    if status >= 400:
        return "deferred", "unauthorized"
    if status != 200:
        return "deferred", "misconfigured"
    try:
        fields = json.loads(text or b"")
    except (ValueError, RecursionError):
        fields = None
    fields = fields if isinstance(fields, dict) else {}
    if "error" in fields:
        return "deferred", "unauthorized"
    token = fields.get("access_token")
    if not isinstance(token, str) or not re.fullmatch(r"[A-Za-z0-9\-._~+/]+=*", token):
        return "deferred", "unavailable"
    if not isinstance(fields.get("token_type"), str) or fields["token_type"].lower() != "bearer":
        return "deferred", "misconfigured"
    return None
