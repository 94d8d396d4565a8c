"""Retries within an invocation, the backoff between deliveries, and Retry-After."""

import time
from datetime import UTC, datetime
from email.utils import format_datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from completion_sync.clock import Deadline, Instant
from completion_sync.errors import AccessError, HeldError, OutOfTimeError, RefusedError, TemporaryError
from completion_sync.pressure import MAX_WAIT_SECONDS
from completion_sync.retry import MAX_ATTEMPTS, Backoff, RetryPolicy, parse_retry_after
from tests.support.fakes import FakeClock, far_deadline, pressure

HOUR = 3600.0
TWELVE_HOURS = 43_200
# What SQS still allows at the start of an invocation: twelve hours less five minutes in Lambda's batching window.
LONGEST = TWELVE_HOURS - 300


def lowest(low, _high):
    return low


def halfway(low, high):
    return (low + high) / 2


def highest(_low, high):
    return high


def unavailable(retry_after=None):
    return TemporaryError("unavailable", "Thrive answered 503", status=503, retry_after=retry_after)


def refused_for_now(retry_after=None):
    return TemporaryError("rate_limited", "Thrive answered 429", status=429, retry_after=retry_after)


class Operation:
    """Raises each error of a list, one per call, and then returns ``done``; each call takes ``seconds``."""

    def __init__(self, clock, *errors, seconds=0.0):
        self._clock = clock
        self._errors = list(errors)
        self._seconds = seconds
        self.began = []

    def __call__(self):
        self.began.append(self._clock.now().monotonic)
        self._clock.advance(self._seconds)
        if self._errors:
            raise self._errors.pop(0)
        return "done"


def call(operation, clock, *, uniform=halfway, seconds=1e6, probing=False):
    policy = RetryPolicy(clock, uniform)
    return policy.call(operation, Deadline(clock, seconds), pressure(clock), "subject", probing=probing)


# --- Attempts -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("failures", "sleeps"), [(0, []), (1, [0.15]), (2, [0.15, 0.3])])
def test_failure_is_followed_by_another_attempt_after_a_growing_wait(failures, sleeps):
    clock = FakeClock()
    operation = Operation(clock, *[unavailable() for _ in range(failures)])
    assert call(operation, clock) == "done"
    assert len(operation.began) == failures + 1
    assert clock.sleeps == pytest.approx(sleeps)


def test_third_failure_is_raised_without_another_wait():
    clock = FakeClock()
    errors = [unavailable() for _ in range(5)]
    with pytest.raises(TemporaryError) as caught:
        call(operation := Operation(clock, *errors), clock)
    assert caught.value is errors[2]
    assert (len(operation.began), len(clock.sleeps)) == (MAX_ATTEMPTS, 2) == (3, 2)


@pytest.mark.parametrize("failures", [0, 1])
@pytest.mark.parametrize("error", [RefusedError("no"), AccessError("unauthorized", "no"), OutOfTimeError(), KeyError()])
def test_any_other_error_passes_at_once(error, failures):
    clock = FakeClock()
    operation = Operation(clock, *[unavailable() for _ in range(failures)], error)
    with pytest.raises(type(error)) as caught:
        call(operation, clock)
    assert caught.value is error
    assert len(operation.began) == failures + 1


def test_probe_is_one_attempt():
    clock = FakeClock()
    with pytest.raises(TemporaryError):
        call(operation := Operation(clock, unavailable()), clock, probing=True)
    assert (len(operation.began), clock.sleeps) == (1, [])


def test_jitter_of_a_wait_lies_between_half_and_the_whole():
    bounds = []

    def uniform(low, high):
        bounds.append((low, high))
        return low

    clock = FakeClock()
    call(Operation(clock, unavailable(), unavailable()), clock, uniform=uniform)
    assert bounds == [(0.1, 0.2), (0.2, 0.4)]


def test_waits_are_random_by_default():
    waits = set()
    for _ in range(20):
        clock = FakeClock()
        RetryPolicy(clock).call(Operation(clock, unavailable()), far_deadline(clock), pressure(clock), "subject")
        waits |= set(clock.sleeps)
    assert len(waits) > 1
    assert all(0.1 <= wait <= 0.2 for wait in waits)


@pytest.mark.parametrize(
    ("retry_after", "sleeps"),
    [(None, [0.15]), (0.05, [0.15]), (0.5, [0.5]), (MAX_WAIT_SECONDS, [2.0]), (2.001, None), (30.0, None)],
)
def test_retry_after_of_a_failure_is_waited_for_if_it_is_short(retry_after, sleeps):
    clock = FakeClock()
    operation = Operation(clock, unavailable(retry_after))
    if sleeps is None:
        with pytest.raises(TemporaryError) as caught:
            call(operation, clock)
        assert caught.value.retry_after == retry_after
    else:
        assert call(operation, clock) == "done"
    assert clock.sleeps == pytest.approx(sleeps or [])


