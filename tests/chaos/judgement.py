"""What must be so when the storm is over. No I/O here: evidence in, problems out."""

from __future__ import annotations

import base64
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import quote_plus

from sandbox.demo.reconcile import reconcile
from sandbox.demo.workload import Recorded, Rejected

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from sandbox.demo.reconcile import Sent
    from sandbox.pipeline.mail import Letter
    from sandbox.thrive_api import Entry


@dataclass(frozen=True, slots=True)
class Evidence:
    """What is left of a run; `outputs` by file, `canaries` must show in none of them."""

    sent: Sequence[Sent]
    records: Sequence[Entry]
    letters: Sequence[Letter]
    queued: int
    outputs: Mapping[str, str]
    canaries: frozenset[str]
    failed_invocations: Mapping[str, int]


def judge(evidence: Evidence) -> list[str]:
    """Name everything that is wrong; an empty list when the promise was kept.

    - Each good message is one record and no dead letter, each bad one a dead letter with its reason, nothing is left,
      and nothing is there that nobody sent.
    - Every dead letter, also one that came twice, was sent by the function, with its reason and its body unchanged.
    - The function never raised, and never gave an answer that Lambda does not accept.
    - No canary shows in any output, nor in a dead letter's attributes.
    """
    return [
        *reconcile(evidence.sent, evidence.records, evidence.letters, evidence.queued).problems,
        *_wrong_letters(evidence),
        *(
            f"{number} invocations ended as: {kind}"
            for kind, number in evidence.failed_invocations.items()
            # Those that were killed or frozen beyond their timeout are the test's own doing.
            if number and kind in ("error", "malformed")
        ),
        *_leaks(evidence),
    ]


def out_of_order(sent: Iterable[tuple[str, Sent]], records: Iterable[Entry]) -> list[str]:
    """Name the FIFO groups whose records were not made in the order in which the messages were sent.

    Completions that were sent more than once are left out: another group may have been quicker.
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
    texts = {
        **evidence.outputs,
        "the dead letters' attributes": "\n".join(str(letter.attributes) for letter in evidence.letters),
    }
    forms = {form for canary in evidence.canaries for form in _forms(canary)}
    # Which one is not said: this text is printed.
    return [f"a canary shows in {name}" for name, text in texts.items() if any(form in text for form in forms)]


def _forms(canary: str) -> set[str]:
    return {canary, quote_plus(canary), base64.b64encode(canary.encode()).decode().rstrip("=")}
