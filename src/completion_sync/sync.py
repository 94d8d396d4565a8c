"""The batch engine: a batch of messages becomes one outcome for each.

Here, and only here, errors become outcomes.
"""

from __future__ import annotations

import threading
from concurrent.futures import Executor, Future, wait
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol

from .clock import Clock, Deadline, elapsed
from .errors import (
    AccessError,
    CallError,
    CompletionSyncError,
    DeferralError,
    ForbiddenError,
    InvalidMessageError,
    OutOfTimeError,
    RefusedError,
)
from .outcomes import Created, Deferred, Existing, Outcome, Rejected
from .pressure import MIN_ATTEMPT_SECONDS

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Sequence

    from .completion import Completion
    from .events import Message
    from .pressure import Pressure
    from .retry import RetryPolicy


class Recorder(Protocol):
    """What records one completion: :class:`completion_sync.thrive.ThriveClient`."""

    def record(self, completion: Completion, deadline: Deadline) -> Created | Existing:
        """Record it, or raise a :class:`~completion_sync.errors.CallError`."""
        ...


@dataclass(frozen=True, slots=True)
class Result:
    """The outcome of one message, after how many attempts (0: none was made), in how many milliseconds."""

    outcome: Outcome
    attempts: int = 0
    duration_ms: float = 0.0

    @property
    def is_held(self) -> bool:
        """Whether no call was made for it, because of a pause, an outage, or a deferred message before it."""
        return self.attempts == 0 and self.outcome.reason in ("rate_limited", "unavailable")


@dataclass(frozen=True, slots=True)
class Lane:
    """Messages that go one after the other: a FIFO group, or identical completions.

    ``key`` is what they have in common; the items are indices of messages with what they hold.
    """

    key: Hashable
    items: list[tuple[int, Completion]]
    is_group: bool
    receive_count: int


class CompletionSync:
    """Records batches of messages, several at a time."""

    def __init__(
        self,
        recorder: Recorder,
        retry: RetryPolicy,
        pressure: Pressure,
        executor: Callable[[], Executor],
        clock: Clock,
        count: Callable[[str], None],
        unexpected: Callable[[Exception], None],
    ) -> None:
        """Create the engine.

        :param executor: returns the thread pool; its size bounds the requests in flight.
        :param count: called with ``DeferredWithoutCall``.
        :param unexpected: called with an error that is none of ours: a defect of this package.
        """
        self.recorder = recorder
        self.retry = retry
        self.pressure = pressure
        self.clock = clock
        self.count = count
        self.unexpected = unexpected
        self._executor = executor

    def run(self, messages: Sequence[Message], deadline: Deadline) -> list[Result]:
        """Return one result for each message, in the order of the messages, by the deadline. Raises nothing.

        - A FIFO group is kept in order, and once one of its messages is deferred, so are those behind it.
        - Identical completions are sent once and share the outcome.
        - Once Thrive cannot be called at all (:class:`AccessError`), the rest is deferred without a call.
        - In an outage one message probes it, or two; the rest is deferred without a call unless Thrive answers.
        - A call that hangs beyond the deadline is left behind, and its message is deferred.
        """
        batch = _Batch(self, messages, deadline)
        executor = self._executor()
        futures: list[Future[None]] = []
        try:
            if self.pressure.is_out:
                futures.append(executor.submit(batch.probe))
                wait(futures, timeout=deadline.remaining())
            futures.extend(executor.submit(batch.work, lane) for lane in batch.lanes)
            wait(futures, timeout=deadline.remaining())
        finally:
            # Even if a thread could not be started: what waits in the pool must not begin in a later invocation.
            batch.close()
            for future in futures:
                future.cancel()
        results = batch.results()
        for result in results:
            if result.is_held:
                self.count("DeferredWithoutCall")
        return results


