"""The error tree: what can go wrong, in the words of this package.

Functions below :mod:`completion_sync.sync` raise from this tree and nothing else; ``sync`` turns each error into an
outcome, so that nothing is raised for an SQS event but :class:`SettingError`. The texts are ours: never a library's own
text, which may quote a header or a body.
"""

from __future__ import annotations

from typing import Literal

DeferralReason = Literal["rate_limited", "unavailable", "unauthorized", "misconfigured", "out_of_time"]
RejectionReason = Literal["invalid_message", "refused"]


class CompletionSyncError(Exception):
    """The root of the tree."""


class SettingError(CompletionSyncError):
    """An environment variable is missing or has a value that is not allowed; the text names it, never its value."""

    def __init__(self, variable: str, allowed: str) -> None:
        super().__init__(f"{variable}: {allowed}")
        self.variable = variable


class UnsupportedEventError(CompletionSyncError):
    """The invocation is neither a batch of SQS records nor an EventBridge event."""


class EventNotRecordedError(CompletionSyncError):
    """A direct EventBridge event is neither recorded nor handed to a queue: Lambda must try it again."""


class InvalidMessageError(CompletionSyncError):
    """A message holds no completion; the text names the field and what is allowed, never the value."""


class CallError(CompletionSyncError):
    """A call did not end in a record.

    ``detail`` is for people and holds no secret; ``status`` is the HTTP status, or None where none arrived.
    """

    def __init__(self, detail: str, *, status: int | None = None) -> None:
        super().__init__(detail)
        self.detail = detail
        self.status = status


class RefusedError(CallError):
    """Thrive refuses this message, and would refuse it again."""


class DeferralError(CallError):
    """This message cannot be recorded now; a later delivery may be. ``retry_after`` is in seconds."""

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


class TemporaryError(DeferralError):
    """This one call failed in a way that may pass: throttled, unavailable, unreadable, lost, timed out."""


class AccessError(DeferralError):
    """No message at all can be sent now: no credentials, no token, no permission, or a wrong set-up.

    It is not the message's fault, and the rest of the batch would meet the same: it is deferred without a call.
    """

    def again(self) -> AccessError:
        """Make an equal error, to be kept or raised elsewhere: this one holds a traceback, with all its frames."""
        return AccessError(self.reason, self.detail, status=self.status, retry_after=self.retry_after)


class OutOfTimeError(DeferralError):
    """Too little time is left before the function's own deadline."""

    def __init__(self, detail: str = "no time was left before the function's deadline") -> None:
        super().__init__("out_of_time", detail)
