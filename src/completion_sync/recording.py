"""Records one completion: resolves its person and content, sends it, and decides what an error means for the others."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from .completion import Completion, Unresolved
from .errors import AccessError, CallError, ForbiddenError, OutOfTimeError, RefusedError, UnknownUserError
from .pressure import MIN_ATTEMPT_SECONDS

if TYPE_CHECKING:
    from collections.abc import Hashable

    from .clock import Deadline, Instant
    from .outcomes import Created, Existing
    from .pressure import Pressure
    from .resolution import Resolver
    from .retry import RetryPolicy

# Thrive's refusals of a completion that may be about its user id.
_ABOUT_THE_USER = frozenset({404, 422})


class Recorder(Protocol):
    """What sends one completion: :class:`completion_sync.thrive.ThriveClient`."""

    def record(self, completion: Completion, deadline: Deadline, user_ref: str | None = None) -> Created | Existing:
        """Record it, or raise a :class:`~completion_sync.errors.CallError`."""
        ...


class Access:
    """Whether one kind of call is still possible in a batch."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._forbidden: set[Hashable] = set()
        self._has_settled = False
        self._halted: AccessError | None = None

    def check(self) -> None:
        """Raise the :class:`AccessError` that makes these calls impossible, if there is one."""
        if self._halted is not None:
            raise self._halted.copy()

    @property
    def is_halted(self) -> bool:
        """Whether these calls have become impossible."""
        return self._halted is not None

    def settled(self) -> None:
        """Note that Thrive has decided about a message."""
        self._has_settled = True

    def failed(self, error: CallError, subject: Hashable) -> None:
        """Note a failed call, which may end these calls for the whole batch; ``subject`` is what it was about."""
        match error:
            case RefusedError() | UnknownUserError():
                self._has_settled = True
            case AccessError():
                self._halted = error.copy()
            case ForbiddenError():
                # One forbidden message must not stop the others; a second one, with nothing settled, shows that the
                # credentials lack the permission. Messages that share a call count as one.
                with self._lock:
                    self._forbidden.add(subject)
                    if len(self._forbidden) > 1 and not self._has_settled:
                        self._halted = AccessError(error.reason, error.detail, status=error.status)


@dataclass(slots=True)
class Task:
    """The work on one message: what it counts as for outages, what it probes, and how far it has come."""

    subject: Hashable
    probing: Pressure | None
    attempts: int = 0
    calls: int = 0
    completion: Completion | None = None


class Recording:
    """Records the completions of one batch. May be called from any thread."""

    def __init__(
        self,
        recorder: Recorder,
        resolver: Resolver,
        retry: RetryPolicy,
        pressure: Pressure,
        deadline: Deadline,
        began: Instant,
    ) -> None:
        """:param pressure: that of completions; the resolver has that of lookups."""
        self.completions = Access()
        self.lookups = Access()
        self._recorder = recorder
        self._resolver = resolver
        self._retry = retry
        self._pressure = pressure
        self._deadline = deadline
        self._began = began
        self._closed = False

    def close(self) -> None:
        """Stop: no further attempt begins."""
        self._closed = True

    def needs_lookup(self, content: Completion | Unresolved) -> bool:
        """Return whether a message names a person who has to be looked up."""
        return isinstance(content, Unresolved) and self._resolver.needs_lookup(content, self._began)

    def record(self, content: Completion | Unresolved, task: Task) -> Created | Existing:
        """Resolve and send what one message holds.

        :raises CallError: a lookup or the completion itself failed.
        :raises InvalidMessageError: what the references stand for makes no valid completion.
        """
        self.completions.check()
        completion = self._resolve(content, task)
        try:
            return self._send(completion, content, task)
        except RefusedError as error:
            # The user id may come from the cache, and be out of date.
            if not isinstance(content, Unresolved) or error.status not in _ABOUT_THE_USER:
                raise
            if not self._resolver.may_have_changed(content, completion, self._began):
                raise
            refusal = error.copy()
        renewed = self._resolve(content, task)
        if renewed == completion:
            raise refusal
        return self._send(renewed, content, task)

    def _resolve(self, content: Completion | Unresolved, task: Task) -> Completion:
        if isinstance(content, Completion):
            task.completion = content
            return content
        is_lookup = self.needs_lookup(content)

        def check() -> None:
            self._raise_if_ended(self.lookups)
            task.calls += 1

        try:
            task.completion = self._resolver.resolve(
                content, self._deadline, self._began, check, probing=task.probing is not None
            )
        except CallError as error:
            if is_lookup:
                self.lookups.failed(error, content.user_ref)
            raise
        if is_lookup:
            self.lookups.settled()
        return task.completion

    def _send(self, completion: Completion, content: Completion | Unresolved, task: Task) -> Created | Existing:
        user_ref = content.user_ref if isinstance(content, Unresolved) else None

        def attempt() -> Created | Existing:
            # Again before each attempt: the batch may have ended while this one waited.
            self._raise_if_ended(self.completions)
            task.attempts += 1
            task.calls += 1
            return self._recorder.record(completion, self._deadline, user_ref)

        probing = task.probing is self._pressure
        try:
            self._raise_if_ended(self.completions)
            outcome = self._retry.call(attempt, self._deadline, self._pressure, task.subject, probing=probing)
            self.completions.settled()
        except CallError as error:
            self.completions.failed(error, completion)
            raise
        return outcome

    def _raise_if_ended(self, access: Access) -> None:
        access.check()
        if self._closed or self._deadline.remaining() < MIN_ATTEMPT_SECONDS:
            raise OutOfTimeError
