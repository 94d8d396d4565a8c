"""What an outage of Thrive costs under different retry policies: the model behind docs/outages.md.

It follows a sample of messages, each representing many, through receives, waits and calls, so that three days with
thirteen million messages take seconds. The waits are those of the function's own `Backoff`; its rules for outages and
rate limits are its own `Outage` and `Throttle`, one of each for each execution environment. A test compares the model,
at a small size, with the full simulation of the function. Its assumptions:

- Messages arrive evenly during the outage; visible messages are received in random order; a queue hands out nothing
  while `MAX_IN_FLIGHT` messages are in flight.
- `ENVIRONMENTS` invocations side by side, each with up to `THREADS` calls at once. A call takes `HEALTHY_SECONDS` while
  Thrive is up. While it is down it answers 503 after `FAILING_SECONDS`. An invocation that makes no call takes
  `IDLE_SECONDS`.
- Once Thrive is up again it accepts everything (no limit is published) or, for comparison, only so many calls per
  second, with 429 for the rest. New messages use their share of that capacity.
"""

from __future__ import annotations

import functools
import heapq
import itertools
import random
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from completion_sync.clock import Instant
from completion_sync.pressure import MAX_WAIT_SECONDS, SUBJECTS_OF_AN_OUTAGE, Outage, Throttle
from completion_sync.retry import MAX_ATTEMPTS, Backoff

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable

# The template's values; a test compares them.
ENVIRONMENTS, THREADS, BATCH = 5, 10, 10
IN_FLIGHT = ENVIRONMENTS * THREADS
BACKOFF_BASE, BACKOFF_CAP, MAX_RECEIVES = 30.0, 900.0, 400
WORK_SECONDS = 48.0
# The values before there were rules for outages and rate limits.
OLD_CAP, OLD_RECEIVES = 3600.0, 100
# SQS quotas: about 120,000 messages in flight, standard and FIFO.
MAX_IN_FLIGHT = 120_000

HEALTHY_SECONDS, FAILING_SECONDS, IDLE_SECONDS = 0.25, 0.1, 0.05
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
    message is dead-lettered. ``attempts`` is the number of calls per receive. ``has_rules``: outages are recognised and
    probed, and 429s set a pace. ``limit``: how many messages may be in flight.
    """

    name: str
    wait: Callable[[int, random.Random], float]
    most: int
    attempts: int = 1
    lifetime: float = float("inf")
    has_rules: bool = False
    limit: float = MAX_IN_FLIGHT


@dataclass
class Outcome:
    """The result of one outage; times in seconds.

    ``wasted`` is failed calls and ``receives`` receives per message sent during the outage; ``invocations`` is how many
    there were until everything was recorded.
    """

    policy: str
    outage: float
    rate: float
    messages: int
    wasted: float
    receives: float
    invocations: int
    dead_lettered: float
    oldest: float
    drain: float


def ours(*, cap: float = BACKOFF_CAP, most: int = MAX_RECEIVES, limit: float = MAX_IN_FLIGHT) -> Policy:
    """Return this project's policy."""
    return Policy("ours", _backoff(cap), most, MAX_ATTEMPTS, has_rules=True, limit=limit)


def before() -> Policy:
    """Return this project's policy before it had rules for outages: three calls in each receive."""
    return Policy("before", _backoff(OLD_CAP), OLD_RECEIVES, MAX_ATTEMPTS)


def _backoff(cap: float) -> Callable[[int, random.Random], float]:
    return lambda receives, rng: Backoff(BACKOFF_BASE, cap, rng.uniform).seconds(receives)


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
    "before": before,
    "fixed-30": lambda: fixed(30),
    "fixed-360": lambda: fixed(360),
    "router": event_router,
}


