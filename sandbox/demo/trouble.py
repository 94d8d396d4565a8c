"""What goes wrong while the messages flow, stage by stage."""

from __future__ import annotations

import secrets
import time
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sandbox.pipeline.rig import secret_of
from sandbox.pipeline.stack import set_secret
from sandbox.thrive_api import Fault

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from sandbox.pipeline.rig import Rig
    from sandbox.thrive_api import StandIn

_OUTAGE_SECONDS = 3.0
_THROTTLED_SECONDS = 1.5
# How long answers are delayed, so that an environment can be killed between Thrive's record and its answer.
_DELAY_SECONDS = 1.5
_PATIENCE_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Stage:
    """One thing that goes wrong; a share of the messages is sent within the block of `trouble`."""

    title: str
    trouble: Callable[[Rig, StandIn], AbstractContextManager[None]]


@contextmanager
def _nothing(_rig: Rig, _api: StandIn) -> Iterator[None]:
    yield


@contextmanager
def _failures(_rig: Rig, api: StandIn) -> Iterator[None]:
    for fault in (
        Fault(route="completion", status=500, times=6, probability=0.3),
        Fault(route="completion", status=503, headers={"Retry-After": "1"}, times=4, probability=0.3),
        Fault(route="completion", status=502, spoil="html", times=3, probability=0.3),
        Fault(route="completion", ending="reset", times=4, probability=0.3),
        Fault(route="completion", ending="truncate", times=2, probability=0.3),
        # The hardest one: Thrive has the record, but the function gets no answer.
        Fault(route="completion", ending="reset", commit=True, times=6, probability=0.5),
    ):
        api.faults.add(fault)
    yield


@contextmanager
def _kill(rig: Rig, api: StandIn) -> Iterator[None]:
    """Kill an environment while it waits for an answer: Thrive has the records, the queue still has the messages."""
    api.faults.clear()
    delayed = api.faults.add(Fault(route="completion", commit=True, delay=_DELAY_SECONDS, times=8))
    yield
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while not api.faults.hits(delayed) and time.monotonic() < deadline:
        time.sleep(0.02)
    for environment in rig.environments:
        if environment.is_busy:
            environment.kill()
            return


@contextmanager
def _throttling(_rig: Rig, api: StandIn) -> Iterator[None]:
    api.limit_rate(25)
    yield
    time.sleep(_THROTTLED_SECONDS)
    api.limit_rate(None)


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


CALM = (Stage("all is well", _nothing),)
FULL = (
    *CALM,
    Stage("Thrive fails, resets connections, cuts answers off", _failures),
    Stage("an environment is killed in the middle of a batch", _kill),
    Stage("Thrive limits the rate", _throttling),
    Stage("Thrive revokes every token", _revocation),
    Stage(f"Thrive is down for {_OUTAGE_SECONDS:g} s", _outage),
    Stage("the secret is rotated", _rotation),
)
