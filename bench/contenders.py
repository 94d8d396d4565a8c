"""Who is measured: the function, its peers, and baselines that show the least each step can take.

This module needs the standard library alone, as the pictures are drawn in an environment without our dependencies.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

OURS = "ours"
OURS_SOURCE = "ours_without_byte_code"
OURS_WHOLE_BOTO3 = "ours_whole_boto3"
OURS_MAPPED = "ours_mapped"
OURS_CODE = "ours_code"
OURS_CACHED = "ours_reference_cached"
OURS_LOOKED_UP = "ours_reference_looked_up"
SEQUENTIAL = "powertools_requests"
SEQUENTIAL_COMPILED = "powertools_requests_compiled"
ASYNC = "powertools_async"
ASYNC_COMPILED = "powertools_async_compiled"
NODE = "node"
NOTHING = "baseline_nothing"
BOTO3 = "baseline_boto3"
LOOP = "baseline_loop"
POOL = "baseline_pool"


def plain(number: int) -> dict[str, Any]:
    """Return a completion that no other number has, so that Thrive answers 201."""
    content = "64a1b2c3d4e5f6789abcdef0"  # pragma: allowlist secret
    return {"userId": f"{number:024x}", "contentId": content, "completedAt": "2021-01-01T09:00:00Z"}


# The content table and the people that :mod:`bench.services` has.
CONFIG_URI = "s3://bench/config/"
CODE = "FIRE-SAFETY"
PEOPLE = 10


def foreign(number: int) -> dict[str, Any]:
    """Return a completion in a shape that :data:`bench.services.MAPPING` maps."""
    native = plain(number)
    return {
        "type": "finished",
        "trainee": {"id": native["userId"]},
        "module": {"id": native["contentId"]},
        "endedAt": 1609491600,
    }


def with_code(number: int) -> dict[str, Any]:
    """Return a completion with a code of the content table."""
    return {"userId": f"{number:024x}", "contentCode": CODE, "completedAt": "2021-01-01T09:00:00Z"}


def with_reference(number: int) -> dict[str, Any]:
    """Return a completion with a reference; ten in a row have ten of them."""
    return {"userRef": f"E-{number % PEOPLE}", "contentId": f"{number:024x}", "completedAt": "2021-01-01T09:00:00Z"}


@dataclass(frozen=True, slots=True)
class Contender:
    """A function to measure. To add a row to tables and pictures, add one of these to :data:`CONTENDERS`.

    ``build`` names the recipe of :mod:`bench.builds` that turns the folder ``source`` (by default the one of its name
    in ``bench/peers``) into what is deployed. ``measures`` names the measurements it takes part in. ``environment`` is
    added to the variables that all functions get; ``completion`` returns the body of the message with a given number.
    """

    name: str
    label: str
    build: str
    measures: frozenset[str]
    source: str = ""
    handler: str = "app.lambda_handler"
    environment: Mapping[str, str] = field(default_factory=dict)
    completion: Callable[[int], dict[str, Any]] = plain


_START = frozenset({"cold", "memory"})
_LOOP = frozenset({"cpu"})
_POOL = frozenset({"warm", "cpu", "memory"})
_SHAPE = frozenset({"cold", "cpu"})
_BUILD = frozenset({"cold", "size"})
_ALL = frozenset({"cold", "warm", "cpu", "memory", "size", "calls", "durations"})
_HANDLER = "completion_sync.handler.lambda_handler"
_REQUESTS, _HTTPX = "Powertools BatchProcessor + requests", "Powertools AsyncBatchProcessor + httpx"
_PEERS = "bench/peers/"
_URLLIB3 = "bench/peers/baseline_urllib3"
_US = "thrive-completion-sync"
_CONFIGURED = {"CONFIG_URI": CONFIG_URI}

CONTENDERS = (
    Contender(NOTHING, "baseline: empty handler", "installed", _START),
    Contender(BOTO3, "baseline: boto3 + Secrets Manager client", "installed", _START),
    Contender(LOOP, "baseline: bare urllib3 loop", "installed", _LOOP, _URLLIB3, "app.loop"),
    Contender(POOL, "baseline: bare urllib3 thread pool", "installed", _POOL, _URLLIB3, "app.pool"),
    Contender(OURS, _US, "ours", _ALL | {"growth"}, "src", _HANDLER),
    Contender(OURS_SOURCE, f"{_US}, no byte code", "ours_without_byte_code", _BUILD, "src", _HANDLER),
    Contender(OURS_WHOLE_BOTO3, f"{_US}, all of boto3", "ours_with_whole_boto3", _BUILD, "src", _HANDLER),
    Contender(OURS_MAPPED, f"{_US}, mapped", "ours", _SHAPE, "src", _HANDLER, _CONFIGURED, foreign),
    Contender(OURS_CODE, f"{_US}, with a content code", "ours", _SHAPE, "src", _HANDLER, _CONFIGURED, with_code),
    Contender(OURS_CACHED, f"{_US}, reference cached", "ours", _SHAPE, "src", _HANDLER, {}, with_reference),
    Contender(
        *(OURS_LOOKED_UP, f"{_US}, reference looked up", "ours", _SHAPE, "src", _HANDLER),
        environment={"USER_CACHE_SECONDS": "0"},
        completion=with_reference,
    ),
    Contender(SEQUENTIAL, _REQUESTS, "sam", _ALL),
    Contender(SEQUENTIAL_COMPILED, f"{_REQUESTS}, byte code added", "sam_and_byte_code", _BUILD, _PEERS + SEQUENTIAL),
    Contender(ASYNC, _HTTPX, "sam", _ALL),
    Contender(ASYNC_COMPILED, f"{_HTTPX}, byte code added", "sam_and_byte_code", _BUILD, _PEERS + ASYNC),
    Contender(NODE, "Node.js: Powertools + fetch", "node", _ALL, handler="app.handler"),
)
LABELS = {contender.name: contender.label for contender in CONTENDERS}
