"""The messages that the demo sends: events of every shape, good and bad, each with the expected result."""

from __future__ import annotations

import random
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone
from typing import TYPE_CHECKING

from sandbox.demo.shapes import BAD, GOOD, Completion, Written, channel_of

if TYPE_CHECKING:
    from sandbox.thrive_api import Key

_BAD_SHARE = 0.12
_REPEAT_SHARE = 0.08
_FIRST = datetime(2024, 1, 1, tzinfo=UTC)
_SPAN_SECONDS = 365 * 24 * 3600
_ZONES = (UTC, timezone(timedelta(hours=2)), timezone(-timedelta(hours=9, minutes=30)))


@dataclass(frozen=True, slots=True)
class Recorded:
    """Thrive must have this record."""

    key: Key


@dataclass(frozen=True, slots=True)
class Rejected:
    """The message must be in the dead-letter queue with this reason."""

    reason: str


@dataclass(frozen=True, slots=True)
class Ignored:
    """The message is no completion: nothing may come of it."""


@dataclass(frozen=True, slots=True)
class Message:
    """One message to send and the expected result; `label` names it in the report."""

    label: str
    written: Written
    expected: Recorded | Rejected | Ignored


def generate(number: int, seed: int) -> list[Message]:
    """Return `number` messages: mostly good, some repeats, some bad. The same seed gives the same messages."""
    rng = random.Random(seed)  # noqa: S311 - a repeatable workload, not a secret
    kinds = list(BAD)
    rng.shuffle(kinds)
    messages: list[Message] = []
    sent: list[Completion] = []
    bad = 0
    for index in range(1, number + 1):
        draw = rng.random()
        if draw < _BAD_SHARE:
            # In turn, so that a run of the default length includes every kind.
            kind = kinds[bad % len(kinds)]
            bad += 1
            messages.append(_bad(f"{index} ({kind})", kind, _invent(rng)))
        elif draw < _BAD_SHARE + _REPEAT_SHARE and sent:
            # The repeat may have another shape, and the same moment in another time zone.
            messages.append(_good(f"{index} (repeat)", rng.choice(sent), rng))
        else:
            completion = _invent(rng)
            sent.append(completion)
            messages.append(_good(f"{index}", completion, rng))
    return messages


def invent_time(rng: random.Random) -> datetime:
    """Return a time in whole seconds."""
    return _FIRST + timedelta(seconds=rng.randrange(_SPAN_SECONDS))


def _invent(rng: random.Random) -> Completion:
    at = invent_time(rng)
    if rng.random() < 0.5:  # half of them have whole seconds, half milliseconds
        at += timedelta(milliseconds=rng.randrange(1, 1000))
    return Completion(f"{rng.getrandbits(96):024x}", f"{rng.getrandbits(96):024x}", at)


def _good(label: str, completion: Completion, rng: random.Random) -> Message:
    shape = rng.choice(tuple(GOOD))
    zone = rng.choice(_ZONES)
    written = Written(channel_of(shape), GOOD[shape](completion.fields(zone)))
    return Message(f"{label}, {shape}", written, Recorded(completion.key))


def _bad(label: str, kind: str, completion: Completion) -> Message:
    reason = "refused" if kind.startswith("unknown") else "invalid_message"
    return Message(label, Written(channel_of(kind), BAD[kind](completion.fields())), Rejected(reason))
