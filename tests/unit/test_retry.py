"""Time: deadlines, retries within an invocation, the backoff between deliveries, and Retry-After."""

from __future__ import annotations

import math
import time
from datetime import UTC, datetime
from email.utils import format_datetime
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from completion_sync import retry
from completion_sync.clock import Deadline, Instant, SystemClock, elapsed, is_within
from completion_sync.errors import AccessError, OutOfTimeError, RefusedError, TemporaryError
from completion_sync.pressure import MAX_WAIT_SECONDS, MIN_ATTEMPT_SECONDS
from completion_sync.retry import MAX_ATTEMPTS, MAX_VISIBILITY_SECONDS, Backoff, RetryPolicy, parse_retry_after
from tests.support.fakes import FakeClock, far_deadline

if TYPE_CHECKING:
    from collections.abc import Callable

# Wednesday, 21 October 2026, 07:28:00 UTC
MOMENT = datetime(2026, 10, 21, 7, 28, tzinfo=UTC)
NOW = Instant(MOMENT.timestamp(), 5.0)
TWELVE_HOURS = 43_200.0

RETRY_AFTER: dict[str, tuple[str | None, float | None]] = {
    "absent": (None, None),
    "empty": ("", None),
    "white-space": (" ", None),
    "zero": ("0", None),
    "zero-with-decimals": ("0.0", None),
    "one-second": ("1", 1.0),
    "two-minutes": ("120", 120.0),
    "leading-zeros": ("007", 7.0),
    "white-space-around": (" 5\t", 5.0),
    "decimals": ("1.5", 1.5),
    "less-than-a-second": ("0.25", 0.25),
    "twelve-hours": ("43200", TWELVE_HOURS),
    "more-than-twelve-hours": ("43201", TWELVE_HOURS),
    "nine-digits": ("999999999", TWELVE_HOURS),
    "ten-digits": ("1000000000", TWELVE_HOURS),
    "ten-digits-with-leading-zeros": ("0000000005", TWELVE_HOURS),
    "five-thousand-digits": ("9" * 5000, TWELVE_HOURS),
    "five-thousand-decimals": ("5." + "9" * 5000, 6.0),
    "negative": ("-1", None),
    "signed": ("+1", None),
    "exponent": ("1e3", None),
    "hexadecimal": ("0x10", None),
    "underscore": ("1_0", None),
    "trailing-point": ("5.", None),
    "leading-point": (".5", None),
    "two-values": ("5, 10", None),
    "unit": ("5s", None),
    "infinity": ("inf", None),
    "not-a-number": ("nan", None),
    "arabic-indic-digit": ("\u0665", None),
    "junk": ("soon", None),
    "NUL": ("\x00", None),
    "imf-fixdate": ("Wed, 21 Oct 2026 07:29:40 GMT", 100.0),
    "date-of-now": ("Wed, 21 Oct 2026 07:28:00 GMT", None),
    "date-of-the-past": ("Wed, 21 Oct 2026 07:27:59 GMT", None),
    "date-one-second-away": ("Wed, 21 Oct 2026 07:28:01 GMT", 1.0),
    "date-with-the-wrong-weekday": ("Mon, 21 Oct 2026 07:29:40 GMT", 100.0),
    "date-with-offset": ("Wed, 21 Oct 2026 09:29:40 +0200", 100.0),
    "date-of-unknown-zone": ("Wed, 21 Oct 2026 07:29:40 -0000", 100.0),
    "date-without-zone": ("Wed, 21 Oct 2026 07:29:40", 100.0),
    "rfc-850-date": ("Wednesday, 21-Oct-26 07:29:40 GMT", 100.0),
    "asctime-date": ("Wed Oct 21 07:29:40 2026", 100.0),
    "date-twelve-hours-away": ("Wed, 21 Oct 2026 19:28:00 GMT", TWELVE_HOURS),
    "date-a-day-away": ("Thu, 22 Oct 2026 07:28:00 GMT", TWELVE_HOURS),
    "date-of-the-year-9999": ("Fri, 31 Dec 9999 23:59:59 GMT", TWELVE_HOURS),
    "date-of-the-year-1": ("Mon, 01 Jan 0001 00:00:00 GMT", None),
    "date-of-the-year-0": ("Sat, 01 Jan 0000 00:00:00 GMT", None),
    "date-beyond-the-years": ("Sat, 01 Jan 99999 00:00:00 GMT", None),
    "date-beyond-the-machine's-integers": ("Sat, 01 Jan 99999999999 00:00:00 GMT", None),
    "offset-beyond-the-machine's-integers": ("Wed, 21 Oct 2026 07:28:00 +99999999999999999", None),
    "date-at-the-first-moment-with-offset": ("Mon, 01 Jan 0001 00:00:00 +2300", None),
    "date-at-the-last-moment-with-offset": ("Fri, 31 Dec 9999 23:59:59 -2300", TWELVE_HOURS),
    "date-that-is-none": ("Wed, 31 Feb 2026 07:28:00 GMT", None),
    "date-at-25-o-clock": ("Wed, 21 Oct 2026 25:28:00 GMT", None),
    "date-with-an-offset-beyond-a-day": ("Wed, 21 Oct 2026 07:28:00 -9999", None),
    "iso-date": ("2026-10-21T07:29:40Z", None),
}


