"""A batch becomes one outcome for each message: order, groups, repeats, halts, deadlines and defects."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from completion_sync.clock import Clock, Deadline, Instant, SystemClock
from completion_sync.errors import (
    AccessError,
    CallError,
    CompletionSyncError,
    InvalidMessageError,
    OutOfTimeError,
    RefusedError,
    SettingError,
    TemporaryError,
)
from completion_sync.events import Message
from completion_sync.outcomes import Created, Deferred, Existing, Outcome, Rejected
from completion_sync.pressure import MIN_ATTEMPT_SECONDS
from completion_sync.retry import MAX_ATTEMPTS, RetryPolicy
from completion_sync.sync import CompletionSync, Result, outcome_of
from tests.support.fakes import PATIENCE_SECONDS, QUEUE_ARN, FakeClock, completion

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from completion_sync.completion import Completion

FIFO_ARN = QUEUE_ARN + ".fifo"

# What a scripted Thrive does with one completion: an outcome, an error to raise, or a function that does either.
Step = Created | Existing | Exception | Callable[["Completion"], Created | Existing]


class FakeRecorder:
    """Records as it is told, and remembers what it was asked, in order, and how many calls were in flight at once."""

    def __init__(self, step: Step | None = None, **by_user: Step | Sequence[Step]) -> None:
        """:param by_user: for a user id what happens instead of ``step``: one thing, or one for each call."""
        self._step: Step = Created("statement", 201) if step is None else step
        self._by_user = {
            user: list(steps) if isinstance(steps, list | tuple) else steps for user, steps in by_user.items()
        }
        self._lock = threading.Lock()
        self.calls: list[str] = []
        self.in_flight = 0
        self.most_in_flight = 0

    def record(self, wanted: Completion, deadline: Deadline) -> Created | Existing:
        """Do what the script says."""
        with self._lock:
            self.calls.append(wanted.user_id)
            self.in_flight += 1
            self.most_in_flight = max(self.most_in_flight, self.in_flight)
            step = self._by_user.get(wanted.user_id, self._step)
            if isinstance(step, list):
                step = step.pop(0)  # the list is the caller's, who made it for this recorder alone
        try:
            if isinstance(step, Exception):
                raise step
            return step if isinstance(step, Created | Existing) else step(wanted)  # type: ignore[operator]
        finally:
            with self._lock:
                self.in_flight -= 1


def message(user: str, group: str | None = None, *, message_id: str | None = None, arn: str | None = None) -> Message:
    """Give a message with the completion of a user; its id is the user's unless told otherwise."""
    return Message(
        id=message_id or user,
        body="{}",
        content=completion(userId=user),
        queue_arn=arn or (QUEUE_ARN if group is None else FIFO_ARN),
        group=group,
    )


def invalid(group: str | None = None) -> Message:
    """Give a message that holds no completion."""
    return Message(id="invalid", body="", content=InvalidMessageError("body: must be"), queue_arn=FIFO_ARN, group=group)


def fail_test(error: Exception) -> None:
    """Stand in where no unexpected error is expected."""
    raise AssertionError("unexpected") from error


@contextmanager
def syncing(
    recorder: FakeRecorder,
    *,
    threads: int = 4,
    clock: Clock | None = None,
    unexpected: Callable[[Exception], None] = fail_test,
) -> Iterator[Callable[..., list[Result]]]:
    """Give ``run(messages…, deadline=…)`` on a pool of threads that is gone at the end."""
    time_source = clock or FakeClock()
    retry = RetryPolicy(time_source, lambda _low, high: high)
    with ThreadPoolExecutor(threads) as executor:

        def pool() -> Executor:
            return executor

        sync = CompletionSync(recorder, retry, pool, time_source, unexpected)

        def run(*messages: Message, deadline: Deadline | None = None) -> list[Result]:
            return sync.run(messages, deadline or Deadline(time_source, PATIENCE_SECONDS))

        yield run


def outcomes(results: Sequence[Result]) -> list[Outcome]:
    """Give the outcomes alone."""
    return [result.outcome for result in results]


