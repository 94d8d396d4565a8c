"""A batch becomes one outcome for each message: order, groups, repeats, halts, deadlines and defects.

What a batch does in an outage or a pause is in test_pressure.py.
"""

import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace

import pytest

from completion_sync.clock import Deadline, SystemClock
from completion_sync.errors import (
    AccessError,
    CallError,
    CompletionSyncError,
    ForbiddenError,
    InvalidMessageError,
    OutOfTimeError,
    RefusedError,
    SettingError,
    TemporaryError,
)
from completion_sync.events import Message
from completion_sync.outcomes import Created, Deferred, Existing, Ignored, Rejected, outcome_of
from completion_sync.pressure import MIN_ATTEMPT_SECONDS
from completion_sync.retry import MAX_ATTEMPTS
from completion_sync.sync import Result
from tests.support.fakes import PATIENCE_SECONDS, QUEUE_ARN, Counts, FakeClock, completion, pressure, sync_of

FIFO_ARN = QUEUE_ARN + ".fifo"
# A deadline that a test waits for.
SHORT = 1.0

CREATED = Created("statement", 201)
BLIP = TemporaryError("unavailable", "reset")
DOWN = TemporaryError("unavailable", "Thrive answered 503", status=503, retry_after=99.0)
REFUSED = RefusedError("Thrive answered 422", status=422)
LOCKED = AccessError("unauthorized", "Thrive answered 401", status=401, retry_after=7.0)
FORBIDDEN = ForbiddenError("Thrive answered 403")
DOWN_OUTCOME = Deferred("unavailable", "Thrive answered 503", 503, 99.0)
REFUSED_OUTCOME = Rejected("refused", "Thrive answered 422", 422)
INVALID_OUTCOME = Rejected("invalid_message", "body: must be")
LOCKED_OUTCOME = Deferred("unauthorized", "Thrive answered 401", 401, 7.0)
FORBIDDEN_OUTCOME = Deferred("unauthorized", "Thrive answered 403", 403)
OUT_OF_TIME = Deferred("out_of_time", "no time was left before the function's deadline")


class Recorder:
    """Does ``step``, or what ``by_user`` says for the user of a completion: one thing, or one for each call.

    ``calls`` holds the users in the order of their calls, ``most_in_flight`` how many calls there were at once.
    """

    def __init__(self, step=CREATED, **by_user):
        self._step = step
        self._by_user = {user: list(steps) if isinstance(steps, list) else steps for user, steps in by_user.items()}
        self._lock = threading.Lock()
        self._in_flight = 0
        self.most_in_flight = 0
        self.calls = []

    def record(self, wanted, deadline, user_ref=None):
        with self._lock:
            self.calls.append(wanted.user_id)
            self._in_flight += 1
            self.most_in_flight = max(self.most_in_flight, self._in_flight)
            step = self._by_user.get(wanted.user_id, self._step)
            if isinstance(step, list):
                step = step.pop(0)
        try:
            if isinstance(step, Exception):
                raise step
            return step(wanted) if callable(step) else step
        finally:
            with self._lock:
                self._in_flight -= 1


class Hanging:
    """A call that hangs until the test releases it, and then fails with ``error``, if there is one."""

    def __init__(self, error=None):
        self.release = threading.Event()
        self._error = error

    def __call__(self, _):
        assert self.release.wait(PATIENCE_SECONDS)
        if self._error is not None:
            raise self._error
        return Created("too late", 201)


def together(count):
    """Return a step whose calls end only when so many of them are in flight."""
    barrier = threading.Barrier(count)

    def step(_):
        barrier.wait(PATIENCE_SECONDS)
        return CREATED

    return step


def message(user, group=None, *, message_id=None):
    arn = QUEUE_ARN if group is None else FIFO_ARN
    return Message(message_id or user, "{}", completion(userId=user), queue_arn=arn, group=group)


def invalid(group=None):
    return Message("invalid", "", InvalidMessageError("body: must be"), queue_arn=FIFO_ARN, group=group)


def fail_test(error):
    raise AssertionError("unexpected") from error