@pytest.mark.parametrize("failure", [unavailable, refused_for_now])
@pytest.mark.parametrize(("seconds", "attempts"), [(1.0, 2), (0.5, 2), (0.499, 1), (0.2, 1), (0.0, 1)])
def test_another_attempt_needs_time_for_the_wait_and_for_itself(seconds, attempts, failure):
    clock = FakeClock(monotonic=0.0)
    operation = Operation(clock, failure(0.3))
    if attempts == 2:
        assert call(operation, clock, seconds=seconds) == "done"
    else:
        with pytest.raises(TemporaryError):
            call(operation, clock, seconds=seconds)
    assert len(operation.began) == attempts
    assert clock.sleeps == [0.3] * (attempts - 1)


def test_first_attempt_that_is_held_back_is_not_made():
    clock = FakeClock()
    ours = pressure(clock)
    ours.throttled(clock.now(), 60.0)
    operation = Operation(clock)
    with pytest.raises(HeldError) as caught:
        RetryPolicy(clock).call(operation, far_deadline(clock), ours, "subject")
    assert (caught.value.reason, caught.value.retry_after) == ("rate_limited", 60.0)
    assert operation.began == []


def test_second_attempt_that_is_held_back_leaves_the_first_ones_error_with_the_longer_wait():
    clock = FakeClock()
    error = refused_for_now(60.0)
    with pytest.raises(TemporaryError) as caught:
        call(operation := Operation(clock, error), clock)
    assert caught.value is error
    assert (caught.value.retry_after, len(operation.began)) == (60.0, 1)


@pytest.mark.parametrize(
    ("pause", "retry_after", "seconds", "deferred_for"),
    [(60.0, None, 1e6, 59.9), (2.5, 1.5, 2.0, 1.5)],
    ids=["pause", "Retry-After"],
)
def test_failure_whose_retry_is_held_back_by_a_pause_is_deferred_for_the_longer_of_both(
    pause, retry_after, seconds, deferred_for
):
    clock = FakeClock()
    ours = pressure(clock)

    def fail():
        ours.throttled(clock.now(), pause)  # by another thread
        raise unavailable(retry_after)

    with pytest.raises(TemporaryError) as caught:
        RetryPolicy(clock, lowest).call(fail, Deadline(clock, seconds), ours, "subject")
    assert (caught.value.reason, caught.value.retry_after) == ("unavailable", pytest.approx(deferred_for))


@pytest.mark.parametrize("retry_after", [None, 1.5])
def test_failure_whose_retry_is_held_back_by_an_outage_keeps_its_retry_after(retry_after):
    clock = FakeClock()
    ours = pressure(clock)
    sleep = clock.sleep

    def sleep_until_an_outage(seconds):
        sleep(seconds)
        for subject in ["a", "b", "c"] * 2:
            ours.failed(subject)  # by other threads

    clock.sleep = sleep_until_an_outage
    operation = Operation(clock, error := unavailable(retry_after))
    with pytest.raises(TemporaryError) as caught:
        RetryPolicy(clock).call(operation, far_deadline(clock), ours, "subject")
    assert caught.value is error
    assert (caught.value.retry_after, len(operation.began)) == (retry_after, 1)


def test_429_without_retry_after_is_deferred_for_the_pause_at_least():
    clock = FakeClock()
    with pytest.raises(TemporaryError) as caught:
        call(Operation(clock, *[refused_for_now() for _ in range(3)]), clock)
    assert clock.sleeps == pytest.approx([0.2, 0.4])
    assert caught.value.retry_after == pytest.approx(0.8)


# --- The backoff --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("receive_count", "whole"),
    [(-1, 30), (0, 30), (1, 30), (2, 60), (3, 120), (7, 1920), (8, 3600), (9, 3600), (10**13, 3600)],
)
def test_backoff_doubles_with_each_receive_up_to_the_cap(receive_count, whole):
    assert Backoff(30, 3600, highest).seconds(receive_count) == whole
    assert Backoff(30, 3600, lowest).seconds(receive_count) == whole / 2


def test_backoff_stops_doubling_before_the_power_overflows():
    tiny = Backoff(1e-9, 40_000, highest)
    assert [tiny.seconds(count) for count in (30, 31, 32, 10**13)] == [1, 2, 2, 2]
    assert Backoff(0.001, 40_000, highest).seconds(31) == 40_000


@pytest.mark.parametrize(
    ("backoff", "retry_after", "passed", "seconds"),
    [
        pytest.param((0.1, 3600), None, 0, 1, id="SQS takes whole seconds: rounded up"),
        pytest.param((20, 20), 20.2, 0, 21, id="Retry-After is rounded up too"),
        pytest.param((30, 3600), 10.0, 0, 30, id="a shorter Retry-After changes nothing"),
        pytest.param((30, 3600), 31.0, 0, 31, id="a longer Retry-After wins"),
        pytest.param((30, 60), 600.0, 0, 600, id="even over the cap"),
        pytest.param((30, 3600), 1e9, 0, LONGEST, id="no longer than SQS allows"),
        pytest.param((43_200, 43_200), None, 10.001, LONGEST - 11, id="less what has passed of the twelve hours"),
        pytest.param((43_200, 43_200), None, 100_000, 0, id="nothing is left of them"),
        pytest.param((0, 3600), None, 0, 0, id="no base, no wait"),
    ],
)
def test_seconds_of_a_backoff(backoff, retry_after, passed, seconds):
    assert Backoff(*backoff, highest).seconds(1, retry_after, passed) == seconds


