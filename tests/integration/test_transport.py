"""The transport on real sockets: what goes wrong between client and server, and that each request is sent once."""

import base64
import contextlib
import gzip
import http.client
import inspect
import socket
import ssl
import threading
import time

import pytest
import trustme
import urllib3

from completion_sync import __version__, connections
from completion_sync.clock import SystemClock
from completion_sync.connections import connection_pool
from completion_sync.errors import TemporaryError
from completion_sync.transport import MAX_BODY_BYTES, Response, Transport
from tests.support.fakes import CANARY, FakeClock, in_threads, texts_of
from tests.support.sockets import (
    STATEMENT,
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

PATH = "/rest/v1/learning/completions"
HEADERS = {"Authorization": f"Bearer {CANARY}", "Content-Type": "application/json"}
BODY = b'{"userId":"u","contentId":"c","completedAt":"2021-01-01T09:00:00.000Z"}'

# A timeout that no test reaches, and one that tests wait for. At one byte in half of it, each read is in time, and the
# whole answer would take many times as long. "At the deadline" means before GENEROUS times that, for slow machines.
AMPLE = 10.0
SHORT = 0.4
HALF = SHORT / 2
GENEROUS = 4
# Reached only by a test that fails.
PATIENCE = 20.0

LOST = "the connection was lost, or the answer was not HTTP"
LATE = "no answer in time"
REFUSED = "TLS failed: the server's certificate or protocol is not accepted"


@contextlib.contextmanager
def client(url, *, clock=None, size=2, ssl_context=ssl.create_default_context):
    """Yield a transport for ``url``."""
    transport = Transport(lambda: connection_pool(url, size, ssl_context, clock or SystemClock()))
    try:
        yield transport
    finally:
        transport.close()


@contextlib.contextmanager
def connected(*script, clock=None, size=2):
    """Yield a server with a script, and a transport for it."""
    with RawServer(*script) as server, client(server.url, clock=clock, size=size) as transport:
        yield server, transport


def post(transport, timeout=AMPLE):
    return transport.post(PATH, HEADERS, BODY, timeout)


def failure(transport, timeout=AMPLE):
    """Post, and return the error."""
    with pytest.raises(TemporaryError) as caught:
        post(transport, timeout)
    assert (caught.value.reason, caught.value.status, caught.value.retry_after) == ("unavailable", None, None)
    return caught.value


def timed(transport, timeout=SHORT):
    """Post; return the answer or the error's text, with the time that it took in multiples of ``timeout``."""
    began = time.monotonic()
    try:
        result = post(transport, timeout)
    except TemporaryError as error:
        result = error.detail
    return result, (time.monotonic() - began) / timeout


# --- One attempt, one request -------------------------------------------------------------------------------------


def test_request_arrives_once_as_it_was_given():
    with connected(answer(201, Retry_After="7")) as (server, transport):
        assert post(transport) == Response(201, STATEMENT, "7")
        [request] = server.requests
    assert request.head.startswith(b"POST " + PATH.encode() + b" HTTP/1.1\r\n")
    assert request.body == BODY
    assert {name: value for name, value in request.headers.items() if name not in {"host", "content-length"}} == {
        "authorization": HEADERS["Authorization"],
        "content-type": "application/json",
        "accept": "application/json",
        "accept-encoding": "identity",
        "user-agent": f"thrive-completion-sync/{__version__}",
    }


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
        pytest.param(say(b"x" * 70_000 + b"\r\n\r\n", then=close), LOST, id="endless status line"),
        pytest.param(say(head(201)[:-2] + b"A: b\r\n" * 200 + b"\r\n", then=close), LOST, id="too many headers"),
        pytest.param(say(head(201)[:-2] + b"A: " + b"b" * 70_000 + b"\r\n\r\n", then=close), LOST, id="huge header"),
        pytest.param(silence, LATE, id="silence"),
    ],
)
def test_no_answer_is_one_request_and_a_temporary_error_that_shows_nothing_of_it(behaviour, text):
    with connected(behaviour) as (server, transport):
        error = failure(transport, SHORT if behaviour is silence else AMPLE)
        assert error.detail == text
        assert (len(server.requests), server.accepts) == (1, 1)
        assert holds_nothing(error, server)


def holds_nothing(error, server):
    """Return whether an error quotes nothing, and has no library's error behind it."""
    text = texts_of(error)
    return CANARY not in text and str(server.port) not in text and not error.__cause__ and not error.__context__