@contextmanager
def syncing(recorder, *, threads=4, clock=None, unexpected=fail_test, counts=None):
    """Yield ``run(messages…, deadline=…)``."""
    time_source = clock or FakeClock()
    with ThreadPoolExecutor(threads) as executor:
        sync = sync_of(
            recorder, pressure(time_source), lambda: executor, time_source, counts=counts, unexpected=unexpected
        )

        def run(*messages, deadline=None):
            return sync.run(messages, deadline or Deadline(time_source, PATIENCE_SECONDS))

        yield run


def outcomes(results):
    return [result.outcome for result in results]


# --- One message --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("step", "outcome"),
    [
        (CREATED, CREATED),
        (Existing(None, 409), Existing(None, 409)),
        (REFUSED, REFUSED_OUTCOME),
        (DOWN, DOWN_OUTCOME),
        (
            TemporaryError("rate_limited", "Thrive answered 429", status=429, retry_after=60.0),
            Deferred("rate_limited", "Thrive answered 429", 429, 60.0),
        ),
        (LOCKED, LOCKED_OUTCOME),
        (AccessError("misconfigured", "no"), Deferred("misconfigured", "no")),
        (FORBIDDEN, FORBIDDEN_OUTCOME),
        (OutOfTimeError(), OUT_OF_TIME),
    ],
    ids=repr,
)
def test_what_the_recorder_returns_or_raises_becomes_the_outcome(step, outcome):
    with syncing(Recorder(step)) as run:
        [result] = run(message("one"))
    assert (result.outcome, result.attempts) == (outcome, 1)


def test_message_without_completion_is_rejected_without_a_call():
    with syncing(recorder := Recorder()) as run:
        assert run(invalid()) == [Result(INVALID_OUTCOME, 0, 0.0)]
        assert run() == []
    assert recorder.calls == []


@pytest.mark.parametrize(
    ("steps", "outcome"),
    [([BLIP, BLIP, CREATED], CREATED), ([DOWN, DOWN, BLIP], Deferred("unavailable", "reset"))],
)
def test_attempts_and_their_time_are_counted_and_the_last_one_decides(steps, outcome):
    steps = [replace_retry_after(step) for step in steps]
    clock = FakeClock(wall=0, monotonic=0)
    with syncing(Recorder(one=steps), clock=clock) as run:
        [result] = run(message("one"))
    assert (result.outcome, result.attempts) == (outcome, MAX_ATTEMPTS)
    assert result.duration_ms == pytest.approx(sum(clock.sleeps) * 1000) == pytest.approx(600)


def replace_retry_after(step):
    """Return an error of its own, worth another attempt at once: the policy writes the pause into it."""
    return TemporaryError(step.reason, step.detail, status=step.status) if isinstance(step, TemporaryError) else step


@pytest.mark.parametrize(("seconds", "attempts"), [(MIN_ATTEMPT_SECONDS, 1), (MIN_ATTEMPT_SECONDS * 0.99, 0)])
def test_no_attempt_without_the_time_for_it(seconds, attempts):
    clock = FakeClock(wall=0, monotonic=0)
    counts = Counts()
    with syncing(recorder := Recorder(), clock=clock, counts=counts) as run:
        [result] = run(message("one"), deadline=Deadline(clock, seconds))
    assert (result.outcome, result.attempts) == ([OUT_OF_TIME, CREATED][attempts], attempts)
    assert len(recorder.calls) == attempts
    assert counts["DeferredWithoutCall"] == 0


# --- Many messages ------------------------------------------------------------------------------------------------


def test_results_are_in_the_order_of_the_messages_whichever_call_ends_first():
    second_done = threading.Event()

    def slow(_):
        assert second_done.wait(PATIENCE_SECONDS)
        return Created("slow", 201)

    def quick(_):
        second_done.set()
        return Created("quick", 201)

    with syncing(Recorder(one=slow, two=quick)) as run:
        results = run(message("one"), invalid(), message("two"))
    assert outcomes(results) == [Created("slow", 201), INVALID_OUTCOME, Created("quick", 201)]


