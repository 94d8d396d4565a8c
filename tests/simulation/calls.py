"""The rules of decision 10 for pauses, outages and probes, checked from outside for each kind of call.

This is a second, simpler implementation of what :mod:`completion_sync.pressure` must do. It sees requests and answers,
but not the moment when the function takes note of an answer: a thread may be preempted in between. So the rules are
checked with some slack, and not at all where a thread was stalled or a clock was stepped.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from .scenario import REQUEST_TIMEOUT

if TYPE_CHECKING:
    from collections.abc import Hashable

    from .lambdas import Environment
    from .thrive import Answer, Call
    from .world import World

SLACK = 0.1
LONGEST_PAUSE, LONGEST_PROBE = 60.0, 10.0
# The pace that earlier 429s have set may hold messages back for this long.
PACE = 120.0
# A request may be on its way to the server, behind a token or a secret, when a pause begins.
_ADMITTED = 0.25
# In one invocation; and each time that probes are due, if two of them have shown nothing new.
_MOST_PROBES, _MOST_IN_A_ROUND = 2, 3


def meaning(call: Call, answer: Answer | None) -> str:
    """Return what a call's end means: ``answer``, ``throttled``, ``failed``, ``cut`` (by our deadline) or ``other``."""
    if answer is None:
        assert call.ended is not None
        was_cut = call.timeout < REQUEST_TIMEOUT - SLACK and call.ended - call.began >= call.timeout - 1e-6
        return "cut" if was_cut else "failed"
    status, fields = answer.status, answer.fields()
    if status == 429:
        return "throttled"
    if status in {408, 425} or status >= 500:
        return "failed"
    if not 200 <= status < 300 and status < 400:
        return "other"
    if status in {401, 403}:
        return "answer"
    is_gateway = call.kind != "tokens" and status in {404, 405, 410} and (fields or {}).get("status") != status
    return "failed" if fields is None or is_gateway else "answer"


def probes_by(seconds: float) -> int:
    """Return how many probes are due in the first ``seconds`` of an outage: after 1, 2, 4, 8, 10, 10, … seconds."""
    due, interval, count = 1.0, 1.0, 0
    while due <= seconds:
        interval = min(2 * interval, LONGEST_PROBE)
        due, count = due + interval, count + 1
    return count


