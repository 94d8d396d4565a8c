"""Under pressure: what is wrong with all of Thrive is found out once, not message by message.

Each kind of call (completions, lookups of people, tokens) has a :class:`Pressure` of its own. The threads of an
execution environment share it, and it is remembered from one invocation to the next. docs/outages.md shows what the
rules are worth, decision 10 why they are as they are.

- **Throttling.** A 429 pauses all calls, for ``Retry-After`` or for a growing time. The first one also sets a pace in
  calls a second, which every later pause lowers and every answer raises a little.
- **Outage.** When two attempts in a row of each of three different subjects have failed, in one invocation or in
  several, and Thrive has answered nothing in the meantime, the environment is in outage: nothing is sent but a probe
  now and then. A single subject that always fails does not cause one, and a failed probe is followed by one with a
  second subject, so that nothing waits for a sick one.

A subject is what a call is about: a completion, a reference, a tenant's credentials.
"""

from __future__ import annotations

import random
import threading
from collections import deque
from typing import TYPE_CHECKING

from .clock import Clock, Deadline, Instant, elapsed, is_within
from .errors import HeldError

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

# What an invocation waits at most for one more attempt: waiting in Lambda costs money, waiting in SQS does not.
MAX_WAIT_SECONDS = 2.0
# Less than this is not worth an attempt: it would time out, with the request perhaps received.
MIN_ATTEMPT_SECONDS = 0.2
# Rounding may leave a rest of a wait that is too small to move a clock, over and over.
_SHORTEST_SLEEP_SECONDS = 0.001

FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 0.2, 60.0
# Factor of the pace at each pause, what each answer adds to it in calls a second, and the slowest pace.
SLOWER, FASTER, SLOWEST = 0.8, 0.05, 0.5
# A pace that has held nothing back for this long is dropped.
PACE_SECONDS = 10.0

SUBJECTS_OF_AN_OUTAGE = 3
FIRST_PROBE_SECONDS, LONGEST_PROBE_SECONDS = 1.0, 10.0
# How many subjects with failed attempts are remembered.
_MAX_REMEMBERED = 1000


