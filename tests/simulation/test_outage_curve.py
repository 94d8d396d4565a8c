"""The model behind docs/outages.md is held against the full simulation, and the page against the model."""

from __future__ import annotations

import json
import random
import statistics

import pytest

from bench import outage as outage_page
from sandbox import outages as outage
from tests.simulation.package import Package
from tests.simulation.scenario import FUNCTION_TIMEOUT, HOUR, VISIBILITY, Scenario, Sent, Spell
from tests.simulation.world import World
from tests.support.sam_template import transform


def test_the_model_and_the_simulation_use_the_template_s_numbers() -> None:
    properties = transform({}).properties("CompletionFunction")
    function = properties["Environment"]["Variables"]
    queue = transform({}).properties("SourceQueue")
    mapping = transform({}).one("AWS::Lambda::EventSourceMapping")
    assert float(function["BACKOFF_BASE_SECONDS"]) == outage.BACKOFF_BASE
    assert float(function["BACKOFF_CAP_SECONDS"]) == outage.BACKOFF_CAP
    assert queue["RedrivePolicy"]["maxReceiveCount"] == outage.MAX_RECEIVES
    assert queue["VisibilityTimeout"] == VISIBILITY
    assert properties["Timeout"] == FUNCTION_TIMEOUT
    assert int(function["MAX_CONCURRENCY"]) == outage.THREADS
    assert int(mapping["BatchSize"]) == outage.BATCH
    assert int(mapping["ScalingConfig"]["MaximumConcurrency"]) == outage.ENVIRONMENTS


@pytest.mark.parametrize("hours", [0.5, 2.0, 24.0])
def test_the_model_agrees_with_the_simulation(hours: float) -> None:
    """In failed calls per message, and in when the last one is recorded, with one environment."""
    package, messages, seconds = Package(), 40 if hours < 24 else 12, hours * HOUR
    runs = [_simulated(package, seed, seconds, messages) for seed in range(6)]
    model = [
        outage.Model(outage.ours(), seconds, messages / seconds, environments=1, seed=seed).run() for seed in range(20)
    ]
    wasted = statistics.mean(one.wasted for one in model)
    assert statistics.mean(run[0] for run in runs) == pytest.approx(wasted, rel=0.15)
    drain = statistics.mean(one.drain for one in model)
    assert statistics.mean(run[1] for run in runs) == pytest.approx(drain, rel=0.15)


def _simulated(package: Package, seed: int, seconds: float, messages: int) -> tuple[float, float]:
    """Return the failed calls per message, and when the last one was recorded after the outage."""
    rng = random.Random(seed)
    sent = []
    for number, at in enumerate(sorted(rng.uniform(0.0, seconds) for _ in range(messages))):
        fields = {"userId": "user", "contentId": "content", "completedAt": f"2021-01-01T09:{number:02d}:00.000Z"}
        key = json.dumps(fields, separators=(",", ":"))
        sent.append(Sent(number, at, key, "good", key))
    spells = [Spell(0.0, seconds, "503", "records")]
    world = World(package, Scenario(seed, sent, healed=seconds, concurrency=1, spells=spells))
    report = world.run()
    assert not report.violations
    failed = report.calls["records"] - len(world.thrive.ledger)
    return failed / messages, world.watch.last_settled() - seconds


def test_what_the_page_says_holds() -> None:
    ours = outage.Model(outage.ours(), 48 * HOUR, 1.0, seed=1).run()
    assert ours.dead_lettered == 0
    assert ours.drain <= outage.BACKOFF_CAP + 60
    assert outage.Model(outage.fixed(30), 24 * HOUR, 1.0, seed=1).run().dead_lettered > 0.99
    assert outage.Model(outage.event_router(), 48 * HOUR, 1.0, seed=1).run().dead_lettered > 0.4


def test_a_full_flight_spares_receives_and_delays_nothing_after_the_outage() -> None:
    limited = outage.Model(outage.ours(), 12 * HOUR, 10.0).run()
    unlimited = outage.Model(outage.ours(limit=float("inf")), 12 * HOUR, 10.0).run()
    assert limited.receives < 0.7 * unlimited.receives
    assert limited.drain <= 1.05 * unlimited.drain


def test_a_backlog_uses_a_rate_limit_and_is_seldom_refused() -> None:
    used, refused = outage.share_of_limit(20.0)
    assert used > 0.9
    assert refused < 0.2


def test_the_page_is_what_the_numbers_say() -> None:
    page = outage_page.PAGE.read_text(encoding="utf-8")
    numbers = json.loads(outage_page.NUMBERS.read_text(encoding="utf-8"))
    assert outage_page.renewed(page, numbers) == page
    missed = [what for what, _, _, reached in outage_page.targets(numbers) if not reached]
    assert page.count("**no**") == len(missed)
    assert not [what for what in missed if "failed calls" in what or "dead-lettered" in what]
