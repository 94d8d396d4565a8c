"""The faults in force, and which request each of them hits."""

from __future__ import annotations

import itertools
import random
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from sandbox.thrive_api.faults import Fault


@dataclass(slots=True)
class _Armed:
    """A fault in force, and what it has done until now."""

    fault: Fault
    added_at: float
    seen: int = 0
    hits: int = 0

    def is_spent(self, now: float) -> bool:
        fault, age = self.fault, now - self.added_at
        return self.hits == fault.times or (fault.lasts is not None and age >= fault.starts_in + fault.lasts)


class FaultBook:
    """The faults in force, the oldest first; the first one that hits a request is the one applied.

    The same seed and the same order of requests give the same faults. Any thread may call.
    """

    def __init__(self, *, seed: int = 0, clock: Callable[[], float] = time.monotonic) -> None:
        self._random = random.Random(seed)  # noqa: S311 - chance that can be replayed, no secret
        self._clock = clock
        self._armed: dict[int, _Armed] = {}
        self._hits: dict[int, int] = {}
        self._ids = itertools.count(1)
        self._lock = threading.Lock()

    def add(self, fault: Fault) -> int:
        """Put a fault in force and return its id."""
        with self._lock:
            fault_id = next(self._ids)
            self._armed[fault_id] = _Armed(fault, self._clock())
            self._hits[fault_id] = 0
            return fault_id

    def remove(self, fault_id: int) -> bool:
        """End a fault; tell whether it was in force."""
        with self._lock:
            return self._armed.pop(fault_id, None) is not None

    def clear(self) -> None:
        """End all faults; what they hit stays counted."""
        with self._lock:
            self._armed.clear()

    def in_force(self) -> dict[int, Fault]:
        """Return the faults that may still hit, by id."""
        now = self._clock()
        with self._lock:
            return {fault_id: armed.fault for fault_id, armed in self._armed.items() if not armed.is_spent(now)}

    def hits(self, fault_id: int) -> int:
        """Return how many requests a fault has hit, also after it ended; 0 for an unknown id."""
        return self._hits.get(fault_id, 0)

    def take(self, route: str, payload: Any = None) -> tuple[int, Fault] | None:
        """Return the fault (and its id) that hits this request, or None; a hit is counted."""
        if not self._armed:
            return None
        with self._lock:
            now = self._clock()
            for fault_id, armed in list(self._armed.items()):
                if armed.is_spent(now):
                    del self._armed[fault_id]
                elif self._is_hit(armed, route, payload, now):
                    armed.hits += 1
                    self._hits[fault_id] = armed.hits
                    return fault_id, armed.fault
        return None

    def _is_hit(self, armed: _Armed, route: str, payload: Any, now: float) -> bool:
        fault = armed.fault
        if now < armed.added_at + fault.starts_in or not fault.concerns(route, payload):
            return False
        armed.seen += 1
        if armed.seen <= fault.skip:
            return False
        return fault.probability == 1 or self._random.random() < fault.probability
