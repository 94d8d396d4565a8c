"""The check of requests against Thrive's OpenAPI file finds what the file does not describe."""

from __future__ import annotations

import pytest

from tests.support.contract import assert_request_matches_contract

COMPLETIONS = "/rest/v1/learning/completions"
TOKEN = "/oauth2/token/eu-west-2_AbcdEfghI"
GOOD = b'{"userId":"u","contentId":"c","completedAt":"2021-01-01T09:00:00.000Z"}'
JSON = {"Content-Type": "application/json", "Authorization": "Bearer token"}
FORM = {"Content-Type": "application/x-www-form-urlencoded"}


@pytest.mark.parametrize(
    ("method", "path", "headers", "body"),
    [
        ("POST", COMPLETIONS, JSON, GOOD),
        ("POST", COMPLETIONS, {**JSON, "Authorization": "Basic dTpw"}, GOOD),
        ("POST", COMPLETIONS, {name.lower(): value for name, value in JSON.items()}, GOOD),
        ("POST", TOKEN, FORM, b"grant_type=client_credentials&client_id=c&client_secret=s&scope=api%2Fwrite"),
        ("POST", TOKEN, {**FORM, "Authorization": "Basic dTpw"}, b"grant_type=client_credentials"),
        ("GET", "/rest/v1/users/ref/a%2Fb%C3%A9", {"Authorization": "Bearer token"}, b""),
        ("GET", f"{COMPLETIONS}?userId=u&page=2&perPage=1000", {"Authorization": "Bearer token"}, b""),
    ],
)
def test_requests_of_the_contract_pass(method: str, path: str, headers: dict[str, str], body: bytes) -> None:
    assert_request_matches_contract(method, path, headers, body)


@pytest.mark.parametrize(
    ("method", "path", "headers", "body", "reason"),
    [
        ("POST", "/rest/v2/learning/completions", JSON, GOOD, "PathNotFound"),
        ("POST", "/rest/v1/users/ref/a/b", JSON, b"", "PathNotFound"),
        ("PUT", COMPLETIONS, JSON, GOOD, "OperationNotFound"),
        ("POST", COMPLETIONS, {"Content-Type": "application/json"}, GOOD, "credentials"),
        ("POST", COMPLETIONS, {**JSON, "Content-Type": "text/plain"}, GOOD, "MediaTypeNotFound"),
        ("POST", COMPLETIONS, JSON, b"", "MissingRequiredRequestBody"),
        ("POST", COMPLETIONS, JSON, b"{", "MediaTypeDeserializeError"),
        ("POST", COMPLETIONS, JSON, b"[]", "'type'"),
        ("POST", COMPLETIONS, JSON, GOOD.replace(b"userId", b"user"), "'required'"),
        ("POST", COMPLETIONS, JSON, GOOD.replace(b'"u"', b'""'), "userId breaks 'minLength'"),
        ("POST", COMPLETIONS, JSON, GOOD.replace(b'"c"', b"7"), "contentId breaks 'type'"),
        ("POST", COMPLETIONS, JSON, GOOD.replace(b"Z", b""), "completedAt breaks 'format'"),
        ("POST", TOKEN, FORM, b"grant_type=password", "grant_type breaks 'const'"),
        ("GET", f"{COMPLETIONS}?page=0", JSON, b"", "minimum"),
        ("GET", f"{COMPLETIONS}?perPage=1001", JSON, b"", "maximum"),
        ("GET", "/rest/v1/users/ref/", {"Authorization": "Bearer token"}, b"", "'minLength'"),
    ],
)
def test_all_other_requests_are_refused(
    method: str, path: str, headers: dict[str, str], body: bytes, reason: str
) -> None:
    with pytest.raises(AssertionError, match=reason):
        assert_request_matches_contract(method, path, headers, body)


def test_a_refusal_shows_no_values() -> None:
    headers = {**JSON, "Authorization": "Bearer canary-token"}

    with pytest.raises(AssertionError) as refused:
        assert_request_matches_contract("POST", COMPLETIONS, headers, GOOD.replace(b'"u"', b'["canary-user"]'))

    assert "canary" not in str(refused.value)
