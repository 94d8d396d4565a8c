"""The transport on real sockets: what goes wrong between a client and a server, and that each request is sent once."""

from __future__ import annotations

import base64
import contextlib
import gzip
import http.client
import inspect
import socket
import ssl
import threading
import time
from typing import TYPE_CHECKING, Self

import pytest
import trustme
import urllib3

from completion_sync import connections
from completion_sync.clock import Clock, SystemClock
from completion_sync.connections import MAX_IDLE_SECONDS, connection_pool
from completion_sync.errors import TemporaryError
from completion_sync.transport import (
    MAX_BODY_BYTES,
    Response,
    Transport,
)
from tests.support.fakes import CANARY, FakeClock, in_threads, texts_of
from tests.support.sockets import (
    STATEMENT,
    Behaviour,
    Peer,
    RawServer,
    answer,
    close,
    drip,
    endless,
    head,
    reset,
    response,
    say,
    server_context,
    silence,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from urllib3.connectionpool import HTTPConnectionPool

PATH = "/rest/v1/learning/completions"
HEADERS = {"Authorization": f"Bearer {CANARY}", "Content-Type": "application/json"}
BODY = b'{"userId":"u","contentId":"c","completedAt":"2021-01-01T09:00:00.000Z"}'

# Where the server is quick, the client never comes near it. Where a test waits for the timeout, it uses SHORT.
AMPLE = 10.0
SHORT = 0.4
# A timeout that is taken anew for each read would be over only after many times itself; one of an own deadline is over
# at once. The space between is wide, for slow machines.
GENEROUS = 4
# Reached only by a test that fails.
PATIENCE = 20.0


@contextlib.contextmanager
def client(
    url: str,
    *,
    clock: Clock | None = None,
    size: int = 2,
    ssl_context: Callable[[], ssl.SSLContext] = ssl.create_default_context,
) -> Iterator[Transport]:
    """Give a transport for ``url``, closed at the end."""
    transport = Transport(lambda: connection_pool(url, size, ssl_context, clock or SystemClock()))
    try:
        yield transport
    finally:
        transport.close()


def post(transport: Transport, timeout: float = AMPLE) -> Response:
    """Post a completion."""
    return transport.post(PATH, HEADERS, BODY, timeout)


def failure(transport: Transport, timeout: float = AMPLE) -> TemporaryError:
    """Post a completion, and give the error that comes of it."""
    with pytest.raises(TemporaryError) as caught:
        post(transport, timeout)
    return caught.value


# --- One attempt, one arrival -------------------------------------------------------------------------------------


def test_request_arrives_as_it_was_given() -> None:
    """A request arrives once, with its path, its headers, its body and no wish for compression."""
    # Given
    with RawServer(answer(201, Retry_After="7")) as server, client(server.url) as transport:
        # When
        got = post(transport)

        # Then
        assert got == Response(201, STATEMENT, "7")
        [request] = server.requests
        assert request.head.startswith(b"POST " + PATH.encode() + b" HTTP/1.1\r\n")
        assert request.body == BODY
        assert request.headers["authorization"] == HEADERS["Authorization"]
        assert request.headers["accept-encoding"] == "identity"
        assert request.headers["accept"] == "application/json"
        assert "transfer-encoding" not in request.headers


LOST = "the connection was lost, or the answer was not HTTP"
LATE = "no answer in time"


@pytest.mark.parametrize(
    ("behaviour", "text"),
    [
        pytest.param(reset, LOST, id="reset instead of an answer"),
        pytest.param(close, LOST, id="closed instead of an answer"),
        pytest.param(say(b"HTTP/1.1 201 Crea", then=reset), LOST, id="reset within the status line"),
        pytest.param(say(b"HTTP/1.1 201 Created\r\nContent-Le", then=reset), LOST, id="reset within the headers"),
        pytest.param(say(b"SSH-2.0-OpenSSH_9.6\r\n", then=close), LOST, id="another protocol"),
        pytest.param(say(b"\x16\x03\x01\x02\x00\r\n\r\n", then=close), LOST, id="bytes of TLS"),
        pytest.param(say(b"HTTP/1.1 2O1 Created\r\n\r\n", then=close), LOST, id="status with a letter"),
        pytest.param(say(b"HTTP/1.1 1x0 Hm\r\n\r\n", then=close), LOST, id="interim status with a letter"),
        pytest.param(say(b"HTTP/1.1 99 Hm\r\n\r\n", then=close), LOST, id="status of two digits"),
        pytest.param(say(b"HTTP/1.1 1000 Hm\r\n\r\n", then=close), LOST, id="status of four digits"),
        pytest.param(say(b"x" * 70_000 + b"\r\n\r\n", then=close), LOST, id="endless status line"),
        pytest.param(
            say(b"HTTP/1.1 201 Created\r\n" + b"A: b\r\n" * 200 + b"\r\n", then=close), LOST, id="too many headers"
        ),
        pytest.param(
            say(b"HTTP/1.1 201 Created\r\nA: " + b"b" * 70_000 + b"\r\n\r\n", then=close), LOST, id="huge header"
        ),
        pytest.param(silence, LATE, id="silence"),
    ],
)
def test_no_answer_is_one_arrival_and_a_temporary_error(behaviour: Behaviour, text: str) -> None:
    """Whatever comes in place of an answer, the request was sent exactly once and may be tried again later."""
    # Given
    with RawServer(behaviour) as server, client(server.url) as transport:
        # When
        error = failure(transport, SHORT if behaviour is silence else AMPLE)

        # Then
        assert (error.reason, error.detail, error.status, error.retry_after) == ("unavailable", text, None, None)
        assert len(server.requests) == 1
        assert server.accepts == 1


def test_reset_at_accept() -> None:
    """A connection that is reset as soon as it stands is one connection and one temporary error."""
    with RawServer(answer(201), at_accept=reset) as server, client(server.url) as transport:
        # When
        error = failure(transport)

        # Then: on loopback the reset may overtake the end of connecting
        assert error.detail in {LOST, "the connection could not be opened"}
        assert server.accepts == 1
        assert server.requests == []


def test_reset_after_the_headers() -> None:
    """A reset behind the headers of a 201 leaves a success whose body could not be read."""
    with (
        RawServer(say(head(201, Content_Length="29"), then=reset)) as server,
        client(server.url) as transport,
    ):
        # When
        got = post(transport)

        # Then: either the reset overtook the headers on the way or it did not; loopback keeps the order
        assert got == Response(201, None)
        assert len(server.requests) == 1


def test_reset_of_a_kept_connection_is_not_hidden() -> None:
    """A kept connection that is reset at its next use is one arrival and an error: trying again is the caller's."""
    with RawServer(answer(201), reset, answer(200)) as server, client(server.url) as transport:
        # Given
        assert post(transport).status == 201

        # When
        error = failure(transport)

        # Then
        assert error.detail == LOST
        assert len(server.requests) == 2

        # And then: the next one goes over a fresh connection
        assert post(transport).status == 200
        assert server.accepts == 2


def test_connection_closed_while_idle_is_replaced_unseen() -> None:
    """A kept connection that the server closed while it was idle is noticed before it is used."""
    with RawServer(say(response(201), then=close), answer(200)) as server, client(server.url) as transport:
        # Given: a server that hangs up behind its answer, without having said so
        assert post(transport).status == 201
        server.wait_for_requests(1)
        time.sleep(0.1)

        # When, then
        assert post(transport).status == 200
        assert server.accepts == 2


def test_connection_refused_and_unknown_host() -> None:
    """Where nobody listens, or the name does not resolve, the error says so and names no host."""
    # Given
    with RawServer(answer(201)) as server:
        url = server.url

    # When, then
    with client(url) as transport:
        assert failure(transport).detail == "the connection could not be opened"
    with client("http://thrive.invalid") as transport:
        assert failure(transport).detail == "the host name could not be resolved"


@pytest.mark.parametrize(
    "header", ["Bearer one\r\nX-Forged: two", "Bearer one\n"], ids=["a forged header", "a newline"]
)
def test_header_that_cannot_be_sent_is_not_quoted(header: str) -> None:
    """A header value with a line break sends nothing, and no text of the error quotes it."""
    with RawServer(answer(201)) as server, client(server.url) as transport:
        # When
        with pytest.raises(TemporaryError) as caught:
            transport.post(PATH, {"Authorization": header}, BODY, AMPLE)

        # Then
        assert CANARY not in texts_of(caught.value)
        assert server.requests == []


@pytest.mark.parametrize(
    "behaviour", [reset, silence, say(b"no HTTP\r\n\r\n", then=close)], ids=["reset", "silence", "junk"]
)
def test_error_has_nothing_of_the_request_in_its_chain(behaviour: Behaviour) -> None:
    """A transport error shows nothing of the request, and no library's error behind it."""
    with RawServer(behaviour) as server, client(server.url) as transport:
        # When
        error = failure(transport, SHORT)

        # Then
        assert CANARY not in texts_of(error)
        assert str(server.port) not in texts_of(error)
        assert error.__cause__ is None
        assert error.__suppress_context__


# --- Time ---------------------------------------------------------------------------------------------------------


def timed(transport: Transport, timeout: float) -> tuple[Response | TemporaryError, float]:
    """Post, and give what came of it with the time that it took, in multiples of ``timeout``."""
    began = time.monotonic()
    got: Response | TemporaryError
    try:
        got = post(transport, timeout)
    except TemporaryError as error:
        got = error
    return got, (time.monotonic() - began) / timeout


# At one byte in half the timeout, each single read is in time, and the whole would take ten times the timeout and more.
HALF = SHORT / 2


@pytest.mark.parametrize(
    "behaviour",
    [
        pytest.param(silence, id="black hole"),
        pytest.param(drip(response(201), HALF), id="drip from the first byte"),
        pytest.param(say(b"HTTP/1.1 201 Created\r\n", then=drip(b"A: b\r\n" * 50, HALF)), id="drip in the headers"),
        pytest.param(drip(b"HTTP/1.1 100 Continue\r\n\r\n"[:9] + b"\r\n" * 50, HALF), id="drip of junk"),
    ],
)
def test_slow_head_ends_at_the_deadline(behaviour: Behaviour) -> None:
    """A head that drips in, each byte in time, is given up when the time of the whole exchange is over."""
    with RawServer(behaviour) as server, client(server.url) as transport:
        # When
        got, ratio = timed(transport, SHORT)

        # Then
        assert isinstance(got, TemporaryError)
        assert (got.reason, got.detail) == ("unavailable", LATE)
        assert 0.9 < ratio < GENEROUS
        assert len(server.requests) == 1


@pytest.mark.parametrize(
    "behaviour",
    [
        pytest.param(say(head(201, Content_Length="29"), then=silence), id="black hole"),
        pytest.param(say(head(201, Content_Length="29"), then=drip(STATEMENT, HALF)), id="drip"),
        pytest.param(say(head(201), then=drip(STATEMENT, HALF)), id="drip until closed"),
        pytest.param(
            say(head(201, Transfer_Encoding="chunked"), then=drip(b"1\r\n{\r\n" * 20, HALF)), id="drip of chunks"
        ),
    ],
)
def test_slow_body_ends_at_the_deadline_and_the_status_counts(behaviour: Behaviour) -> None:
    """A body that drips in is given up at the deadline, and the 201 before it is still a success."""
    with RawServer(behaviour) as server, client(server.url) as transport:
        # When
        got, ratio = timed(transport, SHORT)

        # Then
        assert got == Response(201, None)
        assert 0.9 < ratio < GENEROUS


@pytest.mark.parametrize("beginning", [b"", head(201, Content_Length="29")], ids=["head", "body"])
def test_last_read_has_only_what_is_left(beginning: bytes) -> None:
    """A byte shortly before the deadline buys no further time."""
    timeout = SHORT * 2

    def one_more_byte(peer: Peer) -> None:
        peer.send(beginning)
        peer.pause(timeout * 0.9)
        peer.send(b"H")
        peer.silence()

    with RawServer(one_more_byte) as server, client(server.url) as transport:
        # When
        got, ratio = timed(transport, timeout)

        # Then: a whole timeout more would make it 1.9
        assert isinstance(got, TemporaryError) or got == Response(201, None)
        assert 0.9 < ratio < 1.7


def test_name_lookup_that_hangs_ends_at_the_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    """The time of an attempt includes looking the host up, which ``getaddrinfo`` itself does not bound."""
    released = threading.Event()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_args, **_options: [] if released.wait(PATIENCE) else None)
    with client("http://thrive.example") as transport:
        got, ratio = timed(transport, SHORT)
        released.set()
    assert isinstance(got, TemporaryError)
    assert got.detail == "the host name could not be resolved"
    assert 0.9 < ratio < GENEROUS


