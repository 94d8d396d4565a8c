"""Every fault as a client sees it, on real sockets."""

from __future__ import annotations

import gzip
import json
import re
import socket
import time
from typing import TYPE_CHECKING, Any

import pytest
from urllib3.exceptions import NewConnectionError, ProtocolError, ReadTimeoutError, SSLError

from sandbox.thrive_api import Drip, Fault, StandIn
from sandbox.thrive_api.faults import FaultBook
from tests.support.plain_client import COMPLETION, PlainClient

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.thrive import TlsStandIn


@pytest.fixture
def impatient(api: StandIn) -> Iterator[PlainClient]:
    """Yield a client for faults that send nothing."""
    plain = PlainClient(api, timeout=1)
    yield plain
    plain.close()


# --- Which requests a fault hits --------------------------------------------------------------------------------------


def hits(book: FaultBook, number: int, route: str = "completion") -> list[bool]:
    return [book.take(route, {"userId": "u", "contentId": "c"}) is not None for _ in range(number)]


@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        (Fault(), [True, False, False]),
        (Fault(times=2), [True, True, False]),
        (Fault(times=None), [True, True, True]),
        (Fault(route="completion"), [True, False, False]),
        (Fault(route="token"), [False] * 3),
        (Fault(route="connection", ending="reset"), [False] * 3),
        (Fault(user_id="u", content_id="c"), [True, False, False]),
        (Fault(user_id="u", content_id="other"), [False] * 3),
    ],
)
def test_a_fault_hits_the_requests_that_it_describes(fault: Fault, expected: list[bool]) -> None:
    book = FaultBook()
    fault_id = book.add(fault)

    assert hits(book, 3) == expected
    assert book.hits(fault_id) == sum(expected)


def test_a_fault_for_any_request_hits_no_connection() -> None:
    book = FaultBook()
    book.add(Fault())

    assert hits(book, 1, "connection") == [False]
    assert hits(book, 1, "other") == [True]


def test_the_oldest_fault_comes_first_and_a_removed_one_not_at_all(client: PlainClient) -> None:
    *_, last = [client.api.faults.add(Fault(status=status)) for status in (500, 502, 503)]
    client.api.faults.remove(last)

    assert [client.complete().status for _ in range(3)] == [500, 502, 201]


