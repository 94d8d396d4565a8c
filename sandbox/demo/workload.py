"""What the demonstration sends: events of every shape, good and bad, each with what must become of it.

The same number and the same seed give the same messages.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone
from typing import TYPE_CHECKING

from sandbox.demo.shapes import BAD, GOOD, Channel, Completion, Written

if TYPE_CHECKING:
    from sandbox.thrive_api import Key

_BAD_SHARE = 0.12
_REPEAT_SHARE = 0.08
_FIRST = datetime(2024, 1, 1, tzinfo=UTC)
_SPAN_SECONDS = 365 * 24 * 3600
_ZONES = (UTC, timezone(timedelta(hours=2)), timezone(-timedelta(hours=9, minutes=30)))


@dataclass(frozen=True, slots=True)
class Recorded:
    """The completion must stand in Thrive, once, as this record."""

    key: Key


@dataclass(frozen=True, slots=True)
class Rejected:
    """The message must stand in the dead-letter queue with this reason."""

    reason: str


@dataclass(frozen=True, slots=True)
class Message:
    """One message to send and what must become of it; `label` names it to people."""

    label: str
    written: Written
    expected: Recorded | Rejected


def generate(number: int, seed: int) -> list[Message]:
    """Return `number` messages (at least one): mostly good, some repeats, some bad ones of every kind."""
    rng = random.Random(seed)  # noqa: S311 - a workload that can be repeated, no secret
    kinds = list(BAD)
    rng.shuffle(kinds)
    messages: list[Message] = []
    sent: list[Completion] = []
    bad = 0
    for index in range(number):
        draw = rng.random()
        if draw < _BAD_SHARE:
            # In turn, so that a run of ordinary length has all kinds.
            kind = kinds[bad % len(kinds)]
            bad += 1
            messages.append(_bad(f"{index + 1} ({kind})", kind, _invent(rng)))
        elif draw < _BAD_SHARE + _REPEAT_SHARE and sent:
            # A repeat in whatever shape: the same moment may be written in another time zone.
            messages.append(_good(f"{index + 1} (repeat)", rng.choice(sent), rng))
        else:
            completion = _invent(rng)
            sent.append(completion)
            messages.append(_good(f"{index + 1}", completion, rng))
    return messages


def _invent(rng: random.Random) -> Completion:
    at = _FIRST + timedelta(seconds=rng.randrange(_SPAN_SECONDS))
    if rng.random() < 0.5:  # half of them to the second, half to the millisecond
        at += timedelta(milliseconds=rng.randrange(1, 1000))
    return Completion(f"{rng.getrandbits(96):024x}", f"{rng.getrandbits(96):024x}", at)


def _good(name: str, completion: Completion, rng: random.Random) -> Message:
    shape = rng.choice(tuple(GOOD))
    zone = rng.choice(_ZONES)
    return Message(f"{name}, {shape}", GOOD[shape](completion, zone), Recorded(completion.key))


def _bad(label: str, kind: str, completion: Completion) -> Message:
    reason = "refused" if kind.startswith("unknown") else "invalid_message"
    channel: Channel = "bus" if kind.endswith("on the bus") else "queue"
    return Message(label, Written(channel, BAD[kind](completion.fields())), Rejected(reason))
