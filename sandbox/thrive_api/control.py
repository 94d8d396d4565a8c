"""The control plane under `/_stand-in/`: JSON in, JSON out, on the same port.

It asks for no credentials: whoever reaches the stand-in may change it, as befits a toy that holds nothing real.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, TypeVar

from sandbox.thrive_api.accounts import Client
from sandbox.thrive_api.answers import Answer, error, json_answer
from sandbox.thrive_api.fault_json import fault_from_json, fault_to_json
from sandbox.thrive_api.faults import BadFaultError

if TYPE_CHECKING:
    from collections.abc import Callable

    from sandbox.thrive_api.service import Service

T = TypeVar("T")

PREFIX = "/_stand-in/"

# Enough to see what happened last; the counts cover the rest.
_LAST_REQUESTS = 100


class _BadInputError(ValueError):
    """Names the member of the request body that is wrong, and what is allowed."""


class Control:
    """Answers control requests; changes take effect before the answer is sent."""

    def __init__(self, service: Service, begin_outage: Callable[[float], None]) -> None:
        """`begin_outage` takes the seconds that the server shall be away."""
        self._service = service
        self._begin_outage = begin_outage
        self._actions: dict[str, dict[str, Callable[[Any], Answer]]] = {
            "ledger": {"GET": self._show_ledger},
            "requests": {"GET": self._show_requests},
            "faults": {"GET": self._show_faults, "POST": self._add_faults, "DELETE": self._clear_faults},
            "reset": {"POST": self._reset},
            "credentials": {"PUT": self._put_credentials},
            "revoke-tokens": {"POST": self._revoke_tokens},
            "users": {"PUT": self._put_users},
            "rate-limit": {"PUT": self._put_rate_limit},
            "outage": {"POST": self._announce_outage},
        }

    def answer(self, method: str, target: str, body: bytes) -> Answer:
        """Answer one request: 400 for bad input, 404 and 405 for what there is not."""
        name, _, item = target.partition("?")[0].removeprefix(PREFIX).partition("/")
        if name == "faults" and item:
            actions: dict[str, Callable[[Any], Answer]] = {"DELETE": lambda _: self._remove_fault(item)}
        else:
            actions = {} if item else self._actions.get(name, {})
        if not actions:
            return error(404, f"there are {', '.join(f'{PREFIX}{known}' for known in self._actions)}")
        action = actions.get(method)
        if action is None:
            allowed = ", ".join(actions)
            return error(405, f"allowed here: {allowed}", headers={"Allow": allowed})
        try:
            given = json.loads(body) if body else None
        except (ValueError, RecursionError):
            return error(400, "the body is not JSON")
        try:
            return action(given)
        except BadFaultError as refused:
            return json_answer(
                400, {"status": 400, "error": "Bad Request", "message": str(refused), "field": refused.field}
            )
        except _BadInputError as refused:
            return error(400, str(refused))

    def _show_ledger(self, _: Any) -> Answer:
        entries = [
            {
                "userId": entry.key.user_id,
                "contentId": entry.key.content_id,
                "completedAt": entry.key.completed_at,
                "statementId": entry.statement_id,
                "arrivals": entry.arrivals,
            }
            for entry in self._service.ledger
        ]
        return json_answer(200, {"count": len(entries), "entries": entries})

    def _show_requests(self, _: Any) -> Answer:
        requests = self._service.requests
        # Neither headers nor bodies: they hold credentials.
        last = [
            {
                "method": arrival.method,
                "path": arrival.path,
                "route": arrival.route,
                "status": arrival.status,
                "recorded": arrival.recorded,
                "fault": arrival.fault,
                "at": arrival.at,
            }
            for arrival in requests.all()[-_LAST_REQUESTS:]
        ]
        return json_answer(200, {"count": len(requests), "counts": requests.counts(), "last": last})

    def _show_faults(self, _: Any) -> Answer:
        faults = self._service.faults
        listed = [
            {"id": fault_id, "hits": faults.hits(fault_id), **fault_to_json(fault)}
            for fault_id, fault in faults.in_force().items()
        ]
        return json_answer(200, {"faults": listed})

    def _add_faults(self, given: Any) -> Answer:
        # All are read before one is added: a list with a bad one changes nothing.
        faults = [fault_from_json(one) for one in (given if isinstance(given, list) else [given])]
        return json_answer(201, {"ids": [self._service.faults.add(fault) for fault in faults]})

    def _clear_faults(self, _: Any) -> Answer:
        self._service.faults.clear()
        return json_answer(200, {})

    def _remove_fault(self, item: str) -> Answer:
        ids = {str(fault_id): fault_id for fault_id in self._service.faults.in_force()}
        if item not in ids:
            return error(404, "no fault of this id is in force")
        self._service.faults.remove(ids[item])
        return json_answer(200, {})

    def _reset(self, _: Any) -> Answer:
        self._service.reset()
        return json_answer(200, {})

    def _put_credentials(self, given: Any) -> Answer:
        tenant_id, clients = _member(given, "tenantId", str), _member(given, "clients", list)
        pairs = [
            Client(_member(one, "clientId", str) if "clientId" in one else tenant_id, _member(one, "clientSecret", str))
            for one in clients
            if isinstance(one, dict)
        ]
        if len(pairs) != len(clients):
            raise _BadInputError("clients: a list of objects with clientId (the tenant id when left out), clientSecret")
        self._service.accounts.accept(tenant_id, pairs)
        return json_answer(200, {})

    def _revoke_tokens(self, _: Any) -> Answer:
        self._service.accounts.revoke_all()
        return json_answer(200, {})

    def _put_users(self, given: Any) -> Answer:
        users = _member(given, "users", dict)
        if not all(isinstance(user, dict) and isinstance(user.get("id"), str) for user in users.values()):
            raise _BadInputError("users: an object from ref to a user, each one with an id")
        self._service.directory.users = users
        return json_answer(200, {})

    def _put_rate_limit(self, given: Any) -> Answer:
        rate = None if isinstance(given, dict) and given.get("perSecond", 0) is None else _number(given, "perSecond")
        try:
            self._service.limiter.set(rate)
        except ValueError as refused:
            raise _BadInputError(f"perSecond: {refused}") from None
        return json_answer(200, {})

    def _announce_outage(self, given: Any) -> Answer:
        seconds = _number(given, "seconds")
        if not 0 <= seconds < float("inf"):
            raise _BadInputError("seconds: a number from 0")
        self._begin_outage(seconds)
        return json_answer(202, {})


def _member(given: Any, name: str, kind: type[T]) -> T:
    value = given.get(name) if isinstance(given, dict) else None
    if not isinstance(value, kind):
        raise _BadInputError(f"{name}: a JSON {_NAMES[kind]}")
    return value


def _number(given: Any, name: str) -> float:
    value = given.get(name) if isinstance(given, dict) else None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise _BadInputError(f"{name}: a JSON number")
    return value


_NAMES: dict[type, str] = {str: "string", list: "array", dict: "object"}
