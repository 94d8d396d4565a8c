"""The judgement notices what it is there to notice: each test spoils one thing after the storm."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from sandbox.demo.workload import Recorded
from sandbox.pipeline.mail import Letter
from tests.chaos.judgement import judge, out_of_order
from tests.chaos.run import gather

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.chaos.judgement import Evidence
    from tests.chaos.world import World

pytestmark = pytest.mark.filterwarnings("ignore:.*socket.socket:pytest.PytestUnraisableExceptionWarning")


def _good_letter(evidence: Evidence) -> Letter:
    """Return a dead letter of a message that should have been recorded."""
    item = next(item for item in evidence.sent if isinstance(item.message.expected, Recorded))
    return Letter(item.id, item.message.written.content, {"sourceMessageId": item.id})


def _letters(change: Callable[[Letter], Letter]) -> Callable[[Evidence], dict[str, Any]]:
    return lambda evidence: {"letters": [change(letter) for letter in evidence.letters]}


# What is spoilt, and a complaint that must come of it. tests/sandbox/test_demo.py has more of what `reconcile` finds.
SPOILT: dict[str, tuple[Callable[[Evidence], dict[str, Any]], str]] = {
    "a lost record": (lambda e: {"records": e.records[1:]}, "should be recorded, but Thrive does not hold it"),
    "a letter moved by the queue": (
        lambda e: {"letters": [*e.letters, _good_letter(e)]},
        "a dead letter without a reason, so moved by the queue",
    ),
    "a wrong reason": (
        _letters(lambda letter: replace(letter, attributes={**letter.attributes, "reason": "rate_limited"})),
        "should be rejected as",
    ),
    "a changed body": (_letters(lambda letter: replace(letter, body=letter.body + " ")), "the body was changed"),
    "a secret in an attribute": (
        lambda e: _letters(lambda letter: replace(letter, attributes={"detail": f"Bearer {min(e.secrets)}"}))(e),
        "a secret or a learner's data shows in the dead letters' attributes",
    ),
    "a function that raised": (lambda e: {"failed_invocations": {"error": 1}}, "1 invocations ended as: error"),
}


@pytest.mark.parametrize("what", SPOILT)
def test_the_judgement_notices(storm: World, what: str) -> None:
    evidence = gather(storm)
    spoil, complaint = SPOILT[what]
    assert any(complaint in problem for problem in judge(replace(evidence, **spoil(evidence))))


def test_the_evidence_is_what_is_there(storm: World) -> None:
    """A secret at the end of a real log file and a message in the real dead-letter queue are gathered and noticed."""
    log, before = storm.rig.logs[0], list(storm.letters)
    whole, letter = log.read_bytes(), _good_letter(gather(storm))
    log.write_bytes(whole + storm.client_secrets[0].encode())
    storm.rig.emulator.sqs.send_message(QueueUrl=storm.rig.stack.dead_letters.url, MessageBody=letter.body)
    problems = judge(gather(storm))
    log.write_bytes(whole)
    storm.letters[:] = before
    assert f"a secret or a learner's data shows in {log.name}" in problems
    assert any("a dead letter without a reason" in problem for problem in problems)


def test_a_group_out_of_order_is_noticed(fifo_storm: World) -> None:
    assert out_of_order(fifo_storm.sent, gather(fifo_storm).records[::-1]) != []
