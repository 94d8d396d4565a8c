"""Build what ships to Lambda: locked packages, our package, byte code, licences; nothing else (docs/decisions/0003)."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

TARGET = (3, 13)  # template.yaml: Runtime
HERE = Path(__file__).resolve().parent
PACKAGE = "completion_sync"
# What clients of these services load from botocore; the files directly in its data (partitions, retries, …) stay too.
AWS_SERVICES = {"s3", "secretsmanager", "sqs"}
# The larger half of Powertools: web frameworks, batches, caches, event classes. `try_out` fails when one is needed.
UNUSED_DIRECTORIES = ("aws_lambda_powertools/event_handler", "bin", "boto3/examples")
POWERTOOLS_UTILITIES = {"jmespath_utils", "typing"}
LICENCES = "licenses"
# The earliest day that a zip can hold in every time zone: unchanged sources make an unchanged archive.
EPOCH = 315_619_200  # 1980-01-02T00:00:00Z


def main(arguments: list[str]) -> int:
    """Fill the directory that is the only argument."""
    if len(arguments) != 1 or not arguments[0]:
        print("usage: build_artefact.py ARTIFACTS_DIR", file=sys.stderr)  # noqa: T201 - a script
        return 2
    target = Path(arguments[0]).resolve()
    target.mkdir(parents=True, exist_ok=True)
    install(HERE / "requirements.txt", target)
    prune(target)
    shutil.copytree(HERE / PACKAGE, target / PACKAGE, ignore=shutil.ignore_patterns("__pycache__", "*.pyi", "py.typed"))
    interpreter = find_interpreter()
    if interpreter is None:
        name = f"python{TARGET[0]}.{TARGET[1]}"
        warning = f"no {name} on this machine: the artefact has no byte code, and every cold start compiles it again"
        print(f"WARNING: {warning}. Install {name} and build again before you deploy.", file=sys.stderr)  # noqa: T201 - a script
    else:
        compile_all(target, interpreter)
        try_out(target, interpreter)
    settle_times(target)
    return 0


def install(requirements: Path, target: Path) -> None:
    """Install what the lock file says: checked by hash, pure Python, for the target's version whoever runs this."""
    options = ["--quiet", "--disable-pip-version-check", "--no-input", "--no-compile", "--root-user-action=ignore"]
    locked = ["--require-hashes", "--no-deps", "--requirement", str(requirements)]
    pure = ["--only-binary=:all:", "--implementation=py", "--abi=none", "--platform=any"]
    version = f"--python-version={TARGET[0]}.{TARGET[1]}"
    pip = [sys.executable, "-m", "pip", "install", *options, *locked, *pure, version, "--target", str(target)]
    subprocess.run(pip, check=True)  # noqa: S603 - all arguments are ours


def prune(target: Path) -> None:
    """Remove what the function never loads; keep every licence."""
    for info in sorted(target.glob("*.dist-info")):
        keep_licences(info, target / LICENCES / info.name.removesuffix(".dist-info"))
        shutil.rmtree(info)
    for name in UNUSED_DIRECTORIES:
        shutil.rmtree(target / name, ignore_errors=True)
    keep_only(POWERTOOLS_UTILITIES, target / "aws_lambda_powertools" / "utilities")
    keep_only(AWS_SERVICES, target / "botocore" / "data")
    prune_endpoints(target / "botocore" / "data" / "endpoints.json")
    keep_only(set(), target / "boto3" / "data")
    for directory in sorted(
        path for path in target.rglob("*") if path.is_dir() and path.name in {"tests", "__pycache__"}
    ):
        shutil.rmtree(directory, ignore_errors=True)
    for pattern in ("*.pyi", "py.typed", "*.md"):
        for file in target.rglob(pattern):
            file.unlink()


def keep_only(names: set[str], parent: Path) -> None:
    """Remove all directories but these; files stay."""
    for directory in sorted(parent.iterdir()):
        if directory.is_dir() and directory.name not in names:
            shutil.rmtree(directory)


def prune_endpoints(file: Path) -> None:
    """Keep the endpoints of our services: every client that is made reads the whole file, for hundreds of services."""
    endpoints = json.loads(file.read_text(encoding="utf-8"))
    for partition in endpoints["partitions"]:
        partition["services"] = {
            name: service for name, service in partition["services"].items() if name in AWS_SERVICES
        }
    file.write_text(json.dumps(endpoints, separators=(",", ":")), encoding="utf-8")


def keep_licences(info: Path, destination: Path) -> None:
    """Copy the licence files of one installed package."""
    for file in sorted(info.rglob("*")):
        if file.is_file() and file.name.upper().startswith(("LICEN", "NOTICE", "COPYING", "AUTHORS")):
            destination.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, destination / file.name)


def compile_all(target: Path, interpreter: str) -> None:
    """Write byte code that the runtime uses as it is: it cannot write its own, as /var/task is read-only."""
    options = ["-q", "-q", "-f", "--invalidation-mode", "unchecked-hash", "-s", str(target), "-p", "/var/task"]
    # A fixed hash seed gives constant sets one order.
    environment = {**os.environ, "PYTHONHASHSEED": "0", "PYTHONPATH": "", "PYTHONNOUSERSITE": "1"}
    command = [interpreter, "-m", "compileall", *options, str(target)]
    subprocess.run(command, check=True, cwd=target.parent, env=environment)  # noqa: S603 - all arguments are ours


def try_out(target: Path, interpreter: str) -> None:
    """Import all of our modules and create the AWS clients from the artefact alone: too much pruning shows here."""
    modules = ", ".join(f"{PACKAGE}.{path.stem}" for path in sorted((HERE / PACKAGE).glob("*.py")))
    clients = "".join(f"; boto3.client({service!r}, 'eu-west-1')" for service in sorted(AWS_SERVICES))
    zone = "; import zoneinfo; zoneinfo.reset_tzpath([]); zoneinfo.ZoneInfo('Europe/London')"
    program = f"import sys; sys.path.insert(0, {str(target)!r}); import {modules}, boto3{clients}{zone}"
    # Isolated, without site-packages, writing no byte code.
    subprocess.run([interpreter, "-I", "-S", "-B", "-c", program], check=True)  # noqa: S603 - all arguments are ours


def find_interpreter() -> str | None:
    """Return a program that really is the target's Python: a version manager's shim may only pretend to be."""
    if sys.version_info[:2] == TARGET:
        return sys.executable
    name = f"python{TARGET[0]}.{TARGET[1]}"
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    candidates = [
        *(Path(directory) / name for directory in os.environ.get("PATH", "").split(os.pathsep) if directory),
        *sorted(pyenv.glob(f"versions/{TARGET[0]}.{TARGET[1]}*/bin/{name}"), reverse=True),
    ]
    return next((str(path) for path in candidates if path.is_file() and is_target(path)), None)


def is_target(interpreter: Path) -> bool:
    """Return whether a program runs and says that it is the target's Python."""
    question = "import sys; print('%d.%d' % sys.version_info[:2])"
    try:
        answer = subprocess.run(  # noqa: S603 - the path is from PATH or pyenv, as every program's
            [str(interpreter), "-I", "-c", question], capture_output=True, check=True, text=True, timeout=30
        )
    except (OSError, subprocess.SubprocessError):
        return False
    return answer.stdout.strip() == f"{TARGET[0]}.{TARGET[1]}"


def settle_times(target: Path) -> None:
    """Set one time and one mode for every file and directory, so that the same sources make the same archive."""
    for path in [*target.rglob("*"), target]:
        path.chmod(0o755 if path.is_dir() else 0o644)
        os.utime(path, (EPOCH, EPOCH))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
