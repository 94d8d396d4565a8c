"""Answers that are none, over real sockets: a message ends by the table, and its neighbour is well."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from completion_sync import bootstrap
from completion_sync.settings import Settings
from tests.hostile.oracles import UNAVAILABLE, assert_answer, meaning, neighbour
from tests.hostile.worlds import World
from tests.support.fakes import sqs_event, token_response
from tests.support.sockets import Behaviour, Peer, RawServer, reset, response, say

if TYPE_CHECKING:
    from tests.support.sockets import Received

_OK = b"HTTP/1.1 201 Created\r\n"
_STATEMENT = b'{"statementId":"statement-1"}'
_WHOLE = b"Content-Length: %d\r\n\r\n%b" % (len(_STATEMENT), _STATEMENT)

# What the wire carries, before the connection is closed, and what becomes of the message.
ANSWERS: dict[str, tuple[bytes, tuple[str, str | None]]] = {
    "nothing": (b"", UNAVAILABLE),
    "garbage": (bytes(range(256)) * 20, UNAVAILABLE),
    "NULs": (b"\0" * 5000, UNAVAILABLE),
    "SSH": (b"SSH-2.0-OpenSSH_9.9\r\n", UNAVAILABLE),
    "SMTP": (b"220 mail.example ESMTP\r\n", UNAVAILABLE),
    "TLS": (b"\x15\x03\x01\x00\x02\x02\x46", UNAVAILABLE),
    "HTTP/0.9": (b"<html>hello</html>", UNAVAILABLE),
    "a request": (b"POST / HTTP/1.1\r\n\r\n", UNAVAILABLE),
    "half a status line": (b"HTTP/1.1 2", UNAVAILABLE),
    "no status": (b"HTTP/1.1 \r\n\r\n", UNAVAILABLE),
    "a status of four digits": (b"HTTP/1.1 2010 Created\r\n\r\n", UNAVAILABLE),
    "a status of two digits": (b"HTTP/1.1 20 Created\r\n\r\n", UNAVAILABLE),
    "a negative status": (b"HTTP/1.1 -201 Created\r\n\r\n", UNAVAILABLE),
    "an endless status line": (b"HTTP/1.1 201 " + b"x" * 70_000 + b"\r\n\r\n", UNAVAILABLE),
    "a header line of 64 KB": (_OK + b"X: " + b"y" * 65_536 + b"\r\n" + _WHOLE, UNAVAILABLE),
    "a header line just below": (_OK + b"X: " + b"y" * 65_000 + b"\r\n" + _WHOLE, ("created", None)),
    "ninety-nine headers": (_OK + b"X: y\r\n" * 98 + _WHOLE, ("created", None)),
    "a hundred headers": (_OK + b"X: y\r\n" * 99 + _WHOLE, UNAVAILABLE),
    "headers without an end": (_OK + b"X: y\r\n", ("created", None)),
    "a folded header": (_OK + b"X: y\r\n\tfolded: z\r\n" + _WHOLE, ("created", None)),
    "a folded Retry-After": (b"HTTP/1.1 429 x\r\nRetry-After: 5\r\n 000\r\n\r\n", ("deferred", "rate_limited")),
    "a line without a colon": (_OK + b"no colon\r\n" + _WHOLE, ("created", None)),
    "a header without a name": (_OK + b": nameless\r\n" + _WHOLE, ("created", None)),
    "a NUL in a header": (_OK + b"X: a\0b\r\n" + _WHOLE, ("created", None)),
    "a bare CR in a header": (_OK + b"X: a\rb\r\n" + _WHOLE, ("created", None)),
    "bare LF everywhere": (_OK.replace(b"\r", b"") + _WHOLE.replace(b"\r", b""), ("created", None)),
    "no UTF-8 in a header": (_OK + b"X: \xff\xfe\r\n" + _WHOLE, ("created", None)),
    "a negative length": (_OK + b"Content-Length: -1\r\n\r\n{}", ("created", None)),
    "a length that is none": (_OK + b"Content-Length: many\r\n\r\n{}", ("created", None)),
    "two lengths": (_OK + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\n{}", UNAVAILABLE),
    "a huge length": (_OK + b"Content-Length: 99999999999999999999\r\n\r\n{}", ("created", None)),
    "a length and chunks": (
        _OK + b"Transfer-Encoding: chunked\r\nContent-Length: 1\r\n\r\n1\r\n{\r\n",
        ("created", None),
    ),
    "an unknown coding": (_OK + b"Transfer-Encoding: rot13\r\n\r\n{}", ("created", None)),
    "a bad chunk size": (_OK + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n{}\r\n", ("created", None)),
    "a negative chunk size": (_OK + b"Transfer-Encoding: chunked\r\n\r\n-2\r\n{}\r\n", ("created", None)),
    "a huge chunk size": (_OK + b"Transfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\n{}\r\n", ("created", None)),
    "a chunk without an end": (_OK + b"Transfer-Encoding: chunked\r\n\r\n5\r\n{", ("created", None)),
    "a long chunk extension": (_OK + b"Transfer-Encoding: chunked\r\n\r\n2;" + b"x" * 70_000, ("created", None)),
    "false gzip": (_OK + b"Content-Encoding: gzip\r\n" + _WHOLE, ("created", None)),
    "interim answers first": (b"HTTP/1.1 100 Continue\r\n\r\n" * 3 + _OK + _WHOLE, ("created", None)),
    "early hints first": (b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" * 3 + _OK + _WHOLE, ("created", None)),
    "interim answers alone": (b"HTTP/1.1 100 Continue\r\n\r\n" * 3, meaning(100)),
}


class Raw(World):
    """The function with its real transport, clock apart, to a server at ``url``."""

    def _build(self) -> Any:
        return bootstrap.build(Settings.from_env(self.variables), clock=self.clock, **self._clients())


def completion_server(data: bytes) -> RawServer:
    """Give a server that answers the completion of ``hostile`` with these bytes, and everything else as it should."""
    server: RawServer

    def behave(peer: Peer) -> None:
        received: Received = server.requests[-1]
        if received.target.startswith("/oauth2/token/"):
            peer.send(response(200, token_response().body or b""))
        elif json.loads(received.body)["userId"] == "hostile":
            say(data, then=Peer.close)(peer)
        else:
            peer.send(response(201))

    server = RawServer(behave)
    return server


@pytest.mark.parametrize("answer", ANSWERS)
def test_every_broken_answer_over_real_sockets(answer: str) -> None:
    """An answer that cannot be read defers its message alone; one that says 201 counts, whatever else is wrong."""
    data, expected = ANSWERS[answer]
    with completion_server(data) as server, Raw(THRIVE_BASE_URL=server.url, MAX_CONCURRENCY="1") as world:
        seen = world.invoke(sqs_event(neighbour("hostile"), neighbour("good")))
        assert seen.error is None
        reported = {item["itemIdentifier"] for item in seen.answer["batchItemFailures"]}
        held = expected[1] == "misconfigured"
        expected_reported = {"hostile"} if expected[0] == "deferred" else set()
        assert_answer(seen.answer, {"hostile", "good"}, expected_reported | ({"good"} if held else set()))
        assert ("hostile" in reported) == (expected[0] == "deferred")
        sent = [json.loads(one.body)["userId"] for one in server.requests if one.target.startswith("/rest/")]
        assert sent.count("hostile") == (3 if expected[1] in ("unavailable", "rate_limited") else 1)
        assert sent.count("good") == (0 if held else 1)


@pytest.mark.parametrize("behaviour", [reset, say(b"garbage", then=Peer.close), say(b"", then=Peer.close)])
def test_a_broken_token_endpoint_over_real_sockets(behaviour: Behaviour) -> None:
    """A token endpoint that does not speak HTTP defers the batch after three attempts; no completion is sent."""
    with RawServer(behaviour) as server, Raw(THRIVE_BASE_URL=server.url) as world:
        seen = world.invoke(sqs_event(neighbour("a"), neighbour("b")))
        assert_answer(seen.answer, {"a", "b"}, {"a", "b"})
        assert {one.target.split("/")[1] for one in server.requests} == {"oauth2"}
        assert len(server.requests) == 3
