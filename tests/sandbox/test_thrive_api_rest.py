"""The stand-in's REST calls: the ledger, the users, the rate limit, and what there is not."""

from __future__ import annotations

import json
import threading
from typing import Any

import pytest

from sandbox.thrive_api import Key, StandIn
from sandbox.thrive_api.arrivals import Arrival, RequestLog
from sandbox.thrive_api.completions import is_date_time
from sandbox.thrive_api.service import RateLimiter
from tests.support.plain_client import COMPLETION, PlainClient


def test_a_repeat_gets_200_and_the_first_statement_id(client: PlainClient) -> None:
    """The first of two equal completions must get 201, the second 200, and both the same statement id."""
    first, second = client.complete(), client.complete()

    assert (first.status, second.status) == (201, 200)
    assert first.json() == second.json()
    [entry] = client.api.ledger
    assert entry.key == Key("user-1", "content-1", "2021-01-01T09:00:00Z")
    assert entry.statement_id == first.json()["statementId"]
    assert entry.arrivals == 2
    assert [arrival.recorded for arrival in client.api.requests] == [True, True]


@pytest.mark.parametrize(
    "other", [{"userId": "user-2"}, {"contentId": "content-2"}, {"completedAt": "2021-01-01T10:00:00+01:00"}]
)
def test_any_other_field_makes_another_record(client: PlainClient, other: dict[str, str]) -> None:
    """Completions that differ in one field, if only in how the time is written, must be two records."""
    first, second = client.complete(), client.complete(**other)

    assert (first.status, second.status) == (201, 201)
    assert first.json() != second.json()
    assert len(client.api.ledger.find("user-1", "content-1")) == (2 if "completedAt" in other else 1)


def test_concurrent_equal_completions_make_one_record(api: StandIn) -> None:
    """However many clients send the same completion at once, one must get 201 and all the same id."""
    answers: list[tuple[int, str]] = []

    def send() -> None:
        client = PlainClient(api)
        for _ in range(20):
            answer = client.complete()
            answers.append((answer.status, answer.json()["statementId"]))
        client.close()

    threads = [threading.Thread(target=send) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sorted(status for status, _ in answers) == [200] * 159 + [201]
    assert len({statement_id for _, statement_id in answers}) == 1
    assert len(api.ledger) == 1


@pytest.mark.parametrize(
    "bad",
    [
        {"userId": None},
        {"userId": ""},
        {"userId": 1},
        {"contentId": None},
        {"contentId": ["c"]},
        {"completedAt": None},
        {"completedAt": 0},
        {"completedAt": "2021-01-01T09:00:00"},
        {"completedAt": "yesterday"},
    ],
)
def test_completions_that_break_the_schema_get_422(client: PlainClient, bad: dict[str, Any]) -> None:
    """A missing, empty or mistyped field must get 422 in the Error shape, and no record."""
    answer = client.complete(**bad)

    assert answer.status == 422
    assert answer.json()["error"] == "Unprocessable Entity"
    assert next(iter(bad)) in answer.json()["message"]
    assert len(client.api.ledger) == 0


@pytest.mark.parametrize("body", [b"", b"null", b"[]", b"{", b"\xff", b"\xef\xbb\xbf{}", b"[" * 100_000])
def test_bodies_that_are_no_object_get_422(client: PlainClient, body: bytes) -> None:
    """Whatever is not a JSON object must get 422."""
    headers = {"Content-Type": "application/json", "Authorization": client.basic()}

    assert client.request("POST", "/rest/v1/learning/completions", body=body, headers=headers).status == 422


def test_other_content_types_get_422(client: PlainClient) -> None:
    """A good body under another content type must get 422; parameters of the right type do no harm."""
    path, body = "/rest/v1/learning/completions", json.dumps(COMPLETION)

    def status(content_type: str) -> int:
        headers = {"Content-Type": content_type, "Authorization": client.basic()}
        return client.request("POST", path, body=body, headers=headers).status

    assert status("text/plain") == 422
    assert status("Application/JSON; charset=utf-8") == 201


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2021-01-01T09:00:00Z", True),
        ("2021-01-01t09:00:00.123456789z", True),
        ("2024-02-29T23:59:60-23:59", True),
        ("2021-01-01T09:00:00+00:00", True),
        ("2023-02-29T00:00:00Z", False),
        ("2021-01-01T24:00:00Z", False),
        ("2021-01-01T09:00:00+24:00", False),
        ("2021-01-01T09:00Z", False),
        ("2021-01-01 09:00:00Z", False),
        ("2021-W01-1T09:00:00Z", False),
        ("20210101T090000Z", False),
        ("2021-01-01T09:00:00Z\n", False),
        ("\uff12021-01-01T09:00:00Z", False),
    ],
)
def test_date_times_follow_rfc_3339(text: str, expected: bool) -> None:  # noqa: FBT001 - a table's column
    """Only RFC 3339's date-time counts, with its offset, on a day that exists."""
    assert is_date_time(text) is expected


@pytest.mark.parametrize("status", [422, 404])
def test_unknown_users_and_contents_are_refused(status: int) -> None:
    """Completions for ids that are configured as unknown must get the configured status and a message."""
    with StandIn(unknown_users=["u"], unknown_contents=["c"], unknown_status=status).running() as api:
        client = PlainClient(api)
        answers = [client.complete(userId="u"), client.complete(contentId="c")]
        client.close()

    assert [(a.status, a.json()["message"]) for a in answers] == [
        (status, "there is no such user"),
        (status, "there is no such content"),
    ]


