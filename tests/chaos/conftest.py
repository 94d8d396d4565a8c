"""The runs that the chaos tests look at."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from tests.chaos.run import run, workload
from tests.chaos.schedule import schedule
from tests.chaos.world import running_world

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sandbox.pipeline.artefact import Artefact
    from sandbox.pipeline.emulator import Emulator
    from tests.chaos.schedule import Step
    from tests.chaos.world import World

SEED = 1
MESSAGES, FIFO_MESSAGES = 1_000, 180
FIFO_STEPS = 5


@dataclass(frozen=True, slots=True)
class Storm:
    """A run that is over; its world still stands, for a closer look."""

    world: World
    steps: list[Step]


@pytest.fixture(scope="session")
def storm(emulator: Emulator, code: Artefact, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Storm]:
    """Run the small form once: a standard queue, Thrive over TLS, every shape, everything that can go wrong."""
    steps = schedule(SEED, 1)
    with running_world(emulator, code, tmp_path_factory.mktemp("storm"), name="storm", seed=SEED) as world:
        run(world, workload(MESSAGES, SEED), steps, say=print)
        yield Storm(world, steps)


@pytest.fixture(scope="session")
def fifo_storm(emulator: Emulator, code: Artefact, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Storm]:
    """Run a smaller one on a FIFO queue, with Thrive over plain HTTP."""
    form: dict[str, Any] = {"tls": False, "fifo": True}
    steps = schedule(SEED, 1, **form)[:FIFO_STEPS]
    messages = [message for message in workload(FIFO_MESSAGES, SEED) if message.written.channel == "queue"]
    with running_world(emulator, code, tmp_path_factory.mktemp("fifo"), name="fifo-storm", seed=SEED, **form) as world:
        run(world, messages, steps, say=print, fifo=True)
        yield Storm(world, steps)