class Pressure:
    """What one kind of call has met lately, and what follows from it for the next. May be called from any thread."""

    def __init__(
        self,
        what: str,
        clock: Clock,
        count: Callable[[str], None],
        announce: Callable[[str], None],
        *,
        subjects_of_an_outage: int = SUBJECTS_OF_AN_OUTAGE,
        below: Pressure | None = None,
        uniform: Callable[[float, float], float] = random.uniform,
    ) -> None:
        """Start without any pressure.

        :param what: names the calls in the log, such as ``completions``.
        :param count: called with ``OutageProbes``.
        :param announce: called with a line for the log when a pause or an outage begins or ends.
        :param below: pauses and outages of these calls hold this kind too, but not the reverse.
        """
        self._what = what
        self._clock = clock
        self._count = count
        self._announce = announce
        self._subjects = subjects_of_an_outage
        self._below = below
        self._uniform = uniform
        self._lock = threading.Lock()
        self.reset()

    def reset(self) -> None:
        """Forget everything."""
        self._throttle = Throttle(self._uniform)
        self._outage = Outage(self._subjects)
        self._is_paused = False

    @property
    def is_out(self) -> bool:
        """Whether there is an outage."""
        return self._outage.began is not None

    def pause(self) -> float:
        """Return the seconds until a pause of these calls is over; 0.0 if there is none."""
        with self._lock:
            return self._throttle.paused_for(self._clock.now())

    def is_holding(self) -> bool:
        """Return whether a call would now be held back or have to wait for the end of a pause."""
        return self.is_out or self.pause() > 0

    def admit(self, deadline: Deadline, *, probing: bool = False) -> Instant:
        """Wait for the pause and for the pace; return when the wait was over, for :meth:`throttled`.

        :raises HeldError: ``unavailable``: there is an outage, and this is no probe; ``rate_limited``: the wait is too
            long.
        """
        has_slot = False
        while True:
            with self._lock:
                now = self._clock.now()
                self._raise_if_out(probing=probing)
                pause = self._paused_for(now)
                left = deadline.remaining() - MIN_ATTEMPT_SECONDS
                wait: float | None
                if pause > 0:
                    wait = pause if pause <= min(MAX_WAIT_SECONDS, left) else None
                elif has_slot:
                    wait = 0.0
                else:
                    wait = self._throttle.take_slot(now, left)
            if wait is None:
                raise HeldError("rate_limited", "held back: Thrive limits the rate of calls", retry_after=pause or None)
            if wait == 0:
                break
            self._clock.sleep(max(wait, _SHORTEST_SLEEP_SECONDS))
            # A pause that began meanwhile voids the slot.
            has_slot = pause == 0
        self._announce_resumption()
        if probing:
            self._count("OutageProbes")
        return now

    def answered(self) -> None:
        """Note an answer other than 429: it ends an outage."""
        with self._lock:
            now = self._clock.now()
            self._throttle.answered(now)
            outage = self._end_outage(now)
        self._announce_end(outage)

    def throttled(self, sent: Instant, retry_after: float | None) -> float:
        """Note a 429 to a call of ``sent``; return the seconds until calls may go on."""
        with self._lock:
            now = self._clock.now()
            outage = self._end_outage(now)
            is_new = self._throttle.throttled(sent, retry_after, now)
            pause = self._throttle.paused_for(now)
            self._is_paused = self._is_paused or is_new
        self._announce_end(outage)
        if is_new:
            self._announce(f"{self._what}: paused for {pause:.1f} s, as Thrive answered 429")
        return pause

    def failed(self, subject: Hashable) -> None:
        """Note an attempt without an answer. Two in a row make the subject one that has failed."""
        with self._lock:
            has_begun = self._outage.failed(subject, self._clock.now())
        if has_begun:
            self._announce(f"{self._what}: an outage of Thrive has begun; probing until it answers")

    def is_probe_due(self, subject: Hashable) -> bool:
        """Return whether a probe with this subject may be sent now."""
        with self._lock:
            return self._outage.is_probe_due(subject, self._clock.now())

    def has_failed(self, subject: Hashable) -> bool:
        """Return whether an attempt with this subject has failed since Thrive last answered."""
        with self._lock:
            return self._outage.has_failed(subject)

    def probe_failed(self, subject: Hashable) -> None:
        """Note that a probe got no answer."""
        with self._lock:
            self._outage.probe_failed(subject, self._clock.now())

    def _raise_if_out(self, *, probing: bool) -> None:
        if not probing and (self.is_out or (self._below is not None and self._below.is_out)):
            raise HeldError("unavailable", "held back: Thrive has not been answering")

    def _paused_for(self, now: Instant) -> float:
        pause = self._throttle.paused_for(now)
        return pause if self._below is None else max(pause, self._below.pause())

    def _end_outage(self, now: Instant) -> float | None:
        began = self._outage.began
        self._outage.answered()
        return None if began is None else elapsed(began, now)

    def _announce_end(self, outage: float | None) -> None:
        if outage is not None:
            self._announce(f"{self._what}: Thrive answers again after an outage of {outage:.1f} s")

    def _announce_resumption(self) -> None:
        with self._lock:
            has_resumed, self._is_paused = self._is_paused, False
        if has_resumed:
            self._announce(f"{self._what}: the pause is over")


