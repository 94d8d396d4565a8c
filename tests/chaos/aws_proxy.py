"""A reverse proxy in front of the AWS emulator that makes single API actions go wrong.

The function's AWS_ENDPOINT_URL leads here. The poller talks to the emulator directly, as Lambda's own poller is not
affected by what keeps the function from calling AWS.
"""

from __future__ import annotations

import json
import random
import threading
from collections import Counter
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import urllib3

from tests.support.sockets import RawServer, response

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.sockets import Peer, Received

Kind = Literal["denied", "throttled", "error", "reset", "lost answer", "hang", "partial"]

# What concerns one connection only, or is set anew.
_HOP = frozenset({"host", "connection", "keep-alive", "transfer-encoding", "content-length", "date", "server"})
_ERRORS: dict[str, tuple[int, str]] = {
    "denied": (400, "AccessDeniedException"),
    "throttled": (400, "ThrottlingException"),
    "error": (500, "InternalFailure"),
}


@dataclass(frozen=True, slots=True)
class AwsFault:
    """One API action that goes wrong, each call with `probability`, while the fault is in force.

    `denied`, `throttled` and `error` answer in AWS's form and do nothing. `reset` ends the connection before the call
    is made, `lost answer` after it. `hang` stays silent until the client gives up. `partial` makes the call with every
    second entry of the batch, and answers that the others failed.
    """

    action: str
    kind: Kind
    probability: float

    def __str__(self) -> str:
        return f"{self.action}: {self.kind}"


class AwsProxy:
    """The proxy. `hits` counts the calls that a fault hit, by fault."""

    def __init__(self, target: str, *, seed: int) -> None:
        self.hits: Counter[str] = Counter()
        self.url = ""
        self._target = target
        self._random = random.Random(seed)
        self._faults: list[AwsFault] = []
        self._lock = threading.Lock()
        self._emulator = urllib3.PoolManager(maxsize=20, retries=False, timeout=10)

    @contextmanager
    def running(self) -> Iterator[AwsProxy]:
        """Serve for as long as the block lasts."""
        with RawServer(self._answer) as server:
            self.url = server.url
            yield self
        self._emulator.clear()

    @contextmanager
    def fault(self, fault: AwsFault) -> Iterator[None]:
        """Keep a fault in force for as long as the block lasts."""
        with self._lock:
            self._faults.append(fault)
        yield
        with self._lock:
            self._faults.remove(fault)

    def _answer(self, peer: Peer) -> None:
        request = peer.received
        match self._kind(request.headers.get("x-amz-target", "none").rpartition(".")[2]):
            case None:
                peer.send(self._forward(request, request.body))
            case "hang":
                peer.silence()
            case "reset":
                peer.reset()
            case "lost answer":
                self._forward(request, request.body)
                peer.reset()
            case "partial":
                peer.send(self._forward_some(request))
            case kind:
                status, code = _ERRORS[kind]
                peer.send(_json(status, {"__type": code, "message": "a fault of the chaos test"}))

    def _kind(self, action: str) -> Kind | None:
        with self._lock:
            for fault in self._faults:
                if fault.action == action and self._random.random() < fault.probability:
                    self.hits[str(fault)] += 1
                    return fault.kind
        return None

    def _forward(self, request: Received, body: bytes) -> bytes:
        headers = {name: value for name, value in request.headers.items() if name not in _HOP}
        answer = self._emulator.request("POST", self._target + request.target, body=body, headers=headers)
        kept = {name.replace("-", "_"): value for name, value in answer.headers.items() if name.lower() not in _HOP}
        return response(answer.status, answer.data, **kept)

    def _forward_some(self, request: Received) -> bytes:
        call = json.loads(request.body)
        # The first entry is always among those that fail: a batch of one is to be hit too.
        failing, passing = call["Entries"][::2], call["Entries"][1::2]
        done: dict[str, Any] = {}
        if passing:
            answer = self._forward(request, json.dumps({**call, "Entries": passing}).encode())
            done = json.loads(answer.partition(b"\r\n\r\n")[2])
        failed = [{"Id": entry["Id"], "SenderFault": False, "Code": "InternalError"} for entry in failing]
        return _json(200, {**done, "Failed": [*done.get("Failed", []), *failed]})


def _json(status: int, value: object) -> bytes:
    return response(status, json.dumps(value).encode(), Content_Type="application/x-amz-json-1.0")
