"""The shape of the code: which module may import which, and what importing the package must not do."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest

SRC = Path(__file__).parents[2] / "src"
PACKAGE = SRC / "completion_sync"

# A module may import those before it in this list, and no other.
ORDER = """
    errors outcomes timestamps time_format completion clock pressure retry settings connections transport
    credentials redaction tokens authorization thrive catalogue expressions mapping config people resolution
    events queues lanes recording sync observability bootstrap check snapstart handler
""".split()  # noqa: SIM905 - twenty lines otherwise
# Value objects, the clock and the settings import nothing of ours but the errors.
GROUND = ["outcomes", "timestamps", "clock", "settings"]
# What only these modules may import, so that there is one place to look.
ONLY = {
    "boto3": {"bootstrap", "snapstart"},
    "urllib3": {"connections", "transport"},
    "http": {"connections", "transport"},
    "aws_lambda_powertools": {"observability", "handler"},
    "os": {"bootstrap"},
    "ssl": {"bootstrap", "connections"},
    "socket": {"connections"},
    "time": {"clock", "connections", "transport"},
    "random": {"pressure", "retry", "snapstart"},
    "logging": {"observability", "settings"},
}
ELSEWHERE = {"sandbox", "completion_sync_cli", "tests", "bench"}


def imports(source: str) -> tuple[set[str], set[str]]:
    """Return the modules of ours that a source imports, and the full names of all others, those for types included."""
    ours: set[str] = set()
    others: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.level:
            # "from .retry import Clock" names a module; "from . import events" names it as what is imported.
            ours |= {node.module} if node.module else {alias.name for alias in node.names} - {"__version__"}
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


def test_every_module_has_its_place_in_the_order() -> None:
    assert sorted(ORDER) == sorted(path.stem for path in PACKAGE.glob("*.py") if path.stem != "__init__")


@pytest.mark.parametrize("module", ORDER)
def test_imports_point_one_way_and_each_library_has_its_place(module: str) -> None:
    ours, others = imports((PACKAGE / f"{module}.py").read_text())
    roots = {name.partition(".")[0] for name in others}
    assert ours <= set(ORDER[: ORDER.index(module)])
    assert module not in GROUND or ours <= {"errors"}
    assert {library for library in roots & ONLY.keys() if module not in ONLY[library]} == set()
    # The command, the sandbox, the tests and the benchmarks are not in the artefact.
    assert not roots & ELSEWHERE
    # Below the composition root, only the errors of boto3's clients are known.
    if module not in {"bootstrap", "snapstart"}:
        assert {name for name in others if name.partition(".")[0] == "botocore"} <= {"botocore.exceptions"}


def test_importing_the_handler_reads_no_variable_opens_no_connection_and_starts_no_thread() -> None:
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
    "threads": threading.active_count(),
    "built": bootstrap.application.cache_info().currsize,
}))
"""

    answer = subprocess.run(
        [sys.executable, "-c", program], env={"PYTHONPATH": str(SRC)}, capture_output=True, text=True, check=True
    )

    found = json.loads(answer.stdout)
    ours = ("THRIVE_", "DEAD_LETTER_", "RETRY_QUEUE_", "MAX_CONCURRENCY", "SECRET_MAX_", "REQUEST_", "BACKOFF_")
    assert found["read"][-1] == "CONTROL"
    assert [name for name in found["read"] if name.startswith(ours)] == []
    # urllib3 binds a socket to ::1 and closes it, to see whether there is IPv6.
    assert set(found["sockets"]) <= {"socket.__new__", "socket.bind"}
    assert (found["threads"], found["built"]) == (1, 0)
