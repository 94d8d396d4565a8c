"""The artefact: built by the function's own recipe, once for each content."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from sandbox.pipeline.artefact import BuildError, build, content_hash

if TYPE_CHECKING:
    from pathlib import Path

RECIPE = "build-Fn:\n\t@cp code.py '$(ARTIFACTS_DIR)/'\n\t@echo built >> '{log}'\n"


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Make a source with a recipe that logs each run."""
    folder = tmp_path / "src"
    folder.mkdir()
    (folder / "code.py").write_text("x = 1\n")
    (folder / "Makefile").write_text(RECIPE.replace("{log}", str(tmp_path / "log")))
    return folder


def test_a_source_without_a_recipe_is_used_as_it_is(source: Path, tmp_path: Path) -> None:
    """Where the Makefile has no target of the function, the bare source stands in and says so."""
    artefact = build(source, "Other", tmp_path / "cache")
    assert (artefact.path, artefact.is_built) == (source, False)


def test_the_same_content_is_built_once(source: Path, tmp_path: Path) -> None:
    """A second build of the same files takes the first one's result."""
    first = build(source, "Fn", tmp_path / "cache")
    assert build(source, "Fn", tmp_path / "cache") == first
    assert first.is_built
    assert [path.name for path in first.path.iterdir()] == ["code.py"]
    assert (tmp_path / "log").read_text() == "built\n"


def test_a_change_is_built_anew_and_old_builds_are_forgotten(source: Path, tmp_path: Path) -> None:
    """Each content has its own folder; only a few stay, save those that a run beside this one may still use."""
    cache = tmp_path / "cache"
    paths = []
    for number in range(5):
        (source / "code.py").write_text(f"x = {number}\n")
        paths.append(build(source, "Fn", cache).path)
    assert len(set(paths)) == 5
    assert all(path.is_dir() for path in paths)
    for age, path in enumerate(reversed(paths)):
        os.utime(path, (0, 1_000_000 - age))
    build(source, "Fn", cache)
    assert [path.is_dir() for path in paths] == [False, False, True, True, True]


def test_a_failing_recipe_says_what_it_printed_and_leaves_nothing(source: Path, tmp_path: Path) -> None:
    """A build that fails is no build: the next one must not find half of it."""
    (source / "Makefile").write_text("build-Fn:\n\t@echo out of paper; exit 3\n")
    with pytest.raises(BuildError, match="out of paper"):
        build(source, "Fn", tmp_path / "cache")
    assert list((tmp_path / "cache").iterdir()) == []


def test_the_hash_covers_names_contents_and_their_borders(tmp_path: Path) -> None:
    """Moving a byte from one file to the next, or renaming one, is a change; byte code is none."""

    def hash_of(**files: str) -> str:
        folder = tmp_path / f"{len(list(tmp_path.iterdir()))}"
        folder.mkdir()
        for name, content in files.items():
            (folder / name).write_text(content)
        return content_hash(folder)

    assert hash_of(a="12", b="3") == hash_of(a="12", b="3")
    assert len({hash_of(a="12", b="3"), hash_of(a="1", b="23"), hash_of(a="12", c="3"), hash_of(a="12")}) == 4
    folder = tmp_path / "with-byte-code"
    (folder / "__pycache__").mkdir(parents=True)
    (folder / "a").write_text("12")
    (folder / "__pycache__" / "a.pyc").write_text("anything")
    assert content_hash(folder) == hash_of(a="12")
