"""The order of events: which things go wrong together, step by step. One seed gives one schedule."""

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
    """What goes wrong at the same time, while one share of the messages is sent: names of `acts`."""

    thrive: tuple[str, ...]
    aws: tuple[str, ...]
    environment: str

    def __str__(self) -> str:
        return "; ".join((*self.thrive, *self.aws, self.environment))


def schedule(seed: int, rounds: int, *, tls: bool = True, fifo: bool = False) -> list[Step]:
    """Shuffle what can go wrong, by `seed`; each round has everything that can go wrong at Thrive once.

    What else there is comes in turn, as often as there are steps for it: one round has all of that too.
    """
    rng = random.Random(seed)
    thrive = [step for _ in range(rounds) for step in _one_round(rng, tls=tls)]
    steps = len(thrive)
    # A FIFO queue delivers a message twice only when its visibility ends, which the kills see to.
    environment = [name for name in acts.ENVIRONMENT if not (fifo and name == "delivered twice")]
    by_action = {action: iter(_in_turn(rng, steps, list(faults))) for action, faults in acts.AWS.items()}
    chosen = _in_turn(rng, steps, environment)
    return [
        Step(
            thrive[number],
            # Secrets Manager fails in every second step only: while it does, whole batches wait.
            tuple(next(faults) for action, faults in by_action.items() if number % 2 or action != "GetSecretValue"),
            chosen[number],
        )
        for number in range(steps)
    ]


def kinds(steps: Iterable[Step]) -> set[str]:
    """Name everything that goes wrong in these steps."""
    return {name for step in steps for name in (*step.thrive, *step.aws, step.environment)}


def _one_round(rng: random.Random, *, tls: bool) -> list[tuple[str, ...]]:
    # Two faults of single answers go well together; what concerns all requests would hide any other.
    single = rng.sample(list(acts.ANSWERS), len(acts.ANSWERS))
    pairs = [tuple(single[start : start + 2]) for start in range(0, len(single), 2)]
    alone = [(name,) for name in [*acts.THRIVE, *(acts.TLS if tls else ())] if name not in acts.ANSWERS]
    return rng.sample([*pairs, *alone], len(pairs) + len(alone))


def _in_turn(rng: random.Random, number: int, names: list[str]) -> list[str]:
    rng.shuffle(names)
    return list(islice(cycle(names), number))
