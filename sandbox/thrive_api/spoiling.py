"""Turning a genuine answer into the one a fault wants."""

from __future__ import annotations

import gzip
import json
from dataclasses import replace
from functools import cache
from typing import TYPE_CHECKING

from sandbox.thrive_api.answers import JSON_TYPE, Answer, error, may_have_body

if TYPE_CHECKING:
    from sandbox.thrive_api.faults import Fault, Spoil

# Far more than any client of this API should be ready to hold.
HUGE = 10 * 1024 * 1024

_HTML = b"<!DOCTYPE html><html><head><title>Bad Gateway</title></head><body>the proxy speaks</body></html>"


def spoilt(genuine: Answer | None, fault: Fault) -> Answer:
    """Return the answer to send; `genuine` is None when the request was not handled."""
    answer = genuine or Answer(200)
    if fault.status is not None:
        answer = error(fault.status, "this fault was asked for", recorded=answer.recorded)
    if fault.patch or fault.drop:
        answer = replace(answer, body=_patched(answer.body, fault))
    if fault.body is not None:
        body = fault.body.encode() if isinstance(fault.body, str) else fault.body
        answer = replace(answer, body=body)
    if fault.spoil is not None:
        answer = _with_bad_body(answer, fault.spoil)
    if fault.headers:
        # Header names know no case: one that is given anew must not be sent twice.
        given = {name.lower() for name in fault.headers}
        kept = {name: value for name, value in answer.headers.items() if name.lower() not in given}
        answer = replace(answer, headers={**kept, **fault.headers})
    return answer if may_have_body(answer.status) else replace(answer, body=b"")


def _patched(body: bytes, fault: Fault) -> bytes:
    members = json.loads(body or b"{}")
    kept = {name: value for name, value in members.items() if name not in fault.drop}
    return json.dumps({**kept, **fault.patch}).encode()


def _with_bad_body(answer: Answer, spoil: Spoil) -> Answer:
    body, headers = answer.body, dict(answer.headers)
    match spoil:
        case "empty":
            body = b""
        case "html":
            body = _HTML
            headers["Content-Type"] = "text/html; charset=utf-8"
        case "not_json":
            body = b'{"statementId": '
        case "wrong_type":
            body = b'["statementId", 1]'
        case "huge":
            # Still valid JSON: only a cap, not a parser, saves the client.
            body += b" " * HUGE
        case "gzip":
            body = gzip.compress(body)
            headers["Content-Encoding"] = "gzip"
        case "gzip_bomb":
            body = _bomb()
            headers["Content-Encoding"] = "gzip"
    headers.setdefault("Content-Type", JSON_TYPE)
    return replace(answer, body=body, headers=headers)


@cache
def _bomb() -> bytes:
    return gzip.compress(b" " * HUGE * 10, compresslevel=1)