def test_reset_of_a_kept_connection_is_not_hidden_as_a_retry_is_up_to_the_caller():
    with connected(answer(201), reset, answer(200)) as (server, transport):
        assert post(transport).status == 201
        assert failure(transport).detail == LOST
        assert len(server.requests) == 2
        assert post(transport).status == 200
        assert server.accepts == 2


@pytest.mark.parametrize("trailing", [b"", response(408)], ids=["closed", "answered 408"])
def test_connection_that_the_server_ended_while_it_was_idle_is_replaced_before_it_is_used(trailing):
    with connected(say(response(201), trailing, pause=0.02, then=close), answer(200)) as (server, transport):
        assert post(transport).status == 201
        time.sleep(0.3)
        assert post(transport).status == 200
        assert server.accepts == 2


def test_connection_refused_and_unknown_host_are_told_apart_without_the_host():
    with RawServer(answer(201)) as server:
        url = server.url
    with client(url) as transport:
        assert failure(transport).detail == "the connection could not be opened"
    with client("http://thrive.invalid") as transport:
        assert failure(transport).detail == "the host name could not be resolved"


@pytest.mark.parametrize("header", [f"Bearer {CANARY}\r\nX-Forged: two", f"Bearer {CANARY}\n"])
def test_header_with_a_line_break_is_neither_sent_nor_quoted(header):
    with connected(answer(201)) as (server, transport):
        with pytest.raises(TemporaryError) as caught:
            transport.post(PATH, {"Authorization": header}, BODY, AMPLE)
        assert holds_nothing(caught.value, server)
        assert server.requests == []


# --- Time ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "behaviour",
    [
        pytest.param(silence, id="black hole"),
        pytest.param(drip(response(201), HALF), id="from the first byte"),
        pytest.param(say(head(201)[:-2], then=drip(b"A: b\r\n" * 50, HALF)), id="in the headers"),
        pytest.param(drip(b"HTTP/1.1 100 Continue\r\n\r\n"[:9] + b"\r\n" * 50, HALF), id="junk"),
        pytest.param(say(*[head(103)] * 1000, pause=0.02, then=silence), id="interim answers without end"),
    ],
)
def test_slow_head_ends_at_the_deadline(behaviour):
    with connected(behaviour) as (server, transport):
        result, ratio = timed(transport)
        assert result == LATE
        assert 0.9 < ratio < GENEROUS
        assert len(server.requests) == 1


@pytest.mark.parametrize(
    "behaviour",
    [
        pytest.param(say(head(201, Content_Length="29"), then=silence), id="black hole"),
        pytest.param(say(head(201, Content_Length="29"), then=drip(STATEMENT, HALF)), id="drip"),
        pytest.param(say(head(201), then=drip(STATEMENT, HALF)), id="drip until closed"),
        pytest.param(say(head(201, Transfer_Encoding="chunked"), then=drip(b"1\r\n{\r\n" * 20, HALF)), id="chunks"),
    ],
)
def test_slow_body_ends_at_the_deadline_and_the_status_counts(behaviour):
    with connected(behaviour) as (_, transport):
        result, ratio = timed(transport)
    assert result == Response(201, None)
    assert 0.9 < ratio < GENEROUS


@pytest.mark.parametrize("beginning", [b"", head(201, Content_Length="29")], ids=["head", "body"])
def test_byte_shortly_before_the_deadline_buys_no_further_time(beginning):
    with connected(say(beginning, b"H", pause=SHORT * 1.8, then=silence)) as (_, transport):
        result, ratio = timed(transport, SHORT * 2)
    assert result in (LATE, Response(201, None))
    assert 0.9 < ratio < 1.7  # another whole timeout would make it 1.9


def test_each_request_has_the_whole_of_its_own_time_on_a_kept_connection():
    with connected(say(b"", response(201), pause=SHORT * 0.6)) as (server, transport):
        assert [post(transport, SHORT * 2).status for _ in range(5)] == [201] * 5
        assert server.accepts == 1


def test_late_answer_is_not_the_next_requests():
    with connected(say(b"", response(201), pause=SHORT * 1.5), answer(422, b"{}")) as (server, transport):
        assert failure(transport, SHORT).detail == LATE
        time.sleep(SHORT)
        assert post(transport).status == 422
        assert server.accepts == 2


