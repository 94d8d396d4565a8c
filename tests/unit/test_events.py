"""Envelopes: what is taken out of them, and what is refused without harm to its neighbours."""

from __future__ import annotations

import json
from typing import Any

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


def nested(levels: int, leaf: str = "") -> str:
    """Give a JSON text of an array in ``levels`` levels."""
    return "[" * levels + leaf + "]" * levels


def padded(size: int, filler: str = "x") -> str:
    """Give a good body that is ``size`` bytes long in UTF-8."""
    bare = json.dumps(completion_fields(filler=""))
    missing, width = size - len(bare.encode()), len(filler.encode())
    text = json.dumps(
        completion_fields(filler=filler * (missing // width) + "x" * (missing % width)), ensure_ascii=False
    )
    assert len(text.encode()) == size
    return text


def with_field(json_text: str) -> str:
    """Give a good body that holds one more field, of the given JSON text."""
    return json.dumps(completion_fields())[:-1] + f', "extra": {json_text}}}'


GOOD_BODIES: dict[str, tuple[str, Completion]] = {
    "plain": (body(), completion()),
    "plain-with-white-space": (f"\r\n\t {body()} \n", completion()),
    "plain-with-escapes": (body().replace("userId", "\\u0075serId"), completion()),
    "plain-with-a-surrogate-pair": (body(userId="\U0001f600"), completion(userId="\U0001f600")),
    "plain-with-raw-unicode": (
        json.dumps(completion_fields(userId="\u00e9\U0001f600"), ensure_ascii=False),
        completion(userId="\u00e9\U0001f600"),
    ),
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
    "eventbridge": (json.dumps(eventbridge_event()), completion()),
    "eventbridge-without-own-time": (json.dumps(eventbridge_event(WITHOUT_TIME)), AT_ENVELOPE_TIME),
    "eventbridge-of-two-fields": (
        json.dumps({"detail-type": None, "detail": completion_fields()}),
        completion(),
    ),
    "sns-with-plain": (json.dumps(sns_notification(body())), completion()),
    "sns-with-eventbridge": (json.dumps(sns_notification(eventbridge_event())), completion()),
    "sns-with-eventbridge-without-own-time": (
        json.dumps(sns_notification(eventbridge_event(WITHOUT_TIME))),
        AT_ENVELOPE_TIME,
    ),
    "detail-without-detail-type-is-unknown": (body(detail=completion_fields(userId="other")), completion()),
    "detail-type-without-detail-is-unknown": (body(**{"detail-type": "x"}), completion()),
    "type-of-another-kind-is-unknown": (
        body(Type="SubscriptionConfirmation", TopicArn="a", Message="{}"),
        completion(),
    ),
    "message-without-topic-is-unknown": (body(Type="Notification", Message="{}"), completion()),
    "topic-without-message-is-unknown": (body(Type="Notification", TopicArn="a"), completion()),
}

NOT_JSON = "body: must be valid JSON, nested at most 64 levels deep"
TOO_DEEP = "body: must be nested at most 64 levels deep"
TOO_LONG = "body: must be at most 262144 bytes long"
TWICE = "body: must not hold the same key twice"
NAN = "body: must not hold NaN or Infinity, which are not JSON"
SURROGATE = "body: must not hold a lone surrogate"
NO_OBJECT = "body: must be a JSON object"
NO_TEXT = "body: must be a text that holds a JSON object"
BAD_USER = "userId: must be a non-empty string of at most 256 characters without control characters"
NO_TIME = "completedAt: must be an ISO 8601 date and time with a UTC offset or Z, such as 2021-01-01T09:00:00Z"

POISON: dict[str, tuple[object, str]] = {
    # no text
    "null-body": (None, NO_TEXT),
    "number-body": (5, NO_TEXT),
    "object-body": ({"userId": "a"}, NO_TEXT),
    "list-body": ([], NO_TEXT),
    "bytes-body": (body().encode(), NO_TEXT),
    # not JSON
    "empty": ("", NOT_JSON),
    "white-space": (" \n", NOT_JSON),
    "words": (f"hello {CANARY}", NOT_JSON),
    "cut-off": (body()[:-1], NOT_JSON),
    "trailing-text": (body() + "x", NOT_JSON),
    "two-objects": (body() + body(), NOT_JSON),
    "trailing-comma": (body()[:-1] + ",}", NOT_JSON),
    "single-quotes": (body().replace('"', "'"), NOT_JSON),
    "comment": (body() + "// note", NOT_JSON),
    "byte-order-mark": ("\ufeff" + body(), NOT_JSON),
    "raw-newline-in-a-text": ('{"userId": "a\nb"}', NOT_JSON),
    "raw-NUL": ('{"userId": "a\x00b"}', NOT_JSON),
    "NUL-behind": (body() + "\x00", NOT_JSON),
    "base64": ("eyJ1c2VySWQiOiAiYSJ9", NOT_JSON),
    "xml": ("<completion/>", NOT_JSON),
    "bad-escape": ('{"userId": "\\x41"}', NOT_JSON),
    "cut-off-escape": ('{"userId": "\\u12"}', NOT_JSON),
    "leading-zero": (with_field("01"), NOT_JSON),
    "hexadecimal": (with_field("0x10"), NOT_JSON),
    "number-of-5000-digits": (with_field("9" * 5000), NOT_JSON),
    # not an object
    "json-null": ("null", NO_OBJECT),
    "json-true": ("true", NO_OBJECT),
    "json-number": ("5", NO_OBJECT),
    "json-text": (json.dumps(body()), NO_OBJECT),
    "json-list": (f"[{body()}]", NO_OBJECT),
    "json-empty-list": ("[]", NO_OBJECT),
    # NaN
    "NaN": (with_field("NaN"), NAN),
    "Infinity": (with_field("Infinity"), NAN),
    "minus-Infinity": (with_field("-Infinity"), NAN),
    "NaN-as-an-id": ('{"userId": NaN}', NAN),
    "NaN-deep-inside": (with_field('{"a": [{"b": NaN}]}'), NAN),
    # the same key twice
    "userId-twice": ('{"userId": "a", "userId": "b"}', TWICE),
    "userId-twice-alike": ('{"userId": "a", "userId": "a"}', TWICE),
    "userId-twice-by-an-escape": ('{"userId": "a", "\\u0075serId": "b"}', TWICE),
    "unknown-key-twice": (with_field('{"a": 1, "b": 2, "a": 3}'), TWICE),
    "empty-key-twice": (with_field('{"": 1, "": 2}'), TWICE),
    # lone surrogates
    "escaped-high-surrogate": ('{"userId": "a\\ud800"}', SURROGATE),
    "escaped-low-surrogate": ('{"userId": "\\udfffa"}', SURROGATE),
    "escaped-surrogate-in-capitals": ('{"userId": "a\\uD800"}', SURROGATE),
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
    "open-brackets": ("[" * 200_000, NOT_JSON),
    # size
    "one-byte-too-long": (padded(MAX_BODY_BYTES + 1), TOO_LONG),
    "one-byte-too-long-beyond-ascii": (padded(MAX_BODY_BYTES + 1, "\u00e9"), TOO_LONG),
    "one-mebibyte": (padded(1_048_576), TOO_LONG),
    "one-mebibyte-of-junk": ("x" * 1_048_576, TOO_LONG),
    # fields
    "empty-object": ("{}", NO_TIME),
    "empty-userId": (body(userId=""), BAD_USER),
    "number-userId": (body(userId=5), BAD_USER),
    "capital-keys": (body().replace("userId", "UserId"), BAD_USER),
    "snake-case-keys": (body().replace("userId", "user_id"), BAD_USER),
    "plain-without-time": (json.dumps(WITHOUT_TIME), NO_TIME),
    "plain-with-the-envelope's-key": (json.dumps(WITHOUT_TIME | {"time": "2021-01-01T10:00:00Z"}), NO_TIME),
    # envelopes
    "eventbridge-detail-null": ('{"detail-type": "x", "detail": null}', "detail: must be a JSON object"),
    "eventbridge-detail-text": (json.dumps(eventbridge_event(body())), "detail: must be a JSON object"),
    "eventbridge-detail-list": (
        json.dumps(eventbridge_event([completion_fields()])),
        "detail: must be a JSON object",
    ),
    "eventbridge-empty-detail": (json.dumps(eventbridge_event({}, time=None)), NO_TIME),
    "eventbridge-bad-time": (
        json.dumps(eventbridge_event(WITHOUT_TIME, time="now")),
        NO_TIME.replace("completedAt", "time"),
    ),
    "eventbridge-time-null": (json.dumps(eventbridge_event(WITHOUT_TIME) | {"time": None}), NO_TIME),
    "eventbridge-in-eventbridge": (json.dumps(eventbridge_event(eventbridge_event(), time=None)), NO_TIME),
    "sns-message-not-json": (json.dumps(sns_notification("hello")), NOT_JSON.replace("body", "Message")),
    "sns-message-empty": (json.dumps(sns_notification("")), NOT_JSON.replace("body", "Message")),
    "sns-message-null": (
        json.dumps(sns_notification("") | {"Message": None}),
        NO_TEXT.replace("body", "Message"),
    ),
    "sns-message-object": (
        json.dumps(sns_notification("") | {"Message": completion_fields()}),
        NO_TEXT.replace("body", "Message"),
    ),
    "sns-message-list": (json.dumps(sns_notification([])), NO_OBJECT.replace("body", "Message")),
    "sns-message-duplicate-key": (
        json.dumps(sns_notification('{"userId": "a", "userId": "a"}')),
        TWICE.replace("body", "Message"),
    ),
    "sns-message-lone-surrogate": (
        json.dumps(sns_notification('{"userId": "\\ud800"}')),
        SURROGATE.replace("body", "Message"),
    ),
    "sns-message-raw-lone-surrogate": (json.dumps(sns_notification('{"userId": "\ud800"}')), SURROGATE),
    "sns-message-NaN": (json.dumps(sns_notification(with_field("NaN"))), NAN.replace("body", "Message")),
    "sns-message-too-deep": (
        json.dumps(sns_notification(with_field(nested(MAX_DEPTH)))),
        TOO_DEEP.replace("body", "Message"),
    ),
    "sns-in-sns": (json.dumps(sns_notification(sns_notification(body()))), NO_TIME),
    "sns-subscription-confirmation": (
        json.dumps(sns_notification(body(), Type="SubscriptionConfirmation")),
        NO_TIME,
    ),
    "sns-without-topic": (json.dumps(sns_notification(body(), TopicArn=None)), NO_TIME),
    "sns-without-message": (json.dumps(sns_notification(body(), Message=None)), NO_TIME),
    "s3-test-event": ('{"Service": "Amazon S3", "Event": "s3:TestEvent"}', NO_TIME),
}

SQS_EVENTS: dict[str, object] = {
    "empty-batch": {"Records": []},
    "one-record": sqs_event(sqs_record()),
    "two-records": sqs_event(sqs_record(message_id="1"), sqs_record(message_id="2")),
    "record-without-body": sqs_event({"messageId": "1", "eventSource": "aws:sqs"}),
    "further-keys": sqs_event(sqs_record()) | {"detail-type": "x", "detail": {}},
}

FOREIGN_EVENTS: dict[str, object] = {
    "null": None,
    "text": body(),
    "list": [sqs_record()],
    "number": 5,
    "empty-object": {},
    "plain-completion": completion_fields(),
    "records-null": {"Records": None},
    "records-object": {"Records": {"0": sqs_record()}},
    "records-text": {"Records": "aws:sqs"},
    "small-letter-records": {"records": [sqs_record()]},
    "s3": {"Records": [{"eventSource": "aws:s3", "s3": {}}]},
    "sns": {"Records": [{"EventSource": "aws:sns", "Sns": sns_notification(body())}]},
    "kinesis": {"Records": [{"eventSource": "aws:kinesis", "eventID": "1"}]},
    "dynamodb": {"Records": [{"eventSource": "aws:dynamodb", "messageId": "1"}]},
    "one-foreign-record-among-good-ones": sqs_event(sqs_record(), {"eventSource": "aws:s3"}, sqs_record()),
    "record-null": {"Records": [None]},
    "record-text": {"Records": ["aws:sqs"]},
    "record-without-source": sqs_event({"messageId": "1"}),
    "record-without-id": sqs_event({"eventSource": "aws:sqs", "body": body()}),
    "record-with-an-empty-id": sqs_event(sqs_record(message_id="")),
    "record-with-a-null-id": sqs_event(sqs_record() | {"messageId": None}),
    "record-with-a-number-for-an-id": sqs_event(sqs_record() | {"messageId": 1}),
    "detail-alone": {"detail": completion_fields()},
    "detail-type-alone": {"detail-type": "Completion"},
    "sns-notification": sns_notification(body()),
}


def read_record(record: dict[str, Any]) -> Message:
    """Read a batch of one."""
    [message] = events.read_sqs_records(sqs_event(record))
    return message


class TestShapes:
    """Which event is what."""

    @pytest.mark.parametrize("event", SQS_EVENTS.values(), ids=SQS_EVENTS)
    def test_a_batch_is_told_by_its_records(self, event: object) -> None:
        """Records that all come from SQS and have ids are a batch; so is an empty list."""
        assert events.is_sqs_event(event) is True

    def test_an_eventbridge_event_is_told_by_its_envelope(self) -> None:
        """A ``detail-type`` and a ``detail`` make an EventBridge event, which is no batch."""
        assert events.is_eventbridge_event(eventbridge_event()) is True
        assert events.is_eventbridge_event({"detail-type": None, "detail": None}) is True
        assert events.is_sqs_event(eventbridge_event()) is False

    @pytest.mark.parametrize("event", FOREIGN_EVENTS.values(), ids=FOREIGN_EVENTS)
    def test_a_foreign_event_is_neither(self, event: object) -> None:
        """Anything else is taken for neither, above all not for an empty batch."""
        assert events.is_sqs_event(event) is False
        assert events.is_eventbridge_event(event) is False


class TestUnsupported:
    """The error for a foreign event."""

    def test_it_names_the_keys_and_no_values(self) -> None:
        """Whoever wired it up sees the top-level keys, and no value from any depth."""
        error = events.unsupported({"Records": [{"eventSource": CANARY}], "note": CANARY})

        assert isinstance(error, UnsupportedEventError)
        assert str(error) == (
            "expected SQS records (eventSource aws:sqs, with messageId) or an EventBridge event (detail-type, detail), "
            "got the keys 'Records', 'note'"
        )

    def test_an_empty_object_has_no_keys(self) -> None:
        """An empty object is named as such."""
        assert str(events.unsupported({})).endswith("got the keys of an empty object")

    @pytest.mark.parametrize(("event", "kind"), [([CANARY], "list"), (CANARY, "str"), (None, "NoneType"), (5, "int")])
    def test_what_is_no_object_is_named_by_its_type(self, event: object, kind: str) -> None:
        """An event that is no object is told by its type alone."""
        assert str(events.unsupported(event)) == f"expected SQS records or an EventBridge event, got a {kind}"

    def test_keys_are_bounded_and_harmless(self) -> None:
        """At most twenty keys of at most 64 characters are named, in printable ASCII."""
        text = str(events.unsupported({f"{index:02}{'k' * 100}": 1 for index in range(30)}))
        forged = str(events.unsupported({"a\nb\u2028\x1b\ud800": 1, 5: 1}))

        assert text.endswith("'19" + "k" * 62 + "'")
        assert text.count("'") == 40
        assert forged.endswith("got the keys 'a\\nb\\u2028\\x1b\\ud800', '5'")


class TestBodies:
    """What stands in an SQS record's body."""

    @pytest.mark.parametrize(("text", "expected"), GOOD_BODIES.values(), ids=GOOD_BODIES)
    def test_the_completion_is_taken_out(self, text: str, expected: Completion) -> None:
        """Plain, in an EventBridge event, or either in an SNS notification: the completion is found."""
        assert events.read_body(text) == expected

    @pytest.mark.parametrize(("text", "problem"), POISON.values(), ids=POISON)
    def test_a_poison_body_is_one_refusal_in_our_words(self, text: object, problem: str) -> None:
        """Whatever is wrong with a body, the error says what, in words that quote nothing."""
        with pytest.raises(InvalidMessageError) as refused:
            events.read_body(text)

        assert str(refused.value) == problem

    @pytest.mark.parametrize(("text", "problem"), POISON.values(), ids=POISON)
    def test_a_poison_body_leaves_its_neighbours_unharmed(self, text: object, problem: str) -> None:
        """One poisoned record among good ones carries its reason; the others carry their completions."""
        good = [sqs_record(message_id="1"), sqs_record(json.dumps(eventbridge_event()), message_id="3")]
        bad = sqs_record(message_id="2") | {"body": text}

        first, second, third = events.read_sqs_records(sqs_event(good[0], bad, good[1]))

        assert (first.id, second.id, third.id) == ("1", "2", "3")
        assert first.content == third.content == completion()
        assert isinstance(second.content, InvalidMessageError)
        assert second.body == (text if isinstance(text, str) else "")

    @given(
        st.text()
        | st.recursive(
            st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(codec=None)),
            lambda inner: (
                st.lists(inner)
                | st.dictionaries(st.text(), inner)
                | st.fixed_dictionaries(
                    {},
                    optional={
                        "userId": inner,
                        "contentId": inner,
                        "completedAt": inner,
                        "detail": inner,
                        "detail-type": inner,
                        "time": inner,
                        "Type": st.just("Notification"),
                        "TopicArn": inner,
                        "Message": inner | inner.map(json.dumps),
                    },
                )
            ),
        ).map(json.dumps)
    )
    def test_no_body_crashes(self, text: str) -> None:
        """Any text at all ends in a completion or in a refusal."""
        message = read_record(sqs_record(text))

        assert isinstance(message.content, (Completion, InvalidMessageError))
        assert message.body == text


class TestRecords:
    """What surrounds the body."""

    def test_sqs_own_fields_are_read(self) -> None:
        """Id, handle, count, group, queue and first receive are taken from where SQS puts them."""
        message = read_record(sqs_record(message_id="m", receive_count=7, group="g"))

        assert message == Message(
            id="m",
            body=body(),
            content=completion(),
            receive_count=7,
            receipt_handle="receipt-of-m",
            queue_arn=f"{QUEUE_ARN}.fifo",
            first_received=1609491600123,
            group="g",
        )

    @pytest.mark.parametrize("attributes", [..., None, [], "x", {}], ids=["absent", "null", "list", "text", "empty"])
    def test_a_record_without_attributes_is_a_first_delivery(self, attributes: object) -> None:
        """Where SQS's attributes are missing, the record counts as received once, outside any group."""
        record = sqs_record() | {"attributes": attributes}
        if attributes is ...:
            del record["attributes"]

        message = read_record(record)

        assert message.content == completion()
        assert (message.receive_count, message.first_received, message.group) == (1, None, None)

    def test_a_bare_record_is_read(self) -> None:
        """A record of nothing but source and id is one refused message."""
        message = read_record({"messageId": "m", "eventSource": "aws:sqs"})

        assert (message.id, message.body, message.receipt_handle, message.queue_arn) == ("m", "", None, None)
        assert str(message.content) == NO_TEXT

    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            ("1", 1),
            ("12", 12),
            ("99999999999999", 99_999_999_999_999),
            ("0", 1),
            ("", 1),
            ("-1", 1),
            ("1.5", 1),
            (" 2", 1),
            ("\u0662", 1),
            ("\u00b2", 1),
            ("100000000000000", 1),
            ("9" * 5000, 1),
            (2, 1),
            (None, 1),
            (True, 1),
        ],
        ids=str,
    )
    def test_the_receive_count_is_read_strictly(self, text: object, expected: int) -> None:
        """A receive count is decimal text of bounded length; anything else counts as the first delivery."""
        record = sqs_record()
        record["attributes"]["ApproximateReceiveCount"] = text

        assert read_record(record).receive_count == expected

    @pytest.mark.parametrize("field", ["receiptHandle", "eventSourceARN"])
    @pytest.mark.parametrize("value", ["", None, 5, []], ids=str)
    def test_an_unusable_field_is_none(self, field: str, value: object) -> None:
        """An empty or odd handle or ARN is None, never passed on."""
        message = read_record(sqs_record() | {field: value})

        assert (message.receipt_handle if field == "receiptHandle" else message.queue_arn) is None

    @pytest.mark.parametrize("value", ["", None, 5], ids=str)
    def test_an_unusable_group_is_none(self, value: object) -> None:
        """An empty or odd group is no group."""
        record = sqs_record(group="g")
        record["attributes"]["MessageGroupId"] = value

        assert read_record(record).group is None

    def test_a_group_of_a_standard_queue_promises_no_order(self) -> None:
        """A standard queue's message group (fair queues) is none that must be kept in order."""
        record = sqs_record(group="tenant") | {"eventSourceARN": "arn:aws:sqs:eu-west-2:123456789012:completions"}

        assert read_record(record).group is None

    def test_the_order_is_kept(self) -> None:
        """Messages come out in the order of their records."""
        identifiers = [str(number) for number in range(50, 0, -1)]

        messages = events.read_sqs_records(sqs_event(*(sqs_record(message_id=i) for i in identifiers)))

        assert [message.id for message in messages] == identifiers


