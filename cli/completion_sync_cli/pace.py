"""A rate that is kept: no burst makes up for a pause."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from completion_sync.clock import Clock


class Pace:
    """At most ``per_second`` messages a second, over any stretch of time, plus one batch."""

    def __init__(self, per_second: float, clock: Clock) -> None:
        self.per_second = per_second
        self._clock = clock
        self._next = clock.now().monotonic

    @property
    def batch_size(self) -> int:
        """How many messages to send in one call: not more than a second's worth."""
        return max(1, min(10, int(self.per_second)))

    def wait(self, messages: int) -> None:
        """Wait until so many messages may be sent."""
        now = self._clock.now().monotonic
        if self._next > now:
            self._clock.sleep(self._next - now)
        self._next = max(self._next, now) + messages / self.per_second
