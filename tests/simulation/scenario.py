"""What one seed means: the messages, the deployment, and everything that goes wrong, and when.

Every trouble ends: from ``Scenario.healed`` on, the world behaves, and what is left must come to its end.
"""

from __future__ import annotations

import json
import random
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

MARKER = "canary-7f3a9c"
E_MAIL = f"{MARKER}@learners.example"
TENANT = "eu-west-2_AbcdEfghI"
SECRET_ID = "thrive"  # pragma: allowlist secret
HOUR = 3600.0
DAY = 24 * HOUR

_TEMPLATE = (Path(__file__).parents[2] / "template.yaml").read_text(encoding="utf-8")


def _number(pattern: str) -> int:
    found = re.findall(pattern, _TEMPLATE)
    if len(found) != 1:
        raise LookupError(f"template.yaml: expected one match of {pattern}, found {len(found)}")
    return int(found[0])


# The template's own numbers: the simulation holds what is deployed, and follows when it changes.
VISIBILITY = _number(r"\n      VisibilityTimeout: (\d+)\n")
MAX_RECEIVE_COUNT = _number(r"\n        maxReceiveCount: (\d+)\n")
FUNCTION_TIMEOUT = _number(r"\n      Timeout: (\d+)\n")
BACKOFF_BASE = _number(r'BACKOFF_BASE_SECONDS: "(\d+)"')
BACKOFF_CAP = _number(r'BACKOFF_CAP_SECONDS: "(\d+)"')
BATCH_SIZE = _number(r"\n  BatchSize:\n    Type: Number\n    Default: (\d+)\n")
MAXIMUM_CONCURRENCY = _number(r"\n  MaximumConcurrency:\n    Type: Number\n    Default: (\d+)\n")
REQUESTS_IN_FLIGHT = _number(r"\n  RequestsInFlight:\n    Type: Number\n    Default: (\d+)\n")
RETENTION = 86_400 * _number(r"\n  QueueRetentionDays:\n    Type: Number\n    Default: (\d+)\n")
SECRET_MAX_AGE = 300.0
REQUEST_TIMEOUT = 10.0


@dataclass(frozen=True)
class Spell:
    """A spell of one trouble: ``kind`` from ``start`` to ``end``; what kinds there are, the thing concerned knows."""

    start: float
    end: float
    kind: str
    where: str

    def covers(self, now: float) -> bool:
        """Whether it is on."""
        return self.start <= now < self.end


@dataclass(frozen=True)
class Sent:
    """One message as it is sent, and what must become of it: ``good``, ``refused`` or ``invalid``."""

    number: int
    at: float
    body: str
    fate: str
    key: str | None = None
    group: str | None = None
    direct: bool = False

    @property
    def name(self) -> str:
        """How traces call it."""
        return f"#{self.number}"


@dataclass
class Scenario:
    """One run. The probabilities of ``noise`` apply to each call, each delivery or each invocation."""

    seed: int
    fifo: bool
    sent: list[Sent]
    preemption: float
    batch_size: int
    concurrency: int
    in_flight: int
    max_receive_count: int
    has_dead_letter_queue: bool
    auth_method: str
    token_method: str
    token_lifetime: object
    spells: list[Spell]
    secrets: list[tuple[float, str, str]]
    noise: dict[str, float]
    refused: dict[str, int]
    healed: float
    tight: bool = False
    latency: float = 0.15
    settings: dict[str, str] = field(default_factory=dict)

    def spell(self, where: str, now: float) -> str | None:
        """Give the trouble that is on now."""
        return next((spell.kind for spell in self.spells if spell.where == where and spell.covers(now)), None)


