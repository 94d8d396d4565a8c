"""`config validate`, `push` and `pull`."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from completion_sync_cli import config_source
from tests.cli.conftest import ROOT, Deployed, Outcome, invoke
from tests.cli.test_check import variable

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

TABLE = b"code,contentId\na,b\n"
MAPPING: dict[str, Any] = {
    "version": 1,
    "sources": [{"name": "vr", "when": "type == 'x'", "userRef": "u", "contentCode": "c", "completedAt": "t"}],
}


@pytest.fixture
def files(tmp_path: Path) -> Path:
    (tmp_path / "content.csv").write_bytes(TABLE)
    (tmp_path / "mapping.json").write_text(json.dumps(MAPPING))
    return tmp_path


def changes(outcome: Outcome) -> dict[str, str]:
    """Return what the command says it does to each file, by name."""
    words = [line.split() for line in outcome.err.splitlines()]
    return {found[1].rpartition("/")[2]: found[0] for found in words if len(found) == 2 and "/" in found[1]}


def test_valid_files_are_valid_without_any_stack(files: Path) -> None:
    outcome = invoke("config", "validate", files, "--json")

    assert (outcome.status, outcome.document) == (0, {"valid": True, "problems": []})


def test_every_file_is_judged(files: Path) -> None:
    (files / "content.csv").write_text("code\n")
    (files / "mapping.json").write_text('{"version": 2}')

    outcome = invoke("config", "validate", files, "--json")

    assert outcome.status == 1
    assert [problem.partition(":")[0] for problem in outcome.document["problems"]] == ["content.csv", "mapping.json"]
    (files / "content.csv").unlink()
    (files / "mapping.json").unlink()
    assert invoke("config", "validate", files).status == 2


def test_a_mapping_that_takes_thrives_webhooks_is_warned_of(files: Path) -> None:
    source = {"name": "loop", "userId": "user.id", "contentId": "content.id", "completedAt": "createdAt"}
    (files / "mapping.json").write_text(json.dumps({"version": 1, "sources": [source]}))

    outcome = invoke("config", "validate", files, "--json")

    assert (outcome.status, outcome.document["valid"]) == (0, True)
    assert "webhooks" in outcome.document["problems"][0]


def test_examples_are_run(files: Path) -> None:
    (files / "examples").mkdir()
    (files / "examples" / "a.json").write_text("{}")

    outcome = invoke("config", "validate", files, "--json")

    assert outcome.status == 1
    assert outcome.document["problems"] == ["examples/a.json has no .expected.json beside it"]


@pytest.mark.parametrize("name", sorted(file.parent.name for file in ROOT.glob("mappings/*/mapping.json")))
def test_the_ready_mappings_are_valid(name: str) -> None:
    outcome = invoke("config", "validate", ROOT / "mappings" / name, "--json")

    assert (outcome.status, outcome.document) == (0, {"valid": True, "problems": []})


@pytest.fixture
def deployed(deploy: Callable[..., Deployed]) -> Deployed:
    deployed = deploy()
    deployed.emulator.put(f"/{deployed.name}")
    variable("CONFIG_URI", f"s3://{deployed.name}/p/")(deployed)
    return deployed


def objects(deployed: Deployed) -> dict[str, bytes]:
    s3 = deployed.client("s3")
    found = s3.list_objects_v2(Bucket=deployed.name).get("Contents", [])
    return {o["Key"]: s3.get_object(Bucket=deployed.name, Key=o["Key"])["Body"].read() for o in found}


def test_push_uploads_what_differs_and_only_with_yes(deployed: Deployed, files: Path) -> None:
    dry = invoke("config", "push", files, "--json")
    assert (dry.status, dry.document) == (0, {"valid": True, "problems": []})
    assert changes(dry) == {"content.csv": "new", "mapping.json": "new"}
    assert objects(deployed) == {}

    invoke("config", "push", files, "--yes")
    assert objects(deployed) == {
        "p/content.csv": TABLE,
        "p/mapping.json": (files / "mapping.json").read_bytes(),
    }
    (files / "content.csv").write_bytes(TABLE + b"c,d\n")
    again = invoke("config", "push", files, "--yes", "--json")

    assert changes(again) == {"content.csv": "replaced", "mapping.json": "unchanged"}
    assert objects(deployed)["p/content.csv"] == TABLE + b"c,d\n"


def test_push_refuses_what_is_invalid(deployed: Deployed, files: Path) -> None:
    (files / "content.csv").write_text("code\n")

    assert invoke("config", "push", files, "--yes").status == 1
    assert objects(deployed) == {}


def test_two_who_push_at_once_do_not_overwrite_each_other(
    deployed: Deployed, files: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    invoke("config", "push", files, "--yes")
    (files / "content.csv").write_bytes(b"code,contentId\nmine,1\n")
    listing = config_source.Store.list

    def list_and_lose(store: config_source.Store) -> dict[str, str]:
        found = listing(store)
        deployed.emulator.put(f"/{deployed.name}/p/content.csv", b"code,contentId\ntheirs,1\n")
        return found

    monkeypatch.setattr(config_source.Store, "list", list_and_lose)
    outcome = invoke("config", "push", files, "--yes")

    assert outcome.status == 2
    assert "Someone else" in outcome.err
    assert b"theirs" in objects(deployed)["p/content.csv"]


def test_pull_fetches_and_keeps_what_differs(deployed: Deployed, files: Path, tmp_path: Path) -> None:
    invoke("config", "push", files, "--yes")
    target = tmp_path / "new" / "folder"
    pulled = invoke("config", "pull", target, "--json")
    assert pulled.document == {"valid": True, "problems": []}
    assert changes(pulled) == {"content.csv": "new", "mapping.json": "new"}
    assert (target / "content.csv").read_bytes() == TABLE
    (target / "content.csv").write_text("code,contentId\n")

    kept = invoke("config", "pull", target, "--json")
    assert (kept.status, changes(kept)["content.csv"]) == (1, "differs")
    assert (target / "content.csv").read_text() == "code,contentId\n"
    assert invoke("config", "pull", target, "--yes").status == 0
    assert (target / "content.csv").read_bytes() == TABLE


def test_a_stack_without_configuration_says_so(deploy: Callable[..., Deployed], files: Path) -> None:
    deploy()
    outcome = invoke("config", "push", files)

    assert outcome.status == 2
    assert "ConfigUri" in outcome.err
