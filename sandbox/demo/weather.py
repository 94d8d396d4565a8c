"""The weather: what goes wrong, act by act, while the messages flow."""

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

OUTAGE_SECONDS = 3.0
_THROTTLED_SECONDS = 1.5
# How long an answer is held back, so that an environment can be killed between Thrive's record and its answer.
_HELD_SECONDS = 1.5
_PATIENCE_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Act:
    """One thing that goes wrong; its share of the messages is sent within the block that `weather` makes."""

    title: str
    weather: Callable[[Rig, StandIn], AbstractContextManager[None]]


@contextmanager
def _sunshine(_rig: Rig, _api: StandIn) -> Iterator[None]:
    yield


@contextmanager
def _failures(_rig: Rig, api: StandIn) -> Iterator[None]:
    for fault in (
        Fault(route="completion", status=500, times=6, probability=0.3),
        Fault(route="completion", status=503, headers={"Retry-After": "1"}, times=4, probability=0.3),
        Fault(route="completion", status=502, body="<html>Bad Gateway</html>", times=3, probability=0.3),
        Fault(route="completion", ending="reset", times=4, probability=0.3),
        Fault(route="completion", ending="truncate", times=2, probability=0.3),
        # The cruel one: Thrive has the record, and the function never hears of it.
        Fault(route="completion", ending="reset", commit=True, times=6, probability=0.5),
    ):
        api.faults.add(fault)
    yield


@contextmanager
def _kill(rig: Rig, api: StandIn) -> Iterator[None]:
    """Kill an environment while it waits for an answer: Thrive has the records, the queue still has the messages."""
    api.faults.clear()
    held = api.faults.add(Fault(route="completion", commit=True, delay=_HELD_SECONDS, times=8))
    yield
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while not api.faults.hits(held) and time.monotonic() < deadline:
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
    time.sleep(OUTAGE_SECONDS)
    api.up()


@contextmanager
def _rotation(rig: Rig, api: StandIn) -> Iterator[None]:
    """Replace the secret; the old one and every token stop working at once, and nobody tells the function."""
    api.client_secret = secrets.token_urlsafe(24)
    set_secret(rig.emulator, rig.stack, secret_of(api))
    api.accept_credentials((api.client_id, api.client_secret))
    api.revoke_all_tokens()
    yield


FAIR = (Act("all is well", _sunshine),)
STORMY = (
    *FAIR,
    Act("Thrive fails, resets, answers by halves", _failures),
    Act("an environment is killed in mid-batch", _kill),
    Act("Thrive throttles", _throttling),
    Act("Thrive revokes every token", _revocation),
    Act(f"Thrive is gone for {OUTAGE_SECONDS:g} s", _outage),
    Act("the secret is rotated", _rotation),
)
