"""One run: send in steps while things go wrong, heal everything, wait until the queue is empty, gather the evidence."""

from __future__ import annotations

import json
import random
import time
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from sandbox.demo.reconcile import Sent
from sandbox.demo.workload import Recorded, generate
from sandbox.pipeline import mail
from sandbox.pipeline.emf import json_lines, metric_sums
from tests.chaos import acts
from tests.chaos.judgement import Evidence
from tests.chaos.world import CANARIES

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Callable, Sequence

    from sandbox.demo.workload import Message
    from tests.chaos.schedule import Step
    from tests.chaos.world import World

# How long the queue may take to run empty when all is well again.
_DRAIN_SECONDS, _DRAIN_SECONDS_PER_MESSAGE = 120.0, 0.05
_TWICE_SHARE = 0.03
_TICK = 0.05
# A step lasts until all that goes wrong in it has hit something, but no longer.
_STEP_SECONDS = 6.0
_LEAST_STEP_SECONDS = 0.3
# The next step waits while more than so many steps' messages are unsettled, but not for long.
_SHARES_BEHIND = 3
_CATCH_UP_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Figures:
    """What a run took."""

    seconds: float
    drain_seconds: float
    sent: int
    hits: Counter[str]
    counts: Counter[str]
    thrive: dict[str, dict[str, int]]
    aws: Counter[str]
    metrics: Counter[str]
    letters: int
    kills: int
    cold_starts: int
    repeats: int

    def lines(self) -> list[str]:
        """Say it, in lines."""
        metrics = {name: int(value) for name, value in sorted(self.metrics.items()) if name != "ApiLatency"}
        return [
            f"sent {self.sent} messages; {self.seconds:.0f} s, of which {self.drain_seconds:.0f} s after the last step",
            f"received {self.counts['received']}: {self.counts['received'] - self.sent} redeliveries",
            f"the poller counted {dict(sorted(self.counts.items()))}",
            f"environments killed {self.kills} times, started {self.cold_starts} times",
            f"calls to Thrive by status: {self.thrive}; completions that it had already: {self.repeats}",
            f"calls to AWS: {dict(sorted(self.aws.items()))}",
            f"dead letters: {self.letters}",
            f"the function's own metrics (what killed environments had counted is lost): {metrics}",
            "what went wrong, and how often it hit:",
            *(f"  {number:5}  {name}" for name, number in sorted(self.hits.items())),
        ]


def workload(messages: int, seed: int) -> list[Message]:
    """Make up messages of every shape, good and bad; some are sent twice; some hold a learner's personal data."""
    rng = random.Random(seed)
    twice = int(messages * _TWICE_SHARE)
    made = [_with_canaries(message) for message in generate(messages - twice, seed)]
    copies = [replace(message, label=f"{message.label}, sent twice") for message in rng.sample(made, twice)]
    for copy in copies:
        made.insert(rng.randrange(len(made) + 1), copy)
    return made


def _with_canaries(message: Message) -> Message:
    content = message.written.content
    if "(not JSON)" in message.label:
        return replace(message, written=replace(message.written, content=f"{content} {' '.join(CANARIES)}"))
    if isinstance(message.expected, Recorded):
        fields = json.loads(content)
        if "userId" in fields:
            fields |= dict(zip(("email", "name"), CANARIES, strict=True))
            return replace(message, written=replace(message.written, content=json.dumps(fields)))
    return message


