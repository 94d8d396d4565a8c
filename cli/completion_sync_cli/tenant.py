"""Calls Thrive from the operator's machine, with the stack's secret and the function's own rules for calls.

It only reads: people by reference, and the list of completions. Thrive's published pages do not describe that list, so
a tenant may not have it.
"""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlencode

from completion_sync.authorization import Authorizer
from completion_sync.clock import Deadline
from completion_sync.connections import connection_pool
from completion_sync.credentials import CredentialsCache
from completion_sync.errors import CallError, DeferralError, ForbiddenError, InvalidMessageError, UnknownUserError
from completion_sync.people import People
from completion_sync.pressure import Pressure
from completion_sync.retry import RetryPolicy
from completion_sync.thrive import COMPLETIONS_PATH, ThriveApi
from completion_sync.timestamps import utc_timestamp
from completion_sync.tokens import ClientCredentialsFlow, TokenCache
from completion_sync.transport import Transport

from .errors import WRONG, CommandError
from .interrupts import InterruptingClock

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from completion_sync.settings import Settings

    from .context import Operator

T = TypeVar("T")

PER_PAGE = 1000
# A page of a thousand records with their skills, with room to spare.
_MAX_BODY_BYTES = 16 * 1024 * 1024
_REQUEST_SECONDS, _ATTEMPT_SECONDS = 30.0, 60.0
# How long one call is retried while Thrive does not answer.
_PATIENCE_SECONDS = 600.0
_TEMPORARY = frozenset({"rate_limited", "unavailable", "out_of_time"})


@dataclass(frozen=True, slots=True)
class Record:
    """One completion that Thrive holds. ``second`` is ``YYYY-MM-DDTHH:MM:SS`` in UTC, empty if it cannot be read."""

    id: str
    user_id: str
    content_id: str
    completed_at: str

    @property
    def second(self) -> str:
        """The time without fractions of a second: it is not known how precisely Thrive returns it."""
        for text in (self.completed_at, f"{self.completed_at}Z"):
            try:
                return utc_timestamp(text, field="completedAt")[:19]
            except InvalidMessageError:
                continue
        return ""


class Tenant:
    """One tenant of Thrive."""

    def __init__(self, operator: Operator) -> None:
        self._operator, settings = operator, operator.settings
        self._clock = InterruptingClock(operator.clock, operator.stop)
        self._began = self._clock.now()
        self._retry = RetryPolicy(self._clock)
        self._pressure = self._new_pressure("lookups")
        self.calls = 0
        self._pages_are_capped: int | None = None
        api = self._api(settings)
        self._call: Callable[[str, Deadline], Any] = partial(api.call, expects_list=True)
        self._people = People(api, self._retry, self._pressure, 86_400, 1, self._clock, self._count)

    def user_id(self, ref: str) -> str | None:
        """Return the Thrive user id of a reference, None if Thrive does not know it.

        :raises CommandError: Thrive does not answer, or refuses the credentials.
        """
        try:
            return self._patiently(
                lambda probing: self._people.find(ref, self._deadline(), self._began, _permit, probing=probing), ref
            )
        except UnknownUserError:
            return None

    def page(self, query: Mapping[str, str], number: int) -> list[Record]:
        """Return one page (from 1) of the list of completions, empty past the last one.

        :raises CommandError: this tenant has no such list; or as :meth:`user_id`.
        """
        path = f"{COMPLETIONS_PATH}?{urlencode({**query, 'page': number, 'perPage': PER_PAGE})}"

        def call(probing: bool) -> Any:  # noqa: FBT001 - called only by _patiently
            look_up = partial(self._call, path, self._deadline())
            return self._retry.call(look_up, self._deadline(), self._pressure, path, probing=probing)

        self.calls += 1
        answer = self._patiently(call, path)
        if answer.status in {404, 405}:
            text = f"Thrive does not offer its list of completions (it answered {answer.status})."
            raise CommandError(text, "Ask Thrive whether it can be enabled for your tenant.", status=WRONG)
        if answer.status >= 300:
            raise CommandError(f"Thrive answered {answer.status} to the list of completions.", status=WRONG)
        return [record for item in answer.items if (record := _record(item)) is not None]

    def completions(self, query: Mapping[str, str]) -> Iterator[list[Record]]:
        """Yield the pages of the list of completions."""
        number = 1
        while found := self.page(query, number):
            yield found
            # A short page is the last one, unless Thrive caps pages below PER_PAGE. The next page shows which.
            if len(found) < (self._pages_are_capped or PER_PAGE):
                if self._pages_are_capped is not None:
                    return
                following = self.page(query, number + 1)
                self._pages_are_capped = len(found) if following else PER_PAGE
                if not following:
                    return
            number += 1

    def _api(self, settings: Settings) -> ThriveApi:
        pool = partial(connection_pool, settings.public_api, 1, ssl.create_default_context, self._clock)
        transport = Transport(pool, _MAX_BODY_BYTES)
        secrets = CredentialsCache(
            settings.secret_id, lambda: self._operator.aws.secrets, 300, self._clock, self._ignore
        )
        scope = settings.scope if settings.one_scope_suffices else settings.read_scope
        flow = ClientCredentialsFlow(transport, scope, _REQUEST_SECONDS, self._clock, self._ignore)
        tokens = TokenCache(flow, self._retry, self._new_pressure("tokens"), self._clock)
        return ThriveApi(
            transport,
            Authorizer(secrets, tokens, self._ignore),
            scope,
            _REQUEST_SECONDS,
            self._clock,
            self._pressure.answered,
            self._ignore,
            self._ignore,
        )

    def _new_pressure(self, what: str) -> Pressure:
        # There is one call at a time, so one subject is enough for an outage.
        return Pressure(what, self._clock, self._ignore, self._operator.output.say, subjects_of_an_outage=1)

    def _deadline(self) -> Deadline:
        return Deadline(self._clock, _ATTEMPT_SECONDS)

    def _patiently(self, call: Callable[[bool], T], subject: str) -> T:
        """Retry a call for as long as waiting may help.

        :raises CommandError: waiting does not help, or took too long.
        """
        waited = 0.0
        while True:
            probing = self._pressure.is_out and self._pressure.is_probe_due(subject)
            try:
                return call(probing)
            except UnknownUserError:
                raise
            except CallError as error:
                temporary = isinstance(error, DeferralError) and error.reason in _TEMPORARY
                if not temporary or waited > _PATIENCE_SECONDS:
                    raise _explained(error, temporary=temporary) from None
                wait = max(1.0, getattr(error, "retry_after", None) or 0.0)
                waited += wait
                self._clock.sleep(wait)

    def _count(self, _metric: str) -> None:
        self.calls += 1

    @staticmethod
    def _ignore(_value: object) -> None:
        return None


def _explained(error: CallError, *, temporary: bool) -> CommandError:
    if temporary:
        return CommandError(f"{error.detail}.", "See Thrive's status page, and try again.", status=WRONG)
    if isinstance(error, ForbiddenError):
        return CommandError(f"{error.detail}.", "Ask Thrive to grant the client the scope api/read.")
    return CommandError(f"{error.detail}.", "completion-sync check")


def _record(item: Any) -> Record | None:
    if not isinstance(item, dict):
        return None
    values = [item.get(name) for name in ("id", "userId", "contentId", "completedAt")]
    return Record(*map(str, values)) if all(isinstance(value, str) for value in values[1:]) else None


def _permit() -> None:
    """Permit every request: :class:`InterruptingClock` ends the waits between them."""
