"""Reading `Authorization` headers, and deciding who may do what on the REST calls."""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import unquote_plus

from sandbox.thrive_api.answers import Answer, error

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sandbox.thrive_api.accounts import Accounts


@dataclass(frozen=True, slots=True)
class Basic:
    """User name and password of an HTTP Basic header (RFC 7617)."""

    username: str
    password: str = field(repr=False)

    def form_decoded(self) -> Basic | None:
        """Undo the form-encoding that OAuth puts on both halves (RFC 6749, 2.3.1); None if it is malformed."""
        try:
            return Basic(
                unquote_plus(self.username, errors="strict"),
                unquote_plus(self.password, errors="strict"),
            )
        except UnicodeDecodeError:
            return None


def _split(headers: Mapping[str, str]) -> tuple[str, str]:
    scheme, _, value = headers.get("Authorization", "").partition(" ")
    return scheme.lower(), value.strip()


def basic_of(headers: Mapping[str, str]) -> Basic | None:
    """Return the Basic credentials of a request, or None when there are none or they are malformed."""
    scheme, value = _split(headers)
    if scheme != "basic":
        return None
    try:
        username, colon, password = base64.b64decode(value, validate=True).decode().partition(":")
    except (binascii.Error, ValueError):
        return None
    return Basic(username, password) if colon else None


def bearer_of(headers: Mapping[str, str]) -> str | None:
    """Return the bearer token of a request (RFC 6750), or None when there is none."""
    scheme, value = _split(headers)
    return value if scheme == "bearer" and value else None


def refusal(headers: Mapping[str, str], accounts: Accounts, scope: str) -> Answer | None:
    """Return None when the request may use `scope`, else the 401 or 403 to answer.

    HTTP Basic (tenant id and API secret) knows no scopes: it may do everything.
    """
    token = bearer_of(headers)
    if token is not None:
        grant = accounts.grant_of(token)
        if grant is None:
            challenge = {"WWW-Authenticate": 'Bearer error="invalid_token"'}
            return error(401, "the access token is unknown, expired or revoked", headers=challenge)
        return None if grant.allows(scope) else error(403, f"the access token lacks the scope {scope}")
    basic = basic_of(headers)
    if basic is not None and accounts.knows_api_secret(basic.username, basic.password):
        return None
    return error(401, "a bearer token or HTTP Basic credentials are needed", headers={"WWW-Authenticate": "Bearer"})
