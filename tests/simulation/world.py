"""One run: a scenario, everything simulated, and the trace that shows whether two runs were the same."""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import random
import re
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .kernel import Kernel
from .lambdas import Fleet, Poller
from .queues import ENDPOINT, SUFFIX, Queue
from .s3 import Bucket
from .scenario import DAY, MARKER, Scenario, Sent, draw
from .thrive import Pool, Thrive, forms_of
from .watch import Watch

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .package import Package

# Times in log lines that come from the machine's own clock.
_REAL_TIME = re.compile(r'"timestamp":"[^"]*"|"Timestamp":\d+')


@dataclass(frozen=True)
class Report:
    """The result of one run."""

    seed: int
    violations: tuple[str, ...]
    trace_hash: str
    trace: tuple[str, ...]
    messages: int
    invocations: int
    calls: dict[str, int]
    switches: int
    virtual_seconds: float


class World:
    """All parts of one run."""

    def __init__(self, package: Package, scenario: Scenario, *, keep_trace: bool = False) -> None:
        self.package = package
        self.scenario = scenario
        self.rng = random.Random(scenario.seed + 1)
        self.kernel = Kernel(self.rng, scenario.preemption)
        self.kernel.thread_fails = self._thread_fails
        self.violations: list[str] = []
        self.current_secret = f"{MARKER}-secret-0+%: /é"
        self.secret_forms: list[str] = [form for form in forms_of(self.current_secret) if MARKER not in form]
        self._hash = hashlib.blake2b(digest_size=16)
        self._kept: list[str] | None = [] if keep_trace else None
        self.dead_letters_url = f"{ENDPOINT}/123456789012/dead-letters{SUFFIX[scenario.fifo]}"
        self.source = Queue(self)
        self.thrive = Thrive(self)
        self.watch = Watch(self)
        self.fleet = Fleet(self)
        self.poller = Poller(self)
        self.bucket = Bucket(self)
        for sent in scenario.sent:
            self.kernel.at(sent.at, lambda sent=sent: self._send(sent))
        for upload in scenario.uploads:
            self.kernel.at(upload.at, lambda upload=upload: self.bucket.apply(upload))
        for at, what, secret in scenario.secrets:
            self.kernel.at(at, lambda what=what, secret=secret: self._rotate(what, secret))

    def run(self) -> Report:
        bootstrap: Any = self.package.bootstrap
        bootstrap.application = lambda: self.fleet.environment().application()
        bootstrap.connection_pool = lambda *arguments: Pool(self, self.fleet.environment(), arguments[-1])
        _SINK.world = self
        with _output_to_sink():
            self.kernel.run(until=self.scenario.healed + 5 * DAY)
        if not self.violations:
            self.watch.end()
        return Report(
            self.scenario.seed,
            tuple(self.violations),
            self._hash.hexdigest(),
            tuple(self._kept or ()),
            len(self.scenario.sent),
            self.fleet.invocations,
            dict(self.watch.calls),
            self.kernel.switches,
            self.kernel.now,
        )

    # ---- for the parts

    def trace(self, *what: object) -> None:
        line = f"{self.kernel.now:.6f} " + " ".join(map(str, what))
        self._hash.update(line.encode())
        if self._kept is not None:
            self._kept.append(line)

    def violate(self, what: str) -> None:
        """Record a violation and end the run."""
        self.trace("VIOLATION", what)
        self.violations.append(what)
        self.kernel.stop()

    def trouble(self, where: str) -> str | None:
        """Return the trouble in that place at the moment, if any."""
        return self.scenario.spell(where, self.kernel.now)

    def noise(self, kind: str) -> float:
        """Return the current probability of this kind of fault."""
        return self.scenario.noise.get(kind, 0.0) if self.kernel.now < self.scenario.healed else 0.0

    def chance(self, prefix: str) -> str | None:
        """Draw the fault that a request meets, if any."""
        if self.kernel.now >= self.scenario.healed:
            return None
        for kind, probability in self.scenario.noise.items():
            is_token, is_answer = kind.startswith("token-"), kind[0].isdigit() or kind in _ANSWERS
            if (is_token if prefix else is_answer) and self.rng.random() < probability:
                return kind
        return None

    def chance_of(self, kind: str) -> bool:
        probability = self.noise(kind)
        return probability > 0 and self.rng.random() < probability

    def sickness(self, key: str) -> str | None:
        """Return the trouble that Thrive has with a completion because of its learner."""
        sick = self.scenario.sick
        return sick.get(json.loads(key)["userId"]) if sick and self.kernel.now < self.scenario.healed else None

    def latency(self) -> float:
        """Draw the latency of a call: usually near the scenario's, sometimes ten times as long."""
        return min(8.0, self.scenario.latency * self.rng.lognormvariate(0.0, 0.7))

    def _thread_fails(self) -> bool:
        fails = self.chance_of("no-thread")
        environment = self.fleet.environment()
        if fails and environment.invocation is not None:
            # The threads that did start are left behind in the middle of what they were doing.
            environment.invocation.without_thread = True
            environment.odd_times = environment.left_threads = True
        return fails

    # ---- events of the scenario

    def _send(self, sent: Sent) -> None:
        self.trace("sent", sent.name, sent.fate, sent.group, sent.key)
        if sent.direct:
            self.fleet.invoke_directly(sent)
            if self.rng.random() < self.noise("duplicate"):
                self.fleet.invoke_directly(sent)
            return
        # Fair queues: on a standard queue a group is a tenant, and promises no order.
        tenant = "tenant" if not self.source.fifo and sent.number % 5 == 0 else None
        message = self.source.send(sent.body, group=sent.group or tenant)
        self.watch.sent_of[message.id] = sent
        self.kernel.after(self.rng.uniform(0.0, 0.2), self.poller.look)

    def _rotate(self, what: str, secret: str) -> None:
        self.trace(what)
        if what == "promote":
            self.current_secret = secret
            self.secret_forms += [form for form in forms_of(secret) if MARKER not in form]
        elif what == "issue":
            self.thrive.secrets.add(secret)
        else:
            self.thrive.revoke(secret, tokens_too=what == "revoke-all")


_ANSWERS = frozenset({"reset_before", "reset_after", "black_hole", "slow", "unreadable"})


class _Sink:
    """Receives the function's output. There is only one, because logging handlers keep the stream they started with."""

    world: World | None = None

    def write(self, text: str) -> int:
        world = self.world
        if world is not None and world.kernel.running:
            # The trace holds every line, without the times of the machine's own clock.
            world.trace("log", _REAL_TIME.sub("", text))
            environment = world.fleet.environment()
            *lines, environment.unfinished_line = (environment.unfinished_line + text).split("\n")
            for line in lines:
                world.watch.logged(environment, line)
        else:
            sys.__stdout__.write(text)
        return len(text)

    def flush(self) -> None:
        """Nothing is buffered."""


_SINK = _Sink()


@contextlib.contextmanager
def _output_to_sink() -> Iterator[None]:
    """Send standard output to the sink, and log records nowhere else: pytest would keep every one of a million."""
    root = logging.getLogger()
    handlers, root.handlers = root.handlers, []
    try:
        with contextlib.redirect_stdout(_SINK):
            yield
    finally:
        root.handlers = handlers


def simulate(package: Package, seed: int, *, keep_trace: bool = False) -> Report:
    return World(package, draw(seed), keep_trace=keep_trace).run()
