"""What goes wrong: at Thrive, at AWS, and with the environments themselves. The schedule uses the acts' names."""

from __future__ import annotations

import json
import secrets
import threading
import time
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

from sandbox.pipeline.rig import secret_of
from sandbox.pipeline.stack import set_secret
from sandbox.thrive_api import Drip, Fault
from tests.chaos.aws_proxy import AwsFault

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.chaos.world import Victim, World

PATIENCE = 3.0
_TICK = 0.02
_OUTAGE_SECONDS = 1.5
_HOUR = 3600.0

# ---- Thrive: faults that the stand-in has ready
_COMPLETION: dict[str, Fault] = {
    "reset before the record": Fault(ending="reset", times=12, probability=0.5),
    "closed before the record": Fault(ending="close", times=12, probability=0.5),
    "reset after the record": Fault(ending="reset", commit=True, times=12, probability=0.5),
    "closed after the record": Fault(ending="close", commit=True, times=12, probability=0.5),
    "closed after the headers": Fault(ending="close_after_headers", times=12, probability=0.5),
    "truncated body": Fault(ending="truncate", times=12, probability=0.5),
    "endless body": Fault(ending="endless", times=2),
    "inflating body": Fault(spoil="gzip_bomb", headers={"Content-Encoding": "gzip"}, times=2),
    "black hole before the record": Fault(ending="black_hole", times=4),
    "black hole after the record": Fault(ending="black_hole", commit=True, times=4),
    "dripping headers": Fault(drip=Drip(part="headers", size=8, interval=0.2), times=4),
    "dripping body": Fault(drip=Drip(part="body", size=8, interval=0.4), times=4),
    "500": Fault(status=500, times=20, probability=0.5),
    "502 as HTML": Fault(status=502, spoil="html", times=20, probability=0.5),
    "503 with Retry-After": Fault(status=503, headers={"Retry-After": "1"}, times=20, probability=0.5),
    "429 with Retry-After": Fault(status=429, headers={"Retry-After": "3"}, times=20, probability=0.5),
    "500 after the record": Fault(status=500, commit=True, times=12, probability=0.5),
    "redirect": Fault(status=307, headers={"Location": "http://127.0.0.1:9/"}, times=3),
    "one token revoked": Fault(status=401, revoke_token=True, times=3, probability=0.5),
}
_TOKEN: dict[str, Fault] = {
    "token endpoint 503": Fault(status=503, times=2),
    "token endpoint 429": Fault(status=429, headers={"Retry-After": "1"}, times=2),
    "token endpoint resets": Fault(ending="reset", times=2),
    "token endpoint silent": Fault(ending="black_hole", times=2),
}
_CONNECTION: dict[str, Fault] = {
    "reset at accept": Fault(route="connection", ending="reset", times=8),
    "closed at accept": Fault(route="connection", ending="close", times=8),
    "silence at accept": Fault(route="connection", ending="black_hole", times=3),
}


@contextmanager
def _completion_fault(world: World, name: str) -> Iterator[None]:
    with _armed(world, name, replace(_COMPLETION[name], route="completion")):
        yield


@contextmanager
def _token_fault(world: World, name: str) -> Iterator[None]:
    with _armed(world, name, replace(_TOKEN[name], route="token")):
        world.api.revoke_all_tokens()
        yield


@contextmanager
def _connection_fault(world: World, name: str) -> Iterator[None]:
    with _armed(world, name, _CONNECTION[name]):
        _cut_connections(world)
        yield


@contextmanager
def _armed(world: World, name: str, fault: Fault) -> Iterator[None]:
    number = world.api.faults.add(fault)
    world.pending[name] = lambda: world.api.faults.hits(number)
    try:
        yield
    finally:
        world.hits[name] += world.api.faults.hits(number)
        world.api.faults.remove(number)
        del world.pending[name]


def _cut_connections(world: World) -> None:
    world.api.down()
    world.api.up()


