"""Registers the Hypothesis profiles of the hostile tests, without touching those of any other test.

``HYPOTHESIS_PROFILE=check`` (the default) is what CI runs: the same cases each time, ten thousand in all.
``HYPOTHESIS_PROFILE=soak`` runs thirty times as many, other ones each time, and remembers what failed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, settings

from tests.hostile.worlds import WireWorld, World

if TYPE_CHECKING:
    from collections.abc import Iterator

# Bodies of a mebibyte are what is wanted here, not a sign of a strategy gone wrong.
_UNCONCERNED = (HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.large_base_example)

settings.register_profile(
    "check",
    settings(
        max_examples=100,
        derandomize=True,
        database=None,
        deadline=None,
        print_blob=True,
        suppress_health_check=_UNCONCERNED,
    ),
)
settings.register_profile(
    "soak",
    settings(max_examples=3000, deadline=None, print_blob=True, suppress_health_check=_UNCONCERNED),
)


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    """Yield the function with a Thrive in memory that answers as it should, for all cases of a module."""
    with World() as built:
        yield built


@pytest.fixture(scope="module")
def wire() -> Iterator[WireWorld]:
    """Yield the function with a Thrive in memory whose every byte is the test's, for all cases of a module."""
    with WireWorld() as built:
        yield built


@pytest.fixture(scope="module")
def threaded() -> Iterator[World]:
    """Yield the function as `world` does, working in threads."""
    with World(threads=True) as built:
        yield built