CREATED = Created("statement", 201)
DOWN = TemporaryError("unavailable", "Thrive answered 503", status=503, retry_after=99.0)
DOWN_OUTCOME = Deferred("unavailable", "Thrive answered 503", 503, 99.0)
REFUSED = RefusedError("Thrive answered 422", status=422)
REFUSED_OUTCOME = Rejected("refused", "Thrive answered 422", 422)
LOCKED = AccessError("unauthorized", "Thrive answered 401: check the credentials", status=401)
LOCKED_OUTCOME = Deferred("unauthorized", "Thrive answered 401: check the credentials", 401)
OUT_OF_TIME = Deferred("out_of_time", "no time was left before the function's deadline")


# --- One message --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("step", "outcome"),
    [
        pytest.param(CREATED, CREATED, id="created"),
        pytest.param(Existing(None, 409), Existing(None, 409), id="exists"),
        pytest.param(REFUSED, REFUSED_OUTCOME, id="refused"),
        pytest.param(DOWN, DOWN_OUTCOME, id="unavailable"),
        pytest.param(
            TemporaryError("rate_limited", "Thrive answered 429", status=429, retry_after=60.0),
            Deferred("rate_limited", "Thrive answered 429", 429, 60.0),
            id="rate limited",
        ),
        pytest.param(LOCKED, LOCKED_OUTCOME, id="unauthorized"),
        pytest.param(AccessError("misconfigured", "no"), Deferred("misconfigured", "no"), id="misconfigured"),
        pytest.param(OutOfTimeError(), OUT_OF_TIME, id="out of time"),
    ],
)
def test_what_the_recorder_says_becomes_the_outcome(step: Step, outcome: Outcome) -> None:
    """Each answer and each error of our tree ends in its outcome, with status and wait, after one attempt."""
    with syncing(FakeRecorder(step)) as run:
        [result] = run(message("one"))
        assert (result.outcome, result.attempts) == (outcome, 1)


def test_message_without_completion_is_rejected_without_a_call() -> None:
    """What holds no completion needs no call to be rejected."""
    recorder = FakeRecorder()
    with syncing(recorder) as run:
        assert run(invalid()) == [Result(Rejected("invalid_message", "body: must be"), 0, 0.0)]
    assert recorder.calls == []


def test_nothing_to_do() -> None:
    """An empty batch has no results."""
    with syncing(FakeRecorder()) as run:
        assert run() == []


def test_temporary_error_is_tried_again_within_the_batch() -> None:
    """A failure that passes within the invocation costs attempts and a little time, and no more."""
    # Given
    blip = TemporaryError("unavailable", "reset")
    clock = FakeClock(wall=0, monotonic=0)
    recorder = FakeRecorder(one=[blip, blip, CREATED])

    # When
    with syncing(recorder, clock=clock) as run:
        [result] = run(message("one"))

    # Then
    assert (result.outcome, result.attempts) == (CREATED, MAX_ATTEMPTS)
    assert result.duration_ms == pytest.approx(sum(clock.sleeps) * 1000)
    assert len(clock.sleeps) == 2


def test_temporary_error_that_lasts_is_deferred() -> None:
    """After the last attempt the last error is the outcome."""
    errors = [TemporaryError("unavailable", f"attempt {number}") for number in (1, 2, 3)]
    with syncing(FakeRecorder(one=errors)) as run:
        [result] = run(message("one"))
        assert (result.outcome, result.attempts) == (Deferred("unavailable", "attempt 3"), 3)


def test_no_attempt_without_time() -> None:
    """With less time left than an attempt is worth, nothing is sent and nothing counts as attempted."""
    # Given
    clock = FakeClock()
    recorder = FakeRecorder()

    # When
    with syncing(recorder, clock=clock) as run:
        results = run(message("one"), deadline=Deadline(clock, MIN_ATTEMPT_SECONDS * 0.9))

    # Then
    assert results[0].outcome == OUT_OF_TIME
    assert results[0].attempts == 0
    assert recorder.calls == []