class Throttle:
    """The pause and the pace that 429s impose. :class:`Pressure` holds the lock."""

    def __init__(self, uniform: Callable[[float, float], float]) -> None:
        self._uniform = uniform
        self._recent_answers: deque[float] = deque()
        self._pause_began: Instant | None = None
        self._pause_seconds = 0.0
        self._pauses_in_a_row = 0
        self._pace: float | None = None
        self._next_slot = 0.0
        self._held_back: Instant | None = None

    def paused_for(self, now: Instant) -> float:
        """Return the seconds until calls may go on; 0.0 if they may now."""
        if self._pause_began is None or not is_within(self._pause_seconds, self._pause_began, now):
            return 0.0
        return self._pause_seconds - elapsed(self._pause_began, now)

    def take_slot(self, now: Instant, longest: float) -> float | None:
        """Return the seconds until the next slot of the pace, and take it; None if that is longer than ``longest``."""
        if self._pace is None:
            return 0.0
        slot = max(now.monotonic, self._next_slot)
        wait = slot - now.monotonic
        if wait > 0:
            self._held_back = now
        # A slot that is free now is given in any case: without the time for an attempt, the caller is out of time.
        if wait > max(longest, 0.0):
            return None
        self._next_slot = slot + 1 / self._pace
        return wait

    def answered(self, now: Instant) -> None:
        """Note an answer other than 429."""
        self._recent_answers.append(now.monotonic)
        self._forget_answers(now)
        if not self.paused_for(now):
            self._pauses_in_a_row = 0
        if self._pace is not None:
            self._pace += FASTER
            if self._held_back is None or not is_within(PACE_SECONDS, self._held_back, now):
                self._pace = None

    def throttled(self, sent: Instant, retry_after: float | None, now: Instant) -> bool:
        """Note a 429 to a request of ``sent``; return whether it begins a pause.

        It belongs to the last pause if the request was sent before that began: many at once count as one.
        """
        if self._pause_began is not None and sent.monotonic <= self._pause_began.monotonic:
            if retry_after is not None:
                self._pause_seconds = max(self._pause_seconds, elapsed(self._pause_began, now) + retry_after)
            return False
        longest = min(LONGEST_PAUSE_SECONDS, FIRST_PAUSE_SECONDS * 2.0 ** min(self._pauses_in_a_row, 30))
        # Also with Retry-After, in case it is too short each time.
        self._pause_seconds = max(self._uniform(longest / 2, longest), retry_after or 0.0)
        self._pause_began = now
        self._pauses_in_a_row += 1
        self._forget_answers(now)
        pace = float(len(self._recent_answers)) if self._pace is None else self._pace
        self._pace = max(SLOWEST, pace * SLOWER)
        # Slots taken before the pause are void. The pause itself passes in a freeze too, as both clocks judge it.
        self._next_slot = now.monotonic
        self._held_back = now
        return True

    def _forget_answers(self, now: Instant) -> None:
        while self._recent_answers and self._recent_answers[0] < now.monotonic - 1:
            self._recent_answers.popleft()


class Outage:
    """Whether there is an outage, and when it is probed next. :class:`Pressure` holds the lock."""

    def __init__(self, subjects: int) -> None:
        self._subjects = subjects
        # Since the last answer: the subjects with a failed attempt, and those with two.
        self._tried: set[Hashable] = set()
        self._failed: set[Hashable] = set()
        self.began: Instant | None = None
        self._probe_ended: Instant | None = None
        self._interval = FIRST_PROBE_SECONDS
        # What the first probe of a pair was about, until the second one has been sent.
        self._first: Hashable | None = None

    def failed(self, subject: Hashable, now: Instant) -> bool:
        """Note a failed attempt; return whether that begins an outage."""
        if subject in self._tried:
            self._failed.add(subject)
        self._remember(subject)
        if self.began is not None or len(self._failed) < self._subjects:
            return False
        self.began = self._probe_ended = now
        self._interval = FIRST_PROBE_SECONDS
        return True

    def answered(self) -> None:
        """Note an answer: there is no outage, or no longer."""
        self.began = self._probe_ended = self._first = None
        self._tried.clear()
        self._failed.clear()

    def is_probe_due(self, subject: Hashable, now: Instant) -> bool:
        """Return whether a probe with this subject may be sent now."""
        if self._first is not None and subject != self._first:
            return True
        return self._probe_ended is None or not is_within(self._interval, self._probe_ended, now)

    def has_failed(self, subject: Hashable) -> bool:
        """Return whether an attempt with this subject has failed since Thrive last answered."""
        return subject in self._tried

    def probe_failed(self, subject: Hashable, now: Instant) -> None:
        """Note a failed probe: another subject may follow at once, the next one or pair only after a while."""
        self._remember(subject)
        self._probe_ended = now
        if self._first is not None and subject != self._first:
            self._first = None
        else:
            self._first = subject
            self._interval = min(self._interval * 2, LONGEST_PROBE_SECONDS)

    def _remember(self, subject: Hashable) -> None:
        if len(self._tried) < _MAX_REMEMBERED:
            self._tried.add(subject)
