"""Simulated Lambda: execution environments, the event source mapping that polls the queue, and asynchronous invocation.

Modelled: environments that are made when none is idle, frozen between invocations (which stops the monotonic clock and
every thread left behind), retired at will, stopped hard at the timeout, crashed or stalled at any switch point, their
wall clocks stepped; batches by the event source's rules; batches that are received and never invoked; deletions that
fail; two retries of a direct event, and then its destination.

Not modelled: initialisation and computing take no time; the batching window is 0.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from sandbox.pipeline.batches import MalformedAnswerError, failed_ids
from tests.support.s3 import CONFIG_URI

from .calls import Calls
from .kernel import EPOCH, Process
from .queues import SqsClient
from .scenario import BACKOFF_BASE, BACKOFF_CAP, FUNCTION_TIMEOUT, REQUEST_TIMEOUT, SECRET_ID, SECRET_MAX_AGE
from .thrive import SecretsClient

if TYPE_CHECKING:
    from collections.abc import Hashable

    from .queues import Stored
    from .scenario import Sent, Upload
    from .world import World

_STEPS = (-7200.0, -7200.0, -600.0, -1.0, 1.0, 45.0, 600.0, 7200.0)
_ATTEMPTS = 3


@dataclass
class Invocation:
    """One invocation of the function, and what it did."""

    number: int
    event: dict[str, Any]
    started: float
    messages: list[tuple[Stored, str]] = field(default_factory=list)
    direct: Sent | None = None
    attempt: int = 1
    lines: defaultdict[str, list[dict[str, Any]]] = field(default_factory=lambda: defaultdict(list))
    defects: list[str] = field(default_factory=list)
    calls: Counter[str] = field(default_factory=Counter)
    unauthorized: Counter[str] = field(default_factory=Counter)
    successes: dict[str, float] = field(default_factory=dict)
    retry_after: dict[str, float] = field(default_factory=dict)
    postponed: set[str] = field(default_factory=set)
    # The subjects of probes.
    probes: list[Hashable] = field(default_factory=list)
    # Whether it read the secret or requested a token, so that a request may leave long after it was admitted.
    waited_for_access: bool = False
    without_thread: bool = False
    ended: bool = False


class Environment:
    """One execution environment: a process with everything that the function keeps in memory."""

    def __init__(self, world: World, number: int) -> None:
        self.name = f"environment-{number}"
        self.process = Process(world.kernel, self.name, self._died)
        self.invocation: Invocation | None = None
        # Its times are not what the watch expects: the wall clock was stepped, or a thread was stalled.
        self.odd_times = False
        # A thread of one invocation may go on in the next one.
        self.left_threads = False
        self.unfinished_line = ""
        self.memory = Memory()
        self.completions = Calls(world, self, "completions", world.scenario.in_flight, subjects=3)
        self.lookups = Calls(world, self, "lookups", max(1, world.scenario.in_flight // 2), subjects=3)
        # One thread may renew a token that another one has found to be of no use any more.
        self.tokens = Calls(world, self, "tokens", 2, subjects=1)
        self.all_calls = (self.completions, self.lookups, self.tokens)
        self._world = world
        self._application: Any = None

    def application(self) -> Any:
        if self._application is None:
            world = self._world
            package = world.package
            settings = package.settings.Settings.from_env(_environment_variables(world))
            secrets, sqs = SecretsClient(world, self), SqsClient(world, self)
            self._application = package.bootstrap.build(
                settings, secrets=lambda: secrets, sqs=lambda: sqs, s3=world.bucket.client
            )
        return self._application

    def invoke(self, invocation: Invocation) -> None:
        world, process = self._world, self.process
        self.invocation = invocation
        if process.frozen:
            process.thaw()
        if world.rng.random() < world.noise("step"):
            process.wall_offset += world.rng.choice(_STEPS)
            self.odd_times = True
        process.stalled, process.points_to_crash, process.points_to_stall = False, None, None
        if world.rng.random() < world.noise("crash"):
            process.points_to_crash = world.rng.randint(1, world.rng.choice((20, 80, 400)))
        if world.rng.random() < world.noise("stall"):
            process.points_to_stall = world.rng.randint(1, world.rng.choice((20, 80, 400)))
            process.stall_seconds = world.rng.choice((0.5, 5.0, 45.0, 80.0))
            self.odd_times = self.left_threads = True
        world.kernel.spawn(process, lambda: self._run(invocation))
        world.kernel.after(FUNCTION_TIMEOUT, lambda: self._stop_hard(invocation))

    def _run(self, invocation: Invocation) -> None:
        outcome: Any
        try:
            outcome = self._world.package.handler.lambda_handler(invocation.event, Context(self._world, invocation))
        except Exception as error:  # noqa: BLE001 - what Lambda does with it, the fleet knows
            outcome = error
        if not invocation.ended:
            self._end(invocation)
            self.process.freeze()
            self._world.fleet.returned(self, invocation, outcome)

    def _stop_hard(self, invocation: Invocation) -> None:
        if not invocation.ended and not self.process.dead:
            self._world.watch.stopped_hard(self, invocation)
            self.process.kill()

    def _died(self) -> None:
        invocation = self.invocation
        if invocation is not None and not invocation.ended:
            self._end(invocation)
            self._world.fleet.died(self, invocation)

    def _end(self, invocation: Invocation) -> None:
        invocation.ended = True
        self.invocation = None


class HeldToken(NamedTuple):
    """A token that an environment has received; times are the kernel's."""

    value: str
    secret: str
    lifetime: float
    requested_at: float
    received_at: float