def test_attempt_with_just_enough_time() -> None:
    """With exactly the time that an attempt is worth, it is made."""
    clock = FakeClock(wall=0, monotonic=0)
    with syncing(FakeRecorder(), clock=clock) as run:
        [result] = run(message("one"), deadline=Deadline(clock, MIN_ATTEMPT_SECONDS))
        assert result.outcome == CREATED


# --- Many messages ------------------------------------------------------------------------------------------------


def test_results_stand_in_the_messages_order() -> None:
    """Whatever ends first, the results stand where their messages stand."""
    # Given: the first message ends after the second
    second_done = threading.Event()

    def slow(_: Completion) -> Created:
        assert second_done.wait(PATIENCE_SECONDS)
        return Created("slow", 201)

    def quick(_: Completion) -> Created:
        second_done.set()
        return Created("quick", 201)

    # When
    with syncing(FakeRecorder(one=slow, two=quick)) as run:
        results = run(message("one"), invalid(), message("two"))

    # Then
    assert outcomes(results) == [
        Created("slow", 201),
        Rejected("invalid_message", "body: must be"),
        Created("quick", 201),
    ]


@pytest.mark.parametrize("threads", [1, 3, 8])
def test_requests_in_flight_are_as_many_as_the_pool_has_threads(threads: int) -> None:
    """The pool's size is what bounds the requests in flight, and it is used in full."""
    # Given: each call waits until as many are in flight as there are threads
    barrier = threading.Barrier(threads)

    def together(_: Completion) -> Created:
        barrier.wait(PATIENCE_SECONDS)
        return CREATED

    recorder = FakeRecorder(together)

    # When
    with syncing(recorder, threads=threads) as run:
        results = run(*(message(f"user-{number}") for number in range(threads * 3)))

    # Then
    assert outcomes(results) == [CREATED] * threads * 3
    assert recorder.most_in_flight == threads


def test_defect_harms_its_own_message_alone() -> None:
    """An error outside our tree is told, defers its message without its text, and leaves the neighbours alone."""
    # Given
    told: list[Exception] = []
    defect = KeyError("a secret")

    # When
    with syncing(FakeRecorder(two=defect), unexpected=told.append) as run:
        results = run(message("one"), message("two"), message("three"))

    # Then
    assert outcomes(results) == [CREATED, Deferred("unavailable", "unexpected KeyError in this function"), CREATED]
    assert results[1].attempts == 1
    assert told == [defect]


# --- Identical completions ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("step", "outcome"),
    [(CREATED, CREATED), (REFUSED, REFUSED_OUTCOME), (DOWN, DOWN_OUTCOME), (LOCKED, LOCKED_OUTCOME)],
    ids=["created", "refused", "unavailable", "unauthorized"],
)
def test_identical_completions_are_sent_once(step: Step, outcome: Outcome) -> None:
    """Messages with the same completion share one call and its outcome, be it good or bad."""
    recorder = FakeRecorder(step)
    with syncing(recorder) as run:
        results = run(*(message("same", message_id=f"message-{number}") for number in range(5)))
    assert outcomes(results) == [outcome] * 5
    assert recorder.calls == ["same"]


def test_completions_that_differ_in_time_alone_are_two() -> None:
    """Another time of completion is another completion."""
    recorder = FakeRecorder()
    other = completion(userId="same", completedAt="2021-01-01T09:00:01Z")
    with syncing(recorder) as run:
        run(message("same"), Message(id="other", body="{}", content=other))
    assert recorder.calls == ["same", "same"]


def test_identical_completions_in_two_groups_are_sent_once() -> None:
    """Two FIFO groups side by side with one completion: the second waits for what the first gets."""

    # Given: the call ends only when the other thread must have come to wait for it, or has not sent it at least
    def slow(_: Completion) -> Created:
        time.sleep(0.05)
        return CREATED

    recorder = FakeRecorder(slow)

    # When
    with syncing(recorder) as run:
        results = run(message("same", "a", message_id="1"), message("same", "b", message_id="2"))

    # Then
    assert outcomes(results) == [CREATED, CREATED]
    assert recorder.calls == ["same"]