@pytest.mark.parametrize(
    ("ref", "path"), [("E-1", "E-1"), ("a/b c", "a%2Fb%20c"), ("é+", "%C3%A9+"), ("100%", "100%25")]
)
def test_users_are_found_by_decoded_ref(client: PlainClient, ref: str, path: str) -> None:
    """A ref must be percent-decoded once, a plus being a plus."""
    client.api.directory.users[ref] = {"id": "user-1", "email": None}

    answer = client.request("GET", f"/rest/v1/users/ref/{path}", headers={"Authorization": client.basic()})

    assert answer.status == 200
    assert answer.json() == {"id": "user-1", "ref": ref, "email": None}


@pytest.mark.parametrize(("path", "status"), [("nobody", 404), ("%FF", 400), ("", 404), ("a/b", 404)])
def test_refs_without_a_user_are_errors(client: PlainClient, path: str, status: int) -> None:
    """An unknown ref must get 404, one that is not UTF-8 must get 400."""
    answer = client.request("GET", f"/rest/v1/users/ref/{path}", headers={"Authorization": client.basic()})

    assert (answer.status, answer.json()["status"]) == (status, status)


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/", 404),
        ("POST", "/rest/v2/learning/completions", 404),
        ("POST", "/rest/v1/learning/completions/", 404),
        ("PUT", "/rest/v1/learning/completions", 405),
        ("DELETE", "/rest/v1/users/ref/E-1", 405),
        ("GET", "/oauth2/token/t", 405),
    ],
)
def test_what_there_is_not_gets_an_error(client: PlainClient, method: str, path: str, status: int) -> None:
    """Unknown paths must get 404 and wrong methods 405 with `Allow`, both in the Error shape."""
    answer = client.request(method, path)

    assert (answer.status, answer.json()["status"]) == (status, status)
    assert ("Allow" in answer.headers) is (status == 405)


def test_requests_are_recorded_as_sent(client: PlainClient) -> None:
    """Method, target, headers, body, status and connection of each request must be on record, in order."""
    client.token("api/write")
    client.complete(userId="ü")
    client.request("GET", "/rest/v1/users/ref/a%2Fb?x=1")

    token, completion, user = client.api.requests
    assert (token.method, token.path, token.route) == ("POST", f"/oauth2/token/{client.api.tenant_id}", "token")
    assert b"scope=api%2Fwrite" in token.body
    assert json.loads(completion.body)["userId"] == "ü"
    assert completion.headers["content-type"] == "application/json"
    assert (user.path, user.parameter) == ("/rest/v1/users/ref/a%2Fb?x=1", "a%2Fb")
    assert [arrival.status for arrival in client.api.requests] == [200, 201, 401]
    assert token.at <= completion.at <= user.at
    assert token.connection == completion.connection == user.connection
    assert client.api.requests.counts() == {"completion": {"201": 1}, "token": {"200": 1}, "user": {"401": 1}}


def test_old_requests_are_counted_after_they_are_forgotten() -> None:
    """Only the last requests must be kept in full, while the counts cover all of them."""
    log = RequestLog(keep=2)
    for status in (200, 201, 201, None):
        log.add(Arrival("POST", "/", {}, b"", 0.0, 1, "completion", status=status))

    assert [arrival.status for arrival in log] == [201, None]
    assert len(log) == 4
    assert log.counts() == {"completion": {"200": 1, "201": 2, "none": 1}}
    log.clear()
    assert len(log) == 0


def test_completions_above_the_rate_get_429(client: PlainClient) -> None:
    """Above the rate, completions must get 429 with Retry-After and no record, until the limit is lifted."""
    client.api.limit_rate(0.001)

    allowed, refused = client.complete(userId="a"), client.complete(userId="b")

    assert (allowed.status, refused.status) == (201, 429)
    assert 990 <= int(refused.headers["Retry-After"]) <= 1000
    assert len(client.api.ledger) == 1
    client.api.limit_rate(None)
    assert client.complete(userId="b").status == 201


def test_the_rate_limit_fills_up_with_time() -> None:
    """The limiter must let one second's worth pass at once, and afterwards only as much as time brings."""
    now = 0.0
    limiter = RateLimiter(2, lambda: now)

    assert [limiter.wait(), limiter.wait(), limiter.wait()] == [0, 0, 0.5]
    now = 0.5
    assert [limiter.wait(), limiter.wait()] == [0, 0.5]
    now = 100.0
    assert [limiter.wait() for _ in range(3)] == [0, 0, 0.5]


@pytest.mark.parametrize("rate", [0, -1, float("nan"), float("inf")])
def test_impossible_rates_are_refused(rate: float) -> None:
    """A rate that is no positive number must be refused."""
    with pytest.raises(ValueError, match="rate"):
        RateLimiter(rate, lambda: 0.0)


def test_a_body_above_the_limit_gets_413(client: PlainClient) -> None:
    """A body of more than 1 MiB must get 413 in the Error shape."""
    answer = client.complete(userId="x" * 2**20)

    assert (answer.status, answer.json()["status"]) == (413, 413)
