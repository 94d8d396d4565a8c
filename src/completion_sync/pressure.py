"""Under pressure: what is wrong with all of Thrive is found out once, not message by message.

Each kind of call (completions, lookups of people, tokens) has a :class:`Pressure` of its own. The threads of an
execution environment share it, and it is remembered from one invocation to the next. docs/outages.md shows what the
rules are worth, decision 10 why they are as they are.

- **Throttling.** A 429 pauses all calls, for ``Retry-After`` or for a growing time. The first one also sets a pace in
  calls a second, which later ones lower and every answer raises a little.
- **Outage.** When three different subjects in a row have failed twice each, and Thrive has answered nothing in the
  meantime, the environment is in outage: nothing is sent but a probe now and then. A single subject that always fails
  does not cause one, and a failed probe is followed by one with a second subject, so that nothing waits for a sick one.

A subject is what a call is about: a completion, a reference, a tenant's credentials.
"""

from __future__ import annotations

import random
import threading
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .clock import Clock, Deadline, Instant, elapsed, is_within
from .errors import HeldError

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

# What an invocation waits at most for one more attempt: waiting in Lambda costs money, waiting in SQS does not.
MAX_WAIT_SECONDS = 2.0
# Less than this is not worth an attempt: it would time out, with the request perhaps received.
MIN_ATTEMPT_SECONDS = 0.2

FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 0.2, 60.0
# What a pause multiplies the pace by, and what a second one multiplies it by if there was no answer in between. Each
# answer adds FASTER to it. All of them, and the slowest pace, in calls a second.
SLOWER, MUCH_SLOWER, FASTER, SLOWEST = 0.8, 0.5, 0.05, 0.5
QUIET_SECONDS = 5.0
# The first pace follows from the answers of the last RATE_SECONDS. Pauses within LOWER_SECONDS lower it once only: they
# have one cause. Slots of the last CREDIT_SECONDS that nobody took, as between two batches, may be taken later. A pace
# that has held nothing back for PACE_SECONDS is dropped.
RATE_SECONDS, LOWER_SECONDS, CREDIT_SECONDS, PACE_SECONDS = 5.0, 1.0, 0.5, 10.0

SUBJECTS_OF_AN_OUTAGE = 3
FIRST_PROBE_SECONDS, LONGEST_PROBE_SECONDS = 1.0, 10.0
# How many failed subjects are remembered, so that others are preferred for probes.
_MAX_REMEMBERED = 1000


@dataclass(frozen=True, slots=True)
class Attempt:
    """An attempt that may be sent now. ``answers`` is how many answers had arrived before it."""

    began: Instant
    answers: int