def test_identical_completions_in_two_batches_are_sent_twice() -> None:
    """Sharing ends with the batch: a redelivered message is sent again."""
    recorder = FakeRecorder()
    with syncing(recorder) as run:
        run(message("same"))
        run(message("same"))
    assert recorder.calls == ["same", "same"]


# --- FIFO groups --------------------------------------------------------------------------------------------------


def test_group_is_sent_in_order() -> None:
    """The messages of one group are sent one after the other in their order, however many threads there are."""
    recorder = FakeRecorder()
    users = [f"user-{number}" for number in range(20)]
    with syncing(recorder, threads=8) as run:
        run(*(message(user, "group") for user in users))
    assert recorder.calls == users
    assert recorder.most_in_flight == 1


def test_groups_go_side_by_side() -> None:
    """Groups do not wait for one another, and each keeps its own order."""
    # Given: no call of a group ends before the other group's call is in flight too
    barrier = threading.Barrier(2)

    def together(_: Completion) -> Created:
        barrier.wait(PATIENCE_SECONDS)
        return CREATED

    recorder = FakeRecorder(together)

    # When
    with syncing(recorder) as run:
        results = run(message("a1", "a"), message("b1", "b"), message("a2", "a"), message("b2", "b"))

    # Then
    assert outcomes(results) == [CREATED] * 4
    assert [call for call in recorder.calls if call[0] == "a"] == ["a1", "a2"]
    assert [call for call in recorder.calls if call[0] == "b"] == ["b1", "b2"]


def test_groups_of_two_queues_with_one_name_are_two() -> None:
    """A group belongs to its queue: the same name in another one is another group."""
    recorder = FakeRecorder(one=DOWN)
    with syncing(recorder) as run:
        results = run(message("one", "group"), message("two", "group", arn="arn:aws:sqs:eu-west-2:1:other.fifo"))
    assert outcomes(results) == [DOWN_OUTCOME, CREATED]


@pytest.mark.parametrize(
    ("step", "outcome"),
    [
        pytest.param(DOWN, DOWN_OUTCOME, id="unavailable"),
        pytest.param(OutOfTimeError(), OUT_OF_TIME, id="out of time"),
    ],
)
def test_deferral_holds_the_rest_of_the_group(step: Step, outcome: Deferred) -> None:
    """Behind a deferred message the rest of its group is deferred unsent, for as long; other groups go on."""
    # Given
    recorder = FakeRecorder(a2=step)

    # When
    with syncing(recorder) as run:
        results = run(*(message(user, user[0]) for user in ("a1", "b1", "a2", "b2", "a3", "b3", "a4")))

    # Then
    behind = Deferred(
        outcome.reason, f"behind a deferred message of its group: {outcome.detail}", outcome.status, outcome.retry_after
    )
    assert outcomes(results) == [CREATED, CREATED, outcome, CREATED, behind, CREATED, behind]
    assert [result.attempts for result in results] == [1, 1, 1, 1, 0, 1, 0]
    assert "a3" not in recorder.calls
    assert "a4" not in recorder.calls


def test_rejection_does_not_hold_the_group() -> None:
    """A message that will never be recorded does not stand in the way of those behind it."""
    with syncing(FakeRecorder(a1=REFUSED)) as run:
        results = run(message("a1", "a"), invalid("a"), message("a2", "a"))
    assert outcomes(results) == [REFUSED_OUTCOME, Rejected("invalid_message", "body: must be"), CREATED]


def test_invalid_message_behind_a_deferred_one_is_rejected() -> None:
    """What holds no completion is rejected wherever it stands: no later delivery would change that."""
    with syncing(FakeRecorder(a1=DOWN)) as run:
        results = run(message("a1", "a"), invalid("a"), message("a2", "a"))
    assert [result.outcome.name for result in results] == ["deferred", "rejected", "deferred"]


