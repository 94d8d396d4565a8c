"""Envelopes: what is taken out of them, and what is refused without harm to its neighbours."""

import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from completion_sync import events
from completion_sync.completion import Completion
from completion_sync.errors import InvalidMessageError, UnsupportedEventError
from completion_sync.events import MAX_BODY_BYTES, MAX_DEPTH, Message
from tests.support.fakes import (
    CANARY,
    CONTENT_ID,
    QUEUE_ARN,
    USER_ID,
    body,
    completion,
    completion_fields,
    eventbridge_event,
    sns_notification,
    sqs_event,
    sqs_record,
)

WITHOUT_TIME = completion_fields(completedAt=None)
AT_ENVELOPE_TIME = Completion(USER_ID, CONTENT_ID, "2021-01-01T10:00:00.000Z")


def nested(levels, leaf=""):
    """Return the JSON of arrays nested that deep."""
    return "[" * levels + leaf + "]" * levels


def padded(size, filler="x"):
    """Return a good body that is ``size`` bytes long in UTF-8."""
    bare = json.dumps(completion_fields(filler=""))
    missing, width = size - len(bare.encode()), len(filler.encode())
    text = json.dumps(
        completion_fields(filler=filler * (missing // width) + "x" * (missing % width)), ensure_ascii=False
    )
    assert len(text.encode()) == size
    return text


def with_field(json_text):
    """Return a good body with one more field, of that JSON."""
    return json.dumps(completion_fields())[:-1] + f', "extra": {json_text}}}'


def bus(detail=None, **changes):
    """Return the JSON of an EventBridge event."""
    return json.dumps(eventbridge_event(detail, **changes))


def sns(message, **changes):
    """Return the JSON of an SNS notification."""
    return json.dumps(sns_notification(message, **changes))


def of_sns(problem):
    """Return the text of a problem that is in the message of an SNS notification."""
    return problem.replace("body", "Message")


GOOD_BODIES = {
    "plain": (body(), completion()),
    "plain-with-white-space": (f"\r\n\t {body()} \n", completion()),
    "plain-with-escapes": (body().replace("userId", "\\u0075serId"), completion()),
    "plain-with-a-surrogate-pair": (body(userId="\U0001f600"), completion(userId="\U0001f600")),
    "plain-with-unknown-fields": (with_field('{"userId": 5, "a": [1.5, null, true]}'), completion()),
    "plain-with-a-long-number": (with_field("9" * 4000), completion()),
    "plain-with-a-float-beyond-range": (with_field("1e999"), completion()),
    "plain-with-the-same-key-in-two-objects": (with_field('[{"a": 1}, {"a": 1}]'), completion()),
    "plain-with-the-deepest-nesting": (with_field(nested(MAX_DEPTH - 1)), completion()),
    "plain-with-the-deepest-nesting-and-a-leaf": (with_field(nested(MAX_DEPTH - 1, "1")), completion()),
    "plain-with-the-deepest-nesting-and-an-escape": (with_field(nested(MAX_DEPTH - 1, '"\\u0061"')), completion()),
    "plain-with-many-brackets-side-by-side": (with_field("[" + "[]," * 500 + "{}]"), completion()),
    "plain-with-brackets-in-a-text": (with_field('"' + "[{" * 500 + '"'), completion()),
    "plain-of-the-largest-size": (padded(MAX_BODY_BYTES), completion()),
    "plain-of-the-largest-size-beyond-ascii": (padded(MAX_BODY_BYTES, "\u00e9"), completion()),
    "eventbridge": (bus(), completion()),
    "eventbridge-without-own-time": (bus(WITHOUT_TIME), AT_ENVELOPE_TIME),
    "sns-with-plain": (sns(body()), completion()),
    "sns-with-eventbridge": (sns(eventbridge_event()), completion()),
    "sns-with-eventbridge-without-own-time": (sns(eventbridge_event(WITHOUT_TIME)), AT_ENVELOPE_TIME),
    "detail-without-detail-type-is-unknown": (body(detail=completion_fields(userId="other")), completion()),
    "detail-type-without-detail-is-unknown": (body(**{"detail-type": "x"}), completion()),
    "another-type-is-unknown": (body(Type="SubscriptionConfirmation", TopicArn="a", Message="{}"), completion()),
}

NOT_JSON = "body: must be valid JSON, nested at most 64 levels deep"
TOO_DEEP = "body: must be nested at most 64 levels deep"
TOO_LONG = "body: must be at most 262144 bytes long"
TWICE = "body: must not hold the same key twice"
NAN = "body: must not hold NaN or Infinity, which are not JSON"
SURROGATE = "body: must not hold a lone surrogate"
NO_OBJECT = "body: must be a JSON object"
NO_TEXT = "body: must be a string that holds a JSON object"
BAD_USER = "userId: must be a non-empty string of at most 256 characters without control characters"
NO_DETAIL = "detail: must be a JSON object"
NO_TIME = "completedAt: must be an ISO 8601 date and time with a UTC offset or Z, such as 2021-01-01T09:00:00Z"

POISON = {
    # no text
    "null-body": (None, NO_TEXT),
    "object-body": ({"userId": "a"}, NO_TEXT),
    "bytes-body": (body().encode(), NO_TEXT),
    # not JSON
    "empty": ("", NOT_JSON),
    "cut-off": (body()[:-1], NOT_JSON),
    "trailing-text": (body() + "x", NOT_JSON),
    "trailing-comma": (body()[:-1] + ",}", NOT_JSON),
    "single-quotes": (body().replace('"', "'"), NOT_JSON),
    "byte-order-mark": ("\ufeff" + body(), NOT_JSON),
    "bad-escape": ('{"userId": "\\x41"}', NOT_JSON),
    "cut-off-escape": ('{"userId": "\\u12"}', NOT_JSON),
    "number-of-5000-digits": (with_field("9" * 5000), NOT_JSON),
    # not an object
    "json-null": ("null", NO_OBJECT),
    "json-text": (json.dumps(body()), NO_OBJECT),
    "json-list": (f"[{body()}]", f"{NO_OBJECT}, not an array: one completion in each message"),
    # NaN
    "NaN": (with_field("NaN"), NAN),
    "Infinity": (with_field("Infinity"), NAN),
    "NaN-as-an-id": ('{"userId": NaN}', NAN),
    # the same key twice
    "userId-twice": ('{"userId": "a", "userId": "b"}', TWICE),
    "userId-twice-by-an-escape": ('{"userId": "a", "\\u0075serId": "b"}', TWICE),
    "unknown-key-twice": (with_field('{"a": 1, "b": 2, "a": 3}'), TWICE),
    # lone surrogates
    "escaped-high-surrogate": ('{"userId": "a\\ud800"}', SURROGATE),
    "escaped-low-surrogate": ('{"userId": "\\udfffa"}', SURROGATE),
    "escaped-surrogates-in-the-wrong-order": ('{"userId": "\\ude00\\ud83d"}', SURROGATE),
    "escaped-surrogate-in-a-key": (with_field('{"\\ud800": 1}'), SURROGATE),
    "escaped-surrogate-in-an-unknown-field": (with_field('[["\\udbff"]]'), SURROGATE),
    "raw-surrogate": (body(note="x").replace("x", "\ud800"), SURROGATE),
    # deep nesting
    "one-level-too-deep": (with_field(nested(MAX_DEPTH)), TOO_DEEP),
    "one-level-too-deep-with-a-leaf": (with_field(nested(MAX_DEPTH, "1")), TOO_DEEP),
    "one-level-too-deep-with-an-escape": (with_field(nested(MAX_DEPTH, '"\\u0061"')), TOO_DEEP),
    "one-level-too-deep-in-objects": (with_field('{"a":' * MAX_DEPTH + "1" + "}" * MAX_DEPTH), TOO_DEEP),
    "one-level-too-deep-without-an-object": (nested(MAX_DEPTH + 1), TOO_DEEP),
    "too-deep-to-parse": (with_field(nested(100_000)), NOT_JSON),
    "too-deep-to-parse-in-objects": (with_field('{"a":' * 30_000 + "1" + "}" * 30_000), NOT_JSON),
    # size
    "one-byte-too-long": (padded(MAX_BODY_BYTES + 1), TOO_LONG),
    "one-byte-too-long-beyond-ascii": (padded(MAX_BODY_BYTES + 1, "\u00e9"), TOO_LONG),
    # fields
    "empty-object": ("{}", NO_TIME),
    "empty-userId": (body(userId=""), BAD_USER),
    "number-userId": (body(userId=5), BAD_USER),
    "plain-without-time": (json.dumps(WITHOUT_TIME), NO_TIME),
    # envelopes
    "eventbridge-detail-null": ('{"detail-type": "x", "detail": null}', NO_DETAIL),
    "eventbridge-detail-text": (bus(body()), NO_DETAIL),
    "eventbridge-detail-list": (bus([completion_fields()]), NO_DETAIL),
    "eventbridge-bad-time": (bus(WITHOUT_TIME, time="now"), NO_TIME.replace("completedAt", "time")),
    "eventbridge-time-null": (json.dumps(eventbridge_event(WITHOUT_TIME) | {"time": None}), NO_TIME),
    "eventbridge-in-eventbridge": (bus(eventbridge_event(), time=None), NO_TIME),
    "sns-message-not-json": (sns("hello"), of_sns(NOT_JSON)),
    "sns-message-null": (json.dumps(sns_notification("") | {"Message": None}), of_sns(NO_TEXT)),
    "sns-message-object": (json.dumps(sns_notification("") | {"Message": {}}), of_sns(NO_TEXT)),
    "sns-message-duplicate-key": (sns('{"userId": "a", "userId": "a"}'), of_sns(TWICE)),
    "sns-message-lone-surrogate": (sns('{"userId": "\\ud800"}'), of_sns(SURROGATE)),
    "sns-message-raw-lone-surrogate": (sns('{"userId": "\ud800"}'), SURROGATE),
    "sns-message-too-deep": (sns(with_field(nested(MAX_DEPTH))), of_sns(TOO_DEEP)),
    "sns-in-sns": (sns(sns_notification(body())), NO_TIME),
    "sns-subscription-confirmation": (sns(body(), Type="SubscriptionConfirmation"), NO_TIME),
    "sns-without-topic": (sns(body(), TopicArn=None), NO_TIME),
    "sns-without-message": (sns(body(), Message=None), NO_TIME),
}

SQS_EVENTS = {
    "empty-batch": {"Records": []},
    "one-record": sqs_event(sqs_record()),
    "record-without-body": sqs_event({"messageId": "1", "eventSource": "aws:sqs"}),
    "further-keys": sqs_event(sqs_record()) | {"detail-type": "x", "detail": {}},
}

FOREIGN_EVENTS = {
    "null": None,
    "list": [sqs_record()],
    "empty-object": {},
    "records-null": {"Records": None},
    "s3": {"Records": [{"eventSource": "aws:s3", "s3": {}}]},
    "sns": {"Records": [{"EventSource": "aws:sns", "Sns": sns_notification(body())}]},
    "one-foreign-record-among-good-ones": sqs_event(sqs_record(), {"eventSource": "aws:s3"}, sqs_record()),
    "record-null": {"Records": [None]},
    "record-without-source": sqs_event({"messageId": "1"}),
    "record-without-id": sqs_event({"eventSource": "aws:sqs", "body": body()}),
    "record-with-an-empty-id": sqs_event(sqs_record(message_id="")),
    "record-with-a-null-id": sqs_event(sqs_record() | {"messageId": None}),
    "record-with-a-number-for-an-id": sqs_event(sqs_record() | {"messageId": 1}),
    "detail-alone": {"detail": completion_fields()},
    "detail-type-alone": {"detail-type": "Completion"},
    "sns-notification": sns_notification(body()),
}


def read_record(record):
    """Read a batch of one."""
    [message] = events.read_sqs_records(sqs_event(record))
    return message


# --- Which event is what ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("event", SQS_EVENTS.values(), ids=SQS_EVENTS)
def test_records_that_all_come_from_sqs_and_have_ids_are_a_batch(event):
    assert events.is_sqs_event(event) is True


def test_detail_type_and_detail_are_an_eventbridge_event():
    assert events.is_eventbridge_event(eventbridge_event()) is True
    assert events.is_eventbridge_event({"detail-type": None, "detail": None}) is True
    assert events.is_sqs_event(eventbridge_event()) is False


@pytest.mark.parametrize("event", FOREIGN_EVENTS.values(), ids=FOREIGN_EVENTS)
def test_any_other_event_is_neither(event):
    assert events.is_sqs_event(event) is False
    assert events.is_eventbridge_event(event) is False


@pytest.mark.parametrize(
    ("event", "text"),
    [
        (
            {"Records": [{"eventSource": CANARY}], "note": CANARY},
            "(detail-type, detail), got the keys 'Records', 'note'",
        ),
        ({}, "got the keys of an empty object"),
        ([CANARY], "expected SQS records or an EventBridge event, got a list"),
        (CANARY, "got a str"),
        (None, "got a NoneType"),
        ({"a\nb\u2028\x1b\ud800": 1, 5: 1}, "got the keys 'a\\nb\\u2028\\x1b\\ud800', '5'"),
    ],
)
def test_error_for_another_event_names_its_keys_and_no_values(event, text):
    error = events.unsupported(event)
    assert isinstance(error, UnsupportedEventError)
    assert str(error).endswith(text)
    assert CANARY not in str(error)


def test_error_names_at_most_twenty_keys_of_64_characters():
    text = str(events.unsupported({f"{index:02}{'k' * 100}": 1 for index in range(30)}))
    assert text.endswith("'19" + "k" * 62 + "'")
    assert text.count("'") == 40


# --- Bodies -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("text", "expected"), GOOD_BODIES.values(), ids=GOOD_BODIES)
def test_completion_is_taken_out_of_each_envelope(text, expected):
    assert events.read_body(text) == expected


@pytest.mark.parametrize(("text", "problem"), POISON.values(), ids=POISON)
def test_a_poison_body_leaves_its_neighbours_unharmed(text, problem):
    good, other = sqs_record(message_id="1"), sqs_record(json.dumps(eventbridge_event()), message_id="3")
    first, second, third = events.read_sqs_records(sqs_event(good, sqs_record(message_id="2") | {"body": text}, other))
    assert (first.id, second.id, third.id) == ("1", "2", "3")
    assert first.content == third.content == completion()
    # The error says what is wrong, and quotes nothing.
    assert isinstance(second.content, InvalidMessageError)
    assert str(second.content) == problem
    assert second.content.__suppress_context__ or second.content.__context__ is None
    assert second.body == (text if isinstance(text, str) else "")


FIELDS = ["userId", "contentId", "completedAt", "detail", "detail-type", "time", "Type", "TopicArn", "Message"]


@given(
    st.text()
    | st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(codec=None)),
        lambda inner: (
            st.lists(inner)
            | st.dictionaries(st.text(), inner)
            | st.dictionaries(st.sampled_from(FIELDS), inner | inner.map(json.dumps) | st.just("Notification"))
        ),
    ).map(json.dumps)
)
def test_any_body_is_a_completion_or_is_refused(text):
    message = read_record(sqs_record(text))
    assert isinstance(message.content, (Completion, InvalidMessageError))
    assert message.body == text


