"""One run: send in steps while things go wrong, let everything heal, wait until the queue is empty, gather evidence."""

from __future__ import annotations

import json
import random
import time
from collections import defaultdict
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

from sandbox.demo.reconcile import Sent
from sandbox.demo.workload import Recorded, generate
from sandbox.pipeline import mail
from tests.chaos import acts
from tests.chaos.judgement import Evidence
from tests.support.canaries import EMAIL, NAME

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from sandbox.demo.workload import Message
    from tests.chaos.schedule import Step
    from tests.chaos.world import World

# How long the queue may take to run empty when all is well again.
_DRAIN_SECONDS, _DRAIN_SECONDS_PER_MESSAGE = 120.0, 0.05
_TWICE_SHARE = 0.03
_TICK = 0.05
# A step lasts until each of its faults has hit something, but no longer than this.
_STEP_SECONDS = 6.0
_LEAST_STEP_SECONDS = 0.3
# The next step waits, but not for long, while more than so many steps' messages are unsettled.
_SHARES_BEHIND = 3
_CATCH_UP_SECONDS = 5.0


def workload(messages: int, seed: int) -> list[Message]:
    """Make up messages of every shape, good and bad; some are sent twice; many hold a learner's personal data."""
    rng = random.Random(seed)
    twice = int(messages * _TWICE_SHARE)
    made = [_with_canaries(message) for message in generate(messages - twice, seed)]
    for message in rng.sample(made, twice):
        made.insert(rng.randrange(len(made) + 1), replace(message, label=f"{message.label}, sent twice"))
    return made


def _with_canaries(message: Message) -> Message:
    content = message.written.content
    if "(not JSON)" in message.label:
        content = f"{content} {EMAIL} {NAME}"
    elif isinstance(message.expected, Recorded) and "userId" in (fields := json.loads(content)):
        content = json.dumps(fields | {"email": EMAIL, "name": NAME})
    return replace(message, written=replace(message.written, content=content))


def run(
    world: World, messages: Sequence[Message], steps: Sequence[Step], *, say: Callable[[str], None], fifo: bool = False
) -> None:
    """Let it storm, then heal everything. `world` holds what was sent; in a FIFO queue each step has its own groups.

    A run that does not come to an end in time ends all the same: the judgement then finds what is left.
    """
    began = time.monotonic()
    share = -(-len(messages) // len(steps))
    world.planned = set().union(*steps)
    world.rig.poller.start()
    for number, step in enumerate(steps):
        say(f"{time.monotonic() - began:6.1f} s  step {number + 1}: {'; '.join(step)}")
        _play(world, step, messages[number * share : (number + 1) * share], number if fifo else None)
        # Not all at once: every fault is to meet messages that have not been settled.
        _wait(world, _CATCH_UP_SECONDS, lambda: world.rig.backlog() <= _SHARES_BEHIND * share)
    world.api.faults.clear()
    say(f"{time.monotonic() - began:6.1f} s  all is well again; {world.rig.backlog()} messages are left")
    _wait(world, _DRAIN_SECONDS + _DRAIN_SECONDS_PER_MESSAGE * len(messages), lambda: world.rig.backlog() == 0)
    world.rig.poller.stop()


def gather(world: World) -> Evidence:
    """Collect what is left; letters that were read before are remembered."""
    world.letters += world.rig.dead_letters()
    tokens = {
        arrival.headers.get("Authorization", "").partition(" ")[2] for arrival in world.api.requests.of("completion")
    }
    return Evidence(
        sent=[item for _, item in world.sent],
        records=world.api.ledger.entries(),
        letters=tuple(world.letters),
        queued=world.rig.backlog(),
        outputs=world.outputs(),
        secrets=frozenset({*world.client_secrets, *tokens} - {""}),
        failed_invocations={kind: world.rig.poller.counts[kind] for kind in ("error", "malformed")},
    )


def report(world: World) -> list[str]:
    """Return what happened in a run, in lines for people."""
    return [
        f"sent {len(world.sent)} messages, found {len(world.letters)} dead letters",
        f"environments killed: {[victim.kills for victim in world.rig.environments]} times",
        f"the poller counted {dict(sorted(world.rig.poller.counts.items()))}",
        f"calls to Thrive by status: {world.api.requests.counts()}",
        "what went wrong, and how often it hit:",
        *(f"  {number:5}  {name}" for name, number in sorted(world.hits.items())),
    ]


def _play(world: World, step: Step, messages: Sequence[Message], group: int | None) -> None:
    *names, environment = step
    with ExitStack() as weather:
        hits = {name: weather.enter_context(contextmanager(acts.ACTS[name])(world)) for name in names}
        ends = time.monotonic() + _LEAST_STEP_SECONDS
        _send(world, messages, group)
        world.hits[environment] += acts.ENVIRONMENT[environment](world)
        time.sleep(max(0.0, ends - time.monotonic()))
        _wait(world, _STEP_SECONDS, lambda: all(count() for count in hits.values()))
    world.hits.update({name: count() for name, count in hits.items()})


def _send(world: World, messages: Sequence[Message], step: int | None) -> None:
    """Send one share; `step` is part of the names of a FIFO queue's groups."""
    rig = world.rig
    groups: defaultdict[str, list[Message]] = defaultdict(list)
    for number, message in enumerate(messages):
        groups[f"{step}-{number % 6}" if step is not None else message.written.channel].append(message)
    for name, some in groups.items():
        contents = [message.written.content for message in some]
        group = name if step is not None else None
        if name == "bus":
            ids = mail.put(rig.emulator.events, rig.stack.rule, contents)
        else:
            ids = mail.send(rig.emulator.sqs, rig.queue_url, contents, group=group)
        world.sent += [(group, Sent(message, identity)) for message, identity in zip(some, ids, strict=True)]


def _wait(world: World, seconds: float, condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:
        world.rig.poller.check()
        time.sleep(_TICK)