def test_deadline_starts_anew_with_each_request() -> None:
    """On a kept connection each exchange has the whole of its own time."""

    def slowly(peer: Peer) -> None:
        peer.pause(SHORT * 0.6)
        peer.send(response(201))

    with RawServer(slowly) as server, client(server.url) as transport:
        # When
        statuses = [post(transport, SHORT * 2).status for _ in range(5)]

        # Then
        assert statuses == [201] * 5
        assert server.accepts == 1


def test_late_answer_is_not_the_next_requests() -> None:
    """After a timeout the connection is gone, and with it the answer that comes too late."""

    def too_late(peer: Peer) -> None:
        peer.pause(SHORT * 1.5)
        peer.send(response(201))

    with RawServer(too_late, answer(422, b"{}")) as server, client(server.url) as transport:
        # Given
        assert failure(transport, SHORT).detail == LATE
        time.sleep(SHORT)

        # When, then
        assert post(transport).status == 422
        assert server.accepts == 2


def test_tls_handshake_that_never_comes_ends_in_time() -> None:
    """A server that accepts and then says nothing of TLS is given up in time."""
    with RawServer(answer(201), at_accept=silence) as server, client(f"https://127.0.0.1:{server.port}") as transport:
        # When
        got, ratio = timed(transport, SHORT)

        # Then
        assert isinstance(got, TemporaryError)
        assert got.detail in {LATE, "no connection in time"}
        assert 0.9 < ratio < GENEROUS


