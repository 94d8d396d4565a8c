"""The built function in Lambda's runtime, between an AWS emulator and a stand-in Thrive API; one stack per test."""

from __future__ import annotations

import itertools
import json
import time
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from sandbox.pipeline import mail
from sandbox.pipeline.rig import Plan, Rig, running_rig

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from sandbox.pipeline.artefact import Artefact
    from sandbox.pipeline.emulator import Emulator
    from tests.support.thrive import ContractedStandIn

# Waits end as soon as what they wait for is there; this only ends a test that hangs.
PATIENCE = 30.0
# Redelivery within seconds, not minutes; whatever else differs from the template is said by the test.
HURRY = {"BACKOFF_BASE_SECONDS": "1", "BACKOFF_CAP_SECONDS": "1"}

_numbers = itertools.count(1)


@pytest.fixture(scope="session", autouse=True)
def _runtime(lambda_runtime: None) -> None:
    """No test of this folder runs without it."""


def completion(number: int, **changes: object) -> dict[str, Any]:
    """Return the fields of a completion of its own for each number."""
    return {"userId": f"user-{number}", "contentId": "content", "completedAt": "2024-05-01T09:00:00Z", **changes}


@dataclass(frozen=True, slots=True)
class Pipeline:
    """A rig with the stand-in behind it, and the few things that tests do with the two."""

    rig: Rig
    thrive: ContractedStandIn

    def send(self, *messages: object, group: str | None = None) -> list[str]:
        """Send bodies (texts as they are, all else as JSON) to the queue and return the message ids."""
        bodies = [message if isinstance(message, str) else json.dumps(message) for message in messages]
        return mail.send(self.rig.emulator.sqs, self.rig.queue_url, bodies, group=group)

    def run_until_empty(self) -> None:
        """Poll until nothing is left in the source queue, then stop."""
        self.rig.poller.start()
        self.wait(lambda: self.rig.backlog() == 0)
        self.rig.poller.stop()

    def wait(self, condition: Callable[[], object]) -> None:
        """Wait until the condition holds."""
        deadline = time.monotonic() + PATIENCE
        while not condition():
            self.rig.poller.check()
            assert time.monotonic() < deadline, f"not in time; the poller counted {self.rig.poller.counts}"
            time.sleep(0.02)

    def recorded(self) -> list[str]:
        """Return the user ids in Thrive's ledger, in order of their names."""
        return sorted(entry.key.user_id for entry in self.thrive.ledger)


@pytest.fixture
def make_pipeline(
    emulator: Emulator, code: Artefact, thrive: ContractedStandIn, tmp_path: Path
) -> Iterator[Callable[..., Pipeline]]:
    """Return what deploys a stack of the test's own; keyword arguments are those of `Plan`."""
    with ExitStack() as cleanup:

        def make(*, environments: int = 1, overrides: Mapping[str, str] | None = None, **plan: Any) -> Pipeline:
            name = f"test-{next(_numbers)}"
            chosen = Plan(environments=environments, overrides={**HURRY, **(overrides or {})}, **plan)
            rig = cleanup.enter_context(running_rig(emulator, thrive, code, tmp_path / name, name=name, plan=chosen))
            return Pipeline(rig, thrive)

        yield make


def users(numbers: Sequence[int]) -> list[str]:
    """Return the user ids of these completions, in order of their names."""
    return sorted(f"user-{number}" for number in numbers)