# --- Records ------------------------------------------------------------------------------------------------------


def test_fields_of_a_record_are_read_where_sqs_puts_them():
    assert read_record(sqs_record(message_id="m", receive_count=7, group="g")) == Message(
        id="m",
        body=body(),
        content=completion(),
        receive_count=7,
        receipt_handle="receipt-of-m",
        queue_arn=f"{QUEUE_ARN}.fifo",
        sent=1609491600000,
        first_received=1609491600123,
        group="g",
    )


@pytest.mark.parametrize("attributes", [..., None, [], "x", {}], ids=["absent", "null", "list", "text", "empty"])
def test_record_without_attributes_is_a_first_delivery(attributes):
    record = sqs_record() | {"attributes": attributes}
    if attributes is ...:
        del record["attributes"]
    message = read_record(record)
    assert message.content == completion()
    assert (message.receive_count, message.first_received, message.group) == (1, None, None)


def test_record_of_nothing_but_source_and_id_is_refused():
    message = read_record({"messageId": "m", "eventSource": "aws:sqs"})
    assert (message.id, message.body, message.receipt_handle, message.queue_arn) == ("m", "", None, None)
    assert str(message.content) == NO_TEXT


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        *[("1", 1), ("12", 12), ("9" * 14, 99_999_999_999_999)],
        *(
            (odd, 1)
            for odd in ("0", "", "-1", "1.5", " 2", "\u0662", "\u00b2", "1" + "0" * 14, "9" * 5000, 2, None, True)
        ),
    ],
    ids=str,
)
def test_receive_count_is_decimal_text_and_anything_else_a_first_delivery(text, expected):
    record = sqs_record()
    record["attributes"]["ApproximateReceiveCount"] = text
    assert read_record(record).receive_count == expected


