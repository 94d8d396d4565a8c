"""The control plane under `/_stand-in/`."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

import pytest
from urllib3.exceptions import NewConnectionError, ProtocolError

from sandbox.thrive_api import Fault
from tests.support.plain_client import PlainClient, basic

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def other(client: PlainClient) -> Iterator[PlainClient]:
    """Yield a second client, with connections of its own."""
    plain = PlainClient(client.api)
    yield plain
    plain.close()


def control(client: PlainClient, method: str, what: str, document: Any = None) -> tuple[int, Any]:
    """Send one control request; return status and JSON body."""
    body = None if document is None else json.dumps(document)
    answer = client.request(method, f"/_stand-in/{what}", body=body)
    return answer.status, answer.json()


def test_the_ledger_can_be_read(client: PlainClient) -> None:
    """The ledger must list each record with its statement id and how often it arrived."""
    statement_id = client.complete().json()["statementId"]
    client.complete()

    status, ledger = control(client, "GET", "ledger")

    assert status == 200
    assert ledger == {
        "count": 1,
        "entries": [
            {
                "userId": "user-1",
                "contentId": "content-1",
                "completedAt": "2021-01-01T09:00:00Z",
                "statementId": statement_id,
                "arrivals": 2,
            }
        ],
    }


def test_requests_are_counted_and_listed_without_secrets(client: PlainClient) -> None:
    """Requests must be counted by route and status, control requests apart, and show no credentials."""
    token = client.token()
    client.complete(f"Bearer {token}")
    control(client, "GET", "ledger")

    status, requests = control(client, "GET", "requests")

    assert status == 200
    assert requests["count"] == 2
    assert requests["counts"] == {"completion": {"201": 1}, "token": {"200": 1}}
    assert [(request["route"], request["recorded"]) for request in requests["last"]] == [
        ("token", False),
        ("completion", True),
    ]
    assert token not in json.dumps(requests)
    assert client.api.client_secret not in json.dumps(requests)


def test_faults_can_be_added_listed_and_ended(client: PlainClient) -> None:
    """A fault must work as soon as its POST is answered, be listed with its hits, and end by its DELETE."""
    fault = {"route": "completion", "status": 503, "headers": {"Retry-After": "2"}, "times": None}

    assert control(client, "POST", "faults", fault) == (201, {"ids": [1]})
    answer = client.complete()
    assert (answer.status, answer.headers["Retry-After"]) == (503, "2")
    assert control(client, "GET", "faults") == (200, {"faults": [{"id": 1, "hits": 1, **fault}]})
    assert control(client, "DELETE", "faults/1") == (200, {})
    assert control(client, "DELETE", "faults/1")[0] == 404
    assert client.complete().status == 201


def test_several_faults_are_added_at_once_or_not_at_all(client: PlainClient) -> None:
    """A list of faults must be added in order; if one of them is bad, none must be."""
    good: dict[str, Any] = {"status": 500}

    assert control(client, "POST", "faults", [good, {"status": 1000}])[0] == 400
    assert client.api.faults.in_force() == {}
    assert control(client, "POST", "faults", [good, {"status": 502}]) == (201, {"ids": [1, 2]})
    assert [client.complete().status for _ in range(3)] == [500, 502, 201]
    control(client, "POST", "faults", [good, good])
    assert control(client, "DELETE", "faults") == (200, {})
    assert client.api.faults.in_force() == {}


def test_a_bad_fault_names_the_field_and_what_is_allowed(client: PlainClient) -> None:
    """The answer to a bad fault must be 400 in the Error shape, with the field and what is allowed there."""
    status, problem = control(client, "POST", "faults", {"status": 99})

    assert status == 400
    assert problem == {
        "status": 400,
        "error": "Bad Request",
        "message": "status: a whole number from 100 to 599",
        "field": "status",
    }


def test_reset_forgets_what_happened(client: PlainClient) -> None:
    """A reset must empty ledger, requests, faults and tokens, and keep the credentials."""
    token = client.token()
    client.complete()
    client.api.faults.add(Fault(status=500))

    assert control(client, "POST", "reset") == (200, {})

    assert (len(client.api.ledger), len(client.api.requests)) == (0, 0)
    assert client.complete(f"Bearer {token}").status == 401
    assert client.complete().status == 201


def test_credentials_and_tokens_can_be_changed(client: PlainClient) -> None:
    """Credentials must be replaceable, the client id being the tenant id by default, and tokens revocable."""
    token = client.token()
    tenant = client.api.tenant_id
    credentials = {"tenantId": tenant, "clients": [{"clientSecret": "one"}, {"clientId": "c", "clientSecret": "two"}]}

    assert control(client, "PUT", "credentials", credentials) == (200, {})

    assert client.token_answer(client_id=tenant, client_secret="one").status == 200
    assert client.token_answer(client_id="c", client_secret="two").status == 200
    assert client.token_answer(client_id="c", client_secret="one").status == 401
    assert client.complete(f"Bearer {token}").status == 201
    assert control(client, "POST", "revoke-tokens") == (200, {})
    assert client.complete(f"Bearer {token}").status == 401


def test_a_new_tenant_can_be_added(client: PlainClient) -> None:
    """Credentials for a tenant not known before must make it known."""
    control(client, "PUT", "credentials", {"tenantId": "new", "clients": [{"clientSecret": "s"}]})

    assert client.complete(basic("new", "s")).status == 201


def test_users_and_rate_limit_can_be_changed(client: PlainClient) -> None:
    """Users must be found, and completions be limited, from the moment of the answer."""
    assert control(client, "PUT", "users", {"users": {"E-1": {"id": "user-1"}}}) == (200, {})
    found = client.request("GET", "/rest/v1/users/ref/E-1", headers={"Authorization": client.basic()})
    assert found.json() == {"id": "user-1", "ref": "E-1"}

    assert control(client, "PUT", "rate-limit", {"perSecond": 0.001}) == (200, {})
    assert [client.complete().status for _ in range(2)] == [201, 429]
    assert control(client, "PUT", "rate-limit", {"perSecond": None}) == (200, {})
    assert client.complete().status == 200


def test_an_outage_begins_and_ends_by_itself(client: PlainClient, other: PlainClient) -> None:
    """After its answer the server must go away, and come back on the same port with all it held."""
    client.complete()
    assert control(other, "POST", "outage", {"seconds": 0.3}) == (202, {})

    deadline = time.monotonic() + 5
    was_away = False
    while time.monotonic() < deadline:
        try:
            status = client.complete().status
        except (NewConnectionError, ProtocolError):
            was_away = True
        else:
            if was_away:
                break
        time.sleep(0.01)

    assert was_away
    assert status == 200


@pytest.mark.parametrize(
    ("method", "what", "document", "named"),
    [
        ("PUT", "credentials", None, "tenantId"),
        ("PUT", "credentials", {"tenantId": "t"}, "clients"),
        ("PUT", "credentials", {"tenantId": "t", "clients": ["c"]}, "clients"),
        ("PUT", "credentials", {"tenantId": "t", "clients": [{"clientId": "c"}]}, "clientSecret"),
        ("PUT", "users", {"users": []}, "users"),
        ("PUT", "users", {"users": {"E-1": {}}}, "users"),
        ("PUT", "rate-limit", {}, "perSecond"),
        ("PUT", "rate-limit", {"perSecond": True}, "perSecond"),
        ("PUT", "rate-limit", {"perSecond": 0}, "perSecond"),
        ("POST", "outage", {"seconds": -1}, "seconds"),
        ("POST", "outage", {"seconds": "1"}, "seconds"),
    ],
)
def test_bad_input_is_named(client: PlainClient, method: str, what: str, document: Any, named: str) -> None:
    """Bad input must get 400 with the name of the member that is wrong."""
    status, problem = control(client, method, what, document)

    assert (status, problem["message"].partition(":")[0]) == (400, named)


def test_a_body_that_is_not_json_is_refused(client: PlainClient) -> None:
    """A body that cannot be read as JSON must get 400."""
    for body in (b"{", b"\xff", b"[" * 100_000):
        answer = client.request("POST", "/_stand-in/faults", body=body)
        assert (answer.status, answer.json()["message"]) == (400, "the body is not JSON")


def test_unknown_controls_are_listed(client: PlainClient) -> None:
    """An unknown control must get 404 with those that exist, a wrong method 405 with those allowed."""
    status, problem = control(client, "GET", "nothing")
    assert status == 404
    assert "/_stand-in/faults" in problem["message"]
    assert control(client, "GET", "ledger/1")[0] == 404
    assert control(client, "DELETE", "faults/x")[0] == 404

    answer = client.request("PUT", "/_stand-in/faults")
    assert (answer.status, answer.headers["Allow"]) == (405, "GET, POST, DELETE")


def test_faults_leave_the_control_plane_alone(client: PlainClient) -> None:
    """A fault for any request must not hit control requests: they are what ends it."""
    client.api.faults.add(Fault(status=500, times=None))

    assert control(client, "GET", "faults")[0] == 200


def test_only_its_own_paths_are_control_requests(client: PlainClient) -> None:
    """A path that merely begins like the control plane must be an ordinary 404."""
    assert client.request("GET", "/_stand-inside").status == 404
    assert [arrival.route for arrival in client.api.requests] == ["other"]
