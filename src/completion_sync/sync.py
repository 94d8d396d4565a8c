"""The batch engine: a batch of messages becomes one outcome for each."""

from __future__ import annotations

import threading
from concurrent.futures import Executor, Future, wait
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from .clock import Clock, Deadline, elapsed
from .completion import Completion, Unresolved
from .errors import CallError, DeferralError, HeldError, InvalidMessageError, OutOfTimeError
from .lanes import Lane, lanes_of
from .outcomes import Deferred, Ignored, Outcome, Rejected, outcome_of
from .recording import Access, Recorder, Recording, Task

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Sequence

    from .clock import Instant
    from .events import Message
    from .pressure import Pressure
    from .resolution import Resolver
    from .retry import RetryPolicy


@dataclass(frozen=True, slots=True)
class Result:
    """The outcome of one message, after how many attempts (0: none was made), in how many milliseconds.

    ``completion`` is what it holds in Thrive's ids, as far as that is known.
    """

    outcome: Outcome
    attempts: int = 0
    duration_ms: float = 0.0
    completion: Completion | None = None
    # No call was made, because of a pause, an outage, or a message before it in its group that was held for these.
    is_held: bool = False
    # Requests to Thrive, lookups included.
    calls: int = 0


class CompletionSync:
    """Records batches of messages, several at a time."""

    def __init__(
        self,
        recorder: Recorder,
        resolver: Resolver,
        retry: RetryPolicy,
        completions: Pressure,
        lookups: Pressure,
        user_wait_seconds: float,
        executor: Callable[[], Executor],
        clock: Clock,
        count: Callable[[str], None],
        unexpected: Callable[[Exception], None],
    ) -> None:
        """Create the engine.

        :param completions, lookups: the pressure of each kind of call.
        :param user_wait_seconds: the age from which a message for an unknown person is rejected.
        :param executor: returns the thread pool; its size bounds the requests in flight.
        :param count: called with ``DeferredWithoutCall``.
        :param unexpected: called with an error that is none of ours: a defect of this package.
        """
        self.recorder = recorder
        self.resolver = resolver
        self.retry = retry
        self.completions = completions
        self.lookups = lookups
        self.user_wait_seconds = user_wait_seconds
        self.clock = clock
        self.count = count
        self.unexpected = unexpected
        self._executor = executor

    def run(self, messages: Sequence[Message], deadline: Deadline, began: Instant | None = None) -> list[Result]:
        """Return one result for each message, in the order of the messages, by the deadline.

        - A FIFO group is kept in order, and once one of its messages is deferred, so are those behind it.
        - Identical completions are sent once and share the outcome.
        - Once Thrive cannot be called at all (:class:`AccessError`), the rest is deferred without a call.
        - In an outage one message probes it, or two; the rest is deferred without a call unless Thrive answers.
        - Messages that need a lookup come last: lookups that hang keep no other message waiting.
        - A call that hangs beyond the deadline is left behind, and its message is deferred.

        :param began: when the invocation began, if that is not now.
        :raises RuntimeError: no thread could be started.
        """
        batch = _Batch(self, messages, deadline, began or self.clock.now())
        executor = self._executor()
        futures: list[Future[None]] = []
        try:
            if self.completions.is_out:
                futures.append(executor.submit(batch.probe))
                wait(futures, timeout=deadline.remaining())
            last: list[Lane] = []
            for lane in batch.lanes:
                if batch.needs_lookups(lane):
                    last.append(lane)
                else:
                    futures.append(executor.submit(batch.work, lane))
            if self.lookups.is_out and not self.completions.is_out:
                futures.append(executor.submit(batch.probe_lookups))
                wait(futures[-1:], timeout=deadline.remaining())
            futures.extend(executor.submit(batch.work, lane) for lane in last)
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

    def __init__(self, engine: CompletionSync, messages: Sequence[Message], deadline: Deadline, began: Instant) -> None:
        self._engine = engine
        self._messages = messages
        self._deadline = deadline
        self._began = began
        self._lock = threading.Lock()
        self._results: dict[int, Result] = {}
        self._sent: dict[Completion | Unresolved, Future[Result]] = {}
        self._recording = Recording(engine.recorder, engine.resolver, engine.retry, engine.completions, deadline, began)
        self.lanes = lanes_of(messages)

    def probe(self) -> None:
        """Probe an outage of completions with the first message of one lane, and of another if that gets no answer."""
        self._probe(self._engine.completions, self.lanes, lambda lane: lane.key, self._recording.completions)

    def probe_lookups(self) -> None:
        """Probe an outage of lookups in the same way."""
        lanes = [lane for lane in self.lanes if self._recording.needs_lookup(lane.head)]
        self._probe(self._engine.lookups, lanes, _reference, self._recording.lookups)

    def needs_lookups(self, lane: Lane) -> bool:
        """Return whether any of a lane's messages names a person who has to be looked up."""
        return any(self._recording.needs_lookup(content) for _, content in lane.items)

    def work(self, lane: Lane) -> None:
        """Process one lane in order."""
        self._process(lane, lane.items, None)

    def close(self) -> None:
        """End the batch: no further attempt begins, and what still comes is too late for the answer."""
        self._recording.close()

    def results(self) -> list[Result]:
        """Return a result for each message of a closed batch."""
        return [self._result(index, message) for index, message in enumerate(self._messages)]

    def _result(self, index: int, message: Message) -> Result:
        match message.content:
            case Ignored():
                return Result(message.content)
            case InvalidMessageError() | DeferralError():
                return Result(outcome_of(message.content))
            case _:
                # No result: its thread hangs, or never began.
                return self._results.get(index) or Result(outcome_of(OutOfTimeError()))

    def _probe(
        self, pressure: Pressure, lanes: Sequence[Lane], subject: Callable[[Lane], Hashable], access: Access
    ) -> None:
        def rank(lane: Lane) -> tuple[bool, bool, int]:
            return pressure.has_failed(subject(lane)), self._recording.needs_lookup(lane.head), lane.receive_count

        probes = 0
        while probes < 2 and pressure.is_out and not access.is_halted:
            waiting = [lane for lane in lanes if lane.items[0][0] not in self._results]
            due = [lane for lane in waiting if pressure.is_probe_due(subject(lane))]
            if not due:
                return
            lane = min(due, key=rank)
            self._process(lane, lane.items[:1], pressure)
            # A message that needs a content table which is not available ends without a call, and is no probe.
            probes += self._results[lane.items[0][0]].calls > 0

    def _process(
        self, lane: Lane, items: Sequence[tuple[int, Completion | Unresolved]], probing: Pressure | None
    ) -> None:
        """Process messages of a lane in order; ``probing`` is the pressure whose outage they probe."""
        behind: Result | None = None
        for index, content in items:
            result = self._results.get(index)  # a probe's
            if result is None:
                result = behind or self._of_message(self._record(content, lane, probing), self._messages[index])
                self._results[index] = result
            if behind is None and lane.is_group and isinstance(result.outcome, Deferred):
                detail = f"behind a deferred message of its group: {result.outcome.detail}"
                behind = Result(replace(result.outcome, detail=detail), is_held=result.is_held)

    def _of_message(self, result: Result, message: Message) -> Result:
        """Return a message's own result: whether it waits for an unknown person depends on its age and its queue."""
        outcome = result.outcome
        if not isinstance(outcome, Deferred) or outcome.reason != "unknown_user":
            return result
        # A message that waits would lock its group, which is the group of all messages from the bus.
        if message.group is None and message.age(self._began) < self._engine.user_wait_seconds:
            return result
        return replace(result, outcome=Rejected("unknown_user", outcome.detail, outcome.status))

    def _record(self, content: Completion | Unresolved, lane: Lane, probing: Pressure | None) -> Result:
        """Record a completion, unless another thread does: then wait for its result."""
        with self._lock:
            known = self._sent.get(content)
            future: Future[Result] = self._sent.setdefault(content, Future())
        if known is not None:
            try:
                return known.result(timeout=self._deadline.remaining())
            except TimeoutError:
                return Result(outcome_of(OutOfTimeError()))
        started = self._engine.clock.now()
        task = Task(lane.key, probing)
        outcome: Outcome
        is_held = False
        try:
            outcome = self._recording.record(content, task)
        except (CallError, InvalidMessageError) as error:
            is_held = isinstance(error, HeldError) and not task.attempts
            outcome = outcome_of(error)
        except Exception as error:  # noqa: BLE001 - a defect of ours: its message waits, its neighbours go on
            self._engine.unexpected(error)
            outcome = Deferred("unavailable", f"unexpected {type(error).__name__} in this function")
        milliseconds = elapsed(started, self._engine.clock.now()) * 1000
        result = Result(outcome, task.attempts, milliseconds, task.completion, is_held, task.calls)
        future.set_result(result)
        return result


def _reference(lane: Lane) -> Hashable:
    return lane.head.user_ref if isinstance(lane.head, Unresolved) else None