# ---- Thrive: what is more than one fault
@contextmanager
def _echo(world: World, name: str) -> Iterator[None]:
    """Answer 500 with the client secret in the body, as a careless error page might."""
    body = json.dumps({"message": f"bad request with client_secret={world.api.client_secret}"})
    with _armed(world, name, Fault(route="completion", status=500, body=body, times=8, probability=0.5)):
        yield


@contextmanager
def _rate_limit(world: World, name: str) -> Iterator[None]:
    before = world.throttled()
    world.pending[name] = lambda: world.throttled() - before
    world.api.limit_rate(3)
    yield
    world.api.limit_rate(None)
    world.hits[name] += world.throttled() - before
    del world.pending[name]


@contextmanager
def _outage(world: World, name: str) -> Iterator[None]:
    world.api.down()
    yield
    time.sleep(_OUTAGE_SECONDS)
    world.api.up()
    world.hits[name] += 1


@contextmanager
def _revocation(world: World, name: str) -> Iterator[None]:
    world.api.revoke_all_tokens()
    yield
    world.hits[name] += 1


@contextmanager
def _rotation_old_dies_first(world: World, name: str) -> Iterator[None]:
    """Thrive takes only the new secret, and every token dies, a second before Secrets Manager holds it."""
    world.new_secret(secrets.token_urlsafe(24))
    world.api.accept_credentials((world.api.client_id, world.api.client_secret))
    world.api.revoke_all_tokens()
    yield
    time.sleep(0.5)
    set_secret(world.rig.emulator, world.rig.stack, secret_of(world.api))
    world.hits[name] += 1


@contextmanager
def _rotation_old_dies_last(world: World, name: str) -> Iterator[None]:
    """Both secrets are good for a while; then the old one and every token die."""
    old = world.api.client_secret
    world.new_secret(secrets.token_urlsafe(24))
    world.api.accept_credentials((world.api.client_id, old), (world.api.client_id, world.api.client_secret))
    set_secret(world.rig.emulator, world.rig.stack, secret_of(world.api))
    yield
    world.api.accept_credentials((world.api.client_id, world.api.client_secret))
    world.api.revoke_all_tokens()
    world.hits[name] += 1


@contextmanager
def _bad_certificate(world: World, name: str) -> Iterator[None]:
    certificates = world.certificates
    assert certificates is not None
    before = certificates.served[name]
    certificates.current = name
    world.pending[name] = lambda: certificates.served[name] - before
    _cut_connections(world)
    yield
    certificates.current = "good"
    world.hits[name] += certificates.served[name] - before
    del world.pending[name]


ANSWERS = (*_COMPLETION, "500 that quotes the secret")
THRIVE: dict[str, Callable[[World, str], object]] = {
    **dict.fromkeys(_COMPLETION, _completion_fault),
    **dict.fromkeys(_TOKEN, _token_fault),
    **dict.fromkeys(_CONNECTION, _connection_fault),
    "500 that quotes the secret": _echo,
    "rate limit": _rate_limit,
    "outage": _outage,
    "every token revoked": _revocation,
    "rotation, the old secret dies first": _rotation_old_dies_first,
    "rotation, the old secret dies last": _rotation_old_dies_last,
}
TLS: dict[str, Callable[[World, str], object]] = dict.fromkeys(
    ("certificate of another host", "expired certificate", "certificate of an unknown authority"), _bad_certificate
)

# ---- AWS
_FAULTS = {
    "GetSecretValue": ("denied", "throttled", "error", "reset", "hang"),
    "ChangeMessageVisibilityBatch": ("denied", "throttled", "error", "partial", "reset", "lost answer", "hang"),
    "SendMessageBatch": ("denied", "throttled", "error", "partial", "reset", "lost answer", "hang"),
}
# The dead-letter queue is unreachable altogether while `reset` and `hang` last. Secrets are read by few calls, and one
# failure defers a whole batch: with less than always, other faults get their turn too.
_PROBABILITY = {"GetSecretValue": 0.6, "ChangeMessageVisibilityBatch": 0.7, "SendMessageBatch": 1.0}
AWS: dict[str, dict[str, AwsFault]] = {
    action: {str(fault): fault for fault in (AwsFault(action, kind, _PROBABILITY[action]) for kind in kinds)}
    for action, kinds in _FAULTS.items()
}


