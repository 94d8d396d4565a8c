"""The runs that the chaos tests look at: each is over when a test sees its world."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.chaos.run import run, workload
from tests.chaos.schedule import schedule
from tests.chaos.world import running_world

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sandbox.pipeline.artefact import Artefact
    from sandbox.pipeline.emulator import Emulator
    from tests.chaos.world import World

SEED = 1
MESSAGES, FIFO_MESSAGES = 1_000, 180
FIFO_STEPS = 5


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let each storm run in one process only, with pytest-xdist's `--dist loadgroup`."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            storms = {"storm", "fifo_storm"}.intersection(getattr(item, "fixturenames", ()))
            item.add_marker(pytest.mark.xdist_group(min(storms, default="storm")))


@pytest.fixture(scope="session")
def storm(emulator: Emulator, code: Artefact, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """Run the small form once: a standard queue, Thrive over TLS, every shape, everything that can go wrong."""
    with running_world(emulator, code, tmp_path_factory.mktemp("storm"), name="storm", seed=SEED) as world:
        run(world, workload(MESSAGES, SEED), schedule(SEED, 1), say=print)
        yield world


@pytest.fixture(scope="session")
def fifo_storm(emulator: Emulator, code: Artefact, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """Run a smaller one on a FIFO queue, with Thrive over plain HTTP."""
    steps = schedule(SEED, 1, tls=False, fifo=True)[:FIFO_STEPS]
    messages = [message for message in workload(FIFO_MESSAGES, SEED) if message.written.channel == "queue"]
    folder = tmp_path_factory.mktemp("fifo")
    with running_world(emulator, code, folder, name="fifo-storm", seed=SEED, tls=False, fifo=True) as world:
        run(world, messages, steps, say=print, fifo=True)
        yield world
