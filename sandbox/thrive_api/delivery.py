"""Applying a fault to an answer: changing it, and writing it to the socket in ways that aiohttp refuses."""

from __future__ import annotations

import asyncio
import gzip
import socket
import struct
from dataclasses import replace
from functools import cache
from typing import TYPE_CHECKING

from aiohttp import web

from sandbox.thrive_api.answers import Answer, error, may_have_body, reason_phrase

if TYPE_CHECKING:
    from aiohttp.abc import AbstractStreamWriter
    from aiohttp.web_request import BaseRequest

    from sandbox.thrive_api.faults import Drip, Fault

_HTML = b"<!DOCTYPE html><html><head><title>Bad Gateway</title></head><body>Bad Gateway</body></html>"
_BOMB_BYTES = 100 * 1024 * 1024
_PAUSE = 0.002
_CHUNK = 64 * 1024
_BUFFERED = 1024 * 1024


def spoilt(normal: Answer | None, fault: Fault) -> Answer:
    """Return the answer that the fault asks for; `normal` is None if the request was not processed."""
    answer = normal or Answer(200)
    if fault.status is not None:
        answer = error(fault.status, "this fault was requested", recorded=answer.recorded)
    body, headers = answer.body, dict(answer.headers)
    if fault.body is not None:
        body = fault.body.encode() if isinstance(fault.body, str) else fault.body
    match fault.spoil:
        case "html":
            body, headers["Content-Type"] = _HTML, "text/html; charset=utf-8"
        case "gzip":
            body, headers["Content-Encoding"] = gzip.compress(body), "gzip"
        case "gzip_bomb":
            body, headers["Content-Encoding"] = _bomb(), "gzip"
    # Header names are case-insensitive: one that the fault sets must not be sent twice.
    replaced = {name.lower() for name in fault.headers}
    headers = {name: value for name, value in headers.items() if name.lower() not in replaced} | dict(fault.headers)
    return replace(answer, body=body if may_have_body(answer.status) else b"", headers=headers)


@cache
def _bomb() -> bytes:
    return gzip.compress(b" " * _BOMB_BYTES, compresslevel=1)


def needs_raw_writing(answer: Answer, fault: Fault) -> bool:
    """Return whether aiohttp's own response class could not send this."""
    return fault.ending != "answer" or fault.drip is not None or not may_have_body(answer.status)


async def deliver(transport: asyncio.Transport, answer: Answer, fault: Fault) -> None:
    """Send the answer as the fault asks for; the connection cannot be used afterwards.

    With `black_hole` and `endless` this runs until the server cancels it, when the client has gone.
    """
    if fault.ending == "black_hole":
        await asyncio.Event().wait()
    if fault.ending == "reset":
        reset(transport)
    if fault.ending in ("reset", "close"):
        return
    await _send(transport, _head(answer, fault), _drip_of(fault, "headers"))
    if fault.ending == "endless":
        await _send_forever(transport)
    if fault.ending == "close_after_headers":
        return
    end = len(answer.body) // 2 if fault.ending == "truncate" else len(answer.body)
    await _send(transport, answer.body[:end], _drip_of(fault, "body"))


def reset(transport: asyncio.BaseTransport) -> None:
    """End a connection with RST; whatever is buffered on either side is lost."""
    sock = transport.get_extra_info("socket")
    if sock is not None:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    if isinstance(transport, asyncio.Transport):
        transport.abort()


class AlreadySent(web.StreamResponse):
    """Tells aiohttp that nothing is left to write and that the connection must not be reused."""

    def __init__(self) -> None:
        super().__init__()
        self.force_close()

    async def prepare(self, request: BaseRequest) -> AbstractStreamWriter | None:  # noqa: ARG002 - aiohttp's signature
        """Write nothing."""
        return None

    async def write_eof(self, data: bytes = b"") -> None:
        """Write nothing."""


def _drip_of(fault: Fault, part: str) -> Drip | None:
    return fault.drip if fault.drip is not None and fault.drip.part == part else None


def _head(answer: Answer, fault: Fault) -> bytes:
    headers = {**answer.headers, "Connection": "close"}
    if fault.ending == "endless":
        headers["Transfer-Encoding"] = "chunked"
    elif may_have_body(answer.status):
        headers["Content-Length"] = str(len(answer.body))
    lines = [f"HTTP/1.1 {answer.status} {reason_phrase(answer.status)}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


async def _send(transport: asyncio.Transport, data: bytes, drip: Drip | None) -> None:
    if drip is None:
        transport.write(data)
        return
    for start in range(0, len(data), drip.size):
        if transport.is_closing():
            return
        transport.write(data[start : start + drip.size])
        await asyncio.sleep(drip.interval)


async def _send_forever(transport: asyncio.Transport) -> None:
    chunk = f"{_CHUNK:x}\r\n".encode() + b" " * _CHUNK + b"\r\n"
    while not transport.is_closing():
        # A client that stops reading must not fill our memory.
        if transport.get_write_buffer_size() < _BUFFERED:
            transport.write(chunk)
        await asyncio.sleep(_PAUSE)
