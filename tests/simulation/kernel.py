"""Virtual time, and threads of which exactly one runs at a time.

The code under test blocks: it sleeps, waits for locks and for futures. So each of its threads is a real thread here,
but it runs only while it holds the baton, and hands it on where it blocks and, by a throw of the dice, at every other
*switch point*: reading a clock, taking a lock, submitting work, calling out. Whoever holds the baton picks the next
event by (time, dice, sequence), so that one seed gives one run, whatever the machine does meanwhile.

Not modelled: a switch between two of these points. CPython may switch threads between any two bytecodes; state that is
shared without a lock and without a switch point between read and write is atomic here.
"""

from __future__ import annotations

import heapq
import threading
from collections import deque
from concurrent.futures import CancelledError
from dataclasses import dataclass
from itertools import count
from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Iterable

EPOCH = 1_800_000_000.0
_current: list[Kernel] = []


def kernel() -> Kernel:
    return _current[-1]


class Killed(BaseException):
    """The process of this thread is dead: unwinds its stack, and whatever it does on the way has no effect outside."""


class Process:
    """What an operating system would know of one execution environment: its two clocks, its threads, its death."""

    def __init__(self, kernel: Kernel, name: str, on_death: Callable[[], None]) -> None:
        self.name = name
        self.dead = False
        self.frozen = False
        self.wall_offset = 0.0
        self.points_to_crash: int | None = None
        self.points_to_stall: int | None = None
        self.stall_seconds = 0.0
        self.stalled = False
        self.tasks: set[Task] = set()
        self._kernel = kernel
        self._on_death = on_death
        self.parked: list[_Event] = []  # what fell due while it was frozen
        self._frozen_since = 0.0
        self._monotonic_zero = kernel.now - kernel.rng.uniform(0.0, 5_000.0)

    def wall(self) -> float:
        """Read the wall clock: it goes on while the process is frozen, and may have been stepped."""
        return EPOCH + self._kernel.now + self.wall_offset

    def monotonic(self) -> float:
        """Read the monotonic clock: it stands still while the process is frozen."""
        return (self._frozen_since if self.frozen else self._kernel.now) - self._monotonic_zero

    def freeze(self) -> None:
        self.frozen, self._frozen_since = True, self._kernel.now

    def thaw(self) -> None:
        """Go on. What fell due in the meantime happens now."""
        self.frozen = False
        self._monotonic_zero += self._kernel.now - self._frozen_since
        self._unpark()

    def kill(self) -> None:
        """End it: every thread unwinds as soon as it would run again."""
        if self.dead:
            return
        self.dead, self.frozen = True, False
        for task in sorted(self.tasks, key=lambda task: task.number):
            self._kernel.wake(task)
        self._unpark()
        self._on_death()

    def _unpark(self) -> None:
        parked, self.parked = self.parked, []
        for event in parked:
            self._kernel.push(max(event.time, self._kernel.now), event)


class Task:
    def __init__(self, process: Process, number: int, run: Callable[[], None]) -> None:
        self.process = process
        self.number = number
        self.run = run
        self.carrier: _Carrier | None = None
        self.event: _Event | None = None


@dataclass(eq=False, slots=True)
class _Event:
    time: float
    task: Task | None
    action: Callable[[], None] | None
    alive: bool = True


class _Carrier(threading.Thread):
    """A real thread that carries one task after another, from run to run: starting one takes longer than most tasks."""

    idle: ClassVar[deque[_Carrier]] = deque()

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.baton = threading.Lock()
        self.baton.acquire()
        self.kernel: Kernel
        self.task: Task
        self.start()

    def run(self) -> None:
        while True:
            self.baton.acquire()
            kernel, task = self.kernel, self.task
            kernel.carry(task)
            self.idle.append(self)
            kernel.go_on(None)