def test_name_lookup_that_hangs_ends_at_the_deadline(monkeypatch):
    """``getaddrinfo`` itself takes no timeout."""
    released = threading.Event()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_args, **_options: [] if released.wait(PATIENCE) else None)
    with client("http://thrive.example") as transport:
        result, ratio = timed(transport)
        [lookup] = [thread for thread in threading.enumerate() if thread.name == "resolve"]
        released.set()
    assert result == "the host name could not be resolved"
    # It does not keep the process alive.
    assert lookup.daemon
    assert 0.9 < ratio < GENEROUS


class BlackHoles:
    """Addresses on loopback where connecting takes forever: their queues of connections to be accepted are full."""

    def __init__(self, count):
        self._sockets = []
        self.addresses = []
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

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for each in self._sockets:
            each.close()


def resolve(monkeypatch, *addresses, family=socket.AF_INET):
    """Let every host have these addresses, the first one of ``family``."""
    families = [family, *[socket.AF_INET] * len(addresses)]
    found = [
        (each, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", address)
        for each, address in zip(families, addresses, strict=False)
    ]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_arguments, **_options: found)


def nobody():
    """Return an address where nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()


@pytest.mark.parametrize("count", [1, 8])
@pytest.mark.parametrize("refusing", [0, 1])
def test_dead_addresses_share_the_time_of_one(count, refusing, monkeypatch):
    """Where another address refuses, the error is still about those that did not answer: they took the time."""
    with BlackHoles(count) as black_holes, client("http://thrive.example") as transport:
        resolve(monkeypatch, *black_holes.addresses, *[nobody()] * refusing)
        result, ratio = timed(transport)
    assert result == "no connection in time"
    assert ratio < GENEROUS
    assert ratio > 0.9 or refusing


@pytest.mark.parametrize("family", [socket.AF_INET, 9999], ids=["silent", "of a family that this machine lacks"])
def test_dead_addresses_leave_time_for_one_that_lives(family, monkeypatch):
    with BlackHoles(1) as black_holes, RawServer(answer(201)) as server, client("http://thrive.example") as transport:
        resolve(monkeypatch, *black_holes.addresses, nobody(), ("127.0.0.1", server.port), family=family)
        assert post(transport, SHORT * 3).status == 201
        assert server.accepts == 1


def test_tls_handshake_that_never_comes_ends_at_the_deadline_connecting_included(monkeypatch):
    class SlowToConnect(connections._DeadlineSocket):
        def connect(self, address):
            time.sleep(SHORT * 1.8)
            super().connect(address)

    monkeypatch.setattr(connections, "_DeadlineSocket", SlowToConnect)
    with RawServer(answer(201), at_accept=silence) as server, client(f"https://127.0.0.1:{server.port}") as transport:
        result, ratio = timed(transport, SHORT * 2)
    assert result in {LATE, "no connection in time"}
    assert 0.9 < ratio < 1.8  # 1.9 if connecting did not count


# --- Sockets ------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def deadline_socket(seconds):
    """Yield one of the transport's sockets in an exchange of ``seconds``, and its peer."""
    with socket.create_server(("127.0.0.1", 0)) as listener, connections._DeadlineSocket() as ours:
        ours.connect(listener.getsockname())
        connections.exchange.end = time.monotonic() + seconds
        theirs, _ = listener.accept()
        with theirs:
            yield ours, theirs


def test_head_and_body_leave_in_one_piece_with_the_first_read():
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


def test_no_read_begins_after_the_deadline_although_its_bytes_are_there():
    with deadline_socket(0.0) as (ours, theirs):
        theirs.sendall(b"x")
        with pytest.raises(TimeoutError):
            ours.recv_into(bytearray(1))


def test_urllib3_and_http_client_still_have_what_connections_override():
    """If this fails, read the docstring of connections.py: a library has changed below it."""
    assert urllib3.connectionpool.HTTPConnectionPool.ConnectionCls is urllib3.connection.HTTPConnection
    assert urllib3.connectionpool.HTTPSConnectionPool.ConnectionCls is urllib3.connection.HTTPSConnection
    assert isinstance(urllib3.connection.HTTPConnection.is_connected, property)
    assert "is_verified" in vars(urllib3.connection.HTTPConnection) | vars(urllib3.connection.HTTPConnection("h"))
    assert http.client.HTTPConnection.response_class is http.client.HTTPResponse
    assert list(inspect.signature(http.client.HTTPResponse._read_status).parameters) == ["self"]
    assert list(inspect.signature(urllib3.connection.HTTPConnection.connect).parameters) == ["self"]


# --- Interim, bodiless and stray answers --------------------------------------------------------------------------

