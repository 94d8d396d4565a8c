"""A stand-in without the contract check of `tests/support/thrive.py`, and a plain client of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from sandbox.thrive_api import StandIn
from tests.support.plain_client import PlainClient

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def api() -> Iterator[StandIn]:
    with StandIn().running() as stand_in:
        yield stand_in


@pytest.fixture
def client(api: StandIn) -> Iterator[PlainClient]:
    plain = PlainClient(api)
    yield plain
    plain.close()