@contextmanager
def aws_fault(world: World, name: str) -> Iterator[None]:
    """Keep the AWS fault of this name in force."""
    fault = AWS[name.partition(":")[0]][name]
    before = world.proxy.hits[name]
    world.pending[name] = lambda: world.proxy.hits[name] - before
    with world.proxy.fault(fault):
        yield
    world.hits[name] += world.proxy.hits[name] - before
    del world.pending[name]


# ---- the environments
def _busy(world: World) -> list[Victim]:
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        if busy := [victim for victim in world.victims if victim.environment.is_busy]:
            return busy
        time.sleep(_TICK / 4)
    return []


def _kill_after_the_record(world: World, name: str) -> None:
    """SIGKILL while answers are held back: Thrive has the records, the queue still has the messages."""
    held = world.api.faults.add(Fault(route="completion", commit=True, delay=0.7, times=10))
    deadline = time.monotonic() + PATIENCE
    while not world.api.faults.hits(held) and time.monotonic() < deadline:
        time.sleep(_TICK)
    if world.api.faults.hits(held):
        for victim in _busy(world):
            victim.kill()
            world.hits[name] += 1
    world.api.faults.remove(held)


def _kill_any(world: World, name: str) -> None:
    """SIGKILL at whatever moment it is, the start of the runtime too."""
    for _ in range(2):
        for victim in _busy(world)[:1]:
            victim.kill()
            world.hits[name] += 1
        time.sleep(0.15)


def _freeze_in_mid_batch(world: World, name: str) -> None:
    for victim in _busy(world)[:1]:
        victim.environment.freeze()
        time.sleep(1.0)
        victim.environment.thaw()
        world.hits[name] += 1


def _freeze_beyond_the_timeout(world: World, name: str) -> None:
    """Leave it frozen: Lambda kills it at its timeout. It is thawed later all the same, should it have been idle."""
    for victim in _busy(world)[:1]:
        victim.environment.freeze()
        timer = threading.Timer(world.timeout + 1.0, victim.environment.thaw)
        timer.daemon = True
        timer.start()
        world.timers.append(timer)
        world.hits[name] += 1


def _freeze_while_connections_end(world: World, name: str) -> None:
    """Do what a freeze longer than keep-alive comes to: every kept connection is dead when the environment goes on."""
    for victim in world.victims:
        victim.environment.freeze()
    _cut_connections(world)
    time.sleep(0.3)
    for victim in world.victims:
        victim.environment.thaw()
    world.hits[name] += 1


def _clock_forward(world: World, name: str) -> None:
    world.clock.step(2 * _HOUR)
    world.hits[name] += 1


def _clock_back(world: World, name: str) -> None:
    world.clock.step(-3 * _HOUR)
    world.hits[name] += 1


def _deliver_twice(world: World, name: str) -> None:
    """Let messages become visible while they are worked on, and hand out some that were deleted already."""
    before = world.deliveries.doubled
    world.deliveries.rate = 0.3
    held = world.api.faults.add(Fault(route="completion", delay=1.2, times=10))
    time.sleep(1.2)
    deadline = time.monotonic() + PATIENCE
    while world.deliveries.doubled == before and time.monotonic() < deadline:
        time.sleep(_TICK)
    world.deliveries.rate = 0.0
    world.api.faults.remove(held)
    world.hits[name] += world.deliveries.doubled - before


ENVIRONMENT: dict[str, Callable[[World, str], None]] = {
    "killed after the record": _kill_after_the_record,
    "killed at any moment": _kill_any,
    "frozen in mid-batch": _freeze_in_mid_batch,
    "frozen beyond the timeout": _freeze_beyond_the_timeout,
    "frozen while its connections end": _freeze_while_connections_end,
    "clock steps forward 2 h": _clock_forward,
    "clock steps back 3 h": _clock_back,
    "delivered twice": _deliver_twice,
}
