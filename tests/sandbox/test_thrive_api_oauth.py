"""The stand-in's token endpoint, and what its tokens allow."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import quote_plus

import pytest

from sandbox.thrive_api import StandIn
from sandbox.thrive_api.accounts import Accounts, Client
from sandbox.thrive_api.authentication import Basic
from tests.support.plain_client import PlainClient, basic

if TYPE_CHECKING:
    from collections.abc import Iterator

    import urllib3

HARD = "a+b%41:c d/é=&\"'"


@pytest.fixture
def hard_client() -> Iterator[PlainClient]:
    """Yield a client of a stand-in whose client id and secret hold every character that encodings trip over."""
    with StandIn(client_id="id " + HARD, client_secret="secret " + HARD).running() as api:
        plain = PlainClient(api)
        yield plain
        plain.close()


def refused(answer: urllib3.BaseHTTPResponse) -> tuple[int, str]:
    """Return status and error code of an answer in the contract's Error shape."""
    payload = answer.json()
    assert payload["status"] == answer.status
    assert isinstance(payload["message"], str)
    return answer.status, payload["error"]


def test_form_credentials_with_hard_characters_obtain_a_token(hard_client: PlainClient) -> None:
    """Credentials in the form body must survive form-encoding, whatever they are made of."""
    api = hard_client.api

    answer = hard_client.token_answer(client_id=api.client_id, client_secret=api.client_secret)

    assert answer.status == 200
    payload = answer.json()
    assert payload["token_type"] == "Bearer"
    assert payload["expires_in"] == 3600
    assert payload["scope"] == "api/all"
    assert hard_client.complete(f"Bearer {payload['access_token']}").status == 201


def test_basic_credentials_with_hard_characters_obtain_a_token(hard_client: PlainClient) -> None:
    """Both halves of HTTP Basic must be form-decoded at the token endpoint (RFC 6749, 2.3.1)."""
    api = hard_client.api
    header = basic(quote_plus(api.client_id), quote_plus(api.client_secret))

    assert hard_client.token_answer({"Authorization": header}).status == 200


def test_basic_credentials_that_are_not_form_encoded_are_refused(hard_client: PlainClient) -> None:
    """A client that skips the form-encoding must be caught, not humoured."""
    api = hard_client.api

    answer = hard_client.token_answer({"Authorization": basic(api.client_id, api.client_secret)})

    assert refused(answer) == (401, "invalid_client")
    assert answer.headers["WWW-Authenticate"] == "Basic"


def test_basic_on_rest_calls_is_not_form_decoded(hard_client: PlainClient) -> None:
    """HTTP Basic on REST calls is plain RFC 7617: tenant id and API secret as they are."""
    api = hard_client.api

    assert hard_client.complete(basic(api.tenant_id, api.client_secret)).status == 201
    assert hard_client.complete(basic(api.tenant_id, quote_plus(api.client_secret))).status == 401
    assert hard_client.complete(basic(api.client_id, api.client_secret)).status == 401


@pytest.mark.parametrize(
    ("form", "expected"),
    [
        ({"grant_type": "password"}, (400, "unsupported_grant_type")),
        ({"grant_type": ""}, (400, "invalid_request")),
        ({"client_secret": "wrong"}, (401, "invalid_client")),
        ({"client_id": "wrong"}, (401, "invalid_client")),
        ({"client_secret": ""}, (401, "invalid_client")),
        ({"scope": "api/nothing"}, (400, "invalid_scope")),
        ({"scope": "api/write,api/read"}, (400, "invalid_scope")),
    ],
)
def test_bad_forms_are_refused(client: PlainClient, form: dict[str, str], expected: tuple[int, str]) -> None:
    """Each thing that can be wrong with a form must have its status and its OAuth error code."""
    good = {"client_id": client.api.client_id, "client_secret": client.api.client_secret}

    assert refused(client.token_answer(**{**good, **form})) == expected


def test_repeated_fields_and_other_content_types_are_refused(client: PlainClient) -> None:
    """A field given twice, or a form that does not say it is one, must get 400."""
    path = f"/oauth2/token/{client.api.tenant_id}"
    twice = "grant_type=client_credentials&grant_type=client_credentials"
    form_type = {"Content-Type": "application/x-www-form-urlencoded"}

    assert refused(client.request("POST", path, body=twice, headers=form_type)) == (400, "invalid_request")
    assert refused(client.request("POST", path, body=b"\xff=\xff", headers=form_type)) == (400, "invalid_request")
    assert refused(client.request("POST", path, body="{}", headers={"Content-Type": "application/json"})) == (
        400,
        "invalid_request",
    )