class BlackHoles:
    """Addresses on loopback where connecting takes for ever: their queues of connections to be accepted are full."""

    def __init__(self, count: int) -> None:
        self._sockets: list[socket.socket] = []
        self.addresses: list[tuple[str, int]] = []
        for _ in range(count):
            listener = socket.create_server(("127.0.0.1", 0), backlog=0)
            self._sockets.append(listener)
            self.addresses.append(listener.getsockname())
            for _ in range(4):
                filler = socket.socket()
                filler.setblocking(False)
                self._sockets.append(filler)
                with contextlib.suppress(BlockingIOError):
                    filler.connect(listener.getsockname())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for each in self._sockets:
            each.close()


def resolve(monkeypatch: pytest.MonkeyPatch, *addresses: tuple[str, int]) -> None:
    """Let every host have these addresses."""
    found = [(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", address) for address in addresses]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_arguments, **_options: found)


@pytest.mark.parametrize("count", [1, 8])
def test_addresses_that_do_not_answer_share_the_time(count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A host with many dead addresses takes no more time than one with a single one."""
    # Given
    with BlackHoles(count) as black_holes, client("http://thrive.example") as transport:
        resolve(monkeypatch, *black_holes.addresses)

        # When
        got, ratio = timed(transport, SHORT)

        # Then
        assert isinstance(got, TemporaryError)
        assert got.detail == "no connection in time"
        assert 0.9 < ratio < GENEROUS


def test_dead_addresses_leave_time_for_one_that_lives(monkeypatch: pytest.MonkeyPatch) -> None:
    """Behind addresses that do not answer, or refuse, one that does is found in time."""
    # Given: one that is silent, one where nobody listens, one that lives
    with socket.create_server(("127.0.0.1", 0)) as listener:
        nobody = listener.getsockname()
    with BlackHoles(1) as black_holes, RawServer(answer(201)) as server, client("http://thrive.example") as transport:
        resolve(monkeypatch, *black_holes.addresses, nobody, ("127.0.0.1", server.port))

        # When
        got = post(transport, SHORT * 3)

        # Then
        assert got.status == 201
        assert server.accepts == 1


def test_silence_is_told_though_another_address_refuses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where one address is silent and the last one refuses, the error tells of the silence: it is what took time."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        nobody = listener.getsockname()
    with BlackHoles(1) as black_holes, client("http://thrive.example") as transport:
        resolve(monkeypatch, *black_holes.addresses, nobody)
        assert failure(transport, SHORT).detail == "no connection in time"


def test_tls_shares_the_time_with_connecting(monkeypatch: pytest.MonkeyPatch) -> None:
    """What connecting took is not given to the TLS handshake once more."""
    # Given: an address that does not answer, which takes half the time, and then a server that says nothing of TLS
    with (
        BlackHoles(1) as black_holes,
        RawServer(answer(201), at_accept=silence) as server,
        client("https://thrive.example") as transport,
    ):
        resolve(monkeypatch, *black_holes.addresses, ("127.0.0.1", server.port))

        # When: with a long time, so that half of it more would show
        got, ratio = timed(transport, SHORT * 4)

        # Then
        assert isinstance(got, TemporaryError)
        assert 0.9 < ratio < 1.8


# --- One piece ----------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def deadline_socket(seconds: float) -> Iterator[tuple[socket.socket, socket.socket]]:
    """Yield one of the transport's sockets in an exchange of ``seconds``, and its peer."""
    with socket.create_server(("127.0.0.1", 0)) as listener, connections._DeadlineSocket() as ours:
        ours.connect(listener.getsockname())
        connections.exchange.end = time.monotonic() + seconds
        theirs, _ = listener.accept()
        with theirs:
            yield ours, theirs


def test_head_and_body_leave_in_one_piece() -> None:
    """What is written leaves with the first read: one system call and one TLS record, whatever urllib3 writes when."""
    with deadline_socket(AMPLE) as (ours, theirs):
        ours.sendall(b"head")
        ours.sendall(b"body")
        theirs.setblocking(False)
        with pytest.raises(BlockingIOError):
            theirs.recv(1)
        theirs.setblocking(True)
        theirs.sendall(b"answer")
        assert ours.recv_into(bytearray(6)) == 6
        assert theirs.recv(100) == b"headbody"


def test_no_read_begins_after_the_deadline() -> None:
    """Once the time is over between two reads, the second does not begin, although its bytes are there."""
    with deadline_socket(0.0) as (ours, theirs):
        theirs.sendall(b"x")
        with pytest.raises(TimeoutError):
            ours.recv_into(bytearray(1))


def test_urllib3_and_http_client_still_have_what_connections_override() -> None:
    """If this fails, read the docstring of connections.py: a library has changed below it."""
    assert urllib3.connectionpool.HTTPConnectionPool.ConnectionCls is urllib3.connection.HTTPConnection
    assert urllib3.connectionpool.HTTPSConnectionPool.ConnectionCls is urllib3.connection.HTTPSConnection
    assert isinstance(urllib3.connection.HTTPConnection.is_connected, property)
    assert "is_verified" in vars(urllib3.connection.HTTPConnection) | vars(urllib3.connection.HTTPConnection("h"))
    assert http.client.HTTPConnection.response_class is http.client.HTTPResponse
    assert list(inspect.signature(http.client.HTTPResponse._read_status).parameters) == ["self"]
    assert list(inspect.signature(urllib3.connection.HTTPConnection.connect).parameters) == ["self"]


# --- Interim answers ----------------------------------------------------------------------------------------------

CREATED = response(201)


INTERIM = [100, 102, 103, 199]


@pytest.mark.parametrize("status", INTERIM)
@pytest.mark.parametrize(("ending", "text"), [(close, LOST), (reset, LOST), (silence, LATE)])
def test_interim_response_followed_by_nothing_is_no_answer(status: int, ending: Behaviour, text: str) -> None:
    with RawServer(say(head(status), then=ending), answer(200)) as server, client(server.url) as transport:
        assert failure(transport, SHORT if ending is silence else AMPLE).detail == text
        assert len(server.requests) == 1
        assert post(transport).status == 200


@pytest.mark.parametrize("status", INTERIM)
def test_interim_response_with_a_body_is_no_answer(status: int) -> None:
    with RawServer(say(head(status), STATEMENT, then=close)) as server, client(server.url) as transport:
        assert failure(transport).detail == LOST


@pytest.mark.parametrize("line", [b"HTTP/1.0 100 Continue", b"HTTP/1.1 103"], ids=["HTTP 1.0", "no reason phrase"])
def test_interim_response_is_recognised_in_its_other_forms(line: bytes) -> None:
    with RawServer(say(line + b"\r\n\r\n", CREATED)) as server, client(server.url) as transport:
        assert post(transport) == Response(201, STATEMENT)


@pytest.mark.parametrize("status", INTERIM)
@pytest.mark.parametrize("pause", [0.0, 0.05], ids=["at once", "late"])
def test_interim_answers_before_the_answer_are_skipped(status: int, pause: float) -> None:
    """Behind interim answers, as often as they come, the final answer counts, and the connection is used again."""
    parts = (head(status), head(status, Link="</style.css>"), head(100), CREATED)
    with RawServer(say(*parts, pause=pause)) as server, client(server.url) as transport:
        assert [post(transport) for _ in range(2)] == [Response(201, STATEMENT)] * 2
        assert server.accepts == 1


def test_interim_answers_without_end_are_cut_off() -> None:
    """However many interim answers come, the whole exchange has its one deadline."""
    with RawServer(say(*[head(103)] * 1000, pause=0.02, then=silence)) as server, client(server.url) as transport:
        assert failure(transport, SHORT).detail == LATE


def test_switched_protocol_is_told_as_its_status() -> None:
    """101 is final: nobody asked for another protocol."""
    with RawServer(say(head(101))) as server, client(server.url) as transport:
        assert post(transport) == Response(101, b"")


@pytest.mark.parametrize(
    "first",
    [
        pytest.param(head(101, Connection="Upgrade", Upgrade="h2c"), id="101"),
        pytest.param(head(204), id="204"),
        pytest.param(head(304), id="304"),
    ],
)
@pytest.mark.parametrize("pause", [0.0, 0.05], ids=["at once", "late"])
def test_answer_behind_a_head_without_body_is_nobodys(first: bytes, pause: float) -> None:
    """What a server sends behind an answer that has no body is never taken for the answer to the next request."""
    # Given: a 201 that trails the answer; a stale one would count the second message as recorded, and lose it
    with (
        RawServer(say(first, CREATED, pause=pause), answer(422, b"{}")) as server,
        client(server.url) as transport,
    ):
        assert post(transport) == Response(int(first[9:12]), b"")

        # When
        second = post(transport)

        # Then
        assert second.status == 422
        assert server.accepts == 2


def test_stray_second_answer_is_nobodys() -> None:
    """A second answer to one request, already there when the next is sent, is thrown away."""
    with RawServer(say(CREATED + CREATED), answer(422, b"{}")) as server, client(server.url) as transport:
        # Given
        assert post(transport) == Response(201, STATEMENT)

        # When, then
        assert post(transport).status == 422


def test_stray_answer_behind_an_idle_connection_is_nobodys() -> None:
    """An answer that arrives while the connection is idle (a 408 before it is closed) makes it unusable."""
    with RawServer(say(CREATED, response(408), pause=0.02), answer(200)) as server, client(server.url) as transport:
        # Given
        assert post(transport).status == 201
        time.sleep(0.3)

        # When, then
        assert post(transport).status == 200
        assert server.accepts == 2


# --- Redirects ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", [PATH, "/oauth2/token/tenant"], ids=["completions", "token endpoint"])
@pytest.mark.parametrize("status", [300, 301, 302, 303, 307, 308])
def test_redirect_is_not_followed(status: int, path: str) -> None:
    """A redirect is an answer like any other: the host that it names receives nothing, not even a connection."""
    # Given
    with RawServer(answer(201)) as trap:
        location = f"http://localhost:{trap.port}{path}"
        with RawServer(answer(status, b"", Location=location)) as server, client(server.url) as transport:
            # When
            got = transport.post(path, HEADERS, BODY, AMPLE)

            # Then
            assert got == Response(status, b"")
            assert len(server.requests) == 1
        assert trap.accepts == 0


# --- Bodies -------------------------------------------------------------------------------------------------------


def chunked(body: bytes) -> bytes:
    """Give a body in one chunk, ended."""
    return b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body)


@pytest.mark.parametrize(
    ("behaviour", "body"),
    [
        pytest.param(answer(201, b""), b"", id="empty"),
        pytest.param(answer(201, b"x" * MAX_BODY_BYTES), b"x" * MAX_BODY_BYTES, id="as large as allowed"),
        pytest.param(answer(201, b"x" * (MAX_BODY_BYTES + 1)), None, id="one byte too large"),
        pytest.param(say(head(201, Transfer_Encoding="chunked") + chunked(STATEMENT)), STATEMENT, id="chunked"),
        pytest.param(
            say(head(201, Transfer_Encoding="chunked") + b"ffffffff\r\nabc", then=close), None, id="chunk cut off"
        ),
        pytest.param(say(head(201, Transfer_Encoding="chunked") + b"zz\r\nabc"), None, id="chunk size not a number"),
        pytest.param(say(head(201) + STATEMENT, then=close), STATEMENT, id="until closed"),
        pytest.param(say(b"HTTP/1.1 201 Created\r\nContent-Le", then=close), b"", id="head cut off behind the status"),
        pytest.param(say(head(201, Content_Length="5") + b"abc", then=close), None, id="shorter than its length"),
        pytest.param(say(head(201, Content_Length="2") + b"abcde"), b"ab", id="longer than its length"),
        pytest.param(say(head(201, Content_Length="many") + b"abc", then=close), b"abc", id="length not a number"),
        pytest.param(say(head(201, Content_Length="-1") + b"abc", then=close), b"abc", id="length below nought"),
        pytest.param(say(head(201, Content_Length="0") + b"abc"), b"", id="length nought and a body"),
        pytest.param(
            answer(201, gzip.compress(STATEMENT), Content_Encoding="gzip"), ..., id="gzip although not asked for"
        ),
    ],
)
def test_body_of_a_201(behaviour: Behaviour, body: object) -> None:
    """A 201 is a success whatever its body is like; a body that is not whole is told as None."""
    with RawServer(behaviour, answer(200)) as server, client(server.url) as transport:
        # When
        got = post(transport)

        # Then
        assert got.status == 201
        assert got.body == body if body is not ... else got.body is not None
        assert len(server.requests) == 1

        # And then: the next request meets its own answer
        assert post(transport) == Response(200, STATEMENT)


def test_gzip_bomb_does_not_inflate() -> None:
    """A small body that would inflate to many times the bound is handed on as it came."""
    bomb = gzip.compress(b"\0" * (MAX_BODY_BYTES * 50))
    assert len(bomb) < MAX_BODY_BYTES
    with RawServer(answer(201, bomb, Content_Encoding="gzip")) as server, client(server.url) as transport:
        assert post(transport) == Response(201, bomb)


@pytest.mark.parametrize(
    ("beginning", "chunk"),
    [
        pytest.param(head(201, Transfer_Encoding="chunked"), b"400\r\n" + b"x" * 1024 + b"\r\n", id="chunks"),
        pytest.param(head(201), b"x" * 1024, id="until closed"),
        pytest.param(head(201, Content_Length="99999999999"), b"x" * 1024, id="a length of 100 GB"),
        pytest.param(head(500, Transfer_Encoding="chunked"), b"400\r\n" + b"x" * 1024 + b"\r\n", id="of a 500"),
    ],
)
def test_body_that_never_ends(beginning: bytes, chunk: bytes) -> None:
    """A body that never ends is given up at the bound, long before the time is over, and its connection with it."""
    with RawServer(endless(beginning, chunk), answer(200)) as server, client(server.url) as transport:
        # When
        got, ratio = timed(transport, AMPLE)

        # Then
        assert got == Response(int(beginning[9:12]), None)
        assert ratio < 0.5
        assert post(transport).status == 200
        assert server.accepts == 2


# --- The environment ----------------------------------------------------------------------------------------------


def test_proxies_and_netrc_change_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Neither proxy variables nor a .netrc redirect a request or replace its Authorization header."""
    # Given
    with RawServer(answer(503)) as trap, RawServer(answer(201)) as server:
        for variable in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
            monkeypatch.setenv(variable, trap.url)
            monkeypatch.setenv(variable.lower(), trap.url)
        monkeypatch.delenv("NO_PROXY", raising=False)
        monkeypatch.delenv("no_proxy", raising=False)
        netrc = tmp_path / ".netrc"
        netrc.write_text("machine 127.0.0.1 login trap password trap\ndefault login trap password trap\n")
        netrc.chmod(0o600)
        monkeypatch.setenv("HOME", str(tmp_path))
        monkeypatch.setenv("NETRC", str(netrc))

        # When
        with client(server.url) as transport:
            got = post(transport)

        # Then
        assert got.status == 201
        assert trap.accepts == 0
        assert server.requests[0].headers["authorization"] == HEADERS["Authorization"]
        assert base64.b64encode(b"trap:trap") not in server.requests[0].head


# --- TLS ----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    """Return an authority that nothing trusts by itself."""
    return trustme.CA()


def trusting(authority: trustme.CA) -> Callable[[], ssl.SSLContext]:
    """Give what makes a context that trusts ``authority`` beside the usual ones."""

    def make() -> ssl.SSLContext:
        context = ssl.create_default_context()
        authority.configure_trust(context)
        return context

    return make


def test_good_certificate_in_an_injected_context(authority: trustme.CA) -> None:
    """A certificate of a trusted authority, for the right host and the present, is accepted."""
    with (
        RawServer(answer(201), tls=server_context(authority, "127.0.0.1")) as server,
        client(server.url, ssl_context=trusting(authority)) as transport,
    ):
        assert [post(transport).status for _ in range(3)] == [201] * 3
        assert server.accepts == 1


def test_authority_in_ssl_cert_file(authority: trustme.CA, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The default context trusts what SSL_CERT_FILE names, as everywhere else."""
    # Given
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))

    # When, then
    with (
        RawServer(answer(201), tls=server_context(authority, "127.0.0.1")) as server,
        client(server.url) as transport,
    ):
        assert post(transport).status == 201


