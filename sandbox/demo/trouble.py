"""What goes wrong while the messages flow, stage by stage."""

from __future__ import annotations

import secrets
import time
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sandbox.demo.foreign import LATE, directory
from sandbox.pipeline.rig import secret_of
from sandbox.pipeline.stack import set_secret
from sandbox.thrive_api import Fault

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from sandbox.pipeline.rig import Rig
    from sandbox.thrive_api import StandIn

# As deployed, a message waits for three days for a person whom Thrive does not know.
WAIT_SECONDS = 18.0
_OUTAGE_SECONDS = 3.0
_THROTTLED_SECONDS = 3.0
_COMPLETIONS_PER_SECOND, _LOOKUPS_PER_SECOND = 12.0, 4.0
# How long answers are delayed, so that an environment can be killed between Thrive's record and its answer.
_DELAY_SECONDS = 1.5
_PATIENCE_SECONDS = 5.0
_REASON = "unknown_user"


@dataclass(frozen=True, slots=True)
class Stage:
    """One thing that goes wrong; a share of the messages is sent within the block of `trouble`."""

    title: str
    trouble: Callable[[Rig, StandIn], AbstractContextManager[None]]
    limits_rate: bool = False


def _wait(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.02)


@contextmanager
def _nothing(_rig: Rig, _api: StandIn) -> Iterator[None]:
    yield


@contextmanager
def _failures(_rig: Rig, api: StandIn) -> Iterator[None]:
    faults = [
        Fault(route="completion", status=500, times=6, probability=0.3),
        Fault(route="completion", status=503, headers={"Retry-After": "1"}, times=4, probability=0.3),
        Fault(route="completion", status=502, spoil="html", times=3, probability=0.3),
        Fault(route="completion", ending="reset", times=4, probability=0.3),
        Fault(route="completion", ending="truncate", times=2, probability=0.3),
        # The hardest one: Thrive has the record, but the function gets no answer.
        Fault(route="completion", ending="reset", commit=True, times=6, probability=0.5),
    ]
    added = [api.faults.add(fault) for fault in faults]
    yield
    _wait(lambda: all(map(api.faults.hits, added)))


@contextmanager
def _kill(rig: Rig, api: StandIn) -> Iterator[None]:
    """Kill an environment while it waits for an answer: Thrive has the records, the queue still has the messages."""
    api.faults.clear()
    delayed = api.faults.add(Fault(route="completion", commit=True, delay=_DELAY_SECONDS, times=8))
    yield
    _wait(lambda: api.faults.hits(delayed))
    for environment in rig.environments:
        if environment.is_busy:
            environment.kill()
            return


@contextmanager
def _throttling(_rig: Rig, api: StandIn) -> Iterator[None]:
    """Limit the rate by token buckets; the one for lookups does not say when to come back."""
    api.limit_rate(_COMPLETIONS_PER_SECOND)
    api.limit_rate(_LOOKUPS_PER_SECOND, route="user", retry_after=False)
    yield
    time.sleep(_THROTTLED_SECONDS)
    api.limit_rate(None)
    api.limit_rate(None, route="user")


@contextmanager
def _revocation(_rig: Rig, api: StandIn) -> Iterator[None]:
    api.revoke_all_tokens()
    yield


@contextmanager
def _outage(_rig: Rig, api: StandIn) -> Iterator[None]:
    api.down()
    yield
    time.sleep(_OUTAGE_SECONDS)
    api.up()


@contextmanager
def _rotation(rig: Rig, api: StandIn) -> Iterator[None]:
    """Replace the secret; the old one and every token stop working at once."""
    api.client_secret = secrets.token_urlsafe(24)
    set_secret(rig.emulator, rig.stack, secret_of(api))
    api.accept_credentials((api.client_id, api.client_secret))
    api.revoke_all_tokens()
    yield


class _Absence:
    """People who are not in Thrive yet, and whose messages wait: most of them appear, the others never do."""

    def __init__(self, messages: int) -> None:
        self._messages = messages
        self._since = 0.0

    @contextmanager
    def begins(self, _rig: Rig, _api: StandIn) -> Iterator[None]:
        """Let the messages be sent."""
        yield
        self._since = time.monotonic()

    @contextmanager
    def ends_for_most(self, rig: Rig, api: StandIn) -> Iterator[None]:
        """Create the people.

        Nobody would watch what comes next: for a minute an environment remembers whom Thrive does not know, and the
        messages come back after minutes. So the environments are replaced, and SQS delivers the messages at once.
        """
        _wait(lambda: len(rig.deferred(_REASON)) >= self._messages)
        api.directory.users.update(directory(LATE))
        for environment in rig.environments:
            environment.retire()
        rig.deliver_now(rig.deferred(_REASON))
        yield

    @contextmanager
    def is_given_up(self, rig: Rig, _api: StandIn) -> Iterator[None]:
        """Deliver what still waits once more when it is old enough to be rejected."""
        yield
        time.sleep(max(0.0, self._since + WAIT_SECONDS - time.monotonic()))
        rig.deliver_now(rig.deferred(_REASON))


def stages(*, calm: bool, waiting: int) -> tuple[Stage, ...]:
    """Return what happens, in order; the first `waiting` messages are about people whom Thrive does not know yet."""
    if calm:
        return (Stage("all is well", _nothing),)
    absence = _Absence(waiting)
    troubles = (
        Stage("Thrive fails, resets connections, cuts answers off", _failures),
        Stage("an environment is killed in the middle of a batch", _kill),
        Stage("Thrive limits the rate", _throttling, limits_rate=True),
        Stage("Thrive revokes every token", _revocation),
        Stage(f"Thrive is down for {_OUTAGE_SECONDS:g} s", _outage),
        Stage("the secret is rotated", _rotation),
    )
    if not waiting:
        return (Stage("all is well", _nothing), *troubles)
    return (
        Stage("all is well, but some people are not in Thrive", absence.begins),
        Stage("most of them appear; a deployment replaces the environments", absence.ends_for_most),
        *troubles,
        Stage("the others never appear: their messages are given up", absence.is_given_up),
    )