def halfway(low: float, high: float) -> float:
    """Stand in for a random number between two bounds."""
    return (low + high) / 2


def lowest(low: float, _high: float) -> float:
    """Stand in for the smallest random number."""
    return low


def highest(_low: float, high: float) -> float:
    """Stand in for the largest random number."""
    return high


def temporary(retry_after: float | None = None) -> TemporaryError:
    """Give an error that is worth another attempt."""
    return TemporaryError("unavailable", "Thrive answered 503", status=503, retry_after=retry_after)


class Operation:
    """Raises the errors of a list, one a call, and then returns ``done``."""

    def __init__(self, *errors: Exception, tick: Callable[[], None] = lambda: None) -> None:
        self._errors = list(errors)
        self._tick = tick
        self.calls = 0

    def __call__(self) -> str:
        """Run once."""
        self.calls += 1
        self._tick()
        if self._errors:
            raise self._errors.pop(0)
        return "done"


class TestElapsed:
    """``elapsed``: the clock that says more is right."""

    @pytest.mark.parametrize(
        ("wall", "monotonic", "expected"),
        [(10, 10, 10), (7200, 1, 7200), (-3600, 10, 10), (0, 10, 10), (10, 0, 10), (3600, 10, 3600), (0, 0, 0)],
        ids=["both", "frozen", "wall-stepped-back", "wall-stands", "monotonic-stands", "wall-stepped-on", "none"],
    )
    def test_the_clock_that_says_more_counts(self, wall: float, monotonic: float, expected: float) -> None:
        """Whichever clock stood still or stepped back, the other one tells how much time passed."""
        assert elapsed(Instant(1e9, 5.0), Instant(1e9 + wall, 5.0 + monotonic)) == expected


class TestIsWithin:
    """``is_within``: how long a failure is remembered."""

    @pytest.mark.parametrize(
        ("wall", "monotonic", "expected"),
        [
            (0, 0, True),
            (59.999999, 59.999999, True),
            (60, 60, False),
            (60, 0, False),
            (0, 60, False),
            (0, 59.999999, True),
            (-0.000001, 0, False),
            (-86_400, 1, False),
            (86_400, 86_400, False),
        ],
        ids=[
            "at-once",
            "just-within",
            "at-its-end",
            "end-by-the-wall-clock",
            "end-by-the-monotonic-clock",
            "wall-stands",
            "wall-stepped-back-a-little",
            "wall-stepped-back",
            "long-over",
        ],
    )
    def test_a_failure_is_remembered_only_while_both_clocks_say_so(
        self, wall: float, monotonic: float, *, expected: bool
    ) -> None:
        """It ends on either clock, and at once where the wall clock has stepped back behind it."""
        since = Instant(1000.0, 5.0)

        assert is_within(60.0, since, Instant(1000.0 + wall, 5.0 + monotonic)) is expected