@pytest.mark.parametrize("value", ["", None, 5, []], ids=str)
def test_unusable_field_is_none(value):
    assert read_record(sqs_record() | {"receiptHandle": value}).receipt_handle is None
    assert read_record(sqs_record() | {"eventSourceARN": value}).queue_arn is None
    record = sqs_record(group="g")
    record["attributes"]["MessageGroupId"] = value
    assert read_record(record).group is None


def test_group_of_a_standard_queue_promises_no_order():
    assert read_record(sqs_record(group="tenant") | {"eventSourceARN": QUEUE_ARN}).group is None


def test_messages_are_in_the_order_of_their_records():
    ids = [str(number) for number in range(50, 0, -1)]
    messages = events.read_sqs_records(sqs_event(*(sqs_record(message_id=each) for each in ids)))
    assert [message.id for message in messages] == ids


# --- Direct events ------------------------------------------------------------------------------------------------


def test_direct_event_is_a_message_whose_body_is_the_event_as_json():
    event = eventbridge_event()
    message = events.read_eventbridge_event(event)
    assert message == Message(id=event["id"], body=message.body, content=completion())
    assert json.loads(message.body) == event
    assert ", " not in message.body


@pytest.mark.parametrize("identifier", [..., None, "", 5], ids=["absent", "null", "empty", "number"])
def test_id_of_an_event_without_one_follows_from_its_content(identifier):
    events_ = [eventbridge_event(completion_fields(userId=user)) | {"id": identifier} for user in ("a", "b", "a")]
    if identifier is ...:
        for event in events_:
            del event["id"]
    first, other, repeat = map(events.read_eventbridge_event, events_)
    assert first.content == completion(userId="a")
    assert first.id == repeat.id != other.id
    # A FIFO queue accepts up to 128 letters, digits and punctuation marks.
    assert first.id.isalnum()
    assert len(first.id) == 64


