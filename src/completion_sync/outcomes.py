"""The outcomes of a message, and which error leads to which."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from .errors import (
    CompletionSyncError,
    DeferralError,
    InvalidMessageError,
    RefusedError,
    UnknownContentError,
    UnknownUserError,
)

if TYPE_CHECKING:
    from .errors import DeferralReason, RejectionReason


@dataclass(frozen=True, slots=True)
class Created:
    """Thrive created a record. ``statement_id`` is None if the answer has no usable one."""

    statement_id: str | None
    status: int
    name: ClassVar[str] = "created"
    reason: ClassVar[None] = None


@dataclass(frozen=True, slots=True)
class Existing:
    """Thrive has the record already."""

    statement_id: str | None
    status: int
    name: ClassVar[str] = "exists"
    reason: ClassVar[None] = None


@dataclass(frozen=True, slots=True)
class Ignored:
    """The mapping says that the message is no completion: it is deleted."""

    name: ClassVar[str] = "ignored"
    reason: ClassVar[None] = None
    status: ClassVar[None] = None
    statement_id: ClassVar[None] = None


@dataclass(frozen=True, slots=True)
class Rejected:
    """The message can never be recorded as it is: it belongs in the dead-letter queue, with the reason."""

    reason: RejectionReason
    detail: str
    status: int | None = None
    name: ClassVar[str] = "rejected"
    statement_id: ClassVar[None] = None


@dataclass(frozen=True, slots=True)
class Deferred:
    """The message must be delivered again later: no sooner than in ``retry_after`` seconds, if Thrive said so."""

    reason: DeferralReason
    detail: str
    status: int | None = None
    retry_after: float | None = None
    name: ClassVar[str] = "deferred"
    statement_id: ClassVar[None] = None


Outcome = Created | Existing | Ignored | Rejected | Deferred


def outcome_of(error: CompletionSyncError) -> Rejected | Deferred:
    """Return the outcome that docs/outcomes.md gives for an error of ours."""
    match error:
        case InvalidMessageError():
            return Rejected("invalid_message", str(error))
        case RefusedError():
            return Rejected("refused", error.detail, error.status)
        case UnknownContentError():
            return Rejected("unknown_content", error.detail)
        case UnknownUserError():
            return Deferred("unknown_user", error.detail, error.status)
        case DeferralError():
            return Deferred(error.reason, error.detail, error.status, error.retry_after)
        case _:
            raise TypeError(f"{type(error).__name__} has no outcome")
