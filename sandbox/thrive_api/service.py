"""What the stand-in answers to a request when nothing is made to go wrong: no sockets here."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from sandbox.thrive_api import completions
from sandbox.thrive_api.answers import Answer, error, json_answer
from sandbox.thrive_api.arrivals import Arrival, RequestLog, Route
from sandbox.thrive_api.authentication import refusal
from sandbox.thrive_api.fault_book import FaultBook
from sandbox.thrive_api.ledger import Key, Ledger
from sandbox.thrive_api.listing import list_completions
from sandbox.thrive_api.oauth import answer_token_request

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from sandbox.thrive_api.accounts import Accounts

_METHODS: dict[Route, str] = {"token": "POST", "completion": "POST", "user": "GET"}


class RateLimiter:
    """A token bucket that holds one second's worth, at least one; `per_second` None means no limit."""

    def __init__(self, per_second: float | None, clock: Callable[[], float]) -> None:
        self._clock = clock
        self.set(per_second)

    def set(self, per_second: float | None) -> None:
        """Change the rate (more than 0, or None for no limit) and fill the bucket."""
        if per_second is not None and not 0 < per_second < math.inf:
            raise ValueError("the rate must be more than 0 completions per second, or None for no limit")
        self.per_second = per_second
        self._capacity = max(1.0, per_second or 0.0)
        self._level = self._capacity
        self._filled_at = self._clock()

    def wait(self) -> float:
        """Take one and return 0.0, or return the seconds until there is one to take."""
        if self.per_second is None:
            return 0.0
        now = self._clock()
        self._level = min(self._capacity, self._level + (now - self._filled_at) * self.per_second)
        self._filled_at = now
        if self._level >= 1:
            self._level -= 1
            return 0.0
        return (1 - self._level) / self.per_second


@dataclass(slots=True)
class Directory:
    """What the tenant holds besides completions: users by `ref`, and ids that completions are refused for."""

    users: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    unknown_users: set[str] = field(default_factory=set)
    unknown_contents: set[str] = field(default_factory=set)
    # 422 is what the contract lists for completions; 404 is what its error table would also allow.
    unknown_status: int = 422

    def missing(self, key: Key) -> str:
        """Return what of a completion is unknown here, or an empty string."""
        if key.user_id in self.unknown_users:
            return "user"
        return "content" if key.content_id in self.unknown_contents else ""


class Service:
    """The stand-in's state and its genuine answers."""

    def __init__(
        self,
        accounts: Accounts,
        directory: Directory,
        *,
        per_second: float | None = None,
        seed: int = 0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Start with an empty ledger; `seed` drives the faults that have a probability."""
        self.accounts = accounts
        self.directory = directory
        self.ledger = Ledger()
        self.requests = RequestLog()
        self.faults = FaultBook(seed=seed, clock=clock)
        self.limiter = RateLimiter(per_second, clock)

    def answer(self, arrival: Arrival) -> Answer:
        """Return the genuine answer; a completion that is accepted stands in the ledger afterwards."""
        if arrival.route == "completion" and arrival.method == "GET":
            return refusal(arrival.headers, self.accounts, "api/read") or list_completions(arrival.path, self.ledger)
        method = _METHODS.get(arrival.route)
        if method is None:
            return error(404, "there is no such resource")
        if arrival.method != method:
            return error(405, f"only {method} is allowed here", headers={"Allow": method})
        if arrival.route == "token":
            return answer_token_request(arrival, self.accounts)
        if arrival.route == "user":
            return self._answer_user(arrival)
        return self._answer_completion(arrival)

    def reset(self) -> None:
        """Forget records, requests, faults and tokens; credentials, users and the rate limit stay."""
        self.ledger.clear()
        self.requests.clear()
        self.faults.clear()
        self.accounts.revoke_all()

    def _answer_user(self, arrival: Arrival) -> Answer:
        if refused := refusal(arrival.headers, self.accounts, "api/read"):
            return refused
        try:
            ref = unquote(arrival.parameter, errors="strict")
        except UnicodeDecodeError:
            return error(400, "the ref is not percent-encoded UTF-8")
        user = self.directory.users.get(ref)
        return error(404, "no user has this ref") if user is None else json_answer(200, {"ref": ref, **user})

    def _answer_completion(self, arrival: Arrival) -> Answer:
        refused = refusal(arrival.headers, self.accounts, "api/write") or self._throttle()
        if refused is not None:
            return refused
        if arrival.headers.get("Content-Type", "").partition(";")[0].strip().lower() != "application/json":
            return error(422, "Content-Type must be application/json")
        key = completions.read(arrival.payload)
        if isinstance(key, str):
            return error(422, key)
        if missing := self.directory.missing(key):
            return error(self.directory.unknown_status, f"there is no such {missing}")
        statement_id, is_new = self.ledger.record(key)
        return json_answer(201 if is_new else 200, {"statementId": statement_id}, recorded=True)

    def _throttle(self) -> Answer | None:
        wait = self.limiter.wait()
        return error(429, "too many completions", headers={"Retry-After": str(math.ceil(wait))}) if wait else None
