"""Simulated S3: the configuration, which changes while it is read, under one environment's client after another.

Modelled: listings and objects that fail, hang, are denied, come slowly or break off; versions that change in between.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from botocore.exceptions import EndpointConnectionError, IncompleteReadError, ReadTimeoutError

from tests.support.fakes import client_error
from tests.support.s3 import PREFIX, FakeS3

from .scenario import CONFIG_TROUBLES, MARKER

if TYPE_CHECKING:
    from .scenario import Upload
    from .world import World

_ERRORS = {"denied": ("AccessDenied", 403), "error": ("InternalError", 500), "throttled": ("SlowDown", 503)}


class Bucket(FakeS3):
    """The bucket; every call takes some time and may fail."""

    def __init__(self, world: World) -> None:
        super().__init__()
        self._world = world
        self.on_call = lambda _: self._called(self.calls[-1])
        self.body = lambda data: _Body(world, data)

    def apply(self, upload: Upload) -> None:
        """Let a new version appear, or the file vanish."""
        self._world.trace("uploaded", upload.name, upload.is_valid, upload.data)
        if upload.data is None:
            self.objects.pop(PREFIX + upload.name, None)
        else:
            self.put(upload.name, upload.data)

    def _called(self, call: str) -> None:
        world = self._world
        world.kernel.switch()
        world.kernel.sleep(world.rng.uniform(0.005, 0.05))
        trouble = trouble_of(world)
        if trouble in _ERRORS:
            raise client_error(*_ERRORS[trouble], call)
        if trouble == "hangs":
            world.kernel.sleep(6.0)
            raise ReadTimeoutError(endpoint_url=f"https://{MARKER}")
        if trouble == "unreachable":
            raise EndpointConnectionError(endpoint_url=f"https://{MARKER}")


class _Body:
    def __init__(self, world: World, data: bytes) -> None:
        self._world = world
        self._data = self._left = data

    def read(self, amount: int) -> bytes:
        world = self._world
        world.kernel.switch()
        trouble = trouble_of(world)
        if trouble == "slow":
            world.kernel.sleep(16.0)
        if trouble == "cut":
            raise IncompleteReadError(actual_bytes=0, expected_bytes=len(self._data))
        chunk, self._left = self._left[:amount], self._left[amount:]
        if not chunk:
            world.watch.config_read(world.fleet.environment(), self._data)
        return chunk

    def close(self) -> None:
        """Close the connection."""


def trouble_of(world: World) -> str | None:
    fails = world.chance_of("config-fails")
    return world.trouble("config") or (world.rng.choice(CONFIG_TROUBLES) if fails else None)
