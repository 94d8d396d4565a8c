"""Reading the body of a completion request, by hand: this is the hot path."""

from __future__ import annotations

import json
import re
from datetime import date
from typing import Any

from sandbox.thrive_api.ledger import Key

# RFC 3339's date-time, which the contract's `format: date-time` means: the offset is mandatory.
_DATE_TIME = re.compile(
    r"\d{4}-\d{2}-\d{2}[Tt]([01]\d|2[0-3]):[0-5]\d:([0-5]\d|60)(\.\d+)?([Zz]|[+-]([01]\d|2[0-3]):[0-5]\d)", re.ASCII
)


def parse(body: bytes) -> Any:
    """Return the JSON value of a body, or None when it holds none (a JSON null is no completion either)."""
    try:
        return json.loads(body.decode())
    except (ValueError, RecursionError):
        return None


def read(payload: Any) -> Key | str:
    """Return the completion's key, or a sentence on what the contract's schema does not allow."""
    if not isinstance(payload, dict):
        return "the body must be a JSON object"
    values = []
    for name in ("userId", "contentId", "completedAt"):
        value = payload.get(name)
        if not isinstance(value, str) or not value:
            return f"{name} must be a non-empty string"
        values.append(value)
    key = Key(*values)
    return key if is_date_time(key.completed_at) else "completedAt must be an RFC 3339 date-time with an offset"


def is_date_time(text: str) -> bool:
    """Tell whether a text is an RFC 3339 date-time; a leap second is one."""
    if not _DATE_TIME.fullmatch(text):
        return False
    try:
        # The pattern has seen to the time; the calendar remains.
        date.fromisoformat(text[:10])
    except ValueError:
        return False
    return True
