"""The token endpoint: OAuth 2.0 client credentials (RFC 6749, 4.4), by either client authentication method.

Errors carry OAuth's error codes inside the contract's Error shape.
"""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, unquote

from sandbox.thrive_api.accounts import SCOPES
from sandbox.thrive_api.answers import Answer, error, json_answer
from sandbox.thrive_api.authentication import Basic, basic_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sandbox.thrive_api.accounts import Accounts
    from sandbox.thrive_api.arrivals import Arrival

_FORM_TYPE = "application/x-www-form-urlencoded"
# RFC 6749, 5.1: no cache may keep an answer that holds a token.
_NOT_CACHED = {"Cache-Control": "no-store"}


class _RefusedError(Exception):
    """Ends the handling of a token request with an error answer."""

    def __init__(self, answer: Answer) -> None:
        super().__init__()
        self.answer = answer


def answer_token_request(arrival: Arrival, accounts: Accounts) -> Answer:
    """Answer a POST to the token endpoint: 200 with a token, 400 or 401 with the reason."""
    try:
        form = _read_form(arrival)
        _check_grant_type(form)
        tenant_id = unquote(arrival.parameter)
        _authenticate(arrival.headers, form, tenant_id, accounts)
        scopes = _read_scopes(form)
    except _RefusedError as refused:
        return refused.answer
    payload = {
        "access_token": accounts.issue(tenant_id, scopes),
        "token_type": "Bearer",
        "expires_in": accounts.token_lifetime,
        "scope": " ".join(sorted(scopes)),
    }
    return json_answer(200, payload, _NOT_CACHED)


def _bad_request(code: str, message: str) -> _RefusedError:
    return _RefusedError(error(400, message, code=code, headers=_NOT_CACHED))


def _read_form(arrival: Arrival) -> dict[str, str]:
    if arrival.headers.get("Content-Type", "").partition(";")[0].strip().lower() != _FORM_TYPE:
        raise _bad_request("invalid_request", f"Content-Type must be {_FORM_TYPE}")
    try:
        pairs = parse_qsl(arrival.body.decode("ascii"), keep_blank_values=True, errors="strict")
    except ValueError:
        raise _bad_request("invalid_request", "the body is not a URL-encoded form in UTF-8") from None
    form = dict(pairs)
    if len(form) != len(pairs):
        # RFC 6749, 3.2: parameters must not be included more than once.
        raise _bad_request("invalid_request", "a field is given more than once")
    # RFC 6749, 3.2: a parameter without a value is as good as omitted.
    return {name: value for name, value in form.items() if value}


def _check_grant_type(form: Mapping[str, str]) -> None:
    grant_type = form.get("grant_type")
    if grant_type is None:
        raise _bad_request("invalid_request", "grant_type is missing")
    if grant_type != "client_credentials":
        raise _bad_request("unsupported_grant_type", "grant_type must be client_credentials")


def _authenticate(headers: Mapping[str, str], form: Mapping[str, str], tenant_id: str, accounts: Accounts) -> None:
    in_header = "Authorization" in headers
    if in_header and "client_secret" in form:
        # RFC 6749, 2.3: one authentication method in each request.
        raise _bad_request("invalid_request", "credentials both in the Authorization header and in the body")
    client = _client_in_header(headers) if in_header else _client_in_form(form)
    if client is None or not accounts.knows_client(tenant_id, client.username, client.password):
        challenge = {"WWW-Authenticate": "Basic"} if in_header else {}
        message = "unknown tenant or client, or wrong secret"
        raise _RefusedError(error(401, message, code="invalid_client", headers=challenge))


def _read_scopes(form: Mapping[str, str]) -> frozenset[str]:
    scopes = frozenset(form.get("scope", "api/all").split(" "))
    if not scopes <= SCOPES:
        raise _bad_request("invalid_scope", f"scope must be of {', '.join(sorted(SCOPES))}")
    return scopes


def _client_in_header(headers: Mapping[str, str]) -> Basic | None:
    basic = basic_of(headers)
    return basic.form_decoded() if basic else None


def _client_in_form(form: Mapping[str, str]) -> Basic | None:
    client_id, secret = form.get("client_id"), form.get("client_secret")
    return Basic(client_id, secret) if client_id and secret else None
