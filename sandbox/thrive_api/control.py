"""The control routes under `/_stand-in/`, for curl and other processes: JSON in, JSON out, on the same port.

They ask for no credentials: the stand-in holds nothing that would need protection.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, get_args

from sandbox.thrive_api import ledger
from sandbox.thrive_api.answers import Answer, error, json_answer
from sandbox.thrive_api.faults import Ending, Fault

if TYPE_CHECKING:
    from collections.abc import Callable

    from sandbox.thrive_api.service import Service

PREFIX = "/_stand-in/"


def _is_int(value: Any, low: int, high: float = float("inf")) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and low <= value <= high


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < float("inf")


def _are_headers(headers: dict[str, Any]) -> bool:
    # A line break would end the header; aiohttp refuses it too, but only after the fault has been accepted.
    return all(
        name and isinstance(value, str) and not set(name + value) & set("\r\n\0") for name, value in headers.items()
    )


# The fields of a fault that can be given as JSON. `connection` is no route here: it would cut off these routes too.
_ENDINGS = ", ".join(get_args(Ending))
_ROUTES = ("token", "completion", "listing", "user")
_FIELDS: dict[str, tuple[Callable[[Any], bool], str]] = {
    "route": (lambda value: value in _ROUTES, f"one of {', '.join(_ROUTES)}"),
    "times": (lambda value: value is None or _is_int(value, 1), "a whole number from 1, or null for no limit"),
    "probability": (lambda value: _is_number(value) and value <= 1, "a number from 0 to 1"),
    "status": (lambda value: _is_int(value, 100, 599), "a whole number from 100 to 599"),
    "headers": (lambda value: isinstance(value, dict) and _are_headers(value), "an object of strings"),
    "body": (lambda value: isinstance(value, str), "a string"),
    "delay": (_is_number, "seconds from 0"),
    "ending": (lambda value: value in get_args(Ending), f"one of {_ENDINGS}"),
}


def answer(service: Service, method: str, target: str, body: bytes) -> Answer:
    """Answer one control request; changes take effect before the answer is sent."""
    actions = _ACTIONS.get(target.partition("?")[0].removeprefix(PREFIX))
    if actions is None:
        return error(404, f"there are {', '.join(PREFIX + name for name in _ACTIONS)}")
    if method not in actions:
        return error(405, f"allowed here: {', '.join(actions)}", headers={"Allow": ", ".join(actions)})
    return actions[method](service, ledger.parse(body))


def _show_ledger(service: Service, _: Any) -> Answer:
    entries = [
        {
            "userId": entry.key.user_id,
            "contentId": entry.key.content_id,
            "completedAt": entry.key.completed_at,
            "statementId": entry.statement_id,
            "arrivals": entry.arrivals,
        }
        for entry in service.ledger
    ]
    return json_answer(200, {"count": len(entries), "entries": entries})


def _show_requests(service: Service, _: Any) -> Answer:
    return json_answer(200, {"counts": service.requests.counts()})


def _add_fault(service: Service, fields: Any) -> Answer:
    if problem := _problem_with(fields):
        return error(400, problem)
    return json_answer(201, {"id": service.faults.add(Fault(**fields))})


def _clear_faults(service: Service, _: Any) -> Answer:
    service.faults.clear()
    return json_answer(200, {})


def _create_user(service: Service, fields: Any) -> Answer:
    if not isinstance(fields, dict) or not all(
        isinstance(fields.get(name), str) and fields[name] for name in ("ref", "id")
    ):
        return error(400, "a user is a JSON object with ref and id, both non-empty strings")
    service.directory.users[fields["ref"]] = fields
    return json_answer(201, fields)


_ACTIONS: dict[str, dict[str, Callable[[Service, Any], Answer]]] = {
    "ledger": {"GET": _show_ledger},
    "requests": {"GET": _show_requests},
    "faults": {"POST": _add_fault, "DELETE": _clear_faults},
    "users": {"POST": _create_user},
}


def _problem_with(fields: Any) -> str:
    """Return what is wrong with the fields of a fault, or an empty string."""
    if not isinstance(fields, dict):
        return f"a fault is a JSON object with any of {', '.join(_FIELDS)}"
    for name, value in fields.items():
        if name not in _FIELDS:
            return f"{name}: there is no such field; the fields are {', '.join(_FIELDS)}"
        is_allowed, allowed = _FIELDS[name]
        if not is_allowed(value):
            return f"{name}: must be {allowed}"
    return ""
