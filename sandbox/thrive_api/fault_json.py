"""Faults as JSON: the names of `Fault`'s fields in camel case, `times: null` for no limit."""

from __future__ import annotations

from dataclasses import asdict, fields
from typing import Any

from sandbox.thrive_api.faults import BadFaultError, Drip, Fault


def _camel(name: str) -> str:
    head, *tail = name.split("_")
    return head + "".join(word.capitalize() for word in tail)


_FIELDS = {_camel(f.name): f.name for f in fields(Fault)}
_DRIP_FIELDS = {f.name for f in fields(Drip)}


def fault_from_json(value: Any) -> Fault:
    """Read a description; BadFaultError names the field, as written in JSON, and what is allowed."""
    if not isinstance(value, dict):
        raise BadFaultError("fault", f"an object with any of {', '.join(_FIELDS)}")
    arguments: dict[str, Any] = {}
    for name, member in value.items():
        if name not in _FIELDS:
            raise BadFaultError(name, f"no such field; there are {', '.join(_FIELDS)}")
        arguments[_FIELDS[name]] = member
    if isinstance(arguments.get("drop"), list):
        arguments["drop"] = tuple(arguments["drop"])
    drip = arguments.get("drip")
    if isinstance(drip, dict) and "part" in drip and drip.keys() <= _DRIP_FIELDS:
        arguments["drip"] = Drip(**drip)
    try:
        fault = Fault(**arguments)
    except BadFaultError as refused:
        raise BadFaultError(_camel(refused.field), refused.allowed) from None
    if fault.route == "connection" and fault.times is None and fault.lasts is None:
        # The control plane shares the port: nobody could end such a fault.
        raise BadFaultError(
            "times", "a number (or give lasts) on the route connection, which cuts this control off too"
        )
    return fault


def fault_to_json(fault: Fault) -> dict[str, Any]:
    """Describe a fault by the fields that differ from their defaults, and `times`, whose default surprises."""
    plain = Fault()
    given = {
        f.name: getattr(fault, f.name)
        for f in fields(Fault)
        if f.name == "times" or getattr(fault, f.name) != getattr(plain, f.name)
    }
    if fault.drip is not None:
        given["drip"] = asdict(fault.drip)
    if isinstance(fault.body, bytes):
        given["body"] = fault.body.decode(errors="replace")
    return {_camel(name): value for name, value in given.items()}