class TestSystemClock:
    """The machine's clocks."""

    def test_it_reads_both_clocks(self) -> None:
        """Each half of a moment comes from its own clock."""
        before = (time.time(), time.monotonic())
        now = SystemClock().now()
        after = (time.time(), time.monotonic())

        assert before[0] <= now.wall <= after[0]
        assert before[1] <= now.monotonic <= after[1]

    def test_it_sleeps(self) -> None:
        """Sleeping lets at least that much time pass."""
        clock = SystemClock()
        before = clock.now()

        clock.sleep(0.01)

        assert clock.now().monotonic - before.monotonic >= 0.01


class TestDeadline:
    """``Deadline``."""

    def test_it_counts_down_to_zero_and_stays_there(self) -> None:
        """What remains shrinks as time passes, and is never negative."""
        clock = FakeClock()
        deadline = Deadline(clock, 10)

        assert deadline.remaining() == 10
        clock.advance(4)
        assert deadline.remaining() == 6
        clock.advance(6)
        assert deadline.remaining() == 0
        clock.advance(100)
        assert deadline.remaining() == 0

    def test_a_deadline_of_the_past_has_nothing_left(self) -> None:
        """A deadline that had passed when it was made has nothing left."""
        assert Deadline(FakeClock(), -5).remaining() == 0

    def test_it_is_told_by_the_monotonic_clock_alone(self) -> None:
        """Steps of the wall clock within an invocation change nothing."""
        clock = FakeClock()
        deadline = Deadline(clock, 10)

        clock.step_wall(-3600)
        assert deadline.remaining() == 10
        clock.step_wall(7200)
        assert deadline.remaining() == 10


