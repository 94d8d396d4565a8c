"""The order of events: what goes wrong at the same time, step by step. One seed gives one schedule."""

from __future__ import annotations

import random
from dataclasses import dataclass
from itertools import cycle, islice
from typing import TYPE_CHECKING

from tests.chaos import acts

if TYPE_CHECKING:
    from collections.abc import Iterable


@dataclass(frozen=True, slots=True)
class Step:
    """What goes wrong while one share of the messages is sent: names of `acts`."""

    thrive: tuple[str, ...]
    aws: tuple[str, ...]
    environment: str

    def __str__(self) -> str:
        return "; ".join((*self.thrive, *self.aws, self.environment))


def schedule(seed: int, rounds: int, *, tls: bool = True, fifo: bool = False) -> list[Step]:
    """Shuffle what can go wrong, by `seed`; each round has everything that can go wrong at Thrive once.

    Everything else takes turns; there are steps enough for all of it in one round.
    """
    rng = random.Random(seed)
    thrive = [step for _ in range(rounds) for step in _one_round(rng, tls=tls)]
    by_action = {action: _in_turn(rng, len(thrive), faults) for action, faults in acts.AWS.items()}
    # A FIFO queue delivers a message twice only when its visibility ends, which the kills see to.
    environment = _in_turn(
        rng, len(thrive), (name for name in acts.ENVIRONMENT if not (fifo and name == "delivered twice"))
    )
    # Secrets Manager fails in every second step only: while it does, whole batches wait.
    aws = [
        tuple(faults[number] for action, faults in by_action.items() if number % 2 or action != "GetSecretValue")
        for number in range(len(thrive))
    ]
    return [Step(*together) for together in zip(thrive, aws, environment, strict=True)]


def kinds(steps: Iterable[Step]) -> set[str]:
    """Return everything that goes wrong in these steps."""
    return {name for step in steps for name in (*step.thrive, *step.aws, step.environment)}


def _one_round(rng: random.Random, *, tls: bool) -> list[tuple[str, ...]]:
    # Two faults of single answers go well together; what concerns all requests would hide any other.
    single = rng.sample(list(acts.ANSWERS), len(acts.ANSWERS))
    pairs = list(zip(single[::2], single[1::2], strict=True))
    alone = [(name,) for name in [*acts.THRIVE, *(acts.TLS if tls else ())] if name not in acts.ANSWERS]
    return rng.sample([*pairs, *alone], len(pairs) + len(alone))


def _in_turn(rng: random.Random, number: int, names: Iterable[str]) -> list[str]:
    shuffled = list(names)
    rng.shuffle(shuffled)
    return list(islice(cycle(shuffled), number))
