"""Every fault as a client sees it, on real sockets."""

from __future__ import annotations

import gzip
import http.client
import json
import socket
import time
from typing import TYPE_CHECKING, Any

import pytest
import urllib3
from urllib3.exceptions import (
    DecodeError,
    NewConnectionError,
    ProtocolError,
    ReadTimeoutError,
)

from sandbox.thrive_api import Drip, Fault, StandIn
from sandbox.thrive_api.spoiling import HUGE
from tests.support.plain_client import COMPLETION, PlainClient

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

# A client's patience where the fault is that nothing comes.
SHORT = 0.5


@pytest.fixture
def hasty(api: StandIn) -> Iterator[PlainClient]:
    """Yield a client that gives up soon."""
    plain = PlainClient(api, timeout=SHORT)
    yield plain
    plain.close()


def wait_for(condition: Callable[[], bool]) -> None:
    """Wait until the server has got to a state that no answer announces; fail after five seconds."""
    deadline = time.monotonic() + 5
    while not condition():
        assert time.monotonic() < deadline, "the state was never reached"
        time.sleep(0.005)


def exchange(api: StandIn, request: bytes) -> bytes:
    """Send bytes on a connection of their own and return all that comes until the server closes it."""
    with socket.create_connection(("127.0.0.1", api.port), timeout=5) as connection:
        connection.sendall(request)
        received = b""
        while data := connection.recv(65536):
            received += data
        return received


def raw_completion(client: PlainClient) -> bytes:
    """Return a completion request as bytes."""
    body = json.dumps(COMPLETION)
    return (
        "POST /rest/v1/learning/completions HTTP/1.1\r\nHost: thrive\r\nContent-Type: application/json\r\n"
        f"Authorization: {client.basic()}\r\nContent-Length: {len(body)}\r\n\r\n{body}"
    ).encode()


@pytest.mark.parametrize("status", range(200, 600))
def test_every_status_can_be_answered(client: PlainClient, status: int) -> None:
    """Each status from 200 to 599 must come with an Error body where HTTP allows one, and without a record."""
    client.api.faults.add(Fault(route="completion", status=status))

    answer = client.complete()

    assert answer.status == status
    if status in (204, 304):
        assert answer.data == b""
    else:
        assert answer.json()["status"] == status
    assert len(client.api.ledger) == 0
    assert client.api.requests[0].status == status
    assert client.complete(userId="next").status == 201


@pytest.mark.parametrize("status", range(100, 200))
def test_every_interim_status_can_be_sent(client: PlainClient, status: int) -> None:
    """A status from 100 to 199 must come as a bare head, after which the connection is closed."""
    client.api.faults.add(Fault(status=status))

    received = exchange(client.api, raw_completion(client))

    assert received.startswith(f"HTTP/1.1 {status} ".encode())
    assert received.endswith(b"\r\n\r\n")
    assert b"content-length" not in received.lower()
    assert client.api.requests[0].status == status


def test_a_status_can_come_after_the_commit(client: PlainClient) -> None:
    """With `commit` the completion must be in the ledger although the client was told 500."""
    client.api.faults.add(Fault(status=500, commit=True))

    told, repeated = client.complete(), client.complete()

    assert (told.status, repeated.status) == (500, 200)
    [entry] = client.api.ledger
    assert entry.arrivals == 2
    assert client.api.requests[0].recorded
    assert client.api.requests[0].fault == 1


@pytest.mark.parametrize("value", ["0", "-1", "1.5", "junk", "", "Wed, 21 Oct 2015 07:28:00 GMT", "9" * 400])
def test_any_retry_after_can_be_sent(client: PlainClient, value: str) -> None:
    """`Retry-After` must be sent as given, however senseless."""
    client.api.faults.add(Fault(status=429, headers={"Retry-After": value}))

    answer = client.complete()

    assert (answer.status, answer.headers["Retry-After"]) == (429, value)