@pytest.mark.parametrize(("age", "seconds"), [(0, 300), (1000, 1000), (100_000, 21_600)])
def test_a_message_for_an_unknown_person_waits_as_long_again_between_five_minutes_and_six_hours(age, seconds):
    assert Backoff(30, 900, highest).for_unknown_person(age) == seconds


def test_backoff_is_random_by_default():
    waits = {Backoff(1000, 1000).seconds(1) for _ in range(50)}
    assert len(waits) > 1
    assert all(500 <= wait <= 1000 for wait in waits)


# --- Retry-After --------------------------------------------------------------------------------------------------

MOMENT = datetime(2026, 10, 21, 7, 28, tzinfo=UTC)
NOW = Instant(MOMENT.timestamp(), 5.0)

READABLE = {
    "1": 1.0,
    "120": 120.0,
    "007": 7.0,
    " 5\t": 5.0,
    "1.5": 1.5,
    "0.25": 0.25,
    "3600": HOUR,
    "3601": HOUR,
    "43200": HOUR,
    "999999999": HOUR,
    "0000000005": HOUR,
    "9" * 5000: HOUR,
    "5." + "9" * 5000: 6.0,
    "Wed, 21 Oct 2026 07:29:40 GMT": 100.0,
    "Wed, 21 Oct 2026 07:28:01 GMT": 1.0,
    "Mon, 21 Oct 2026 07:29:40 GMT": 100.0,
    "Wed, 21 Oct 2026 09:29:40 +0200": 100.0,
    "Wed, 21 Oct 2026 07:29:40 -0000": 100.0,
    "Wed, 21 Oct 2026 07:29:40": 100.0,
    "Wednesday, 21-Oct-26 07:29:40 GMT": 100.0,
    "Wed Oct 21 07:29:40 2026": 100.0,
    "Wed, 21 Oct 2026 08:28:00 GMT": HOUR,
    "Thu, 22 Oct 2026 07:28:00 GMT": HOUR,
    "Fri, 31 Dec 9999 23:59:59 GMT": HOUR,
    "Fri, 31 Dec 9999 23:59:59 -2300": HOUR,
}
UNREADABLE = """
0
0.0
-1
+1
1e3
0x10
1_0
5.
.5
5, 10
5s
inf
nan
\u0665
soon
\x00
2026-10-21T07:29:40Z
Wed, 21 Oct 2026 07:28:00 GMT
Wed, 21 Oct 2026 07:27:59 GMT
Mon, 01 Jan 0001 00:00:00 GMT
Mon, 01 Jan 0001 00:00:00 +2300
Sat, 01 Jan 0000 00:00:00 GMT
Sat, 01 Jan 99999 00:00:00 GMT
Sat, 01 Jan 99999999999 00:00:00 GMT
Wed, 21 Oct 2026 07:28:00 +99999999999999999
Wed, 21 Oct 2026 07:28:00 -9999
Wed, 31 Feb 2026 07:28:00 GMT
Wed, 21 Oct 2026 25:28:00 GMT""".splitlines()


@pytest.mark.parametrize(("value", "seconds"), [*READABLE.items(), *((each, None) for each in [None, *UNREADABLE])])
def test_retry_after_is_seconds_or_a_date_and_at_most_an_hour(value, seconds):
    assert parse_retry_after(value, NOW) == seconds


@pytest.mark.parametrize("zone", ["UTC", "America/New_York", "Asia/Kolkata"])
def test_date_without_a_zone_is_utc_wherever_this_runs(zone, monkeypatch):
    monkeypatch.setenv("TZ", zone)
    time.tzset()
    try:
        assert parse_retry_after("Wed Oct 21 07:29:40 2026", NOW) == 100.0
    finally:
        monkeypatch.undo()
        time.tzset()


def test_date_is_compared_with_the_wall_clock():
    assert parse_retry_after(format_datetime(MOMENT, usegmt=True), Instant(NOW.wall - 0.5, 1e9)) == 0.5


DATE_PARTS = ["Wed,", "21", "Oct", "2026", "07:28:00", "GMT", "-0000", "+9999", "99", ":", "-", "AM", "("]


@given(st.text() | st.text("0123456789.-+ ,:") | st.lists(st.sampled_from(DATE_PARTS)).map(" ".join))
def test_no_retry_after_raises(value):
    seconds = parse_retry_after(value, NOW)
    assert seconds is None or 0 < seconds <= HOUR
