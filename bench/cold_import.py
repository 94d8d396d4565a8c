"""Does shipping boto3 pruned, and byte code, make a cold start shorter? Ratios behind docs/decisions/0003.

    python -m bench.cold_import

Needs Python 3.13 on the machine. Each variant is imported by fresh processes in turn, which write no byte code, as in
Lambda, where the directory is read-only; the median of what one process took counts.
"""

from __future__ import annotations

import shutil
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

SRC = Path(__file__).resolve().parents[1] / "src"
ROUNDS = 15
# What a cold start does up to the first message: the handler's imports, boto3 and the two clients.
PROGRAM = """
import sys, time
sys.path.insert(0, {directory!r})
start = time.perf_counter()
import completion_sync.handler, boto3
boto3.client("secretsmanager", "eu-west-1"), boto3.client("sqs", "eu-west-1")
print(time.perf_counter() - start)
"""


def main() -> int:
    """Build the variants, measure them in turn and print medians and ratios."""
    sys.path.insert(0, str(SRC))
    import build_artefact as recipe  # noqa: PLC0415 - src is not a package

    interpreter = recipe.find_interpreter()
    if interpreter is None:
        print("no python3.13 on this machine")
        return 1
    with tempfile.TemporaryDirectory() as scratch:
        variants = {
            "pruned, byte code": Path(scratch, "a"),
            "whole, byte code": Path(scratch, "b"),
            "pruned, no byte code": Path(scratch, "c"),
            "whole, no byte code": Path(scratch, "d"),
        }
        for name, directory in variants.items():
            recipe.install(recipe.HERE / "requirements.txt", directory)
            if name.startswith("pruned"):
                recipe.prune(directory)
            shutil.copytree(
                recipe.HERE / recipe.PACKAGE, directory / recipe.PACKAGE, ignore=shutil.ignore_patterns("__pycache__")
            )
            if not name.endswith("no byte code"):
                recipe.compile_all(directory, interpreter)
        taken: dict[str, list[float]] = {name: [] for name in variants}
        for _ in range(ROUNDS):
            for name, directory in variants.items():
                taken[name].append(once(interpreter, directory))
        best = statistics.median(taken["pruned, byte code"])
        for name, directory in variants.items():
            megabytes = sum(path.stat().st_size for path in directory.rglob("*") if path.is_file()) / 1e6
            median = statistics.median(taken[name])
            print(f"{name:22} {megabytes:6.1f} MB  {median / best:5.2f} x  ({median * 1000:.0f} ms here)")
    return 0


def once(interpreter: str, directory: Path) -> float:
    """Give the seconds that one fresh process takes; -B because Lambda's directory cannot be written to."""
    command = [interpreter, "-I", "-S", "-B", "-c", PROGRAM.format(directory=str(directory))]
    answer = subprocess.run(command, check=True, capture_output=True, text=True)  # noqa: S603 - all arguments are ours
    return float(answer.stdout)


if __name__ == "__main__":
    sys.exit(main())
