"""Time: two clocks, the age of things by both, and the deadline of an invocation."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Instant:
    """A moment on both clocks, in seconds."""

    wall: float
    monotonic: float


class Clock(Protocol):
    """The source of time, and the only place that sleeps: tests pass a virtual one."""

    def now(self) -> Instant:
        """Read both clocks."""
        ...

    def sleep(self, seconds: float) -> None:
        """Sleep for ``seconds``."""
        ...


class SystemClock:
    """The machine's clocks."""

    def now(self) -> Instant:
        """Read both clocks."""
        return Instant(time.time(), time.monotonic())

    def sleep(self, seconds: float) -> None:
        """Sleep for ``seconds``."""
        time.sleep(seconds)


def elapsed(since: Instant, now: Instant) -> float:
    """Return the seconds between two moments, by the clock that shows more.

    A frozen execution environment stops the monotonic clock, and the wall clock may step back. Whichever of them stood
    still, the other one knows.
    """
    return max(now.wall - since.wall, now.monotonic - since.monotonic)


def is_within(seconds: float, since: Instant, now: Instant) -> bool:
    """Return whether something that began at ``since`` and holds for ``seconds`` still holds.

    It does not after the wall clock has stepped back: if the environment was frozen meanwhile, neither clock can tell
    how long, and one second could last for hours.
    """
    return now.wall >= since.wall and elapsed(since, now) < seconds


class Deadline:
    """The moment by which some work must end. Nothing freezes within an invocation, so this is monotonic time."""

    def __init__(self, clock: Clock, seconds: float) -> None:
        self._clock = clock
        self._end = clock.now().monotonic + seconds

    def remaining(self) -> float:
        """Return the seconds left, 0.0 once it has passed."""
        return max(0.0, self._end - self._clock.now().monotonic)