class Model:
    """The simulation of one outage."""

    def __init__(
        self,
        policy: Policy,
        outage: float,
        rate: float,
        *,
        limit: float | None = None,
        environments: int = ENVIRONMENTS,
        seed: int = 0,
    ) -> None:
        """:param limit: the calls per second that Thrive accepts once it is up again; None: no limit."""
        self._policy = policy
        self._outage = outage
        self._rate = rate
        self._limit = limit
        self._rng = random.Random(seed)  # noqa: S311 - repeatable chance, not a secret
        self._messages = max(1.0, outage * rate)
        self._sample = min(SAMPLE, round(self._messages))
        # How many messages one of the sample represents.
        self._weight = self._messages / self._sample
        self._failed_calls = 0.0
        self._invocations = 0.0
        self._now = 0.0
        self._last_receive = 0.0
        self._in_flight = 0
        self._subjects = itertools.count()
        self._environments = [Outage(SUBJECTS_OF_AN_OUTAGE) for _ in range(environments)]
        self._allowance, self._allowed_at = 0.0, outage
        used, self._refused = (1.0, 0.0)
        if limit is not None and policy.has_rules:
            used, self._refused = share_of_limit(limit)
        self._spare = 0.0 if limit is None else max(0.0, limit * used - rate)

    def run(self) -> Outcome:
        """Run the simulation."""
        sent = sorted(self._rng.uniform(0.0, self._outage) for _ in range(self._sample))
        coming = [(at, number) for number, at in enumerate(sent)]
        receives = [0] * self._sample
        visible: list[int] = []
        dead = 0
        oldest = drain = 0.0
        while coming or visible:
            if not visible or self._in_flight * self._weight >= self._policy.limit:
                self._now = max(self._now, coming[0][0])
            while coming and coming[0][0] <= self._now:
                number = heapq.heappop(coming)[1]
                self._in_flight -= receives[number] > 0
                visible.append(number)
            if not visible or self._in_flight * self._weight >= self._policy.limit:
                continue
            index = self._rng.randrange(len(visible))
            visible[index], visible[-1] = visible[-1], visible[index]
            number = visible.pop()
            age = self._now - sent[number]
            if receives[number] >= self._policy.most or age > self._policy.lifetime:
                dead += 1
                continue
            receives[number] += 1
            if self._received():
                drain = max(drain, self._now - self._outage)
                oldest = max(oldest, self._now - sent[number])
            else:
                wait = self._policy.wait(receives[number], self._rng)
                self._in_flight += 1
                heapq.heappush(coming, (self._now + wait, number))
        return Outcome(
            policy=self._policy.name,
            outage=self._outage,
            rate=self._rate,
            messages=round(self._messages),
            wasted=self._failed_calls / self._messages,
            receives=sum(receives) / self._sample,
            invocations=round(self._invocations),
            dead_lettered=dead / self._sample,
            oldest=oldest,
            drain=drain,
        )

    def _received(self) -> bool:
        """Process one receive of the messages that one of the sample represents; return whether they were recorded."""
        since, self._last_receive = self._last_receive, self._now
        # A poll finds what has become visible since the last one: the fuller the queue, the fuller the batches.
        per_second = self._weight / max(self._now - since, 1e-9)
        batch = min(BATCH, max(1, int(per_second * FAILING_SECONDS)))
        self._invocations += self._weight / batch
        if not self._policy.has_rules:
            return self._record()
        environment = self._invoke_all(since, batch)
        if self._now < self._outage or environment.began is not None or not self._is_taken():
            self._spend(IDLE_SECONDS)
            return False
        self._failed_calls += self._refused * self._weight
        self._spend(HEALTHY_SECONDS)
        return True

    def _invoke_all(self, since: float, batch: int) -> Outage:
        """Let the invocations for these messages, spread over the time since the last ones, meet the outage.

        Returns one of the environments that were invoked.
        """
        count = self._weight / batch
        chosen = self._rng.choice(self._environments)
        if count < len(self._environments):
            others = self._rng.sample(self._environments, max(1, round(count)) - 1)
            for environment in (chosen, *others):
                self._invoke(environment, self._now, batch)
            return chosen
        # Between two probes that are due, an invocation changes nothing: one a second is enough of them.
        step = max(1.0, (self._now - since) * len(self._environments) / count)
        for environment in self._environments:
            at = self._now
            while at > since:
                at -= step
            while (at := at + step) <= self._now:
                self._invoke(environment, at, batch)
        return chosen

    def _invoke(self, environment: Outage, at: float, batch: int) -> None:
        now = Instant(at, at)
        if at >= self._outage:
            if environment.began is not None and environment.is_probe_due(None, now):
                environment.answered()
            return
        if environment.began is None:
            # All messages of the batch make each attempt at the same time.
            subjects = [next(self._subjects) for _ in range(batch)]
            for _ in range(MAX_ATTEMPTS):
                if environment.began is None:
                    self._failed_calls += batch
                    for subject in subjects:
                        environment.failed(subject, now)
            return
        for subject in itertools.islice(self._subjects, min(batch, 2)):
            if environment.is_probe_due(subject, now):
                self._failed_calls += 1
                environment.probe_failed(subject, now)

    def _record(self) -> bool:
        """Make as many calls as a policy without rules makes for one receive; return whether it was recorded."""
        for attempt in range(1, self._policy.attempts + 1):
            is_up = self._now >= self._outage
            self._spend(HEALTHY_SECONDS if is_up else FAILING_SECONDS)
            if is_up and self._is_taken():
                return True
            self._failed_calls += self._weight
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
        earned = self._spare * (self._now - self._allowed_at)
        # Messages that stand for many come now and then, where those that they stand for come all the time.
        self._allowance = min(self._allowance + earned, max(self._spare, 2 * self._weight))
        self._allowed_at = self._now
        if self._allowance < self._weight:
            return False
        self._allowance -= self._weight
        return True


@functools.cache
def share_of_limit(limit: float) -> tuple[float, float]:
    """Return how much of a rate limit a large backlog uses, and how many calls are refused for each one accepted."""
    return _Limited(limit).run(900.0)


