"""The world of a chaos run: the pipeline with a fault proxy before AWS, a TLS stand-in, and environments that die."""

from __future__ import annotations

import datetime as dt
import os
import ssl
import struct
import time
from collections import Counter
from contextlib import ExitStack, contextmanager, suppress
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
    from collections.abc import Iterator

    from sandbox.demo.reconcile import Sent
    from sandbox.pipeline.artefact import Artefact
    from sandbox.pipeline.emulator import Emulator
    from sandbox.pipeline.mail import Letter

ENVIRONMENTS = 3
TIMEOUT_SECONDS = 6
# Longer than the timeout, as AWS demands of a queue; what a killed environment held comes back after it.
VISIBILITY_SECONDS = 8
# The product waits for minutes where Thrive is away, this run for seconds. The template's 400 receives are left as they
# are: at one to three seconds each, a good message would have to fail for minutes before the queue gave it up, and no
# fault here lasts longer than some seconds.
HURRY = {
    "AWS_LAMBDA_FUNCTION_TIMEOUT": str(TIMEOUT_SECONDS),
    "BACKOFF_BASE_SECONDS": "1",
    "BACKOFF_CAP_SECONDS": "3",
    "REQUEST_TIMEOUT_SECONDS": "1",
    # Secrets Manager must be called often enough to fail.
    "SECRET_MAX_AGE_SECONDS": "1",
    "POWERTOOLS_LOG_LEVEL": "DEBUG",
}
_FUNCTION_PATH = Path(__file__).with_name("function_path")


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
        # OpenSSL calls this for every handshake, also if the client names no host because it connects to an address.
        self.context.sni_callback = self._choose

    def _choose(self, connection: ssl.SSLObject, _name: str | None, _context: ssl.SSLContext) -> None:
        self.served[self.current] += 1
        connection.context = self._contexts[self.current]


def _context(certificate: trustme.LeafCert) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    certificate.configure_cert(context)
    return context


class Victim(Environment):
    """An execution environment that may be killed at any moment, even while it starts.

    `frozen_until` is the monotonic time until which nothing but its timeout is to end a freeze.
    """

    kills = 0
    frozen_until = 0.0

    def kill_unexpectedly(self) -> None:
        """SIGKILL, counted."""
        self.kills += 1
        self.kill()


class Deliveries:
    """SQS as the poller sees it.

    While `twice` is set, messages are hidden for a second only, so that some come again while they are worked on;
    `doubled` counts those.
    """

    def __init__(self, sqs: Any) -> None:
        self.twice = False
        self.doubled = 0
        self._sqs = sqs
        self._received: set[str] = set()
        self.delete_message_batch = sqs.delete_message_batch

    def receive_message(self, **request: Any) -> dict[str, Any]:
        """Receive as the poller asks, or almost."""
        if not self.twice:
            return self._sqs.receive_message(**request)
        answer = self._sqs.receive_message(**request | {"VisibilityTimeout": 1})
        ids = {message["MessageId"] for message in answer.get("Messages", [])}
        self.doubled += len(ids & self._received)
        self._received |= ids
        return answer


@dataclass(slots=True)
class World:
    """Everything that a run is made of.

    `clock` holds the seconds by which the function's wall clock differs from the true time. `sent` holds each message
    with its FIFO group, if it has one; `hits` counts the faults that hit something, by act, of those `planned`.
    """

    folder: Path
    api: StandIn
    certificates: Certificates | None
    proxy: AwsProxy
    rig: Rig
    deliveries: Deliveries
    clock: Path
    client_secrets: list[str]
    sent: list[tuple[str | None, Sent]] = field(default_factory=list)
    letters: list[Letter] = field(default_factory=list)
    hits: Counter[str] = field(default_factory=Counter)
    planned: set[str] = field(default_factory=set)

    def step_clock(self, seconds: float) -> int:
        """Set the clock of all environments forward or back; return 1, for one hit."""
        with self.clock.open("r+b") as file:
            [offset] = struct.unpack("d", file.read())
            file.seek(0)
            file.write(struct.pack("d", offset + seconds))
        return 1

    def missed(self) -> list[str]:
        """Return what was planned and hit nothing."""
        return sorted(name for name in self.planned if not self.hits[name])

    def cut_connections(self) -> None:
        self.api.down()
        self.listen_again()

    def listen_again(self) -> None:
        """End an outage of Thrive; another program may have taken the port, for a moment."""
        for _ in range(50):
            with suppress(OSError):
                self.api.up()
                return
            time.sleep(0.1)
        self.api.up()

    def outputs(self) -> dict[str, str]:
        return {path.name: path.read_text(errors="replace") for path in sorted(self.folder.glob("*.log"))}


@contextmanager
def running_world(
    emulator: Emulator, code: Artefact, folder: Path, *, name: str, seed: int, tls: bool = True, fifo: bool = False
) -> Iterator[World]:
    """Set everything up without sending; at the end, all processes and threads end."""
    folder.mkdir(parents=True, exist_ok=True)
    certificates = Certificates(folder) if tls else None
    api = StandIn(seed=seed, ssl_context=certificates and certificates.context)
    api.directory.unknown_users.add(UNKNOWN_USER)
    api.directory.unknown_contents.add(UNKNOWN_CONTENT)
    # The weather never clears up: some messages are always deferred, so that their backoff is always being set.
    api.faults.add(Fault(route="completion", status=503, headers={"Retry-After": "3"}, times=None, probability=0.05))
    clock = folder / "clock"
    clock.write_bytes(struct.pack("d", 0.0))
    with ExitStack() as cleanup:
        cleanup.enter_context(api.running())
        proxy = cleanup.enter_context(AwsProxy(emulator.url, seed=seed).running())
        variables = {**HURRY, "AWS_ENDPOINT_URL": proxy.url, "CLOCK_OFFSET_FILE": str(clock)}
        if certificates:
            variables["SSL_CERT_FILE"] = str(certificates.authority)
        parameters = {"QueueType": "fifo", "UserWaitHours": "0"} if fifo else {}
        plan = Plan(visibility=VISIBILITY_SECONDS, parameters=parameters, overrides=variables)
        rig = cleanup.enter_context(running_rig(emulator, api, code, folder, name=name, plan=plan))
        # In place of the rig's own poller and environments, which have not been started: ones that misbehave, with the
        # function behind a clock that steps. The function's own folders come first, so that ours replaces none of it.
        own = {
            **rig.runtime.variables,
            "PYTHONPATH": f"{rig.runtime.variables['PYTHONPATH']}{os.pathsep}{_FUNCTION_PATH}",
        }
        runtime = replace(rig.runtime, handler="stepping_clock.lambda_handler", variables=own)
        victims = [Victim(runtime, folder, f"environment-{number}") for number in range(ENVIRONMENTS)]
        deliveries = Deliveries(emulator.sqs)
        rig = replace(rig, environments=victims, poller=Poller(deliveries, rig.stack.event_source, victims))
        for victim in victims:
            cleanup.callback(victim.kill)
        cleanup.callback(rig.poller.stop)
        yield World(folder, api, certificates, proxy, rig, deliveries, clock, [api.client_secret])
