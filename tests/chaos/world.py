"""The world of a chaos run: the pipeline with a fault proxy before AWS, a TLS stand-in, and environments that die."""

from __future__ import annotations

import datetime as dt
import mmap
import os
import random
import ssl
import struct
import threading
from collections import Counter, deque
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import trustme

from sandbox.demo.shapes import UNKNOWN_CONTENT, UNKNOWN_USER
from sandbox.pipeline.poller import Poller
from sandbox.pipeline.rig import Plan, Rig, running_rig
from sandbox.pipeline.runtime import Environment
from sandbox.thrive_api import Fault, StandIn
from tests.chaos.aws_proxy import AwsProxy

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from sandbox.demo.reconcile import Sent
    from sandbox.pipeline.artefact import Artefact
    from sandbox.pipeline.emulator import Emulator
    from sandbox.pipeline.mail import Letter

ENVIRONMENTS = 3
TIMEOUT_SECONDS = 6
# Longer than the timeout, as AWS demands of a queue; what a killed environment held comes back after it.
VISIBILITY_SECONDS = 8
# The product waits for minutes where Thrive is away, this run for seconds. The template's 400 receives are left as they
# are: with one to three seconds for each, a good message would have to fail for minutes on end before the queue gave it
# up, and no fault here lasts longer than some seconds.
HURRY = {
    "AWS_LAMBDA_FUNCTION_TIMEOUT": str(TIMEOUT_SECONDS),
    "BACKOFF_BASE_SECONDS": "1",
    "BACKOFF_CAP_SECONDS": "3",
    "REQUEST_TIMEOUT_SECONDS": "1",
    # Secrets Manager must be asked often enough to fail.
    "SECRET_MAX_AGE_SECONDS": "1",
    "POWERTOOLS_LOG_LEVEL": "DEBUG",
}
# Learners' data that must show in no output.
CANARIES = ("canary@learner.example", "Canary Q. Learner")
_FUNCTION_PATH = Path(__file__).with_name("function_path")
_DOUBLE_MEMORY = 60


class Certificates:
    """A server's certificates, one of them in use; `served` counts the handshakes by certificate."""

    def __init__(self, folder: Path) -> None:
        authority, unknown = trustme.CA(), trustme.CA()
        now = dt.datetime.now(dt.UTC)
        past = {"not_before": now - dt.timedelta(days=9), "not_after": now - dt.timedelta(days=1)}
        self._contexts = {
            "good": _context(authority.issue_cert("127.0.0.1")),
            "certificate of another host": _context(authority.issue_cert("thrive.example")),
            "expired certificate": _context(authority.issue_cert("127.0.0.1", **past)),
            "certificate of an unknown authority": _context(unknown.issue_cert("127.0.0.1")),
        }
        self.current = "good"
        self.served: Counter[str] = Counter()
        self.authority = folder / "authority.pem"
        authority.cert_pem.write_to_path(str(self.authority))
        self.context = _context(authority.issue_cert("127.0.0.1"))
        # OpenSSL asks for every handshake, also where the client names no host, as for an address.
        self.context.sni_callback = self._choose

    def _choose(self, connection: ssl.SSLObject, _name: str | None, _context: ssl.SSLContext) -> None:
        self.served[self.current] += 1
        connection.context = self._contexts[self.current]


def _context(certificate: trustme.LeafCert) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    certificate.configure_cert(context)
    return context


