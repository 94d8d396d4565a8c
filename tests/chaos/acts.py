"""What goes wrong: at Thrive, at AWS, and with the environments themselves.

An act at Thrive or AWS is a generator function, to be run as a context manager while one share of the messages is sent.
It yields a function that returns how often the act has hit something so far.
"""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from sandbox.pipeline.rig import secret_of
from sandbox.pipeline.stack import set_secret
from sandbox.thrive_api import Drip, Fault
from tests.chaos.aws_proxy import AwsFault
from tests.chaos.world import TIMEOUT_SECONDS

if TYPE_CHECKING:
    from tests.chaos.world import Victim, World

Hits = Callable[[], int]
Act = Callable[["World"], Iterator[Hits]]

PATIENCE = 3.0
_TICK = 0.02
_OUTAGE_SECONDS = 1.5


# ---- Thrive: faults that the stand-in has ready
def _fault(route: Any, **fault: Any) -> Act:
    """Return an act that puts a fault of the stand-in in force; a value may be a function of the world."""

    def act(world: World) -> Iterator[Hits]:
        made = {name: value(world) if callable(value) else value for name, value in fault.items()}
        number = world.api.faults.add(Fault(route=route, **made))
        if route == "token":
            world.api.revoke_all_tokens()
        elif route == "connection":
            world.cut_connections()
        yield lambda: world.api.faults.hits(number)
        world.api.faults.remove(number)

    return act


def _quoting_the_secret(world: World) -> str:
    return json.dumps({"message": f"bad request with client_secret={world.api.client_secret}"})


_HALF: dict[str, Any] = {"times": 12, "probability": 0.5}
# Faults of single answers: two of them may be in force at once.
ANSWERS: dict[str, Act] = {
    name: _fault("completion", **fault)
    for name, fault in {
        "reset before the record": {"ending": "reset", **_HALF},
        "closed before the record": {"ending": "close", **_HALF},
        "reset after the record": {"ending": "reset", "commit": True, **_HALF},
        "closed after the record": {"ending": "close", "commit": True, **_HALF},
        "closed after the headers": {"ending": "close_after_headers", **_HALF},
        "truncated body": {"ending": "truncate", **_HALF},
        "endless body": {"ending": "endless", "times": 2},
        "inflating body": {"spoil": "gzip_bomb", "headers": {"Content-Encoding": "gzip"}, "times": 2},
        "black hole before the record": {"ending": "black_hole", "times": 4},
        "black hole after the record": {"ending": "black_hole", "commit": True, "times": 4},
        "dripping headers": {"drip": Drip(part="headers", size=8, interval=0.2), "times": 4},
        "dripping body": {"drip": Drip(part="body", size=8, interval=0.4), "times": 4},
        "500": {"status": 500, "times": 20, "probability": 0.5},
        "500 after the record": {"status": 500, "commit": True, **_HALF},
        "500 that quotes the secret": {"status": 500, "body": _quoting_the_secret, "times": 8, "probability": 0.5},
        "502 as HTML": {"status": 502, "spoil": "html", "times": 20, "probability": 0.5},
        "503 with Retry-After": {"status": 503, "headers": {"Retry-After": "1"}, "times": 20, "probability": 0.5},
        "429 with Retry-After": {"status": 429, "headers": {"Retry-After": "3"}, "times": 20, "probability": 0.5},
        "redirect": {"status": 307, "headers": {"Location": "http://127.0.0.1:9/"}, "times": 3},
        "one token revoked": {"status": 401, "revoke_token": True, "times": 3, "probability": 0.5},
    }.items()
}
_TOKENS_AND_CONNECTIONS: dict[str, Act] = {
    "token endpoint 503": _fault("token", status=503, times=2),
    "token endpoint 429": _fault("token", status=429, headers={"Retry-After": "1"}, times=2),
    "token endpoint resets": _fault("token", ending="reset", times=2),
    "token endpoint silent": _fault("token", ending="black_hole", times=2),
    "reset at accept": _fault("connection", ending="reset", times=8),
    "closed at accept": _fault("connection", ending="close", times=8),
    "silence at accept": _fault("connection", ending="black_hole", times=3),
}


# ---- Thrive: what is more than one fault
def _rate_limit(world: World) -> Iterator[Hits]:
    def throttled() -> int:
        return world.api.requests.counts().get("completion", {}).get("429", 0)

    before = throttled()
    world.api.limit_rate(3)
    yield lambda: throttled() - before
    world.api.limit_rate(None)


def _switch(on: Callable[[World], object], off: Callable[[World], object] = lambda _: None) -> Act:
    """Return an act that does one thing at its beginning and another at its end, and always hits."""

    def act(world: World) -> Iterator[Hits]:
        on(world)
        yield lambda: 1
        off(world)

    return act


def _rotate(world: World) -> None:
    """Add a client secret at Thrive; the old one stays valid."""
    old = world.api.client_secret
    world.api.client_secret = secrets.token_urlsafe(24)
    world.client_secrets.append(world.api.client_secret)
    world.api.accept_credentials((world.api.client_id, old), (world.api.client_id, world.api.client_secret))


def _publish(world: World) -> None:
    """Put the new secret into Secrets Manager."""
    set_secret(world.rig.emulator, world.rig.stack, secret_of(world.api))


def _revoke(world: World) -> None:
    """Let the old secret and every token die."""
    world.api.accept_credentials((world.api.client_id, world.api.client_secret))
    world.api.revoke_all_tokens()


def _bad_certificate(name: str) -> Act:
    def act(world: World) -> Iterator[Hits]:
        certificates = world.certificates
        assert certificates is not None
        before = certificates.served[name]
        certificates.current = name
        world.cut_connections()
        yield lambda: certificates.served[name] - before
        certificates.current = "good"

    return act