def test_headers_given_anew_replace_the_old_ones(client: PlainClient) -> None:
    """A header that the answer has already must be sent once, with the new value, whatever its case."""
    client.api.faults.add(Fault(headers={"content-TYPE": "text/plain"}))

    assert client.complete().headers.getlist("Content-Type") == ["text/plain"]


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("route", ["completion", "token"])
def test_redirects_point_where_they_are_told(client: PlainClient, status: int, route: Any) -> None:
    """A redirect must carry its Location, on the token endpoint too."""
    client.api.faults.add(Fault(route=route, status=status, headers={"Location": "http://127.0.0.1:9/trap"}))

    answer = client.complete() if route == "completion" else client.token_answer()

    assert (answer.status, answer.headers["Location"]) == (status, "http://127.0.0.1:9/trap")


@pytest.mark.parametrize("commit", [False, True])
@pytest.mark.parametrize("ending", ["reset", "close"])
def test_connections_can_end_without_an_answer(client: PlainClient, ending: Any, commit: bool) -> None:  # noqa: FBT001
    """A reset or a close must leave the client without a status, before or after the commit."""
    client.api.faults.add(Fault(ending=ending, commit=commit))

    with pytest.raises(ProtocolError) as failure:
        client.complete()

    assert isinstance(failure.value.args[1], ConnectionResetError)
    assert (failure.value.args[1].errno is not None) is (ending == "reset")
    assert len(client.api.ledger) == commit
    assert client.api.requests[0].status is None
    assert client.api.requests[0].recorded is commit
    assert client.complete().status == (200 if commit else 201)


def test_a_close_after_the_headers_leaves_the_body_out(client: PlainClient) -> None:
    """The genuine head must come, and the promised body must not, although the record is there."""
    client.api.faults.add(Fault(ending="close_after_headers"))

    with pytest.raises(ProtocolError) as failure:
        client.complete()

    assert isinstance(failure.value.args[1], http.client.IncompleteRead)
    assert client.api.requests[0].status == 201
    assert len(client.api.ledger) == 1


def test_a_truncated_body_is_half_of_it(client: PlainClient) -> None:
    """Half of the body must come before the connection is closed."""
    client.api.faults.add(Fault(ending="truncate", body="12345678"))

    assert exchange(client.api, raw_completion(client)).endswith(b"\r\n\r\n1234")


def test_a_delay_holds_the_answer_back_not_the_commit(hasty: PlainClient) -> None:
    """A client that does not wait long enough must find that its completion was recorded."""
    hasty.api.faults.add(Fault(delay=5))

    with pytest.raises(ReadTimeoutError):
        hasty.complete()

    assert len(hasty.api.ledger) == 1
    assert hasty.api.requests[0].status is None
    assert hasty.complete().status == 200


def test_a_short_delay_ends_in_the_genuine_answer(client: PlainClient) -> None:
    """After the delay the answer must come as if nothing had been."""
    client.api.faults.add(Fault(delay=0.2))

    start = time.monotonic()
    assert client.complete().status == 201
    assert time.monotonic() - start >= 0.2


def test_a_black_hole_swallows_the_request(hasty: PlainClient) -> None:
    """Nothing must come back until the client gives up, and nothing be recorded."""
    hasty.api.faults.add(Fault(ending="black_hole"))

    with pytest.raises(ReadTimeoutError):
        hasty.complete()

    assert hasty.api.requests[0].status is None
    assert len(hasty.api.ledger) == 0


def test_stopping_does_not_wait_for_black_holes() -> None:
    """The stand-in must stop at once while a request hangs in a black hole."""
    with StandIn().running() as api, socket.create_connection(("127.0.0.1", api.port), timeout=5) as connection:
        api.faults.add(Fault(ending="black_hole"))
        connection.sendall(b"GET / HTTP/1.1\r\nHost: thrive\r\n\r\n")
        wait_for(lambda: len(api.requests) == 1)
        start = time.monotonic()
        api.down()
        assert time.monotonic() - start < 3


@pytest.mark.parametrize("part", ["headers", "body"])
def test_dripping_outlasts_a_timeout_per_read(api: StandIn, part: Any) -> None:
    """A client whose timeout counts each read by itself must sit through a drip longer than the timeout."""
    # Together the pieces take longer than the timeout, each a small part of it: a busy machine changes nothing.
    timeout = 1.5
    client = PlainClient(api, timeout=timeout)
    size = 12 if part == "headers" else 6
    api.faults.add(Fault(drip=Drip(part=part, size=size, interval=0.25)))

    start = time.monotonic()
    answer = client.complete()
    took = time.monotonic() - start
    client.close()

    assert answer.status == 201
    assert set(answer.json()) == {"statementId"}
    assert took > timeout


