"""The order of events: what goes wrong at the same time, step by step. One seed gives one schedule."""

from __future__ import annotations

import random
from itertools import cycle, islice
from typing import TYPE_CHECKING

from tests.chaos import acts

if TYPE_CHECKING:
    from collections.abc import Iterable

# What goes wrong while one share of the messages is sent, by name. The last one concerns the environments.
Step = tuple[str, ...]


def schedule(seed: int, rounds: int, *, tls: bool = True, fifo: bool = False) -> list[Step]:
    """Shuffle what can go wrong, by `seed`; each round has everything that can go wrong at Thrive once.

    Everything else takes turns; there are enough steps for all of it in one round.
    """
    rng = random.Random(seed)
    thrive = [step for _ in range(rounds) for step in _one_round(rng, tls=tls)]
    aws = {action: _in_turn(rng, len(thrive), faults) for action, faults in acts.AWS.items()}
    # A FIFO queue delivers a message twice only when its visibility ends, which the kills see to.
    environment = _in_turn(rng, len(thrive), acts.ENVIRONMENT.keys() - ({"delivered twice"} if fifo else set()))
    return [
        (
            *step,
            # Secrets Manager fails in every second step only: while it does, whole batches wait.
            *(names[number] for action, names in aws.items() if number % 2 or action != "GetSecretValue"),
            environment[number],
        )
        for number, step in enumerate(thrive)
    ]


def _one_round(rng: random.Random, *, tls: bool) -> list[Step]:
    # Two faults of single answers go well together; what concerns all requests would hide any other.
    single = rng.sample(list(acts.ANSWERS), len(acts.ANSWERS))
    pairs = list(zip(single[::2], single[1::2], strict=True))
    alone = [(name,) for name in [*acts.THRIVE, *(acts.TLS if tls else ())] if name not in acts.ANSWERS]
    return rng.sample([*pairs, *alone], len(pairs) + len(alone))


def _in_turn(rng: random.Random, number: int, names: Iterable[str]) -> list[str]:
    shuffled = sorted(names)
    rng.shuffle(shuffled)
    return list(islice(cycle(shuffled), number))
