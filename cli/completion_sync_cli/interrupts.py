"""Ctrl-C and SIGTERM: the first one stops after the current call, the second one at once."""

from __future__ import annotations

import signal
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from completion_sync.clock import SystemClock

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from completion_sync.clock import Clock, Instant

_SLICE_SECONDS = 0.1


class Stop:
    """Whether the operator wants the command to stop."""

    def __init__(self) -> None:
        self.requested = False

    @contextmanager
    def watched(self, announce: Callable[[str], None]) -> Iterator[None]:
        """Within this block, the first Ctrl-C or SIGTERM sets :attr:`requested`; the next raises KeyboardInterrupt."""

        def on_signal(_number: int, _frame: Any) -> None:
            if self.requested:
                raise KeyboardInterrupt
            self.requested = True
            announce("Stopping after the current call. Press Ctrl-C again to stop at once.")

        if threading.current_thread() is not threading.main_thread():
            yield
            return
        previous = {number: signal.signal(number, on_signal) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in previous.items():
                signal.signal(number, handler)


class StoppableClock(SystemClock):
    """The machine's clocks, with a sleep that ends early when the operator wants to stop."""

    def __init__(self, stop: Stop) -> None:
        self._stop = stop

    def sleep(self, seconds: float) -> None:
        """Sleep, and check every tenth of a second whether to stop."""
        end = time.monotonic() + seconds
        # Not an Event: setting one in a signal handler can deadlock with the wait that it interrupts.
        while not self._stop.requested and (left := end - time.monotonic()) > 0:
            time.sleep(min(left, _SLICE_SECONDS))


class InterruptingClock:
    """A clock whose sleep raises KeyboardInterrupt when the operator wants to stop; for work that needs no clean-up."""

    def __init__(self, clock: Clock, stop: Stop) -> None:
        self._clock = clock
        self._stop = stop

    def now(self) -> Instant:
        """Read both clocks."""
        return self._clock.now()

    def sleep(self, seconds: float) -> None:
        """Sleep for ``seconds``."""
        self._clock.sleep(seconds)
        if self._stop.requested:
            raise KeyboardInterrupt
