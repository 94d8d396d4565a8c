"""The artefact: the same files that `sam build` ships, built by the same recipe."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from sandbox import SandboxError

_IGNORED = frozenset({"__pycache__", ".mypy_cache", ".ruff_cache"})
# A build that has not been used for so long is deleted when another one is made.
_KEPT_SECONDS = 24 * 3600


@dataclass(frozen=True, slots=True)
class Artefact:
    """A folder with the built function, to be put on the import path."""

    path: Path


def build(source: Path, logical_id: str, cache: Path) -> Artefact:
    """Build the function `logical_id` from `source`, or return the build of the same content from the cache.

    `sam build` with `BuildMethod: makefile` runs `make build-<logical id>` in a copy of the source, with ARTIFACTS_DIR
    set. So does this.

    :raises SandboxError: the build failed.
    """
    target = cache / content_hash(source)
    if not target.is_dir():
        cache.mkdir(parents=True, exist_ok=True)
        _delete_unused(cache)
        # Built elsewhere and renamed, so that nobody takes an interrupted or unfinished build for a complete one.
        with tempfile.TemporaryDirectory(dir=cache, prefix=".building-") as workshop:
            _rename(_make(source, logical_id, Path(workshop)), target)
    # The build gives all files the same old time. This one says when the build was last used.
    os.utime(target)
    return Artefact(target)


def content_hash(folder: Path) -> str:
    """Return a digest of the files' names and contents, and of the Python that would build them."""
    digest = hashlib.sha256(sys.version.encode())
    for path in sorted(folder.rglob("*")):
        if path.is_file() and not _IGNORED.intersection(path.relative_to(folder).parts):
            content = path.read_bytes()
            # The length separates the files: moving a byte from one to the next is a change.
            digest.update(f"{path.relative_to(folder).as_posix()}\0{len(content)}\0".encode())
            digest.update(content)
    return digest.hexdigest()[:20]


def _make(source: Path, logical_id: str, workshop: Path) -> Path:
    scratch, artefact = workshop / "source", workshop / "artefact"
    shutil.copytree(source, scratch, ignore=shutil.ignore_patterns(*_IGNORED))
    artefact.mkdir()
    # The build must use the Python that runs this, and must not take itself for a child of a `make` that started us.
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}"
    inherited = {name: value for name, value in os.environ.items() if name not in ("MAKEFLAGS", "MFLAGS", "MAKELEVEL")}
    try:
        done = subprocess.run(  # noqa: S603 - our own Makefile
            ["make", f"build-{logical_id}"],  # noqa: S607 - any make will do
            cwd=scratch,
            env={**inherited, "PATH": path, "ARTIFACTS_DIR": str(artefact)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
    except FileNotFoundError:
        raise SandboxError("`make` is not installed") from None
    if done.returncode != 0:
        raise SandboxError(f"`make build-{logical_id}` failed:\n{done.stdout[-2000:]}")
    return artefact


def _rename(built: Path, target: Path) -> None:
    try:
        built.rename(target)
    except OSError:
        # Another process has built the same content meanwhile.
        if not target.is_dir():
            raise


def _delete_unused(cache: Path) -> None:
    for path in cache.iterdir():
        # Another process may delete it first.
        with suppress(FileNotFoundError):
            if path.stat().st_mtime < time.time() - _KEPT_SECONDS:
                shutil.rmtree(path, ignore_errors=True)
