"""Faults: what goes wrong, for which requests, and how often."""

from __future__ import annotations

import itertools
import random
import threading
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from collections.abc import Mapping

FaultRoute = Literal["token", "completion", "listing", "user", "connection"]
Spoil = Literal["html", "gzip", "gzip_bomb"]
Ending = Literal["answer", "reset", "close", "close_after_headers", "truncate", "endless", "black_hole"]

WITHOUT_ANSWER = frozenset({"reset", "close", "black_hole"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Drip:
    """Send the head or the body in pieces: `size` bytes, then `interval` seconds of silence, and so on."""

    part: Literal["headers", "body"]
    size: int = 1
    interval: float = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One thing that goes wrong.

    It hits requests on `route` (None: any), with exactly this `user_id` and `content_id` (completions only), each with
    `probability`, until it has hit `times` of them (None: no limit). The route `connection` is the moment at which a
    connection is accepted; only `ending` applies there. `Fault(route="listing", status=404, times=None)` plays a Thrive
    that does not offer its list of completions.

    What happens to a request that is hit, in this order:

    1. `revoke_token`: the request's bearer token becomes invalid.
    2. The request is processed normally (a completion is recorded) if `commit` says so. With None, what the client
       sees decides: it is processed if the normal status is sent, but not if `status` replaces it or nothing is sent.
    3. `status` (with an Error body), `body` or `spoil` (a body made here) and `headers` replace parts of the answer.
       `spoil` is an HTML page, the normal body as gzip that nobody asked for, or 1 MB of gzip that inflates to 100 MB.
    4. `delay` seconds pass.
    5. `ending`: `answer` (sent in full), `reset` (RST and nothing sent), `close` (FIN and nothing sent),
       `close_after_headers`, `truncate` (half of the body, then FIN), `endless` (a body that never stops) or
       `black_hole` (silence until the client gives up). `drip` slows the sending down.

    :raises ValueError: the fields contradict each other.
    """

    route: FaultRoute | None = None
    user_id: str | None = None
    content_id: str | None = None
    times: int | None = 1
    probability: float = 1.0

    revoke_token: bool = False
    commit: bool | None = None
    status: int | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    body: str | bytes | None = None
    spoil: Spoil | None = None
    delay: float = 0.0
    ending: Ending = "answer"
    drip: Drip | None = None

    def __post_init__(self) -> None:
        if self.body is not None and self.spoil is not None:
            raise ValueError("body and spoil exclude each other")
        if self.commit is False and self.status is None and self.ending not in WITHOUT_ANSWER:
            raise ValueError("commit=False needs a status, or an ending without an answer")
        if self.route == "connection" and self.ending not in WITHOUT_ANSWER:
            raise ValueError("on the route connection, ending must be reset, close or black_hole")
        if (self.user_id is not None or self.content_id is not None) and self.route not in (None, "completion"):
            raise ValueError("user_id and content_id need the route completion")

    @property
    def processes_request(self) -> bool:
        """Whether the request is processed normally before things go wrong."""
        if self.commit is not None:
            return self.commit
        return self.status is None and self.ending not in WITHOUT_ANSWER

    def matches(self, route: str, payload: Any) -> bool:
        """Return whether the fault applies to a request; `payload` is the JSON value of a completion."""
        if self.route != route and (self.route is not None or route == "connection"):
            return False
        if self.user_id is None and self.content_id is None:
            return True
        return (
            isinstance(payload, dict)
            and self.user_id in (None, payload.get("userId"))
            and self.content_id in (None, payload.get("contentId"))
        )


class FaultBook:
    """The active faults, oldest first; the first one that hits a request is applied. Any thread may call.

    The same seed and the same order of requests give the same hits.
    """

    def __init__(self, seed: int = 0) -> None:
        self._random = random.Random(seed)  # noqa: S311 - repeatable chance, not a secret
        self._faults: dict[int, Fault] = {}
        self._hits: Counter[int] = Counter()
        self._ids = itertools.count(1)
        self._lock = threading.Lock()

    def add(self, fault: Fault) -> int:
        """Activate a fault and return its id."""
        with self._lock:
            fault_id = next(self._ids)
            self._faults[fault_id] = fault
            return fault_id

    def remove(self, fault_id: int) -> None:
        """End a fault; one that has ended already is ignored."""
        with self._lock:
            self._faults.pop(fault_id, None)

    def clear(self) -> None:
        """End all faults. Their hits can still be asked for."""
        with self._lock:
            self._faults.clear()

    def hits(self, fault_id: int) -> int:
        """Return how many requests a fault has hit, even if it has ended."""
        with self._lock:
            return self._hits[fault_id]

    def take(self, route: str, payload: Any = None) -> Fault | None:
        """Return the fault that hits this request, or None; count the hit."""
        with self._lock:
            for fault_id, fault in self._faults.items():
                if fault.matches(route, payload) and self._random.random() < fault.probability:
                    self._hits[fault_id] += 1
                    if self._hits[fault_id] == fault.times:
                        del self._faults[fault_id]
                    return fault
        return None