@dataclass
class Memory:
    """The answers that an environment has received: the watch judges its next requests by them."""

    token: HeldToken | None = None
    asked_at: float = float("-inf")
    token_refused: dict[str, float] = field(default_factory=dict)
    refused_tokens: set[str] = field(default_factory=set)
    longest_retry_after: float = 0.0
    refusals: int = 0
    unread_refusal: bool = False
    secret: str | None = None
    secret_asked_at: float = float("-inf")
    secret_was_given: bool = False
    refusals_at_read: int = 0
    reads_in_invocation: int = 0
    # Valid versions of the two files that were read to the end, and when.
    configs: list[tuple[float, Upload]] = field(default_factory=list)


class Context:
    def __init__(self, world: World, invocation: Invocation) -> None:
        self.aws_request_id = f"00000000-0000-4000-8000-{invocation.number:012d}"
        self._world = world
        self._ends = invocation.started + FUNCTION_TIMEOUT

    def get_remaining_time_in_millis(self) -> int:
        return max(0, int((self._ends - self._world.kernel.now) * 1000))


class Fleet:
    def __init__(self, world: World) -> None:
        self.environments: list[Environment] = []
        self.idle: list[Environment] = []
        self.invocations = 0
        self.undelivered: list[Sent] = []
        self._world = world

    def environment(self) -> Environment:
        process = self._world.kernel.process
        return next(environment for environment in reversed(self.environments) if environment.process is process)

    def invoke(self, event: dict[str, Any], messages: list[tuple[Stored, str]]) -> None:
        self._invoke(Invocation(0, event, 0.0, messages))

    def invoke_directly(self, sent: Sent, attempt: int = 1) -> None:
        self._invoke(Invocation(0, json.loads(sent.body), 0.0, direct=sent, attempt=attempt))

    def _invoke(self, invocation: Invocation) -> None:
        world = self._world
        self.invocations += 1
        invocation.number, invocation.started = self.invocations, world.kernel.now
        while self.idle and world.rng.random() < world.noise("retire"):
            self.idle.pop(world.rng.randrange(len(self.idle))).process.kill()
        if self.idle:
            environment = self.idle.pop(world.rng.randrange(len(self.idle)))
        else:
            environment = Environment(world, len(self.environments))
            self.environments.append(environment)
        environment.memory.reads_in_invocation, environment.memory.unread_refusal = 0, False
        world.trace("invoke", environment.name, len(invocation.messages), invocation.direct and invocation.direct.name)
        environment.invoke(invocation)

    def returned(self, environment: Environment, invocation: Invocation, outcome: Any) -> None:
        self.idle.append(environment)
        self._world.watch.returned(environment, invocation, outcome)
        if invocation.direct is not None:
            if isinstance(outcome, Exception):
                self._try_again(invocation)
        else:
            self._world.poller.settle(invocation, outcome)

    def died(self, environment: Environment, invocation: Invocation) -> None:
        self._world.trace("died", environment.name)
        if invocation.direct is not None:
            self._try_again(invocation)
        else:
            self._world.poller.settle(invocation, RuntimeError("the environment died"))

    def _try_again(self, invocation: Invocation) -> None:
        sent = invocation.direct
        assert sent is not None
        if invocation.attempt == _ATTEMPTS:
            self.undelivered.append(sent)
        else:
            again = invocation.attempt + 1
            self._world.kernel.after(60.0 * invocation.attempt, lambda: self.invoke_directly(sent, again))


