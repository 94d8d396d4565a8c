"""What the stand-in does when nothing goes wrong, as far as tests/contract does not show it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any
from urllib.parse import quote_plus, urlencode

import pytest

from sandbox.thrive_api import Key
from sandbox.thrive_api.accounts import Credentials
from sandbox.thrive_api.arrivals import Arrival, RequestLog
from sandbox.thrive_api.service import RateLimiter
from tests.support.plain_client import PlainClient, basic

if TYPE_CHECKING:
    from tests.support.thrive import ContractedStandIn

HARD = "a+b%41:c d/é=&\"'"


# --- Records and users ----------------------------------------------------------------------------------------------


def test_a_repeat_gets_200_and_the_first_statement_id(client: PlainClient) -> None:
    first, second = client.complete(), client.complete()

    assert (first.status, second.status) == (201, 200)
    assert first.json() == second.json()
    [entry] = client.api.ledger
    assert entry.key == Key("user-1", "content-1", "2021-01-01T09:00:00Z")
    assert (entry.statement_id, entry.arrivals) == (first.json()["statementId"], 2)


@pytest.mark.parametrize(
    "other", [{"userId": "user-2"}, {"contentId": "content-2"}, {"completedAt": "2021-01-01T10:00:00+01:00"}]
)
def test_a_difference_in_any_field_makes_another_record(client: PlainClient, other: dict[str, str]) -> None:
    assert (client.complete().status, client.complete(**other).status) == (201, 201)
    assert len(client.api.ledger) == 2


@pytest.mark.parametrize(
    ("completed_at", "status"),
    [
        ("2024-02-29t23:59:60.123456789-23:59", 201),
        ("2023-02-29T00:00:00Z", 422),
        ("2021-01-01T24:00:00Z", 422),
        ("2021-01-01T09:00:00", 422),
        ("2021-01-01T09:00:00Z\n", 422),
    ],
)
def test_completed_at_is_an_rfc_3339_date_time(client: PlainClient, completed_at: str, status: int) -> None:
    assert client.complete(completedAt=completed_at).status == status


def listing(client: PlainClient, **query: object) -> list[dict[str, Any]]:
    path = f"/rest/v1/learning/completions?{urlencode(query)}"
    records: list[dict[str, Any]] = client.request("GET", path, headers={"Authorization": client.basic()}).json()
    return records


def test_the_list_has_other_ids_than_the_statements_and_whole_seconds(client: PlainClient) -> None:
    statement_id = client.complete(completedAt="2021-01-01T10:00:59.999+01:00").json()["statementId"]
    [record] = listing(client)

    assert record.pop("id") != statement_id
    assert {name: record[name] for name in ("userId", "contentId", "completedAt", "isRPL")} == {
        "userId": "user-1",
        "contentId": "content-1",
        "completedAt": "2021-01-01T10:00:59+01:00",
        "isRPL": False,
    }


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ({}, "abcd"),
        ({"userId": "c"}, "c"),
        ({"contentId": "content-1", "isRPL": "false"}, "abcd"),
        ({"contentId": "content-2"}, ""),
        ({"isRPL": "true"}, ""),
        ({"page": 2, "perPage": 3}, "d"),
        ({"page": 3, "perPage": 3}, ""),
        (
            {"completedDateRangeStart": "2021-01-02T00:00:00Z", "completedDateRangeEnd": "2021-01-03T00:00:00.000Z"},
            "bc",
        ),
        ({"completedDateRangeStart": "2021-01-03T01:00:00+01:00"}, "cd"),
        ({"completedDateRangeEnd": "2021-01-02"}, "ab"),
    ],
)
def test_the_list_is_selected_and_paged(client: PlainClient, query: dict[str, object], found: str) -> None:
    for day, user in enumerate("abcd", 1):
        client.complete(userId=user, completedAt=f"2021-01-{day:02}T00:00:00Z")

    assert [record["userId"] for record in listing(client, **query)] == list(found)


# --- Credentials, tokens and the rate limit -------------------------------------------------------------------------


def test_each_way_of_sending_credentials_has_its_own_encoding(client: PlainClient) -> None:
    """Form-encoded in the form and, at the token endpoint, in HTTP Basic (RFC 6749, 2.3.1); not so on REST calls."""
    api, name, secret = client.api, f"id {HARD}", f"secret {HARD}"
    api.accept_credentials((name, secret))

    assert client.token_answer(client_id=name, client_secret=secret).status == 200
    assert client.token_answer({"Authorization": basic(quote_plus(name), quote_plus(secret))}).status == 200
    assert client.token_answer({"Authorization": basic(name, secret)}).status == 401
    assert client.complete(basic(api.tenant_id, secret)).status == 201
    assert client.complete(basic(api.tenant_id, quote_plus(secret))).status == 401
    assert client.complete(basic(name, secret)).status == 401


def test_bad_token_requests_get_their_oauth_error(client: PlainClient) -> None:
    api = client.api
    form = f"grant_type=client_credentials&client_id={api.client_id}&client_secret={api.client_secret}"
    form_type = {"Content-Type": "application/x-www-form-urlencoded"}

    def error(body: str, headers: dict[str, str] = form_type, tenant: str = api.tenant_id) -> str:
        error: str = client.request("POST", f"/oauth2/token/{tenant}", body=body, headers=headers).json().get("error")
        return error

    assert error(form) is None
    assert error(form.replace("client_credentials", "password")) == "unsupported_grant_type"
    assert error(form + "&scope=api/nothing") == "invalid_scope"
    assert error(form + "x") == "invalid_client"
    assert error(form, tenant="eu-west-2_Another") == "invalid_client"
    assert error(form + "&grant_type=client_credentials") == "invalid_request"
    assert error(form, {"Content-Type": "application/json"}) == "invalid_request"
    assert error(form, {**form_type, "Authorization": basic(api.client_id, api.client_secret)}) == "invalid_request"


@pytest.mark.parametrize(
    ("scope", "completion", "user"),
    [("", 201, 200), ("api/write", 201, 403), ("api/read", 403, 200), ("api/read api/write", 201, 200)],
)
def test_a_token_allows_what_its_scopes_cover(client: PlainClient, scope: str, completion: int, user: int) -> None:
    client.api.directory.users["E-1"] = {"id": "user-1"}
    bearer = f"Bearer {client.token(scope)}"

    assert client.complete(bearer).status == completion
    assert client.request("GET", "/rest/v1/users/ref/E-1", headers={"Authorization": bearer}).status == user


def test_each_route_has_its_own_rate_limit_which_need_not_say_how_long(client: PlainClient) -> None:
    client.api.limit_rate(0.001)
    client.api.limit_rate(0.001, route="user", retry_after=False)
    lookup = ("GET", "/rest/v1/users/ref/x")
    headers = {"Authorization": client.basic()}

    completions = [client.complete(userId=user) for user in "ab"]
    lookups = [client.request(*lookup, headers=headers) for _ in range(2)]

    assert [answer.status for answer in (*completions, *lookups)] == [201, 429, 404, 429]
    assert 990 <= int(completions[1].headers["Retry-After"]) <= 1000
    assert "Retry-After" not in lookups[1].headers
    assert len(client.api.ledger) == 1
    client.api.limit_rate(None)
    assert client.complete(userId="b").status == 201


def test_the_bucket_holds_one_second_and_fills_with_time() -> None:
    now = 0.0
    limiter = RateLimiter(lambda: now)
    limiter.set(2)

    assert [limiter.wait(), limiter.wait(), limiter.wait()] == [0, 0, 0.5]
    now = 0.5
    assert [limiter.wait(), limiter.wait()] == [0, 0.5]
    now = 100.0
    assert [limiter.wait() for _ in range(3)] == [0, 0, 0.5]


# --- What other tests rely on: the request log, the contract check, the control routes ------------------------------


def test_requests_are_logged_as_sent_and_show_no_secret(client: PlainClient) -> None:
    bearer = f"Bearer {client.token('api/write')}"
    client.complete(bearer, userId="ü")
    client.request("GET", "/rest/v1/users/ref/a%2Fb?x=1")

    token, completion, user = requests = list(client.api.requests)
    assert (token.method, token.path, token.route) == ("POST", f"/oauth2/token/{client.api.tenant_id}", "token")
    assert b"scope=api%2Fwrite" in token.body
    assert completion.payload["userId"] == json.loads(completion.body)["userId"] == "ü"
    assert completion.headers["authorization"] == bearer
    assert (user.path, user.parameter) == ("/rest/v1/users/ref/a%2Fb?x=1", "a%2Fb")
    assert token.connection == completion.connection == user.connection
    assert [(arrival.status, arrival.recorded) for arrival in requests] == [(200, False), (201, True), (401, False)]
    # A failing test prints the values that it compares.
    shown = repr((client.api, requests, Credentials("id", "canary")))
    assert not any(secret in shown for secret in ("canary", bearer[7:], client.api.client_secret))


def test_requests_that_are_no_longer_kept_stay_counted() -> None:
    log = RequestLog(keep=2)
    for status in (200, 201, 201, None):
        log.add(Arrival("POST", "/", {}, b"", 1, "completion", status=status))

    assert [arrival.status for arrival in log] == [201, None]
    assert len(log) == 4
    assert log.counts() == {"completion": {"200": 1, "201": 2, "none": 1}}


def test_the_fixture_of_other_tests_fails_a_request_outside_the_contract(thrive: ContractedStandIn) -> None:
    client = PlainClient(thrive)
    client.complete()
    thrive.assert_contract_kept()

    client.complete(completedAt="2021-01-01T09:00:00")
    client.close()

    with pytest.raises(AssertionError, match="completedAt breaks 'format'"):
        thrive.assert_contract_kept()
    thrive.contract_checked = False


def control(client: PlainClient, method: str, what: str, document: Any = None) -> tuple[int, Any]:
    body = None if document is None else json.dumps(document)
    answer = client.request(method, f"/_stand-in/{what}", body=body)
    return answer.status, answer.json()


def test_another_process_can_read_records_and_counts(client: PlainClient) -> None:
    entry = {"userId": "user-1", "contentId": "content-1", "completedAt": "2021-01-01T09:00:00Z", "arrivals": 1}
    entry["statementId"] = client.complete().json()["statementId"]

    assert control(client, "GET", "ledger") == (200, {"count": 1, "entries": [entry]})
    assert control(client, "GET", "requests") == (200, {"counts": {"completion": {"201": 1}}})
    assert control(client, "GET", "nothing")[0] == 404
    assert control(client, "PUT", "ledger")[0] == 405


def test_another_process_can_create_users_and_faults(client: PlainClient) -> None:
    user = {"ref": "a/b", "id": "user-1", "email": None}
    fault = {"route": "completion", "status": 503, "headers": {"Retry-After": "2"}, "times": None}

    assert control(client, "POST", "users", {"ref": "E-1"})[0] == 400
    assert control(client, "POST", "users", user) == (201, user)
    assert control(client, "POST", "faults", fault) == (201, {"id": 1})
    found = client.request("GET", "/rest/v1/users/ref/a%2Fb", headers={"Authorization": client.basic()})
    assert found.json() == user
    refused = client.complete()
    assert (refused.status, refused.headers["Retry-After"]) == (503, "2")
    assert control(client, "DELETE", "faults") == (200, {})
    assert client.complete().status == 201


@pytest.mark.parametrize(
    ("fault", "problem"),
    [
        ([], "a fault is a JSON object with any of route, "),
        ({"statuses": 500}, "statuses: there is no such field; the fields are route, "),
        ({"route": "connection"}, "route: must be one of token, completion, listing, user"),
        ({"times": 0}, "times: must be a whole number from 1, or null for no limit"),
        ({"status": True}, "status: must be a whole number from 100 to 599"),
        ({"headers": {"X": "a\r\nb"}}, "headers: must be an object of strings"),
        ({"delay": -1}, "delay: must be seconds from 0"),
    ],
)
def test_a_bad_fault_gets_400_that_names_the_field(client: PlainClient, fault: Any, problem: str) -> None:
    status, answer = control(client, "POST", "faults", fault)

    assert status == 400
    assert answer["message"].startswith(problem)
    assert client.complete().status == 201
