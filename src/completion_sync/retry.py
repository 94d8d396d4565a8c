"""Time: the clock, the deadline of an invocation, retries within it, and the backoff between deliveries."""

from __future__ import annotations

import math
import random
import re
import time
from dataclasses import dataclass
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Protocol, TypeVar

from .errors import TemporaryError

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")

MAX_ATTEMPTS = 3
# What one invocation waits at the most for one more attempt: waiting in Lambda costs money, waiting in SQS does not.
MAX_WAIT_SECONDS = 2.0
_FIRST_WAIT_SECONDS = 0.2
# Less than this is not worth an attempt: it would time out with the request perhaps received.
MIN_ATTEMPT_SECONDS = 0.2
# SQS allows twelve hours of invisibility in total, counted from the receive.
MAX_VISIBILITY_SECONDS = 43_200
# A record may have waited in Lambda's batching window, five minutes at most, before the function saw it.
_MAX_BATCHING_WINDOW_SECONDS = 300

_DELAY_SECONDS = re.compile(r"(\d+)(\.\d+)?", re.ASCII)
_MAX_DIGITS = 9


@dataclass(frozen=True, slots=True)
class Instant:
    """A moment on both clocks, in seconds."""

    wall: float
    monotonic: float


class Clock(Protocol):
    """The source of time, and the only sleeper: tests pass a virtual one."""

    def now(self) -> Instant:
        """Read both clocks."""
        ...

    def sleep(self, seconds: float) -> None:
        """Let ``seconds`` pass."""
        ...


class SystemClock:
    """The machine's clocks."""

    def now(self) -> Instant:
        """Read both clocks."""
        return Instant(time.time(), time.monotonic())

    def sleep(self, seconds: float) -> None:
        """Let ``seconds`` pass."""
        time.sleep(seconds)


def elapsed(since: Instant, now: Instant) -> float:
    """Give the seconds between two moments, by the clock that says more.

    A frozen execution environment stops the monotonic clock, and the wall clock may step back: whichever stood still,
    the other one knows.
    """
    return max(now.wall - since.wall, now.monotonic - since.monotonic)


def is_within(seconds: float, since: Instant, now: Instant) -> bool:
    """Tell whether a failure of ``since`` is still to be remembered, for ``seconds`` in all.

    Not once the wall clock has stepped back: in an environment that was frozen meanwhile neither clock would tell, and
    one second could last for hours.
    """
    return now.wall >= since.wall and elapsed(since, now) < seconds


class Deadline:
    """The moment by which a piece of work must have ended. Within one invocation nothing freezes: monotonic time."""

    def __init__(self, clock: Clock, seconds: float) -> None:
        self._clock = clock
        self._end = clock.now().monotonic + seconds

    def remaining(self) -> float:
        """Give the seconds that are left, 0.0 when it has passed."""
        return max(0.0, self._end - self._clock.now().monotonic)


class RetryPolicy:
    """At most three attempts within one invocation, only while the wait is short and time is left."""

    def __init__(self, clock: Clock, uniform: Callable[[float, float], float] = random.uniform) -> None:
        self._clock = clock
        self._uniform = uniform

    def call(self, operation: Callable[[], T], deadline: Deadline) -> T:
        """Run ``operation`` until it returns, fails for good, or another attempt cannot be afforded.

        :raises TemporaryError: the last one, where ``operation`` kept raising it. Any other error passes at once.
        """
        attempt = 1
        while True:
            try:
                return operation()
            except TemporaryError as error:
                wait = self._wait(attempt, error.retry_after)
                if attempt == MAX_ATTEMPTS or wait is None or wait + MIN_ATTEMPT_SECONDS > deadline.remaining():
                    raise
            self._clock.sleep(wait)
            attempt += 1

    def _wait(self, attempt: int, retry_after: float | None) -> float | None:
        longest = _FIRST_WAIT_SECONDS * 2 ** (attempt - 1)
        wait = max(self._uniform(longest / 2, longest), retry_after or 0.0)
        return wait if wait <= MAX_WAIT_SECONDS else None


class Backoff:
    """How long a deferred message stays away: ``min(cap, base * 2 ** (receive count - 1))``, between half and whole."""

    def __init__(self, base: float, cap: float, uniform: Callable[[float, float], float] = random.uniform) -> None:
        self._base = base
        self._cap = cap
        self._uniform = uniform

    def seconds(self, receive_count: int, retry_after: float | None = None, passed: float = 0.0) -> int:
        """Give whole seconds; a longer ``retry_after`` wins.

        Never more than what SQS still allows, ``passed`` seconds after the invocation began.
        """
        # 2^30 seconds are 34 years: beyond, the power itself would overflow before the cap is applied.
        whole = min(self._cap, self._base * 2 ** min(max(receive_count, 1) - 1, 30))
        wait = max(self._uniform(whole / 2, whole), retry_after or 0.0)
        allowed = MAX_VISIBILITY_SECONDS - _MAX_BATCHING_WINDOW_SECONDS - math.ceil(passed)
        return max(0, min(math.ceil(wait), allowed))


def parse_retry_after(value: str | None, now: Instant) -> float | None:
    """Read a ``Retry-After`` header (RFC 9110, section 10.2.3) tolerantly: seconds, decimals too, or an HTTP date.

    :returns: seconds from now, at most twelve hours; None where the header is absent, unreadable or says nothing.
    """
    if value is None:
        return None
    text = value.strip()
    if match := _DELAY_SECONDS.fullmatch(text):
        seconds = float(text) if len(match[1]) <= _MAX_DIGITS else float(MAX_VISIBILITY_SECONDS)
    else:
        try:
            date = parsedate_to_datetime(text)
            # RFC 9110, section 5.6.7: every date is in UTC, also in the form that does not say so (asctime).
            seconds = (date if date.tzinfo else date.replace(tzinfo=UTC)).timestamp() - now.wall
        except (ValueError, OverflowError):
            return None
    return min(seconds, float(MAX_VISIBILITY_SECONDS)) if seconds > 0 else None