REFUSED = "TLS failed: the server's certificate or protocol is not accepted"


@pytest.mark.parametrize("bad", ["wrong host", "expired", "unknown authority"])
def test_bad_certificate_is_refused(authority: trustme.CA, bad: str) -> None:
    """A certificate for another host, of the past, or of an unknown authority: nothing of the request arrives."""
    # Given
    names = ("thrive.example",) if bad == "wrong host" else ("127.0.0.1",)
    signer = trustme.CA() if bad == "unknown authority" else authority
    context = server_context(signer, *names, expired=bad == "expired")
    with (
        RawServer(answer(201), tls=context) as server,
        client(server.url, ssl_context=trusting(authority)) as transport,
    ):
        # When
        error = failure(transport)

        # Then
        assert (error.reason, error.detail) == ("unavailable", REFUSED)
        assert server.accepts == 1
    assert server.requests == []
    assert server.partial == []


def test_self_signed_certificate_is_refused() -> None:
    """The default context refuses what the usual authorities have not signed."""
    with (
        RawServer(answer(201), tls=server_context(trustme.CA(), "127.0.0.1")) as server,
        client(server.url) as transport,
    ):
        assert failure(transport).detail == REFUSED
    assert server.requests == server.partial == []


def test_plain_http_behind_https_is_refused() -> None:
    """A server that speaks plain HTTP where TLS is expected receives no request."""
    with RawServer(answer(201)) as server, client(f"https://127.0.0.1:{server.port}") as transport:
        # Given: a request line would make it answer; a TLS hello holds no end of a head
        server.partial.clear()

        # When
        error = failure(transport, SHORT)

        # Then
        assert error.reason == "unavailable"
    assert server.requests == []
    assert all(CANARY.encode() not in part for part in server.partial)