class _Limited:
    """A large backlog against a rate limit, call by call: each environment has its own `Throttle`.

    The limit is a token bucket that saves up one second and says nothing about when to come again.
    """

    def __init__(self, limit: float) -> None:
        self._limit = limit
        self._allowance, self._allowed_at = limit, 0.0
        self._accepted = self._refused = 0
        self._now = Instant(0.0, 0.0)

    def run(self, seconds: float) -> tuple[float, float]:
        """Return what `share_of_limit` returns."""
        rng = random.Random(0)  # noqa: S311 - repeatable chance, not a secret
        throttles = [Throttle(rng.uniform) for _ in range(ENVIRONMENTS)]
        in_batch = [0] * ENVIRONMENTS
        numbers = itertools.count()
        # When, in which environment, and which message goes on then; None: the next batch.
        events: list[tuple[float, int, int, Generator[float] | None]] = [
            (0.0, next(numbers), environment, None) for environment in range(ENVIRONMENTS)
        ]
        while events[0][0] < seconds:
            now, _, environment, message = heapq.heappop(events)
            self._now = Instant(now, now)
            messages = [message] if message is not None else []
            if message is None:
                in_batch[environment] = BATCH
                messages = [self._message(throttles[environment], now + WORK_SECONDS) for _ in range(BATCH)]
            for one in messages:
                if (wait := next(one, None)) is not None:
                    heapq.heappush(events, (now + wait, next(numbers), environment, one))
                    continue
                in_batch[environment] -= 1
                if in_batch[environment] == 0:
                    heapq.heappush(events, (now + IDLE_SECONDS, next(numbers), environment, None))
        return min(1.0, self._accepted / (self._limit * (seconds + 1))), self._refused / self._accepted

    def _message(self, throttle: Throttle, end: float) -> Generator[float]:
        """Make up to three attempts; yield the seconds until something more happens."""
        for _ in range(MAX_ATTEMPTS):
            while (pause := throttle.paused_for(self._now)) > 0:
                if pause > min(MAX_WAIT_SECONDS, end - self._now.wall):
                    return
                yield max(pause, 0.001)
            wait = throttle.take_slot(self._now, end - self._now.wall)
            if wait is None:
                return
            yield wait
            if throttle.paused_for(self._now) > 0:
                continue
            sent = self._now
            yield HEALTHY_SECONDS / 2
            is_accepted = self._accept()
            yield HEALTHY_SECONDS / 2
            if is_accepted:
                throttle.answered(self._now)
                return
            throttle.throttled(sent, None, self._now)

    def _accept(self) -> bool:
        now = self._now.wall
        self._allowance = min(self._limit, self._allowance + (now - self._allowed_at) * self._limit)
        self._allowed_at = now
        if self._allowance < 1:
            self._refused += 1
            return False
        self._allowance -= 1
        self._accepted += 1
        return True


def curve(outages: Iterable[float] = OUTAGES, rates: Iterable[float] = RATES) -> list[dict[str, Any]]:
    """Return an outcome for each policy, outage and rate."""
    cases = list(itertools.product(POLICIES, outages, rates))
    with ProcessPoolExecutor() as executor:
        return list(executor.map(_outcome, cases, chunksize=4))


def _outcome(case: tuple[str, float, float]) -> dict[str, Any]:
    name, outage, rate = case
    return _mean(POLICIES[name], outage, rate, None)


def _mean(policy: Callable[[], Policy], outage: float, rate: float, limit: float | None) -> dict[str, Any]:
    """Return the mean of so many runs that chance plays no part in outages with few messages."""
    runs = min(50, max(1, SAMPLE // round(outage * rate)))
    rows = [asdict(Model(policy(), outage, rate, limit=limit, seed=seed).run()) for seed in range(runs)]
    return {
        name: round(sum(row[name] for row in rows) / runs, 4) if isinstance(value, float) else value
        for name, value in rows[0].items()
    }


WEIGHED: dict[str, Callable[[], Policy]] = {
    "before the rules": before,
    "this project": ours,
    "a cap of 30 minutes, 200 receives": lambda: ours(cap=1800.0, most=200),
    "a cap of an hour, 100 receives": lambda: ours(cap=OLD_CAP, most=OLD_RECEIVES),
    "a cap of 15 minutes, 100 receives": lambda: ours(most=OLD_RECEIVES),
    "this project, without the limit on messages in flight": lambda: ours(limit=float("inf")),
}


def alternatives() -> list[dict[str, Any]]:
    """Return outcomes of a day's outage before the rules, for other backoffs, and for limits on either side."""
    cases: list[tuple[str, float, float | None]] = [(what, rate, None) for what in WEIGHED for rate in (1.0, 10.0)]
    cases += [(what, 10.0, limit) for limit in (50.0, 20.0) for what in ("before the rules", "this project")]
    with ProcessPoolExecutor() as executor:
        return list(executor.map(_alternative, cases))


def _alternative(case: tuple[str, float, float | None]) -> dict[str, Any]:
    what, rate, limit = case
    return {"what": what, "limit": limit} | _mean(WEIGHED[what], 24 * HOUR, rate, limit)
