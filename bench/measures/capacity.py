"""Is the stand-in fast enough? A client that does nothing but write and count, in an event loop of its own."""

from __future__ import annotations

import asyncio
import http.client
import json
import time
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from bench.services import SECRET
from bench.stats import rounded, summary
from sandbox.pipeline.processes import LOOPBACK

if TYPE_CHECKING:
    from bench.setting import Setting

_IN_FLIGHT = (10, 64)


def measure(setting: Setting) -> dict[str, Any]:
    """Return requests per second without a delay, and what the answers take beyond a delay, in milliseconds."""
    services, seconds = setting.services, setting.plan.capacity_seconds
    token = _token(services.thrive_port)
    services.set_latency(0)
    per_second = {}
    for in_flight in _IN_FLIGHT:
        latencies = asyncio.run(_load(services.thrive_port, token, in_flight, seconds))
        per_second[str(in_flight)] = rounded(len(latencies) / seconds)
    excess = {}
    for latency in setting.plan.latencies:
        services.set_latency(latency)
        latencies = asyncio.run(_load(services.thrive_port, token, 10, max(seconds, 3 * latency / 1000)))
        excess[str(latency)] = summary([value - latency for value in latencies])
    return {"requests_per_second": per_second, "beyond_the_delay_ms": excess}


async def _load(port: int, token: str, in_flight: int, seconds: float) -> list[float]:
    """Keep `in_flight` requests under way and return how long each took, in milliseconds."""
    latencies: list[float] = []
    end = time.perf_counter() + seconds
    await asyncio.gather(*(_client(port, token, number, end, latencies) for number in range(in_flight)))
    return latencies


async def _client(port: int, token: str, number: int, end: float, latencies: list[float]) -> None:
    reader, writer = await asyncio.open_connection(LOOPBACK, port)
    count = 0
    while (began := time.perf_counter()) < end:
        count += 1
        completion = {"userId": f"bare-{number}-{began}", "contentId": "c", "completedAt": "2021-01-01T09:00:00.000Z"}
        body = json.dumps(completion)
        head = f"POST /rest/v1/learning/completions HTTP/1.1\r\nHost: {LOOPBACK}\r\nAuthorization: Bearer {token}"
        writer.write(f"{head}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode())
        answer = await reader.readuntil(b"\r\n\r\n")
        if not answer.startswith(b"HTTP/1.1 201"):
            raise RuntimeError(f"the stand-in answered {answer[:40]!r}")
        length = int(answer.lower().partition(b"content-length:")[2].split(b"\r\n")[0])
        await reader.readexactly(length)
        latencies.append((time.perf_counter() - began) * 1000)
    writer.close()
    await writer.wait_closed()


def _token(port: int) -> str:
    form = {"grant_type": "client_credentials", "scope": "api/write"}
    form |= {"client_id": SECRET["clientId"], "client_secret": SECRET["clientSecret"]}
    connection = http.client.HTTPConnection(LOOPBACK, port, timeout=10)
    headers = {"Content-Type": "application/x-www-form-urlencoded"}
    connection.request("POST", f"/oauth2/token/{SECRET['tenantId']}", urlencode(form), headers)
    token: str = json.loads(connection.getresponse().read())["access_token"]
    connection.close()
    return token