def test_two_authentication_methods_at_once_are_refused(client: PlainClient) -> None:
    """Credentials in the header and in the body of one request must get 400 (RFC 6749, 2.3)."""
    api = client.api
    header = {"Authorization": basic(api.client_id, api.client_secret)}

    answer = client.token_answer(header, client_id=api.client_id, client_secret=api.client_secret)

    assert refused(answer) == (400, "invalid_request")


@pytest.mark.parametrize("header", ["Basic", "Basic !!!", "Basic YQ==", "Basic /w==", "Bearer x", "Digest x"])
def test_malformed_authorization_headers_are_refused(client: PlainClient, header: str) -> None:
    """A header that holds no Basic credentials must get 401 from the token endpoint and from REST calls."""
    assert refused(client.token_answer({"Authorization": header})) == (401, "invalid_client")
    assert refused(client.complete(header)) == (401, "Unauthorized")


def test_other_tenants_are_unknown(client: PlainClient) -> None:
    """Good credentials must be worth nothing at another tenant's endpoint."""
    form = f"grant_type=client_credentials&client_id={client.api.client_id}&client_secret={client.api.client_secret}"

    answer = client.request(
        "POST",
        "/oauth2/token/eu-west-2_Another",
        body=form,
        headers={"Content-Type": "application/x-www-form-urlencoded"},
    )

    assert refused(answer) == (401, "invalid_client")


@pytest.mark.parametrize(
    ("scope", "completion", "user"),
    [
        ("", 201, 200),
        ("api/all", 201, 200),
        ("api/write", 201, 403),
        ("api/read", 403, 200),
        ("api/webhooks", 403, 403),
        ("api/read api/write", 201, 200),
    ],
)
def test_scopes_open_and_close_calls(client: PlainClient, scope: str, completion: int, user: int) -> None:
    """A token must allow what its scopes cover and nothing else."""
    client.api.directory.users["E-1"] = {"id": "user-1"}
    bearer = f"Bearer {client.token(scope)}"

    assert client.complete(bearer).status == completion
    assert client.request("GET", "/rest/v1/users/ref/E-1", headers={"Authorization": bearer}).status == user


def test_rotated_credentials_replace_the_old_ones(client: PlainClient) -> None:
    """After a rotation the old secret must be refused, the new one and the old tokens accepted."""
    api = client.api
    old_token = client.token()
    old_basic = client.basic()

    api.accept_credentials((api.client_id, "new"))

    assert client.token_answer(client_id=api.client_id, client_secret=api.client_secret).status == 401
    assert client.token_answer(client_id=api.client_id, client_secret="new").status == 200
    assert client.complete(old_basic).status == 401
    assert client.complete(basic(api.tenant_id, "new")).status == 201
    assert client.complete(f"Bearer {old_token}").status == 200


def test_revoked_tokens_are_refused(client: PlainClient) -> None:
    """After all tokens were revoked, an old one must get 401 and a new one must work."""
    old = client.token()
    assert client.complete(f"Bearer {old}").status == 201

    client.api.revoke_all_tokens()

    assert refused(client.complete(f"Bearer {old}")) == (401, "Unauthorized")
    assert client.complete(f"Bearer {client.token()}").status == 200


def test_tokens_expire_after_their_lifetime() -> None:
    """A token must be good until its lifetime is over, and bad from that moment on."""
    now = 100.0
    accounts = Accounts(token_lifetime=60, clock=lambda: now)
    token = accounts.issue("tenant", frozenset({"api/write"}))

    now = 159.999
    assert accounts.grant_of(token) is not None
    now = 160.0
    assert accounts.grant_of(token) is None


def test_no_secret_is_in_a_repr(client: PlainClient) -> None:
    """Objects that hold secrets must not show them: a failing test prints its values."""
    token = client.token()
    client.complete(f"Bearer {token}")

    shown = repr((client.api, list(client.api.requests), Client("id", "canary"), Basic("user", "canary")))

    assert "canary" not in shown
    assert token not in shown
    assert client.api.client_secret not in shown
