"""The check: compare what was sent with what Thrive and the dead-letter queue hold. Every message counts."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, assert_never

from sandbox.demo.workload import Ignored, Recorded, Rejected

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from sandbox.demo.workload import Message
    from sandbox.pipeline.mail import Letter
    from sandbox.thrive_api import Entry, Key


@dataclass(frozen=True, slots=True)
class Sent:
    """A message, and the id that SQS or EventBridge gave it."""

    message: Message
    id: str


@dataclass(slots=True)
class Balance:
    """Where the messages ended up; created + existing + rejected + ignored + unaccounted = sent.

    `existing` counts messages whose completion was recorded through another message. `rejected` counts by reason, and
    `rejections` has a line for each: label, reason, detail. `problems` lists what is unaccounted for, and records and
    dead letters that nobody sent.
    """

    sent: int = 0
    created: int = 0
    existing: int = 0
    rejected: Counter[str] = field(default_factory=Counter)
    rejections: list[tuple[str, str, str]] = field(default_factory=list)
    ignored: int = 0
    queued: int = 0
    unaccounted: int = 0
    problems: list[str] = field(default_factory=list)

    @property
    def is_even(self) -> bool:
        """Whether every message is where it belongs and nothing else is there."""
        return not self.problems


def reconcile(sent: Sequence[Sent], records: Iterable[Entry], letters: Iterable[Letter], queued: int) -> Balance:
    """Compare what was sent with Thrive's `records`, the dead `letters` and the number of messages still `queued`."""
    keys = {entry.key for entry in records}
    dead: defaultdict[str, list[Letter]] = defaultdict(list)
    ids = {item.id for item in sent}
    for letter in letters:
        dead[_origin(letter, ids)].append(letter)
    balance = Balance(sent=len(sent), queued=queued)
    claimed: set[Key] = set()
    for item in sent:
        problem = _account(item, keys, claimed, dead.pop(item.id, []), balance)
        if problem:
            balance.unaccounted += 1
            balance.problems.append(f"{item.message.label}: {problem}")
    expected = {item.message.expected.key for item in sent if isinstance(item.message.expected, Recorded)}
    balance.problems += [f"a record that nobody sent: {tuple(key)}" for key in sorted(keys - expected)]
    balance.problems += [f"a dead letter that nobody sent: {_describe(found[0])}" for found in dead.values()]
    if queued:
        balance.problems.append(f"{queued} still in the queue")
    return balance


def _account(item: Sent, keys: set[Key], claimed: set[Key], letters: list[Letter], balance: Balance) -> str:
    """Count one message; return what is wrong with it, or an empty string."""
    expected = item.message.expected
    match expected:
        case Recorded(key):
            if letters:
                return f"should be recorded, but is a dead letter: {_describe(letters[0])}"
            if key not in keys:
                return "should be recorded, but Thrive does not hold it"
            if key in claimed:
                balance.existing += 1
            else:
                claimed.add(key)
                balance.created += 1
        case Rejected(reason):
            if not letters:
                return f"should be rejected ({reason}), but is not a dead letter"
            attributes = letters[0].attributes
            if attributes.get("reason") != reason:
                return f"should be rejected as {reason}, but: {_describe(letters[0])}"
            balance.rejected[reason] += 1
            balance.rejections.append((item.message.label, reason, attributes.get("detail", "")))
        case Ignored():
            if letters:
                return f"should be ignored, but is a dead letter: {_describe(letters[0])}"
            balance.ignored += 1
        case _:
            assert_never(expected)
    return ""


def _origin(letter: Letter, ids: set[str]) -> str:
    """Return the id under which a dead letter was sent."""
    try:
        body = json.loads(letter.body)
    except (ValueError, RecursionError):
        body = None
    # A message from the bus was sent under the event's id, which is in the body.
    if isinstance(body, dict) and isinstance(body.get("id"), str) and body["id"] in ids:
        return str(body["id"])
    # What the function sent there names its source. What the queue moved there keeps its message id.
    return letter.attributes.get("sourceMessageId", letter.message_id)


def _describe(letter: Letter) -> str:
    reason = letter.attributes.get("reason", "moved by the queue after too many receives")
    return f"{reason} {letter.attributes.get('detail', '')}".strip()
