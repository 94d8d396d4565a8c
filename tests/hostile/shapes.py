"""Hypothesis strategies for what arrives from outside: bodies, envelopes, records, answers, secrets."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import strategies as st

from tests.hostile.worlds import Bytes, http_answer
from tests.support.fakes import completion_fields, eventbridge_event, secret_fields, sns_notification, sqs_record

# Any code point, lone surrogates among them; more often than chance has it those that break lines, logs and terminals.
_UGLY = "\x00\x07\x08\t\n\r\x1b\x7f\x85\xa0\u2028\u2029\ufeff\ufffd\ufffe\ud800\udfff\U0010ffff\"'\\/{}[],:"
_ANY = st.characters(exclude_categories=())
characters = st.one_of(_ANY, st.sampled_from(_UGLY))
# Two alphabets rather than one of both: Hypothesis draws a text from a plain alphabet many times faster.
texts = st.one_of(st.text(_ANY, max_size=30), st.text(_UGLY, max_size=10))
numbers = st.one_of(
    st.integers(),
    st.floats(),
    st.sampled_from([0, -1, 2**31, 2**63, 2**64, 10**400, -(10**400), 1e308, 5e-324, True, False]),
)
scalars = st.one_of(st.none(), st.booleans(), numbers, texts)
json_values = st.recursive(
    scalars,
    lambda children: st.one_of(
        st.lists(children, max_size=4), st.dictionaries(st.one_of(texts, st.text(max_size=4)), children, max_size=4)
    ),
    max_leaves=6,
)


def nested(levels: int, leaf: str = "", kind: str = "[") -> str:
    """Give the JSON text of an array, or of an object, in so many levels."""
    return "[" * levels + leaf + "]" * levels if kind == "[" else '{"a":' * levels + (leaf or "1") + "}" * levels


# Depths around what is allowed, around Python's recursion limit, and far beyond what a stack bears.
depths = st.one_of(
    st.integers(1, 130), st.sampled_from([500, 900, 990, 1000, 1010, 1100, 2000, 5000, 10_000, 50_000, 100_000])
)
deep_texts = st.builds(
    nested, depths, st.sampled_from(["", "1", '"\\u0061"', "NaN", '{"a":1,"a":2}']), st.sampled_from("[{")
)
unclosed_texts = st.builds(lambda levels, kind: kind * levels, depths, st.sampled_from(["[", '{"a":', '[{"a":', '"\\']))

_IDS = st.one_of(
    st.text(_ANY, min_size=1, max_size=20),
    st.builds(lambda letter, length: letter * length, characters, st.sampled_from([0, 1, 255, 256, 257, 300])),
    st.sampled_from(
        ["user-1", " ", "\u00a0", "null", "../..", "a@b.example", "\U0001f600" * 256, "<script>", "${jndi:x}"]
    ),
    scalars,
)
_two_digits = st.one_of(st.integers(0, 99).map("{:02}".format), st.integers(0, 12).map("{:02}".format))
_year = st.one_of(st.integers(0, 9999).map("{:04}".format), st.sampled_from(["0001", "9999", "2024", "2100"]))
_zone = st.one_of(
    st.sampled_from(["Z", "z", "", "+00:00", "-00:00", "+0530", "+14", "-23:59", "+24:00", "+01:59", "+01:60", "GMT"]),
    st.builds("{}{}:{}".format, st.sampled_from("+-\u2212"), _two_digits, _two_digits),
)
# A good moment, part by part, and what each part may become.
_PARTS: list[tuple[str, st.SearchStrategy[str]]] = [
    ("2021", _year),
    ("-", dash := st.sampled_from(["-", "", "/"])),
    ("02", _two_digits),
    ("-", dash),
    ("28", _two_digits),
    ("T", st.sampled_from(["T", "t", " ", "", "\t", "\u3000"])),
    ("23", _two_digits),
    (":", colon := st.sampled_from([":", "", "."])),
    ("59", _two_digits),
    (":", colon),
    ("59", st.one_of(_two_digits, st.just(""))),
    ("", st.sampled_from([".1", ",12", ".123456789", ".9999", "." + "9" * 30, "." + "9" * 31, "."])),
    ("Z", _zone),
]


@st.composite
def timestamps(draw: st.DrawFn) -> str:
    """Give a moment with up to three of its parts as they may or may not be; now and then in the basic form."""
    changed = draw(st.sets(st.sampled_from(range(len(_PARTS))), max_size=3))
    text = "".join(draw(other) if index in changed else good for index, (good, other) in enumerate(_PARTS))
    date, separator, time = text.partition("T")
    match draw(st.sampled_from(["extended", "extended", "basic date", "basic time", "basic"])):
        case "basic date":
            date = date.replace("-", "")
        case "basic time":
            time = time.replace(":", "")
        case "basic":
            date, time = date.replace("-", ""), time.replace(":", "")
    return date + separator + time


_TIMES = st.one_of(
    timestamps(),
    st.sampled_from(
        [
            "2021-W01-1T00:00:00Z",
            "2021-001T00:00:00Z",
            "0001-01-01T00:00:00+23:59",
            "9999-12-31T23:59:59-23:59",
            "2024-02-29T00:00:00Z",
            "2023-02-29T00:00:00Z",
            "2016-12-31T23:59:60Z",
            "٢021-01-01T00:00:00Z",
        ]
    ),
    scalars,
)
_EXTRA = st.dictionaries(
    st.one_of(texts, st.sampled_from(["email", "name", "Type", "detail", "Message"])), json_values, max_size=3
)


def _without(fields: dict[str, Any], *names: str) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if name not in names}


completions = st.one_of(
    st.builds(lambda value: completion_fields() | {"userId": value}, _IDS),
    st.builds(lambda value: completion_fields() | {"contentId": value}, _IDS),
    st.builds(lambda value: completion_fields() | {"completedAt": value}, _TIMES),
    st.builds(
        lambda name: _without(completion_fields(), name), st.sampled_from(["userId", "contentId", "completedAt"])
    ),
    st.builds(lambda extra: extra | completion_fields(), _EXTRA),
    st.builds(
        lambda user, content, time: {"userId": user, "contentId": content, "completedAt": time}, _IDS, _IDS, _TIMES
    ),
)
_ENVELOPE_FIELDS = [
    "version",
    "id",
    "detail-type",
    "source",
    "account",
    "time",
    "region",
    "resources",
    "detail",
    "Records",
]
envelopes = st.one_of(
    st.builds(lambda detail, time: eventbridge_event() | {"detail": detail, "time": time}, completions, _TIMES),
    st.builds(lambda name: _without(eventbridge_event(), name), st.sampled_from(_ENVELOPE_FIELDS)),
    st.builds(lambda name, value: eventbridge_event() | {name: value}, st.sampled_from(_ENVELOPE_FIELDS), json_values),
    st.builds(lambda time: eventbridge_event(completion_fields(completedAt=None)) | {"time": time}, _TIMES),
)
_NOTIFICATION_FIELDS = ["Type", "TopicArn", "Message", "MessageId", "Timestamp", "Signature"]


def dumped(value: object, *, ascii_only: bool = True) -> str:
    """Write JSON, NaN and all."""
    return json.dumps(value, ensure_ascii=ascii_only)


notifications = st.one_of(
    st.builds(lambda inner: sns_notification(dumped(inner)), st.one_of(completions, envelopes, json_values)),
    st.builds(
        lambda inner: sns_notification("") | {"Message": inner}, st.one_of(texts, json_values, deep_texts, completions)
    ),
    st.builds(
        lambda name, value: sns_notification(completion_fields()) | {name: value},
        st.sampled_from(_NOTIFICATION_FIELDS),
        json_values,
    ),
    st.builds(
        lambda name: _without(sns_notification(completion_fields()), name), st.sampled_from(_NOTIFICATION_FIELDS)
    ),
    st.builds(lambda inner: sns_notification(sns_notification(inner)), completions),
)


@st.composite
def spoilt(draw: st.DrawFn, objects: st.SearchStrategy[dict[str, Any]]) -> str:  # noqa: PLR0911 - a table
    """Write an object as JSON and spoil the text: in one place, at an end, by a second key, by depth, by size."""
    text = dumped(draw(objects), ascii_only=draw(st.booleans()))
    position = draw(st.integers(0, len(text)))
    match draw(st.sampled_from(["cut", "insert", "replace", "before", "behind", "again", "field", "deep", "pad"])):
        case "cut":
            return text[:position]
        case "insert":
            return text[:position] + draw(texts) + text[position:]
        case "replace":
            return text[:position] + draw(characters) + text[position + 1 :]
        case "before":
            return draw(st.sampled_from(["\ufeff", "\x00", " ", "\u00a0", "null", "//\n", ")]}',\n"])) + text
        case "behind":
            return text + draw(st.sampled_from(["\x00", " \n", "\u2028", text, ",", "}", "null", "\ud800"]))
        case "again":
            name = draw(st.sampled_from(["userId", "contentId", "completedAt", "detail", "\\u0075serId", "x"]))
            return f'{text[:-1]}, "{name}": "again"}}'
        case "field":
            return text[:-1] + f', "extra": {draw(st.sampled_from(_RAW_VALUES))}}}'
        case "deep":
            return text[:-1] + f', "extra": {draw(deep_texts)}}}'
        case _:
            size = draw(st.sampled_from([200_000, 262_000, 262_144, 262_145, 300_000, 1_048_000, 1_048_576]))
            filler = draw(st.sampled_from(["x", "\u00e9", "[", " ", '\\"']))
            missing = max(0, size - len(text.encode("utf-8", "replace")) - len(', "p": ""'))
            return text[:-1] + f', "p": "{filler * (missing // len(filler.encode()))}"}}'


_RAW_VALUES = [
    "NaN",
    "-Infinity",
    "1e999",
    "-0",
    "01",
    "9" * 4300,
    "9" * 4301,
    "1" + "0" * 5000,
    '"\\ud800"',
    '"\\udc00\\ud800"',
]
_RAW_VALUES += [
    '"\\ud83d\\ude00"',
    '{"\\ud800": 1}',
    '{"a": 1, "a": 1}',
    '[{"a": 1}, {"a": 2}]',
    '"\x7f"',
    '"\n"',
    "tru",
    "0x1",
]

bodies = st.one_of(
    texts,
    json_values.map(dumped),
    completions.map(dumped),
    completions.map(lambda fields: dumped(fields, ascii_only=False)),
    envelopes.map(dumped),
    notifications.map(dumped),
    spoilt(st.one_of(completions, envelopes, notifications, st.just(completion_fields()))),
    deep_texts,
    unclosed_texts,
    st.sampled_from([None, 5, True, [], {}, completion_fields(), ["x"], 1.5]),
)
_ATTRIBUTE_VALUES = st.one_of(
    texts, scalars, st.sampled_from(["0", "-1", "1", "99999999999999", "9" * 15, "1.5", "\u0661", "\u00b2", "", "1e9"])
)
_ATTRIBUTE_NAMES = [
    "ApproximateReceiveCount",
    "ApproximateFirstReceiveTimestamp",
    "SentTimestamp",
    "MessageGroupId",
    "x",
]
_ARNS = st.sampled_from(
    ["", "arn", "arn:aws:sqs:eu-west-2:1:a:b", ":::::", "arn:aws:sqs:eu-west-2:123456789012:q.fifo"]
)


@st.composite
def records(draw: st.DrawFn) -> dict[str, Any]:
    """Give an SQS record whose body, attributes and handle may be anything; its id and source are Lambda's own."""
    record = sqs_record(draw(st.one_of(st.just(completion_fields()), texts)), message_id="hostile")
    for name in draw(st.lists(st.sampled_from([*record, "attributes"]), max_size=3)):
        if name not in ("messageId", "eventSource"):
            record.pop(name, None)
    for name in draw(
        st.lists(st.sampled_from(["attributes", "receiptHandle", "eventSourceARN", "messageAttributes"]), max_size=2)
    ):
        record[name] = draw(st.one_of(json_values, _ARNS))
    if draw(st.booleans()):
        record["attributes"] = draw(st.dictionaries(st.sampled_from(_ATTRIBUTE_NAMES), _ATTRIBUTE_VALUES, max_size=5))
    return record | draw(st.dictionaries(texts.filter(lambda name: name not in record), json_values, max_size=1))


