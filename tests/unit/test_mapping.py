"""``mapping.json``: what it makes of events, and what is refused in the file itself."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from completion_sync import events
from completion_sync.completion import Completion, Unresolved
from completion_sync.errors import ConfigError, DeferralError, InvalidMessageError
from completion_sync.mapping import MAX_BYTES, MAX_SOURCES, NATIVE_FIELDS, Mapping, is_true, parse_mapping
from completion_sync.outcomes import Ignored
from tests.support.fakes import (
    completion,
    completion_fields,
    eventbridge_event,
    holds_any,
    sns_notification,
    sqs_event,
    sqs_record,
    texts_of,
)

VR = {
    "name": "vr",
    "when": "type == 'finished' && passed",
    "userRef": "trainee.number",
    "contentCode": "module.code",
    "completedAt": {"expression": "endedAt", "format": "epoch-seconds"},
}
FINISHED: dict[str, Any] = {
    "type": "finished",
    "passed": True,
    "trainee": {"number": "E-1"},
    "module": {"code": "A"},
    "endedAt": 1609491600,
}
FROM_VR = Unresolved(None, "E-1", None, "A", "2021-01-01T09:00:00.000Z")


def source(**changes: Any) -> dict[str, Any]:
    """Return a source that takes native events; a field changed to None is left out."""
    fields = {"name": "s", "userId": "userId", "contentId": "contentId", "completedAt": "completedAt"} | changes
    return {name: value for name, value in fields.items() if value is not None}


def mapping(*sources: dict[str, Any], **changes: Any) -> Mapping:
    return parse_mapping(json.dumps({"version": 1, "sources": list(sources), **changes}).encode())


def read(event: object, *sources: dict[str, Any], **changes: Any) -> Any:
    """Return what a message with this event holds: a completion, Ignored or the error."""
    text = event if isinstance(event, str) else json.dumps(event)
    return events.read_sqs_records(sqs_event(sqs_record(text)), mapping(*sources, **changes))[0].content


def refusal(event: object, *sources: dict[str, Any], **changes: Any) -> str:
    content = read(event, *sources, **changes)
    assert isinstance(content, InvalidMessageError)
    return str(content)


# ---- which source an event belongs to


def test_the_example_of_the_guide():
    assert read(FINISHED, VR) == FROM_VR


def test_a_plain_event_is_seen_without_the_envelope_of_sns():
    assert read(sns_notification(FINISHED), VR) == FROM_VR


@pytest.mark.parametrize("wrap", [lambda event: event, sns_notification], ids=["eventbridge", "eventbridge-in-sns"])
def test_an_event_of_eventbridge_is_seen_whole(wrap):
    event = wrap(eventbridge_event({"who": "E-1", "what": "A"}))
    by_detail = source(
        when="\"detail-type\" == 'Completion' && source == 'learning.example'",
        userId="detail.who",
        contentId="detail.what",
    )
    at_its_time = Completion("E-1", "A", "2021-01-01T10:00:00.000Z")
    assert read(event, by_detail | {"completedAt": "time"}) == at_its_time
    by_detail.pop("completedAt")
    assert read(event, by_detail) == at_its_time


def test_a_direct_event_reads_as_it_would_from_the_queue():
    event = eventbridge_event({"who": "E-1", "what": "A"})
    compiled = mapping(source(userId="detail.who", contentId="detail.what", completedAt=None))
    message = events.read_eventbridge_event(event, compiled)
    assert message.content == Completion("E-1", "A", "2021-01-01T10:00:00.000Z")
    assert message.content == events.read_sqs_records(sqs_event(sqs_record(message.body)), compiled)[0].content


def test_the_first_source_that_matches_wins_and_one_without_when_always_matches():
    event = FINISHED | {"userId": "u", "contentId": "c", "completedAt": "2021-01-01T09:00:00Z"}
    first = source(name="first", when="type == 'other'", userId="'first'")
    second = source(name="second", userId="'second'")
    third = source(name="third", userId="'third'")
    assert read(event, first, second, third).user_id == "second"
    assert read(event | {"type": "other"}, first, second, third).user_id == "first"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        *[(text, True) for text in ("`0`", "'x'", "`[0]`")],
        *[(text, False) for text in ("`false`", "''", "`[]`", "`{}`", "x")],
    ],
)
def test_truth_is_that_of_jmespath(text, expected):
    assert (
        read(completion_fields(), source(when=text, userId="'matched'")) == completion(userId="matched")
    ) is expected
    assert is_true(None) is False


# ---- what does not match


NATIVE = completion_fields()
FOREIGN = {"type": "started"}


@pytest.mark.parametrize(
    ("event", "expected"),
    [
        (NATIVE, completion()),
        (eventbridge_event(NATIVE), completion()),
        (sns_notification(NATIVE), completion()),
        (FOREIGN, Ignored()),
        ({}, Ignored()),
        (eventbridge_event(FOREIGN), Ignored()),
        (sns_notification(FOREIGN), Ignored()),
        (eventbridge_event({}), Ignored()),
    ],
)
def test_what_matches_nothing_is_native_or_ignored(event, expected):
    assert read(event, VR, otherwise="ignore") == expected


@pytest.mark.parametrize("field", NATIVE_FIELDS)
@pytest.mark.parametrize("value", ["x", "", None, 5])
def test_what_holds_a_native_field_is_never_ignored(field, value):
    for event in ({field: value}, eventbridge_event({field: value})):
        assert isinstance(read(event, otherwise="ignore"), InvalidMessageError)


@pytest.mark.parametrize(
    "text", ["", "no json", "[1]", "5", json.dumps(eventbridge_event([1])), json.dumps(eventbridge_event("x"))]
)
def test_what_is_no_json_object_is_never_ignored(text):
    assert isinstance(read(text, otherwise="ignore"), InvalidMessageError)


def test_foreign_events_are_refused_by_default():
    assert refusal(FOREIGN, VR).startswith("completedAt: must be")
    assert refusal(FOREIGN, VR, otherwise="native").startswith("completedAt: must be")


def test_an_event_whose_when_fails_is_not_ignored_but_may_match_another_source():
    failing = source(name="failing", when="starts_with(verb, 'done')")
    assert isinstance(read(FOREIGN, failing, otherwise="ignore"), InvalidMessageError)
    assert isinstance(read(FOREIGN, failing, VR, otherwise="ignore"), InvalidMessageError)
    assert read(FINISHED, failing, VR, otherwise="ignore") == FROM_VR
    assert read(NATIVE, failing, otherwise="ignore") == completion()
    assert read(FOREIGN | {"verb": "x"}, failing, otherwise="ignore") == Ignored()


def test_several_completions_in_one_message_are_refused_in_words_that_say_so():
    several = {"statements": [{"who": "a"}, {"who": "b"}]}
    assert refusal(several, source(userId="statements[*].who")) == (
        "source s: userId: must not be an array, as each message must hold exactly one completion"
    )
    assert refusal([NATIVE, NATIVE], VR) == "body: must be a JSON object, not an array: one completion in each message"


# ---- the results of the fields


MISSING = "is missing, as the expression finds nothing in the event"
NO_STRING = "must be a non-empty string of at most 256 characters without control characters"
NO_TIME = "must be an ISO 8601 date and time with a UTC offset or Z, such as 2021-01-01T09:00:00Z"
BAD_FIELDS: dict[str, tuple[dict[str, Any], str]] = {
    "no-reference": ({"userRef": "missing", "userId": None}, f"userRef: {MISSING}"),
    "no-code": ({"contentCode": "missing", "contentId": None}, f"contentCode: {MISSING}"),
    "no-time": ({"completedAt": "missing"}, f"completedAt: {MISSING}"),
    "a-number": ({"userId": "number"}, f"userId: {NO_STRING}"),
    "an-object": ({"contentId": "@"}, f"contentId: {NO_STRING}"),
    "empty": ({"userId": "''"}, f"userId: {NO_STRING}"),
    "an-array": (
        {"userId": "[userId]"},
        "userId: must not be an array, as each message must hold exactly one completion",
    ),
    "a-dot": ({"userRef": "'..'", "userId": None}, "userRef: must not be . or .."),
    "a-function-that-fails": (
        {"userId": "lower(number)"},
        "userId: the expression calls lower() with a value of a type that it does not accept",
    ),
    "too-large": (
        {"userId": "join('', [big, big])"},
        "userId: the expression builds a value of more than 262144 characters",
    ),
    "a-bad-time": ({"completedAt": "userId"}, f"completedAt: {NO_TIME}"),
    "a-bad-epoch": (
        {"completedAt": {"expression": "userId", "format": "epoch-seconds"}},
        "completedAt: must have the format epoch-seconds",
    ),
    "no-time-at-all": (
        {"completedAt": None},
        "completedAt: needs an expression, as the event has no time of EventBridge's",
    ),
}


@pytest.mark.parametrize(("changes", "problem"), BAD_FIELDS.values(), ids=BAD_FIELDS)
def test_a_bad_field_is_refused_with_the_source_and_the_field_and_without_the_value(changes, problem):
    event = completion_fields(number=4711, big="x" * 200_000)
    content = read(event, source(**changes))
    assert isinstance(content, InvalidMessageError)
    assert str(content) == f"source s: {problem}"
    assert not holds_any(texts_of(content), [str(event["userId"]), "4711", "xxx"])


def test_a_number_becomes_text_by_to_string_only():
    assert read(completion_fields(number=4711), source(userId="to_string(number)")).user_id == "4711"


def test_a_time_that_finds_nothing_is_not_replaced_by_that_of_the_envelope():
    fixed = source(userId="'u'", contentId="'c'")
    assert refusal(eventbridge_event(NATIVE), fixed | {"completedAt": "detail.missing"}) == (
        f"source s: completedAt: {MISSING}"
    )
    bare = {name: value for name, value in fixed.items() if name != "completedAt"}
    assert refusal(eventbridge_event(NATIVE, time="never"), bare).startswith("source s: time: must be an ISO 8601")
    assert refusal(eventbridge_event(NATIVE, time=None), bare).startswith("source s: completedAt: needs an expression")


def test_one_message_with_many_expensive_sources_ends_at_one_budget():
    slow = [source(name=str(number), when="length(items[?@ > `5`]) > `100000`") for number in range(200)]
    event = {"items": list(range(10_000))}
    assert isinstance(read(event, *slow, otherwise="ignore"), InvalidMessageError)


def test_without_a_usable_configuration_every_message_holds_the_reason():
    why = DeferralError("misconfigured", "mapping.json: …")
    assert [m.content for m in events.read_sqs_records(sqs_event(sqs_record(), sqs_record("junk")), why)] == [why, why]
    assert events.read_eventbridge_event(eventbridge_event(), why).content is why


# ---- properties

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=10,
)
OF_INTEREST = st.sampled_from([*NATIVE, *FINISHED, "detail", "detail-type", "time", "Type", "TopicArn", "Message"])
EVENTS = st.dictionaries(
    OF_INTEREST, JSON | st.sampled_from([FINISHED["trainee"], "2021-01-01T09:00:00Z", "finished"]), max_size=6
)


@given(EVENTS | EVENTS.map(lambda event: completion_fields() | event) | EVENTS.map(eventbridge_event))
@settings(deadline=None)
def test_a_message_holds_the_same_with_and_without_a_mapping_that_matches_nothing(event):
    record = sqs_event(sqs_record(json.dumps(event)))
    never = mapping(source(when="type == 'no such type'"), VR | {"when": "`false`"})
    [without], [with_mapping] = events.read_sqs_records(record), events.read_sqs_records(record, never)
    assert repr(with_mapping.content) == repr(without.content)
    if isinstance(without.content, Completion):
        assert isinstance(with_mapping.content, Completion)
        assert with_mapping.content.to_json() == without.content.to_json()


FIELDS = st.sampled_from(
    [
        "userId",
        "@",
        "type",
        "detail.x",
        "keys(@)",
        "lower(type)",
        "to_string(@)",
        "trainee.number",
        "*",
        "'x'",
        "sort(*)",
    ]
)


@given(EVENTS | EVENTS.map(eventbridge_event), FIELDS, FIELDS, FIELDS, FIELDS, st.sampled_from(["native", "ignore"]))
@settings(deadline=None)
def test_mapping_never_raises_and_gives_what_a_message_may_hold(event, when, user, content, time, otherwise):
    source_ = source(when=when, userId=user, contentId=None, contentCode=content, completedAt=time)
    result = read(event, source_, otherwise=otherwise)
    assert isinstance(result, (Completion, Unresolved, Ignored, InvalidMessageError))


# ---- the file

BROKEN: dict[str, tuple[str | bytes, str]] = {
    "empty": ("", "line 1, column 1: Expecting value"),
    "no-json": ('{"version": 1,\n "sources": [}', "line 2, column 14: Expecting value"),
    "not-utf-8": (b'{"version": 1,\n"x": "\xff"}', "line 2: must be UTF-8"),
    "utf-16": ('{"version": 1}'.encode("utf-16"), "line 1: must be UTF-8"),
    "an-array": ("[]", "must be a JSON object"),
    "too-long": (" " * (MAX_BYTES + 1), f"must be at most {MAX_BYTES} bytes long"),
    "too-deep": ("[" * 100_000, "must not be nested so deeply"),
    "a-huge-number": ("1" * 5000, "must not hold a number of thousands of digits"),
    "a-key-twice": ('{"version": 1, "version": 1}', "must not hold the key 'version' twice in one object"),
    "an-unknown-key": (
        '{"version": 1, "source": []}',
        "has the unknown key 'source'; allowed are otherwise, sources, version",
    ),
    "no-version": ("{}", "version: must be 1"),
    "version-2": ('{"version": 2}', "version: must be 1"),
    "version-true": ('{"version": true}', "version: must be 1"),
    "version-text": ('{"version": "1"}', "version: must be 1"),
    "sources-an-object": (
        '{"version": 1, "sources": {}}',
        f"sources: must be an array of at most {MAX_SOURCES} sources",
    ),
    "too-many-sources": (
        json.dumps({"version": 1, "sources": [{}] * 1001}),
        "sources: must be an array of at most 1000",
    ),
    "otherwise": ('{"version": 1, "otherwise": "drop"}', 'otherwise: must be "native" or "ignore"'),
    "otherwise-null": ('{"version": 1, "otherwise": null}', 'otherwise: must be "native" or "ignore"'),
}
BROKEN_SOURCES: dict[str, tuple[Any, str]] = {
    "no-object": (5, "sources[0]: must be a JSON object"),
    "no-name": (source(name=None), "sources[0].name: must be a string of 1 to 64 printable characters"),
    "long-name": (source(name="x" * 65), "sources[0].name: must be"),
    "name-with-a-line-end": (source(name="a\nb"), "sources[0].name: must be"),
    "unknown-key": (
        source(user="x"),
        "sources[0] (s): has the unknown key 'user'; allowed are completedAt, contentCode",
    ),
    "no-user": (source(userId=None), "sources[0] (s): must have exactly one of userId and userRef"),
    "two-users": (source(userRef="x"), "sources[0] (s): must have exactly one of userId and userRef"),
    "no-content": (source(contentId=None), "sources[0] (s): must have exactly one of contentId and contentCode"),
    "when-empty": (source(when=" "), "sources[0] (s).when: must be a JMESPath expression"),
    "when-true": (source(when=True), "sources[0] (s).when: must be a JMESPath expression"),
    "field-broken": (source(userId="a b"), "sources[0] (s).userId: is not valid at character 3, near 'b'"),
    "field-null": ({**source(), "userId": None}, "sources[0] (s).userId: must be a JMESPath expression"),
    "time-null": ({**source(), "completedAt": None}, "sources[0] (s).completedAt: must be a JMESPath expression"),
    "time-broken": (source(completedAt="a["), "sources[0] (s).completedAt: "),
    "time-without-expression": (source(completedAt={}), "sources[0] (s).completedAt.expression: must be a JMESPath"),
    "time-unknown-key": (
        source(completedAt={"expression": "a", "zone": "UTC"}),
        "sources[0] (s).completedAt: has the unknown key 'zone'",
    ),
    "time-format": (
        source(completedAt={"expression": "a", "format": "%d %d"}),
        "sources[0] (s).completedAt.format: must be iso8601",
    ),
}


@pytest.mark.parametrize(("data", "problem"), BROKEN.values(), ids=BROKEN)
def test_a_broken_file_is_refused_with_the_place(data, problem):
    with pytest.raises(ConfigError) as refused:
        parse_mapping(data if isinstance(data, bytes) else data.encode())
    assert str(refused.value).startswith(f"mapping.json: {problem}")


@pytest.mark.parametrize(("broken", "problem"), BROKEN_SOURCES.values(), ids=BROKEN_SOURCES)
def test_a_broken_source_is_refused_with_its_number_its_name_and_the_field(broken, problem):
    with pytest.raises(ConfigError) as refused:
        mapping(broken)
    assert str(refused.value).startswith(f"mapping.json: {problem}")


def test_a_name_given_twice_is_refused():
    with pytest.raises(ConfigError, match=r"^mapping\.json: sources\[1\]\.name: s is the name of another source, too$"):
        mapping(source(), source())


def test_a_byte_order_mark_and_an_empty_mapping_are_accepted():
    assert parse_mapping(b'\xef\xbb\xbf{"version": 1}') == Mapping((), ignores_others=False)
    assert mapping(otherwise="ignore") == Mapping((), ignores_others=True)
    assert len(mapping(*(source(name=str(n)) for n in range(MAX_SOURCES))).sources) == MAX_SOURCES


@given(st.binary(max_size=40) | JSON.map(lambda value: json.dumps(value).encode()))
def test_any_file_is_parsed_or_refused(data):
    with suppress(ConfigError):
        parse_mapping(data)


KEYS = st.sampled_from(["name", "when", "userId", "userRef", "contentId", "contentCode", "completedAt", "x"])
TIME_KEYS = st.sampled_from(["expression", "format", "utcOffset", "timeZone"])
VALUES = JSON | st.sampled_from(["a", "a b", "&a", "`1"]) | st.dictionaries(TIME_KEYS, JSON)


@given(st.lists(st.dictionaries(KEYS, VALUES).map(lambda fields: source() | fields), max_size=3), JSON)
@settings(deadline=None)
def test_any_sources_are_compiled_or_refused(sources, otherwise):
    with suppress(ConfigError):
        mapping(*sources, otherwise=otherwise)


def test_no_value_of_an_event_is_in_an_error_or_a_repr():
    event = FINISHED | {"trainee": {"number": "ada.l@example.com"}, "endedAt": "ada.l@example.com"}
    [message] = events.read_sqs_records(sqs_event(sqs_record(json.dumps(event))), mapping(VR))
    assert isinstance(message.content, InvalidMessageError)
    assert "ada" not in texts_of(message.content) + repr(message)
    [message] = events.read_sqs_records(sqs_event(sqs_record(json.dumps(event | {"endedAt": 1}))), mapping(VR))
    assert isinstance(message.content, Unresolved)
    assert "ada" not in repr(message)