class TestDirectEvents:
    """An EventBridge event that invokes the function itself."""

    def test_the_detail_is_read(self) -> None:
        """Id and completion are taken out; the body is the event as JSON; SQS's fields are empty."""
        event = eventbridge_event()

        message = events.read_eventbridge_event(event)

        assert message == Message(id=event["id"], body=message.body, content=completion())
        assert json.loads(message.body) == event
        assert (message.receive_count, message.receipt_handle, message.queue_arn) == (1, None, None)
        assert (message.first_received, message.group) == (None, None)

    def test_the_body_comes_back_as_the_same_completion(self) -> None:
        """What goes to the retry queue is read there as the same completion, with the same time."""
        message = events.read_eventbridge_event(eventbridge_event(WITHOUT_TIME))

        assert message.content == AT_ENVELOPE_TIME
        assert events.read_body(message.body) == AT_ENVELOPE_TIME
        assert ", " not in message.body

    @pytest.mark.parametrize("identifier", [..., None, "", 5], ids=["absent", "null", "empty", "number"])
    def test_an_event_without_an_id_is_named_by_its_content(self, identifier: object) -> None:
        """Without a usable id the content makes one: two events differ, and a repeat has the same."""
        events_ = [eventbridge_event(completion_fields(userId=user)) | {"id": identifier} for user in ("a", "b", "a")]
        if identifier is ...:
            for event in events_:
                del event["id"]

        first, other, repeat = map(events.read_eventbridge_event, events_)

        assert first.content == completion(userId="a")
        assert first.id == repeat.id != other.id
        # SQS takes up to 128 letters, digits and marks as the id of a FIFO message.
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
        ids=["text", "list", "number-userId", "date-alone", "lone-surrogate", "lone-surrogate-aside", "too-deep"],
    )
    def test_a_bad_detail_carries_its_reason(self, detail: object, problem: str) -> None:
        """A bad detail is one refused message that still has its id and its body, for the dead letter."""
        event = eventbridge_event(detail)

        message = events.read_eventbridge_event(event)

        assert isinstance(message.content, InvalidMessageError)
        assert str(message.content) == problem
        assert (message.id, json.loads(message.body)) == (event["id"], event)

    @pytest.mark.parametrize("number", [float("inf"), -float("inf"), float("nan")], ids=str)
    def test_a_number_that_json_lacks_harms_nothing(self, number: float) -> None:
        """Lambda reads 1e999 as infinity: in a field that nobody reads it costs neither the record nor a retry."""
        event = eventbridge_event(completion_fields(extra=[{"score": number, "kept": 1.5}]))

        message = events.read_eventbridge_event(event)

        assert message.content == events.read_body(message.body)
        assert json.loads(message.body)["detail"]["extra"] == [{"score": None, "kept": 1.5}]

    @pytest.mark.parametrize("shape", ["plain", "with an SNS notification's keys"])
    def test_an_event_is_judged_as_it_would_be_on_the_retry_queue(self, shape: str) -> None:
        """What is deferred and comes back by the queue is what it was."""
        event = eventbridge_event(completion_fields(name="\u00e9"))
        if shape != "plain":
            event |= sns_notification(body(userId="another"))

        message = events.read_eventbridge_event(event)

        assert message.content == events.read_body(message.body)
        assert json.loads(message.body) == event

    def test_a_detail_beyond_the_recursion_limit_is_refused(self) -> None:
        """An event too deep to be written as JSON is refused without a crash."""
        deep: list[object] = []
        for _ in range(200_000):
            deep = [deep]

        message = events.read_eventbridge_event(eventbridge_event(completion_fields(extra=deep)))
        # Taken apart by hand: the interpreter's own way of freeing it is deep, too.
        while deep:
            [deep] = deep

        assert (str(message.content), message.body) == ("event: nested too deeply", "")
