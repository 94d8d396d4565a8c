"""One hostile record among good ones, and direct events of any shape."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

from hypothesis import example, given
from hypothesis import strategies as st

from completion_sync import events
from completion_sync.completion import Completion, Unresolved
from completion_sync.errors import EventNotRecordedError, InvalidMessageError, UnsupportedEventError
from tests.hostile import shapes
from tests.hostile.world import CREATED, HOSTILE, NEIGHBOURS, World, assert_harmless_log, cases, neighbour, world
from tests.support.fakes import sns_notification, sqs_record

if TYPE_CHECKING:
    from tests.hostile.world import Seen

INVALID = ("rejected", "invalid_message")
# How the detail of a dead letter may begin.
_PLACES = "body|Message|detail|userId|userRef|contentId|contentCode|completedAt|time"
_PLACES += "|userId (or|and) userRef|contentId (or|and) contentCode"


def hostile(text: object, name: str = HOSTILE) -> dict[str, Any]:
    return sqs_record("", message_id=name) | {"body": text}


def request_for(text: object) -> set[bytes]:
    """Return the request that a body leads to, if it leads to one; the unit tests hold what it is."""
    try:
        content = events.read_body(text)
    except InvalidMessageError:
        return set()
    if isinstance(content, Unresolved):
        # Every reference is found; without a configuration no code is.
        content = content.resolve("user-7", content.content_id) if content.content_id else None
    return {content.to_json()} if isinstance(content, Completion) else set()


def deliver(it: World, *records: dict[str, Any]) -> Seen:
    """Deliver hostile records between two good ones, and check that each is judged by its own body alone."""
    before, after = (neighbour(name) for name in NEIGHBOURS)
    batch = [before, *records, after]
    seen = it.deliver(*batch)
    expected = {record["messageId"]: request_for(record.get("body")) for record in batch}
    assert seen.outcomes == {name: CREATED if request else INVALID for name, request in expected.items()}
    assert set(it.sent) == set().union(*expected.values())
    # No queue takes an empty body: it is left to SQS's own redrive.
    rejected = {each["messageId"]: each.get("body") for each in records if not expected[each["messageId"]]}
    rejected = {name: text for name, text in rejected.items() if text and isinstance(text, str)}
    letters = {
        entry["MessageAttributes"]["sourceMessageId"]["StringValue"]: entry for entry in it.function.dead_letters
    }
    assert {name: entry["MessageBody"] for name, entry in letters.items()} == rejected
    for entry in letters.values():
        attributes = {name: value["StringValue"] for name, value in entry["MessageAttributes"].items()}
        assert attributes["reason"] == "invalid_message"
        assert re.fullmatch(rf"({_PLACES}): .{{1,250}}", attributes["detail"])
    return seen


@cases(700)
@given(shapes.bodies)
def test_any_body_among_good_ones(text: object) -> None:
    with world() as it:
        deliver(it, hostile(text))


@cases(100)
@given(shapes.deep_texts, st.booleans())
@example("[" * 100_000, True)
@example('{"a":' * 100_000, False)
def test_any_depth(text: str, in_sns: bool) -> None:  # noqa: FBT001 - Hypothesis passes it by position
    """A body nested a hundred thousand levels deep is rejected like any other, plain and inside a notification."""
    with world() as it:
        deliver(it, hostile(json.dumps(sns_notification(text)) if in_sns else text))


@cases(300)
@given(shapes.records(HOSTILE))
def test_any_record_around_the_body(record: dict[str, Any]) -> None:
    with world() as it:
        deliver(it, record)


@cases(100)
@given(st.lists(shapes.bodies, min_size=1, max_size=12))
def test_many_hostile_records_side_by_side(texts: list[object]) -> None:
    with world(MAX_CONCURRENCY="4") as it:
        deliver(it, *(hostile(text, f"hostile-{index}") for index, text in enumerate(texts)))


@cases(500)
@given(shapes.events)
def test_any_event(event: Any) -> None:
    """Whatever the event, the function answers for it or raises one of the two errors that are promised."""
    with world() as it:
        if events.is_sqs_event(event):
            it.deliver(*event["Records"])
            return
        seen = it.invoke(event)
        assert_harmless_log(seen)
        if events.is_eventbridge_event(event):
            assert_direct_event(it, event, seen)
        else:
            assert type(seen.error) is UnsupportedEventError
            assert seen.error.__context__ is None
            assert str(seen.error).isascii()
            assert len(str(seen.error)) < 15_000
            assert it.server.accepts == len(it.function.sqs.calls) == 0


def assert_direct_event(it: World, event: dict[str, Any], seen: Seen) -> None:
    """Check that a direct event is judged as its JSON text would be on a queue."""
    try:
        # JSON has no infinite numbers: they become null.
        text = json.dumps(json.loads(json.dumps(event), parse_constant=lambda _: None))
    except RecursionError:
        text = ""
    assert set(it.sent) == request_for(text)
    if it.sent:
        assert seen.answer["outcome"] == "created"
    elif it.dead_lettered:
        assert (seen.answer["outcome"], seen.answer["reason"]) == INVALID
        assert json.loads(it.function.dead_letters[0]["MessageBody"]) == json.loads(text)
    else:
        assert type(seen.error) is EventNotRecordedError
        assert str(seen.error) == "rejected: invalid_message"
