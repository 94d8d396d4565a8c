"""A log of every request that reached the stand-in."""

from __future__ import annotations

import threading
import time
from collections import Counter, deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

Route = Literal["token", "completion", "listing", "user", "other"]

_COMPLETIONS = "/rest/v1/learning/completions"
_PARAMETERISED: tuple[tuple[str, Route], ...] = (("/oauth2/token/", "token"), ("/rest/v1/users/ref/", "user"))


@dataclass(slots=True)
class Arrival:
    """One request, and what happened to it.

    `path` is the request target as sent (percent-encoded, with the query); `parameter` is its last segment on routes
    that have one; `payload` is the JSON value of a completion; `connection` identifies the TCP connection. `status`
    stays None unless a status line is sent. `recorded` says that the completion is in the ledger, whatever the client
    saw. `at` is the monotonic time of its arrival, in seconds.
    """

    method: str
    path: str
    # Headers and bodies hold credentials: tests may assert on them, but a failing test must not print them.
    headers: Mapping[str, str] = field(repr=False)
    body: bytes = field(repr=False)
    connection: int
    route: Route
    parameter: str = ""
    payload: Any = field(default=None, repr=False)
    status: int | None = None
    recorded: bool = False
    at: float = field(default_factory=time.monotonic)


def route_of(method: str, target: str) -> tuple[Route, str]:
    """Return the route of a request and its path parameter (percent-encoded, empty if there is none)."""
    path = target.partition("?")[0]
    if path == _COMPLETIONS:
        return "listing" if method == "GET" else "completion", ""
    for prefix, route in _PARAMETERISED:
        parameter = path.removeprefix(prefix)
        if parameter != path and parameter and "/" not in parameter:
            return route, parameter
    return "other", ""


class RequestLog:
    """The arrivals in order. Only the last ones are kept, but all are counted. Any thread may read."""

    def __init__(self, keep: int = 100_000) -> None:
        """Keep the last `keep` arrivals (a few kB each), so that a long load run cannot exhaust the memory."""
        self._keep = keep
        self._arrivals: deque[Arrival] = deque()
        self._dropped: Counter[tuple[str, str]] = Counter()
        self._lock = threading.Lock()

    def add(self, arrival: Arrival) -> None:
        """Append an arrival."""
        with self._lock:
            self._arrivals.append(arrival)
            if len(self._arrivals) > self._keep:
                self._dropped[_route_and_status(self._arrivals.popleft())] += 1

    def clear(self) -> None:
        """Delete all arrivals and their counts."""
        with self._lock:
            self._arrivals.clear()
            self._dropped.clear()

    def all(self) -> tuple[Arrival, ...]:
        """Return the arrivals that are kept."""
        with self._lock:
            return tuple(self._arrivals)

    def of(self, route: Route) -> tuple[Arrival, ...]:
        """Return the arrivals that are kept and came on one route."""
        return tuple(arrival for arrival in self.all() if arrival.route == route)

    def counts(self) -> dict[str, dict[str, int]]:
        """Count all arrivals by route and status; the status is `none` where none was sent (yet)."""
        with self._lock:
            counted = self._dropped + Counter(map(_route_and_status, self._arrivals))
        counts: dict[str, dict[str, int]] = {}
        for (route, status), number in sorted(counted.items()):
            counts.setdefault(route, {})[status] = number
        return counts

    def __len__(self) -> int:
        """Return the number of all arrivals, kept or not."""
        with self._lock:
            return len(self._arrivals) + self._dropped.total()

    def __iter__(self) -> Iterator[Arrival]:
        return iter(self.all())


def _route_and_status(arrival: Arrival) -> tuple[str, str]:
    return arrival.route, "none" if arrival.status is None else str(arrival.status)
