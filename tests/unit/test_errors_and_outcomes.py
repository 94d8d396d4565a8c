"""The error tree and the outcomes."""

from typing import get_args

import pytest

from completion_sync import errors
from completion_sync.errors import (
    AccessError,
    CallError,
    CompletionSyncError,
    ConfigError,
    DeferralError,
    DeferralReason,
    EventNotRecordedError,
    ForbiddenError,
    HeldError,
    InvalidExpressionError,
    InvalidMessageError,
    OutOfTimeError,
    RefusedError,
    RejectionReason,
    SettingError,
    TemporaryError,
    UnknownContentError,
    UnknownUserError,
    UnsupportedEventError,
)
from completion_sync.outcomes import Created, Deferred, Existing, Outcome, Rejected


def test_the_error_tree():
    # Clauses of "except" and "match" rely on it.
    found = {
        thing: thing.__base__
        for thing in vars(errors).values()
        if isinstance(thing, type) and issubclass(thing, Exception)
    }

    assert found == {
        CompletionSyncError: Exception,
        **dict.fromkeys([SettingError, UnsupportedEventError, EventNotRecordedError], CompletionSyncError),
        **dict.fromkeys([InvalidMessageError, CallError, ConfigError, InvalidExpressionError], CompletionSyncError),
        **dict.fromkeys([RefusedError, UnknownUserError, UnknownContentError, DeferralError], CallError),
        **dict.fromkeys([HeldError, TemporaryError, ForbiddenError, AccessError, OutOfTimeError], DeferralError),
    }


@pytest.mark.parametrize(
    ("error", "attributes"),
    [
        (SettingError("X", "is wrong"), {"variable": "X"}),
        (RefusedError("X: is wrong", status=422), {"status": 422}),
        (RefusedError("X: is wrong"), {"status": None}),
        *[
            (
                kind("rate_limited", "X: is wrong", status=429, retry_after=5.0),
                {"reason": "rate_limited", "status": 429, "retry_after": 5.0},
            )
            for kind in (HeldError, TemporaryError, AccessError)
        ],
        (
            TemporaryError("unavailable", "X: is wrong"),
            {"reason": "unavailable", "status": None, "retry_after": None},
        ),
        (ForbiddenError("X: is wrong"), {"reason": "unauthorized", "status": 403, "retry_after": None}),
        (OutOfTimeError("X: is wrong"), {"reason": "out_of_time", "status": None, "retry_after": None}),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_an_error_carries(error, attributes):
    assert str(error) == "X: is wrong"
    assert vars(error) == attributes | ({"detail": "X: is wrong"} if isinstance(error, CallError) else {})


def test_out_of_time_needs_no_words():
    assert OutOfTimeError().detail == "no time was left before the function's deadline"


def test_a_copy_of_an_access_error_is_equal_and_holds_no_traceback():
    with pytest.raises(AccessError) as raised:
        raise AccessError("rate_limited", "no token: answered 429", status=429, retry_after=7.0)
    copy = raised.value.copy()
    assert copy is not raised.value
    assert (type(copy), vars(copy), copy.args) == (AccessError, vars(raised.value), raised.value.args)
    assert copy.__traceback__ is None


@pytest.mark.parametrize(
    ("outcome", "answers"),
    [
        (Created("s-1", 201), ("created", None, "s-1", 201)),
        (Existing(None, 409), ("exists", None, None, 409)),
        (Rejected("refused", "no", 422), ("rejected", "refused", None, 422)),
        (Rejected("invalid_message", "no"), ("rejected", "invalid_message", None, None)),
        (Deferred("rate_limited", "later", 429, 5.0), ("deferred", "rate_limited", None, 429)),
        (Deferred("out_of_time", "later"), ("deferred", "out_of_time", None, None)),
    ],
    ids=lambda value: value.name if isinstance(value, get_args(Outcome)) else "",
)
def test_every_outcome_answers_the_same_questions_and_cannot_be_changed(outcome, answers):
    assert (outcome.name, outcome.reason, outcome.statement_id, outcome.status) == answers
    with pytest.raises((AttributeError, TypeError)):
        outcome.status = 500
    # Identical messages share it.
    assert len({outcome, type(outcome)(*[getattr(outcome, field) for field in outcome.__match_args__])}) == 1


def test_a_deferral_carries_a_wait_if_thrive_named_one():
    assert Deferred("unavailable", "later", 503, 5.0).retry_after == 5.0
    assert Deferred("unavailable", "later").retry_after is None


def test_the_reasons_are_the_documented_ones():
    # Part of the interface: dead-letter attributes, logs and answers carry them.
    assert set(get_args(RejectionReason)) == {"invalid_message", "refused", "unknown_user", "unknown_content"}
    assert set(get_args(DeferralReason)) == {
        "rate_limited",
        "unavailable",
        "unauthorized",
        "misconfigured",
        "unknown_user",
        "out_of_time",
    }
