"""The simulation bites: each deliberate breakage of the code is noticed, within the seeds that the table gives."""

from __future__ import annotations

import multiprocessing
import re
from concurrent.futures import Future, ProcessPoolExecutor
from typing import TYPE_CHECKING

import pytest

from tests.simulation.bites import BITES, Bite
from tests.simulation.package import Package, Patch, StalePatchError
from tests.simulation.runs import first_wrong

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.simulation.world import Report

Reports = dict[str, "Future[Report | None]"]


@pytest.fixture(scope="module")
def reports(request: pytest.FixtureRequest) -> Iterator[Reports]:
    """Run all breakages that are asked for, as many at once as there are cores, apart from what measures coverage."""
    asked = [item.callspec.params.get("bite") for item in request.session.items if hasattr(item, "callspec")]
    with ProcessPoolExecutor(mp_context=multiprocessing.get_context("spawn")) as pool:
        yield {bite.name: pool.submit(first_wrong, range(bite.within), bite.patches) for bite in BITES if bite in asked}
        pool.shutdown(cancel_futures=True)


@pytest.mark.parametrize("bite", BITES, ids=lambda bite: bite.name)
def test_a_breakage_is_caught(reports: Reports, bite: Bite) -> None:
    """Within the seeds of the table a run goes wrong, and for the breakage's own reason."""
    report = reports[bite.name].result()
    assert report is not None, f"not caught within {bite.within} seeds"
    assert re.search(bite.caught_by, report.violations[0]), f"seed {report.seed}: {report.violations[0]}"


def test_a_patch_that_no_longer_applies_fails() -> None:
    """A breakage whose text is gone from the source, or stands there twice, is an error and not a pass."""
    for old in ("no such text", "return"):
        with pytest.raises(StalePatchError):
            Package([Patch("handler", old, "")])


def test_there_are_enough() -> None:
    """At least fifteen different breakages are held."""
    assert len({bite.name for bite in BITES}) == len(BITES) >= 15
