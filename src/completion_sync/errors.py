"""The exceptions of this package.

The modules below :mod:`completion_sync.sync` raise nothing else. ``sync`` makes an outcome of each of them, so an SQS
event raises only :class:`SettingError`. The texts are our own: a library's text may quote a header or a body.
"""

from __future__ import annotations

from typing import Literal, Self

DeferralReason = Literal["rate_limited", "unavailable", "unauthorized", "misconfigured", "unknown_user", "out_of_time"]
RejectionReason = Literal["invalid_message", "refused", "unknown_user", "unknown_content"]


class CompletionSyncError(Exception):
    """The base of all exceptions of this package."""


class SettingError(CompletionSyncError):
    """An environment variable is missing or has a value that is not allowed; the text names it, never its value."""

    def __init__(self, variable: str, allowed: str) -> None:
        super().__init__(f"{variable}: {allowed}")
        self.variable = variable


class InvalidExpressionError(CompletionSyncError):
    """A JMESPath expression cannot be compiled; the text says what is wrong."""


class ConfigError(CompletionSyncError):
    """A configuration file is invalid; the text names the file and the place, and says what is allowed."""


class UnsupportedEventError(CompletionSyncError):
    """The invocation is neither a batch of SQS records nor an EventBridge event."""


class EventNotRecordedError(CompletionSyncError):
    """A direct EventBridge event is neither recorded nor in a queue: Lambda must retry it."""


class InvalidMessageError(CompletionSyncError):
    """A message does not hold a completion; the text names the field and what is allowed, never the value."""


class CallError(CompletionSyncError):
    """A completion was not recorded.

    ``detail`` is for people and holds no secret; ``status`` is the HTTP status, or None if there was none.
    """

    def __init__(self, detail: str, *, status: int | None = None) -> None:
        super().__init__(detail)
        self.detail = detail
        self.status = status

    def copy(self) -> Self:
        """Return an equal error that holds no traceback, to keep it or to raise it elsewhere."""
        twin = type(self).__new__(type(self))
        twin.args = self.args
        twin.__dict__.update(self.__dict__)
        return twin


class RefusedError(CallError):
    """Thrive refuses this completion, and would refuse it again."""


class UnknownContentError(CallError):
    """The content table does not have this code."""


class UnknownUserError(CallError):
    """Thrive does not know this reference, or not yet."""

    def __init__(self) -> None:
        super().__init__("Thrive does not know the person behind userRef", status=404)


class DeferralError(CallError):
    """This completion cannot be recorded now, but perhaps at a later delivery. ``retry_after`` is in seconds."""

    def __init__(
        self,
        reason: DeferralReason,
        detail: str,
        *,
        status: int | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(detail, status=status)
        self.reason: DeferralReason = reason
        self.retry_after = retry_after


class HeldError(DeferralError):
    """No call was made: a pause or an outage holds it back."""


class TemporaryError(DeferralError):
    """This one call failed in a way that may pass: throttled, unavailable, unreadable, lost, timed out."""


class ForbiddenError(DeferralError):
    """Thrive answered 403. Perhaps it forbids this completion only, perhaps the credentials lack the scope."""

    def __init__(self, detail: str) -> None:
        super().__init__("unauthorized", detail, status=403)


class AccessError(DeferralError):
    """No completion can be sent now: no credentials, no token, or a wrong configuration.

    It is not the message's fault, and the rest of the batch would meet the same, so it is deferred without a call.
    """


class OutOfTimeError(DeferralError):
    """Too little time is left before the function's own deadline."""

    def __init__(self, detail: str = "no time was left before the function's deadline") -> None:
        super().__init__("out_of_time", detail)
