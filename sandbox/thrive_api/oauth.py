"""The token endpoint: OAuth 2.0 client credentials (RFC 6749, section 4.4), with either client authentication method.

Errors carry OAuth's error codes in the contract's Error shape.
"""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, unquote, unquote_plus

from sandbox.thrive_api.accounts import SCOPES, TOKEN_SECONDS, Credentials, basic_of
from sandbox.thrive_api.answers import Answer, error, json_answer

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sandbox.thrive_api.accounts import Accounts
    from sandbox.thrive_api.arrivals import Arrival

_FORM_TYPE = "application/x-www-form-urlencoded"
# RFC 6749, section 5.1: answers with tokens must not be cached.
_NOT_CACHED = {"Cache-Control": "no-store"}


class _RefusedError(Exception):
    """Ends a token request; `answer` is the error to send."""

    def __init__(self, status: int, code: str, message: str, headers: Mapping[str, str] = _NOT_CACHED) -> None:
        super().__init__(message)
        self.answer = error(status, message, code=code, headers=headers)


def answer_token_request(arrival: Arrival, accounts: Accounts) -> Answer:
    """Answer a POST to the token endpoint: 200 with a token, or 400 or 401 with the reason."""
    try:
        form = _read_form(arrival)
        _authenticate(arrival, form, accounts)
        scopes = _read_scopes(form)
    except _RefusedError as refused:
        return refused.answer
    payload = {
        "access_token": accounts.issue(scopes),
        "token_type": "Bearer",
        "expires_in": TOKEN_SECONDS,
        "scope": " ".join(sorted(scopes)),
    }
    return json_answer(200, payload, _NOT_CACHED)


def _read_form(arrival: Arrival) -> dict[str, str]:
    if arrival.headers.get("Content-Type", "").partition(";")[0].strip().lower() != _FORM_TYPE:
        raise _RefusedError(400, "invalid_request", f"Content-Type must be {_FORM_TYPE}")
    try:
        pairs = parse_qsl(arrival.body.decode("ascii"), keep_blank_values=True, errors="strict")
    except ValueError:
        raise _RefusedError(400, "invalid_request", "the body is not a URL-encoded form in UTF-8") from None
    # RFC 6749, section 3.2: a parameter without a value counts as omitted, and none may be repeated.
    form = {name: value for name, value in pairs if value}
    if len(dict(pairs)) != len(pairs):
        raise _RefusedError(400, "invalid_request", "a parameter is repeated")
    if "grant_type" not in form:
        raise _RefusedError(400, "invalid_request", "grant_type is missing")
    if form["grant_type"] != "client_credentials":
        raise _RefusedError(400, "unsupported_grant_type", "grant_type must be client_credentials")
    return form


def _authenticate(arrival: Arrival, form: Mapping[str, str], accounts: Accounts) -> None:
    in_header = "Authorization" in arrival.headers
    if in_header and "client_secret" in form:
        # RFC 6749, section 2.3: one authentication method per request.
        raise _RefusedError(400, "invalid_request", "credentials both in the Authorization header and in the body")
    client = (
        _form_decoded(basic_of(arrival.headers))
        if in_header
        else Credentials(form.get("client_id", ""), form.get("client_secret", ""))
    )
    if client is None or not accounts.has_client(unquote(arrival.parameter), client):
        challenge = {"WWW-Authenticate": "Basic"} if in_header else {}
        raise _RefusedError(401, "invalid_client", "unknown tenant or client, or wrong secret", challenge)


def _read_scopes(form: Mapping[str, str]) -> frozenset[str]:
    scopes = frozenset(form.get("scope", "api/all").split(" "))
    if not scopes <= SCOPES:
        raise _RefusedError(400, "invalid_scope", f"scope must be of {', '.join(sorted(SCOPES))}")
    return scopes


def _form_decoded(basic: Credentials | None) -> Credentials | None:
    """Undo the form encoding of both halves (RFC 6749, section 2.3.1); return None if it is malformed."""
    if basic is None:
        return None
    try:
        return Credentials(unquote_plus(basic.name, errors="strict"), unquote_plus(basic.secret, errors="strict"))
    except UnicodeDecodeError:
        return None
