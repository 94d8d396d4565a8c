"""The heart: one completion becomes one outcome, and a batch becomes one outcome for each message.

Here, and only here, errors become outcomes.
"""

from __future__ import annotations

import threading
from collections import defaultdict
from concurrent.futures import Executor, Future, wait
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol, TypeAlias

from .errors import (
    AccessError,
    CallError,
    CompletionSyncError,
    DeferralError,
    InvalidMessageError,
    OutOfTimeError,
    RefusedError,
)
from .outcomes import Created, Deferred, Existing, Outcome, Rejected
from .retry import MIN_ATTEMPT_SECONDS, Clock, Deadline, RetryPolicy, elapsed

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from .completion import Completion
    from .events import Message


# Indices of messages, and what they hold.
_Lane: TypeAlias = "list[tuple[int, Completion]]"


class Recorder(Protocol):
    """What records one completion; :class:`completion_sync.thrive.ThriveClient` does."""

    def record(self, completion: Completion, deadline: Deadline) -> Created | Existing:
        """Record it, or raise a :class:`~completion_sync.errors.CallError`."""
        ...


@dataclass(frozen=True, slots=True)
class Result:
    """How one message ended, after how many attempts of ours (0: none was made), in how many milliseconds."""

    outcome: Outcome
    attempts: int = 0
    duration_ms: float = 0.0


class CompletionSync:
    """Records batches of messages, several at a time."""

    def __init__(
        self,
        recorder: Recorder,
        retry: RetryPolicy,
        executor: Callable[[], Executor],
        clock: Clock,
        unexpected: Callable[[Exception], None],
    ) -> None:
        """Take the parts.

        :param executor: gives the pool of threads; its size bounds the requests in flight.
        :param unexpected: told of an error outside our tree, which is a defect of this package.
        """
        self._recorder = recorder
        self._retry = retry
        self._executor = executor
        self._clock = clock
        self._unexpected = unexpected

    def run(self, messages: Sequence[Message], deadline: Deadline) -> list[Result]:
        """Give one result for each message, in the messages' order, by the deadline. Raises nothing.

        - A FIFO group is kept in order, and once one of its messages is deferred, so are those behind it.
        - Identical completions are sent once and share the outcome.
        - Once Thrive cannot be called at all (:class:`AccessError`), what remains is deferred without a call.
        - A call that hangs beyond the deadline is left behind: its message is deferred.
        """
        batch = _Batch(self._recorder, self._retry, self._clock, self._unexpected, messages, deadline)
        executor = self._executor()
        futures: list[Future[None]] = []
        try:
            futures.extend(executor.submit(batch.work, lane) for lane in _lanes(messages))
            wait(futures, timeout=deadline.remaining())
        finally:
            # Also where no thread could be started: what waits in the pool must not begin in a later invocation.
            batch.close()
            for future in futures:
                future.cancel()
        return batch.results()


def _lanes(messages: Sequence[Message]) -> list[_Lane]:
    """Divide a batch into what goes one after the other: a FIFO group, or identical completions.

    What holds no completion needs no call, and does not hold its group.
    """
    lanes: defaultdict[object, _Lane] = defaultdict(list)
    for index, message in enumerate(messages):
        content = message.content
        if not isinstance(content, InvalidMessageError):
            lanes[content if message.group is None else (message.queue_arn, message.group)].append((index, content))
    return list(lanes.values())


class _Batch:
    """One batch in work: what its threads share."""

    def __init__(
        self,
        recorder: Recorder,
        retry: RetryPolicy,
        clock: Clock,
        unexpected: Callable[[Exception], None],
        messages: Sequence[Message],
        deadline: Deadline,
    ) -> None:
        self._recorder = recorder
        self._retry = retry
        self._clock = clock
        self._unexpected = unexpected
        self._messages = messages
        self._deadline = deadline
        self._lock = threading.Lock()
        self._results: dict[int, Result] = {}
        self._sent: dict[Completion, Future[Result]] = {}
        self._halted: AccessError | None = None
        self._closed = False

    def work(self, lane: _Lane) -> None:
        """Process one lane in order."""
        held: Deferred | None = None
        for index, completion in lane:
            result = self._once(completion) if held is None else Result(held)
            with self._lock:
                if self._closed:
                    return
                self._results[index] = result
            if held is None and isinstance(result.outcome, Deferred) and self._messages[index].group is not None:
                held = replace(
                    result.outcome, detail=f"behind a deferred message of its group: {result.outcome.detail}"
                )

    def close(self) -> None:
        """End the batch: what a thread finds out from now on comes too late for the answer."""
        with self._lock:
            self._closed = True

    def results(self) -> list[Result]:
        """Give a result for each message of a closed batch."""
        return [self._result(index, message) for index, message in enumerate(self._messages)]

    def _result(self, index: int, message: Message) -> Result:
        if isinstance(message.content, InvalidMessageError):
            return Result(outcome_of(message.content))
        # No result: its thread hangs, or never began.
        return self._results.get(index) or Result(outcome_of(OutOfTimeError()))

    def _once(self, completion: Completion) -> Result:
        """Send a completion unless another thread has: then wait for what that one gets."""
        with self._lock:
            known = self._sent.get(completion)
            future: Future[Result] = self._sent.setdefault(completion, Future())
        if known is not None:
            try:
                return known.result(timeout=self._deadline.remaining())
            except TimeoutError:
                return Result(outcome_of(OutOfTimeError()))
        result = self._send(completion)
        future.set_result(result)
        return result

    def _send(self, completion: Completion) -> Result:
        started = self._clock.now()
        attempts = 0

        def attempt() -> Created | Existing:
            nonlocal attempts
            if self._halted is not None:
                raise self._halted.again()
            if self._closed or self._deadline.remaining() < MIN_ATTEMPT_SECONDS:
                raise OutOfTimeError
            attempts += 1
            return self._recorder.record(completion, self._deadline)

        outcome: Outcome
        try:
            outcome = self._retry.call(attempt, self._deadline)
        except CallError as error:
            if isinstance(error, AccessError):
                self._halted = error
            outcome = outcome_of(error)
        except Exception as error:  # noqa: BLE001 - a defect of ours: its message waits, its neighbours go on
            self._unexpected(error)
            outcome = Deferred("unavailable", f"unexpected {type(error).__name__} in this function")
        return Result(outcome, attempts, elapsed(started, self._clock.now()) * 1000)


def outcome_of(error: CompletionSyncError) -> Rejected | Deferred:
    """Turn an error of our tree into the outcome that the table in the README gives for it."""
    match error:
        case InvalidMessageError():
            return Rejected("invalid_message", str(error))
        case RefusedError():
            return Rejected("refused", error.detail, error.status)
        case DeferralError():
            return Deferred(error.reason, error.detail, error.status, error.retry_after)
        case _:
            raise TypeError(f"{type(error).__name__} has no outcome")