def test_deferral_outside_a_group_holds_nothing() -> None:
    """In a standard queue no message holds another."""
    with syncing(FakeRecorder(one=DOWN), threads=1) as run:
        assert outcomes(run(message("one"), message("two"))) == [DOWN_OUTCOME, CREATED]


# --- Halting ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("threads", [1, 4])
def test_access_error_halts_the_rest_without_a_call(threads: int) -> None:
    """Once nothing can be sent at all, what remains is deferred for the same reason without a call."""
    # Given
    recorder = FakeRecorder(LOCKED)

    # When
    with syncing(recorder, threads=threads) as run:
        results = run(*(message(f"user-{number}") for number in range(50)))

    # Then
    assert outcomes(results) == [LOCKED_OUTCOME] * 50
    assert 1 <= len(recorder.calls) <= threads
    assert Counter(result.attempts for result in results) == {0: 50 - len(recorder.calls), 1: len(recorder.calls)}


def test_access_error_leaves_what_was_recorded_before() -> None:
    """A halt does not touch the outcomes that stand already."""
    recorder = FakeRecorder(two=LOCKED)
    with syncing(recorder, threads=1) as run:
        results = run(message("one"), message("two"), message("three"))
    assert outcomes(results) == [CREATED, LOCKED_OUTCOME, LOCKED_OUTCOME]
    assert recorder.calls == ["one", "two"]


def test_access_error_ends_the_retries_of_others() -> None:
    """A message that waits for its next attempt when the batch is halted gets no further one."""
    # Given: the first call fails, and before its next attempt the other one has halted the batch
    halted = threading.Event()

    class WaitingClock(FakeClock):
        def sleep(self, seconds: float) -> None:
            assert halted.wait(PATIENCE_SECONDS)
            time.sleep(0.05)
            super().sleep(seconds)

    def lock(_: Completion) -> Created:
        halted.set()
        raise LOCKED

    recorder = FakeRecorder(one=TemporaryError("unavailable", "reset"), two=lock)

    # When
    with syncing(recorder, threads=2, clock=WaitingClock()) as run:
        results = run(message("one"), message("two"))

    # Then
    assert outcomes(results) == [LOCKED_OUTCOME, LOCKED_OUTCOME]
    assert sorted(recorder.calls) == ["one", "two"]


def test_halt_ends_with_the_batch() -> None:
    """The next batch asks anew: the credentials may have been put right."""
    recorder = FakeRecorder(one=[LOCKED, CREATED])
    with syncing(recorder) as run:
        assert outcomes(run(message("one"))) == [LOCKED_OUTCOME]
        assert outcomes(run(message("one"))) == [CREATED]


def test_halting_error_is_raised_anew_in_each_thread() -> None:
    """One error object is not raised twice: it would gather the tracebacks of all messages."""
    # Given
    halting = AccessError("unauthorized", "no", status=401, retry_after=7.0)

    # When
    with syncing(FakeRecorder(halting), threads=1) as run:
        results = run(*(message(f"user-{number}") for number in range(30)))

    # Then
    assert outcomes(results) == [Deferred("unauthorized", "no", 401, 7.0)] * 30
    frames = 0
    trace = halting.__traceback__
    while trace is not None:
        frames, trace = frames + 1, trace.tb_next
    assert frames < 10


# --- The deadline -------------------------------------------------------------------------------------------------

SHORT = 0.4


class Hanging:
    """A call that hangs until the test lets go of it."""

    def __init__(self) -> None:
        self.release = threading.Event()
        self.began = threading.Event()

    def __call__(self, _: Completion) -> Created:
        """Hang."""
        self.began.set()
        assert self.release.wait(PATIENCE_SECONDS)
        return Created("too late", 201)


def test_hung_call_is_left_behind() -> None:
    """A call that hangs beyond the deadline costs its own message alone, and what it finds later is void."""
    # Given
    hanging = Hanging()
    recorder = FakeRecorder(two=hanging)
    clock = SystemClock()

    with syncing(recorder, clock=clock) as run:
        # When
        began = time.monotonic()
        results = run(message("one"), message("two"), message("three"), deadline=Deadline(clock, SHORT))

        # Then
        assert time.monotonic() - began < SHORT * 10
        assert outcomes(results) == [CREATED, OUT_OF_TIME, CREATED]
        hanging.release.set()
    assert outcomes(results) == [CREATED, OUT_OF_TIME, CREATED]
    assert results[1].attempts == 0


