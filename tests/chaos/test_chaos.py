"""A storm in the real world: Lambda's real runtime, real sockets, SIGKILL; see `run.py` for what happens.

The full form is `python -m tests.chaos`. Within a run everything goes wrong that `acts.py` knows, several things at a
time. What hit nothing is a failure too, so that the storm cannot fall silent unnoticed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from sandbox.demo.workload import Recorded, Rejected
from tests.chaos import acts
from tests.chaos.judgement import judge, out_of_order
from tests.chaos.run import gather
from tests.support.contract import assert_request_matches_contract

if TYPE_CHECKING:
    from tests.chaos.world import World

# If the stand-in stops listening just after it accepted a connection, asyncio (3.11) fails to create the transport
# and leaves it, or its socket, to the garbage collector.
pytestmark = pytest.mark.filterwarnings(
    r"ignore:.*(socket\.socket|_SelectorTransport|_SSLProtocolTransport):pytest.PytestUnraisableExceptionWarning"
)


def test_each_good_message_is_one_record_and_each_bad_one_a_dead_letter(storm: World) -> None:
    evidence = gather(storm)
    assert judge(evidence) == []
    assert len(evidence.sent) == 1000
    assert {type(item.message.expected) for item in evidence.sent} == {Recorded, Rejected}


def test_everything_that_was_to_go_wrong_went_wrong(storm: World) -> None:
    assert storm.missed() == []
    assert storm.planned == {*acts.ACTS, *acts.ENVIRONMENT}
    # No request shows that a certificate was refused: the function says so.
    assert "TLS failed" in "".join(storm.outputs().values())


def test_environments_died_and_messages_came_again(storm: World) -> None:
    counts = storm.rig.poller.counts
    assert sum(victim.kills for victim in storm.rig.environments) >= 3
    assert counts["exit"] >= 1
    assert counts["timeout"] >= 1
    assert counts["received"] > len(storm.sent)
    assert any(entry.arrivals > 1 for entry in storm.api.ledger)


def test_every_request_to_thrive_kept_the_contract(storm: World) -> None:
    """Whatever happens, the function sends what the contract describes (every tenth request is checked)."""
    for arrival in storm.api.requests.all()[::10]:
        assert_request_matches_contract(arrival.method, arrival.path, arrival.headers, arrival.body)


def test_a_fifo_queue_keeps_its_order_through_a_storm(fifo_storm: World) -> None:
    """The same on a FIFO queue, with Thrive over plain HTTP: nothing lost, and each group recorded as it was sent."""
    evidence = gather(fifo_storm)
    assert judge(evidence) == []
    assert out_of_order(fifo_storm.sent, evidence.records) == []
    assert fifo_storm.rig.poller.counts["received"] > len(fifo_storm.sent)
    # Whole groups wait while one message does, so that a fault may find nothing to hit. Most of them do.
    assert len(+fifo_storm.hits) > len(fifo_storm.planned) / 2