@pytest.mark.parametrize("threads", [1, 3, 8])
def test_as_many_requests_are_in_flight_as_the_pool_has_threads(threads):
    with syncing(recorder := Recorder(together(threads)), threads=threads) as run:
        results = run(*(message(f"user-{number}") for number in range(threads * 3)))
    assert outcomes(results) == [CREATED] * threads * 3
    assert recorder.most_in_flight == threads


def test_defect_harms_its_own_message_only():
    reported = []
    defect = KeyError("a secret")
    with syncing(Recorder(two=defect), unexpected=reported.append) as run:
        results = run(message("one"), message("two"), message("three"))
    assert outcomes(results) == [CREATED, Deferred("unavailable", "unexpected KeyError in this function"), CREATED]
    assert results[1].attempts == 1
    assert reported == [defect]


# --- Identical completions ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("groups", [[None] * 5, ["a", "b", "c", "d", "e"]], ids=["standard", "in groups"])
@pytest.mark.parametrize(
    ("error", "outcome"), [(None, CREATED), (REFUSED, REFUSED_OUTCOME), (DOWN, DOWN_OUTCOME), (LOCKED, LOCKED_OUTCOME)]
)
def test_identical_completions_are_sent_once(error, outcome, groups):
    def step(_):
        time.sleep(0.02)  # the other threads come to wait for it
        if error is not None:
            raise error
        return CREATED

    with syncing(recorder := Recorder(step)) as run:
        results = run(*(message("same", group, message_id=str(number)) for number, group in enumerate(groups)))
    assert outcomes(results) == [outcome] * 5
    assert recorder.calls == ["same"]


# --- FIFO groups --------------------------------------------------------------------------------------------------


def test_group_is_sent_in_order():
    users = [f"user-{number}" for number in range(20)]
    with syncing(recorder := Recorder(), threads=8) as run:
        run(*(message(user, "group") for user in users))
    assert (recorder.calls, recorder.most_in_flight) == (users, 1)


def test_groups_go_side_by_side():
    with syncing(recorder := Recorder(together(2))) as run:
        results = run(message("a1", "a"), message("b1", "b"), message("a2", "a"), message("b2", "b"))
    assert outcomes(results) == [CREATED] * 4
    assert [call for call in recorder.calls if call[0] == "a"] == ["a1", "a2"]
    assert [call for call in recorder.calls if call[0] == "b"] == ["b1", "b2"]


def test_groups_of_two_queues_with_the_same_name_are_two():
    other = replace(message("two", "group"), queue_arn="arn:aws:sqs:eu-west-2:1:other.fifo")
    with syncing(Recorder(one=DOWN)) as run:
        assert outcomes(run(message("one", "group"), other)) == [DOWN_OUTCOME, CREATED]


@pytest.mark.parametrize(("step", "outcome"), [(DOWN, DOWN_OUTCOME), (OutOfTimeError(), OUT_OF_TIME)], ids=str)
def test_deferral_holds_the_rest_of_the_group(step, outcome):
    counts = Counts()
    recorder = Recorder(a2=step)
    with syncing(recorder, counts=counts) as run:
        results = run(*(message(user, user[0]) for user in ("a1", "b1", "a2", "b2", "a3", "b3", "a4")))
    behind = replace(outcome, detail=f"behind a deferred message of its group: {outcome.detail}")
    assert outcomes(results) == [CREATED, CREATED, outcome, CREATED, behind, CREATED, behind]
    assert [result.attempts for result in results] == [1, 1, 1, 1, 0, 1, 0]
    assert not {"a3", "a4"} & set(recorder.calls)
    # They wait for their neighbour, not for Thrive.
    assert not counts["DeferredWithoutCall"]


@pytest.mark.parametrize("rejected", [message("a1", "a"), invalid("a")], ids=["refused", "invalid"])
def test_rejection_does_not_hold_the_group(rejected):
    with syncing(Recorder(a1=REFUSED)) as run:
        results = run(rejected, message("a2", "a"))
    assert [result.outcome.name for result in results] == ["rejected", "created"]


def test_invalid_message_behind_a_deferred_one_is_rejected():
    with syncing(Recorder(a1=DOWN)) as run:
        results = run(message("a1", "a"), invalid("a"), message("a2", "a"))
    assert [result.outcome.name for result in results] == ["deferred", "rejected", "deferred"]


