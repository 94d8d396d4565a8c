"""The check at the end: it is even when all is well, and names whatever is not."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from sandbox.demo.reconcile import Balance, Sent, reconcile
from sandbox.demo.shapes import Written
from sandbox.demo.workload import Message, Recorded, Rejected
from sandbox.pipeline.emf import json_lines, metric_sums
from sandbox.pipeline.mail import Letter
from sandbox.thrive_api import Entry, Key

if TYPE_CHECKING:
    from pathlib import Path

KEY = Key("u", "c", "2024-01-01T00:00:00.000Z")
GOOD = Sent(Message("1", Written("queue", "{}"), Recorded(KEY)), "id-1")
REPEAT = Sent(Message("2", Written("bus", "{}"), Recorded(KEY)), "id-2")
BAD = Sent(Message("3", Written("queue", "x"), Rejected("refused")), "id-3")
BAD_ON_THE_BUS = Sent(Message("4", Written("bus", "{}"), Rejected("invalid_message")), "event-4")

RECORD = Entry(KEY, "statement", 1)
LETTER = Letter("new-id", "x", {"reason": "refused", "detail": "no such user", "sourceMessageId": "id-3"})
BUS_LETTER = Letter(
    "new-id-2",
    json.dumps({"id": "event-4", "detail-type": "t", "detail": {}}),
    {"reason": "invalid_message", "sourceMessageId": "whatever"},
)
SENT = [GOOD, REPEAT, BAD, BAD_ON_THE_BUS]


def test_all_is_even_when_every_message_is_where_it_belongs() -> None:
    """Each message is counted once: created, existing or rejected by reason."""
    balance = reconcile(SENT, [RECORD], [LETTER, BUS_LETTER], 0)
    assert balance.is_even
    assert (balance.sent, balance.created, balance.existing, balance.unaccounted) == (4, 1, 1, 0)
    assert balance.rejected == {"refused": 1, "invalid_message": 1}
    assert balance.rejections[0] == ("3", "refused", "no such user")


def test_a_message_dead_lettered_twice_is_no_loss() -> None:
    """Delivery is at least once: a crash after the dead-letter send makes a second letter."""
    assert reconcile(SENT, [RECORD], [LETTER, LETTER, BUS_LETTER], 0).is_even


@pytest.mark.parametrize(
    ("balance", "problem"),
    [
        pytest.param(reconcile([GOOD], [], [], 0), "1: should be recorded, but Thrive does not hold it", id="lost"),
        pytest.param(reconcile([BAD], [], [], 0), "3: should be rejected (refused), but is no", id="bad one lost"),
        pytest.param(
            reconcile([GOOD], [RECORD], [Letter("id-1", "{}", {})], 0),
            "1: should be recorded, but is a dead letter: moved by the queue",
            id="healthy one punished",
        ),
        pytest.param(
            reconcile([BAD], [], [replace(LETTER, attributes={"sourceMessageId": "id-3"})], 0),
            "3: should be rejected as refused, but: moved by the queue",
            id="no reason",
        ),
        pytest.param(
            reconcile([GOOD], [RECORD, Entry(KEY._replace(user_id="v"), "s", 1)], [], 0),
            "a record that nobody sent: ('v',",
            id="record from nowhere",
        ),
        pytest.param(
            reconcile([GOOD], [RECORD], [LETTER], 0),
            "a dead letter that nobody sent: refused",
            id="letter from nowhere",
        ),
        pytest.param(reconcile([GOOD], [RECORD], [], 2), "2 still in the queue", id="still queued"),
    ],
)
def test_what_is_not_where_it_belongs_is_named(balance: Balance, problem: str) -> None:
    """One message lost, punished, unexplained or invented is enough to fail, and is named."""
    assert not balance.is_even
    assert [line for line in balance.problems if line.startswith(problem)]


def test_metrics_are_summed_over_emf_lines_and_everything_else_is_passed_over(tmp_path: Path) -> None:
    """Single values and lists add up; the runtime's own lines and other JSON are no metrics."""
    log = tmp_path / "log"
    directive = {"CloudWatchMetrics": [{"Namespace": "n", "Metrics": [{"Name": "Made"}, {"Name": "Took"}]}]}
    log.write_text(
        "START RequestId\n[1]\n"
        + json.dumps({"message": "created"})
        + "\n"
        + json.dumps({"_aws": directive, "Made": [1.0], "Took": [1.5, 2.5]})
        + "\n"
        + json.dumps({"_aws": directive, "Made": 2, "Took": 1})
        + "\n"
    )
    assert metric_sums(json_lines([log, tmp_path / "absent"])) == {"Made": 3, "Took": 5}