events = st.one_of(
    json_values,
    envelopes,
    st.builds(lambda inner: {"Records": inner}, json_values),
    st.builds(lambda inner: {"Records": [inner]}, st.one_of(json_values, envelopes)),
    st.builds(lambda source: {"Records": [{"eventSource": source, "messageId": "m"}]}, scalars),
    st.builds(lambda name: {"Records": [{"eventSource": "aws:sqs", "messageId": name}]}, scalars),
    st.builds(lambda detail: {"detail-type": None, "detail": detail}, st.one_of(completions, json_values)),
    st.builds(lambda levels: eventbridge_event() | {"detail": completion_fields() | {"x": _tower(levels)}}, depths),
)


def _tower(levels: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(levels):
        value = [value]
    return value


# --- Answers ------------------------------------------------------------------------------------------------------

statuses = st.integers(100, 599)
# What a header field's value may hold (RFC 9110, section 5.5): no CR, LF or NUL.
_FIELD = st.lists(st.one_of(st.integers(0x20, 0x7E), st.just(9), st.integers(0x80, 0xFF)), max_size=40).map(bytes)
retry_afters = st.one_of(
    _FIELD,
    st.integers(-10, 10**6).map(lambda seconds: b"%d" % seconds),
    st.sampled_from(
        [
            b"",
            b"0",
            b"-1",
            b"1.5",
            b"1e3",
            b"0x10",
            b"9" * 400,
            b"NaN",
            b"inf",
            b"1, 2",
            b"\xb2",
            b"\xd9\xa1",
            b"1;2",
            b"Fri, 31 Dec 1999 23:59:59 GMT",
            b"Sun, 06 Nov 2094 08:49:37 GMT",
            b"Sunday, 06-Nov-94 08:49:37 GMT",
            b"Sun Nov  6 08:49:37 2094",
            b"Fri, 31 Dec 9999 23:59:59 GMT",
            b"Fri, 31 Dec 99999 23:59:59 GMT",
            b"Mon, 31 Feb 2095 00:00:00 GMT",
            b"Fri, 15 Jan 2027 08:00:01 +9999",
            b"Fri, 15 Jan 2027 08:00:01 -99999999999",
            b"0 0 0 0",
            b"1 Jan",
            b", , ,",
            b"Fri, 1 Jan 0000 00:00:00 GMT",
            b"1 Jan 2095 99:99:99",
            b"Jan Jan Jan Jan",
        ]
    ),
    st.lists(
        st.sampled_from([b"Fri,", b"31", b"Dec", b"1999", b"23:59:59", b"GMT", b"-", b"+0000", b"+", b":", b"1", b"."]),
        max_size=8,
    ).map(b" ".join),
)
_TOKEN = st.from_regex(rb"\A[A-Za-z][A-Za-z0-9!#$%&'*+.^_`|~-]{0,20}\Z")
_FRAMING = frozenset({b"content-length", b"transfer-encoding", b"connection"})
header_fields = st.lists(
    st.one_of(
        st.tuples(st.sampled_from([b"Retry-After", b"retry-after"]), retry_afters),
        st.tuples(
            st.just(b"Content-Type"),
            st.one_of(_FIELD, st.sampled_from([b"text/html", b"application/json; charset=utf-7", b"multipart/mixed"])),
        ),
        st.tuples(
            st.just(b"Content-Encoding"),
            st.one_of(_FIELD, st.sampled_from([b"gzip", b"br", b"deflate, gzip", b"zstd"])),
        ),
        st.tuples(st.just(b"Location"), _FIELD),
        st.tuples(st.just(b"Set-Cookie"), _FIELD),
        st.tuples(_TOKEN.filter(lambda name: name.lower() not in _FRAMING), _FIELD),
    ),
    max_size=6,
)
answers = st.one_of(
    st.dictionaries(st.sampled_from(["statementId", "message", "error", "access_token"]), json_values, max_size=3),
    st.builds(lambda value: {"statementId": value}, scalars),
    st.builds(lambda value: {"message": value}, scalars),
    st.builds(
        lambda token, kind, lifetime: {"access_token": token, "token_type": kind, "expires_in": lifetime},
        st.one_of(texts, st.just("token"), st.just("a" * 70_000), st.just("a\r\nX-Injected: 1"), scalars),
        st.one_of(st.sampled_from(["Bearer", "bearer", "BEARER", "mac", "N_A", ""]), scalars),
        st.one_of(numbers, st.just("3600"), scalars),
    ),
    json_values,
)
payloads = st.one_of(
    st.binary(max_size=60),
    answers.map(lambda value: dumped(value).encode()),
    answers.map(lambda value: dumped(value, ascii_only=False).encode("utf-8", "surrogatepass")),
    st.builds(
        lambda value, codec: dumped(value).encode(codec), answers, st.sampled_from(["utf-16", "utf-32", "utf-8-sig"])
    ),
    st.builds(lambda value, cut: dumped(value).encode()[:cut], answers, st.integers(0, 40)),
    deep_texts.map(str.encode),
    st.builds(lambda digits: b'{"statementId": %b}' % (b"9" * digits), st.sampled_from([4300, 4301, 60_000])),
    st.sampled_from(
        [
            b"<html><body>502 Bad Gateway</body></html>",
            b"",
            b"null",
            b"\xef\xbb\xbf{}",
            b'{"statementId": "\\ud800"}',
            b"x" * 65536,
            b"x" * 65537,
            b" " * 80000,
            b'{"message": "' + b"a@b " * 16000 + b'"}',
        ]
    ),
)
_pieces = st.sampled_from([1, 2, 7, 1 << 20, 1 << 20])
_ends = st.sampled_from(["keep", "keep", "end", "reset"])


@st.composite
def framed(draw: st.DrawFn) -> tuple[int, bytes | None, Bytes]:
    """Give an answer with a well-formed head: its status, its body where that can be read, and its bytes.

    The body may be cut off, end with the connection, be chunked or falsely chunked, or be longer than announced.
    """
    status, body = draw(statuses), draw(payloads)
    fields = draw(header_fields)
    end, piece = draw(_ends), draw(_pieces)
    if len(body) > 5000:
        piece = 1 << 20
    head = http_answer(status, b"", fields).rpartition(b"Content-Length")[0]
    bodiless = status < 200 or status in (204, 304)
    readable: bytes | None = None if len(body) > 65_536 else body
    match draw(st.sampled_from(["length", "length", "length", "close", "chunked", "short", "long", "badchunk"])):
        case "close":
            data, end = head + b"\r\n" + body, "end"
        case "chunked":
            chunks = [b"%x\r\n%b\r\n" % (len(part), part) for part in (body[:7], body[7:]) if part]
            data = head + b"Transfer-Encoding: chunked\r\n\r\n" + b"".join(chunks) + b"0\r\n\r\n"
        case "short":
            data = head + b"Content-Length: %d\r\n\r\n" % (len(body) + 5) + body
            readable = None
        case "long":
            # Behind "100 Continue" a final answer is just that, and no surplus.
            surplus = b"surplus" if status == 100 else b"HTTP/1.1 201 Made Up\r\n\r\n"
            data = head + b"Content-Length: %d\r\n\r\n" % len(body) + body + surplus
        case "badchunk":
            data = head + b"Transfer-Encoding: chunked\r\n\r\n" + draw(st.sampled_from(_BAD_CHUNKS))
            readable = None
        case _:
            data = head + b"Content-Length: %d\r\n\r\n" % len(body) + body
    return status, b"" if bodiless else readable, Bytes(data, end, piece)


_BAD_CHUNKS = [
    b"zz\r\nabc\r\n0\r\n\r\n",
    b"-5\r\nabc",
    b"ffffffffffffffffff\r\nabc",
    b"5\r\nab",
    b"3\r\nabcdef\r\n0\r\n\r\n",
]
_BAD_CHUNKS += [
    b"\r\n",
    b"3;" + b"x" * 70_000 + b"\r\nabc\r\n0\r\n\r\n",
    b"3\r\nabc\r\n0\r\nX: y",
    b"1_0\r\n" + b"a" * 16,
    b"0x3\r\nabc\r\n",
]

_HEADS = [b"HTTP/1.1 201 Created\r\nContent-Length: 2\r\n\r\n{}", b"HTTP/1.1 400 Bad\r\nContent-Length: 2\r\n\r\n{}"]


@st.composite
def garbage(draw: st.DrawFn) -> Bytes:
    """Give bytes that look like an answer for a while, or not at all."""
    good = draw(st.sampled_from(_HEADS))
    position = draw(st.integers(0, len(good)))
    junk = draw(
        st.one_of(
            st.binary(max_size=30),
            st.sampled_from(
                [
                    b"\r\n folded: 1\r\n",
                    b"\x00",
                    b"\n\n",
                    b"\r",
                    b"Content-Length: -1\r\n",
                    b"Content-Length: 1, 2\r\n",
                    b"Content-Length: 99999999999999999999\r\n",
                    b"Transfer-Encoding: chunked\r\n",
                    b"X: " + b"y" * 70000,
                    b"A: b\r\n" * 150,
                    b": nameless\r\n",
                    b"no colon\r\n",
                    b"Transfer-Encoding: x\r\n",
                    b"HTTP/1.1 100 Go\r\n\r\n",
                ]
            ),
        )
    )
    data = draw(
        st.sampled_from(
            [junk, junk + good, good[:position], good[:position] + junk, good[:position] + junk + good[position:], b""]
        )
    )
    return Bytes(data, draw(_ends), draw(_pieces) if len(data) < 5000 else 1 << 20)


# --- The secret ---------------------------------------------------------------------------------------------------

SECRET_KEYS = ["tenantId", "clientId", "clientSecret", "apiSecret", "authMethod", "tokenEndpointAuthMethod"]
_SECRET_VALUES = st.one_of(
    st.text(_ANY, min_size=1, max_size=30),
    st.builds(lambda letter, length: letter * length, characters, st.sampled_from([1, 1024, 1025, 5000])),
    st.sampled_from(
        ["oauth2", "basic", "Basic", "client_secret_post", "client_secret_basic", "REPLACE_ME", "", " ", "a:b"]
    )
    | st.sampled_from(
        ["s\n", " s", "s\r\nX-Injected: 1", "\u2028", "caf\u00e9", "%2e%2e", "..", "/", "a b", "\u00a0s"]
    ),
    scalars,
    json_values,
)
secret_objects = st.one_of(
    st.builds(lambda name, value: secret_fields() | {name: value}, st.sampled_from(SECRET_KEYS), _SECRET_VALUES),
    st.builds(lambda changes: secret_fields() | changes, st.dictionaries(st.sampled_from(SECRET_KEYS), _SECRET_VALUES)),
    st.dictionaries(st.one_of(st.sampled_from(SECRET_KEYS), texts), _SECRET_VALUES, max_size=6),
)
secrets = st.one_of(
    texts,
    json_values.map(dumped),
    secret_objects.map(dumped),
    secret_objects.map(lambda value: dumped(value, ascii_only=False)),
    spoilt(st.one_of(secret_objects, st.just(secret_fields()))),
    deep_texts,
    st.binary(max_size=80),
    st.none(),
)