# --- Halting ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("threads", [1, 4])
def test_access_error_halts_the_rest_without_a_call(threads):
    recorder = Recorder(LOCKED, user0=CREATED)
    with syncing(recorder, threads=threads) as run:
        results = run(*(message(f"user{number}") for number in range(50)))
    sent = len(recorder.calls)
    assert outcomes(results) == [CREATED] + [LOCKED_OUTCOME] * 49
    assert 2 <= sent <= threads + 1
    assert Counter(result.attempts for result in results) == {0: 50 - sent, 1: sent}


def test_access_error_ends_the_retries_of_others():
    halted = threading.Event()

    class WaitingClock(FakeClock):
        def sleep(self, seconds):
            assert halted.wait(PATIENCE_SECONDS)
            time.sleep(0.05)
            super().sleep(seconds)

    def lock(_):
        halted.set()
        raise LOCKED

    with syncing(recorder := Recorder(one=BLIP, two=lock), threads=2, clock=WaitingClock()) as run:
        results = run(message("one"), message("two"))
    assert outcomes(results) == [LOCKED_OUTCOME, LOCKED_OUTCOME]
    assert sorted(recorder.calls) == ["one", "two"]


def test_halt_ends_with_the_batch():
    with syncing(Recorder(one=[LOCKED, CREATED])) as run:
        assert outcomes(run(message("one"))) == [LOCKED_OUTCOME]
        assert outcomes(run(message("one"))) == [CREATED]


def test_halting_error_does_not_gather_the_tracebacks_of_all_messages():
    halting = LOCKED.copy()
    with syncing(Recorder(halting), threads=1) as run:
        results = run(*(message(f"user-{number}") for number in range(30)))
    assert outcomes(results) == [LOCKED_OUTCOME] * 30
    frames = 0
    trace = halting.__traceback__
    while trace is not None:
        frames, trace = frames + 1, trace.tb_next
    assert frames < 10


@pytest.mark.parametrize(
    ("steps", "calls"),
    [
        pytest.param("F", 6, id="one forbidden message defers only itself"),
        pytest.param("FF", 2, id="the second one, with nothing settled, halts the batch"),
        pytest.param("FDF", 3, id="a deferral settles nothing"),
        pytest.param("FCFF", 6, id="a recorded message shows that the credentials may record"),
        pytest.param("CFFF", 6, id="whenever it was recorded"),
        pytest.param("FRFF", 6, id="a refusal shows it too"),
    ],
)
def test_403_halts_the_batch_only_once_two_messages_met_it_and_none_was_settled(steps, calls):
    kinds = {"F": FORBIDDEN, "D": DOWN, "C": CREATED, "R": REFUSED}
    by_user = {f"user{number}": kinds[step] for number, step in enumerate(steps)}
    with syncing(recorder := Recorder(**by_user), threads=1) as run:
        results = run(*(message(f"user{number}") for number in range(6)))
    assert len(recorder.calls) == calls
    assert outcomes(results)[calls:] == [FORBIDDEN_OUTCOME] * (6 - calls)
    assert [result.outcome for result, step in zip(results, steps, strict=False) if step == "F"] == [
        FORBIDDEN_OUTCOME
    ] * steps.count("F")


# --- The deadline -------------------------------------------------------------------------------------------------


def test_hung_call_is_left_behind_and_what_it_returns_later_is_void():
    hanging = Hanging()
    clock = SystemClock()
    with syncing(Recorder(two=hanging), clock=clock) as run:
        began = time.monotonic()
        results = run(message("one"), message("two"), message("three"), deadline=Deadline(clock, SHORT))
        assert time.monotonic() - began < SHORT * 10
        hanging.release.set()
    assert outcomes(results) == [CREATED, OUT_OF_TIME, CREATED]
    assert results[1].attempts == 0


def test_group_of_a_hung_call_is_out_of_time_and_is_not_sent_when_the_call_returns():
    hanging = Hanging()
    clock = SystemClock()
    with syncing(recorder := Recorder(a1=hanging), clock=clock) as run:
        results = run(message("a1", "a"), message("a2", "a"), deadline=Deadline(clock, SHORT))
        hanging.release.set()
    assert outcomes(results) == [OUT_OF_TIME, OUT_OF_TIME]
    assert recorder.calls == ["a1"]