def run(
    world: World, messages: Sequence[Message], steps: Sequence[Step], *, say: Callable[[str], None], fifo: bool = False
) -> Figures:
    """Let it storm; return what it took. `world` holds what was sent; in a FIFO queue each step has groups of its own.

    A run that does not come to an end within the patience ends all the same: the judgement then finds what is left.
    """
    began = time.monotonic()
    share = -(-len(messages) // len(steps))
    world.rig.poller.start()
    for number, step in enumerate(steps):
        some = messages[number * share : (number + 1) * share]
        say(f"{time.monotonic() - began:6.1f} s  step {number + 1}: {step}")
        _play(world, step, lambda some=some, number=number: _send(world, some, number if fifo else None))
        # Not all at once: every fault is to meet messages that have not been settled.
        _wait(world, _CATCH_UP_SECONDS, lambda: world.rig.backlog() <= _SHARES_BEHIND * share)
    healed = time.monotonic()
    world.api.faults.clear()
    say(f"{healed - began:6.1f} s  all is well again; {world.rig.backlog()} messages are left")
    _wait(world, _DRAIN_SECONDS + _DRAIN_SECONDS_PER_MESSAGE * len(messages), lambda: world.rig.backlog() == 0)
    for timer in world.timers:
        timer.cancel()
    for victim in world.victims:
        victim.environment.thaw()
    world.rig.poller.stop()
    return _figures(world, time.monotonic() - began, time.monotonic() - healed)


def gather(world: World) -> Evidence:
    """Look at what is left; letters that were read before are remembered."""
    world.letters += world.rig.dead_letters()
    tokens = {
        arrival.headers.get("Authorization", "").partition(" ")[2] for arrival in world.api.requests.of("completion")
    }
    return Evidence(
        sent=tuple(world.sent),
        records=world.api.ledger.entries(),
        letters=tuple(world.letters),
        queued=world.rig.backlog(),
        outputs=world.outputs(),
        canaries=frozenset({*world.client_secrets, *CANARIES, *tokens} - {""}),
        failed_invocations={kind: world.rig.poller.counts[kind] for kind in ("error", "malformed", "exit", "timeout")},
    )


def _play(world: World, step: Step, send: Callable[[], None]) -> None:
    with ExitStack() as weather:
        for name in step.thrive:
            thrive: Any = {**acts.THRIVE, **acts.TLS}[name]
            weather.enter_context(thrive(world, name))
        for name in step.aws:
            weather.enter_context(acts.aws_fault(world, name))
        began = time.monotonic()
        send()
        acts.ENVIRONMENT[step.environment](world, step.environment)
        left = _LEAST_STEP_SECONDS - (time.monotonic() - began)
        if left > 0:
            time.sleep(left)
        _wait(world, _STEP_SECONDS, lambda: all(hits() for hits in world.pending.values()))


def _send(world: World, messages: Sequence[Message], step: int | None) -> None:
    """Send one share; `step` numbers the FIFO groups of a step."""
    rig = world.rig
    if step is not None:
        groups: dict[str, list[Message]] = {}
        for number, message in enumerate(messages):
            groups.setdefault(f"{step}-{number % 6}", []).append(message)
        for group, some in groups.items():
            ids = mail.send(rig.emulator.sqs, rig.queue_url, [m.written.content for m in some], group=group)
            world.sent += [Sent(message, identity) for message, identity in zip(some, ids, strict=True)]
            world.groups += [group] * len(some)
        return
    to_queue = [m for m in messages if m.written.channel == "queue"]
    to_bus = [m for m in messages if m.written.channel == "bus"]
    ids = mail.send(rig.emulator.sqs, rig.queue_url, [m.written.content for m in to_queue])
    ids += mail.put(rig.emulator.events, rig.stack.rule, [m.written.content for m in to_bus])
    world.sent += [Sent(message, identity) for message, identity in zip([*to_queue, *to_bus], ids, strict=True)]


def _wait(world: World, seconds: float, condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:
        world.rig.poller.check()
        time.sleep(_TICK)


def _figures(world: World, seconds: float, drain_seconds: float) -> Figures:
    world.letters += world.rig.dead_letters()
    return Figures(
        seconds=seconds,
        drain_seconds=drain_seconds,
        sent=len(world.sent),
        hits=world.hits,
        counts=world.rig.poller.counts,
        thrive=world.api.requests.counts(),
        aws=world.proxy.calls,
        metrics=metric_sums(json_lines(world.rig.logs)),
        letters=len(world.letters),
        kills=sum(victim.kills for victim in world.victims),
        cold_starts=sum(victim.environment.cold_starts for victim in world.victims),
        repeats=sum(entry.arrivals - 1 for entry in world.api.ledger),
    )
