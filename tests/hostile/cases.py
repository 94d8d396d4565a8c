"""How many cases a property test runs: a share of ten thousand in CI, a multiple of it on demand."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from hypothesis import settings

if TYPE_CHECKING:
    from collections.abc import Callable

_OF_A_HUNDRED = 100


def cases(count: int) -> Callable[[Any], Any]:
    """Let a property test run ``count`` cases in CI, and in proportion by another profile (see ``conftest.py``)."""
    profile = settings.get_profile(os.environ.get("HYPOTHESIS_PROFILE", "check"))
    return settings(profile, max_examples=max(1, count * profile.max_examples // _OF_A_HUNDRED))