class Calls:
    """The calls of one kind: ``completions``, ``lookups`` or ``tokens``."""

    def __init__(self, world: World, environment: Environment, kind: str, most: int, subjects: int) -> None:
        """:param most: how many may be in flight; ``subjects``: how many failed ones make an outage."""
        self._world = world
        self._environment = environment
        self._kind = kind
        self._most = most
        self._subjects = subjects
        self._in_flight = 0
        self._answers: deque[float] = deque([float("-inf")], maxlen=50)
        self._last_failures: dict[Hashable, float] = {}  # by subject
        # Subjects that failed twice in a row, perhaps and certainly without an answer in between.
        self._failed: set[Hashable] = set()
        self._surely_failed: set[Hashable] = set()
        self._maybe_out_until = float("-inf")
        self.out_since: float | None = None
        self._calls_in_outage = 0
        self.last_ended: float | None = None
        self._wall_at_end = 0.0
        # Retry-After in seconds: from when, until when.
        self._forbidden = (0.0, 0.0)
        # All 429s: the wall clock then, and the longest pause that follows.
        self._pauses: deque[tuple[float, float]] = deque(maxlen=50)

    # ---- what happens

    def began(self, call: Call) -> None:
        """Note a request that leaves."""
        now = self._world.kernel.now
        self._in_flight += 1
        if self._in_flight > self._most:
            self._bad(f"{self._in_flight} requests ({self._kind}) of one environment at once")
        if self._environment.odd_times or call.invocation is None:
            return
        since, until = self._forbidden
        if since + _ADMITTED < now < until - SLACK and not call.invocation.waited_for_access:
            self._bad(f"a request ({self._kind}) {now - since:.2f} s into a pause of {until - since:g} s")
        # A completion that probes may need a lookup, whatever lookups meet.
        if self._kind != "lookups" and self.out_since is not None and now > self.out_since + SLACK:
            self._probed(call, self.out_since)

    def _probed(self, call: Call, since: float) -> None:
        now, invocation = self._world.kernel.now, call.invocation
        assert invocation is not None
        self._calls_in_outage += 1
        if self._calls_in_outage > self._most + _MOST_IN_A_ROUND * probes_by(now - since):
            self._bad(f"{self._calls_in_outage} calls ({self._kind}) in the first {now - since:.0f} s of an outage")
        if self._kind == "completions" and invocation.started > since + SLACK:
            invocation.probes.append(call.subject)
            if len(invocation.probes) > _MOST_PROBES or len(set(invocation.probes)) < len(invocation.probes):
                self._bad("one invocation in an outage sent more than one request for each of two messages")

    def ended(self, call: Call, answer: Answer | None) -> str:
        """Note a request that ends; return what that means."""
        now = self._world.kernel.now
        self._in_flight -= 1
        self.last_ended, self._wall_at_end = now, self._environment.process.wall()
        what = meaning(call, answer)
        if what in {"answer", "throttled"}:
            self._answered(now)
        if what == "throttled":
            assert answer is not None
            self._was_throttled(answer)
        elif what == "failed":
            self._has_failed(call)
        elif what == "other":
            # Neither an answer of Thrive's nor a failure of the outage kind.
            self._surely_failed.clear()
            self.out_since = None
        return what

    def _answered(self, now: float) -> None:
        self._answers.append(now)
        self._maybe_out_until = min(self._maybe_out_until, now)
        self._failed.clear()
        self._surely_failed.clear()
        self.out_since, self._calls_in_outage = None, 0

    def _was_throttled(self, answer: Answer) -> None:
        now, is_date = self._world.kernel.now, (answer.retry_after or "").endswith("GMT")
        if not is_date and now + answer.longest_wait > self._forbidden[1]:
            self._forbidden = (now, now + answer.longest_wait)
        self._pauses.append((self._environment.process.wall(), max(LONGEST_PAUSE, answer.longest_wait)))

    def _has_failed(self, call: Call) -> None:
        now, subject = self._world.kernel.now, call.subject
        previous, self._last_failures[subject] = self._last_failures.get(subject), now
        if self._kind == "tokens":
            # One request may do: there may be no time for a second one.
            self._maybe_out_until = float("inf")
        if previous is None:
            return
        if previous > self._answers[-1] + SLACK:
            self._surely_failed.add(subject)
        answers = [at for at in self._answers if at >= previous + SLACK]
        if all(at > now - SLACK for at in answers):
            self._failed.add(subject)
        if len(self._failed) >= self._subjects:
            self._maybe_out_until = max(self._maybe_out_until, now + SLACK if answers else float("inf"))
        if len(self._surely_failed) >= self._subjects and self.out_since is None:
            self.out_since = now

    # ---- what the function says

    def may_be_out(self, since: float) -> bool:
        """Return whether there may have been an outage at some moment since then."""
        return self._maybe_out_until >= since - SLACK

    def may_be_paused(self) -> bool:
        """Return whether a pause or a pace may hold calls back now, by the environment's own wall clock."""
        wall = self._environment.process.wall()
        return any(0 <= wall - at < longest + PACE for at, longest in self._pauses)

    def is_probe_due(self, started: float) -> bool:
        """Return whether an invocation that started then must probe an outage, by the environment's wall clock."""
        if self.last_ended is None or self.last_ended > started:
            return False
        age = self._environment.process.wall() - self._wall_at_end - (self._world.kernel.now - started)
        # After a small step back it may still lie after the moment that the interval counts from.
        return age < -REQUEST_TIMEOUT or age > LONGEST_PROBE + SLACK

    def _bad(self, what: str) -> None:
        self._world.violate(what)
