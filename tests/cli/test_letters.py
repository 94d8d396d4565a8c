"""`dead-letters` and `redrive` on SQS as AWS documents it: order, visibility, rate, faults at every call."""

from __future__ import annotations

import json
import stat
from typing import TYPE_CHECKING, Any

import pytest
from botocore.exceptions import ReadTimeoutError

from completion_sync_cli import queue_pass
from tests.cli.conftest import World, completion, make_world, on
from tests.support.fakes import client_error

if TYPE_CHECKING:
    from pathlib import Path


def bodies(queue: Any) -> list[str]:
    return [message.body for message in queue.messages]


def receive(world: World) -> list[str]:
    """Return the ids that another reader of the dead-letter queue would get now."""
    answer = world.sqs.receive_message(
        QueueUrl=world.dead.url, MaxNumberOfMessages=10, VisibilityTimeout=0, WaitTimeSeconds=0
    )
    return [message["MessageId"] for message in answer.get("Messages", [])]


# ---- dead-letters


def test_letters_are_grouped_and_stay_visible(world: World) -> None:
    world.letters(12, reason="refused", status="404", detail="there is no such user")
    world.clock.advance(7200)
    world.letter(reason="invalid_message")
    world.letter()

    outcome = world.run("dead-letters", "--json")

    assert outcome.status == 0
    assert outcome.document["total"] == 14
    assert outcome.document["complete"] is True
    assert [(g["reason"], g["status"], g["count"]) for g in outcome.document["groups"]] == [
        ("refused", 404, 12),
        ("invalid_message", None, 1),
        (None, None, 1),
    ]
    assert outcome.document["groups"][0]["oldest"] == "2027-01-15T08:00:00Z"
    assert world.sqs.in_flight(world.dead) == []
    assert len(world.dead.messages) == 14


def test_groups_by_detail_and_content(world: World) -> None:
    world.letter(completion(1, contentId="a"), reason="refused", detail="x")
    world.letter({"detail-type": "T", "detail": completion(2, contentId="a", completedAt=None)}, detail="y")

    outcome = world.run("dead-letters", "--by", "content", "--json")

    assert [(g["content"], g["count"]) for g in outcome.document["groups"]] == [("a", 2)]
    assert world.run("dead-letters", "--by", "colour").status == 2


def test_a_listing_prints_no_body_and_no_reference(world: World) -> None:
    world.letter(completion(1, userId=None, userRef="E-4711"), reason="unknown_user")

    outcome = world.run("dead-letters")

    assert "unknown_user" in outcome.out
    assert "E-4711" not in outcome.out + outcome.err


def test_a_fifo_queue_shows_the_first_of_each_group_and_the_listing_says_so() -> None:
    world = make_world(fifo=True)
    world.letters(25, group="a", reason="refused")

    outcome = world.run("dead-letters", "--json")

    assert outcome.document["total"] == 25
    assert outcome.document["complete"] is False
    assert outcome.document["groups"][0]["count"] == 10
    assert "first letters of each group" in outcome.err


def test_a_fifo_listing_is_incomplete_if_letters_arrive_behind_held_ones() -> None:
    world = make_world(fifo=True)
    world.letter(group="a")
    world.sqs.after = on("ReceiveMessage", lambda: world.letter(group="a"), [0])

    outcome = world.run("dead-letters", "--json")

    assert (outcome.document["total"], outcome.document["complete"]) == (1, False)


def test_one_empty_answer_does_not_end_a_pass(world: World) -> None:
    """SQS may answer a receive with nothing although there are messages."""
    letter = world.letter()
    letter.visible_at += 500
    world.sqs.before = on("ReceiveMessage", lambda: setattr(letter, "visible_at", 0), [1])

    assert world.run("dead-letters", "--json").document["groups"][0]["count"] == 1


def test_letters_that_someone_else_holds_make_a_listing_incomplete(world: World) -> None:
    world.letters(2)[0].visible_at += 500

    outcome = world.run("dead-letters", "--json")

    assert (outcome.document["total"], outcome.document["complete"]) == (2, False)


