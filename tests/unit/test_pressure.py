"""How an execution environment behaves under pressure. Each test is a sentence about throttling, outages or probes.

Most of them send batches through :class:`~completion_sync.sync.CompletionSync` to a Thrive on a virtual clock, one
message at a time, and look at the calls that arrived and at the outcomes.
"""

import tracemalloc
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from itertools import count, pairwise

import pytest

from completion_sync.clock import Deadline
from completion_sync.errors import (
    AccessError,
    ForbiddenError,
    HeldError,
    OutOfTimeError,
    RefusedError,
    TemporaryError,
)
from completion_sync.events import Message
from completion_sync.outcomes import Created, Deferred
from tests.support.fakes import QUEUE_ARN, Counts, FakeClock, completion, far_deadline, pressure, sync_of

UP = "up"
DOWN = "down"  # answers 503
SILENT = "silent"  # accepts the connection and never answers
FLAKY = "flaky"  # answers 500 to every second request
REFUSING = "refusing"
FORBIDDING = "forbidding"


class Thrive:
    """Answers by ``state``, or by ``states[user]``: as above, with 429 and that Retry-After (0: none), or by raising.

    ``calls`` holds when each call arrived, in seconds since the start, and the user of its completion.
    """

    def __init__(self, clock, pressure):
        self._clock = clock
        self._pressure = pressure
        self._start = clock.now().wall
        self._numbers = count()
        self.state = UP
        self.states = {}
        self.calls = []

    @property
    def users(self):
        return " ".join(user for _, user in self.calls)

    def record(self, wanted, _deadline, _user_ref=None):
        self.calls.append((round(self._clock.now().wall - self._start, 3), wanted.user_id))
        match self.states.get(wanted.user_id, self.state):
            case "down":
                raise TemporaryError("unavailable", "Thrive answered 503", status=503)
            case "silent":
                self._clock.advance(10)
                raise TemporaryError("unavailable", "no answer in time")
            case "refusing":
                self._pressure.answered()
                raise RefusedError("Thrive answered 422", status=422)
            case "forbidding":
                self._pressure.answered()
                raise ForbiddenError("Thrive answered 403")
            case "flaky" if next(self._numbers) % 2:
                raise TemporaryError("unavailable", "Thrive answered 500", status=500)
            case Exception() as error:
                raise error
            case float(retry_after):
                raise TemporaryError("rate_limited", "Thrive answered 429", status=429, retry_after=retry_after or None)
        self._pressure.answered()
        return Created("statement", 201)


class OneByOne(Executor):
    """Runs what is submitted at once, in the submitting thread."""

    def submit(self, work, /, *arguments, **options):
        future = Future()
        future.set_result(work(*arguments, **options))
        return future


class Environment:
    """One execution environment with its Thrive."""

    def __init__(self, state=UP):
        self.clock = FakeClock()
        self.counts = Counts()
        self.log = []
        self.pressure = pressure(self.clock, count=self.counts, announce=self.log.append)
        self.thrive = Thrive(self.clock, self.pressure)
        self.thrive.state = state
        self.executor = OneByOne()

    def invoke(self, users, *, seconds=54.0, fifo=False):
        """Invoke it with messages of these users; ``a:3`` was received three times, a FIFO group is a user's letter."""
        sync = sync_of(self.thrive, self.pressure, lambda: self.executor, self.clock, counts=self.counts)
        messages = [message(word, fifo=fifo) for word in users.split()]
        return [result.outcome for result in sync.run(messages, Deadline(self.clock, seconds))]

    def called(self, users, **options):
        """Invoke it, and return the users of the calls that it made."""
        before = len(self.thrive.calls)
        self.invoke(users, **options)
        return " ".join(user for _, user in self.thrive.calls[before:])


def message(word, *, fifo):
    user, _, count = word.partition(":")
    arn = QUEUE_ARN + ".fifo" * fifo
    group = user[0] if fifo else None
    return Message(user, "{}", completion(userId=user), int(count or 1), queue_arn=arn, group=group)


def in_outage(state=DOWN):
    """Return an environment in which an outage has just begun, by the failures of the users x, y and z."""
    it = Environment(state)
    it.invoke("x y z")
    assert it.pressure.is_out
    it.thrive.calls.clear()
    it.counts.clear()
    return it


def reasons(outcomes):
    return " ".join(outcome.reason or outcome.name for outcome in outcomes)


# --- Throttling: the pause ----------------------------------------------------------------------------------------