class SteppingClock:
    """The wall clock of the function: its offset from the true time, in a file that the function maps into memory."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.write_bytes(struct.pack("d", 0.0))
        with path.open("r+b") as file:
            self._map = mmap.mmap(file.fileno(), 8)
        self._offset = 0.0

    def step(self, seconds: float) -> None:
        """Move it, for all environments at once."""
        self._offset += seconds
        self._map[:] = struct.pack("d", self._offset)

    def close(self) -> None:
        """Let go of the file."""
        self._map.close()


class Victim:
    """An execution environment that may be killed at any moment, its start included."""

    def __init__(self, environment: Environment) -> None:
        self.environment = environment
        self.kills = 0

    def invoke(self, event: Mapping[str, Any]) -> bytes:
        """Invoke the function."""
        return self.environment.invoke(event)

    def kill(self) -> None:
        """SIGKILL."""
        self.kills += 1
        self.environment.kill()


class Deliveries:
    """SQS as the poller sees it, with at-least-once delivery taken at its word while `rate` is above zero.

    A receive then hides its messages for a second only, so that they come again while they are worked on, or it brings
    one again that was received before and may have been deleted since, under its old receipt handle.
    """

    def __init__(self, sqs: Any, seed: int) -> None:
        self.rate = 0.0
        self.doubled = 0
        self._sqs = sqs
        self._random = random.Random(seed)
        self._past: deque[Any] = deque(maxlen=_DOUBLE_MEMORY)
        self._lock = threading.Lock()
        self.delete_message_batch = sqs.delete_message_batch

    def receive_message(self, **request: Any) -> dict[str, Any]:
        """Receive as the poller asks, or a little otherwise."""
        with self._lock:
            hide_briefly, bring_again = (self._random.random() < self.rate for _ in range(2))
        if hide_briefly:
            request["VisibilityTimeout"] = 1
        messages = self._sqs.receive_message(**request).get("Messages", [])
        with self._lock:
            ids = {message["MessageId"] for message in messages}
            again = [message for message in self._past if message["MessageId"] not in ids]
            self._past.extend(messages)
            if bring_again and again and len(messages) < request["MaxNumberOfMessages"]:
                messages = [*messages, self._random.choice(again)]
                self.doubled += 1
            elif hide_briefly:
                self.doubled += len(messages)
        return {"Messages": messages}


@dataclass(slots=True)
class World:
    """Everything that a run is made of; `pending` tells how often an act that is on has hit, `hits` is the sum."""

    folder: Path
    api: StandIn
    certificates: Certificates | None
    proxy: AwsProxy
    rig: Rig
    victims: list[Victim]
    deliveries: Deliveries
    clock: SteppingClock
    timeout: float = TIMEOUT_SECONDS
    sent: list[Sent] = field(default_factory=list)
    groups: list[str] = field(default_factory=list)
    letters: list[Letter] = field(default_factory=list)
    client_secrets: list[str] = field(default_factory=list)
    timers: list[threading.Timer] = field(default_factory=list)
    hits: Counter[str] = field(default_factory=Counter)
    pending: dict[str, Callable[[], int]] = field(default_factory=dict)

    def new_secret(self, value: str) -> None:
        """Let Thrive's client have another secret, and remember it as a canary."""
        self.api.client_secret = value
        self.client_secrets.append(value)

    def throttled(self) -> int:
        """Count the answers 429 until now."""
        return self.api.requests.counts().get("completion", {}).get("429", 0)

    def outputs(self) -> dict[str, str]:
        """Give what the function and its runtime have written, by file."""
        return {path.name: path.read_text(errors="replace") for path in sorted(self.folder.glob("*.log"))}


@contextmanager
def running_world(
    emulator: Emulator, code: Artefact, folder: Path, *, name: str, seed: int, tls: bool = True, fifo: bool = False
) -> Iterator[World]:
    """Set everything up without sending; on leaving all processes and threads end."""
    folder.mkdir(parents=True, exist_ok=True)
    certificates = Certificates(folder) if tls else None
    api = StandIn(seed=seed, ssl_context=certificates.context if certificates else None)
    api.directory.unknown_users.add(UNKNOWN_USER)
    api.directory.unknown_contents.add(UNKNOWN_CONTENT)
    clock = SteppingClock(folder / "clock")
    with ExitStack() as cleanup:
        cleanup.callback(clock.close)
        cleanup.enter_context(api.running())
        proxy = cleanup.enter_context(AwsProxy(emulator.url, seed=seed).running())
        plan = Plan(
            environments=ENVIRONMENTS,
            visibility=VISIBILITY_SECONDS,
            parameters={"QueueType": "fifo", "UserWaitHours": "0"} if fifo else {},
            overrides={
                **HURRY,
                "AWS_ENDPOINT_URL": proxy.url,
                "CLOCK_OFFSET_FILE": str(clock.path),
                **({"SSL_CERT_FILE": str(certificates.authority)} if certificates else {}),
            },
        )
        rig = cleanup.enter_context(running_rig(emulator, api, code, folder, name=name, plan=plan))
        deliveries = Deliveries(emulator.sqs, seed)
        rig, victims = _with_victims(rig, deliveries, folder)
        for victim in victims:
            cleanup.callback(victim.environment.kill)
        cleanup.callback(rig.poller.stop)
        world = World(folder, api, certificates, proxy, rig, victims, deliveries, clock)
        world.client_secrets.append(api.client_secret)
        # Bad weather never quite ends: some messages are always deferred, so that their backoff is always being set.
        api.faults.add(
            Fault(route="completion", status=503, headers={"Retry-After": "3"}, times=None, probability=0.05)
        )
        cleanup.callback(lambda: [timer.cancel() for timer in world.timers])
        yield world


def _with_victims(rig: Rig, deliveries: Deliveries, folder: Path) -> tuple[Rig, list[Victim]]:
    """Put our own environments in the place of the rig's, which have not been started."""
    variables = dict(rig.runtime.variables)
    # The function behind a clock that steps. Its own files come first, so that nothing of ours can stand in for them.
    variables["PYTHONPATH"] += f"{os.pathsep}{_FUNCTION_PATH}"
    runtime = replace(rig.runtime, handler="stepping_clock.lambda_handler", variables=variables)
    environments = [Environment(runtime, folder, f"environment-{n}") for n in range(1, ENVIRONMENTS + 1)]
    victims = [Victim(environment) for environment in environments]
    poller = Poller(deliveries, rig.stack.event_source, victims)
    return replace(rig, runtime=runtime, environments=environments, poller=poller), victims