def test_a_listing_ends_at_its_bound(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queue_pass, "MAX_LETTERS", 20)
    world.letters(31)

    outcome = world.run("dead-letters", "--json")

    assert (outcome.document["total"], outcome.document["complete"]) == (31, False)
    assert len(world.sqs.of("ReceiveMessage")) == 2


def test_a_long_pass_keeps_its_letters_hidden_without_hiding_them_for_long(world: World) -> None:
    """Each receive takes a minute: no letter is seen twice, and a kill would hide none for more than two minutes."""
    world.letters(60)
    world.sqs.after = on("ReceiveMessage", lambda: world.clock.advance(55))

    outcome = world.run("dead-letters", "--json")

    assert outcome.document["total"] == 60
    assert max(message.receives for message in world.dead.messages) == 1
    asked = [e["VisibilityTimeout"] for r in world.sqs.of("ChangeMessageVisibilityBatch") for e in r["Entries"]]
    assert 0 < max(asked) <= 125
    assert world.sqs.in_flight(world.dead) == []


def test_show_and_export_hold_everything_of_a_letter(world: World, tmp_path: Path) -> None:
    sent = world.letter("not JSON", reason="invalid_message", detail="body: must be valid JSON", sourceMessageId="s-1")
    world.letter(reason="refused")
    file = tmp_path / "letters.jsonl"

    shown = world.run("dead-letters", "show", "--reason", "invalid_message", "--json").document
    exported = world.run("dead-letters", "export", file, "--message-id", "s-1")

    expected = {
        "messageId": sent.id,
        "sentAt": "2027-01-15T08:00:00Z",
        "reason": "invalid_message",
        "status": None,
        "detail": "body: must be valid JSON",
        "group": None,
        "attributes": {"reason": "invalid_message", "detail": "body: must be valid JSON", "sourceMessageId": "s-1"},
        "body": "not JSON",
    }
    assert shown["messages"] == [expected]
    assert [json.loads(line) for line in file.read_text().splitlines()] == [expected]
    assert exported.status == 0
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert world.run("dead-letters", "export", file).status == 2
    assert world.run("dead-letters", "export", "-", "--json").status == 2
    assert json.loads(world.run("dead-letters", "export", "-", "--message-id", "s-1").out) == expected


@pytest.mark.parametrize(
    ("criteria", "expected"),
    [
        (["--reason", "refused"], "abc"),
        (["--reason", "none"], "d"),
        (["--reason", "refused", "--status", "404"], "a"),
        (["--status", "404", "--status", "422"], "ab"),
        (["--detail", "NO SUCH user"], "a"),
        (["--user-id", "u-b"], "b"),
        (["--content-id", "c-c"], "c"),
        (["--content-id", "code-d"], "d"),
        (["--message-id", "source-of-c"], "c"),
        (["--since", "30m"], "cd"),
        (["--until", "30m"], "ab"),
        (["--until", "2027-01-15T08:00:00Z"], ""),
        (["--since", "2h", "--until", "2027-01-15T08:30Z"], "ab"),
    ],
)
def test_letters_are_selected(world: World, criteria: list[str], expected: str) -> None:
    world.letter(completion(1, userId="u-a"), reason="refused", status="404", detail="there is no such user")
    world.letter(completion(1, userId="u-b"), reason="refused", status="422", detail="no")
    world.clock.advance(3600)
    world.letter(completion(1, userId="u-c", contentId="c-c"), reason="refused", sourceMessageId="source-of-c")
    world.letter({"userId": "u-d", "contentCode": "code-d"})

    messages = world.run("dead-letters", "show", *criteria, "--json").document["messages"]

    assert "".join(json.loads(message["body"])["userId"][-1] for message in messages) == expected


