"""Clocks, the age of things, and deadlines."""

import time

import pytest

from completion_sync.clock import Deadline, Instant, SystemClock, elapsed, is_within
from tests.support.fakes import FakeClock

SINCE = Instant(1000.0, 5.0)


@pytest.mark.parametrize(
    ("wall", "monotonic", "seconds"),
    [
        pytest.param(10, 10, 10, id="both clocks agree"),
        pytest.param(7200, 1, 7200, id="frozen: the monotonic clock stood still"),
        pytest.param(-3600, 10, 10, id="the wall clock stepped back"),
        pytest.param(3600, 10, 3600, id="the wall clock stepped forward"),
        pytest.param(0, 0, 0, id="no time passed"),
    ],
)
def test_elapsed_is_the_time_on_the_clock_that_shows_more(wall, monotonic, seconds):
    assert elapsed(SINCE, Instant(SINCE.wall + wall, SINCE.monotonic + monotonic)) == seconds


@pytest.mark.parametrize(
    ("wall", "monotonic", "holds"),
    [
        (0, 0, True),
        (59.999, 59.999, True),
        (0, 59.999, True),
        (60, 60, False),
        (60, 0, False),
        (0, 60, False),
        (-0.001, 0, False),
        (-86_400, 1, False),
    ],
)
def test_something_holds_while_both_clocks_say_so_and_the_wall_clock_has_not_stepped_back(wall, monotonic, holds):
    assert is_within(60.0, SINCE, Instant(SINCE.wall + wall, SINCE.monotonic + monotonic)) is holds


def test_deadline_counts_down_to_zero_by_the_monotonic_clock_alone():
    clock = FakeClock()
    deadline = Deadline(clock, 10)
    assert deadline.remaining() == 10
    clock.advance(4)
    clock.step_wall(-3600)
    assert deadline.remaining() == 6
    clock.step_wall(7200)
    assert deadline.remaining() == 6
    clock.advance(6)
    assert deadline.remaining() == 0
    clock.advance(100)
    assert deadline.remaining() == 0
    assert Deadline(clock, -5).remaining() == 0


def test_system_clock_reads_both_clocks_and_sleeps():
    clock = SystemClock()
    before = Instant(time.time(), time.monotonic())
    now = clock.now()
    after = Instant(time.time(), time.monotonic())
    assert before.wall <= now.wall <= after.wall
    assert before.monotonic <= now.monotonic <= after.monotonic
    clock.sleep(0.01)
    assert clock.now().monotonic - now.monotonic >= 0.01
