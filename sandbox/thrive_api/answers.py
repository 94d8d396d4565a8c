"""HTTP answers as values, before they are written to a socket."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, slots=True)
class Answer:
    """One HTTP answer; `recorded` says that the completion in the request is now in the ledger."""

    status: int
    # Not in the repr: the token endpoint's answers hold access tokens.
    body: bytes = field(default=b"", repr=False)
    headers: Mapping[str, str] = field(default_factory=dict)
    recorded: bool = False


def json_answer(
    status: int, payload: Any, headers: Mapping[str, str] | None = None, *, recorded: bool = False
) -> Answer:
    """Return an answer with a JSON body."""
    body = json.dumps(payload, separators=(",", ":")).encode()
    return Answer(status, body, {"Content-Type": "application/json", **(headers or {})}, recorded)


def error(
    status: int,
    message: str,
    *,
    code: str | None = None,
    headers: Mapping[str, str] | None = None,
    recorded: bool = False,
) -> Answer:
    """Return an answer in the contract's Error shape; `code` replaces the status phrase (for OAuth's error codes)."""
    payload = {"status": status, "error": code or reason_phrase(status), "message": message}
    return json_answer(status, payload, headers, recorded=recorded)


def reason_phrase(status: int) -> str:
    """Return the registered phrase of a status, or `Unknown`."""
    if status == HTTPStatus.UNPROCESSABLE_ENTITY:
        # As in the contract; since Python 3.13 the standard library says "Unprocessable Content" (RFC 9110).
        return "Unprocessable Entity"
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "Unknown"


def may_have_body(status: int) -> bool:
    """Return whether an answer with this status has a body (RFC 9110, section 6.4.1: not 1xx, 204 or 304)."""
    return status >= HTTPStatus.OK and status not in (HTTPStatus.NO_CONTENT, HTTPStatus.NOT_MODIFIED)