@pytest.mark.parametrize(
    ("detail", "problem"),
    [
        ("text", "detail: must be a JSON object"),
        ([1], "detail: must be a JSON object"),
        ({"userId": 5}, BAD_USER),
        (completion_fields(completedAt="2021-01-01"), NO_TIME),
        (completion_fields(userId="\ud800"), SURROGATE.replace("body", "event")),
        (completion_fields(extra="\ud800"), SURROGATE.replace("body", "event")),
        (completion_fields(extra=json.loads(nested(MAX_DEPTH))), TOO_DEEP.replace("body", "event")),
    ],
    ids=["text", "list", "number-userId", "date-only", "lone-surrogate", "lone-surrogate-elsewhere", "too-deep"],
)
def test_bad_direct_event_has_its_reason_and_still_its_id_and_body(detail, problem):
    event = eventbridge_event(detail)
    message = events.read_eventbridge_event(event)
    assert isinstance(message.content, InvalidMessageError)
    assert str(message.content) == problem
    assert (message.id, json.loads(message.body)) == (event["id"], event)


@pytest.mark.parametrize(
    "change",
    [
        pytest.param({}, id="plain"),
        pytest.param({"detail": WITHOUT_TIME}, id="the envelope's time"),
        pytest.param(sns_notification(body(userId="another")), id="with the keys of an SNS notification"),
        pytest.param({"detail": completion_fields(x="\u0431" * 60_000)}, id="120 KB of Cyrillic"),
        pytest.param({"detail": completion_fields(x="\u0431" * 131_000)}, id="almost too long"),
        pytest.param({"detail": completion_fields(x="\u0431" * 131_072)}, id="too long"),
        pytest.param({"detail": completion_fields(x="\uffff" * 60_000)}, id="too long once SQS accepts it"),
        pytest.param({"detail": completion_fields(x="\ufffe\uffff" + "\u0431" * 60_000)}, id="escaped for SQS"),
        pytest.param({"detail": completion_fields(x="\ud800\x00")}, id="a lone surrogate"),
    ],
)
def test_direct_event_is_judged_as_the_retry_queue_would_deliver_it(change):
    message = events.read_eventbridge_event(eventbridge_event() | change)
    [delivered] = events.read_sqs_records(sqs_event(sqs_record(message.body)))
    assert str(message.content) == str(delivered.content).replace("body", "event")
    # What SQS accepts (API reference, SendMessage): #x9 | #xA | #xD | #x20 to #xD7FF | #xE000 to #xFFFD | beyond.
    assert re.fullmatch("[\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]*", message.body)
    assert json.loads(message.body) == eventbridge_event() | change