@dataclass(frozen=True, slots=True)
class Wait:
    """Nothing may be sent for some seconds. ``has_slot``: after that there is a slot of the pace."""

    seconds: float
    has_slot: bool


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
        self._answers = 0
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

    def admit(self, deadline: Deadline, *, probing: bool = False) -> Attempt:
        """Wait for the pause and for the pace; return the attempt to be sent now.

        :raises HeldError: ``unavailable``: there is an outage, and this is no probe; ``rate_limited``: the wait is too
            long.
        """
        has_slot = False
        while isinstance(step := self.try_admit(deadline.remaining(), has_slot=has_slot, probing=probing), Wait):
            self._clock.sleep(step.seconds)
            has_slot = step.has_slot
        return step

    def try_admit(self, remaining: float, *, has_slot: bool = False, probing: bool = False) -> Attempt | Wait:
        """Return the attempt to be sent now, or how long to wait before asking again: :meth:`admit` without waiting.

        :param remaining: the seconds until the deadline.
        :param has_slot: the last answer was a :class:`Wait` that says so.
        :raises HeldError: as :meth:`admit`.
        """
        remaining -= MIN_ATTEMPT_SECONDS
        with self._lock:
            now = self._clock.now()
            self._raise_if_out(probing=probing)
            pause = self._paused_for(now)
            if pause > 0:
                wait: float | None = pause if pause <= min(MAX_WAIT_SECONDS, remaining) else None
            else:
                wait = 0.0 if has_slot else self._throttle.take_slot(now, remaining)
            attempt = Attempt(now, self._answers)
        if wait is None:
            raise HeldError("rate_limited", "held back: Thrive limits the rate of calls", retry_after=pause or None)
        if wait > 0:
            return Wait(wait, has_slot=pause == 0)
        self._announce_resumption()
        if probing:
            self._count("OutageProbes")
        return attempt

    def answered(self) -> None:
        """Take note of an answer other than 429: it ends an outage."""
        with self._lock:
            now = self._clock.now()
            self._answers += 1
            self._throttle.answered(now)
            outage = self._end_outage(now)
        self._announce_end(outage)

    def throttled(self, attempt: Attempt, retry_after: float | None) -> float:
        """Take note of a 429; return the seconds until calls may go on."""
        with self._lock:
            now = self._clock.now()
            self._answers += 1
            outage = self._end_outage(now)
            is_new = self._throttle.throttled(attempt.began, retry_after, now)
            pause = self._throttle.paused_for(now)
            self._is_paused = self._is_paused or is_new
        self._announce_end(outage)
        if is_new:
            self._announce(f"{self._what}: paused for {pause:.1f} s, as Thrive answered 429")
        return pause

    def failed(self, subject: Hashable, first: Attempt | None = None) -> None:
        """Take note that a subject has failed twice in a row, or that there is no need for a second attempt.

        :param first: the first of the two attempts; it does not count if Thrive has answered anything since.
        """
        with self._lock:
            if first is not None and first.answers != self._answers:
                return
            has_begun = self._outage.failed(subject, self._clock.now())
        if has_begun:
            self._announce(f"{self._what}: an outage of Thrive has begun; probing until it answers")

    def is_probe_due(self, subject: Hashable) -> bool:
        """Return whether a probe with this subject may be sent now."""
        with self._lock:
            return self._outage.is_probe_due(subject, self._clock.now())

    def has_failed(self, subject: Hashable) -> bool:
        """Return whether this subject has failed since Thrive last answered."""
        with self._lock:
            return self._outage.has_failed(subject)

    def probe_failed(self, subject: Hashable) -> None:
        """Take note that a probe got no answer."""
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
        # In monotonic time. None: the next slot is whenever it is asked for.
        self._next_slot: float | None = None
        self._held_back: Instant | None = None
        self._lowered: Instant | None = None

    def paused_for(self, now: Instant) -> float:
        """Return the seconds until calls may go on; 0.0 if they may now."""
        if self._pause_began is None or not is_within(self._pause_seconds, self._pause_began, now):
            return 0.0
        return self._pause_seconds - elapsed(self._pause_began, now)

    def take_slot(self, now: Instant, longest: float) -> float | None:
        """Return the seconds until the next slot of the pace, and take it; None if that is longer than ``longest``."""
        if self._pace is not None and not self._is_pace_of_use(now):
            self._pace = None
        if self._pace is None:
            return 0.0
        slot = now.monotonic if self._next_slot is None else max(now.monotonic - CREDIT_SECONDS, self._next_slot)
        wait = max(0.0, slot - now.monotonic)
        if wait > 0:
            self._held_back = now
        if wait > longest:
            return None
        self._next_slot = slot + 1 / self._pace
        return wait

    def answered(self, now: Instant) -> None:
        """Take note of an answer other than 429."""
        self._recent_answers.append(now.monotonic)
        self._forget_answers(now)
        if not self.paused_for(now):
            self._pauses_in_a_row = 0
        if self._pace is not None:
            quiet = 0.0 if self._lowered is None else elapsed(self._lowered, now)
            self._pace += FASTER * max(1.0, quiet / QUIET_SECONDS)

    def throttled(self, sent: Instant, retry_after: float | None, now: Instant) -> bool:
        """Take note of a 429 to a request of ``sent``; return whether it begins a pause.

        It belongs to the last pause if the request was sent before that began: many at once count as one.
        """
        if self._pause_began is not None and sent.monotonic < self._pause_began.monotonic:
            if retry_after is not None:
                self._pause_seconds = max(self._pause_seconds, elapsed(self._pause_began, now) + retry_after)
            return False
        longest = min(LONGEST_PAUSE_SECONDS, FIRST_PAUSE_SECONDS * 2.0 ** min(self._pauses_in_a_row, 30))
        # The growing wait applies also with Retry-After, in case that is too short each time. Nothing shortens a pause.
        wait = self._uniform(longest / 2, longest)
        self._pause_seconds = max(wait, retry_after or 0.0, self.paused_for(now))
        self._pause_began = now
        self._pauses_in_a_row += 1
        self._lower_pace(now)
        # Not the end of the pause: it may pass while the environment is frozen, and monotonic time with it.
        self._next_slot = None
        return True

    def _lower_pace(self, now: Instant) -> None:
        if self._pace is None:
            pace = SLOWER * self._recent_rate(now)
        elif self._pauses_in_a_row > 1:
            pace = MUCH_SLOWER * self._pace
        elif self._lowered is None or not is_within(LOWER_SECONDS, self._lowered, now):
            pace = SLOWER * self._pace
        else:
            return
        self._pace, self._lowered = max(SLOWEST, pace), now

    def _is_pace_of_use(self, now: Instant) -> bool:
        paused = self._pause_began
        if paused is not None and is_within(self._pause_seconds + PACE_SECONDS, paused, now):
            return True
        return self._held_back is not None and is_within(PACE_SECONDS, self._held_back, now)

    def _recent_rate(self, now: Instant) -> float:
        """Return the answers a second: in the last one, or over some, as a single one may be quiet by chance."""
        self._forget_answers(now)
        last_second = sum(at >= now.monotonic - 1 for at in self._recent_answers)
        return max(last_second, len(self._recent_answers) / RATE_SECONDS)

    def _forget_answers(self, now: Instant) -> None:
        while self._recent_answers and self._recent_answers[0] < now.monotonic - RATE_SECONDS:
            self._recent_answers.popleft()