def test_drip_over_tls(authority: trustme.CA) -> None:
    """The deadline over the whole exchange holds over TLS as well."""
    with (
        RawServer(drip(response(201), HALF), tls=server_context(authority, "127.0.0.1")) as server,
        client(server.url, ssl_context=trusting(authority)) as transport,
    ):
        # When
        got, ratio = timed(transport, SHORT)

        # Then
        assert isinstance(got, TemporaryError)
        assert 0.9 < ratio < GENEROUS


# --- Connections --------------------------------------------------------------------------------------------------


def test_connection_is_kept_across_requests() -> None:
    """Requests one after the other share a connection, whatever the answers are."""
    statuses = [201, 200, 422, 500, 429, 401, 301, 201]
    with RawServer(*(answer(status) for status in statuses)) as server, client(server.url) as transport:
        assert [post(transport).status for _ in statuses] == statuses
        assert server.accepts == 1


def test_connection_is_not_kept_where_the_server_says_so() -> None:
    """Where the server says "Connection: close", it is not used again."""
    with RawServer(answer(201, Connection="close")) as server, client(server.url) as transport:
        assert [post(transport).status for _ in range(2)] == [201, 201]
        assert server.accepts == 2


@pytest.mark.parametrize("clock_that_runs", ["both", "wall", "monotonic"])
@pytest.mark.parametrize(("pause", "accepts"), [(MAX_IDLE_SECONDS, 1), (MAX_IDLE_SECONDS + 0.001, 2)])
def test_idle_connections_are_dropped_by_either_clock(clock_that_runs: str, pause: float, accepts: int) -> None:
    """After more than the idle time, by whichever clock says more, a request opens a new connection."""
    # Given
    clock = FakeClock(wall=0.0, monotonic=0.0)
    with RawServer(answer(201)) as server, client(server.url, clock=clock) as transport:
        post(transport)

        # When
        match clock_that_runs:
            case "both":
                clock.advance(pause)
            case "wall":
                clock.freeze(pause)
            case "monotonic":
                clock.advance(pause)
                clock.step_wall(-pause)
        post(transport)

        # Then
        assert server.accepts == accepts


