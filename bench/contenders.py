"""Who takes part: ours, the peers, and the floors below which nothing can be."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bench import artefacts
from bench.runtimes import PEERS, Runtime, UnavailableError, node_runtime, own_python_runtime, python_runtime
from bench.services import SECRET

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

OURS = "ours"
TAUGHT = "powertools_requests"
ASYNC = "powertools_async"
NODE = "node"
NOTHING = "floor_nothing"
BOTO3 = "floor_boto3"
LOOP = "floor_loop"
POOL = "floor_pool"
TAUGHT_COMPILED = "powertools_requests_compiled"

LABELS = {
    OURS: "thrive-completion-sync",
    TAUGHT: "Powertools BatchProcessor + requests",
    TAUGHT_COMPILED: "the same, with byte code added",
    ASYNC: "Powertools AsyncBatchProcessor + httpx",
    NODE: "Node.js: Powertools + fetch",
    NOTHING: "floor: empty handler",
    BOTO3: "floor: boto3 + Secrets Manager client",
    LOOP: "floor: bare urllib3 loop",
    POOL: "floor: bare urllib3 thread pool",
}


@dataclass(frozen=True, slots=True)
class Contender:
    """A function that can be started; `environment` is what it needs beyond what all get."""

    name: str
    runtime: Runtime
    code: Path
    handler: str
    environment: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Field:
    """All who take part, and who does not, with the reason."""

    contenders: dict[str, Contender]
    absent: dict[str, str]

    def some(self, *names: str) -> list[Contender]:
        """Return those of these who take part, in this order."""
        return [self.contenders[name] for name in names if name in self.contenders]


def ours() -> Contender:
    """Build ours alone, for the Python that Lambda has."""
    return Contender(OURS, python_runtime(), artefacts.ours(), "completion_sync.handler.lambda_handler", {})


def full_field() -> Field:
    """Build everyone; what was built before from the same content is taken as it is."""
    python = python_runtime()
    taught, asynchronous = artefacts.taught(TAUGHT, python), artefacts.taught(ASYNC, python)
    urllib3 = artefacts.floor("floor_urllib3", python)
    secret = {"BENCH_SECRET": json.dumps(SECRET)}
    contenders = [
        ours(),
        Contender(TAUGHT, python, taught, "app.lambda_handler", {}),
        Contender(TAUGHT_COMPILED, python, artefacts.compiled(taught, TAUGHT, python), "app.lambda_handler", {}),
        Contender(ASYNC, python, asynchronous, "app.lambda_handler", {}),
        Contender(NOTHING, python, artefacts.floor(NOTHING, python), "app.lambda_handler", {}),
        Contender(BOTO3, python, artefacts.floor(BOTO3, python), "app.lambda_handler", {}),
        Contender(LOOP, python, urllib3, "loop.lambda_handler", secret),
        Contender(POOL, python, urllib3, "pool.lambda_handler", secret),
    ]
    absent: dict[str, str] = {}
    try:
        node, packages = node_runtime()
        contenders.append(Contender(NODE, node, artefacts.node(packages), "app.handler", {}))
    except UnavailableError as error:
        absent[NODE] = str(error)
    return Field({contender.name: contender for contender in contenders}, absent)


def quick_field() -> Field:
    """Return ours and the empty handler, on the Python that runs us: nothing is set up for it."""
    python = own_python_runtime()
    contenders = [
        Contender(OURS, python, artefacts.ours(), "completion_sync.handler.lambda_handler", {}),
        Contender(NOTHING, python, PEERS / NOTHING, "app.lambda_handler", {}),
    ]
    return Field({contender.name: contender for contender in contenders}, {})