class Kernel:
    """The clock, the queue of events and the baton."""

    def __init__(self, rng: random.Random, preemption: float) -> None:
        """:param preemption: how likely a thread is to be switched away from at a switch point."""
        self.rng = rng
        self.now = 0.0
        self.failure: BaseException | None = None
        self.switches = 0
        self.thread_fails: Callable[[], bool] = lambda: False
        self._preemption = preemption
        self._heap: list[tuple[float, float, int, _Event]] = []
        self._numbers = count()
        self._baton = threading.Lock()
        self._baton.acquire()
        self._until = 0.0
        self._stopped = False
        self._task: Task | None = None
        self._live: set[Task] = set()

    # ---- the outside: events, processes, the run

    def at(self, time: float, action: Callable[[], None]) -> None:
        """Schedule a call of a function, which must not block, at a time."""
        self.push(time, _Event(time, None, action))

    def after(self, seconds: float, action: Callable[[], None]) -> None:
        """Schedule a call of a function, which must not block, in ``seconds``."""
        self.at(self.now + seconds, action)

    def push(self, time: float, event: _Event) -> None:
        """Put an event into the queue; those of one moment happen in random order."""
        event.time = time
        heapq.heappush(self._heap, (time, self.rng.random(), next(self._numbers), event))

    def spawn(self, process: Process, run: Callable[[], None]) -> None:
        task = Task(process, next(self._numbers), run)
        process.tasks.add(task)
        self._live.add(task)
        self.wake(task)

    def run(self, until: float) -> None:
        """Run everything up to a time, or until nothing is left to happen or :meth:`stop` is called."""
        self._until, self._stopped = until, False
        _current.append(self)
        try:
            self.go_on(None, main=True)
            self._unwind()
        finally:
            _current.remove(self)
        if self.failure is not None:
            raise self.failure

    def stop(self) -> None:
        self._stopped = True

    @property
    def running(self) -> bool:
        return self._task is not None

    @property
    def process(self) -> Process:
        assert self._task is not None, "no thread of a process runs"
        return self._task.process

    @property
    def task(self) -> Task:
        assert self._task is not None, "no thread of a process runs"
        return self._task

    def is_live(self, task: Task | None) -> bool:
        """Whether a thread of this run has not ended and will not be ended."""
        return task in self._live and not task.process.dead

    # ---- what threads call

    def switch(self) -> None:
        """Pass a switch point: other threads may run, and the process may crash or stall here."""
        process = self.process
        self.switches += 1
        if process.dead:
            raise Killed
        if process.points_to_crash is not None:
            process.points_to_crash -= 1
            if process.points_to_crash <= 0:
                process.kill()
                raise Killed
        if process.points_to_stall is not None:
            process.points_to_stall -= 1
            if process.points_to_stall <= 0:
                process.points_to_stall, process.stalled = None, True
                self.sleep(process.stall_seconds)
        if self.rng.random() < self._preemption:
            # Now, or some milliseconds later: code takes time too.
            self.sleep(self.rng.choice((0.0, 0.0, 0.003)))

    def sleep(self, seconds: float) -> None:
        end = self.now + max(0.0, seconds)
        self.wait(seconds)
        while self.now < end:  # woken by something that it no longer waits for
            self.wait(end - self.now)

    def wait(self, seconds: float | None) -> None:
        task = self.task
        task.event = None
        if seconds is not None:
            task.event = _Event(0.0, task, None)
            self.push(self.now + max(0.0, seconds), task.event)
        self._block(task)

    def wake(self, task: Task) -> None:
        """Make a blocked thread run again, in a random order with everything else due at this moment."""
        if task not in self._live:
            return
        if task.event is not None and task.event.alive:
            if task.event.time <= self.now:
                return
            task.event.alive = False
        task.event = _Event(0.0, task, None)
        self.push(self.now, task.event)

    # ---- the baton

    def carry(self, task: Task) -> None:
        self._task = task
        try:
            if not task.process.dead:
                task.run()
        except Killed:
            pass
        except BaseException as error:  # noqa: BLE001 - a defect of the simulation itself
            self._fail(error)
        finally:
            task.event = None
            task.process.tasks.discard(task)
            self._live.discard(task)

    def go_on(self, me: Task | None, *, main: bool = False) -> None:
        """Let events happen, in the thread that holds the baton, until one of them wakes a task; hand the baton to it.

        Returns when ``me`` has the baton again, at once where there is no ``me``.
        """
        self._task = None
        target = self._next()
        if target is me and me is not None:
            self._task = me
            return
        if target is None:
            if main:
                return
            self._baton.release()
        else:
            self._hand_over(target)
        if main:
            self._baton.acquire()
        elif me is not None:
            assert me.carrier is not None
            me.carrier.baton.acquire()
            self._task = me

    def _next(self) -> Task | None:
        while self._heap and not self._stopped:
            if self._heap[0][0] > self._until:
                break
            event = heapq.heappop(self._heap)[3]
            if not event.alive:
                continue
            self.now = max(self.now, event.time)
            task = event.task
            if task is None:
                try:
                    event.action()
                except BaseException as error:  # noqa: BLE001 - raised again in the main thread
                    self._fail(error)
            elif task.event is not event:
                continue
            elif task.process.frozen:
                task.process.parked.append(event)
            else:
                event.alive = False
                return task
        return None

    def _hand_over(self, task: Task) -> None:
        if task.carrier is None:
            task.carrier = _Carrier.idle.pop() if _Carrier.idle else _Carrier()
            task.carrier.kernel, task.carrier.task = self, task
        task.carrier.baton.release()

    def _block(self, task: Task) -> None:
        self.go_on(task)
        if task.process.dead:
            raise Killed

    def _unwind(self) -> None:
        """End every thread that is left; nothing else happens any more."""
        self._stopped = True
        for task in sorted(self._live, key=lambda task: task.number):
            task.process.dead = True
        for task in sorted(self._live, key=lambda task: task.number):
            self._hand_over(task)
            self._baton.acquire()

    def _fail(self, error: BaseException) -> None:
        self.failure = self.failure or error
        self._stopped = True


