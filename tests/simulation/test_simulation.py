"""Thousands of runs in which everything goes wrong; what must hold all the same, `watch.py` says."""

from __future__ import annotations

import pytest

from tests.simulation import runs
from tests.simulation.bites import BITES
from tests.simulation.package import Package
from tests.simulation.scenario import draw
from tests.simulation.world import simulate

# As many as CI runs.
SEEDS = 2000


def test_every_run_keeps_what_is_promised(pytestconfig: pytest.Config) -> None:
    """In every run all invariants hold; a failure names the seed and how to replay it."""
    runs.run_in_processes(0, pytestconfig.getoption("--seeds"))


@pytest.mark.parametrize("seed", range(25))
def test_one_seed_is_one_run(seed: int) -> None:
    """The same seed gives the same trace to the last byte, in another copy of the package too; another seed another."""
    package = Package()
    first = simulate(package, seed)
    simulate(package, seed + 1)
    assert simulate(package, seed).trace_hash == first.trace_hash
    assert simulate(Package(), seed).trace_hash == first.trace_hash
    assert simulate(package, seed + 1).trace_hash != first.trace_hash


def test_the_scenarios_hold_every_kind_of_trouble() -> None:
    drawn = [draw(seed) for seed in range(SEEDS)]
    spells = {(spell.where, spell.kind) for scenario in drawn for spell in scenario.spells}
    rotations = [[what.partition("-")[0] for _, what, _ in scenario.secrets] for scenario in drawn]
    assert {scenario.fifo for scenario in drawn} == {True, False}
    assert max(spell.end - spell.start for scenario in drawn for spell in scenario.spells) > 20 * 3600
    assert ["issue", "promote", "revoke"] in rotations
    assert ["issue", "revoke", "promote"] in rotations
    assert {where for where, _ in spells} == {"records", "lookups", "tokens", "secrets", "queues", "config"}
    assert len(spells) > 25
    assert len({kind for scenario in drawn for kind in scenario.noise}) > 25
    fates = {sent.fate for scenario in drawn for sent in scenario.sent}
    assert fates == {"good", "refused", "invalid", "unknown", "unlisted"}
    assert any(sent.direct for scenario in drawn for sent in scenario.sent)


def test_the_code_that_ships_passes_where_its_breakages_are_caught() -> None:
    assert max(bite.within for bite in BITES) <= SEEDS


def test_a_violation_ends_the_runs_and_says_how_to_replay_it() -> None:
    broken = Package()
    broken.replace("handler._handle_batch", lambda _: lambda *_: None)
    with pytest.raises(AssertionError, match=r"(?s)seed \d+:.*to see how: python -m tests.simulation --seed \d+"):
        runs.run(range(100), broken)
