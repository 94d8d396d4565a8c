"""What an outage of Thrive costs under different retry policies: the model behind docs/outages.md.

It follows a sample of messages, each representing many, through receives, waits and calls, so that three days with
five million messages take seconds. The waits are those of the function's own `Backoff`. A test compares the model, at a
small size, with the full simulation of the function. Its assumptions:

- Messages arrive evenly during the outage; visible messages are received in random order.
- `IN_FLIGHT` messages at once (MaximumConcurrency times RequestsInFlight). A call takes `HEALTHY_SECONDS` while Thrive
  is up. While it is down it answers 503 after `FAILING_SECONDS`, and each receive makes up to three attempts.
- Once Thrive is up again it accepts everything (no limit is published) or, for comparison, only so many calls per
  second, with 429 for the rest. New messages use their share of that capacity.
"""

from __future__ import annotations

import heapq
import itertools
import random
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from completion_sync.retry import MAX_ATTEMPTS, Backoff

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

# The template's values; a test compares them.
ENVIRONMENTS, THREADS, BATCH = 5, 10, 10
IN_FLIGHT = 5 * 10
BACKOFF_BASE, BACKOFF_CAP, MAX_RECEIVES = 30.0, 900.0, 400

HEALTHY_SECONDS, FAILING_SECONDS = 0.25, 0.1
# Between three attempts: 0.1 to 0.2 s and 0.2 to 0.4 s.
WAITS_SECONDS = (0.15, 0.3)
SAMPLE = 2000
MINUTE, HOUR = 60.0, 3600.0
OUTAGES = (MINUTE, 5 * MINUTE, 30 * MINUTE, 2 * HOUR, 6 * HOUR, 12 * HOUR, 24 * HOUR, 48 * HOUR, 72 * HOUR)
RATES = (0.1, 1.0, 10.0, 50.0)


@dataclass(frozen=True)
class Policy:
    """What happens to a message that could not be recorded.

    ``wait`` returns the seconds to wait after the n-th receive. After ``most`` receives or ``lifetime`` seconds the
    message is dead-lettered. ``attempts`` is the number of calls per receive; ``share`` is the share of receives that
    call at all while Thrive is down.
    """

    name: str
    wait: Callable[[int, random.Random], float]
    most: int
    attempts: int = 1
    lifetime: float = float("inf")
    share: float = 1.0


@dataclass
class Outcome:
    """The result of one outage; times in seconds. ``wasted`` is failed calls per message sent during the outage."""

    policy: str
    outage: float
    rate: float
    messages: int
    wasted: float
    dead_lettered: float
    oldest: float
    drain: float
    drain_99: float
    first_dead_letter: float | None


def ours(
    attempts: int = MAX_ATTEMPTS, cap: float = BACKOFF_CAP, share: float = 1.0, most: int = MAX_RECEIVES
) -> Policy:
    """Return this project's policy."""

    def wait(receives: int, rng: random.Random) -> float:
        return Backoff(BACKOFF_BASE, cap, rng.uniform).seconds(receives)

    return Policy("ours", wait, most, attempts, share=share)


def fixed(visibility: float) -> Policy:
    """Return the usual policy: a fixed visibility timeout, maxReceiveCount 5, and one call per receive."""
    return Policy(f"fixed-{visibility:.0f}", lambda _receives, _rng: visibility, 5)


def event_router() -> Policy:
    """Return EventBridge's retry policy: 185 attempts in 24 hours, with exponential backoff and jitter.

    Its waits are not published. These double from one second to a cap at which 185 of them take a day on average.
    """

    def wait(receives: int, rng: random.Random) -> float:
        whole = min(655.0, 2.0 ** min(receives - 1, 20))
        return rng.uniform(whole / 2, whole)

    return Policy("router", wait, 185, lifetime=24 * HOUR)


POLICIES: dict[str, Callable[[], Policy]] = {
    "ours": ours,
    "fixed-30": lambda: fixed(30),
    "fixed-360": lambda: fixed(360),
    "router": event_router,
}


