"""The list of completions, page by page."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, urlsplit

from sandbox.thrive_api.answers import error, json_answer

if TYPE_CHECKING:
    from sandbox.thrive_api.answers import Answer
    from sandbox.thrive_api.ledger import Entry, Ledger

_MAX_PER_PAGE = 1000


def list_completions(target: str, ledger: Ledger) -> Answer:
    """Return one page of the records that the query selects, 400 for a query that makes no sense."""
    query = {name: values[-1] for name, values in parse_qs(urlsplit(target).query, keep_blank_values=True).items()}
    try:
        page, per_page = int(query.get("page", "1")), int(query.get("perPage", str(_MAX_PER_PAGE)))
        start, end = _moment(query.get("completedDateRangeStart")), _moment(query.get("completedDateRangeEnd"))
    except ValueError:
        return error(400, "page and perPage must be numbers, and the range ISO 8601 times")
    if page < 1 or not 1 <= per_page <= _MAX_PER_PAGE:
        return error(400, f"page must be at least 1, perPage 1 to {_MAX_PER_PAGE}")
    found = [entry for entry in ledger if _is_selected(entry, query, start, end)]
    records = [
        {
            "id": entry.statement_id,
            "userId": entry.key.user_id,
            "contentId": entry.key.content_id,
            "completionType": "manual",
            "isRPL": False,
            "completedAt": entry.key.completed_at,
            "activeUntil": None,
        }
        for entry in found[(page - 1) * per_page : page * per_page]
    ]
    return json_answer(200, records)


def _is_selected(entry: Entry, query: dict[str, str], start: datetime | None, end: datetime | None) -> bool:
    moment = _moment(entry.key.completed_at)
    return (
        entry.key.user_id == query.get("userId", entry.key.user_id)
        and entry.key.content_id == query.get("contentId", entry.key.content_id)
        and (start is None or moment is None or moment >= start)
        and (end is None or moment is None or moment <= end)
    )


def _moment(text: str | None) -> datetime | None:
    if text is None:
        return None
    parsed = datetime.fromisoformat(text)
    return parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)