class TestRetryPolicy:
    """``RetryPolicy``."""

    @pytest.mark.parametrize(("failures", "sleeps"), [(0, []), (1, [0.15]), (2, [0.15, 0.3])])
    def test_it_tries_again_until_it_works(self, failures: int, sleeps: list[float]) -> None:
        """Up to two failures are followed by another attempt, each after twice the wait."""
        clock = FakeClock()
        operation = Operation(*[temporary() for _ in range(failures)])

        assert RetryPolicy(clock, halfway).call(operation, far_deadline(clock)) == "done"

        assert operation.calls == failures + 1
        assert clock.sleeps == pytest.approx(sleeps)

    def test_it_gives_up_after_three_attempts(self) -> None:
        """The third failure is raised as it is, without a further wait."""
        clock = FakeClock()
        errors = [temporary() for _ in range(MAX_ATTEMPTS)]
        operation = Operation(*errors)

        with pytest.raises(TemporaryError) as raised:
            RetryPolicy(clock, halfway).call(operation, far_deadline(clock))

        assert raised.value is errors[-1]
        assert (operation.calls, len(clock.sleeps)) == (3, 2)

    @pytest.mark.parametrize(
        "error",
        [RefusedError("no", status=422), AccessError("unauthorized", "no"), OutOfTimeError(), KeyError("defect")],
        ids=["refused", "access", "out-of-time", "defect"],
    )
    def test_any_other_error_passes_at_once(self, error: Exception) -> None:
        """What another attempt would not change is raised by the first."""
        clock = FakeClock()
        operation = Operation(error)

        with pytest.raises(type(error)) as raised:
            RetryPolicy(clock).call(operation, far_deadline(clock))

        assert raised.value is error
        assert (operation.calls, clock.sleeps) == (1, [])

    def test_another_error_passes_on_the_second_attempt_too(self) -> None:
        """A temporary failure does not hide what comes after it."""
        clock = FakeClock()
        operation = Operation(temporary(), RefusedError("no", status=422))

        with pytest.raises(RefusedError):
            RetryPolicy(clock, halfway).call(operation, far_deadline(clock))

        assert operation.calls == 2

    def test_the_jitter_lies_between_half_and_whole(self) -> None:
        """The wait before attempt two is 0.1 to 0.2 s, before attempt three 0.2 to 0.4 s."""
        bounds: list[tuple[float, float]] = []

        def uniform(low: float, high: float) -> float:
            bounds.append((low, high))
            return low

        clock = FakeClock()
        RetryPolicy(clock, uniform).call(Operation(temporary(), temporary()), far_deadline(clock))

        assert bounds == [(0.1, 0.2), (0.2, 0.4)]

    def test_the_random_number_is_used_by_default(self) -> None:
        """Without a stand-in the waits are random, within the same bounds."""
        waits: set[float] = set()
        for _ in range(20):
            clock = FakeClock()
            RetryPolicy(clock).call(Operation(temporary(), temporary()), far_deadline(clock))
            first, second = clock.sleeps
            assert 0.1 <= first <= 0.2 <= second <= 0.4
            waits.add(first)

        assert len(waits) > 1

    @pytest.mark.parametrize(
        ("retry_after", "sleeps"),
        [(None, [0.15]), (0.05, [0.15]), (0.5, [0.5]), (MAX_WAIT_SECONDS, [MAX_WAIT_SECONDS])],
        ids=["none", "shorter", "longer", "longest"],
    )
    def test_an_affordable_retry_after_is_waited_for(self, retry_after: float | None, sleeps: list[float]) -> None:
        """A longer Retry-After wins over our own wait, as long as it can be afforded."""
        clock = FakeClock()

        RetryPolicy(clock, halfway).call(Operation(temporary(retry_after)), far_deadline(clock))

        assert clock.sleeps == pytest.approx(sleeps)

    @pytest.mark.parametrize("retry_after", [2.000001, 30.0, TWELVE_HOURS])
    def test_a_long_retry_after_ends_the_attempts(self, retry_after: float) -> None:
        """Waiting in Lambda costs money: a longer wait is left to the queue."""
        clock = FakeClock()
        operation = Operation(temporary(retry_after))

        with pytest.raises(TemporaryError):
            RetryPolicy(clock, halfway).call(operation, far_deadline(clock))

        assert (operation.calls, clock.sleeps) == (1, [])

    @pytest.mark.parametrize(
        ("seconds", "calls"),
        [(0.5, 2), (0.499999, 1), (MIN_ATTEMPT_SECONDS, 1), (0, 1), (1.0, 2)],
        ids=["just-enough", "just-too-little", "enough-for-an-attempt-alone", "nothing-left", "more-than-enough"],
    )
    def test_it_never_waits_beyond_the_deadline(self, seconds: float, calls: int) -> None:
        """There is another attempt only if the wait and the shortest attempt fit before the deadline."""
        clock = FakeClock()
        operation = Operation(temporary(retry_after=0.3))
        deadline = Deadline(clock, seconds)

        if calls == 1:
            with pytest.raises(TemporaryError):
                RetryPolicy(clock, lowest).call(operation, deadline)
        else:
            RetryPolicy(clock, lowest).call(operation, deadline)

        assert operation.calls == calls
        assert clock.sleeps == [0.3] * (calls - 1)

    @given(
        seconds=st.floats(0, 10),
        waits=st.lists(st.none() | st.floats(0.001, 5), min_size=3, max_size=3),
        slow=st.floats(0, 3),
        fraction=st.floats(0, 1),
    )
    def test_its_bounds_hold_always(
        self, seconds: float, waits: list[float | None], slow: float, fraction: float
    ) -> None:
        """At most three attempts, none begun with less than its minimum, no wait above the maximum or the deadline."""
        clock = FakeClock(monotonic=0.0)
        deadline = Deadline(clock, seconds)
        left: list[float] = []

        def tick() -> None:
            left.append(deadline.remaining())
            clock.advance(slow)

        operation = Operation(*[temporary(wait) for wait in waits], tick=tick)
        policy = RetryPolicy(clock, lambda low, high: low + (high - low) * fraction)

        with pytest.raises(TemporaryError):
            policy.call(operation, deadline)

        assert operation.calls == len(clock.sleeps) + 1 <= MAX_ATTEMPTS
        assert all(wait <= MAX_WAIT_SECONDS for wait in clock.sleeps)
        assert all(remaining >= MIN_ATTEMPT_SECONDS - 1e-9 for remaining in left[1:])


