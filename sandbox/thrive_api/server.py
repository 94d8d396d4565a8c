"""The HTTP server: it reads requests, applies faults, writes answers, and can go down and come back."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from aiohttp import web

from sandbox.thrive_api import control, ledger
from sandbox.thrive_api.accounts import bearer_of
from sandbox.thrive_api.arrivals import Arrival, route_of
from sandbox.thrive_api.delivery import AlreadySent, deliver, needs_raw_writing, reset, spoilt
from sandbox.thrive_api.faults import WITHOUT_ANSWER

if TYPE_CHECKING:
    import ssl

    from aiohttp.web_request import BaseRequest

    from sandbox.thrive_api.answers import Answer
    from sandbox.thrive_api.faults import Ending, Fault
    from sandbox.thrive_api.service import Service


class _Unserved(asyncio.Protocol):
    """A connection that a fault ends, or leaves in silence, as soon as it is accepted."""

    def __init__(self, ending: Ending) -> None:
        self._ending = ending

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        if self._ending == "reset":
            reset(transport)
        elif self._ending == "close":
            transport.close()


class Server:
    """Serves a `Service` on one port. All methods must be called in one event loop."""

    def __init__(self, service: Service, host: str, port: int, ssl_context: ssl.SSLContext | None) -> None:
        """Port 0 takes a free one at the first start; later starts use the same one again."""
        self._service = service
        self._host = host
        self.port = port
        self._ssl_context = ssl_context
        self._listener: asyncio.Server | None = None
        self._http: web.Server | None = None

    async def start(self) -> None:
        """Listen. Do nothing if it listens already. :raises OSError: the port is taken."""
        if self._listener is not None:
            return
        # Cancelling handlers ends a black hole once its client has gone. Bodies are logged as they were sent.
        self._http = web.Server(self._handle, handler_cancellation=True, access_log=None, auto_decompress=False)
        self._listener = await asyncio.get_running_loop().create_server(
            self._accept, self._host, self.port, ssl=self._ssl_context, backlog=1024
        )
        self.port = self._listener.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Stop listening and reset all connections. Do nothing if it is down already."""
        if self._listener is None or self._http is None:
            return
        self._listener.close()
        for connection in self._http.connections:
            if connection.transport is not None:
                reset(connection.transport)
        await self._http.shutdown(timeout=1)
        await self._listener.wait_closed()
        self._listener = self._http = None

    def _accept(self) -> asyncio.Protocol:
        fault = self._service.faults.take("connection")
        if fault is not None:
            return _Unserved(fault.ending)
        if self._http is None:
            # Accepted just before the server went down. An exception here would leak the socket.
            return _Unserved("reset")
        return self._http()

    async def _handle(self, request: BaseRequest) -> web.StreamResponse:
        body = await request.read()
        target = request.raw_path
        if target.startswith(control.PREFIX):
            return _response(control.answer(self._service, request.method, target, body))
        arrival = _arrival(request, target, body)
        self._service.requests.add(arrival)
        fault = self._service.faults.take(arrival.route, arrival.payload)
        if fault is not None:
            return await self._handle_badly(request, arrival, fault)
        answer = self._service.answer(arrival)
        arrival.status, arrival.recorded = answer.status, answer.recorded
        return _response(answer)

    async def _handle_badly(self, request: BaseRequest, arrival: Arrival, fault: Fault) -> web.StreamResponse:
        if fault.revoke_token and (token := bearer_of(arrival.headers)):
            self._service.accounts.revoke(token)
        answer = spoilt(self._service.answer(arrival) if fault.processes_request else None, fault)
        # Before the delay: the client may be gone after it, but the record stays.
        arrival.recorded = answer.recorded
        await asyncio.sleep(fault.delay)
        if fault.ending not in WITHOUT_ANSWER:
            arrival.status = answer.status
        if not needs_raw_writing(answer, fault):
            return _response(answer)
        if request.transport is not None:
            await deliver(request.transport, answer, fault)
        return AlreadySent()


def _arrival(request: BaseRequest, target: str, body: bytes) -> Arrival:
    route, parameter = route_of(request.method, target)
    peer = request.protocol.peername
    return Arrival(
        method=request.method,
        path=target,
        headers=request.headers,
        body=body,
        connection=peer[1] if isinstance(peer, tuple) else 0,
        route=route,
        parameter=parameter,
        payload=ledger.parse(body) if route == "completion" else None,
    )


def _response(answer: Answer) -> web.Response:
    return web.Response(status=answer.status, body=answer.body, headers=answer.headers)
