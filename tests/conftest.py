"""What all tests share."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hypothesis import HealthCheck, settings

if TYPE_CHECKING:
    import pytest

pytest_plugins = ["tests.support.runtime", "tests.support.thrive"]

# On a busy machine every example is slow now and then.
settings.register_profile("without-time-limits", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("without-time-limits")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--seeds", type=int, default=400, help="how many simulated runs (default 400; CI: 2000)")