class TestBackoff:
    """``Backoff``."""

    @pytest.mark.parametrize(
        ("receive_count", "whole"),
        [(1, 30), (2, 60), (3, 120), (4, 240), (5, 480), (6, 960), (7, 1920), (8, 3600), (9, 3600), (10**13, 3600)],
    )
    def test_it_doubles_up_to_the_cap(self, receive_count: int, whole: int) -> None:
        """The backoff doubles with each receive until the cap, and jitter lies between half and whole."""
        assert Backoff(30, 3600, highest).seconds(receive_count) == whole
        assert Backoff(30, 3600, lowest).seconds(receive_count) == whole / 2

    @pytest.mark.parametrize("receive_count", [0, -1])
    def test_an_odd_receive_count_is_a_first_one(self, receive_count: int) -> None:
        """What SQS never sends is treated as the first receive."""
        assert Backoff(30, 3600, highest).seconds(receive_count) == 30

    def test_a_high_receive_count_does_not_overflow(self) -> None:
        """A tiny base still reaches the cap, and no receive count is too high to compute with."""
        assert Backoff(0.001, 40_000, highest).seconds(31) == 40_000
        assert Backoff(0.001, 40_000, highest).seconds(99_999_999_999_999) == 40_000

    def test_the_exponent_is_bounded_at_thirty(self) -> None:
        """Beyond thirty doublings the backoff grows no more."""
        tiny = Backoff(1e-9, 40_000, highest)

        assert tiny.seconds(30) == 1
        assert tiny.seconds(31) == 2
        assert tiny.seconds(32) == 2

    def test_it_is_rounded_up(self) -> None:
        """SQS takes whole seconds: a fraction is a second more, never one too few."""
        assert Backoff(0.1, 3600, highest).seconds(1) == 1
        assert Backoff(30, 3600, lowest).seconds(1, retry_after=20.2) == 21

    @pytest.mark.parametrize(
        ("retry_after", "expected"),
        [(None, 30), (10.0, 30), (31.0, 31), (5000.0, 5000), (42_900.0, 42_900), (TWELVE_HOURS, 42_900)],
        ids=["none", "shorter", "longer", "longer-than-the-cap", "longest", "too-long"],
    )
    def test_a_longer_retry_after_wins(self, retry_after: float | None, expected: int) -> None:
        """Retry-After counts beyond the cap too, as far as SQS allows: 12 h less five minutes of batching."""
        assert Backoff(30, 3600, highest).seconds(1, retry_after) == expected

    @pytest.mark.parametrize(
        ("passed", "expected"),
        [(0.0, 42_900), (0.1, 42_899), (10.0, 42_890), (10.001, 42_889), (42_900.0, 0), (100_000.0, 0)],
    )
    def test_what_has_passed_is_taken_off(self, passed: float, expected: int) -> None:
        """SQS counts twelve hours from the receive: what the invocation has used is no longer there."""
        assert Backoff(30, 43_200, highest).seconds(30, TWELVE_HOURS, passed) == expected

    def test_no_backoff_is_no_wait(self) -> None:
        """A base of zero makes the message visible at once."""
        assert Backoff(0, 3600).seconds(5) == 0

    def test_the_random_number_is_used_by_default(self) -> None:
        """Without a stand-in the jitter spreads messages over the whole range."""
        waits = {Backoff(1000, 1000).seconds(1) for _ in range(50)}

        assert len(waits) > 1
        assert all(500 <= wait <= 1000 for wait in waits)

    @given(
        base=st.floats(0, 43_200),
        cap=st.floats(0, 43_200),
        receive_count=st.integers(-5, 10**14),
        retry_after=st.none() | st.floats(0, TWELVE_HOURS),
        passed=st.floats(0, 900),
    )
    def test_its_bounds_hold_always(
        self, base: float, cap: float, receive_count: int, retry_after: float | None, passed: float
    ) -> None:
        """The wait is a whole number, from half the formula to the whole or Retry-After, and SQS accepts it."""
        wait = Backoff(base, cap).seconds(receive_count, retry_after, passed)

        exact = min(cap, base * 2.0 ** min(max(receive_count, 1) - 1, 100))
        allowed = MAX_VISIBILITY_SECONDS - 300 - passed
        assert type(wait) is int
        assert 0 <= wait <= MAX_VISIBILITY_SECONDS
        assert wait <= math.ceil(max(exact, retry_after or 0))
        if receive_count <= 31:
            assert wait >= min(exact / 2, allowed - 1)
        assert wait >= min(retry_after or 0, allowed - 1)


