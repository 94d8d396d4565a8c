"""A minimal client for tests of the stand-in: one request, one answer, or urllib3's own exception."""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlencode

import urllib3

if TYPE_CHECKING:
    from sandbox.thrive_api import StandIn

COMPLETION = {"userId": "user-1", "contentId": "content-1", "completedAt": "2021-01-01T09:00:00Z"}


def basic(username: str, password: str) -> str:
    """Return the value of a Basic Authorization header (RFC 7617)."""
    return "Basic " + base64.b64encode(f"{username}:{password}".encode()).decode()


class PlainClient:
    """Calls one stand-in over pooled connections, until it is closed."""

    def __init__(self, api: StandIn, *, timeout: float = 5.0, **pool_options: Any) -> None:
        self.api = api
        self._pool = urllib3.PoolManager(retries=False, timeout=timeout, **pool_options)

    def close(self) -> None:
        self._pool.clear()

    def request(self, method: str, path: str, **options: Any) -> urllib3.BaseHTTPResponse:
        """Send one request; nothing is retried, no redirect is followed."""
        return self._pool.request(method, self.api.url + path, redirect=False, **options)

    def token_answer(self, headers: dict[str, str] | None = None, /, **form: str) -> urllib3.BaseHTTPResponse:
        """POST a form to the token endpoint; `grant_type` is added."""
        return self.request(
            "POST",
            f"/oauth2/token/{quote(self.api.tenant_id, safe='')}",
            body=urlencode({"grant_type": "client_credentials", **form}),
            headers={"Content-Type": "application/x-www-form-urlencoded", **(headers or {})},
        )

    def token(self, scope: str = "") -> str:
        """Obtain an access token for the stand-in's own client."""
        form = {"client_id": self.api.client_id, "client_secret": self.api.client_secret}
        answer = self.token_answer(**form, **({"scope": scope} if scope else {}))
        assert answer.status == 200, answer.data
        token: str = answer.json()["access_token"]
        return token

    def complete(self, authorization: str = "", **members: Any) -> urllib3.BaseHTTPResponse:
        """POST a completion, by default with HTTP Basic; a member that is None is left out."""
        body = {name: value for name, value in {**COMPLETION, **members}.items() if value is not None}
        return self.request(
            "POST",
            "/rest/v1/learning/completions",
            body=json.dumps(body),
            headers={"Content-Type": "application/json", "Authorization": authorization or self.basic()},
        )

    def basic(self) -> str:
        """Return the Authorization header for HTTP Basic on REST calls."""
        return basic(self.api.tenant_id, self.api.client_secret)
