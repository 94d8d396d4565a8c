"""Thrive's completions API: sends one completion and interprets the answer."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .clock import Clock, Deadline, elapsed
from .errors import AccessError, ForbiddenError, RefusedError, TemporaryError
from .outcomes import Created, Existing
from .redaction import Redactor
from .retry import attempt_within, parse_retry_after

if TYPE_CHECKING:
    from collections.abc import Callable

    from .authorization import Authorizer, Grant
    from .completion import Completion
    from .transport import Response, Transport

COMPLETIONS_PATH = "/rest/v1/learning/completions"

_UNAVAILABLE_4XX = frozenset({408, 425})
# A gateway answers these itself, in JSON too: they are Thrive's only if the body repeats the status.
_GATEWAYS_4XX = frozenset({404, 405, 410})


class ThriveClient:
    """Records completions."""

    def __init__(
        self,
        transport: Transport,
        authorizer: Authorizer,
        request_timeout: float,
        clock: Clock,
        answered: Callable[[], None],
        count: Callable[[str], None],
        observe_latency: Callable[[float], None],
    ) -> None:
        """Create a client.

        :param answered: called for each answer that is Thrive's, and not a failure of it.
        :param count: called with ``Throttles`` and ``AuthFailures``.
        :param observe_latency: called with the milliseconds of each answered call.
        """
        self._transport = transport
        self._authorizer = authorizer
        self._request_timeout = request_timeout
        self._clock = clock
        self._answered = answered
        self._count = count
        self._observe_latency = observe_latency

    def record(self, completion: Completion, deadline: Deadline) -> Created | Existing:
        """Send one completion, and again with renewed authorization after a 401.

        Sending it twice is safe: Thrive answers 200 for a record that it has, and the body is the same byte for byte.

        :raises RefusedError: Thrive refuses this completion (400, 404, 422, other 4xx).
        :raises TemporaryError: ``rate_limited`` (429) or ``unavailable`` (408, 425, 5xx, no answer, or one that is not
            Thrive's: a body that is not a JSON object).
        :raises ForbiddenError: 403.
        :raises AccessError: ``unauthorized`` (401 despite renewal) or ``misconfigured`` (1xx, 3xx), or no token.
        :raises OutOfTimeError: there is no time for an attempt.
        """
        body = completion.to_json()
        grant = self._authorizer.grant(deadline)
        response = self._send(body, grant, deadline)
        while response.status == 401:
            self._answered()
            grant = self._authorizer.renew(grant, deadline)
            response = self._send(body, grant, deadline)
        return self._interpret(response, grant)

    def _send(self, body: bytes, grant: Grant, deadline: Deadline) -> Response:
        headers = {"Authorization": grant.header, "Content-Type": "application/json"}
        started = self._clock.now()
        response = attempt_within(
            deadline,
            self._request_timeout,
            lambda timeout: self._transport.post(COMPLETIONS_PATH, headers, body, timeout),
        )
        self._observe_latency(elapsed(started, self._clock.now()) * 1000)
        return response

    def _interpret(self, response: Response, grant: Grant) -> Created | Existing:
        status = response.status
        answer = f"Thrive answered {status}"
        if status == 429:
            self._count("Throttles")
            raise TemporaryError("rate_limited", answer, status=status, retry_after=self._retry_after(response))
        if status in _UNAVAILABLE_4XX or status >= 500:
            raise TemporaryError("unavailable", answer, status=status, retry_after=self._retry_after(response))
        if status == 403:
            self._answered()
            self._count("AuthFailures")
            raise ForbiddenError(f"{answer}: the credentials may lack the scope api/write")
        if status < 200 or 300 <= status < 400:
            raise AccessError("misconfigured", f"{answer}: is the base URL right?", status=status)
        fields = response.json_object()
        if fields is None or (status in _GATEWAYS_4XX and fields.get("status") != status):
            # A proxy, a CDN or a maintenance page: it says nothing about the completion.
            detail = f"{answer}, but the body is not Thrive's"
            raise TemporaryError("unavailable", detail, status=status, retry_after=self._retry_after(response))
        self._answered()
        redactor = Redactor(grant.reading.credentials, grant.header)
        if status == 201:
            return Created(redactor.printable_id(fields.get("statementId")), status)
        # RFC 9110, section 15: an unknown code means what the x00 of its class means, so any other 2xx is a 200.
        # 409: "already exists".
        if status < 300 or status == 409:
            return Existing(redactor.printable_id(fields.get("statementId")), status)
        explanation = redactor.one_line(fields.get("message"))
        raise RefusedError(f"{answer}: {explanation}" if explanation else answer, status=status)

    def _retry_after(self, response: Response) -> float | None:
        return parse_retry_after(response.retry_after, self._clock.now())
