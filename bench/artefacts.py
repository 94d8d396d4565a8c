"""What each contender deploys: ours by our recipe for `sam build`, the taught stacks by its own, floors by pip."""

from __future__ import annotations

import os
import shutil
import tempfile
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

from bench.runtimes import CACHE, PEERS, once, run
from sandbox.pipeline import rig
from sandbox.pipeline.emulator import ROOT

if TYPE_CHECKING:
    from bench.runtimes import Runtime

_SAM = ROOT / ".tools" / "sam" / "bin" / "sam"
_TEMPLATE = """\
Transform: AWS::Serverless-2016-10-31
Resources:
  Function:
    Type: AWS::Serverless::Function
    Properties: {{CodeUri: {code}, Handler: app.lambda_handler, Runtime: python3.13}}
"""


def ours() -> Path:
    """Return a copy of the project's own artefact: the original may be replaced while we measure."""
    built = rig.build_artefact().path
    target = CACHE / f"ours-{built.name}"
    if not target.exists():
        CACHE.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=CACHE) as scratch:
            shutil.copytree(built, Path(scratch) / "task")
            (Path(scratch) / "task").rename(target)
    return target


def taught(name: str, python: Runtime) -> Path:
    """Return a Python peer as `sam build` leaves it, which means without byte code."""

    def make(target: Path) -> None:
        with tempfile.TemporaryDirectory() as scratch:
            template = Path(scratch) / "template.yaml"
            template.write_text(_TEMPLATE.format(code=PEERS / name))
            # `sam build` takes the first `python3.13` or `python3` on PATH that is the right one.
            first = Path(python.command[0]).parent
            path = f"{first}{os.pathsep}{os.environ.get('PATH', os.defpath)}"
            build = [str(_SAM), "build", "--template", str(template), "--build-dir", f"{scratch}/out", "--no-cached"]
            run(*build, cwd=Path(scratch), PATH=path, SAM_CLI_TELEMETRY="0")
            shutil.copytree(Path(scratch) / "out" / "Function", target / "task")

    return once(name, _sources(name), make) / "task"


def floor(name: str, python: Runtime) -> Path:
    """Return a floor: its packages and its byte code, so that it is as fast as Python gets."""

    def make(target: Path) -> None:
        task = target / "task"
        shutil.copytree(PEERS / name, task)
        requirements = task / "requirements.txt"
        if requirements.exists():
            options = ["--quiet", "--disable-pip-version-check", "--no-deps", "--require-hashes", "--no-compile"]
            run(
                python.command[0],
                "-m",
                "pip",
                "install",
                *options,
                "-r",
                str(requirements),
                "--target",
                str(task),
                cwd=task,
            )
        with_byte_code(task, python)

    return once(name, _sources(name), make) / "task"


def compiled(task: Path, name: str, python: Runtime) -> Path:
    """Return a peer's artefact with byte code added: what its cold start would be if its build wrote any."""

    def make(target: Path) -> None:
        shutil.copytree(task, target / "task")
        with_byte_code(target / "task", python)

    return once(f"{name}-compiled", _sources(name), make) / "task"


def with_byte_code(task: Path, python: Runtime) -> None:
    """Write byte code that is taken as it is."""
    options = ["-m", "compileall", "-q", "-q", "--invalidation-mode", "unchecked-hash"]
    run(python.command[0], *options, str(task), cwd=task)


def node(packages: Path) -> Path:
    """Return the Node.js peer, bundled."""

    def make(target: Path) -> None:
        # esbuild looks for packages beside the source.
        shutil.copyfile(PEERS / "node" / "app.mjs", packages / "app.mjs")
        (target / "task").mkdir()
        run("npm", "run", "bundle", cwd=packages, OUT=str(target / "task"))

    return once("node", [PEERS / "node" / "app.mjs", PEERS / "node" / "package-lock.json"], make) / "task"


def unzipped_bytes(task: Path) -> int:
    """Return the size of all files, as Lambda counts it towards its limit."""
    return sum(path.stat().st_size for path in task.rglob("*") if path.is_file())


def zipped_bytes(task: Path) -> int:
    """Return the size of the archive that would be uploaded."""
    with tempfile.TemporaryFile() as file:
        with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
            for path in sorted(task.rglob("*")):
                if path.is_file():
                    info = zipfile.ZipInfo(path.relative_to(task).as_posix())
                    info.compress_type = zipfile.ZIP_DEFLATED
                    archive.writestr(info, path.read_bytes())
        return file.tell()


def _sources(name: str) -> list[Path]:
    return sorted(path for path in (PEERS / name).iterdir() if path.is_file())
