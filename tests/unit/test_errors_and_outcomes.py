"""The error tree and the four outcomes: small things that everything else leans on."""

from __future__ import annotations

from typing import get_args

import pytest

from completion_sync import errors
from completion_sync.errors import (
    AccessError,
    CallError,
    CompletionSyncError,
    DeferralError,
    DeferralReason,
    EventNotRecordedError,
    InvalidMessageError,
    OutOfTimeError,
    RefusedError,
    RejectionReason,
    SettingError,
    TemporaryError,
    UnsupportedEventError,
)
from completion_sync.outcomes import Created, Deferred, Existing, Outcome, Rejected

PARENTS: dict[type[Exception], type[Exception]] = {
    CompletionSyncError: Exception,
    SettingError: CompletionSyncError,
    UnsupportedEventError: CompletionSyncError,
    EventNotRecordedError: CompletionSyncError,
    InvalidMessageError: CompletionSyncError,
    CallError: CompletionSyncError,
    RefusedError: CallError,
    DeferralError: CallError,
    TemporaryError: DeferralError,
    AccessError: DeferralError,
    OutOfTimeError: DeferralError,
}


class TestErrors:
    """The tree."""

    def test_the_tree_is_this_one(self) -> None:
        """Every error of the package has its one place in the tree, for ``except`` clauses rely on it."""
        found = {
            thing: thing.__base__
            for thing in vars(errors).values()
            if isinstance(thing, type) and issubclass(thing, Exception)
        }

        assert found == PARENTS

    def test_a_setting_error_names_the_variable_first(self) -> None:
        """The text begins with the variable, which can also be asked for."""
        error = SettingError("MAX_CONCURRENCY", "must be a number")

        assert (str(error), error.variable) == ("MAX_CONCURRENCY: must be a number", "MAX_CONCURRENCY")

    @pytest.mark.parametrize("kind", [CallError, RefusedError])
    def test_a_call_error_carries_text_and_status(self, kind: type[CallError]) -> None:
        """The detail is the text; the status is None where none arrived."""
        with_status, without = kind("Thrive answered 422", status=422), kind("no answer")

        assert (str(with_status), with_status.detail, with_status.status) == (
            "Thrive answered 422",
            "Thrive answered 422",
            422,
        )
        assert (without.detail, without.status) == ("no answer", None)

    @pytest.mark.parametrize("kind", [DeferralError, TemporaryError, AccessError])
    def test_a_deferral_carries_its_reason_and_wait(self, kind: type[DeferralError]) -> None:
        """Reason, status and Retry-After are kept; the latter two are None unless given."""
        full = kind("rate_limited", "Thrive answered 429", status=429, retry_after=5.0)
        bare = kind("unavailable", "no answer")

        assert (full.reason, str(full), full.detail, full.status, full.retry_after) == (
            "rate_limited",
            "Thrive answered 429",
            "Thrive answered 429",
            429,
            5.0,
        )
        assert (bare.reason, bare.status, bare.retry_after) == ("unavailable", None, None)

    def test_out_of_time_is_a_deferral_of_its_own_reason(self) -> None:
        """Being out of time needs no further words, and may have them."""
        assert (OutOfTimeError().reason, OutOfTimeError().status, OutOfTimeError().retry_after) == (
            "out_of_time",
            None,
            None,
        )
        assert str(OutOfTimeError()) == "no time was left before the function's deadline"
        assert OutOfTimeError("cut off").detail == "cut off"

    def test_an_access_error_can_be_raised_again(self) -> None:
        """Another thread gets an equal error of its own: a shared one would collect both tracebacks."""
        error = AccessError("rate_limited", "no token: answered 429", status=429, retry_after=7.0)
        with pytest.raises(AccessError):
            raise error

        copy = error.again()

        assert copy is not error
        assert type(copy) is AccessError
        assert vars(copy) == vars(error)
        assert copy.args == error.args
        assert copy.__traceback__ is None


class TestOutcomes:
    """The four ways in which a message ends."""

    @pytest.mark.parametrize(
        ("outcome", "name", "reason", "statement_id", "status"),
        [
            (Created("s-1", 201), "created", None, "s-1", 201),
            (Created(None, 201), "created", None, None, 201),
            (Existing("s-1", 200), "exists", None, "s-1", 200),
            (Existing(None, 409), "exists", None, None, 409),
            (Rejected("refused", "no", 422), "rejected", "refused", None, 422),
            (Rejected("invalid_message", "no"), "rejected", "invalid_message", None, None),
            (Deferred("rate_limited", "later", 429, 5.0), "deferred", "rate_limited", None, 429),
            (Deferred("out_of_time", "later"), "deferred", "out_of_time", None, None),
        ],
        ids=lambda value: value.name if isinstance(value, get_args(Outcome)) else "",
    )
    def test_every_outcome_answers_the_same_questions(
        self, outcome: Outcome, name: str, reason: str | None, statement_id: str | None, status: int | None
    ) -> None:
        """Name, reason, statement id and status can be asked of each without telling them apart."""
        assert (outcome.name, outcome.reason, outcome.statement_id, outcome.status) == (
            name,
            reason,
            statement_id,
            status,
        )

    def test_only_a_deferral_has_a_wait(self) -> None:
        """A wait is None unless Thrive named one."""
        assert Deferred("unavailable", "later").retry_after is None
        assert Deferred("unavailable", "later", 503, 5.0).retry_after == 5.0

    def test_the_reasons_are_those_of_the_documented_table(self) -> None:
        """The vocabulary is part of the interface: dead-letter attributes, logs and answers carry it."""
        assert set(get_args(RejectionReason)) == {"invalid_message", "refused"}
        assert set(get_args(DeferralReason)) == {
            "rate_limited",
            "unavailable",
            "unauthorized",
            "misconfigured",
            "out_of_time",
        }

    @pytest.mark.parametrize(
        "outcome",
        [Created("s", 201), Existing("s", 200), Rejected("refused", "no"), Deferred("unavailable", "later")],
        ids=lambda outcome: outcome.name,
    )
    def test_an_outcome_is_a_value(self, outcome: Outcome) -> None:
        """Equal outcomes are equal, and none can be changed once it is shared between identical messages."""
        with pytest.raises((AttributeError, TypeError)):
            outcome.status = 500  # type: ignore[misc]

        assert len({outcome, type(outcome)(*[getattr(outcome, field) for field in outcome.__match_args__])}) == 1
