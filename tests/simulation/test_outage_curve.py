"""The model behind docs/outages.md is held against the full simulation, and the page against the model."""

from __future__ import annotations

import json
import statistics

import pytest

from bench import outage as outage_page
from sandbox import outages as outage
from tests.simulation import scenario as template
from tests.simulation.package import Package
from tests.simulation.scenario import Scenario, Sent, Spell
from tests.simulation.world import World

HOUR = 3600.0


def test_the_model_uses_the_template_s_numbers() -> None:
    """The backoff, the receives and the messages in flight are those of the template."""
    assert (outage.BACKOFF_BASE, outage.BACKOFF_CAP) == (template.BACKOFF_BASE, template.BACKOFF_CAP)
    assert outage.MAX_RECEIVES == template.MAX_RECEIVE_COUNT
    assert outage.IN_FLIGHT == template.MAXIMUM_CONCURRENCY * template.REQUESTS_IN_FLIGHT


@pytest.mark.parametrize("hours", [0.5, 2.0, 24.0])
def test_the_model_agrees_with_the_simulation(hours: float) -> None:
    """Calls in vain per message, and when the last one is recorded, are those of the function itself."""
    package, messages = Package(), 40 if hours < 24 else 12
    runs = [_simulated(package, seed, hours * HOUR, messages) for seed in range(6 if hours < 24 else 4)]
    model = [outage.Model(outage.ours(), hours * HOUR, 0.01, seed=seed).run() for seed in range(5)]
    assert statistics.mean(run[0] for run in runs) == pytest.approx(
        statistics.mean(one.wasted for one in model), rel=0.1
    )
    # The last of some hundred messages beside the last of thousands: somewhat sooner.
    longest = max(one.drain for one in model)
    assert 0.75 * longest <= max(run[1] for run in runs) <= 1.05 * longest + 60


def _simulated(package: Package, seed: int, seconds: float, messages: int) -> tuple[float, float]:
    """Give the calls in vain per message, and when the last one was recorded after the outage."""
    step = seconds / messages
    sent = []
    for number in range(messages):
        completed_at = f"2021-01-01T09:{number:02d}:00"
        fields = {"userId": "user", "contentId": "content", "completedAt": f"{completed_at}.000Z"}
        key = json.dumps(fields, separators=(",", ":"))
        sent.append(Sent(number, (number + 0.5) * step, json.dumps(fields), "good", key))
    world = World(
        package,
        Scenario(
            seed=seed,
            fifo=False,
            sent=sent,
            preemption=0.0,
            batch_size=template.BATCH_SIZE,
            concurrency=template.MAXIMUM_CONCURRENCY,
            in_flight=template.REQUESTS_IN_FLIGHT,
            max_receive_count=template.MAX_RECEIVE_COUNT,
            has_dead_letter_queue=True,
            auth_method="oauth2",
            token_method="client_secret_post",
            token_lifetime=3600,
            spells=[Spell(0.0, seconds, "503", "records")],
            secrets=[],
            noise={},
            refused={},
            healed=seconds,
        ),
    )
    report = world.run()
    assert not report.violations
    in_vain = report.calls["records"] - len(world.thrive.ledger)
    return in_vain / messages, world.watch.last_settled() - seconds


@pytest.mark.parametrize("rate", [0.1, 10.0])
def test_what_the_page_says_holds(rate: float) -> None:
    """Two days' outage dead-letters nothing here, a day's nearly all elsewhere; the last message waits for an hour."""
    ours = outage.Model(outage.ours(), 48 * HOUR, rate, seed=1).run()
    usual = outage.Model(outage.fixed(30), 24 * HOUR, rate, seed=1).run()
    router = outage.Model(outage.event_router(), 48 * HOUR, rate, seed=1).run()
    assert ours.dead_lettered == 0
    assert usual.dead_lettered > 0.99
    assert router.dead_lettered > 0.4
    small = outage.Model(outage.ours(), 24 * HOUR, 0.1, seed=1).run()
    assert small.drain <= HOUR + 60


def test_the_page_is_what_the_numbers_say() -> None:
    """The tables stand in the page as the command would write them."""
    page = outage_page.PAGE.read_text(encoding="utf-8")
    assert outage_page.renewed(page, json.loads(outage_page.NUMBERS.read_text(encoding="utf-8"))) == page