def test_an_endless_body_never_ends(client: PlainClient) -> None:
    """A body without end must keep coming for as long as the client reads."""
    client.api.faults.add(Fault(ending="endless"))

    with urllib3.PoolManager() as pool:
        answer = pool.request(
            "POST",
            client.api.url + "/rest/v1/learning/completions",
            body=json.dumps(COMPLETION),
            headers={"Content-Type": "application/json", "Authorization": client.basic()},
            preload_content=False,
        )
        assert len(answer.read(2**20)) == 2**20
        answer.close()

    assert answer.status == 201
    assert client.complete().status == 200


@pytest.mark.parametrize(
    ("spoil", "content_type"),
    [
        ("empty", "application/json"),
        ("html", "text/html; charset=utf-8"),
        ("not_json", "application/json"),
        ("wrong_type", "application/json"),
    ],
)
@pytest.mark.parametrize("status", [None, 502])
def test_bodies_can_be_spoilt(client: PlainClient, spoil: Any, content_type: str, status: int | None) -> None:
    """A spoilt body must come under the genuine status, the record being there, or under the status given."""
    client.api.faults.add(Fault(spoil=spoil, status=status))

    answer = client.complete()

    assert (answer.status, answer.headers["Content-Type"]) == (status or 201, content_type)
    assert len(client.api.ledger) == (status is None)
    if spoil == "wrong_type":
        assert isinstance(answer.json(), list)
    else:
        with pytest.raises(ValueError, match="Expecting value"):
            answer.json()


def test_a_huge_body_is_valid_json(client: PlainClient) -> None:
    """A huge body must be one that only a size limit catches."""
    client.api.faults.add(Fault(spoil="huge"))

    answer = client.complete()

    assert len(answer.data) > HUGE
    assert "statementId" in answer.json()


def test_gzip_comes_unasked(client: PlainClient) -> None:
    """A gzip body must come although the client did not ask for one, and inflate to the genuine body."""
    client.api.faults.add(Fault(spoil="gzip"))

    answer = client.request(
        "POST",
        "/rest/v1/learning/completions",
        body=json.dumps(COMPLETION),
        headers={
            "Content-Type": "application/json",
            "Authorization": client.basic(),
            "Accept-Encoding": "identity",
        },
        decode_content=False,
    )

    assert answer.headers["Content-Encoding"] == "gzip"
    assert set(json.loads(gzip.decompress(answer.data))) == {"statementId"}


def test_a_gzip_bomb_is_small_on_the_wire(client: PlainClient) -> None:
    """A bomb must inflate to a hundred times what is sent."""
    client.api.faults.add(Fault(spoil="gzip_bomb"))

    received = exchange(
        client.api, raw_completion(client).replace(b"Host: thrive", b"Host: thrive\r\nConnection: close")
    )

    body = received.partition(b"\r\n\r\n")[2]
    assert len(gzip.decompress(body)) == HUGE * 10
    assert len(body) * 100 < HUGE * 10


def test_a_lying_content_encoding_cannot_be_read(client: PlainClient) -> None:
    """A plain body under `Content-Encoding: gzip` must fail in the client's decoder."""
    client.api.faults.add(Fault(headers={"Content-Encoding": "gzip"}))

    with pytest.raises(DecodeError):
        client.complete()


def test_members_can_be_dropped_and_patched(client: PlainClient) -> None:
    """The genuine JSON must come with members taken out or changed, whatever the rest."""
    client.api.faults.add(Fault(route="completion", drop=("statementId",)))
    client.api.faults.add(Fault(route="completion", patch={"statementId": 7}))

    assert (client.complete().json(), client.complete().json()) == ({}, {"statementId": 7})
    assert len(client.api.ledger) == 1