_RECORD_TROUBLES = (
    *("503", "503", "500", "429", "429-seconds", "429-date", "408", "425", "refuse", "black_hole", "black_hole"),
    *("reset_before", "reset_after", "slow", "403", "302", "302", "junk", "black_hole"),
)
_TOKEN_TROUBLES = ("503", "429", "429-seconds", "refuse", "black_hole", "reset_before", "junk", "slow", "425")
# Without ChangeMessageVisibility a message comes back every VisibilityTimeout, and maxReceiveCount is used up in half a
# day: outages of SQS's own API are short here, and that they must be is one of the promise's limits.
_LONGEST = {"queues": 2 * HOUR}
_SECRET_TROUBLES = ("throttled", "server_error", "unreachable", "denied", "hangs")
_NOISE = {
    "503": 0.1,
    "500": 0.1,
    "429": 0.1,
    "429-seconds": 0.08,
    "429-date": 0.04,
    "425": 0.04,
    "408": 0.04,
    "reset_before": 0.1,
    "reset_after": 0.15,
    "black_hole": 0.1,
    "slow": 0.1,
    "unreadable": 0.1,
    "token-503": 0.2,
    "token-429": 0.1,
    "token-junk": 0.1,
    "token-reset_before": 0.1,
    "token-revoked": 0.15,
    "queue-fails": 0.3,
    "queue-entry-fails": 0.3,
    "queue-hangs": 0.05,
    "queue-after": 0.2,
    "no-thread": 0.2,
    "crash": 0.15,
    "stall": 0.06,
    "step": 0.3,
    "retire": 0.3,
    "lost-batch": 0.05,
    "duplicate": 0.1,
    "resurrected": 0.05,
    "delete-fails": 0.08,
}
_INVALID = (
    "no JSON",
    "[]",
    "null",
    "{}",
    '{"userId": "u", "contentId": "c"}',
    '{"userId": 7, "contentId": "c", "completedAt": "2021-01-01T09:00:00Z"}',
    '{"userId": "u", "contentId": "", "completedAt": "2021-01-01T09:00:00Z"}',
    '{"userId": "u", "contentId": "c", "completedAt": "2021-01-01T09:00:00"}',
    '{"userId": "u", "userId": "v", "contentId": "c", "completedAt": "2021-01-01T09:00:00Z"}',
    '{"userId": "u\\ud800", "contentId": "c", "completedAt": "2021-01-01T09:00:00Z"}',
    '{"userId": "u", "contentId": "c", "completedAt": NaN}',
    "[" * 3000,
    '{"detail-type": "x", "detail": 5, "time": "2021-01-01T09:00:00Z"}',
    '{"Type": "Notification", "TopicArn": "arn", "Message": "{"}',
)


def draw(seed: int) -> Scenario:
    """Draw a scenario."""
    rng = random.Random(seed)
    long = rng.random() < 0.08
    # The length of what is going on: most runs are minutes, some are a day.
    span = rng.choice((1.0, 120.0, 600.0, 2 * HOUR))
    outage = rng.uniform(6 * HOUR, DAY) if long else rng.choice((30.0, 300.0, 1800.0, 2 * HOUR)) * rng.uniform(0.3, 1)
    fifo = rng.random() < 0.35
    noise = {kind: p * rng.uniform(0.3, 1.5) for kind, p in _NOISE.items() if rng.random() < (0.06 if long else 0.22)}
    tight = not long and rng.random() < 0.1
    direct = not fifo and rng.random() < 0.3
    count = rng.randint(1, 4 if long else rng.choice((6, 18, 36, 50)))
    secrets = _rotations(rng, span)
    moments = [0.0, *(max(0.0, at) for at, what, _ in secrets if what != "issue")]
    sent = _messages(rng, moments, fifo=fifo, span=span, count=count, direct=direct)
    if direct and rng.random() < 0.5:
        noise["queue-fails"] = 0.4
    spells = [
        Spell(start, start + min(outage, _LONGEST.get(where, DAY)) * rng.uniform(0.2, 1.0), rng.choice(kinds), where)
        for where, kinds, chance in (
            ("records", _RECORD_TROUBLES, 1.0 if long else 0.5),
            ("tokens", _TOKEN_TROUBLES, 0.2),
            ("secrets", _SECRET_TROUBLES, 0.2),
            ("queues", ("down",), 0.1),
        )
        if rng.random() < chance
        for start in (rng.choice((-1.0, rng.uniform(-0.1, 0.8) * span, rng.uniform(-0.1, 0.8) * span)),)
    ]
    healed = max([span, *(spell.end for spell in spells), *(at for at, _, _ in secrets)]) + 1.0
    return Scenario(
        seed=seed,
        fifo=fifo,
        sent=sent,
        preemption=rng.choice((0.0, 0.02, 0.1, 0.3)),
        # A FIFO queue gives ten at the most.
        batch_size=rng.choice((1, 3, BATCH_SIZE, *(2 * [BATCH_SIZE if fifo else 4 * BATCH_SIZE]))),
        concurrency=rng.choice((1, 2, MAXIMUM_CONCURRENCY)),
        in_flight=rng.choice((1, 2, REQUESTS_IN_FLIGHT, REQUESTS_IN_FLIGHT)),
        max_receive_count=rng.randint(3, 8) if tight else MAX_RECEIVE_COUNT,
        has_dead_letter_queue=not (tight and rng.random() < 0.5),
        auth_method="basic" if rng.random() < 0.1 else "oauth2",
        token_method=rng.choice(("client_secret_post", "client_secret_basic")),
        token_lifetime=rng.choice((3600, 3600, 3600, 90, 600, 30.5, None, "3600", True, -1, 10**9)),
        spells=spells,
        secrets=secrets,
        noise=noise,
        refused={f"user-refused-{status}": status for status in (400, 404, 410, 422)},
        healed=healed,
        tight=tight,
        latency=rng.choice((0.02, 0.15, 1.0)),
    )