class TestRetryAfter:
    """``parse_retry_after``."""

    @pytest.mark.parametrize(("value", "expected"), RETRY_AFTER.values(), ids=RETRY_AFTER)
    def test_it_is_read_tolerantly(self, value: str | None, expected: float | None) -> None:
        """Seconds, decimals and every form of an HTTP date are read; what says nothing is None."""
        assert parse_retry_after(value, NOW) == expected

    @pytest.mark.parametrize("zone", ["UTC", "America/New_York", "Asia/Kolkata"])
    def test_a_date_without_a_zone_is_utc_wherever_this_runs(self, zone: str, monkeypatch: pytest.MonkeyPatch) -> None:
        """The machine's own time zone plays no part."""
        monkeypatch.setenv("TZ", zone)
        time.tzset()
        try:
            assert parse_retry_after("Wed Oct 21 07:29:40 2026", NOW) == 100.0
        finally:
            monkeypatch.undo()
            time.tzset()

    def test_the_wall_clock_judges_a_date(self) -> None:
        """A date is compared with the wall clock, fractions included."""
        assert parse_retry_after(format_datetime(MOMENT, usegmt=True), Instant(NOW.wall - 0.5, 1e9)) == 0.5

    @given(
        st.text()
        | st.text("0123456789.-+ ,:")
        | st.lists(
            st.sampled_from(
                ["Wed,", "21", "Oct", "2026", "07:28:00", "GMT", "-0000", "+9999", "99", ":", "-", "AM", "("]
            )
        ).map(" ".join)
    )
    def test_no_value_raises(self, value: str) -> None:
        """Any header at all is None or a wait of up to twelve hours."""
        seconds = parse_retry_after(value, NOW)

        assert seconds is None or 0 < seconds <= TWELVE_HOURS

    @given(st.integers(0, 10**12))
    def test_any_whole_number_is_read(self, value: int) -> None:
        """A number of seconds is what it says, up to twelve hours."""
        assert parse_retry_after(str(value), NOW) == (min(float(value), TWELVE_HOURS) if value else None)


def test_the_bounds_are_the_documented_ones() -> None:
    """Three attempts and two seconds within an invocation, twelve hours in SQS, as the design says."""
    assert (retry.MAX_ATTEMPTS, retry.MAX_WAIT_SECONDS, retry.MAX_VISIBILITY_SECONDS) == (3, 2.0, 43_200)
