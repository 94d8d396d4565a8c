"""Fixtures for the tests of the stand-in itself, which break the contract as they like."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from sandbox.thrive_api import StandIn
from tests.support.plain_client import PlainClient

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def api() -> Iterator[StandIn]:
    """Yield a fresh stand-in."""
    with StandIn().running() as stand_in:
        yield stand_in


@pytest.fixture
def client(api: StandIn) -> Iterator[PlainClient]:
    """Yield a client of it."""
    plain = PlainClient(api)
    yield plain
    plain.close()