class Model:
    """The simulation of one outage."""

    def __init__(
        self, policy: Policy, outage: float, rate: float, *, limit: float | None = None, seed: int = 0
    ) -> None:
        """:param limit: the calls per second that Thrive accepts once it is up again; None: no limit."""
        self._policy = policy
        self._outage = outage
        self._rate = rate
        self._limit = limit
        self._rng = random.Random(seed)  # noqa: S311 - repeatable chance, not a secret
        self._messages = max(1.0, outage * rate)
        self._weight = self._messages / SAMPLE
        self._failed_calls = 0
        self._now = 0.0
        self._allowance, self._allowed_at = 0.0, outage

    def run(self) -> Outcome:
        """Run the simulation."""
        sent = sorted(self._rng.uniform(0.0, self._outage) for _ in range(SAMPLE))
        coming = [(at, number) for number, at in enumerate(sent)]
        receives = [0] * SAMPLE
        visible: list[int] = []
        recorded: list[float] = []
        dead: list[float] = []
        oldest = 0.0
        while coming or visible:
            if not visible:
                self._now = max(self._now, coming[0][0])
            while coming and coming[0][0] <= self._now:
                visible.append(heapq.heappop(coming)[1])
            index = self._rng.randrange(len(visible))
            visible[index], visible[-1] = visible[-1], visible[index]
            number = visible.pop()
            age = self._now - sent[number]
            if receives[number] >= self._policy.most or age > self._policy.lifetime:
                dead.append(age)
                continue
            receives[number] += 1
            if self._record():
                recorded.append(self._now - self._outage)
                oldest = max(oldest, self._now - sent[number])
            else:
                wait = self._policy.wait(receives[number], self._rng)
                heapq.heappush(coming, (self._now + wait, number))
        recorded.sort()
        return Outcome(
            policy=self._policy.name,
            outage=self._outage,
            rate=self._rate,
            messages=round(self._messages),
            wasted=self._failed_calls / SAMPLE,
            dead_lettered=len(dead) / SAMPLE,
            oldest=oldest,
            drain=max(0.0, recorded[-1]) if recorded else 0.0,
            drain_99=max(0.0, recorded[int(len(recorded) * 0.99)]) if recorded else 0.0,
            first_dead_letter=min(dead) if dead else None,
        )

    def _record(self) -> bool:
        """Process one receive of a message, with as many calls as it may make; return whether it was recorded."""
        if self._now < self._outage and self._rng.random() >= self._policy.share:
            return False
        for attempt in range(1, self._policy.attempts + 1):
            is_up = self._now >= self._outage
            self._spend(HEALTHY_SECONDS if is_up else FAILING_SECONDS)
            if is_up and self._is_taken():
                return True
            self._failed_calls += 1
            if attempt < self._policy.attempts:
                self._spend(WAITS_SECONDS[min(attempt, len(WAITS_SECONDS)) - 1])
        return False

    def _spend(self, seconds: float) -> None:
        # A message of the sample represents many, processed in parallel. New messages use their share of the capacity.
        share = 1.0
        if self._now >= self._outage:
            share = max(0.1, 1.0 - self._rate * HEALTHY_SECONDS / IN_FLIGHT)
        self._now += seconds * self._weight / IN_FLIGHT / share

    def _is_taken(self) -> bool:
        if self._limit is None:
            return True
        spare = max(0.0, self._limit - self._rate)
        self._allowance = min(self._allowance + spare * (self._now - self._allowed_at), max(spare, self._weight))
        self._allowed_at = self._now
        if self._allowance < self._weight:
            return False
        self._allowance -= self._weight
        return True


def curve(outages: Iterable[float] = OUTAGES, rates: Iterable[float] = RATES) -> list[dict[str, Any]]:
    """Return an outcome for each policy, outage and rate."""
    cases = list(itertools.product(POLICIES, outages, rates))
    with ProcessPoolExecutor() as executor:
        return list(executor.map(_outcome, cases, chunksize=4))


def _outcome(case: tuple[str, float, float]) -> dict[str, Any]:
    name, outage, rate = case
    return _rounded(asdict(Model(POLICIES[name](), outage, rate).run()))


def alternatives() -> list[dict[str, Any]]:
    """Return outcomes of a day's outage for other policies, and for a limit on Thrive's side."""
    cases: list[tuple[str, Policy, float, float | None]] = [
        (what, policy, rate, None)
        for what, policy in (
            ("as it is", ours()),
            ("one attempt in each receive, not three", ours(attempts=1)),
            ("one attempt for each batch of ten", ours(attempts=1, share=0.1)),
            ("a cap of 15 minutes, not an hour", ours(cap=900.0)),
            ("a cap of 15 minutes, and 400 receives", ours(cap=900.0, most=400)),
        )
        for rate in (1.0, 10.0)
    ]
    cases += [("as it is", ours(), 10.0, limit) for limit in (50.0, 20.0)]
    return [
        {"what": what, "limit": limit} | _rounded(asdict(Model(policy, 24 * HOUR, rate, limit=limit).run()))
        for what, policy, rate, limit in cases
    ]


def _rounded(row: dict[str, Any]) -> dict[str, Any]:
    return {name: round(value, 4) if isinstance(value, float) else value for name, value in row.items()}
