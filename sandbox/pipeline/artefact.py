"""The artefact: the very files that `sam build` would ship, built by the same recipe."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

_IGNORED = frozenset({"__pycache__", ".mypy_cache", ".ruff_cache"})
_KEPT_BUILDS = 3
# A run beside this one may still use a build that is not among the newest.
_IN_USE_SECONDS = 3600


class BuildError(RuntimeError):
    """The recipe failed; the text ends with what it printed last."""


@dataclass(frozen=True, slots=True)
class Artefact:
    """A folder that goes on the function's import path; `is_built` is False when it is the bare source."""

    path: Path
    is_built: bool


def build(source: Path, logical_id: str, cache: Path) -> Artefact:
    """Build the function `logical_id` from `source`, or take what was built before from the same content.

    `sam build` with `BuildMethod: makefile` runs `make build-<logical id>` in a copy of the source with ARTIFACTS_DIR
    set; this does the same. A source without such a recipe is used as it is.

    :raises BuildError: the recipe failed.
    """
    if not _has_recipe(source, logical_id):
        return Artefact(source, is_built=False)
    target = cache / content_hash(source)
    if not target.is_dir():
        cache.mkdir(parents=True, exist_ok=True)
        # Built aside and renamed: a build cut short, or one that runs at the same time, is never taken for whole.
        with tempfile.TemporaryDirectory(dir=cache, prefix=".building-") as workshop:
            _run_recipe(source, logical_id, Path(workshop))
            _move(Path(workshop) / "artefact", target)
    # The recipe gives all files one old time. This one says when the build was last used.
    os.utime(target)
    _forget_old(cache)
    return Artefact(target, is_built=True)


def content_hash(folder: Path) -> str:
    """Return a digest of all files below `folder`, by name and content, and of the Python that would build them."""
    digest = hashlib.sha256(sys.version.encode())
    for path in sorted(folder.rglob("*")):
        if path.is_file() and not _IGNORED.intersection(path.relative_to(folder).parts):
            content = path.read_bytes()
            # The length keeps the end of one file from passing as the start of the next.
            digest.update(f"{path.relative_to(folder).as_posix()}\0{len(content)}\0".encode())
            digest.update(content)
    return digest.hexdigest()[:20]


def _has_recipe(source: Path, logical_id: str) -> bool:
    makefile = source / "Makefile"
    return makefile.is_file() and any(
        line.startswith(f"build-{logical_id}") for line in makefile.read_text().splitlines()
    )


def _run_recipe(source: Path, logical_id: str, workshop: Path) -> None:
    scratch, artefact = workshop / "source", workshop / "artefact"
    shutil.copytree(source, scratch, ignore=shutil.ignore_patterns(*_IGNORED))
    artefact.mkdir()
    # The recipe's `python3` and `pip` are to be those that run us.
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}"
    environment = {**os.environ, "PATH": path, "ARTIFACTS_DIR": str(artefact)}
    # A `make` that started us must not make this one its child, with its flags and its job slots.
    for variable in ("MAKEFLAGS", "MFLAGS", "MAKELEVEL"):
        environment.pop(variable, None)
    try:
        done = subprocess.run(  # noqa: S603 - our own recipe
            ["make", f"build-{logical_id}"],  # noqa: S607 - whichever make is installed
            cwd=scratch,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
    except FileNotFoundError:
        raise BuildError("`make` is not installed") from None
    if done.returncode != 0:
        raise BuildError(f"`make build-{logical_id}` failed:\n{done.stdout[-2000:]}")


def _move(built: Path, target: Path) -> None:
    try:
        built.rename(target)
    except OSError:
        # Another build of the same content was quicker; its files are as good.
        if not target.is_dir():
            raise


def _forget_old(cache: Path) -> None:
    builds = [path for path in cache.iterdir() if path.is_dir() and not path.name.startswith(".")]
    last_used = {path: path.stat().st_mtime for path in builds}
    for path in sorted(builds, key=last_used.__getitem__, reverse=True)[_KEPT_BUILDS:]:
        if last_used[path] < time.time() - _IN_USE_SECONDS:
            shutil.rmtree(path, ignore_errors=True)
