"""Thrive's completions API: one completion sent, its answer told in this package's terms."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING
from urllib.parse import unquote

from .errors import AccessError, OutOfTimeError, RefusedError, TemporaryError
from .outcomes import Created, Existing
from .retry import MIN_ATTEMPT_SECONDS, Clock, Deadline, elapsed, parse_retry_after

if TYPE_CHECKING:
    from collections.abc import Callable

    from .authorization import Authorizer, Grant
    from .completion import Completion
    from .transport import Response, Transport

COMPLETIONS_PATH = "/rest/v1/learning/completions"
MAX_STATEMENT_ID_LENGTH = 256
MAX_MESSAGE_LENGTH = 160

_UNAVAILABLE_4XX = frozenset({408, 425})
# What does not show as it stands: control characters, line ends and surrogates, and what shows nothing or turns the
# direction around (U+00AD, U+061C, U+200B to U+200F, U+202A to U+202E, U+2060 to U+206F, U+FEFF).
_NOT_PRINTABLE = re.compile(
    r"[^\x20-\x7e\u00a0-\u00ac\u00ae-\u061b\u061d-\u200a\u2010-\u2027\u202f-\u205f\u2070-\ud7ff\ue000-\ufefe\uff00-\ufffd]+"
)


class ThriveClient:
    """Records completions."""

    def __init__(
        self,
        transport: Transport,
        authorizer: Authorizer,
        request_timeout: float,
        clock: Clock,
        count: Callable[[str], None],
        observe_latency: Callable[[float], None],
    ) -> None:
        """Take the parts.

        :param count: told ``Throttles`` and ``AuthFailures``.
        :param observe_latency: told the milliseconds of each answered call.
        """
        self._transport = transport
        self._authorizer = authorizer
        self._request_timeout = request_timeout
        self._clock = clock
        self._count = count
        self._observe_latency = observe_latency

    def record(self, completion: Completion, deadline: Deadline) -> Created | Existing:
        """Send one completion, replayed after a 401 with renewed authorization.

        It is safe to send twice: Thrive answers 200 for a record that it holds, and the body is the same byte for byte.

        :raises RefusedError: Thrive refuses this message (400, 404, 422, other 4xx).
        :raises TemporaryError: ``rate_limited`` (429) or ``unavailable`` (408, 425, 5xx, no answer).
        :raises AccessError: ``unauthorized`` (401 in spite of renewal, 403) or ``misconfigured`` (1xx, 3xx), or what
            came in the way of a token.
        :raises OutOfTimeError: there is no time for an attempt.
        """
        body = completion.to_json()
        grant = self._authorizer.grant(deadline)
        response = self._send(body, grant, deadline)
        while response.status == 401:
            grant = self._authorizer.renew(grant, deadline)
            response = self._send(body, grant, deadline)
        return self._read(response, grant)

    def _send(self, body: bytes, grant: Grant, deadline: Deadline) -> Response:
        remaining = deadline.remaining()
        if remaining < MIN_ATTEMPT_SECONDS:
            raise OutOfTimeError
        started = self._clock.now()
        headers = {"Authorization": grant.header, "Content-Type": "application/json"}
        try:
            response = self._transport.post(COMPLETIONS_PATH, headers, body, min(self._request_timeout, remaining))
        except TemporaryError:
            # Cut off by our own deadline rather than by the time that an attempt is allowed.
            if deadline.remaining() < MIN_ATTEMPT_SECONDS and remaining < self._request_timeout:
                raise OutOfTimeError("the function's deadline came before the answer") from None
            raise
        self._observe_latency(elapsed(started, self._clock.now()) * 1000)
        return response

    def _read(self, response: Response, grant: Grant) -> Created | Existing:
        status = response.status
        answer = f"Thrive answered {status}"
        if status == 201:
            return Created(_statement_id(response, grant), status)
        # RFC 9110, section 15: an unknown code means what the x00 of its class means, so that any other 2xx is a 200.
        # 409: "already exists".
        if 200 <= status < 300 or status == 409:
            return Existing(_statement_id(response, grant), status)
        if status == 429:
            self._count("Throttles")
            raise TemporaryError("rate_limited", answer, status=status, retry_after=self._retry_after(response))
        if status in _UNAVAILABLE_4XX or status >= 500:
            raise TemporaryError("unavailable", answer, status=status, retry_after=self._retry_after(response))
        if status == 403:
            self._count("AuthFailures")
            raise AccessError("unauthorized", f"{answer}: the credentials lack the scope api/write", status=status)
        if status >= 400:
            raise RefusedError(f"{answer}{_explanation(response, grant)}", status=status)
        raise AccessError("misconfigured", f"{answer}: is the base URL right?", status=status)

    def _retry_after(self, response: Response) -> float | None:
        return parse_retry_after(response.retry_after, self._clock.now())


def _json_field(response: Response, field: str) -> str | None:
    try:
        fields = json.loads(response.body or b"")
    except (ValueError, RecursionError):  # HTML from a proxy, nothing at all
        return None
    value = fields.get(field) if isinstance(fields, dict) else None
    return value if isinstance(value, str) else None


def _statement_id(response: Response, grant: Grant) -> str | None:
    statement_id = _json_field(response, "statementId")
    if not statement_id or len(statement_id) > MAX_STATEMENT_ID_LENGTH or _NOT_PRINTABLE.search(statement_id):
        return None
    # It goes into logs and answers: whatever Thrive puts there, it is neither a credential nor an address.
    return None if "@" in statement_id or _quotes_credentials(statement_id, grant) else statement_id


def _explanation(response: Response, grant: Grant) -> str:
    """Give what Thrive says to people, made harmless: one short line without credentials or e-mail addresses."""
    message = _json_field(response, "message")
    if not message:
        return ""
    words = _NOT_PRINTABLE.sub(" ", message).split()
    if _quotes_credentials(message, grant) or _quotes_credentials(" ".join(words), grant):
        return ""
    harmless = " ".join("[e-mail]" if "@" in word or "%40" in word else word for word in words)
    return f": {harmless[:MAX_MESSAGE_LENGTH]}" if harmless else ""


def _quotes_credentials(text: str, grant: Grant) -> bool:
    """Tell whether an answer repeats what the request or its token's request was authorized with."""
    mine = grant.header.partition(" ")[2]
    return mine in text or mine in unquote(text) or grant.credentials.occur_in(text)
