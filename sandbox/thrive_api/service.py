"""The answers of a healthy API. No sockets here."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from sandbox.thrive_api import ledger
from sandbox.thrive_api.answers import Answer, error, json_answer
from sandbox.thrive_api.arrivals import RequestLog
from sandbox.thrive_api.faults import FaultBook
from sandbox.thrive_api.listing import list_completions
from sandbox.thrive_api.oauth import answer_token_request

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from sandbox.thrive_api.accounts import Accounts
    from sandbox.thrive_api.arrivals import Arrival, Route

_METHODS: dict[Route, str] = {"token": "POST", "completion": "POST", "listing": "GET", "user": "GET"}
_SCOPES: dict[Route, str] = {"completion": "api/write", "listing": "api/read", "user": "api/read"}


class RateLimiter:
    """A token bucket that holds one second's worth of requests, but at least one. Unlimited until `set` is called."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self.set(None)

    def set(self, per_second: float | None, *, retry_after: bool = True) -> None:
        """Change the rate (above 0, or None for no limit) and fill the bucket.

        With `retry_after` refusals carry a Retry-After header.
        """
        self._per_second = per_second
        self._retry_after = retry_after
        self._level = self._capacity = max(1.0, per_second or 0.0)
        self._filled_at = self._clock()

    def wait(self) -> float:
        """Take one token and return 0.0, or return the seconds until there is one."""
        if self._per_second is None:
            return 0.0
        now = self._clock()
        self._level = min(self._capacity, self._level + (now - self._filled_at) * self._per_second)
        self._filled_at = now
        if self._level >= 1:
            self._level -= 1
            return 0.0
        return (1 - self._level) / self._per_second

    def refusal(self) -> Answer | None:
        """Take one token and return None, or return the 429 if there is none."""
        wait = self.wait()
        headers = {"Retry-After": str(math.ceil(wait))} if self._retry_after else {}
        return error(429, "too many requests", headers=headers) if wait else None


@dataclass(slots=True)
class Directory:
    """The tenant's data besides completions: users by `ref`, and the ids whose completions are refused (422)."""

    users: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    unknown_users: set[str] = field(default_factory=set)
    unknown_contents: set[str] = field(default_factory=set)


class Service:
    """The stand-in's state and the answers to requests; `seed` is for faults that have a probability."""

    def __init__(self, accounts: Accounts, seed: int) -> None:
        self.accounts = accounts
        self.directory = Directory()
        self.ledger = ledger.Ledger()
        self.requests = RequestLog()
        self.faults = FaultBook(seed)
        self.limiters = {route: RateLimiter() for route in _SCOPES}

    def answer(self, arrival: Arrival) -> Answer:
        """Return the answer to a request; a completion that is accepted is in the ledger afterwards."""
        route = arrival.route
        if route not in _METHODS:
            return error(404, "there is no such resource")
        if arrival.method != _METHODS[route]:
            allowed = "GET, POST" if route == "completion" else _METHODS[route]
            return error(405, f"allowed here: {allowed}", headers={"Allow": allowed})
        if route == "token":
            return answer_token_request(arrival, self.accounts)
        if refused := self.accounts.refusal(arrival.headers, _SCOPES[route]) or self.limiters[route].refusal():
            return refused
        if route == "listing":
            return list_completions(arrival.path, self.ledger)
        return self._answer_user(arrival) if route == "user" else self._answer_completion(arrival)

    def _answer_user(self, arrival: Arrival) -> Answer:
        try:
            ref = unquote(arrival.parameter, errors="strict")
        except UnicodeDecodeError:
            return error(400, "the ref is not percent-encoded UTF-8")
        user = self.directory.users.get(ref)
        return error(404, "no user has this ref") if user is None else json_answer(200, {"ref": ref, **user})

    def _answer_completion(self, arrival: Arrival) -> Answer:
        if arrival.headers.get("Content-Type", "").partition(";")[0].strip().lower() != "application/json":
            return error(422, "Content-Type must be application/json")
        key = ledger.read(arrival.payload)
        if isinstance(key, str):
            return error(422, key)
        if key.user_id in self.directory.unknown_users:
            return error(422, "there is no such user")
        if key.content_id in self.directory.unknown_contents:
            return error(422, "there is no such content")
        entry = self.ledger.record(key)
        status = 201 if entry.arrivals == 1 else 200
        return json_answer(status, {"statementId": entry.statement_id}, recorded=True)
