"""What the tests share that run the built function in Lambda's runtime: the marker, the artefact, one AWS emulator."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from sandbox.pipeline.emulator import Emulator, running_emulator
from sandbox.pipeline.rig import build_artefact
from sandbox.pipeline.runtime import runtime_emulator

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sandbox.pipeline.artefact import Artefact

_FOLDERS = {Path(__file__).parents[1] / name for name in ("e2e", "chaos")}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark every test of these folders; skip it where Lambda's runtime cannot run, which is anywhere but on Linux."""
    for item in items:
        if _FOLDERS.intersection(item.path.parents):
            item.add_marker(pytest.mark.e2e)
            if not sys.platform.startswith("linux"):
                item.add_marker(pytest.mark.skip(reason="Lambda's runtime needs Linux"))


@pytest.fixture(scope="session")
def lambda_runtime() -> None:
    """Fail, and do not quietly run something else, where Lambda's runtime could run but is not installed."""
    assert runtime_emulator() is not None, "Lambda's runtime interface emulator is not installed: run `make setup`"


@pytest.fixture(scope="session")
def code(lambda_runtime: None) -> Artefact:
    """Build the function as `sam build` does."""
    return build_artefact()


@pytest.fixture(scope="session")
def emulator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Emulator]:
    """Run one AWS emulator for all tests."""
    with running_emulator(tmp_path_factory.mktemp("emulator")) as running:
        yield running