def test_delete_removes_what_is_selected_and_only_with_yes(world: World) -> None:
    keep = world.letter(reason="refused")
    world.letter(reason="invalid_message")

    assert world.run("dead-letters", "delete", "--yes").status == 2
    dry = world.run("dead-letters", "delete", "--reason", "invalid_message", "--json")
    assert (dry.status, dry.document["matched"], len(world.dead.messages)) == (0, 1, 2)
    done = world.run("dead-letters", "delete", "--reason", "invalid_message", "--yes", "--json")

    assert done.document == {"matched": 1, "deleted": 1, "failed": 0, "complete": True, "dryRun": False}
    assert [message.id for message in world.dead.messages] == [keep.id]
    assert receive(world) == [keep.id]


# ---- redrive


def test_redrive_is_a_dry_run_without_yes(world: World) -> None:
    world.letters(3)

    outcome = world.run("redrive", "--json")

    assert outcome.document == {"matched": 3, "moved": 0, "failed": 0, "complete": True, "dryRun": True}
    assert outcome.status == 0
    assert world.sqs.of("SendMessageBatch") == world.sqs.of("DeleteMessageBatch") == []
    assert len(receive(world)) == 3


def test_redrive_moves_what_is_selected_unchanged_and_hands_the_rest_back(world: World) -> None:
    wanted = [world.letter(f'{{"userId": "é-{n}" ,"x":1.0}}', reason="refused").body for n in range(25)]
    kept = [world.letter(reason="invalid_message").id for _ in range(7)]

    outcome = world.run("redrive", "--reason", "refused", "--yes", "--json")

    assert outcome.document == {"matched": 25, "moved": 25, "failed": 0, "complete": True, "dryRun": False}
    assert outcome.status == 0
    assert bodies(world.source) == wanted
    assert not any(message.attributes for message in world.source.messages)
    assert receive(world) == kept
    operations = [name for name, _ in world.sqs.calls if name in {"SendMessageBatch", "DeleteMessageBatch"}]
    assert operations[::2] == ["SendMessageBatch"] * (len(operations) // 2)


@pytest.mark.parametrize("rate", [0.5, 3, 10, 50])
def test_the_rate_is_kept_over_any_stretch_of_time(world: World, rate: float) -> None:
    world.letters(60)
    sent: list[float] = []

    def note(operation: str, request: dict[str, Any]) -> None:
        if operation == "SendMessageBatch":
            sent.extend([world.clock.now().monotonic] * len(request["Entries"]))

    world.sqs.before = note
    world.run("redrive", "--rate", rate, "--yes")

    assert len(sent) == 60
    burst = max(1, min(10, int(rate)))
    for first in range(60):
        for last in range(first, 60):
            assert last - first + 1 <= rate * (sent[last] - sent[first]) + burst + 1e-6
    # and it is not slower than asked for
    assert sent[-1] - sent[0] <= 60 / rate


def test_no_letter_is_received_further_ahead_than_a_minute(world: World) -> None:
    world.letters(30)

    world.run("redrive", "--rate", "0.1", "--yes")

    assert {request["MaxNumberOfMessages"] for request in world.sqs.of("ReceiveMessage")} == {6}
    assert len(world.source.messages) == 30
    assert world.dead.messages == []


def test_max_bounds_what_is_moved(world: World) -> None:
    world.letters(30)

    outcome = world.run("redrive", "--max", "12", "--yes", "--json")

    assert (outcome.status, outcome.document["matched"], outcome.document["moved"]) == (0, 12, 12)
    assert (len(world.source.messages), len(world.dead.messages)) == (12, 18)
    assert world.sqs.in_flight(world.dead) == []


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("operation", ["SendMessageBatch", "DeleteMessageBatch", "ChangeMessageVisibilityBatch"])
@pytest.mark.parametrize("call", range(3))
def test_a_call_that_fails_loses_no_letter(world: World, when: str, operation: str, call: int) -> None:
    """Whichever call fails, with or without effect: each body is in one of the queues, and a repeat finishes it."""
    expected = {letter.body for letter in world.letters(30)}
    setattr(world.sqs, when, on(operation, ReadTimeoutError(endpoint_url="https://sqs"), [call]))
    outcome = world.run("redrive", "--yes", "--json")
    assert {*bodies(world.source), *bodies(world.dead)} == expected
    assert outcome.document["moved"] + outcome.document["failed"] == 30
    setattr(world.sqs, when, lambda *_: None)
    again = world.run("redrive", "--yes", "--json")

    assert again.document["failed"] == 0
    assert set(bodies(world.source)) == expected
    assert world.dead.messages == []


def test_an_entry_that_sqs_refuses_stays_and_is_counted(world: World) -> None:
    refused = world.letter("bad")
    good = [world.letter().body for _ in range(3)]
    world.sqs.refuses = lambda operation, entry: (
        "InvalidMessageContents" if operation == "SendMessageBatch" and entry["MessageBody"] == "bad" else None
    )

    outcome = world.run("redrive", "--yes", "--json")

    assert (outcome.status, outcome.document["moved"], outcome.document["failed"]) == (1, 3, 1)
    assert bodies(world.source) == good
    assert receive(world) == [refused.id]
    assert "InvalidMessageContents" in outcome.err


def test_what_sqs_cannot_take_just_now_is_tried_again(world: World) -> None:
    world.letter()
    answers = iter(["InternalError", "InternalError", None])
    world.sqs.refuses = lambda operation, _: next(answers) if operation == "SendMessageBatch" else None

    assert world.run("redrive", "--yes", "--json").document["moved"] == 1


def test_a_denied_call_ends_the_run_with_advice_and_hands_everything_back(world: World) -> None:
    world.letters(3)
    world.sqs.before = on("SendMessageBatch", client_error("AccessDenied", 403, "SendMessageBatch"))
    outcome = world.run("redrive", "--yes")

    assert outcome.status == 2
    assert "AWS denied SendMessageBatch" in outcome.err
    assert "operator-policy" in outcome.err
    assert len(receive(world)) == 3


@pytest.mark.parametrize("operation", ["ReceiveMessage", "SendMessageBatch", "DeleteMessageBatch"])
def test_an_interruption_ends_the_run_cleanly(world: World, operation: str) -> None:
    """Ctrl-C during a call: the call is finished, what was sent is deleted, everything else is visible at once."""
    expected = {letter.body for letter in world.letters(40)}
    world.sqs.before = on(operation, world.interrupt, [1])
    outcome = world.run("redrive", "--yes", "--json")

    assert outcome.status == 1
    assert 0 < outcome.document["moved"] < 40
    assert outcome.document["moved"] == len(world.source.messages)
    assert len(world.dead.messages) + len(world.source.messages) == 40
    assert {*bodies(world.source), *bodies(world.dead)} == expected
    assert world.sqs.in_flight(world.dead) == []


def test_a_second_interruption_still_hands_letters_back(world: World) -> None:
    world.letters(20)
    world.sqs.after = on("SendMessageBatch", KeyboardInterrupt())
    outcome = world.run("redrive", "--yes")

    assert outcome.status == 1
    assert world.sqs.in_flight(world.dead) == []
    assert len(world.dead.messages) == 20


def test_two_operators_at_once_lose_and_repeat_nothing(world: World) -> None:
    """The second one redrives the same queue in the middle of the first one's pass."""
    expected = {letter.body for letter in world.letters(60)}
    results: list[Any] = []

    def meanwhile() -> None:
        other = World(world.clock, world.sqs, world.source, world.dead, world.undelivered)
        results.append(other.run("redrive", "--yes", "--json").document["moved"])

    world.sqs.before = on("SendMessageBatch", meanwhile, [0])
    results.append(world.run("redrive", "--yes", "--json").document["moved"])

    assert sum(results) == 60
    assert sorted(bodies(world.source)) == sorted(expected)
    assert world.dead.messages == []


def test_a_letter_that_fails_again_is_not_sent_again(world: World) -> None:
    """The function rejects each copy at once, so that a new letter arrives for each one that is moved."""
    world.letters(15, reason="refused")

    def reject() -> None:
        for message in world.source.messages:
            world.sqs.put(world.dead, message.body, reason="refused", sourceMessageId=message.id)
        world.source.messages.clear()

    world.sqs.after = on("SendMessageBatch", reject)
    outcome = world.run("redrive", "--yes", "--json")

    assert outcome.document["moved"] == 15
    assert len(world.dead.messages) == 15
    assert "15 letters failed again and came back" in outcome.err


def test_a_letter_that_is_delivered_again_is_not_sent_again(world: World) -> None:
    letter = world.letter()

    def revive() -> None:
        letter.visible_at = 0
        world.dead.messages.append(letter)

    world.sqs.after = on("DeleteMessageBatch", revive, [0])
    world.run("redrive", "--yes")

    assert len(world.source.messages) == 1
    assert world.dead.messages == []


def test_a_fifo_group_is_moved_in_order_with_its_group_and_the_letters_ids() -> None:
    world = make_world(fifo=True)
    sent = [world.letter(completion(n), group=f"g-{n % 2}") for n in range(30)]

    outcome = world.run("redrive", "--yes", "--json", "--rate", "1000")

    assert outcome.document == {"matched": 30, "moved": 30, "failed": 0, "complete": True, "dryRun": False}
    for group in ("g-0", "g-1"):
        assert [m.body for m in world.source.messages if m.group == group] == [m.body for m in sent if m.group == group]
    entries = [entry for request in world.sqs.of("SendMessageBatch") for entry in request["Entries"]]
    assert {entry["MessageDeduplicationId"] for entry in entries} == {message.id for message in sent}


def test_in_a_fifo_group_nothing_overtakes_a_letter_that_could_not_be_moved() -> None:
    world = make_world(fifo=True)
    for number in range(4):
        world.letter(str(number), group="a")
    world.letter("other", group="b")
    world.sqs.refuses = lambda operation, entry: (
        "InvalidMessageContents" if operation == "SendMessageBatch" and entry["MessageBody"] == "1" else None
    )

    outcome = world.run("redrive", "--yes", "--json")

    assert bodies(world.source) == ["0", "other"]
    assert bodies(world.dead) == ["1", "2", "3"]
    assert (outcome.document["moved"], outcome.document["failed"], outcome.status) == (2, 3, 1)


def test_undelivered_events_are_unwrapped(world: World) -> None:
    event = {"detail-type": "T", "source": "s", "time": "2024-05-01T09:00:00Z", "detail": {"userId": "é"}}
    record = {"version": "1.0", "requestContext": {"condition": "RetriesExhausted"}, "requestPayload": event}
    world.sqs.put(world.undelivered, json.dumps(record))
    world.sqs.put(world.undelivered, json.dumps(event), ERROR_CODE="NO_PERMISSIONS", ERROR_MESSAGE="denied")
    other = json.dumps({"requestPayload": event})
    world.sqs.put(world.undelivered, other, ERROR_CODE="NO_PERMISSIONS")

    groups = world.run("dead-letters", "--undelivered", "--json").document["groups"]
    outcome = world.run("redrive", "--undelivered", "--yes", "--json")

    assert {group["reason"] for group in groups} == {"RetriesExhausted", "NO_PERMISSIONS"}
    assert outcome.document["moved"] == 3
    as_the_function_writes_it = json.dumps(event, separators=(",", ":"), ensure_ascii=False)
    assert bodies(world.source) == [as_the_function_writes_it, json.dumps(event), other]
    assert world.undelivered.messages == []


def test_undelivered_events_go_to_a_fifo_queue_in_the_rules_group() -> None:
    world = make_world(fifo=True)
    world.sqs.put(world.undelivered, "{}")

    world.run("redrive", "--undelivered", "--yes")

    assert [message.group for message in world.source.messages] == ["eventbridge"]