def test_idle_time_counts_from_the_last_use() -> None:
    """Requests that follow one another closely keep the connection for any time in total."""
    clock = FakeClock()
    with RawServer(answer(201)) as server, client(server.url, clock=clock) as transport:
        for _ in range(4):
            post(transport)
            clock.advance(MAX_IDLE_SECONDS * 0.9)
        assert server.accepts == 1


def test_close_drops_idle_connections_and_the_transport_works_on() -> None:
    """After ``close`` nothing is open, and the next request opens a new connection."""
    with RawServer(answer(201)) as server, client(server.url) as transport:
        # Given
        transport.close()
        post(transport)

        # When
        transport.close()

        # Then
        post(transport)
        assert server.accepts == 2


def test_opens_nothing_before_the_first_request() -> None:
    """Making a transport makes no pool, and making a pool for http no TLS context."""

    def fail() -> ssl.SSLContext:
        raise AssertionError("a TLS context for plain HTTP")

    opened: list[str] = []
    with RawServer(answer(201)) as server:

        def open_pool() -> HTTPConnectionPool:
            opened.append(server.url)
            return connection_pool(server.url, 1, fail, SystemClock())

        # Given
        transport = Transport(open_pool)
        assert opened == []

        # When
        post(transport)
        post(transport)
        transport.close()

        # Then
        assert opened == [server.url]