def test_the_same_seed_gives_the_same_hits() -> None:
    def draw(seed: int) -> list[bool]:
        book = FaultBook(seed)
        book.add(Fault(probability=0.3, times=None))
        return hits(book, 1000)

    assert draw(1) == draw(1) != draw(2)
    assert 200 < sum(draw(1)) < 400


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"body": "x", "spoil": "html"}, "body and spoil"),
        ({"commit": False, "ending": "truncate"}, "commit=False"),
        ({"route": "connection"}, "route connection"),
        ({"route": "token", "user_id": "u"}, "route completion"),
    ],
)
def test_fields_that_contradict_each_other_are_refused(fields: dict[str, Any], problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        Fault(**fields)


# --- What the client gets ---------------------------------------------------------------------------------------------


def exchange(client: PlainClient) -> bytes:
    """Send a completion on a connection of its own; return everything until the server closes it, or `RST`."""
    body = json.dumps(COMPLETION)
    head = f"Host: thrive\r\nConnection: close\r\nAuthorization: {client.basic()}\r\nContent-Length: {len(body)}\r\n"
    head += "Content-Type: application/json\r\n"
    received = b""
    try:
        with socket.create_connection(("127.0.0.1", client.api.port), timeout=5) as connection:
            connection.sendall(f"POST /rest/v1/learning/completions HTTP/1.1\r\n{head}\r\n{body}".encode())
            while data := connection.recv(65536):
                received += data
    except (BrokenPipeError, ConnectionResetError):
        return b"RST"
    return received


ERROR_500 = r'HTTP/1.1 500 .*\r\nContent-Type: application/json\r\n.*\r\n\r\n{"status":500,"error":.*}'
GENUINE = r'HTTP/1.1 201 Created\r\n.*\r\n\r\n{"statementId":"[^"]*"}'


@pytest.mark.parametrize(
    ("fault", "received", "recorded"),
    [
        (Fault(), GENUINE, True),
        (Fault(status=500), ERROR_500, False),
        (Fault(status=500, commit=True), ERROR_500, True),
        (Fault(status=204), r"HTTP/1.1 204 No Content\r\n.*\r\n\r\n", False),
        (Fault(status=199), r"HTTP/1.1 199 Unknown\r\n((?!Content-Length).)*\r\n\r\n", False),
        (Fault(status=307, headers={"Location": "http://x/"}), r"HTTP/1.1 307 .*\r\nLocation: http://x/\r\n.*", False),
        (Fault(status=429, headers={"Retry-After": "-1"}), r"HTTP/1.1 429 .*\r\nRetry-After: -1\r\n.*", False),
        (Fault(headers={"content-TYPE": "text/plain"}), r"((?!application/json).)*text/plain((?!n/json).)*", True),
        (Fault(body="<>"), r"HTTP/1.1 201 .*\r\n\r\n<>", True),
        (Fault(status=502, body=b"\xff"), r"HTTP/1.1 502 .*\r\n\r\n\xff", False),
        (Fault(spoil="html"), r"HTTP/1.1 201 .*\r\nContent-Type: text/html.*\r\n\r\n<!DOCTYPE html>.*", True),
        (Fault(ending="reset"), "RST", False),
        (Fault(ending="reset", commit=True), "RST", True),
        (Fault(ending="close"), "", False),
        (Fault(ending="close", commit=True), "", True),
        (Fault(ending="close_after_headers"), r"HTTP/1.1 201 .*\r\nContent-Length: \d\d\r\n\r\n", True),
        (Fault(ending="truncate", body="12345678"), r"HTTP/1.1 201 .*\r\n\r\n1234", True),
        (Fault(drip=Drip(part="headers", size=16, interval=0.01)), GENUINE, True),
        (Fault(drip=Drip(part="body", size=8, interval=0.01)), GENUINE, True),
        (Fault(route="connection", ending="reset"), "RST", None),
        (Fault(route="connection", ending="close"), "(RST)?", None),
    ],
)
def test_what_is_received_and_recorded(client: PlainClient, fault: Fault, received: str, recorded: Any) -> None:
    """`recorded` is None where the request does not even arrive."""
    client.api.faults.add(fault)

    assert re.fullmatch(received, exchange(client).decode("latin-1"), re.DOTALL)
    assert [arrival.recorded for arrival in client.api.requests] == ([] if recorded is None else [recorded])
    assert len(client.api.ledger) == (recorded or 0)
    assert client.complete().status == (200 if recorded else 201)


def test_gzip_comes_unasked_and_may_be_a_bomb(client: PlainClient) -> None:
    client.api.faults.add(Fault(spoil="gzip"))
    client.api.faults.add(Fault(spoil="gzip_bomb"))

    plain, bomb = exchange(client), exchange(client)

    assert b"\r\nContent-Encoding: gzip\r\n" in plain
    assert set(json.loads(gzip.decompress(plain.partition(b"\r\n\r\n")[2]))) == {"statementId"}
    body = bomb.partition(b"\r\n\r\n")[2]
    assert len(gzip.decompress(body)) > 100 * len(body)


def test_one_token_can_be_revoked(client: PlainClient) -> None:
    one, other = client.token(), client.token()
    client.api.faults.add(Fault(route="completion", revoke_token=True))

    assert [client.complete(f"Bearer {token}").status for token in (one, one, other)] == [401, 401, 201]


def test_a_delay_holds_back_the_answer_but_not_the_record(impatient: PlainClient) -> None:
    impatient.api.faults.add(Fault(delay=0.1))
    impatient.api.faults.add(Fault(delay=5))

    start = time.monotonic()
    assert impatient.complete(userId="1").status == 201
    assert time.monotonic() - start >= 0.1
    with pytest.raises(ReadTimeoutError):
        impatient.complete(userId="2")

    assert len(impatient.api.ledger) == 2


@pytest.mark.parametrize(("route", "arrived"), [("completion", 1), ("connection", 0)])
def test_a_black_hole_is_silent(impatient: PlainClient, route: Any, arrived: int) -> None:
    impatient.api.faults.add(Fault(route=route, ending="black_hole"))

    with pytest.raises(ReadTimeoutError):
        impatient.complete()

    assert [arrival.status for arrival in impatient.api.requests] == [None] * arrived
    assert len(impatient.api.ledger) == 0


def test_a_drip_outlasts_a_timeout_per_read(impatient: PlainClient) -> None:
    # Nine pieces: together they take longer than the timeout, but each one only a fraction of it.
    impatient.api.faults.add(Fault(drip=Drip(part="body", size=6, interval=0.15)))

    start = time.monotonic()
    assert impatient.complete().status == 201
    assert time.monotonic() - start > 1


def test_an_endless_body_goes_on_while_the_client_reads(client: PlainClient) -> None:
    client.api.faults.add(Fault(ending="endless"))
    headers = {"Content-Type": "application/json", "Authorization": client.basic()}

    answer = client.request(
        "POST", "/rest/v1/learning/completions", json=COMPLETION, headers=headers, preload_content=False
    )

    assert len(answer.read(2**20)) == 2**20
    answer.close()
    assert client.complete().status == 200


@pytest.mark.parametrize("route", ["completion", "connection"])
def test_connections_end_over_tls_too(thrive_tls: TlsStandIn, route: Any) -> None:
    client = PlainClient(thrive_tls, ca_certs=str(thrive_tls.ca_path))
    thrive_tls.faults.add(Fault(route=route, ending="reset"))

    with pytest.raises((ProtocolError, SSLError)):
        client.complete()
    assert client.complete().status == 201
    client.close()


def test_down_refuses_connections_and_up_comes_back_on_the_same_port(client: PlainClient) -> None:
    url = client.api.url
    assert client.complete().status == 201

    client.api.down()
    with pytest.raises((ProtocolError, NewConnectionError)):
        client.complete()
    with pytest.raises(NewConnectionError):
        client.complete()
    client.api.up()

    assert client.api.url == url
    assert client.complete().status == 200
