"""Completions as the source systems know them: an employee number, a course code, and the system's own shape.

The mapping and the content table are the files in `sandbox/config`.
"""

from __future__ import annotations

import csv
import hashlib
import json
import random
from dataclasses import dataclass
from datetime import timedelta, timezone
from typing import TYPE_CHECKING, Any

from sandbox.config import EXAMPLE
from sandbox.demo.shapes import Completion, Written, channel_of
from sandbox.demo.workload import Ignored, Message, Recorded, Rejected, invent_time

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from datetime import datetime

PRESENT = tuple(f"E-{number}" for number in range(1001, 1031))
# Not in Thrive when the demo begins; the last ones never will be.
LATE = tuple(f"E-{number}" for number in range(2001, 2009))
MISSING = ("E-9001", "E-9002")

# By code. Not read by the function's own parser, so that the demo finds what is wrong with that.
CONTENTS = {row["code"]: row["contentId"] for row in csv.DictReader(EXAMPLE["content.csv"].decode().splitlines())}

_BAD_SHARE = 0.2
_REPEAT_SHARE = 0.1
_HR_ZONE = timezone(timedelta(hours=1))
_COMPLETED = "http://adlnet.gov/expapi/verbs/completed"


def user_id(ref: str) -> str:
    """Return the Thrive user id that the stand-in has for a reference."""
    return hashlib.sha256(ref.encode()).hexdigest()[:24]


def directory(refs: Iterable[str]) -> dict[str, dict[str, Any]]:
    """Return users for the stand-in, by reference."""
    return {ref: {"id": user_id(ref), "status": "active"} for ref in refs}


@dataclass(frozen=True, slots=True)
class Achievement:
    """A completion as a source system knows it; `at` has whole seconds."""

    ref: str
    code: str
    at: datetime

    @property
    def completion(self) -> Completion:
        """The completion in Thrive's ids."""
        return Completion(user_id(self.ref), CONTENTS[self.code], self.at)


def _xapi(achievement: Achievement, verb: str = _COMPLETED, **actor: object) -> dict[str, Any]:
    """Write a statement (xAPI 1.0.3, part two, section 2.4)."""
    account = {"homePage": "https://hr.example.com", "name": achievement.ref}
    return {
        "actor": actor or {"objectType": "Agent", "account": account},
        "verb": {"id": verb, "display": {"en": verb.rpartition("/")[2]}},
        "object": {"id": f"https://lms.example.com/courses/{achievement.code}"},
        "result": {"score": {"scaled": 0.75}},
        "timestamp": achievement.at.isoformat(),
    }


def _hr(achievement: Achievement, status: str = "passed", time: str = "%d.%m.%Y %H:%M:%S") -> dict[str, Any]:
    """Write a row of an export, whose times are in a time zone of their own."""
    finished = achievement.at.astimezone(_HR_ZONE).strftime(time)
    return {"employeeNumber": achievement.ref, "course": achievement.code, "finished": finished, "status": status}


def _vr(achievement: Achievement) -> dict[str, Any]:
    ended = int(achievement.at.timestamp())
    trainee = {"number": achievement.ref, "headset": "Q-17"}
    return {"type": "finished", "passed": True, "trainee": trainee, "module": achievement.code, "endedAt": ended}


def _native(achievement: Achievement, *names: str) -> dict[str, Any]:
    fields = achievement.completion.fields()
    return {name: {"userRef": achievement.ref, "contentCode": achievement.code, **fields}[name] for name in names}


# By name: how to write an achievement. "on the bus" names the channel, here and below.
GOOD: dict[str, Callable[[Achievement], dict[str, Any]]] = {
    "xAPI statement": _xapi,
    "HR export": _hr,
    "VR headset on the bus": _vr,
    "reference and code": lambda one: _native(one, "userRef", "contentCode", "completedAt"),
    "reference on the bus": lambda one: _native(one, "userRef", "contentId", "completedAt"),
    "code": lambda one: _native(one, "userId", "contentCode", "completedAt"),
}
# By name: how to write what is no completion that can be recorded, and what is expected then.
BAD: dict[str, tuple[Callable[[Achievement], dict[str, Any]], Rejected | Ignored]] = {
    "unknown code": (lambda one: {**_hr(one), "course": "JUGGLING"}, Rejected("unknown_content")),
    "xAPI, no account": (lambda one: _xapi(one, mbox="mailto:a@example.com"), Rejected("invalid_message")),
    "HR, other date": (lambda one: _hr(one, time="%m/%d/%Y"), Rejected("invalid_message")),
    "xAPI, launched": (lambda one: _xapi(one, "http://adlnet.gov/expapi/verbs/launched"), Ignored()),
    "HR, enrolled on the bus": (lambda one: _hr(one, status="enrolled"), Ignored()),
}


def generate(number: int, seed: int) -> list[Message]:
    """Return messages about people whom Thrive knows: mostly good, some repeats, some bad."""
    rng = random.Random(seed)  # noqa: S311 - a repeatable workload, not a secret
    messages: list[Message] = []
    sent: list[Achievement] = []
    bad = 0
    for index in range(1, number + 1):
        draw = rng.random()
        if draw < _BAD_SHARE:
            name = list(BAD)[bad % len(BAD)]
            bad += 1
            write, expected = BAD[name]
            messages.append(_message(f"foreign {index} ({name})", name, write(_invent(rng, PRESENT)), expected))
        elif draw < _BAD_SHARE + _REPEAT_SHARE and sent:
            messages.append(_good(f"foreign {index} (repeat)", rng.choice(sent), rng))
        else:
            sent.append(_invent(rng, PRESENT))
            messages.append(_good(f"foreign {index}", sent[-1], rng))
    return messages


def generate_waiting(number: int, seed: int) -> list[Message]:
    """Return messages about people whom Thrive does not know: most are late, some missing for good."""
    rng = random.Random(seed)  # noqa: S311 - as above
    messages = []
    for index in range(1, number + 1):
        if index % 5 == 1:
            achievement = _invent(rng, MISSING)
            content = _native(achievement, "userRef", "contentCode", "completedAt")
            messages.append(_message(f"waiting {index} (missing)", "", content, Rejected("unknown_user")))
        else:
            achievement = _invent(rng, LATE)
            # By other shapes the function would not have to look the person up.
            name = rng.choice([name for name in GOOD if name != "code"])
            content = GOOD[name](achievement)
            expected = Recorded(achievement.completion.key)
            messages.append(_message(f"waiting {index} (late), {name}", name, content, expected))
    return messages


def _invent(rng: random.Random, people: tuple[str, ...]) -> Achievement:
    return Achievement(rng.choice(people), rng.choice(list(CONTENTS)), invent_time(rng))


def _good(label: str, achievement: Achievement, rng: random.Random) -> Message:
    name = rng.choice(list(GOOD))
    return _message(f"{label}, {name}", name, GOOD[name](achievement), Recorded(achievement.completion.key))


def _message(label: str, name: str, content: dict[str, Any], expected: Recorded | Rejected | Ignored) -> Message:
    return Message(label, Written(channel_of(name), json.dumps(content)), expected)
