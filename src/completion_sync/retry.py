"""Retries within an invocation, and the backoff between deliveries."""

from __future__ import annotations

import math
import random
import re
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, TypeVar

from .errors import HeldError, OutOfTimeError, TemporaryError
from .pressure import MAX_WAIT_SECONDS, MIN_ATTEMPT_SECONDS

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

    from .clock import Clock, Deadline, Instant
    from .pressure import Pressure

T = TypeVar("T")

MAX_ATTEMPTS = 3
_FIRST_WAIT_SECONDS = 0.2
# The longest that a server may send us away, whatever it says.
MAX_RETRY_AFTER_SECONDS = 3600.0
SHORTEST_PERSON_WAIT_SECONDS, LONGEST_PERSON_WAIT_SECONDS = 300.0, 21_600.0
# SQS allows twelve hours of invisibility in total, counted from the receive.
MAX_VISIBILITY_SECONDS = 43_200
# A record may have waited in Lambda's batching window, at most five minutes, before the function saw it.
_MAX_BATCHING_WINDOW_SECONDS = 300

_DELAY_SECONDS = re.compile(r"(\d+)(\.\d+)?", re.ASCII)
_MAX_DIGITS = 9


class RetryPolicy:
    """At most three attempts within one invocation, only while the wait is short and time is left."""

    def __init__(self, clock: Clock, uniform: Callable[[float, float], float] = random.uniform) -> None:
        self._clock = clock
        self._uniform = uniform

    def call(
        self,
        operation: Callable[[], T],
        deadline: Deadline,
        pressure: Pressure,
        subject: Hashable,
        *,
        probing: bool = False,
    ) -> T:
        """Run ``operation`` until it returns, fails for good, or another attempt is not worth it.

        Failures are reported to ``pressure``; ``operation`` itself reports answers, as it can tell them apart.

        :param subject: what the call is about.
        :param probing: the operation probes an outage: one attempt only.
        :raises HeldError: ``pressure`` allows no attempt at all.
        :raises TemporaryError: the last one raised by ``operation``. Any other error passes at once.
        """
        failure: TemporaryError | None = None
        attempts = 0
        while True:
            try:
                sent = pressure.admit(deadline, probing=probing)
            except HeldError as held:
                if failure is None:
                    raise
                failure.retry_after = _longer(failure.retry_after, held.retry_after)
                raise failure from None
            try:
                return operation()
            except TemporaryError as error:
                failure = error
            attempts += 1
            if failure.reason == "rate_limited":
                # The pause itself is waited for before the next attempt is admitted.
                failure.retry_after = _longer(failure.retry_after, pressure.throttled(sent, failure.retry_after))
                wait = 0.0
            else:
                if probing:
                    pressure.probe_failed(subject)
                else:
                    pressure.failed(subject)
                wait = self._wait(attempts, failure.retry_after)
            is_last = probing or attempts == MAX_ATTEMPTS or pressure.is_out
            if is_last or wait > MAX_WAIT_SECONDS or wait + MIN_ATTEMPT_SECONDS > deadline.remaining():
                raise failure
            if wait > 0:
                self._clock.sleep(wait)

    def _wait(self, attempts: int, retry_after: float | None) -> float:
        longest = _FIRST_WAIT_SECONDS * 2.0 ** (attempts - 1)
        return max(self._uniform(longest / 2, longest), retry_after or 0.0)


def attempt_within(deadline: Deadline, timeout: float, send: Callable[[float], T]) -> T:
    """Call ``send`` with the seconds that one attempt may take: ``timeout``, or what is left until the deadline.

    :raises OutOfTimeError: too little time is left for an attempt, or the deadline came before the answer. Unlike a
        :class:`TemporaryError`, which passes, neither says anything about the server.
    """
    remaining = deadline.remaining()
    if remaining < MIN_ATTEMPT_SECONDS:
        raise OutOfTimeError
    try:
        return send(min(timeout, remaining))
    except TemporaryError:
        if remaining < timeout and deadline.remaining() < MIN_ATTEMPT_SECONDS:
            raise OutOfTimeError("the function's deadline came before the answer") from None
        raise


class Backoff:
    """How long a deferred message stays away: ``min(cap, base * 2 ** (receive count - 1))``, between half and whole."""

    def __init__(self, base: float, cap: float, uniform: Callable[[float, float], float] = random.uniform) -> None:
        self._base = base
        self._cap = cap
        self._uniform = uniform

    def for_unknown_person(self, age: float, passed: float = 0.0) -> int:
        """Return whole seconds for a message of this age that waits for a person to be created in Thrive.

        Between half and the whole of the age, within bounds: three days cost about twenty receives.
        """
        whole = min(LONGEST_PERSON_WAIT_SECONDS, max(SHORTEST_PERSON_WAIT_SECONDS, age))
        return _allowed(self._uniform(whole / 2, whole), passed)

    def seconds(self, receive_count: int, retry_after: float | None = None, passed: float = 0.0) -> int:
        """Return whole seconds; a longer ``retry_after`` wins.

        Never more than SQS still allows, ``passed`` seconds after the invocation began.
        """
        # 2^30 seconds are 34 years: beyond that, the power itself would overflow before the cap is applied.
        whole = min(self._cap, self._base * 2 ** min(max(receive_count, 1) - 1, 30))
        return _allowed(max(self._uniform(whole / 2, whole), retry_after or 0.0), passed)


def _allowed(wait: float, passed: float) -> int:
    allowed = MAX_VISIBILITY_SECONDS - _MAX_BATCHING_WINDOW_SECONDS - math.ceil(passed)
    return max(0, min(math.ceil(wait), allowed))


def parse_retry_after(value: str | None, now: Instant) -> float | None:
    """Parse a ``Retry-After`` header (RFC 9110, section 10.2.3) tolerantly: seconds, also with decimals, or a date.

    :returns: seconds from now, at most an hour; None if the header is absent, unreadable or not in the future.
    """
    if value is None:
        return None
    text = value.strip()
    if match := _DELAY_SECONDS.fullmatch(text):
        seconds = float(text) if len(match[1]) <= _MAX_DIGITS else MAX_RETRY_AFTER_SECONDS
    else:
        try:
            date = parsedate_to_datetime(text)
            # RFC 9110, section 5.6.7: every date is in UTC, also in the form that does not say so (asctime).
            seconds = (date if date.tzinfo else date.replace(tzinfo=UTC)).timestamp() - now.wall
        except (ValueError, OverflowError):
            return None
    return min(seconds, MAX_RETRY_AFTER_SECONDS) if seconds > 0 else None


def _longer(one: float | None, other: float | None) -> float | None:
    return max(one or 0.0, other or 0.0) or None