def test_no_request_leaves_before_retry_after_is_over():
    it = Environment(60.0)
    it.invoke("a")
    it.thrive.state = UP
    it.clock.advance(57.5)
    assert it.invoke("b c") == [Deferred("rate_limited", "held back: Thrive limits the rate of calls", None, 2.5)] * 2
    assert it.thrive.users == "a"
    assert it.counts["DeferredWithoutCall"] == 2
    it.clock.advance(2.5)
    assert it.called("b c") == "b c"


def test_message_that_met_the_429_becomes_visible_no_sooner_than_the_pause_ends():
    it = Environment(60.0)
    assert it.invoke("a b") == [
        Deferred("rate_limited", "Thrive answered 429", 429, 60.0),
        Deferred("rate_limited", "held back: Thrive limits the rate of calls", None, 60.0),
    ]


def test_short_pause_is_waited_for_and_each_repetition_spends_one_of_three_attempts():
    it = Environment(2.0)
    assert reasons(it.invoke("a")) == "rate_limited"
    assert it.thrive.calls == [(0, "a"), (2, "a"), (4, "a")]
    it.thrive.state = UP
    assert it.called("b") == "b"
    assert it.thrive.calls[-1] == (6, "b")


@pytest.mark.parametrize(("seconds", "calls"), [(2.3, "a a"), (2.1, "a")])
def test_pause_that_does_not_fit_the_deadline_is_not_waited_for(seconds, calls):
    it = Environment()
    it.thrive.states["a"] = 2.0
    assert it.called("a", seconds=seconds) == calls


def test_pauses_without_retry_after_double_from_a_fifth_of_a_second_to_a_minute_with_jitter():
    clock = FakeClock()
    bounds = []

    def uniform(low, high):
        bounds.append((low, high))
        return low

    ours = pressure(clock, uniform=uniform)
    for _ in range(11):
        clock.advance(ours.throttled(clock.now(), None))
    highs = [0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 12.8, 25.6, 51.2, 60, 60]
    assert bounds == [pytest.approx((high / 2, high)) for high in highs]


def test_answer_starts_the_pauses_anew_unless_it_arrives_within_one():
    it = Environment()
    for _ in range(2):
        it.clock.advance(it.pressure.throttled(it.clock.now(), None))
    it.pressure.throttled(it.clock.now(), None)
    it.pressure.answered()
    it.clock.advance(1)
    assert it.pressure.throttled(it.clock.now(), None) == pytest.approx(1.6)
    it.clock.advance(2)
    it.pressure.answered()
    assert it.pressure.throttled(it.clock.now(), None) == pytest.approx(0.2)


def test_429s_to_requests_that_were_sent_before_a_pause_began_count_once():
    it = Environment()
    for _ in range(20):
        it.pressure.answered()
    sent = [it.pressure.admit(far_deadline(it.clock)) for _ in range(10)]
    it.clock.advance(0.1)
    assert [it.pressure.throttled(each, 1.0) for each in sent] == pytest.approx([1.0] * 10)
    assert pace(it) == pytest.approx(16)
    assert [line for line in it.log if "paused" in line] == ["completions: paused for 1.0 s, as Thrive answered 429"]


def test_late_429_that_belongs_to_a_pause_can_make_it_longer_but_not_shorter():
    it = Environment()
    sent = it.pressure.admit(far_deadline(it.clock))
    assert it.pressure.throttled(sent, 5.0) == pytest.approx(5)
    it.clock.advance(1)
    assert it.pressure.throttled(sent, None) == pytest.approx(4)
    assert it.pressure.throttled(sent, 1.0) == pytest.approx(4)
    assert it.pressure.throttled(sent, 10.0) == pytest.approx(10)


def test_pause_that_is_over_delays_nothing_and_a_later_429_begins_another():
    it = Environment()
    it.pressure.throttled(it.clock.now(), 1.0)
    it.clock.advance(1)
    sent = it.pressure.admit(far_deadline(it.clock))
    assert it.clock.sleeps == []
    it.clock.advance(0.1)
    assert it.pressure.throttled(sent, 30.0) == pytest.approx(30)


def test_rest_of_rounding_does_not_keep_a_wait_going():
    clock = FakeClock(monotonic=5000.0)
    ours = pressure(clock)
    seconds = 1.9963393967539105
    ours.throttled(clock.now(), seconds)
    assert ours.admit(far_deadline(clock)).monotonic >= 5000 + seconds
    assert len(clock.sleeps) <= 2


