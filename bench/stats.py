"""Medians and spreads: the numbers that go into the results."""

from __future__ import annotations

import statistics
from typing import TYPE_CHECKING, TypedDict

if TYPE_CHECKING:
    from collections.abc import Sequence


class Summary(TypedDict):
    """A series in four numbers; ``q1`` to ``q3`` holds its middle half."""

    median: float
    q1: float
    q3: float
    n: int


def summary(values: Sequence[float]) -> Summary:
    """Sum up a series of at least one value, rounded to four significant digits."""
    ordered = sorted(values)
    if len(ordered) == 1:
        q1 = q3 = ordered[0]
    else:
        q1, _, q3 = statistics.quantiles(ordered, n=4, method="inclusive")
    return Summary(median=rounded(statistics.median(ordered)), q1=rounded(q1), q3=rounded(q3), n=len(ordered))


def rounded(value: float, digits: int = 4) -> float:
    """Round to significant digits: more would pretend a precision that no such measurement has."""
    return float(f"{value:.{digits}g}")