def test_hung_call_in_a_group_takes_its_group_along_and_sends_no_more_of_it() -> None:
    """What stands behind a hung call in its group is out of time, and is not sent when the call comes back."""
    # Given
    hanging = Hanging()
    recorder = FakeRecorder(a1=hanging)
    clock = SystemClock()

    # When
    with syncing(recorder, clock=clock) as run:
        results = run(message("a1", "a"), message("a2", "a"), deadline=Deadline(clock, SHORT))
        hanging.release.set()

    # Then
    assert outcomes(results) == [OUT_OF_TIME, OUT_OF_TIME]
    assert recorder.calls == ["a1"]


def test_what_waits_behind_a_hung_call_never_runs_in_the_next_batch() -> None:
    """What has no thread by the deadline is given up for good, though the pool lives on."""
    # Given: one thread, and it hangs
    hanging = Hanging()
    recorder = FakeRecorder(one=hanging)
    clock = SystemClock()
    with syncing(recorder, threads=1, clock=clock) as run:
        first = run(message("one"), message("two"), message("three"), deadline=Deadline(clock, SHORT))

        # When
        hanging.release.set()
        second = run(message("four"), deadline=Deadline(clock, PATIENCE_SECONDS))

    # Then
    assert outcomes(first) == [OUT_OF_TIME] * 3
    assert outcomes(second) == [CREATED]
    assert recorder.calls == ["one", "four"]


def test_retry_of_a_left_call_sends_nothing() -> None:
    """A call that comes back with a temporary error after the batch has ended is not tried again."""
    # Given
    hanging = Hanging()

    def fail(wanted: Completion) -> Created:
        hanging(wanted)
        raise TemporaryError("unavailable", "reset")

    recorder = FakeRecorder(one=fail)
    # Its deadline has much time left by its own clock, so that the closed batch alone stops it.
    clock = FakeClock()

    class ShortDeadline(Deadline):
        def remaining(self) -> float:
            return SHORT

    # When
    with syncing(recorder, clock=clock) as run:
        results = run(message("one"), deadline=ShortDeadline(clock, SHORT))
        hanging.release.set()

    # Then
    assert outcomes(results) == [OUT_OF_TIME]
    assert recorder.calls == ["one"]


def test_waiting_for_an_identical_completion_ends_at_the_deadline() -> None:
    """A message that waits for another thread's identical completion is out of time with it, and is not sent."""
    # Given
    hanging = Hanging()
    recorder = FakeRecorder(same=hanging)
    clock = SystemClock()

    # When
    with syncing(recorder, clock=clock) as run:
        results = run(
            message("same", "a", message_id="1"), message("same", "b", message_id="2"), deadline=Deadline(clock, SHORT)
        )
        hanging.release.set()

    # Then
    assert outcomes(results) == [OUT_OF_TIME, OUT_OF_TIME]
    assert recorder.calls == ["same"]


def test_waiting_for_an_identical_completion_gives_out_of_time_by_itself() -> None:
    """The thread that waits does not outlive the deadline, even where the batch is still open."""
    # Given: the thread that sends looks at the clock, the one that waits has no time left
    hanging = Hanging()
    recorder = FakeRecorder(same=hanging)
    senders: set[threading.Thread] = set()

    class WatchedClock(FakeClock):
        def now(self) -> Instant:
            senders.add(threading.current_thread())
            return super().now()

    class DeadlineOfThreads(Deadline):
        def remaining(self) -> float:
            if threading.current_thread() in senders:
                return PATIENCE_SECONDS
            assert hanging.began.wait(PATIENCE_SECONDS)
            threading.Timer(SHORT, hanging.release.set).start()
            return 0.0

    clock = WatchedClock()

    # When
    with syncing(recorder, clock=clock) as run:
        results = run(
            message("same", "a", message_id="1"),
            message("same", "b", message_id="2"),
            message("after-a", "a"),
            message("after-b", "b"),
            deadline=DeadlineOfThreads(clock, 1),
        )

    # Then
    first, second, after_first, after_second = outcomes(results)
    behind = Deferred("out_of_time", f"behind a deferred message of its group: {OUT_OF_TIME.detail}")
    if first == OUT_OF_TIME:  # whichever thread came first
        first, second, after_first, after_second = second, first, after_second, after_first
    assert (first, second) == (Created("too late", 201), OUT_OF_TIME)
    assert (after_first, after_second) == (CREATED, behind)
    assert len(recorder.calls) == 2