THRIVE: dict[str, Act] = {
    **ANSWERS,
    **_TOKENS_AND_CONNECTIONS,
    "rate limit": _rate_limit,
    "outage": _switch(
        lambda world: world.api.down(), lambda world: (time.sleep(_OUTAGE_SECONDS), world.listen_again())
    ),
    "every token revoked": _switch(lambda world: world.api.revoke_all_tokens()),
    "rotation, the old secret dies first": _switch(
        lambda world: (_rotate(world), _revoke(world)), lambda world: (time.sleep(0.5), _publish(world))
    ),
    "rotation, the old secret dies last": _switch(lambda world: (_rotate(world), _publish(world)), _revoke),
}
BAD_CERTIFICATES = ("certificate of another host", "expired certificate", "certificate of an unknown authority")
TLS: dict[str, Act] = {name: _bad_certificate(name) for name in BAD_CERTIFICATES}


# ---- AWS
def _aws_fault(fault: AwsFault) -> Act:
    def act(world: World) -> Iterator[Hits]:
        before = world.proxy.hits[str(fault)]
        with world.proxy.fault(fault):
            yield lambda: world.proxy.hits[str(fault)] - before

    return act


# While `reset` and `hang` last, the dead-letter queue is unreachable altogether. Secrets are read by few calls, and one
# failure defers a whole batch: with less than always, other faults get their turn too.
_PROBABILITY = {"GetSecretValue": 0.6, "ChangeMessageVisibilityBatch": 0.7, "SendMessageBatch": 1.0}
_KINDS = ("denied", "throttled", "error", "reset", "hang")
AWS: dict[str, dict[str, Act]] = {
    action: {
        f"{action}: {kind}": _aws_fault(AwsFault(action, kind, probability))
        for kind in (_KINDS if action == "GetSecretValue" else (*_KINDS, "partial", "lost answer"))
    }
    for action, probability in _PROBABILITY.items()
}

ACTS: dict[str, Act] = {**THRIVE, **TLS, **{name: act for acts in AWS.values() for name, act in acts.items()}}


# ---- the environments: functions that return how often they hit something
def _within_patience(condition: Callable[[], Any]) -> Any:
    deadline = time.monotonic() + PATIENCE
    while not (result := condition()) and time.monotonic() < deadline:
        time.sleep(_TICK / 4)
    return result


def _others(world: World) -> list[Victim]:
    """Return the environments that are not frozen until their timeout."""
    return [victim for victim in world.rig.environments if time.monotonic() > victim.frozen_until]


def _busy(world: World) -> list[Victim]:
    return _within_patience(lambda: [victim for victim in _others(world) if victim.is_busy])


def _kill_after_the_record(world: World) -> int:
    """SIGKILL while answers are held back: Thrive has the records, the queue still has the messages."""
    held = world.api.faults.add(Fault(route="completion", commit=True, delay=0.7, times=10))
    victims = _busy(world) if _within_patience(lambda: world.api.faults.hits(held)) else []
    for victim in victims:
        victim.kill_unexpectedly()
    world.api.faults.remove(held)
    return len(victims)


def _kill_any(world: World) -> int:
    """SIGKILL at any moment, while the runtime starts too."""
    kills = 0
    for _ in range(2):
        for victim in _busy(world)[:1]:
            victim.kill_unexpectedly()
            kills += 1
        time.sleep(0.15)
    return kills


def _freeze_one(world: World) -> Victim | None:
    """Freeze an environment in the middle of a batch."""

    def freeze() -> Victim | None:
        for victim in _busy(world):
            victim.freeze()
            time.sleep(_TICK)
            # It may have answered just before.
            if victim.is_busy:
                return victim
            victim.thaw()
        return None

    return _within_patience(freeze)


def _freeze_in_mid_batch(world: World) -> int:
    victim = _freeze_one(world)
    time.sleep(1.0)
    if victim:
        victim.thaw()
    return int(victim is not None)


def _freeze_beyond_the_timeout(world: World) -> int:
    """Leave it frozen: Lambda kills it at its timeout."""
    victim = _freeze_one(world)
    if victim:
        victim.frozen_until = time.monotonic() + TIMEOUT_SECONDS + 1.0
    return int(victim is not None)


def _freeze_while_connections_end(world: World) -> int:
    """Do what a freeze longer than keep-alive comes to: every kept connection is dead when the environment goes on."""
    victims = _others(world)
    for victim in victims:
        victim.freeze()
    world.cut_connections()
    time.sleep(0.3)
    for victim in victims:
        victim.thaw()
    return 1


def _deliver_twice(world: World) -> int:
    """Let messages become visible again while they are worked on."""
    before = world.deliveries.doubled
    held = world.api.faults.add(Fault(route="completion", delay=1.2, times=10))
    world.deliveries.twice = True
    _within_patience(lambda: world.deliveries.doubled > before)
    world.deliveries.twice = False
    world.api.faults.remove(held)
    return world.deliveries.doubled - before


ENVIRONMENT: dict[str, Callable[[World], int]] = {
    "killed after the record": _kill_after_the_record,
    "killed at any moment": _kill_any,
    "frozen in mid-batch": _freeze_in_mid_batch,
    "frozen beyond the timeout": _freeze_beyond_the_timeout,
    "frozen while its connections end": _freeze_while_connections_end,
    "clock steps forward 2 h": lambda world: world.step_clock(2 * 3600.0),
    "clock steps back 3 h": lambda world: world.step_clock(-3 * 3600.0),
    "delivered twice": _deliver_twice,
}