def test_120_kb_of_cyrillic_are_recorded_and_one_byte_too_much_is_not():
    message = events.read_eventbridge_event(eventbridge_event(completion_fields(x="\u0431" * 60_000)))
    assert message.content == completion()
    room = MAX_BODY_BYTES - len(events.read_eventbridge_event(eventbridge_event(completion_fields(x=""))).body)
    longest, longer = (
        events.read_eventbridge_event(eventbridge_event(completion_fields(x="\u0431" * (room // 2) + "x" * extra)))
        for extra in (room % 2, room % 2 + 1)
    )
    assert longest.content == completion()
    assert str(longer.content) == TOO_LONG.replace("body", "event")


@pytest.mark.parametrize("number", [float("inf"), -float("inf"), float("nan")], ids=str)
def test_number_that_json_lacks_becomes_null_and_costs_neither_the_record_nor_a_retry(number):
    message = events.read_eventbridge_event(
        eventbridge_event(completion_fields(extra=[{"score": number, "kept": 1.5, "text": "\uffff"}]))
    )
    assert message.content == completion() == events.read_body(message.body)
    assert json.loads(message.body)["detail"]["extra"] == [{"score": None, "kept": 1.5, "text": "\uffff"}]
    assert "\uffff" not in message.body


def test_event_beyond_the_recursion_limit_is_refused():
    deep = []
    for _ in range(200_000):
        deep = [deep]
    message = events.read_eventbridge_event(eventbridge_event(completion_fields(extra=deep)))
    # Taken apart by hand: the interpreter frees it recursively.
    while deep:
        [deep] = deep
    assert (str(message.content), message.body) == ("event: nested too deeply", "")
