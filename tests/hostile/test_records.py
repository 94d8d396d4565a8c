"""One hostile record among good ones, and direct events of any shape: an outcome by the table, and nothing else."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from hypothesis import example, given
from hypothesis import strategies as st

from completion_sync.errors import EventNotRecordedError, UnsupportedEventError
from tests.hostile import shapes
from tests.hostile.cases import cases
from tests.hostile.oracles import (
    HOSTILE_ID,
    NEIGHBOURS,
    assert_answer,
    assert_log,
    completion_in_body,
    judge_record,
    neighbour,
)
from tests.support.fakes import body, completion_fields, sns_notification, sqs_event, sqs_record

if TYPE_CHECKING:
    from tests.hostile.worlds import Seen, World


def hostile(text: object, **changes: Any) -> dict[str, Any]:
    """Give the record that has this body."""
    return sqs_record("", message_id=HOSTILE_ID, **changes) | {"body": text}


@cases(700)
@given(shapes.bodies)
def test_any_body_among_good_ones(world: World, text: object) -> None:
    """Whatever one body holds, it ends by the table and its neighbours are created."""
    judge_record(world, hostile(text))


@cases(450)
@given(shapes.completions.map(shapes.dumped))
def test_a_completion_with_one_field_gone_wrong(world: World, text: str) -> None:
    """A completion is recorded exactly where each of its fields is as the README says, and else rejected."""
    judge_record(world, hostile(text))


@cases(300)
@given(shapes.timestamps())
def test_any_moment(world: World, moment: str) -> None:
    """A moment is sent on in UTC to the millisecond or refused; a naive or impossible one never becomes another."""
    judge_record(world, hostile(body(completedAt=moment)))


@cases(500)
@given(shapes.spoilt(st.one_of(shapes.completions, st.just(completion_fields()))))
def test_a_good_body_spoilt_in_one_place(world: World, text: str) -> None:
    """A cut, an insertion, a second key, a depth or a size beyond the limit ends in one rejected message."""
    judge_record(world, hostile(text))


@cases(400)
@given(st.one_of(shapes.envelopes.map(shapes.dumped), shapes.spoilt(shapes.envelopes)))
def test_any_eventbridge_envelope(world: World, text: str) -> None:
    """An EventBridge envelope with a part of it mutated is recorded or rejected, by what it then says."""
    judge_record(world, hostile(text))


@cases(400)
@given(st.one_of(shapes.notifications.map(shapes.dumped), shapes.spoilt(shapes.notifications)))
def test_any_sns_envelope(world: World, text: str) -> None:
    """An SNS notification with a part of it mutated is recorded or rejected, by what it then says."""
    judge_record(world, hostile(text))


@cases(200)
@given(st.one_of(shapes.deep_texts, shapes.unclosed_texts), st.booleans())
@example("[" * 100_000, True)
@example('{"a":' * 100_000, False)
def test_any_depth(world: World, text: str, in_sns: bool) -> None:  # noqa: FBT001 - Hypothesis's own
    """A hundred thousand levels end like any other poison, plain and inside a notification."""
    judge_record(world, hostile(json.dumps(sns_notification(text)) if in_sns else text))


@cases(400)
@given(shapes.records())
def test_any_record_around_the_body(world: World, record: dict[str, Any]) -> None:
    """Missing, foreign and wrongly typed parts of a record harm neither it nor its neighbours."""
    judge_record(world, record)


@cases(150)
@given(shapes.bodies)
def test_a_hostile_record_in_a_fifo_group(world: World, text: object) -> None:
    """A rejected record does not hold the messages behind it in its group."""
    judge_record(world, hostile(text, group="g"), group="g")


@cases(100)
@given(st.lists(shapes.bodies, min_size=1, max_size=12))
def test_many_hostile_records_in_threads(threaded: World, texts: list[object]) -> None:
    """In threads as in production, each of many hostile records ends by the table, whatever the others are."""
    records = [hostile(text) | {"messageId": f"hostile-{index}"} for index, text in enumerate(texts)]
    seen = threaded.fresh().invoke(sqs_event(neighbour(NEIGHBOURS[0]), *records, neighbour(NEIGHBOURS[1])))
    expected = {record["messageId"]: completion_in_body(record["body"]) for record in records}
    assert seen.outcomes == {
        **dict.fromkeys(NEIGHBOURS, ("created", None)),
        **{name: ("created", None) if good else ("rejected", "invalid_message") for name, good in expected.items()},
    }
    stored = {entry["MessageAttributes"]["sourceMessageId"]["StringValue"] for entry in threaded.sqs.dead_letters}
    rejected = {name for name, good in expected.items() if not good}
    assert stored <= rejected
    assert_answer(seen.answer, {*NEIGHBOURS, *expected}, rejected - stored)
    assert_log(seen)


@cases(600)
@given(shapes.events)
def test_any_direct_event(world: World, event: Any) -> None:
    """Whatever invokes the function ends in an answer by the table, or in one of the two errors that are promised."""
    judge_event(world, event)


def judge_event(world: World, event: Any) -> None:
    """Invoke the function with anything and hold what comes of it against the tables."""
    seen = world.fresh().invoke(event)
    assert_log(seen)
    if is_sqs(event):
        identifiers = [record["messageId"] for record in event["Records"]]
        assert seen.error is None
        settled = {entry["MessageAttributes"]["sourceMessageId"]["StringValue"] for entry in world.sqs.dead_letters}
        settled |= {name for name, line in seen.messages.items() if line["outcome"] in ("created", "exists")}
        assert_answer(seen.answer, set(identifiers), set(identifiers) - settled)
    elif isinstance(event, dict) and "detail-type" in event and "detail" in event:
        judge_direct(world, event, seen)
    else:
        assert type(seen.error) is UnsupportedEventError
        assert seen.error.__context__ is None
        assert str(seen.error).isascii()
        assert len(str(seen.error)) < 20 * 700
        assert not world.thrive.requests


def is_sqs(event: Any) -> bool:
    """Tell whether every record says that it came from SQS, and under which id."""
    return (
        isinstance(event, dict)
        and isinstance(event.get("Records"), list)
        and all(
            isinstance(record, dict)
            and record.get("eventSource") == "aws:sqs"
            and isinstance(record.get("messageId"), str)
            and record.get("messageId")
            for record in event["Records"]
        )
    )


def judge_direct(world: World, event: dict[str, Any], seen: Seen) -> None:
    """Hold what became of a direct event against the table: it is judged as it would be on the queue."""
    try:
        # What JSON has no number for is null.
        text = json.dumps(json.loads(json.dumps(event), parse_constant=lambda _: None))
    except RecursionError:
        text = ""
    expected = completion_in_body(text)
    if expected:
        assert seen.error is None
        assert seen.answer == {"outcome": "created", "statementId": "statement-1"}
        assert set(world.thrive.ledger) == {expected}
        return
    assert not world.thrive.requests
    if text:
        [(_, request)] = world.sqs.calls
        [entry] = request["Entries"]
        assert json.loads(entry["MessageBody"], parse_constant=str) == json.loads(text)
    if world.sqs.dead_letters:
        assert seen.error is None
        assert set(seen.answer) == {"outcome", "reason", "detail"}
        assert (seen.answer["outcome"], seen.answer["reason"]) == ("rejected", "invalid_message")
    else:
        assert type(seen.error) is EventNotRecordedError
        assert str(seen.error) == "rejected: invalid_message"
