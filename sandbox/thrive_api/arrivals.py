"""The record of every request that reached the stand-in."""

from __future__ import annotations

import threading
from collections import Counter, deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

Route = Literal["token", "completion", "user", "other"]

_COMPLETIONS = "/rest/v1/learning/completions"
_PARAMETERISED: tuple[tuple[str, Route], ...] = (("/oauth2/token/", "token"), ("/rest/v1/users/ref/", "user"))


@dataclass(slots=True)
class Arrival:
    """A request as it came in, and what became of it.

    `path` is the request target as sent (still percent-encoded, query included); `at` is monotonic seconds;
    `connection` tells requests on one connection from those on another; `status` stays None until, and unless,
    the stand-in sends a status line; `recorded` says that the completion stands in the ledger, whatever the
    client got to hear; `fault` is the id of the fault that was applied.
    """

    method: str
    path: str
    # Headers and bodies carry credentials: they are here to be asserted on, not to be printed by a failing test.
    headers: Mapping[str, str] = field(repr=False)
    body: bytes = field(repr=False)
    at: float
    connection: int
    route: Route
    parameter: str = ""
    payload: Any = field(default=None, repr=False)
    status: int | None = None
    recorded: bool = False
    fault: int | None = None


def route_of(target: str) -> tuple[Route, str]:
    """Tell a request target's route and its path parameter, the latter as sent, `""` where there is none."""
    path = target.partition("?")[0]
    if path == _COMPLETIONS:
        return "completion", ""
    for prefix, route in _PARAMETERISED:
        parameter = path.removeprefix(prefix)
        if parameter != path and parameter and "/" not in parameter:
            return route, parameter
    return "other", ""


class RequestLog:
    """Arrivals in order: the last ones in full, all of them counted; safe to read while the server writes."""

    def __init__(self, keep: int = 100_000) -> None:
        """Keep the last `keep` arrivals, of a few kB each: the default bounds a long load run to some hundred MB."""
        self._keep = keep
        self._arrivals: deque[Arrival] = deque()
        self._forgotten: Counter[tuple[str, str]] = Counter()
        self._lock = threading.Lock()

    def add(self, arrival: Arrival) -> None:
        """Note an arrival."""
        with self._lock:
            self._arrivals.append(arrival)
            if len(self._arrivals) > self._keep:
                self._forgotten[_kind(self._arrivals.popleft())] += 1

    def clear(self) -> None:
        """Forget all arrivals, and that there were any."""
        with self._lock:
            self._arrivals.clear()
            self._forgotten.clear()

    def all(self) -> tuple[Arrival, ...]:
        """Return the arrivals that are kept."""
        with self._lock:
            return tuple(self._arrivals)

    def of(self, route: Route) -> tuple[Arrival, ...]:
        """Return the arrivals kept that came on one route."""
        return tuple(arrival for arrival in self.all() if arrival.route == route)

    def counts(self) -> dict[str, dict[str, int]]:
        """Count all arrivals by route and status; `none` stands for no status sent (yet)."""
        with self._lock:
            counted = self._forgotten + Counter(map(_kind, self._arrivals))
        counts: dict[str, dict[str, int]] = {}
        for (route, status), number in sorted(counted.items()):
            counts.setdefault(route, {})[status] = number
        return counts

    def __len__(self) -> int:
        """Return how many arrived, kept or not."""
        with self._lock:
            return len(self._arrivals) + self._forgotten.total()

    def __iter__(self) -> Iterator[Arrival]:
        return iter(self.all())

    def __getitem__(self, index: int) -> Arrival:
        return self.all()[index]


def _kind(arrival: Arrival) -> tuple[str, str]:
    return arrival.route, "none" if arrival.status is None else str(arrival.status)
