"""Each deliberate breakage of the package is noticed, within the seeds that the table gives and for its own reason."""

from __future__ import annotations

import multiprocessing
import re
from concurrent.futures import Future, ProcessPoolExecutor
from typing import TYPE_CHECKING

import pytest

from tests.simulation.bites import BITES, Bite, caught, in_except
from tests.simulation.package import Package, StaleBreakageError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.simulation.world import Report

Reports = dict[str, "Future[Report | None]"]


@pytest.fixture(scope="module")
def reports(request: pytest.FixtureRequest) -> Iterator[Reports]:
    """Run the breakages that are asked for, as many at once as there are cores, apart from what measures coverage."""
    asked = [item.callspec.params.get("bite") for item in request.session.items if hasattr(item, "callspec")]
    with ProcessPoolExecutor(mp_context=multiprocessing.get_context("spawn")) as pool:
        yield {bite.name: pool.submit(caught, bite.name) for bite in BITES if bite in asked}
        pool.shutdown(cancel_futures=True)


@pytest.mark.parametrize("bite", BITES, ids=lambda bite: bite.name)
def test_a_breakage_is_caught(reports: Reports, bite: Bite) -> None:
    report = reports[bite.name].result()
    assert report is not None, f"not caught within {bite.within} seeds"
    assert re.search(bite.caught_by, report.violations[0]), f"seed {report.seed}: {report.violations[0]}"


def test_a_breakage_that_no_longer_applies_is_an_error() -> None:
    package = Package()
    with pytest.raises(StaleBreakageError, match="no such name"):
        package.replace("handler.no_such_name", lambda original: original)
    with pytest.raises(StaleBreakageError, match="no such function"):
        package.rewrite("handler.NoSuchClass.run", lambda _: 1)
    with pytest.raises(StaleBreakageError, match="2 places to change, not 1"):
        package.rewrite("retry.RetryPolicy.call", in_except("raise"))
