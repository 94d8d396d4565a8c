"""The judgement sees what it is there to see: each test spoils one thing after the storm and finds the complaint."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from sandbox.demo.workload import Recorded
from tests.chaos.judgement import judge, out_of_order
from tests.chaos.run import gather

if TYPE_CHECKING:
    from sandbox.demo.reconcile import Sent
    from tests.chaos.conftest import Storm

# The stand-in's own sockets: one that it cuts off in mid-handshake is closed by nobody but the garbage collector.
pytestmark = pytest.mark.filterwarnings("ignore:.*socket.socket:pytest.PytestUnraisableExceptionWarning")


def _a_good_one(storm: Storm) -> Sent:
    return next(item for item in storm.world.sent if isinstance(item.message.expected, Recorded))


def test_a_lost_record_is_noticed(storm: Storm) -> None:
    """One record missing in Thrive's ledger fails the judgement, by name."""
    item, evidence = _a_good_one(storm), gather(storm.world)
    assert isinstance(item.message.expected, Recorded)
    records = [entry for entry in evidence.records if entry.key != item.message.expected.key]
    problems = judge(replace(evidence, records=records))
    assert f"{item.message.label}: should be recorded, but Thrive does not hold it" in problems


def test_a_record_made_twice_is_noticed(storm: Storm) -> None:
    """A retry that writes the time otherwise would make a second record: the judgement names it."""
    evidence = gather(storm.world)
    entry = evidence.records[0]
    twin = replace(entry, key=entry.key._replace(completed_at=entry.key.completed_at.replace(".", ".0", 1)))
    [problem] = judge(replace(evidence, records=[*evidence.records, twin]))
    assert problem.startswith("a record that nobody sent")


def test_a_good_message_in_the_dead_letter_queue_is_noticed(storm: Storm) -> None:
    """A good message put into the real dead-letter queue, as the function or as the queue itself would, is named."""
    world, item = storm.world, _a_good_one(storm)
    before = list(world.letters)
    attributes = {"reason": "refused", "sourceMessageId": item.id}
    world.rig.emulator.sqs.send_message(
        QueueUrl=world.rig.stack.dead_letters.url,
        MessageBody=item.message.written.content,
        MessageAttributes={name: {"DataType": "String", "StringValue": text} for name, text in attributes.items()},
    )
    evidence = gather(world)
    assert len(evidence.letters) == len(before) + 1
    world.letters[:] = before
    assert f"{item.message.label}: should be recorded, but is a dead letter: refused" in judge(evidence)
    moved = replace(evidence, letters=[*before, replace(evidence.letters[-1], message_id=item.id, attributes={})])
    problems = judge(moved)
    assert any(problem.startswith(f"{item.message.label}: should be recorded") for problem in problems)
    assert any(problem.startswith("a dead letter without a reason") for problem in problems)


def test_a_missing_or_mislabelled_dead_letter_is_noticed(storm: Storm) -> None:
    """A bad message that vanished, one with another reason and one whose body was changed are named."""
    evidence = gather(storm.world)
    from_queue = {item.id: item.message for item in evidence.sent if item.message.written.channel == "queue"}
    letter = next(found for found in evidence.letters if found.attributes["sourceMessageId"] in from_queue)
    of_it = letter.attributes["sourceMessageId"]
    others = [other for other in evidence.letters if other.attributes.get("sourceMessageId") != of_it]
    assert any("is not a dead letter" in problem for problem in judge(replace(evidence, letters=others)))
    mislabelled = replace(letter, attributes={**letter.attributes, "reason": "rate_limited"})
    assert any(
        "should be rejected as" in problem for problem in judge(replace(evidence, letters=[*others, mislabelled]))
    )
    changed = replace(letter, body=letter.body + " ")
    complaints = judge(replace(evidence, letters=[*others, changed]))
    assert complaints == [f"{from_queue[of_it].label}: the body was changed"]


def test_a_leaked_secret_is_noticed(storm: Storm) -> None:
    """The client secret at the end of one log file, and a token in a dead letter's attributes, fail the judgement."""
    log = storm.world.rig.logs[0]
    whole = log.read_bytes()
    log.write_bytes(whole + storm.world.client_secrets[0].encode())
    try:
        assert judge(gather(storm.world)) == [f"a canary shows in {log.name}"]
    finally:
        log.write_bytes(whole)
    evidence = gather(storm.world)
    header = storm.world.api.requests.of("completion")[0].headers["Authorization"]
    letter = evidence.letters[0]
    leaky = replace(letter, attributes={**letter.attributes, "detail": header})
    problems = judge(replace(evidence, letters=[leaky, *evidence.letters[1:]]))
    assert problems == ["a canary shows in the dead letters' attributes"]


def test_what_is_left_in_the_queue_is_noticed(storm: Storm) -> None:
    """A message still in the source queue, and a function that raised, are named."""
    evidence = gather(storm.world)
    assert judge(replace(evidence, queued=1)) == ["1 still in the queue"]
    failed = {**evidence.failed_invocations, "error": 1}
    assert judge(replace(evidence, failed_invocations=failed)) == ["1 invocations ended as: error"]


def test_a_group_out_of_order_is_noticed(fifo_storm: Storm) -> None:
    """Two records of one group the other way round are named."""
    world = fifo_storm.world
    records = list(gather(world).records)
    records.reverse()
    assert out_of_order(zip(world.groups, world.sent, strict=True), records) != []