class Poller:
    """The event source mapping."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._busy = 0
        self._next: float | None = None

    def look(self) -> None:
        self._look_at(self._world.kernel.now)

    def _look_at(self, time: float) -> None:
        if self._next is None or time < self._next:
            self._next = time
            self._world.kernel.at(time, self._poll)

    def _poll(self) -> None:
        world = self._world
        if self._next is None or world.kernel.now < self._next:
            return
        self._next = None
        scenario = world.scenario
        while self._busy < scenario.concurrency:
            most = scenario.batch_size if world.rng.random() < 0.6 else world.rng.randint(1, scenario.batch_size)
            batch = world.source.receive(most)
            if not batch:
                break
            if world.rng.random() < world.noise("lost-batch"):
                continue
            self._busy += 1
            event = {"Records": [self._record(message) for message in batch]}
            world.fleet.invoke(event, [(message, message.receipt) for message in batch])
        coming = [message.visible_at for message in world.source.stored if message.visible_at > world.kernel.now]
        if coming and self._busy < scenario.concurrency:
            self._look_at(min(coming))

    def _record(self, message: Stored) -> dict[str, Any]:
        attributes = {
            "ApproximateReceiveCount": str(message.receives),
            "SentTimestamp": str(int((EPOCH + message.sent_at) * 1000)),
            "SenderId": "AROAEXAMPLE:producer",
            "ApproximateFirstReceiveTimestamp": str(int((EPOCH + (message.first_received or 0.0)) * 1000)),
        }
        if message.group is not None:
            attributes["MessageGroupId"] = message.group
        if self._world.source.fifo:
            attributes["SequenceNumber"] = f"{self._world.source.stored.index(message) + 1:020d}"
            attributes["MessageDeduplicationId"] = message.id
        return {
            "messageId": message.id,
            "receiptHandle": message.receipt,
            "body": message.body,
            "attributes": attributes,
            "messageAttributes": {},
            "eventSource": "aws:sqs",
            "eventSourceARN": self._world.source.arn,
            "awsRegion": "eu-west-2",
        }

    def settle(self, invocation: Invocation, outcome: Any) -> None:
        self._busy -= 1
        known = {message.id for message, _ in invocation.messages}
        failed = failures(outcome, known)
        for message, receipt in invocation.messages:
            if message.id not in failed:
                self._world.watch.acknowledged(message)
                if self._world.rng.random() >= self._world.noise("delete-fails"):
                    self._world.source.delete(message, receipt)
        self.look()


def failures(answer: Any, known: set[str]) -> set[str]:
    """Return the ids of the messages that become visible again after an answer, or after what the function raised."""
    if isinstance(answer, Exception):
        return known
    try:
        return set(failed_ids(json.dumps(answer).encode(), known))
    except MalformedAnswerError:
        return known


def _environment_variables(world: World) -> dict[str, str]:
    """Return the function's environment variables, as the template sets them."""
    variables = {
        "THRIVE_SECRET_ID": SECRET_ID,
        "THRIVE_BASE_URL": "https://thrive.example",
        # One token for completions and lookups.
        "THRIVE_SCOPE": "api/all",
        "RETRY_QUEUE_URL": world.source.url,
        "DEAD_LETTER_QUEUE_URL": world.dead_letters_url if world.scenario.has_dead_letter_queue else "",
        "CONFIG_URI": CONFIG_URI if world.scenario.uploads else "",
        "MAX_CONCURRENCY": str(world.scenario.in_flight),
        "SECRET_MAX_AGE_SECONDS": str(SECRET_MAX_AGE),
        "REQUEST_TIMEOUT_SECONDS": str(REQUEST_TIMEOUT),
        "BACKOFF_BASE_SECONDS": str(BACKOFF_BASE),
        "BACKOFF_CAP_SECONDS": str(BACKOFF_CAP),
        "POWERTOOLS_SERVICE_NAME": "simulated",
    }
    return {name: value for name, value in variables.items() if value}
