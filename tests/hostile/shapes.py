"""Hypothesis strategies for what arrives from outside: bodies, records, events, answers, secrets."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from hypothesis import strategies as st

from tests.support.fakes import body, completion_fields, eventbridge_event, sns_notification, sqs_record

# Any code point, lone surrogates included, and more often those that break lines, logs, terminals and JSON.
_UGLY = "\x00\x07\n\r\x1b\x7f\x85\xa0\u2028\ufeff\ufffe\ud800\udfff\U0010ffff\"'\\/{}[],:@%"
texts = st.text(st.characters(exclude_categories=()), max_size=20) | st.text(_UGLY, max_size=8)
numbers = st.integers() | st.floats() | st.sampled_from([2**63, 10**400, 1e308, True])
scalars = st.none() | numbers | texts
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3), max_leaves=5
)

# Depths around the limit, around Python's recursion limit, and far beyond any stack.
_depths = st.integers(60, 68) | st.sampled_from([1, 500, 990, 1000, 1010, 5000, 100_000])
deep_texts = st.builds(
    lambda levels, leaf, pair: pair[0] * levels + leaf + pair[1] * levels,
    _depths,
    st.sampled_from(["1", '"\\u0061"', "NaN", '{"a":1,"a":2}']),
    st.sampled_from([("[", "]"), ('{"a":', "}"), ("[", ""), ('{"a":', "")]),
)

# A field's value that is nearly right.
_nearly = st.sampled_from(
    ["", " ", "x" * 256, "x" * 257, "\U0001f600" * 256, "a@b.example", "2023-02-29T00:00:00Z", "2016-12-31T23:59:60Z"]
) | st.sampled_from(["0001-01-01T00:00:00+23:59", "9999-12-31T23:59:59-23:59", "2021-01-01 09:00Z", "20210101T09+0530"])
_shapes: list[dict[str, Any]] = [
    completion_fields(),
    eventbridge_event(),
    eventbridge_event(completion_fields(completedAt=None)),
    sns_notification(body()),
    sns_notification(eventbridge_event()),
]


def _changed(fields: dict[str, Any], changes: dict[str, Any], lost: set[str]) -> dict[str, Any]:
    fields = {name: value for name, value in fields.items() if name not in lost}
    if isinstance(fields.get("detail"), dict):
        return fields | {"detail": _changed(fields["detail"], changes, lost)}
    return fields | changes


_names = [
    "userId",
    "userRef",
    "contentId",
    "contentCode",
    "completedAt",
    "time",
    "detail",
    "detail-type",
    "Type",
    "TopicArn",
    "Message",
    "email",
]
objects = st.builds(
    _changed,
    st.sampled_from(_shapes),
    st.dictionaries(st.sampled_from(_names), values | _nearly | deep_texts, max_size=1),
    st.just(set()) | st.sets(st.sampled_from(_names), max_size=1),
)


@st.composite
def spoilt(draw: st.DrawFn, good: st.SearchStrategy[dict[str, Any]]) -> str:
    """Write an object as JSON and spoil the text in one place: by junk, a second key, depth or size."""
    text = json.dumps(draw(good), ensure_ascii=draw(st.booleans()))
    position = draw(st.integers(0, len(text)))
    size = draw(st.sampled_from([262_143, 262_144, 262_145, 1_048_576]))
    extra = draw(st.sampled_from(["NaN", "1e999", "9" * 5000, '"\\ud800"', '"\\ud83d\\ude00"', "01"]) | deep_texts)
    return draw(
        st.sampled_from(
            [
                text[:position],
                text[:position] + draw(texts) + text[position:],
                f'{text[:-1]}, "userId": "again"}}',
                f'{text[:-1]}, "extra": {extra}}}',
                f'{text[:-1]}, "extra": "{"x" * (size - len(text.encode("utf-8", "replace")) - 13)}"}}',
            ]
        )
    )


bodies = st.one_of(
    texts,
    values.map(json.dumps),
    objects.map(json.dumps),
    spoilt(objects),
    spoilt(st.sampled_from(_shapes)),
    deep_texts,
    deep_texts.map(lambda text: json.dumps(sns_notification(text))),
    st.sampled_from([None, 5, [], completion_fields()]),
)

_attributes = st.dictionaries(
    st.sampled_from(["ApproximateReceiveCount", "ApproximateFirstReceiveTimestamp", "MessageGroupId", "x"]),
    scalars | st.sampled_from(["0", "-1", "9" * 14, "9" * 15, "1.5", "\u0661", "\u00b2", ""]),
)
_arns = st.sampled_from(["", ":::::", "arn:aws:sqs:eu-west-2:1:a:b", "arn:aws:sqs:eu-west-2:123456789012:q.fifo"])


@st.composite
def records(draw: st.DrawFn, message_id: str) -> dict[str, Any]:
    """Return an SQS record of which nothing but the id and the event source can be relied upon."""
    record = sqs_record(draw(st.just(completion_fields()) | texts), message_id=message_id)
    for name in draw(st.sets(st.sampled_from(["body", "attributes", "receiptHandle", "eventSourceARN"]), max_size=2)):
        record[name] = draw(st.one_of(values, _arns, _attributes))
    for name in draw(st.sets(st.sampled_from(sorted(record.keys() - {"messageId", "eventSource"})), max_size=2)):
        del record[name]
    return record


events = st.one_of(
    values,
    objects,
    st.builds(lambda inner: {"Records": inner}, values),
    st.builds(lambda source: {"Records": [{"eventSource": source, "messageId": "m"}]}, scalars),
    st.builds(lambda name: {"Records": [{"eventSource": "aws:sqs", "messageId": name}]}, scalars),
    st.builds(lambda inner: eventbridge_event() | {"detail": inner}, values),
    _depths.map(lambda levels: eventbridge_event(completion_fields() | {"x": _tower(levels)})),
)


def _tower(levels: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(levels):
        value = [value]
    return value


# --- Answers ------------------------------------------------------------------------------------------------------

_field_value = st.lists(st.integers(0x20, 0x7E) | st.just(9) | st.integers(0x80, 0xFF), max_size=30).map(bytes)
_retry_after = _field_value | st.sampled_from(
    [b"-1", b"1.5", b"9" * 400, b"NaN", b"\xb2", b"Sun Nov  6 08:49:37 2094", b"Fri, 31 Dec 99999 23:59:59 GMT", b", ,"]
)
_header = st.one_of(
    st.tuples(st.just(b"Retry-After"), _retry_after),
    st.tuples(st.sampled_from([b"Content-Type", b"Content-Encoding", b"Location", b"Set-Cookie"]), _field_value),
    st.just((b"Content-Encoding", b"gzip")),
)
_fields = st.one_of(
    st.dictionaries(st.sampled_from(["statementId", "message", "error", "access_token"]), values, max_size=3),
    st.fixed_dictionaries(
        {
            "access_token": texts | scalars | st.sampled_from(["token", "a" * 70_000, "a\r\nX-Injected: 1"]),
            "token_type": scalars | st.sampled_from(["Bearer", "bearer", "BEARER", "mac"]),
            "expires_in": numbers | scalars,
        }
    ),
    values,
)
# With the status of gateways' errors; an answer that repeats its own status is Thrive's.
_errors = st.builds(
    lambda status, fields: {"status": status} | fields,
    st.sampled_from([404, 405, 410, "404", 404.5, None]),
    st.dictionaries(st.sampled_from(["message", "error"]), values, max_size=1),
)
_payloads = st.one_of(
    st.binary(max_size=60),
    _errors.map(lambda fields: json.dumps(fields).encode()),
    _fields.map(lambda fields: json.dumps(fields).encode()),
    _fields.map(lambda fields: json.dumps(fields, ensure_ascii=False).encode("utf-16", "surrogatepass")),
    # Whether a depth near Python's limit can be read depends on the depth of the caller.
    st.sampled_from([b'{"a":' * depth + b"1" + b"}" * depth for depth in (1, 500, 100_000)]),
    st.sampled_from([b"<html>502</html>", b"null", b'{"statementId": "\\ud800"}', b"x" * 65_536, b"x" * 65_537]),
    st.just(b'{"statementId": %b}' % (b"9" * 5000)),
)


@dataclass(frozen=True)
class Answer:
    """The bytes of an answer with a well-formed head.

    `fields` is the JSON object in its body, None if there is none that can be read; `keep`: the connection may be kept.
    """

    status: int
    data: bytes
    fields: dict[str, Any] | None
    keep: bool


@st.composite
def answers(draw: st.DrawFn, statuses: st.SearchStrategy[int]) -> Answer:
    """Return an answer with a well-formed head and any body and framing."""
    status, payload = draw(statuses), draw(_payloads)
    framing = draw(st.sampled_from(["length", "chunks", "until closed", "bad chunk", "too short", "surplus"]))
    keep = status >= 200 and framing in ("length", "chunks")
    header_fields = draw(st.lists(_header, max_size=4)) + ([] if keep else [(b"Connection", b"close")])
    head = b"HTTP/1.1 %d Status\r\n%b" % (status, b"".join(b"%b: %b\r\n" % field for field in header_fields))
    length = len(payload)
    match framing:
        case "until closed":
            data = b"\r\n" + payload
        case "chunks":
            chunk = b"%x\r\n%b\r\n" % (length, payload) if payload else b""
            data = b"Transfer-Encoding: chunked\r\n\r\n" + chunk + b"0\r\n\r\n"
        case "bad chunk":
            bad = [b"zz\r\n", b"-5\r\nabc", b"f" * 18 + b"\r\n", b"5\r\nab", b"3;" + b"x" * 70_000]
            data = b"Transfer-Encoding: chunked\r\n\r\n" + draw(st.sampled_from(bad))
        case _:
            # Behind an interim answer another one would be no surplus.
            surplus = b"HTTP/1.1 201 Made Up\r\n\r\n" * (framing == "surplus" and status >= 200)
            missing = 5 * (framing == "too short")
            data = b"Content-Length: %d\r\n\r\n" % (length + missing) + payload + surplus
    can_be_read = framing not in ("bad chunk", "too short") and status not in (204, 304) and length <= 65_536
    return Answer(status, head + data, _object(payload) if can_be_read else None, keep)


def _object(payload: bytes) -> dict[str, Any] | None:
    try:
        value = json.loads(payload)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


_heads = [b"HTTP/1.1 201 Created\r\nContent-Length: 2\r\n\r\n{}", b"HTTP/1.1 400 Bad\r\nContent-Length: 2\r\n\r\n{}"]
_junk = [b"\r\n folded: 1\r\n", b"\x00", b"\n\n", b"\r", b"Content-Length: -1\r\n", b"Transfer-Encoding: x\r\n"]
_junk += [b"Content-Length: 1, 2\r\n", b"A: b\r\n" * 150, b": nameless\r\n", b"HTTP/1.1 100 Go\r\n\r\n"]
garbage = st.builds(
    lambda good, start, junk, stop: good[:start] + junk + good[stop:],
    st.sampled_from(_heads),
    st.integers(0, 45),
    st.binary(max_size=30) | st.sampled_from(_junk),
    st.integers(0, 45),
)