class _Batch:
    """One batch in progress: what its threads share."""

    def __init__(self, engine: CompletionSync, messages: Sequence[Message], deadline: Deadline) -> None:
        self._engine = engine
        self._messages = messages
        self._deadline = deadline
        self._lock = threading.Lock()
        self._results: dict[int, Result] = {}
        self._sent: dict[Completion, Future[Result]] = {}
        self._halted: AccessError | None = None
        self._forbidden = 0
        self._has_settled = False
        self._closed = False
        self.lanes = _lanes(messages)

    def probe(self) -> None:
        """Probe the outage with the first message of one lane, and of another one if that gets no answer."""
        pressure = self._engine.pressure
        for _ in range(2):
            due = [lane for lane in self.lanes if pressure.is_probe_due(lane.key)]
            if not due or not pressure.is_out:
                return
            lane = min(due, key=lambda lane: (pressure.has_failed(lane.key), lane.receive_count))
            self._process(lane, lane.items[:1], probing=True)

    def work(self, lane: Lane) -> None:
        """Process one lane in order."""
        self._process(lane, lane.items, probing=False)

    def close(self) -> None:
        """End the batch: no further attempt begins, and what still comes is too late for the answer."""
        self._closed = True

    def results(self) -> list[Result]:
        """Return a result for each message of a closed batch."""
        return [self._result(index, message) for index, message in enumerate(self._messages)]

    def _result(self, index: int, message: Message) -> Result:
        if isinstance(message.content, InvalidMessageError):
            return Result(outcome_of(message.content))
        # No result: its thread hangs, or never began.
        return self._results.get(index) or Result(outcome_of(OutOfTimeError()))

    def _process(self, lane: Lane, items: Sequence[tuple[int, Completion]], *, probing: bool) -> None:
        held: Deferred | None = None
        for index, completion in items:
            result = self._results.get(index)  # a probe's
            if result is None:
                result = Result(held) if held else self._record(completion, lane, probing=probing)
                self._results[index] = result
            if held is None and lane.is_group and isinstance(result.outcome, Deferred):
                held = replace(
                    result.outcome, detail=f"behind a deferred message of its group: {result.outcome.detail}"
                )

    def _record(self, completion: Completion, lane: Lane, *, probing: bool) -> Result:
        """Send a completion, unless another thread has: then wait for its result."""
        with self._lock:
            known = self._sent.get(completion)
            future: Future[Result] = self._sent.setdefault(completion, Future())
        if known is not None:
            try:
                return known.result(timeout=self._deadline.remaining())
            except TimeoutError:
                return Result(outcome_of(OutOfTimeError()))
        engine = self._engine
        started = engine.clock.now()
        attempts = 0

        def attempt() -> Created | Existing:
            nonlocal attempts
            # Again before each attempt: the batch may have ended while this one waited.
            self._raise_if_ended()
            attempts += 1
            return engine.recorder.record(completion, self._deadline)

        outcome: Outcome
        try:
            self._raise_if_ended()
            outcome = engine.retry.call(attempt, self._deadline, engine.pressure, lane.key, probing=probing)
            self._has_settled = True
        except CallError as error:
            self._learn_from(error)
            outcome = outcome_of(error)
        except Exception as error:  # noqa: BLE001 - a defect of ours: its message waits, its neighbours go on
            engine.unexpected(error)
            outcome = Deferred("unavailable", f"unexpected {type(error).__name__} in this function")
        result = Result(outcome, attempts, elapsed(started, engine.clock.now()) * 1000)
        future.set_result(result)
        return result

    def _raise_if_ended(self) -> None:
        if self._halted is not None:
            raise self._halted.copy()
        if self._closed or self._deadline.remaining() < MIN_ATTEMPT_SECONDS:
            raise OutOfTimeError

    def _learn_from(self, error: CallError) -> None:
        """Draw from one message's error what it means for the rest of the batch."""
        match error:
            case RefusedError():
                self._has_settled = True
            case AccessError():
                self._halted = error.copy()
            case ForbiddenError():
                # One forbidden message must not stop the others; a second one, with nothing settled, shows that the
                # credentials lack the permission.
                with self._lock:
                    self._forbidden += 1
                    if self._forbidden > 1 and not self._has_settled:
                        self._halted = AccessError(error.reason, error.detail, status=error.status)


def _lanes(messages: Sequence[Message]) -> list[Lane]:
    """Divide a batch into lanes. A message without a completion needs no call, and does not hold its group."""
    lanes: dict[Hashable, Lane] = {}
    for index, message in enumerate(messages):
        completion = message.content
        if isinstance(completion, InvalidMessageError):
            continue
        key: Hashable = completion if message.group is None else (message.queue_arn, message.group)
        lane = lanes.setdefault(key, Lane(key, [], message.group is not None, message.receive_count))
        lane.items.append((index, completion))
    return list(lanes.values())


def outcome_of(error: CompletionSyncError) -> Rejected | Deferred:
    """Return the outcome that docs/outcomes.md gives for an error of ours."""
    match error:
        case InvalidMessageError():
            return Rejected("invalid_message", str(error))
        case RefusedError():
            return Rejected("refused", error.detail, error.status)
        case DeferralError():
            return Deferred(error.reason, error.detail, error.status, error.retry_after)
        case _:
            raise TypeError(f"{type(error).__name__} has no outcome")
