"""The shape of the code: which module may know which, and what importing the package does not do."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest

SRC = Path(__file__).parents[2] / "src"
PACKAGE = SRC / "completion_sync"

# A module may import those that stand before it in this list, and no other.
ORDER = [
    "errors",
    "outcomes",
    "completion",
    "retry",
    "settings",
    "transport",
    "credentials",
    "tokens",
    "authorization",
    "thrive",
    "events",
    "queues",
    "sync",
    "observability",
    "bootstrap",
    "snapstart",
    "handler",
]
# The value objects and the settings stand on the error tree alone.
GROUND = ["outcomes", "completion", "retry", "settings"]
# What only these modules may import, so that there is one place to look.
ONLY = {
    "boto3": {"bootstrap", "snapstart"},
    "urllib3": {"transport"},
    "http": {"transport"},
    "aws_lambda_powertools": {"observability", "handler"},
    "os": {"bootstrap"},
    "ssl": {"bootstrap", "transport"},
    "socket": {"transport"},
    "time": {"retry", "transport"},
    "random": {"retry", "snapstart"},
    "logging": {"observability"},
}
MODULES = sorted(path.stem for path in PACKAGE.glob("*.py") if path.stem != "__init__")


def imports(source: str) -> tuple[set[str], set[str]]:
    """Give the modules of ours that a source imports, and the full names of all others, those for types included."""
    ours: set[str] = set()
    others: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.level:
            # "from .retry import Clock" names a module; "from . import events" names it as what is imported.
            ours |= {node.module} if node.module else {alias.name for alias in node.names}
            continue
        elif isinstance(node, ast.ImportFrom):
            names = [node.module or ""]
        else:
            continue
        for name in names:
            if name.startswith("completion_sync."):
                ours.add(name.removeprefix("completion_sync."))
            else:
                others.add(name)
    return ours, others


def imports_of(module: str) -> tuple[set[str], set[str]]:
    """Give what a module of the package imports."""
    return imports((PACKAGE / f"{module}.py").read_text())


def test_every_module_has_its_place() -> None:
    """A new module must be put into the order above."""
    assert sorted(ORDER) == MODULES


def test_imports_are_found_in_every_form() -> None:
    """The reader of the syntax tree sees through each way to import, at any depth."""
    source = """
import os.path
from . import events
from .retry import Clock
def f():
    import boto3
    from botocore.config import Config
    import completion_sync.queues
if TYPE_CHECKING:
    from completion_sync.tokens import TokenCache
"""

    assert imports(source) == (
        {"events", "retry", "queues", "tokens"},
        {"os.path", "boto3", "botocore.config"},
    )


@pytest.mark.parametrize("module", ORDER)
def test_imports_point_one_way(module: str) -> None:
    """A module knows only those below it, also for its type hints."""
    ours, _ = imports_of(module)

    assert ours <= set(ORDER[: ORDER.index(module)])


@pytest.mark.parametrize("module", GROUND)
def test_the_ground_knows_the_errors_alone(module: str) -> None:
    """Value objects, time and settings import nothing else of ours but the error tree."""
    assert imports_of(module)[0] <= {"errors"}


@pytest.mark.parametrize("module", ORDER)
def test_function_imports_nothing_from_the_rest_of_the_repository(module: str) -> None:
    """The command, the sandbox, the tests and the benchmarks are not in the artefact."""
    assert not {name.partition(".")[0] for name in imports_of(module)[1]} & {
        "sandbox",
        "completion_sync_cli",
        "tests",
        "bench",
    }


@pytest.mark.parametrize("module", ORDER)
def test_each_library_has_its_one_place(module: str) -> None:
    """Clients, sockets, clocks, randomness, logs and the environment are touched where the list says alone."""
    roots = {name.partition(".")[0] for name in imports_of(module)[1]}

    assert {library for library in roots & ONLY.keys() if module not in ONLY[library]} == set()


@pytest.mark.parametrize("module", [module for module in ORDER if module not in {"bootstrap", "snapstart"}])
def test_of_botocore_only_the_errors_are_known(module: str) -> None:
    """Below the composition root, boto3's clients are given, and only their errors are named."""
    botocore = {name for name in imports_of(module)[1] if name.partition(".")[0] == "botocore"}

    assert botocore <= {"botocore.exceptions"}


def test_importing_the_handler_touches_nothing() -> None:
    """Importing imports no boto3, opens no connection, starts no thread and reads none of our variables."""
    # given an interpreter of its own that takes note of each
    program = """
import json, os, sys, threading

events = []
sys.addaudithook(lambda name, _: events.append(name) if name.startswith("socket.") else None)
read = []

class Environment(type(os.environ)):
    def __getitem__(self, key):
        read.append(key)
        return super().__getitem__(key)

os.environ.__class__ = Environment
import completion_sync.handler
from completion_sync import bootstrap

os.environ.get("CONTROL")
print(json.dumps({
    "read": read,
    "sockets": events,
    "boto3": "boto3" in sys.modules,
    "threads": threading.active_count(),
    "built": bootstrap.application.cache_info().currsize,
}))
"""

    # when it imports the handler
    answer = subprocess.run(
        [sys.executable, "-c", program], env={"PYTHONPATH": str(SRC)}, capture_output=True, text=True, check=True
    )

    # then nothing was touched, although the environment's readers were seen
    found = json.loads(answer.stdout)
    ours = ("THRIVE_", "DEAD_LETTER_", "RETRY_QUEUE_", "MAX_CONCURRENCY", "SECRET_MAX_", "REQUEST_", "BACKOFF_")
    assert found["read"][-1] == "CONTROL"
    assert [name for name in found["read"] if name.startswith(ours)] == []
    # urllib3 binds a socket to ::1 and closes it, to see whether there is IPv6: that leaves the machine in peace.
    assert set(found["sockets"]) <= {"socket.__new__", "socket.bind"}
    assert found["boto3"] is False
    assert found["threads"] == 1
    assert found["built"] == 0
