"""AWS as far as a healthy function needs it: GetSecretValue, answered at once, and every call counted.

Run as `python -m bench.aws_stub PORT`, with the secret's text in BENCH_SECRET. `GET /counts` tells the calls by target.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections import Counter
from typing import ClassVar


class Stub(asyncio.Protocol):
    """One connection, kept."""

    counts: ClassVar[Counter[str]] = Counter()

    def __init__(self) -> None:
        self._buffer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Remember where to write."""
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """Answer each whole request."""
        self._buffer += data
        while b"\r\n\r\n" in self._buffer:
            head, _, rest = self._buffer.partition(b"\r\n\r\n")
            lines = head.decode("latin-1").split("\r\n")
            headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:])}
            length = int(headers.get("content-length", "0"))
            if len(rest) < length:
                return
            self._buffer = rest[length:]
            self._answer(lines[0].split()[1], headers.get("x-amz-target", "other"))

    def _answer(self, path: str, target: str) -> None:
        if path == "/counts":
            fields: dict[str, object] = dict(self.counts)
        else:
            self.counts[target] += 1
            fields = {
                "ARN": "arn:aws:secretsmanager:eu-west-1:123456789012:secret:thrive-AbCdEf",
                "Name": "thrive",
                "VersionId": "00000000-0000-4000-8000-000000000001",
                "SecretString": os.environ["BENCH_SECRET"],
                "VersionStages": ["AWSCURRENT"],
                "CreatedDate": 1609491600.0,
            }
        body = json.dumps(fields).encode()
        head = f"HTTP/1.1 200 OK\r\nContent-Type: application/x-amz-json-1.1\r\nContent-Length: {len(body)}\r\n\r\n"
        assert isinstance(self._transport, asyncio.Transport)  # noqa: S101 - TCP
        self._transport.write(head.encode() + body)


async def _serve(port: int) -> None:
    server = await asyncio.get_running_loop().create_server(Stub, "127.0.0.1", port)
    async with server:
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(_serve(int(sys.argv[1])))