INTERIM = pytest.mark.parametrize("status", [100, 102, 103, 199])
AT_ONCE_AND_LATE = pytest.mark.parametrize("pause", [0.0, 0.05], ids=["at once", "late"])


@INTERIM
@pytest.mark.parametrize(
    "ending", [close, reset, silence, say(STATEMENT, then=close)], ids=["closed", "reset", "silence", "a body"]
)
def test_interim_response_followed_by_nothing_is_no_answer(status, ending):
    with connected(say(head(status), then=ending), answer(200)) as (server, transport):
        text = LATE if ending is silence else LOST
        assert failure(transport, SHORT if ending is silence else AMPLE).detail == text
        assert len(server.requests) == 1
        assert post(transport).status == 200


@pytest.mark.parametrize("line", [b"HTTP/1.0 100 Continue", b"HTTP/1.1 103"], ids=["HTTP 1.0", "no reason phrase"])
def test_interim_response_is_recognised_in_its_other_forms(line):
    with connected(say(line + b"\r\n\r\n", response(201))) as (_, transport):
        assert post(transport) == Response(201, STATEMENT)


@INTERIM
@AT_ONCE_AND_LATE
def test_interim_responses_before_the_answer_are_skipped(status, pause):
    parts = (head(status), head(status, Link="</style.css>"), head(100), response(201))
    with connected(say(*parts, pause=pause)) as (server, transport):
        assert [post(transport) for _ in range(2)] == [Response(201, STATEMENT)] * 2
        assert server.accepts == 1


@pytest.mark.parametrize("status", [101, 204, 304])
@AT_ONCE_AND_LATE
def test_what_follows_an_answer_without_a_body_is_nobodys(status, pause):
    """Taken for the answer to the next request, the trailing 201 would lose that message."""
    with connected(say(head(status), response(201), pause=pause), answer(422, b"{}")) as (server, transport):
        assert post(transport) == Response(status, b"")
        assert post(transport).status == 422
        assert server.accepts == 2


def test_second_answer_to_one_request_is_nobodys():
    with connected(say(response(201) + response(201)), answer(422, b"{}")) as (_, transport):
        assert post(transport) == Response(201, STATEMENT)
        assert post(transport).status == 422


@pytest.mark.parametrize("path", [PATH, "/oauth2/token/tenant"], ids=["completions", "token endpoint"])
@pytest.mark.parametrize("status", [300, 301, 302, 303, 307, 308])
def test_redirect_is_not_followed(status, path):
    with RawServer(answer(201)) as trap:
        location = f"http://localhost:{trap.port}{path}"
        with connected(answer(status, b"", Location=location)) as (server, transport):
            assert transport.post(path, HEADERS, BODY, AMPLE) == Response(status, b"")
            assert len(server.requests) == 1
        assert trap.accepts == 0


# --- Bodies -------------------------------------------------------------------------------------------------------

CHUNKED = head(201, Transfer_Encoding="chunked")
BOMB = gzip.compress(b"\0" * (MAX_BODY_BYTES * 50))


@pytest.mark.parametrize(
    ("behaviour", "body"),
    [
        pytest.param(answer(201, b""), b"", id="empty"),
        pytest.param(answer(201, b"x" * MAX_BODY_BYTES), b"x" * MAX_BODY_BYTES, id="as large as allowed"),
        pytest.param(answer(201, b"x" * (MAX_BODY_BYTES + 1)), None, id="one byte too large"),
        pytest.param(say(CHUNKED + b"1d\r\n" + STATEMENT + b"\r\n0\r\n\r\n"), STATEMENT, id="chunked"),
        pytest.param(say(CHUNKED + b"ffffffff\r\nabc", then=close), None, id="chunk cut off"),
        pytest.param(say(CHUNKED + b"zz\r\nabc"), None, id="chunk size not a number"),
        pytest.param(say(head(201) + STATEMENT, then=close), STATEMENT, id="until closed"),
        pytest.param(say(head(201, Content_Length="29"), then=reset), None, id="reset after the headers"),
        pytest.param(say(head(201)[:-2] + b"Content-Le", then=close), b"", id="head cut off after the status"),
        pytest.param(say(head(201, Content_Length="5") + b"abc", then=close), None, id="shorter than its length"),
        pytest.param(say(head(201, Content_Length="2") + b"abcde"), b"ab", id="longer than its length"),
        pytest.param(say(head(201, Content_Length="many") + b"abc", then=close), b"abc", id="length not a number"),
        pytest.param(say(head(201, Content_Length="-1") + b"abc", then=close), b"abc", id="negative length"),
        pytest.param(say(head(201, Content_Length="0") + b"abc"), b"", id="length 0 and a body"),
    ],
)
def test_body_that_is_not_whole_is_none_and_the_next_request_meets_its_own_answer(behaviour, body):
    with connected(behaviour, answer(200)) as (server, transport):
        assert post(transport) == Response(201, body)
        assert len(server.requests) == 1
        assert post(transport) == Response(200, STATEMENT)


