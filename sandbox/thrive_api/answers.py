"""What the stand-in answers, before anything is put on a socket."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

JSON_TYPE = "application/json"


@dataclass(frozen=True, slots=True)
class Answer:
    """One HTTP answer; `recorded` says that the completion it speaks of stands in the ledger."""

    status: int
    # Token answers carry access tokens.
    body: bytes = field(default=b"", repr=False)
    headers: Mapping[str, str] = field(default_factory=dict)
    recorded: bool = False


def reason_phrase(status: int) -> str:
    """Return the registered phrase of a status, or `Unknown` for an unregistered one."""
    if status == HTTPStatus.UNPROCESSABLE_ENTITY:
        # The contract's word for it; Python 3.13 took up RFC 9110's "Unprocessable Content".
        return "Unprocessable Entity"
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "Unknown"


def json_answer(
    status: int, payload: Any, headers: Mapping[str, str] | None = None, *, recorded: bool = False
) -> Answer:
    """Answer with a JSON document."""
    body = json.dumps(payload, separators=(",", ":")).encode()
    return Answer(status, body, {"Content-Type": JSON_TYPE, **(headers or {})}, recorded)


def error(
    status: int,
    message: str,
    *,
    code: str | None = None,
    headers: Mapping[str, str] | None = None,
    recorded: bool = False,
) -> Answer:
    """Answer in the contract's Error shape; `code` stands in for the status phrase (OAuth's error codes)."""
    payload = {"status": status, "error": code or reason_phrase(status), "message": message}
    return json_answer(status, payload, headers, recorded=recorded)


def may_have_body(status: int) -> bool:
    """Tell whether HTTP gives an answer of this status a body (RFC 9110: not 1xx, 204, 304)."""
    return status >= HTTPStatus.OK and status not in (HTTPStatus.NO_CONTENT, HTTPStatus.NOT_MODIFIED)