def test_what_waits_behind_a_hung_call_never_runs_in_the_next_batch():
    hanging = Hanging()
    clock = SystemClock()
    with syncing(recorder := Recorder(one=hanging), threads=1, clock=clock) as run:
        first = run(message("one"), message("two"), message("three"), deadline=Deadline(clock, SHORT))
        hanging.release.set()
        second = run(message("four"), deadline=Deadline(clock, PATIENCE_SECONDS))
    assert outcomes(first) == [OUT_OF_TIME] * 3
    assert outcomes(second) == [CREATED]
    assert recorder.calls == ["one", "four"]


def test_failed_call_is_not_repeated_after_its_batch_has_ended():
    hanging = Hanging(BLIP)
    clock = FakeClock()

    class NeverOver(Deadline):
        def remaining(self):
            return SHORT  # only the end of the batch stops it

    with syncing(recorder := Recorder(one=hanging), clock=clock) as run:
        results = run(message("one"), deadline=NeverOver(clock, SHORT))
        hanging.release.set()
    assert outcomes(results) == [OUT_OF_TIME]
    assert recorder.calls == ["one"]


def test_waiting_for_an_identical_completion_ends_at_the_deadline():
    sent = threading.Event()

    def slow(_):
        sent.set()
        time.sleep(SHORT * 2)
        return CREATED

    def after(_):
        assert sent.wait(PATIENCE_SECONDS)
        return CREATED

    class ShorterInThreads(Deadline):
        def remaining(self):
            return PATIENCE_SECONDS if threading.current_thread() is threading.main_thread() else SHORT

    clock = FakeClock()
    with syncing(recorder := Recorder(same=slow, before=after), clock=clock) as run:
        results = run(
            message("same", "a", message_id="1"),
            message("before", "b"),
            message("same", "b", message_id="2"),
            message("behind", "b"),
            deadline=ShorterInThreads(clock, 1),
        )
    behind = replace(OUT_OF_TIME, detail=f"behind a deferred message of its group: {OUT_OF_TIME.detail}")
    assert outcomes(results) == [CREATED, CREATED, OUT_OF_TIME, behind]
    assert sorted(recorder.calls) == ["before", "same"]


def test_thread_that_cannot_be_started_leaves_nothing_for_a_later_batch():
    class Exhausted(ThreadPoolExecutor):
        def submit(self, *arguments, **options):
            if len(submitted) == 1:
                raise RuntimeError("can't start new thread")
            submitted.append(super().submit(*arguments, **options))
            return submitted[-1]

    hanging = Hanging()
    submitted = []
    recorder = Recorder()
    clock = FakeClock()
    with Exhausted(1) as executor:
        ThreadPoolExecutor.submit(executor, hanging, completion())
        sync = sync_of(recorder, pressure(clock), lambda: executor, clock)
        with pytest.raises(RuntimeError):
            sync.run([message("one"), message("two")], Deadline(clock, 1))
        hanging.release.set()
    assert recorder.calls == []


# --- Errors and outcomes ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("error", [CompletionSyncError("x"), SettingError("VARIABLE", "must be"), CallError("x")])
def test_error_that_is_about_no_message_has_no_outcome(error):
    with pytest.raises(TypeError, match=type(error).__name__):
        outcome_of(error)


def test_copy_of_an_error_is_equal_and_holds_no_traceback():
    with pytest.raises(AccessError) as raised:
        raise AccessError("rate_limited", "no token: answered 429", status=429, retry_after=7.0)
    copy = raised.value.copy()
    assert copy is not raised.value
    assert (type(copy), vars(copy), copy.args) == (AccessError, vars(raised.value), raised.value.args)
    assert copy.__traceback__ is None


@pytest.mark.parametrize("outcome", [CREATED, Existing(None, 409), Ignored(), REFUSED_OUTCOME, DOWN_OUTCOME], ids=repr)
def test_equal_outcomes_are_one_value(outcome):
    assert len({outcome, replace(outcome)}) == 1