def test_pause_passes_while_the_environment_is_frozen():
    it = Environment(60.0)
    it.invoke("a")
    it.thrive.state = UP
    it.clock.freeze(60)
    assert it.called("b c") == "b c"


def test_pause_ends_when_the_wall_clock_steps_back_as_nobody_can_tell_how_long_it_has_lasted():
    it = Environment(60.0)
    it.invoke("a")
    it.thrive.state = UP
    it.clock.step_wall(-86_400)
    assert it.called("b") == "b"


# --- Throttling: the pace -----------------------------------------------------------------------------------------


def pace(it, calls=5):
    """Return the calls a second that are let through just now."""
    times = [it.pressure.admit(far_deadline(it.clock)).monotonic for _ in range(calls + 1)]
    return calls / (times[-1] - times[0])


def throttled_at(answers):
    """Return an environment whose pause has just passed; it had so many answers in the second before."""
    it = Environment()
    for _ in range(50):
        it.pressure.answered()
    it.clock.advance(1.5)
    for _ in range(answers):
        it.pressure.answered()
    it.clock.advance(0.9)
    it.pressure.throttled(it.clock.now(), 1.0)
    it.clock.advance(1)
    return it


@pytest.mark.parametrize("answers", [1, 20, 100])
def test_first_429_sets_a_pace_below_the_answers_of_the_last_second(answers):
    assert pace(throttled_at(answers)) == pytest.approx(max(0.5, answers * 0.8))


def test_each_later_pause_lowers_the_pace_down_to_a_slowest_one():
    it = throttled_at(20)
    paces = [pace(it)]
    for _ in range(20):
        it.clock.advance(it.pressure.throttled(it.clock.now(), 1.0))
        paces.append(pace(it))
    assert paces == pytest.approx([max(0.5, 20 * 0.8**number) for number in range(1, 22)])


def test_each_answer_raises_the_pace_a_little():
    it = throttled_at(20)
    pace(it)
    for _ in range(10):
        it.pressure.answered()
    assert pace(it) == pytest.approx(16.5)


def test_pace_outlasts_the_first_answer_after_the_pause():
    it = throttled_at(20)
    it.pressure.answered()
    assert pace(it) == pytest.approx(16.05)


@pytest.mark.parametrize(("pause", "binds"), [(10 - 0.1, True), (10 + 0.1, False)])
def test_pace_is_dropped_by_an_answer_once_it_has_held_nothing_back_for_a_while(pause, binds):
    it = throttled_at(20)
    pace(it)
    it.clock.advance(pause)
    it.pressure.answered()
    before = len(it.clock.sleeps)
    for _ in range(5):
        it.pressure.admit(far_deadline(it.clock))
    assert (len(it.clock.sleeps) > before) is binds


def test_pace_after_idle_time_allows_no_burst():
    it = throttled_at(20)
    pace(it)
    it.clock.advance(10 / 2)
    assert pace(it) == pytest.approx(16)


def test_those_who_waited_for_a_pause_keep_to_the_pace_too():
    it = Environment()
    for _ in range(20):
        it.pressure.answered()
    it.pressure.throttled(it.clock.now(), 1.0)
    first = it.pressure.admit(far_deadline(it.clock)).monotonic
    assert it.clock.sleeps == [pytest.approx(1.0)]
    assert it.pressure.admit(far_deadline(it.clock)).monotonic - first == pytest.approx(1 / 16)


def test_slot_of_the_pace_that_does_not_fit_the_deadline_is_left_to_others():
    it = throttled_at(1)
    it.pressure.admit(far_deadline(it.clock))
    for _ in range(3):
        with pytest.raises(HeldError) as caught:
            it.pressure.admit(Deadline(it.clock, 1.25 + 0.2 - 0.01))
        assert (caught.value.reason, caught.value.retry_after) == ("rate_limited", None)
    it.pressure.admit(Deadline(it.clock, 1.25 + 0.2 + 0.01))
    assert it.clock.sleeps == pytest.approx([1.25])


def test_slot_is_void_when_a_pause_begins_before_it():
    it = throttled_at(1)
    it.pressure.admit(far_deadline(it.clock))
    sleep = it.clock.sleep

    def sleep_into_a_pause(seconds):
        it.clock.sleep = sleep
        sleep(seconds)
        it.pressure.throttled(it.clock.now(), 1.5)

    it.clock.sleep = sleep_into_a_pause
    first = it.pressure.admit(far_deadline(it.clock)).monotonic
    assert it.clock.sleeps == pytest.approx([1 / 0.8, 1.5])
    assert it.pressure.admit(far_deadline(it.clock)).monotonic - first == pytest.approx(1 / 0.8**2)


