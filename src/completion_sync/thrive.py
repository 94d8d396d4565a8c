"""Thrive's API: sends one request, and interprets the answer."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

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


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer that is Thrive's own: 2xx or 4xx, with a JSON object. ``grant`` authorized its request.

    A list that was asked for is in ``items``.
    """

    status: int
    fields: dict[str, Any]
    grant: Grant
    items: list[Any] = field(default_factory=list)


class ThriveApi:
    """Calls Thrive's API with one scope."""

    def __init__(
        self,
        transport: Transport,
        authorizer: Authorizer,
        scope: str,
        request_timeout: float,
        clock: Clock,
        answered: Callable[[], None],
        count: Callable[[str], None],
        observe_latency: Callable[[float], None],
    ) -> None:
        """Create a client.

        :param scope: for the text of an error.
        :param answered: called for each answer that is Thrive's and no failure of it, and no 429.
        :param count: called with ``Throttles`` and ``AuthFailures``.
        :param observe_latency: called with the milliseconds of each answered call.
        """
        self._transport = transport
        self.authorizer = authorizer
        self._scope = scope
        self._request_timeout = request_timeout
        self._clock = clock
        self._answered = answered
        self._count = count
        self._observe_latency = observe_latency

    def call(self, path: str, deadline: Deadline, body: bytes | None = None, *, expects_list: bool = False) -> Answer:
        """Send one request, and again with renewed authorization after a 401: a POST with a body, a GET without.

        :param expects_list: a 200 is Thrive's only if its body is a JSON array.
        :raises TemporaryError: ``rate_limited`` (429) or ``unavailable`` (408, 425, 5xx, no answer, or one that is not
            Thrive's: a body that is not a JSON object).
        :raises ForbiddenError: 403.
        :raises AccessError: ``unauthorized`` (401 despite renewal) or ``misconfigured`` (1xx, 3xx), or no token.
        :raises OutOfTimeError: there is no time for an attempt.
        """
        grant = self.authorizer.grant(deadline)
        response = self._send(path, body, grant, deadline)
        while response.status == 401:
            self._answered()
            grant = self.authorizer.renew(grant, deadline)
            response = self._send(path, body, grant, deadline)
        return self._interpret(response, grant, expects_list=expects_list)

    def _send(self, path: str, body: bytes | None, grant: Grant, deadline: Deadline) -> Response:
        headers = {"Authorization": grant.header}
        started = self._clock.now()

        def send(timeout: float) -> Response:
            if body is None:
                return self._transport.get(path, headers, timeout)
            return self._transport.post(path, {**headers, "Content-Type": "application/json"}, body, timeout)

        response = attempt_within(deadline, self._request_timeout, send)
        self._observe_latency(elapsed(started, self._clock.now()) * 1000)
        return response

    def _interpret(self, response: Response, grant: Grant, *, expects_list: bool) -> Answer:
        status = response.status
        answer = f"Thrive answered {status}"
        retry_after = parse_retry_after(response.retry_after, self._clock.now())
        if status == 429:
            self._count("Throttles")
            raise TemporaryError("rate_limited", answer, status=status, retry_after=retry_after)
        if status in _UNAVAILABLE_4XX or status >= 500:
            raise TemporaryError("unavailable", answer, status=status, retry_after=retry_after)
        if status == 403:
            self._answered()
            self._count("AuthFailures")
            raise ForbiddenError(f"{answer}: the credentials may lack the scope {self._scope}")
        if status < 200 or 300 <= status < 400:
            raise AccessError("misconfigured", f"{answer}: is the base URL right?", status=status)
        items = response.json_array() if expects_list and status == 200 else []
        fields = {} if expects_list and status == 200 else response.json_object()
        if items is None or fields is None or (status in _GATEWAYS_4XX and fields.get("status") != status):
            # A proxy, a CDN or a maintenance page: it says nothing about what was asked.
            detail = f"{answer}, but the body is not Thrive's"
            raise TemporaryError("unavailable", detail, status=status, retry_after=retry_after)
        self._answered()
        return Answer(status, fields, grant, items)


class ThriveClient:
    """Records completions."""

    def __init__(self, api: ThriveApi) -> None:
        self._api = api

    def record(self, completion: Completion, deadline: Deadline, user_ref: str | None = None) -> Created | Existing:
        """Record one completion.

        Sending it twice is safe: Thrive answers 200 for a record that it has, and the body is the same byte for byte.

        :param user_ref: the reference under which the person was found; Thrive knows it, and may quote it.
        :raises RefusedError: Thrive refuses this completion (400, 404, 422, other 4xx).
        :raises CallError: as :meth:`ThriveApi.call`.
        """
        answer = self._api.call(COMPLETIONS_PATH, deadline, completion.to_json())
        status = answer.status
        redactor = Redactor(answer.grant.reading.credentials, answer.grant.header, user_ref)
        if status == 201:
            return Created(redactor.printable_id(answer.fields.get("statementId")), status)
        # RFC 9110, section 15: an unknown code means what the x00 of its class means, so any other 2xx is a 200.
        # 409: "already exists".
        if status < 300 or status == 409:
            return Existing(redactor.printable_id(answer.fields.get("statementId")), status)
        explanation = redactor.one_line(answer.fields.get("message"))
        text = f"Thrive answered {status}"
        raise RefusedError(f"{text}: {explanation}" if explanation else text, status=status)