@pytest.mark.parametrize("expires_in", ["3600", True, -1, 1e9, None, 0.5])
def test_token_answers_can_lie_about_their_lifetime(client: PlainClient, expires_in: Any) -> None:
    """A token answer must take any `expires_in`, and its token must still be good."""
    client.api.faults.add(Fault(route="token", patch={"expires_in": expires_in}))

    answer = client.token_answer(client_id=client.api.client_id, client_secret=client.api.client_secret).json()

    assert answer["expires_in"] == expires_in
    assert client.complete(f"Bearer {answer['access_token']}").status == 201


def test_token_answers_can_lack_members_or_be_anything(client: PlainClient) -> None:
    """A token answer must be scriptable: members missing, an error in a 200, or a text of one's own."""
    good = {"client_id": client.api.client_id, "client_secret": client.api.client_secret}
    client.api.faults.add(Fault(route="token", drop=("expires_in", "token_type")))
    client.api.faults.add(Fault(route="token", drop=("access_token",), patch={"error": "invalid_client"}))
    client.api.faults.add(Fault(route="token", status=200, body='{"access_token": ""}'))
    client.api.faults.add(Fault(route="token", body=b"\xff\xfe"))

    answers = [client.token_answer(**good) for _ in range(4)]

    assert [answer.status for answer in answers] == [200] * 4
    assert set(answers[0].json()) == {"access_token", "scope"}
    assert answers[1].json()["error"] == "invalid_client"
    assert answers[2].data == b'{"access_token": ""}'
    assert answers[3].data == b"\xff\xfe"


def test_the_token_in_use_can_be_revoked(client: PlainClient) -> None:
    """A revoked token must get 401 from that request on, while other tokens stay good."""
    one, other = client.token(), client.token()
    client.api.faults.add(Fault(route="completion", revoke_token=True, skip=1))

    statuses = [client.complete(f"Bearer {token}").status for token in (one, one, one, other)]

    assert statuses == [201, 401, 401, 200]


def test_faults_hit_only_those_they_are_meant_for(client: PlainClient) -> None:
    """A fault for one user and content must leave all other requests unharmed."""
    client.api.faults.add(Fault(user_id="bad", content_id="content-1", status=500, times=None))

    statuses = [
        client.complete(userId="bad").status,
        client.complete(userId="good").status,
        client.complete(userId="bad", contentId="content-2").status,
        client.complete(userId="bad").status,
        client.token_answer().status,
    ]

    assert statuses == [500, 201, 201, 500, 401]


@pytest.mark.parametrize("ending", ["reset", "close"])
def test_connections_can_end_at_accept(client: PlainClient, ending: Any) -> None:
    """A connection must be accepted and ended before a request is read, and the next one be served."""
    client.api.faults.add(Fault(route="connection", ending=ending))

    with pytest.raises(ProtocolError):
        client.complete()

    assert len(client.api.requests) == 0
    assert client.complete().status == 201


def test_connections_can_fall_silent_at_accept(hasty: PlainClient) -> None:
    """A connection must be accepted and never served."""
    hasty.api.faults.add(Fault(route="connection", ending="black_hole"))

    with pytest.raises(ReadTimeoutError):
        hasty.complete()

    assert len(hasty.api.requests) == 0


def test_down_refuses_connections_and_up_comes_back(client: PlainClient) -> None:
    """While it is down connections must be refused, open ones be reset; afterwards all is as before."""
    url = client.api.url
    assert client.complete().status == 201

    client.api.down()
    client.api.down()
    with pytest.raises((ProtocolError, NewConnectionError)):
        client.complete()
    with pytest.raises(NewConnectionError):
        client.complete()
    client.api.up()
    client.api.up()

    assert client.api.url == url
    assert client.complete().status == 200


def test_a_taken_port_is_an_os_error(api: StandIn) -> None:
    """Starting on a taken port must raise OSError and leave nothing behind."""
    second = StandIn(port=api.port)

    for _ in range(2):
        with pytest.raises(OSError, match="address already in use"), second.running():
            pass


def test_what_needs_a_running_server_says_so() -> None:
    """Asking a stand-in that does not run for its URL, or running it twice, must be refused."""
    stand_in = StandIn()

    with pytest.raises(RuntimeError, match="does not run"):
        _ = stand_in.url
    with stand_in.running(), pytest.raises(RuntimeError, match="runs already"), stand_in.running():
        pass