@pytest.mark.parametrize(
    ("url", "host", "port"),
    [
        ("https://public.api.learn.link", "public.api.learn.link", 443),
        ("https://thrive.example:8443", "thrive.example", 8443),
        ("http://[::1]:8080", "::1", 8080),
        ("http://localhost", "localhost", 80),
    ],
)
def test_pool_is_for_the_host_of_the_url(url: str, host: str, port: int) -> None:
    """A pool takes scheme, host and port from the base URL, and keeps as many connections as it is told."""
    pool = connection_pool(url, 7, ssl.create_default_context, SystemClock())
    assert (pool.scheme, pool.host.strip("[]"), pool.port or {"https": 443, "http": 80}[pool.scheme]) == (
        url.partition(":")[0],
        host,
        port,
    )
    assert pool.pool is not None
    assert pool.pool.maxsize == 7
    pool.close()


def test_requests_beyond_the_kept_connections_do_not_wait() -> None:
    """A pool of one kept connection holds up no second request while the first is under way."""
    barrier = threading.Barrier(2)

    def together(peer: Peer) -> None:
        barrier.wait(10)
        peer.send(response(201))

    with RawServer(together) as server, client(server.url, size=1) as transport:
        assert in_threads(2, lambda _: post(transport).status) == [201, 201]


def test_tls_context_that_cannot_be_made_is_a_temporary_error() -> None:
    """Where the trusted roots cannot be read, that is no crash, and no path is told."""

    def fail() -> ssl.SSLContext:
        raise FileNotFoundError(CANARY)

    with client("https://127.0.0.1:9", ssl_context=fail) as transport:
        error = failure(transport)
    assert error.reason == "unavailable"
    assert CANARY not in texts_of(error)


def test_requests_side_by_side_have_connections_of_their_own_and_keep_them() -> None:
    """As many connections as the pool's size are kept; requests in flight never wait for one another."""
    barrier_size = 4
    barrier = threading.Barrier(barrier_size)

    def together(peer: Peer) -> None:
        barrier.wait(10)
        peer.send(response(201))

    with RawServer(together) as server, client(server.url, size=barrier_size) as transport:
        # When
        rounds = [in_threads(barrier_size, lambda _: post(transport).status) for _ in range(2)]

        # Then
        assert rounds == [[201] * barrier_size] * 2
        assert server.accepts == barrier_size