def test_slot_that_is_free_is_given_without_the_time_for_an_attempt_too_as_it_is_no_rate_that_is_lacking():
    it = throttled_at(20)
    assert it.pressure.admit(Deadline(it.clock, 0.1)) == it.clock.now()


def test_answers_before_the_last_second_do_not_count_for_the_pace():
    it = Environment()
    for _ in range(20):
        it.pressure.answered()
    it.clock.advance(1.1)
    it.clock.advance(it.pressure.throttled(it.clock.now(), None))
    assert pace(it) == pytest.approx(0.5)


def test_answers_before_the_last_second_take_no_memory():
    it = Environment()
    tracemalloc.start()
    try:
        for _ in range(20_000):
            it.pressure.answered()
            it.clock.advance(0.5)
        assert tracemalloc.get_traced_memory()[0] < 100_000
    finally:
        tracemalloc.stop()


# --- An outage ----------------------------------------------------------------------------------------------------


def test_three_different_messages_that_failed_twice_each_begin_an_outage():
    it = Environment(DOWN)
    assert reasons(it.invoke("a b c d e")) == " ".join(["unavailable"] * 5)
    # No attempt is repeated once it has begun, and what has not been sent is not sent.
    assert it.thrive.users == "a a a b b b c c"
    assert it.counts["DeferredWithoutCall"] == 2


def test_outage_begins_also_by_failures_in_several_invocations():
    it = Environment(DOWN)
    assert [it.called(user) for user in "abcd"] == ["a a a", "b b b", "c c", ""]


@pytest.mark.parametrize(
    ("state", "seconds"),
    [
        pytest.param(DOWN, 0.35, id="the deadline leaves no time for a second attempt"),
        pytest.param(
            TemporaryError("unavailable", "Thrive answered 503", status=503, retry_after=30.0), 54.0, id="Retry-After"
        ),
    ],
)
def test_two_attempts_of_a_message_may_be_in_two_invocations(state, seconds):
    it = Environment(state)
    assert [it.called(user, seconds=seconds) for user in "abcabcd"] == [*"abcabc", ""]


def test_one_message_that_always_fails_is_no_outage():
    it = Environment()
    it.thrive.states["sick"] = DOWN
    for number in range(20):
        assert it.called("sick") == "sick sick sick"
        assert it.called(f"healthy-{number}") == f"healthy-{number}"
    it.thrive.state = DOWN
    for _ in range(20):
        it.invoke("sick other")
        assert not it.pressure.is_out


@pytest.mark.parametrize("answer", [UP, REFUSING, FORBIDDING, 0.0])
def test_any_answer_in_between_starts_the_count_anew(answer):
    it = Environment(DOWN)
    it.thrive.states["answered"] = answer
    it.invoke("a b")
    it.invoke("answered")
    it.clock.advance(60)
    it.invoke("c d")
    assert not it.pressure.is_out
    it.invoke("e")
    assert it.pressure.is_out


def test_answer_between_two_failures_of_a_message_makes_the_second_one_a_first():
    ours = pressure(FakeClock())
    for user in "abc":
        ours.failed(user)
    ours.answered()
    for user in "abcab":
        ours.failed(user)
    assert not ours.is_holding()
    ours.failed("c")
    assert ours.is_holding()


def test_attempt_that_our_own_deadline_cut_short_counts_as_nothing():
    it = Environment(OutOfTimeError())
    for _ in range(3):
        assert reasons(it.invoke("a b c d")) == "out_of_time out_of_time out_of_time out_of_time"
    assert not it.pressure.is_out


@pytest.mark.parametrize("threads", [1, 10])
def test_thrive_that_answers_500_to_every_second_request_is_not_in_outage(threads):
    it = Environment(FLAKY)
    with ThreadPoolExecutor(threads) as it.executor:
        for batch in range(50):
            it.invoke(" ".join(f"user-{batch}-{number}" for number in range(10)))
            assert not it.pressure.is_out
    assert it.counts["OutageProbes"] == 0


def test_hung_thrive_costs_the_time_of_two_attempts():
    it = Environment(SILENT)
    it.thrive.states = dict.fromkeys("ab", DOWN)
    it.invoke("a b c d e f g")
    assert it.clock.now().wall - FakeClock().now().wall < 2.2 * 10
    assert it.thrive.users == "a a a b b b c c"


