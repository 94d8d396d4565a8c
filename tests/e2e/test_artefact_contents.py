"""What ships: only what the function needs, within a written bound."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sandbox.pipeline.artefact import Artefact

# The packages of src/requirements.txt by the names under which they are imported, our own, and the licences.
EXPECTED = {
    "aws_lambda_powertools",
    "boto3",
    "botocore",
    "completion_sync",
    "dateutil",
    "jmespath",
    "licenses",
    "s3transfer",
    "six.py",
    "typing_extensions.py",
    "tzdata",
    "urllib3",
}
FOREIGN_NAMES = {"tests", "test", "sandbox", "completion_sync_cli", "examples", "bin", "events"}
FOREIGN_SUFFIXES = (".dist-info", ".pyi", ".md", ".c", ".so")
# Unzipped, with byte code: 8.9 MB when this was written.
MAX_BYTES = 9_300_000


def test_only_what_is_needed_ships(code: Artefact) -> None:
    top = {path.name for path in code.path.iterdir()} - {"__pycache__"}
    assert top == EXPECTED
    foreign = [
        path.relative_to(code.path).as_posix()
        for path in code.path.rglob("*")
        if path.name in FOREIGN_NAMES or path.name.endswith(FOREIGN_SUFFIXES)
    ]
    assert foreign == []


def test_only_the_services_in_use_ship(code: Artefact) -> None:
    models = {path.name for path in (code.path / "botocore" / "data").iterdir() if path.is_dir()}
    assert models == {"s3", "secretsmanager", "sqs"}


def test_every_shipped_package_keeps_its_licence(code: Artefact) -> None:
    licensed = {path.name.rsplit("-", 1)[0].replace("-", "_").lower() for path in (code.path / "licenses").iterdir()}
    packages = {name.removesuffix(".py") for name in EXPECTED - {"completion_sync", "licenses"}}
    assert licensed == {{"dateutil": "python_dateutil"}.get(name, name) for name in packages}


def test_the_artefact_keeps_within_its_bound(code: Artefact) -> None:
    """A package that creeps in, or a model that is no longer pruned, shows here before it shows in a cold start."""
    assert sum(path.stat().st_size for path in code.path.rglob("*") if path.is_file()) <= MAX_BYTES