class Outage:
    """Whether there is an outage, and when it is probed next. :class:`Pressure` holds the lock.

    A probe that fails after its interval may be followed at once by a second one with another subject. If both had
    failed before, they may be sick, and have shown nothing new: then a third one may follow that has not.
    """

    def __init__(self, subjects: int) -> None:
        self._subjects = subjects
        # Keys only; a dict keeps their order.
        self._failed: dict[Hashable, None] = {}
        self.began: Instant | None = None
        self._probe_ended: Instant | None = None
        self._interval = FIRST_PROBE_SECONDS
        # The subjects of the probes since the interval was last over, and whether one of them had not failed before.
        self._round: list[Hashable] = []
        self._is_round_new = False

    def failed(self, subject: Hashable, now: Instant) -> bool:
        """Take note that a subject has failed twice in a row; return whether that begins an outage."""
        self._remember(subject)
        if self.began is not None or len(self._failed) < self._subjects:
            return False
        self.began = self._probe_ended = now
        self._interval = FIRST_PROBE_SECONDS
        return True

    def answered(self) -> None:
        """Take note of an answer: there is no outage, or no longer."""
        self.began = self._probe_ended = None
        self._round = []
        self._failed.clear()

    def is_probe_due(self, subject: Hashable, now: Instant) -> bool:
        """Return whether a probe with this subject may be sent now."""
        is_early = self._probe_ended is not None and is_within(self._interval, self._probe_ended, now)
        return not is_early or self._may_follow(subject)

    def has_failed(self, subject: Hashable) -> bool:
        """Return whether this subject has failed since Thrive last answered."""
        return subject in self._failed

    def probe_failed(self, subject: Hashable, now: Instant) -> None:
        """Take note that a probe with this subject has failed."""
        if not self._may_follow(subject):
            self._round, self._is_round_new = [], False
            self._interval = min(self._interval * 2, LONGEST_PROBE_SECONDS)
        self._round.append(subject)
        self._is_round_new = self._is_round_new or not self.has_failed(subject)
        self._probe_ended = now
        self._remember(subject)

    def _may_follow(self, subject: Hashable) -> bool:
        if len(self._round) == 1:
            return subject not in self._round
        return len(self._round) == 2 and not self._is_round_new and not self.has_failed(subject)

    def _remember(self, subject: Hashable) -> None:
        if len(self._failed) < _MAX_REMEMBERED:
            self._failed[subject] = None
