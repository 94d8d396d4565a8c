"""What must be true when the storm is over. No I/O here: evidence in, problems out."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sandbox.demo.reconcile import reconcile
from sandbox.demo.workload import Recorded, Rejected
from tests.support.canaries import forms, found

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from sandbox.demo.reconcile import Sent
    from sandbox.pipeline.mail import Letter
    from sandbox.thrive_api import Entry


@dataclass(frozen=True, slots=True)
class Evidence:
    """What is left of a run: `outputs` by file, none of which may show a canary or one of the `secrets`."""

    sent: Sequence[Sent]
    records: Sequence[Entry]
    letters: Sequence[Letter]
    queued: int
    outputs: Mapping[str, str]
    secrets: frozenset[str]
    failed_invocations: Mapping[str, int]


def judge(evidence: Evidence) -> list[str]:
    """Return everything that is wrong; an empty list if the promise was kept.

    - Each good message is one record and no dead letter, each bad one a dead letter with its reason; nothing is left,
      and nothing is there that nobody sent.
    - Every dead letter, also one that came twice, was sent by the function, with its reason and its body unchanged.
    - The function never raised, and never gave an answer that Lambda does not accept.
    - No secret and no learner's data shows in any output, nor in a dead letter's attributes.
    """
    failed = [
        f"{number} invocations ended as: {kind}" for kind, number in evidence.failed_invocations.items() if number
    ]
    balance = reconcile(evidence.sent, evidence.records, evidence.letters, evidence.queued)
    return [*balance.problems, *_wrong_letters(evidence), *failed, *_leaks(evidence)]


def out_of_order(sent: Iterable[tuple[str | None, Sent]], records: Iterable[Entry]) -> list[str]:
    """Return the FIFO groups whose records were not made in the order in which the messages were sent.

    Completions that were sent more than once are left out: another group may have been faster.
    """
    pairs = [(group, item.message.expected.key) for group, item in sent if isinstance(item.message.expected, Recorded)]
    times = Counter(key for _, key in pairs)
    place = {entry.key: number for number, entry in enumerate(records)}
    problems: list[str] = []
    for wanted in sorted({group for group, _ in pairs}):
        places = [place.get(key, -1) for group, key in pairs if group == wanted and times[key] == 1]
        if places != sorted(places):
            problems.append(f"group {wanted} was recorded out of order: {places}")
    return problems


def _wrong_letters(evidence: Evidence) -> list[str]:
    by_id = {item.id: item.message for item in evidence.sent}
    problems = []
    for letter in evidence.letters:
        message = by_id.get(letter.attributes.get("sourceMessageId", ""))
        reason = letter.attributes.get("reason")
        if reason is None:
            problems.append(f"a dead letter without a reason, so moved by the queue: {letter.message_id}")
        elif message is not None and isinstance(message.expected, Rejected):
            if reason != message.expected.reason:
                problems.append(f"{message.label}: a dead letter with the reason {reason}")
            if message.written.content != letter.body:
                problems.append(f"{message.label}: the body was changed")
    return problems


def _leaks(evidence: Evidence) -> list[str]:
    letters = "\n".join(str(letter.attributes) for letter in evidence.letters)
    spellings = {form for secret in evidence.secrets for form in forms(secret)}
    return [
        # Which secret it is must not be printed.
        f"a secret or a learner's data shows in {name}"
        for name, text in {**evidence.outputs, "the dead letters' attributes": letters}.items()
        if found(text) or any(spelling in text for spelling in spellings)
    ]