def test_gzip_bomb_does_not_inflate():
    with connected(answer(201, BOMB, Content_Encoding="gzip")) as (_, transport):
        assert len(BOMB) < MAX_BODY_BYTES
        assert post(transport) == Response(201, BOMB)


@pytest.mark.parametrize(
    ("beginning", "chunk"),
    [
        pytest.param(CHUNKED, b"400\r\n" + b"x" * 1024 + b"\r\n", id="chunks"),
        pytest.param(head(201), b"x" * 1024, id="until closed"),
        pytest.param(head(201, Content_Length="99999999999"), b"x" * 1024, id="a length of 100 GB"),
    ],
)
def test_body_that_never_ends(beginning, chunk):
    with connected(endless(beginning, chunk), answer(200)) as (server, transport):
        result, ratio = timed(transport, AMPLE)
        assert result == Response(201, None)
        assert ratio < 0.5
        assert post(transport).status == 200
        assert server.accepts == 2


@pytest.mark.parametrize(
    ("body", "fields"),
    [
        (b'{"a": 1}', {"a": 1}),
        *((body, None) for body in (None, b"", b"[]", b"1", b"null", b"<html>", b"{", b"\xff\xfe", b"[" * 100_000)),
    ],
    ids=lambda value: str(value)[:20],
)
def test_only_a_json_object_is_one(body, fields):
    assert Response(200, body).json_object() == fields


@pytest.mark.parametrize(("body", "items"), [(b'[{"a": 1}]', [{"a": 1}]), (b"{}", None), (b"[", None), (None, None)])
def test_only_a_json_array_is_one(body, items):
    assert Response(200, body).json_array() == items


def test_an_answer_may_have_64_kib():
    assert MAX_BODY_BYTES == 65_536


# --- The environment, and TLS -------------------------------------------------------------------------------------


def test_proxies_and_netrc_change_nothing(monkeypatch, tmp_path):
    with RawServer(answer(503)) as trap, connected(answer(201)) as (server, transport):
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
        assert post(transport).status == 201
        assert trap.accepts == 0
        assert server.requests[0].headers["authorization"] == HEADERS["Authorization"]
        assert base64.b64encode(b"trap:trap") not in server.requests[0].head


@pytest.fixture(scope="module")
def authority():
    """Return an authority that nothing trusts by itself."""
    return trustme.CA()


def trusting(authority):
    """Return a maker of contexts that trust ``authority`` too."""

    def make():
        context = ssl.create_default_context()
        authority.configure_trust(context)
        return context

    return make


def test_certificate_of_an_authority_in_ssl_cert_file_is_accepted(authority, monkeypatch, tmp_path):
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
    with (
        RawServer(answer(201), tls=server_context(authority, "127.0.0.1")) as server,
        client(server.url) as transport,
    ):
        assert [post(transport).status for _ in range(3)] == [201] * 3
        assert server.accepts == 1


@pytest.mark.parametrize("bad", ["wrong host", "expired", "unknown authority"])
def test_bad_certificate_is_refused(authority, bad):
    names = ("thrive.example",) if bad == "wrong host" else ("127.0.0.1",)
    signer = trustme.CA() if bad == "unknown authority" else authority
    with (
        RawServer(answer(201), tls=server_context(signer, *names, expired=bad == "expired")) as server,
        client(server.url, ssl_context=trusting(authority)) as transport,
    ):
        assert failure(transport).detail == REFUSED
        assert server.accepts == 1
    assert server.requests == server.partial == []


def test_server_of_plain_http_receives_nothing_where_tls_is_expected():
    with RawServer(answer(201)) as server, client(f"https://127.0.0.1:{server.port}") as transport:
        failure(transport, SHORT)
    assert server.requests == []
    assert all(CANARY.encode() not in part for part in server.partial)


def test_deadline_holds_over_tls_too(authority):
    with (
        RawServer(drip(response(201), HALF), tls=server_context(authority, "127.0.0.1")) as server,
        client(server.url, ssl_context=trusting(authority)) as transport,
    ):
        result, ratio = timed(transport)
    assert result == LATE
    assert 0.9 < ratio < GENEROUS


