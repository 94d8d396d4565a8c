"""The HTTP server: reads requests, applies faults, writes answers, and can go down and come back."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

from aiohttp import web

from sandbox.thrive_api import completions
from sandbox.thrive_api.answers import Answer, error
from sandbox.thrive_api.arrivals import Arrival, route_of
from sandbox.thrive_api.authentication import bearer_of
from sandbox.thrive_api.control import PREFIX, Control
from sandbox.thrive_api.delivery import AlreadySent, deliver, needs_raw_writing, reset
from sandbox.thrive_api.spoiling import spoilt

if TYPE_CHECKING:
    import ssl

    from aiohttp.web_request import BaseRequest

    from sandbox.thrive_api.faults import Ending, Fault
    from sandbox.thrive_api.service import Service


class _Unserved(asyncio.Protocol):
    """A connection that a fault ends, or leaves in silence, the moment it is accepted."""

    def __init__(self, ending: Ending) -> None:
        self._ending = ending

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        if self._ending == "reset":
            reset(transport)
        elif self._ending == "close":
            transport.close()


class Server:
    """Serves a `Service` on one port; to be used within one event loop."""

    def __init__(self, service: Service, host: str, port: int, ssl_context: ssl.SSLContext | None) -> None:
        """Port 0 takes a free one at the first start; later starts come back on the same one."""
        self._service = service
        self._control = Control(service, self.begin_outage)
        self._host = host
        self.port = port
        self._ssl_context = ssl_context
        self._listener: asyncio.Server | None = None
        self._http: web.Server | None = None
        self._outage: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Listen; OSError if the port is taken. Does nothing when it listens already."""
        if self._listener is not None:
            return
        loop = asyncio.get_running_loop()
        # Cancelling handlers is what ends a black hole once its client has gone. Bodies are recorded as sent.
        self._http = web.Server(self._handle, handler_cancellation=True, access_log=None, auto_decompress=False)
        self._listener = await loop.create_server(
            self._accept, self._host, self.port, ssl=self._ssl_context, backlog=1024
        )
        self.port = self._listener.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Stop listening and reset all connections. Does nothing when it is down already."""
        if self._listener is None or self._http is None:
            return
        self._listener.close()
        for connection in self._http.connections:
            if connection.transport is not None:
                reset(connection.transport)
        await self._http.shutdown(timeout=1)
        await self._listener.wait_closed()
        self._listener = self._http = None

    def begin_outage(self, seconds: float) -> None:
        """Go down right after the present answer is on its way, and come back `seconds` later."""
        if self._outage is not None:
            # Announced twice: the later word counts.
            self._outage.cancel()
        self._outage = asyncio.get_running_loop().create_task(self._be_out(seconds))

    async def aclose(self) -> None:
        """Stop for good."""
        if self._outage is not None:
            self._outage.cancel()
            await asyncio.gather(self._outage, return_exceptions=True)
        await self.stop()

    async def _be_out(self, seconds: float) -> None:
        # Long enough for the answer that announces the outage to be read.
        await asyncio.sleep(0.05)
        await self.stop()
        await asyncio.sleep(seconds)
        await self.start()

    def _accept(self) -> asyncio.Protocol:
        hit = self._service.faults.take("connection")
        if hit is not None:
            return _Unserved(hit[1].ending)
        if self._http is None:
            # It came in just before we went down. An error here would leave its socket open for good.
            return _Unserved("reset")
        return self._http()

    async def _handle(self, request: BaseRequest) -> web.StreamResponse:
        try:
            body = await request.read()
        except web.HTTPRequestEntityTooLarge:
            return _response(error(413, "the body is larger than 1 MiB"))
        target = request.raw_path
        if target.startswith(PREFIX):
            return _response(self._control.answer(request.method, target, body))
        arrival = _arrival(request, target, body)
        self._service.requests.add(arrival)
        hit = self._service.faults.take(arrival.route, arrival.payload)
        if hit is not None:
            arrival.fault = hit[0]
            return await self._handle_badly(request, arrival, hit[1])
        answer = self._service.answer(arrival)
        arrival.status, arrival.recorded = answer.status, answer.recorded
        return _response(answer)

    async def _handle_badly(self, request: BaseRequest, arrival: Arrival, fault: Fault) -> web.StreamResponse:
        if fault.revoke_token and (token := bearer_of(arrival.headers)):
            self._service.accounts.revoke(token)
        genuine = self._service.answer(arrival) if fault.handles_request else None
        answer = spoilt(genuine, fault)
        # Before the delay: the client may be gone after it, the record is not.
        arrival.recorded = answer.recorded
        await asyncio.sleep(fault.delay)
        if fault.ending not in ("reset", "close", "black_hole"):
            arrival.status = answer.status
        if not needs_raw_writing(answer, fault):
            return _response(answer)
        if request.transport is not None:
            await deliver(request.transport, answer, fault)
        return AlreadySent()


def _arrival(request: BaseRequest, target: str, body: bytes) -> Arrival:
    route, parameter = route_of(target)
    peer = request.protocol.peername
    return Arrival(
        method=request.method,
        path=target,
        headers=request.headers,
        body=body,
        at=time.monotonic(),
        connection=peer[1] if isinstance(peer, tuple) else 0,
        route=route,
        parameter=parameter,
        payload=completions.parse(body) if route == "completion" else None,
    )


def _response(answer: Answer) -> web.Response:
    return web.Response(status=answer.status, body=answer.body, headers=answer.headers)
