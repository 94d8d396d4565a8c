"""The outcome of each file of ``events/``.

That is with a stand-in API that accepts everything and knows the people of ``sandbox.sam_local``, the configuration in
``sandbox/config``, and a dead-letter queue.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

EVENTS = Path(__file__).resolve().parents[2] / "events"

CREATED = ("created", None)
INVALID = ("rejected", "invalid_message")
IGNORED = ("ignored", None)

_USERS = ("646767d82535201223349e09", "646767d82535201223349e0a", "646767d82535201223349e0b")
_CONTENTS = ("64a1b2c3d4e5f6789abcdef0", "64a1b2c3d4e5f6789abcdef1")
_NINE = "2021-01-01T09:00:00.000Z"
_TEN = "2021-01-01T10:00:00.000Z"
_ONE = [(0, 0, _NINE)]


@dataclass(frozen=True)
class Expected:
    """The outcome and reason by message id (for a direct event: the event's id), and what Thrive is sent.

    ``sent`` holds ``(userId, contentId, completedAt)``, each completion once; only a FIFO group has an order.
    ``error`` names the exception that leaves the function instead.
    """

    outcomes: Mapping[str, tuple[str, str | None]] = field(default_factory=dict)
    sent: frozenset[tuple[str, str, str]] = frozenset()
    error: str | None = None


# The outcome of each record, and the user, content and time of each completion that is sent.
_CASES: dict[str, tuple[list[tuple[str, str | None]], list[tuple[int, int, str]]]] = {
    "eventbridge-direct.json": ([CREATED], _ONE),
    # The time of the envelope is sent.
    "eventbridge-direct-without-completed-at.json": ([CREATED], [(0, 0, "2021-01-01T09:00:05.000Z")]),
    "eventbridge-direct-invalid.json": ([INVALID], []),
    "sqs-plain.json": ([CREATED], _ONE),
    "sqs-plain-batch.json": (
        [CREATED, CREATED, CREATED],
        [(0, 0, _NINE), (1, 0, "2021-01-01T09:30:00.000Z"), (2, 1, "2021-01-01T09:00:00.123Z")],
    ),
    "sqs-eventbridge.json": ([CREATED], _ONE),
    "sqs-sns-plain.json": ([CREATED], _ONE),
    "sqs-sns-eventbridge.json": ([CREATED], _ONE),
    "sqs-fifo-two-groups.json": ([CREATED] * 4, [(0, 0, _NINE), (1, 0, _NINE), (0, 1, _TEN), (1, 1, _TEN)]),
    "sqs-poison-among-good.json": ([CREATED, INVALID, INVALID, INVALID, CREATED], [(0, 0, _NINE), (2, 1, _NINE)]),
    # The first two are one completion, written in two ways: it is sent once.
    "sqs-duplicates.json": ([CREATED, CREATED, CREATED], [(0, 0, _NINE), (0, 1, _NINE)]),
    "sqs-user-ref.json": ([CREATED], _ONE),
    "sqs-content-code.json": ([CREATED], _ONE),
    "sqs-xapi.json": ([IGNORED, CREATED], _ONE),
    "sqs-redelivered.json": ([CREATED], _ONE),
}


def _expected(name: str, outcomes: list[tuple[str, str | None]], sent: list[tuple[int, int, str]]) -> Expected:
    event = json.loads((EVENTS / name).read_text(encoding="utf-8"))
    ids = [record["messageId"] for record in event["Records"]] if "Records" in event else [event["id"]]
    completions = frozenset((_USERS[user], _CONTENTS[content], time) for user, content, time in sent)
    return Expected(dict(zip(ids, outcomes, strict=True)), completions)


EXPECTED: Mapping[str, Expected] = {
    "unsupported-s3-put.json": Expected(error="UnsupportedEventError"),
    **{name: _expected(name, *case) for name, case in _CASES.items()},
}
