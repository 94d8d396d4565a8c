"""Every fault as a client sees it, on real sockets."""

from __future__ import annotations

import gzip
import json
import re
import socket
from typing import Any

import pytest
from urllib3.exceptions import ReadTimeoutError

from sandbox.thrive_api import Drip, Fault, StandIn
from sandbox.thrive_api.faults import FaultBook
from tests.support.plain_client import COMPLETION, PlainClient

# --- Which requests a fault hits --------------------------------------------------------------------------------------


def hits(book: FaultBook, route: str, number: int = 3) -> list[bool]:
    return [book.take(route, {"userId": "u", "contentId": "c"}) is not None for _ in range(number)]


@pytest.mark.parametrize(
    ("fault", "route", "expected"),
    [
        (Fault(), "completion", [True, False, False]),
        (Fault(), "other", [True, False, False]),
        (Fault(), "connection", [False] * 3),
        (Fault(times=2), "completion", [True, True, False]),
        (Fault(times=None), "completion", [True, True, True]),
        (Fault(route="token"), "completion", [False] * 3),
        (Fault(route="connection", ending="reset"), "completion", [False] * 3),
        (Fault(user_id="u", content_id="c"), "completion", [True, False, False]),
        (Fault(user_id="u", content_id="other"), "completion", [False] * 3),
    ],
)
def test_a_fault_hits_the_requests_that_it_describes(fault: Fault, route: str, expected: list[bool]) -> None:
    book = FaultBook()
    fault_id = book.add(fault)

    assert hits(book, route) == expected
    assert book.hits(fault_id) == sum(expected)


def test_the_same_seed_gives_the_same_hits() -> None:
    def draw(seed: int) -> list[bool]:
        book = FaultBook(seed)
        book.add(Fault(probability=0.3, times=None))
        return hits(book, "completion", 1000)

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


def test_a_gzip_bomb_inflates_a_hundredfold(client: PlainClient) -> None:
    client.api.faults.add(Fault(spoil="gzip_bomb"))

    head, _, body = exchange(client).partition(b"\r\n\r\n")

    assert b"\r\nContent-Encoding: gzip\r\n" in head
    assert len(gzip.decompress(body)) > 100 * len(body)


def test_one_token_can_be_revoked(client: PlainClient) -> None:
    one, other = client.token(), client.token()
    client.api.faults.add(Fault(route="completion", revoke_token=True))

    assert [client.complete(f"Bearer {token}").status for token in (one, one, other)] == [401, 401, 201]


def test_an_answer_that_is_never_sent_leaves_no_status_but_perhaps_a_record(api: StandIn) -> None:
    impatient = PlainClient(api, timeout=1)
    api.faults.add(Fault(delay=5))
    api.faults.add(Fault(ending="black_hole"))

    for user in ("delayed", "swallowed"):
        with pytest.raises(ReadTimeoutError):
            impatient.complete(userId=user)

    assert [arrival.status for arrival in api.requests] == [None, None]
    assert [entry.key.user_id for entry in api.ledger] == ["delayed"]
    impatient.close()


def test_an_endless_body_goes_on_while_the_client_reads(client: PlainClient) -> None:
    client.api.faults.add(Fault(ending="endless"))
    headers = {"Content-Type": "application/json", "Authorization": client.basic()}

    answer = client.request(
        "POST", "/rest/v1/learning/completions", json=COMPLETION, headers=headers, preload_content=False
    )

    assert len(answer.read(2**20)) == 2**20
    answer.close()
    assert client.complete().status == 200
