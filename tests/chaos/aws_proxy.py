"""A reverse proxy in front of the AWS emulator that makes single API actions go wrong.

The function's AWS_ENDPOINT_URL leads here; the poller talks to the emulator directly, as Lambda's own poller would not
be touched by whatever keeps the function from calling AWS.
"""

from __future__ import annotations

import asyncio
import json
import random
import threading
from collections import Counter
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import aiohttp
from aiohttp import web

from sandbox.pipeline.processes import LOOPBACK
from sandbox.thrive_api.delivery import AlreadySent, reset

if TYPE_CHECKING:
    from collections.abc import Coroutine, Iterator

Kind = Literal["denied", "throttled", "error", "reset", "lost answer", "hang", "partial"]

_PATIENCE = 10.0
# What concerns one connection only, or what aiohttp sets anew.
_HOP = frozenset({"host", "connection", "keep-alive", "transfer-encoding", "content-length", "date", "server"})
_ANSWERS: dict[str, tuple[int, str]] = {
    "denied": (400, "AccessDeniedException"),
    "throttled": (400, "ThrottlingException"),
    "error": (500, "InternalFailure"),
}


@dataclass(frozen=True, slots=True)
class AwsFault:
    """One API action that goes wrong, each call with `probability`, for as long as the fault is in force.

    `denied`, `throttled` and `error` answer in AWS's form and do nothing. `reset` ends the connection before the call
    is made, `lost answer` after it. `hang` stays silent until the client gives up. `partial` makes the call with every
    second entry of the batch, and answers that the others failed.
    """

    action: str
    kind: Kind
    probability: float = 1.0

    def __str__(self) -> str:
        return f"{self.action}: {self.kind}"


class AwsProxy:
    """The proxy, in a thread of its own. `calls` counts all calls by action, `hits` those that a fault hit."""

    def __init__(self, target: str, *, seed: int = 0) -> None:
        self.calls: Counter[str] = Counter()
        self.hits: Counter[str] = Counter()
        self._target = target
        self._random = random.Random(seed)
        # Replaced as a whole, so that the proxy's thread never sees one half done.
        self._faults: tuple[AwsFault, ...] = ()
        self._port = 0

    @property
    def url(self) -> str:
        """Where the function finds AWS."""
        return f"http://{LOOPBACK}:{self._port}"

    @contextmanager
    def fault(self, fault: AwsFault) -> Iterator[None]:
        """Keep a fault in force for as long as the block lasts."""
        self._faults += (fault,)
        try:
            yield
        finally:
            self._faults = tuple(other for other in self._faults if other is not fault)

    @contextmanager
    def running(self) -> Iterator[AwsProxy]:
        """Serve for as long as the block lasts."""
        loop = asyncio.new_event_loop()
        thread = threading.Thread(target=loop.run_forever, name="aws-proxy", daemon=True)
        thread.start()

        def do(work: Coroutine[Any, Any, Any]) -> Any:
            return asyncio.run_coroutine_threadsafe(work, loop).result(_PATIENCE)

        do(self._start())
        try:
            yield self
        finally:
            do(self._stop())
            loop.call_soon_threadsafe(loop.stop)
            thread.join(_PATIENCE)
            loop.close()

    async def _start(self) -> None:
        self._session = aiohttp.ClientSession(auto_decompress=False, trust_env=False)
        self._server = web.Server(self._handle, handler_cancellation=True, access_log=None)
        self._listener = await asyncio.get_running_loop().create_server(self._server, LOOPBACK, 0, backlog=256)
        self._port = self._listener.sockets[0].getsockname()[1]

    async def _stop(self) -> None:
        self._listener.close()
        await self._server.shutdown(timeout=1)
        await self._listener.wait_closed()
        await self._session.close()

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        action = request.headers.get("X-Amz-Target", "none").rpartition(".")[2]
        body = await request.content.read(-1)
        self.calls[action] += 1
        fault = self._take(action)
        if fault is None:
            return await self._forward(request, body)
        match fault.kind:
            case "hang":
                await asyncio.Event().wait()
            case "partial":
                return await self._forward_some(request, body)
            case "lost answer":
                await self._forward(request, body)
            case "reset":
                pass
            case kind:
                status, code = _ANSWERS[kind]
                return _json(status, {"__type": code, "message": "a fault of the chaos test"})
        if request.transport is not None:
            reset(request.transport)
        return AlreadySent()

    def _take(self, action: str) -> AwsFault | None:
        for fault in self._faults:
            if fault.action == action and self._random.random() < fault.probability:
                self.hits[str(fault)] += 1
                return fault
        return None

    async def _forward(self, request: web.BaseRequest, body: bytes) -> web.Response:
        headers = {name: value for name, value in request.headers.items() if name.lower() not in _HOP}
        url = f"{self._target}{request.raw_path}"
        async with self._session.request(request.method, url, headers=headers, data=body) as answer:
            kept = {name: value for name, value in answer.headers.items() if name.lower() not in _HOP}
            return web.Response(status=answer.status, headers=kept, body=await answer.read())

    async def _forward_some(self, request: web.BaseRequest, body: bytes) -> web.Response:
        call = json.loads(body)
        # The first of a batch is always among those that fail: a batch of one is to be hit too.
        failing, passing = call["Entries"][::2], call["Entries"][1::2]
        result: dict[str, Any] = {}
        if passing:
            answer = await self._forward(request, json.dumps({**call, "Entries": passing}).encode())
            if answer.status != 200:
                return answer
            result = json.loads(answer.body or b"{}")
        failed = [
            {"Id": entry["Id"], "SenderFault": False, "Code": "InternalError", "Message": "a fault of the chaos test"}
            for entry in failing
        ]
        return _json(200, {**result, "Failed": [*result.get("Failed", []), *failed]})


def _json(status: int, value: object) -> web.Response:
    return web.Response(status=status, body=json.dumps(value).encode(), content_type="application/x-amz-json-1.0")