def _rotations(rng: random.Random, span: float) -> list[tuple[float, str, str]]:
    """Give (time, what happens, secret): ``promote`` in Secrets Manager, ``issue`` and ``revoke`` at Thrive."""
    events: list[tuple[float, str, str]] = []
    at = span * rng.uniform(0.1, 0.9)
    for number in range(rng.choice((0, 0, 0, 1, 1, 2))):
        old, new = f"{MARKER}-secret-{number}+%: /é", f"{MARKER}-secret-{number + 1}+%: /é"
        at = max([at, *(time + rng.uniform(2.0, 400.0) for time, _, _ in events)])
        gap = rng.choice((0.0, 1.0, 20.0, 400.0, HOUR))
        promoted, revoked = (at, at + gap) if rng.random() < 0.5 else (at + gap, at)
        tokens_too = rng.random() < 0.6
        events += [(at - 1.0, "issue", new), (promoted, "promote", new)]
        events.append((revoked, "revoke-all" if tokens_too else "revoke", old))
    return sorted(events)


def _messages(
    rng: random.Random, moments: list[float], *, fifo: bool, span: float, count: int, direct: bool
) -> list[Sent]:
    """Give messages that are sent at any time, or in bursts: at the beginning, and just before secrets change."""
    users = [f"user-{number}" for number in range(rng.choice((1, 2, 5)))]
    groups = [f"group-{number}" for number in range(rng.choice((1, 1, 2, 4)))]
    bad = rng.choice((0.0, 0.1, 0.4))
    repeated = 0.0 if fifo else rng.choice((0.0, 0.0, 0.3))
    made: list[Sent] = []
    burst = rng.choice((0.2, 0.5, 0.9))
    times = [
        max(0.0, rng.choice(moments) - rng.uniform(0.0, 2.0)) if rng.random() < burst else rng.uniform(0.0, span)
        for _ in range(count)
    ]
    for at in sorted(times):
        number = len(made)
        at += number * 1e-6  # noqa: PLW2901 - the order of sending is the order of the numbers
        group = rng.choice(groups) if fifo else None
        dice = rng.random()
        if dice < bad / 2:
            made.append(Sent(number, at, rng.choice(_INVALID), "invalid", None, group))
        elif made and made[-1].key and rng.random() < repeated:
            made.append(Sent(number, at, made[-1].body, made[-1].fate, made[-1].key))
        else:
            refused = dice < bad
            user = f"user-refused-{rng.choice((400, 404, 410, 422))}" if refused else rng.choice(users)
            body, key, is_direct = _completion(rng, number, user, direct=direct)
            made.append(Sent(number, at, body, "refused" if refused else "good", key, group, is_direct))
    return made


def _completion(rng: random.Random, number: int, user: str, *, direct: bool) -> tuple[str, str, bool]:
    """Give a body, the record that must come of it, and whether it is sent to the function directly."""
    content = f"content-{number // 3}"
    moment = f"2021-01-01T09:{number // 60:02d}:{number % 60:02d}"
    key = json.dumps({"userId": user, "contentId": content, "completedAt": f"{moment}.000Z"}, separators=(",", ":"))
    fields: dict[str, Any] = {"userId": user, "contentId": content, "email": E_MAIL, "name": f"{MARKER} Doe"}
    shape = rng.choice(("plain", "plain", "event", "event-time", "notification"))
    if shape != "event-time":
        fields["completedAt"] = f"{moment}Z"
    event = {
        "id": f"event-{number}",
        "detail-type": "Completion",
        "source": "simulation",
        "time": f"{moment}Z" if shape == "event-time" else "2020-02-02T02:02:02Z",
        "detail": fields,
    }
    if direct and rng.random() < 0.5:
        if "completedAt" not in fields:
            event["time"] = f"{moment}Z"
        return json.dumps(event, separators=(",", ":")), key, True
    if shape == "plain":
        return json.dumps(fields), key, False
    if shape == "notification":
        notification = {"Type": "Notification", "TopicArn": "arn:aws:sns:…", "Message": json.dumps(fields)}
        return json.dumps(notification), key, False
    return json.dumps(event), key, False