# --- Probes -------------------------------------------------------------------------------------------------------


def test_probes_are_due_1_2_4_8_and_then_10_seconds_after_the_last_one_ended():
    it = in_outage()
    probe_at = []
    it.thrive.state = SILENT  # each probe takes ten seconds
    ended = it.clock.now().wall
    while len(probe_at) < 7:
        began = it.clock.now().wall
        if it.called("x"):
            probe_at.append(round(began - ended, 1))
            ended = it.clock.now().wall
        it.clock.advance(0.1)
    assert probe_at == pytest.approx([1, 2, 4, 8, 10, 10, 10], abs=0.11)


def test_pair_of_probes_is_due_as_often_as_one():
    it = in_outage()
    calls = []
    while len(calls) < 10:
        calls += [round(it.clock.now().wall - 1_800_000_000, 1) for _ in it.called("a b c").split()]
        it.clock.advance(0.1)
    pairs = calls[::2]
    assert calls[1::2] == pairs
    assert [later - earlier for earlier, later in pairwise(pairs)] == pytest.approx([2, 4, 8, 10], abs=0.11)


def test_invocation_before_a_probe_is_due_makes_no_call():
    it = in_outage()
    it.clock.advance(0.9)
    assert it.invoke("a b") == [Deferred("unavailable", "held back: Thrive has not been answering")] * 2
    assert it.thrive.calls == []
    assert (it.counts["DeferredWithoutCall"], it.counts["OutageProbes"]) == (2, 0)


def test_probe_is_the_message_with_the_fewest_receives_that_has_not_failed_before():
    it = in_outage()
    it.clock.advance(1)
    assert it.called("x:1 a:9 b:3 c:4 y:1") == "b c"
    it.clock.advance(2)
    assert it.called("x:1 a:9 b:2 c:2") == "a x"
    it.clock.advance(4)
    assert it.called("x:3 b:2") == "b x"


def test_each_probe_is_sent_once_and_the_second_one_is_another_message():
    it = in_outage()
    it.clock.advance(1)
    assert reasons(it.invoke("a b c")) == "unavailable unavailable unavailable"
    assert it.thrive.users == "a b"
    assert (it.counts["OutageProbes"], it.counts["DeferredWithoutCall"]) == (2, 1)


def test_second_probe_of_a_fifo_queue_is_of_another_group():
    it = in_outage()
    it.clock.advance(1)
    assert it.called("a1 a2 b1 b2", fifo=True) == "a1 b1"
    it.clock.advance(2)
    assert it.called("c1 c2 c3", fifo=True) == "c1"
    assert it.called("c1 c2 c3", fifo=True) == ""


def test_next_invocation_supplies_the_second_probe_at_once():
    it = in_outage()
    it.clock.advance(1)
    assert [it.called("a"), it.called("a")] == ["a", ""]
    it.clock.advance(2)
    assert it.called("a") == "a"
    it.clock.advance(0.1)
    assert [it.called("a b c"), it.called("d")] == ["b", ""]


def test_identical_completions_are_no_pair_of_probes():
    it = in_outage()
    it.clock.advance(1)
    assert it.called("a a a") == "a"
    assert it.counts["DeferredWithoutCall"] == 0


@pytest.mark.parametrize("answer", [UP, REFUSING, FORBIDDING])
def test_answer_to_a_probe_ends_the_outage_and_the_rest_of_the_batch_goes_out(answer):
    it = in_outage()
    it.clock.advance(1)
    it.thrive.state, it.thrive.states["a"] = UP, answer
    before = len(it.clock.sleeps)
    assert it.called("a b c d e") == "a b c d e"
    assert not it.pressure.is_out
    assert len(it.clock.sleeps) == before
    assert it.counts["OutageProbes"] == 1


def test_answer_to_the_second_probe_ends_it_though_the_first_is_sick():
    it = in_outage()
    it.clock.advance(1)
    it.thrive.state, it.thrive.states["a"] = UP, DOWN
    assert it.called("a b c d") == "a b c d"


def test_429_to_a_probe_is_an_answer_and_begins_a_pause():
    it = in_outage()
    it.clock.advance(1)
    it.thrive.state = 30.0
    assert reasons(it.invoke("a b")) == "rate_limited rate_limited"
    assert it.thrive.users == "a"
    assert not it.pressure.is_out


