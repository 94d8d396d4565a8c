"""The list of completions, page by page.

The contract leaves open which id a record has and how precise its time is. This list is as unhelpful as it may be: the
id is not the statement id, and the time has whole seconds.
"""

from __future__ import annotations

import uuid
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, urlsplit

from sandbox.thrive_api.answers import Answer, error, json_answer

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from sandbox.thrive_api.ledger import Entry

_MAX_PER_PAGE = 1000


def list_completions(target: str, entries: Iterable[Entry]) -> Answer:
    """Return one page of the records that the query selects, or 400 for a query that makes no sense."""
    query = dict(parse_qsl(urlsplit(target).query, keep_blank_values=True))
    try:
        page = _number(query.get("page", "1"))
        per_page = _number(query.get("perPage", str(_MAX_PER_PAGE)))
        start, end = (_moment(query.get(name)) for name in ("completedDateRangeStart", "completedDateRangeEnd"))
    except ValueError:
        return error(400, "page and perPage must be whole numbers, and the range two times in ISO 8601")
    if page < 1 or not 1 <= per_page <= _MAX_PER_PAGE:
        return error(400, f"page must be from 1, and perPage from 1 to {_MAX_PER_PAGE}")
    if query.get("isRPL", "false") not in ("true", "false"):
        return error(400, "isRPL must be true or false")
    found = [entry for entry in entries if _is_selected(entry, query, start, end)]
    return json_answer(200, [_record(entry) for entry in found[(page - 1) * per_page : page * per_page]])


def _is_selected(entry: Entry, query: Mapping[str, str], start: datetime | None, end: datetime | None) -> bool:
    key, completed_at = entry.key, _to_the_second(entry.key.completed_at)
    return (
        key.user_id == query.get("userId", key.user_id)
        and key.content_id == query.get("contentId", key.content_id)
        and query.get("isRPL") != "true"
        and (start is None or start <= completed_at)
        and (end is None or completed_at <= end)
    )


def _record(entry: Entry) -> dict[str, Any]:
    return {
        "id": str(uuid.uuid5(uuid.NAMESPACE_OID, entry.statement_id)),
        "userId": entry.key.user_id,
        "contentId": entry.key.content_id,
        "contentVersion": 1,
        "skills": [],
        "completionType": "api",
        "hadDueDate": False,
        "isRPL": False,
        "completedAt": _to_the_second(entry.key.completed_at).isoformat().replace("+00:00", "Z"),
        "activeUntil": None,
    }


def _number(text: str) -> int:
    if not (text.isascii() and text.isdigit()):
        raise ValueError
    return int(text)


def _moment(text: str | None) -> datetime | None:
    """Return a time of the query; without an offset it is in UTC. :raises ValueError: it is no time."""
    if text is None:
        return None
    moment = _to_the_second(text)
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _to_the_second(text: str) -> datetime:
    """Return a time without its fraction; a leap second becomes the second before it."""
    whole, rest = text[:19].upper(), text[19:].upper()
    return datetime.fromisoformat(whole.replace(":60", ":59") + rest.lstrip(".0123456789"))
