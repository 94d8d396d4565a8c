"""What an outage of Thrive costs, by policy: the model behind docs/outages.md.

A model, because nobody waits three days for five million messages: a sample of messages, each standing for many, goes
through receives, waits and calls; the waits are those of the function's own `Backoff`. A test holds the model against
the full simulation of the function at small size. What is reckoned with:

- messages arrive evenly during the outage, and all that are visible are received in random order;
- `IN_FLIGHT` messages at once (MaximumConcurrency times RequestsInFlight); a call takes `HEALTHY_SECONDS` while Thrive
  is well. While it is away it answers 503 after `FAILING_SECONDS`, and each receive makes up to three attempts;
- once Thrive is back it takes everything (no limit is published), or, for comparison, only so much a second and answers
  429 to the rest; what arrives meanwhile takes its share of the pace.
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

# The template's numbers; a test compares.
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
    """What becomes of a message that could not be recorded.

    ``wait`` gives the seconds after its n-th receive; after ``most`` receives or ``lifetime`` seconds it is
    dead-lettered. ``attempts`` is how often one receive calls; ``share``, how many of the receives call at all while
    Thrive is away.
    """

    name: str
    wait: Callable[[int, random.Random], float]
    most: int
    attempts: int = 1
    lifetime: float = float("inf")
    share: float = 1.0


@dataclass
class Outcome:
    """What came of one outage; times in seconds. ``wasted`` is calls in vain per message that was sent during it."""

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
    """Give this project's policy."""

    def wait(receives: int, rng: random.Random) -> float:
        return Backoff(BACKOFF_BASE, cap, rng.uniform).seconds(receives)

    return Policy("ours", wait, most, attempts, share=share)


def fixed(visibility: float) -> Policy:
    """Give what is usually deployed: a visibility timeout, maxReceiveCount 5, and no retries of its own."""
    return Policy(f"fixed-{visibility:.0f}", lambda _receives, _rng: visibility, 5)


def event_router() -> Policy:
    """Give the retry policy of EventBridge: 185 attempts in 24 hours, with exponential backoff and jitter.

    Its waits are not published: these double from a second to a cap with which 185 of them last for a day, on average.
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
    """One outage."""

    def __init__(
        self, policy: Policy, outage: float, rate: float, *, limit: float | None = None, seed: int = 0
    ) -> None:
        """:param limit: what Thrive takes a second once it is back; None: everything."""
        self._policy = policy
        self._outage = outage
        self._rate = rate
        self._limit = limit
        self._rng = random.Random(seed)  # noqa: S311 - chance that can be repeated, nothing secret
        self._messages = max(1.0, outage * rate)
        self._weight = self._messages / SAMPLE
        self._calls_in_vain = 0
        self._now = 0.0
        self._allowance, self._allowed_at = 0.0, outage

    def run(self) -> Outcome:
        """Let it pass."""
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
            wasted=self._calls_in_vain / SAMPLE,
            dead_lettered=len(dead) / SAMPLE,
            oldest=oldest,
            drain=max(0.0, recorded[-1]) if recorded else 0.0,
            drain_99=max(0.0, recorded[int(len(recorded) * 0.99)]) if recorded else 0.0,
            first_dead_letter=min(dead) if dead else None,
        )

    def _record(self) -> bool:
        """Call for one message, as often as one receive allows."""
        if self._now < self._outage and self._rng.random() >= self._policy.share:
            return False
        for attempt in range(1, self._policy.attempts + 1):
            is_up = self._now >= self._outage
            self._spend(HEALTHY_SECONDS if is_up else FAILING_SECONDS)
            if is_up and self._is_taken():
                return True
            self._calls_in_vain += 1
            if attempt < self._policy.attempts:
                self._spend(WAITS_SECONDS[min(attempt, len(WAITS_SECONDS)) - 1])
        return False

    def _spend(self, seconds: float) -> None:
        # One of the sample stands for many, which go through side by side. What arrives later takes its share.
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
    """Give an outcome for each policy, outage and rate."""
    cases = list(itertools.product(POLICIES, outages, rates))
    with ProcessPoolExecutor() as executor:
        return list(executor.map(_outcome, cases, chunksize=4))


def _outcome(case: tuple[str, float, float]) -> dict[str, Any]:
    name, outage, rate = case
    return _rounded(asdict(Model(POLICIES[name](), outage, rate).run()))


def alternatives() -> list[dict[str, Any]]:
    """Give what else could be done, and what a limit of Thrive's would do, for a day's outage."""
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