def test_probe_for_which_there_is_no_token_halts_the_batch_and_says_nothing_about_thrive():
    it = in_outage()
    it.clock.advance(1)
    it.thrive.state = AccessError("unavailable", "no token")
    assert it.invoke("a b") == [Deferred("unavailable", "no token")] * 2
    assert it.pressure.is_out
    assert it.counts["OutageProbes"] == 1


@pytest.mark.parametrize(("head", "calls"), [(DOWN, "a1 b1 b2"), (UP, "a1 a2 b1 b2")])
def test_group_follows_its_head_that_was_the_probe_as_usual(head, calls):
    it = in_outage()
    it.clock.advance(1)
    it.thrive.state, it.thrive.states["a1"] = UP, head
    expected = {UP: "created created created created", DOWN: "unavailable created unavailable created"}
    assert reasons(it.invoke("a1 b1 a2 b2", fifo=True)) == expected[head]
    assert it.thrive.users == calls
    assert it.counts["OutageProbes"] == (1 if head == UP else 2)


def test_environment_is_back_within_ten_seconds_of_recovery_though_each_batch_begins_with_a_sick_message():
    it = in_outage()
    it.thrive.states["sick"] = DOWN
    for number in range(600):
        it.invoke(f"sick user-{number}")
        it.clock.advance(0.5)
    it.thrive.state = UP
    recovered = it.clock.now().wall
    number = 0
    while it.pressure.is_out:
        it.clock.advance(0.5)
        it.invoke(f"sick later-{number}")
        number += 1
    assert it.clock.now().wall - recovered <= 10.5


def test_probe_is_due_after_a_freeze_or_when_the_wall_clock_has_stepped_back():
    frozen, stepped = in_outage(), in_outage()
    frozen.clock.freeze(1)
    stepped.clock.step_wall(-3600)
    assert frozen.called("a") == stepped.called("a") == "a"


def test_next_outage_begins_its_probes_anew():
    it = in_outage()
    for wait in (1, 2, 4, 8):
        it.clock.advance(wait)
        assert it.called("a b") == "a b"
    it.clock.advance(10)
    assert it.called("a") == "a"  # the second of this pair is never sent
    it.pressure.answered()
    it.invoke("x y z")
    assert it.called("b") == ""
    it.clock.advance(1)
    assert it.called("a b") == "a b"


def test_failed_subjects_are_remembered_up_to_a_bound():
    it = in_outage()
    for number in range(2000):
        it.pressure.failed(number)
    assert it.pressure.has_failed(990)
    assert not it.pressure.has_failed(1990)


# --- Kinds of calls, the log, threads -----------------------------------------------------------------------------


def test_pause_or_outage_below_holds_the_kind_above_and_never_the_reverse():
    clock = FakeClock()
    below = pressure(clock)
    above = pressure(clock, below=below)
    deadline = far_deadline(clock)
    above.throttled(clock.now(), 30.0)
    assert (above.is_holding(), below.is_holding()) == (True, False)
    assert below.admit(deadline) is not None
    clock.advance(30)
    below.throttled(clock.now(), 30.0)
    with pytest.raises(HeldError, match="limits the rate"):
        above.admit(deadline)
    clock.advance(30)
    assert above.admit(deadline) is not None
    for subject in "aabbcc":
        below.failed(subject)
    above.answered()
    with pytest.raises(HeldError, match="not been answering"):
        above.admit(deadline)
    assert above.admit(deadline, probing=True) is not None
    below.answered()
    assert above.admit(deadline) is not None


def test_one_line_tells_when_a_pause_or_an_outage_begins_and_ends():
    it = Environment(DOWN)
    it.invoke("a b c d")
    it.clock.advance(1)
    it.invoke("e f g")
    it.clock.advance(2)
    it.thrive.state = UP
    it.invoke("a b")
    it.thrive.state = 5.0
    it.invoke("a b")
    it.invoke("a b")
    it.clock.advance(5)
    it.thrive.state = UP
    it.invoke("a b")
    assert it.log == [
        "completions: an outage of Thrive has begun; probing until it answers",
        "completions: Thrive answers again after an outage of 3.0 s",
        "completions: paused for 5.0 s, as Thrive answered 429",
        "completions: the pause is over",
    ]


def test_reset_forgets_everything():
    it = in_outage()
    it.pressure.throttled(it.clock.now(), 60.0)
    it.pressure.reset()
    assert not it.pressure.is_out
    assert not it.pressure.has_failed("x")
    assert it.called("a b") == "a a a b b b"