class Lock:
    """``threading.Lock``. Whoever waits when it is released may overtake, as with the real one."""

    def __init__(self) -> None:
        self._owner: Task | None = None
        self._waiting: list[Task] = []

    def __enter__(self) -> bool:
        return self.acquire()

    def __exit__(self, *_error: object) -> None:
        self.release()

    def acquire(self) -> bool:
        run = kernel()
        run.switch()
        while run.is_live(self._owner):
            # Once: a second entry would be woken in place of somebody else.
            self._waiting = [*(task for task in self._waiting if task is not run.task), run.task]
            run.wait(None)
        self._waiting = [task for task in self._waiting if task is not run.task]
        self._owner = run.task
        return True

    def release(self) -> None:
        self._owner = None
        run = kernel()
        # A lock of a class outlives processes and runs: whoever is dead waits no longer.
        self._waiting = [task for task in self._waiting if run.is_live(task)]
        if self._waiting:
            run.wake(self._waiting.pop(run.rng.randrange(len(self._waiting))))


class RLock(Lock):
    """``threading.RLock``."""

    def __init__(self) -> None:
        super().__init__()
        self._depth = 0

    def acquire(self) -> bool:
        if self._owner is None or self._owner is not kernel().task:
            super().acquire()
        self._depth += 1
        return True

    def release(self) -> None:
        self._depth -= 1
        if self._depth == 0:
            super().release()


class Semaphore:
    """``threading.Semaphore``."""

    def __init__(self, value: int) -> None:
        self._value = value
        self._waiting: list[Task] = []

    def acquire(self, timeout: float) -> bool:
        run = kernel()
        run.switch()
        end = run.now + timeout
        while self._value == 0 and run.now < end:
            self._waiting.append(run.task)
            run.wait(end - run.now)
            self._waiting = [task for task in self._waiting if task is not run.task]
        if self._value == 0:
            return False
        self._value -= 1
        return True

    def release(self) -> None:
        self._value += 1
        for task in self._waiting:
            kernel().wake(task)


class Future:
    """``concurrent.futures.Future``, as far as it is used."""

    _numbers = count()

    def __init__(self) -> None:
        # Sets of futures are ordered by this, and not by an address in memory.
        self._number = next(self._numbers)
        self.waiting: list[Task] = []
        self._state = "pending"
        self._result: Any = None
        self._error: BaseException | None = None

    def __hash__(self) -> int:
        return self._number

    def __eq__(self, other: object) -> bool:
        return self is other

    def done(self) -> bool:
        return self._state in {"done", "cancelled"}

    def cancel(self) -> bool:
        if self._state == "pending":
            self._end("cancelled")
        return self._state == "cancelled"

    def begin(self) -> bool:
        if self._state != "pending":
            return False
        self._state = "running"
        return True

    def set_result(self, result: Any) -> None:
        self._result = result
        self._end("done")

    def set_exception(self, error: BaseException) -> None:
        self._error = error
        self._end("done")

    def result(self, timeout: float | None = None) -> Any:
        wait([self], timeout)
        if not self.done():
            raise TimeoutError
        if self._state == "cancelled":
            raise CancelledError
        if self._error is not None:
            raise self._error
        return self._result

    def _end(self, state: str) -> None:
        self._state = state
        waiting, self.waiting = self.waiting, []
        for task in waiting:
            kernel().wake(task)


def wait(futures: Iterable[Future], timeout: float | None = None) -> tuple[set[Future], set[Future]]:
    """``concurrent.futures.wait``; a switch point."""
    run = kernel()
    run.switch()
    futures = list(futures)
    end = None if timeout is None else run.now + timeout
    while pending := [future for future in futures if not future.done()]:
        if end is not None and run.now >= end:
            break
        for future in pending:
            future.waiting.append(run.task)
        run.wait(None if end is None else end - run.now)
    return {future for future in futures if future.done()}, set(pending)


class ThreadPoolExecutor:
    """``concurrent.futures.ThreadPoolExecutor``: at most so many threads, work in the order of submission."""

    def __init__(self, max_workers: int, thread_name_prefix: str = "") -> None:
        self._max_workers = max_workers
        self._workers = 0
        self._work: deque[tuple[Future, Callable[..., Any], tuple[Any, ...]]] = deque()

    def submit(self, function: Callable[..., Any], /, *args: Any) -> Future:
        """Call a function in one of the threads; a switch point.

        :raises RuntimeError: no thread is to be had; as with the real one, the work is in the queue all the same.
        """
        run = kernel()
        run.switch()
        future = Future()
        self._work.append((future, function, args))
        if self._workers < self._max_workers:
            if run.thread_fails():
                raise RuntimeError("can't start new thread")
            self._workers += 1
            run.spawn(run.process, self._worker)
        return future

    def _worker(self) -> None:
        while self._work:
            future, function, args = self._work.popleft()
            if not future.begin():
                continue
            try:
                result = function(*args)
            except Exception as error:  # noqa: BLE001 - as the real one does
                future.set_exception(error)
            else:
                future.set_result(result)
        self._workers -= 1