def test_interim_responses_are_skipped_over_tls_too(authority):
    with (
        RawServer(say(head(103), response(201)), tls=server_context(authority, "127.0.0.1")) as server,
        client(server.url, ssl_context=trusting(authority)) as transport,
    ):
        assert post(transport) == Response(201, STATEMENT)


def test_tls_context_that_cannot_be_made_is_a_temporary_error_without_its_path():
    def fail():
        raise FileNotFoundError(CANARY)

    with client("https://127.0.0.1:9", ssl_context=fail) as transport:
        assert CANARY not in texts_of(failure(transport))


# --- Connections --------------------------------------------------------------------------------------------------


def test_connection_is_kept_across_requests_whatever_the_answers_are():
    statuses = [201, 200, 422, 500, 429, 401, 301, 201]
    with connected(*(answer(status) for status in statuses)) as (server, transport):
        assert [post(transport).status for _ in statuses] == statuses
        assert server.accepts == 1


def test_connection_is_not_kept_where_the_server_says_so():
    with connected(answer(201, Connection="close")) as (server, transport):
        assert [post(transport).status for _ in range(2)] == [201, 201]
        assert server.accepts == 2


@pytest.mark.parametrize("clocks", ["both", "wall", "monotonic"])
@pytest.mark.parametrize(("pause", "accepts"), [(30.0, 1), (30.001, 2)])
def test_idle_connection_is_replaced_by_whichever_clock_shows_more(clocks, pause, accepts):
    clock = FakeClock(wall=0.0, monotonic=0.0)
    with connected(answer(201), clock=clock) as (server, transport):
        post(transport)
        if clocks == "wall":
            clock.freeze(pause)
        else:
            clock.advance(pause)
            clock.step_wall(-pause if clocks == "monotonic" else 0)
        post(transport)
        assert server.accepts == accepts


def test_idle_time_is_judged_for_each_connection():
    """After a burst and then a request every 20 s for ten minutes, the next burst meets no dead connection.

    The server drops connections that were silent for a minute, as load balancers do, without a word: what is sent over
    one of them afterwards is reset.
    """
    burst, clock = 6, FakeClock()
    barrier = threading.Barrier(burst)
    last_used = {}
    in_burst = threading.Event()

    def load_balancer(peer):
        now = clock.now().monotonic
        if now - last_used.setdefault(peer, now) > 60:
            peer.reset()
            return
        last_used[peer] = now
        if in_burst.is_set():
            barrier.wait(PATIENCE)
        peer.send(response(201))

    with connected(load_balancer, clock=clock, size=burst) as (server, transport):
        in_burst.set()
        assert in_threads(burst, lambda _: post(transport).status) == [201] * burst
        in_burst.clear()
        for _ in range(30):
            clock.advance(20)
            assert post(transport).status == 201
        assert server.accepts == burst  # one of them was used all the time
        in_burst.set()
        assert in_threads(burst, lambda _: post(transport).status) == [201] * burst
        assert server.accepts == burst + burst - 1


def test_close_drops_idle_connections_and_the_transport_works_on():
    with connected(answer(201)) as (server, transport):
        transport.close()
        post(transport)
        transport.close()
        post(transport)
        assert server.accepts == 2


@pytest.mark.parametrize(
    ("url", "host", "port"),
    [
        ("https://public.api.learn.link", "public.api.learn.link", None),
        ("https://thrive.example:8443", "thrive.example", 8443),
        ("http://[::1]:8080", "::1", 8080),
    ],
)
def test_pool_is_for_scheme_host_and_port_of_the_url(url, host, port):
    pool = connection_pool(url, 7, ssl.create_default_context, SystemClock())
    assert (pool.scheme, pool.host, pool.port) == (url.partition(":")[0], host, port)
    pool.close()


@pytest.mark.parametrize(("size", "accepts"), [(4, 4), (1, 7)])
def test_requests_in_flight_never_wait_for_one_another_and_as_many_connections_as_the_size_are_kept(size, accepts):
    barrier = threading.Barrier(4)

    def together(peer):
        barrier.wait(PATIENCE)
        peer.send(response(201))

    with connected(together, size=size) as (server, transport):
        assert [in_threads(4, lambda _: post(transport).status) for _ in range(2)] == [[201] * 4] * 2
        assert server.accepts == accepts