# --- Errors and outcomes ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "error",
    [CompletionSyncError("x"), SettingError("VARIABLE", "must be"), CallError("x")],
    ids=lambda error: type(error).__name__,
)
def test_error_that_is_no_messages_fault_has_no_outcome(error: CompletionSyncError) -> None:
    """Errors that concern no message are no outcomes: mixing them up is a defect, and told as one."""
    with pytest.raises(TypeError, match=type(error).__name__):
        outcome_of(error)


# --- Property -----------------------------------------------------------------------------------------------------

STEPS: dict[str, Step] = {
    "created": CREATED,
    "exists": Existing("statement", 200),
    "refused": REFUSED,
    "down": DOWN,
    "blip": TemporaryError("unavailable", "reset"),
    "locked": LOCKED,
    "late": OutOfTimeError(),
    "defect": ZeroDivisionError("x"),
}
ALLOWED = {
    "created": {"created"},
    "exists": {"exists"},
    "refused": {"rejected"},
    "invalid": {"rejected"},
    "down": {"deferred"},
    "blip": {"deferred"},
    "locked": {"deferred"},
    "late": {"deferred"},
    "defect": {"deferred"},
}


@settings(max_examples=150, deadline=None)
@given(
    batch=st.lists(
        st.tuples(
            st.sampled_from([*STEPS, "invalid"]),
            st.integers(0, 5),
            st.sampled_from([None, None, "group-a", "group-b"]),
        ),
        max_size=25,
    ),
    threads=st.integers(1, 4),
)
def test_one_result_for_each_message_in_order(batch: list[tuple[str, int, str | None]], threads: int) -> None:
    """For any mixture of answers, repeats and groups: one result each, in order, of a kind that its answer allows."""
    # Given: the user's name says what becomes of the completion
    recorder = FakeRecorder(**{f"{kind}-{number}": step for kind, step in STEPS.items() for number in range(6)})
    messages = [
        invalid(group) if kind == "invalid" else message(f"{kind}-{number}", group) for kind, number, group in batch
    ]

    # When
    with syncing(recorder, threads=threads, unexpected=lambda _: None) as run:
        results = run(*messages)

    # Then
    assert len(results) == len(messages)
    halted = any(kind == "locked" for kind, _, _ in batch)
    for (kind, _, group), result in zip(batch, results, strict=True):
        may_be_held = (halted or group is not None) and kind != "invalid"
        assert result.outcome.name in ALLOWED[kind] | ({"deferred"} if may_be_held else set())
        assert result.attempts <= MAX_ATTEMPTS
    # Nothing is sent twice but in a retry, and nothing recorded is reported.
    for user, count in Counter(recorder.calls).items():
        assert count <= (MAX_ATTEMPTS if user.startswith("blip") else 1)
    sent = set(recorder.calls)
    for each, result in zip(messages, results, strict=True):
        if isinstance(result.outcome, Created | Existing):
            assert not isinstance(each.content, InvalidMessageError)
            assert each.content.user_id in sent
    # In each group, nothing is recorded behind a deferral.
    for group in ("group-a", "group-b"):
        names = [
            result.outcome.name
            for (kind, _, its_group), result in zip(batch, results, strict=True)
            if its_group == group and kind != "invalid"
        ]
        if "deferred" in names:
            assert set(names[names.index("deferred") :]) == {"deferred"}
