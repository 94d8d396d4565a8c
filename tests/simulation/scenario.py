"""Draws from a seed the messages, the deployment, and what goes wrong when.

There are four kinds of scenario. In ``chaos``, which most of them are, anything may go wrong at once. In the others one
thing goes wrong, so that more can be checked: ``sick`` (Thrive always fails for some learners), ``outage`` (all of
Thrive is down for a while) and ``rate`` (Thrive limits the rate of requests).

All trouble ends: from ``Scenario.healed`` on nothing goes wrong, and all messages that are left must be settled.
"""

from __future__ import annotations

import json
import random
import re
from dataclasses import dataclass, field, replace
from typing import Any

from sandbox import outages

MARKER = "canary-7f3a9c"
E_MAIL = f"{MARKER}@learners.example"
TENANT = "eu-west-2_AbcdEfghI"
SECRET_ID = "thrive"  # pragma: allowlist secret
HOUR = 3600.0
DAY = 24 * HOUR

# The template's numbers.
BACKOFF_BASE, BACKOFF_CAP, MAX_RECEIVE_COUNT = outages.BACKOFF_BASE, outages.BACKOFF_CAP, outages.MAX_RECEIVES
VISIBILITY, FUNCTION_TIMEOUT = 420, 60
BATCH_SIZE, MAXIMUM_CONCURRENCY, REQUESTS_IN_FLIGHT = outages.BATCH, outages.ENVIRONMENTS, outages.THREADS
# The function's defaults.
SECRET_MAX_AGE, REQUEST_TIMEOUT = 300.0, 10.0


@dataclass(frozen=True)
class Spell:
    """The time from ``start`` to ``end`` in which ``where`` has trouble of this ``kind``."""

    start: float
    end: float
    kind: str
    where: str


@dataclass(frozen=True)
class Sent:
    """One message as it is sent, and its expected outcome.

    ``fate`` is ``good``, ``refused``, ``invalid``, ``unknown`` (its person is never created) or ``unlisted`` (its code
    is never in the content table). ``ref`` is its person's reference, if it names no user id; ``code`` is its
    content's code, if it names no content id.
    """

    number: int
    at: float
    body: str
    fate: str
    key: str | None = None
    group: str | None = None
    direct: bool = False
    ref: str | None = None
    code: str | None = None

    @property
    def name(self) -> str:
        return f"#{self.number}"


@dataclass(frozen=True)
class Upload:
    """A new version of a configuration file; ``data`` None: it vanishes. ``table`` is that of a valid content table."""

    at: float
    name: str
    data: bytes | None
    is_valid: bool
    table: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class RateLimit:
    """A token bucket; with ``says_when`` a refusal carries ``Retry-After``."""

    per_second: float
    burst: float
    says_when: bool


@dataclass
class Scenario:
    """One run. The probabilities of ``noise`` apply to each call, each delivery or each invocation."""

    seed: int
    sent: list[Sent]
    healed: float
    kind: str = "chaos"
    fifo: bool = False
    preemption: float = 0.0
    batch_size: int = BATCH_SIZE
    concurrency: int = MAXIMUM_CONCURRENCY
    in_flight: int = REQUESTS_IN_FLIGHT
    max_receive_count: int = MAX_RECEIVE_COUNT
    # How many messages of a queue may be in flight: 120,000 at SQS.
    queue_limit: float = float("inf")
    has_dead_letter_queue: bool = True
    auth_method: str = "oauth2"
    token_method: str = "client_secret_post"
    token_lifetime: object = 3600
    spells: list[Spell] = field(default_factory=list)
    secrets: list[tuple[float, str, str]] = field(default_factory=list)
    noise: dict[str, float] = field(default_factory=dict)
    refused: dict[str, int] = field(default_factory=dict)
    # Learners for whom Thrive fails until `healed`, and how.
    sick: dict[str, str] = field(default_factory=dict)
    # References of people, and when they are created in Thrive.
    people: dict[str, float] = field(default_factory=dict)
    # What happens to the configuration in S3, in the order of time; empty: there is none.
    uploads: list[Upload] = field(default_factory=list)
    rate_limit: RateLimit | None = None
    tight: bool = False
    latency: float = 0.15

    def spell(self, where: str, now: float) -> str | None:
        return next((one.kind for one in self.spells if one.where == where and one.start <= now < one.end), None)


OUTAGES = ("503", "500", "refuse", "black_hole", "reset_before", "page", "425")
_RECORD_TROUBLES = (
    *("503", "503", "500", "429", "429-seconds", "429-date", "408", "425", "refuse", "black_hole", "black_hole"),
    *("reset_before", "reset_after", "slow", "403", "302", "302", "page", "gateway", "black_hole"),
)
_TOKEN_TROUBLES = ("503", "429", "429-seconds", "refuse", "black_hole", "reset_before", "page", "slow", "425")
# Without ChangeMessageVisibility a message comes back every VisibilityTimeout. That outages of SQS's own API must be
# short is one of the limits of what is promised.
_LONGEST = {"queues": 2 * HOUR}
CONFIG_TROUBLES = ("denied", "error", "throttled", "unreachable", "hangs", "slow", "cut")
_SECRET_TROUBLES = ("throttled", "server_error", "unreachable", "denied", "hangs")
_NOISE = {
    "503": 0.1,
    "500": 0.1,
    "429": 0.1,
    "429-seconds": 0.08,
    "429-date": 0.04,
    "425": 0.04,
    "408": 0.04,
    "403": 0.04,
    "page": 0.1,
    "gateway": 0.05,
    "reset_before": 0.1,
    "reset_after": 0.15,
    "black_hole": 0.1,
    "slow": 0.1,
    "unreadable": 0.1,
    "other-person": 0.1,
    "token-503": 0.2,
    "token-429": 0.1,
    "token-page": 0.1,
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
    rng = random.Random(seed)
    dice = rng.random()
    if dice < 0.08:
        return _sick(rng, seed)
    if dice < 0.16:
        return _outage(rng, seed)
    if dice < 0.18:
        return _rate(rng, seed)
    return _chaos(rng, seed)


def _chaos(rng: random.Random, seed: int) -> Scenario:
    long = rng.random() < 0.08
    # Most runs last for minutes, some for a day.
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
            ("lookups", _RECORD_TROUBLES, 0.2),
            ("tokens", _TOKEN_TROUBLES, 0.2),
            ("secrets", _SECRET_TROUBLES, 0.2),
            ("queues", ("down",), 0.1),
        )
        if rng.random() < chance
        for start in (rng.choice((-1.0, rng.uniform(-0.1, 0.8) * span, rng.uniform(-0.1, 0.8) * span)),)
    ]
    people: dict[str, float] = {}
    if rng.random() < 0.3:
        sent, people = _by_reference(sent, rng, span, fifo=fifo)
    drawn = Scenario(
        seed,
        sent,
        people=people,
        healed=max(
            [
                span,
                *(at for at in people.values() if at < float("inf")),
                *(spell.end for spell in spells),
                *(at for at, _, _ in secrets),
            ]
        )
        + 1.0,
        fifo=fifo,
        preemption=rng.choice((0.0, 0.02, 0.1, 0.3)),
        # The event source takes at most ten messages at once from a FIFO queue.
        batch_size=rng.choice((1, 3, BATCH_SIZE, *(2 * [BATCH_SIZE if fifo else 4 * BATCH_SIZE]))),
        concurrency=rng.choice((1, 2, MAXIMUM_CONCURRENCY)),
        in_flight=rng.choice((1, 2, REQUESTS_IN_FLIGHT, REQUESTS_IN_FLIGHT)),
        max_receive_count=rng.randint(3, 8) if tight else MAX_RECEIVE_COUNT,
        # Who waits for a person is in flight: a few of them would fill so small a queue.
        queue_limit=float("inf") if people else rng.choice((4, 12, *(4 * [float("inf")]))),
        has_dead_letter_queue=not (tight and rng.random() < 0.5),
        auth_method="basic" if rng.random() < 0.1 else "oauth2",
        token_method=rng.choice(("client_secret_post", "client_secret_basic")),
        token_lifetime=rng.choice((3600, 3600, 3600, 90, 600, 30.5, None, "3600", True, -1, 10**9)),
        spells=spells,
        secrets=secrets,
        noise=noise,
        refused={f"user-refused-{status}": status for status in (400, 404, 410, 422)},
        tight=tight,
        latency=rng.choice((0.02, 0.15, 1.0)),
    )
    if rng.random() < 0.25:
        _configure(drawn, rng, span)
    return drawn


# Of the messages in a foreign shape, in an EventBridge event or without.
_MAPPING = {
    "when": "learner || detail.learner",
    "userId": "learner || detail.learner",
    "contentCode": "course || detail.course",
    "completedAt": "completedAt || detail.completedAt || time",
}
_BROKEN_TABLES = (b"", b"code,contentId\ncode-0\n", b"code,contentId\na,b\na,c\n", b"code,contentId\n\xff,b\n")


def _configure(scenario: Scenario, rng: random.Random, span: float) -> None:
    """Use content codes in some messages, some of them in a foreign shape; draw the changes of mapping and table.

    Each version of the table maps ``code-3`` to a content id of its own, such as ``content-3~2``. Some codes are added
    late, some never.
    """
    added: dict[str, float] = {}
    changed: dict[str, dict[str, str | None]] = {}
    for one in scenario.sent:
        if one.body in changed or one.fate != "good" or rng.random() < 0.3:
            continue
        code = json.loads(one.key or "")["contentId"].replace("content", "code")
        dice = rng.random()
        late = float("inf") if dice < 0.1 else rng.uniform(0.0, span) if dice < 0.4 else -1.0
        body = re.sub(r'contentId(\\?": ?\\?")content-', r"contentCode\1code-", one.body)
        if one.ref is None and rng.random() < 0.4:
            body = body.replace("userId", "learner").replace("contentCode", "course")
        is_listed = added.setdefault(code, late) < float("inf")
        fate, key = (one.fate, one.key) if is_listed else ("unlisted", None)
        changed[one.body] = {"body": body, "fate": fate, "key": key, "code": code}
    scenario.sent = [replace(one, **changed.get(one.body, {})) for one in scenario.sent]
    uploads = []
    for version, (at, data) in enumerate(_versions(rng, span, [], (b"{", b'{"version": 2}'))):
        valid = json.dumps({"version": 1, "sources": [{"name": f"version-{version}"} | _MAPPING]}).encode()
        uploads.append(Upload(at, "mapping.json", data or valid, is_valid=data is None))
    times = {at for at in added.values() if 0 <= at < float("inf")}
    for version, (at, data) in enumerate(_versions(rng, span, sorted(times), (*_BROKEN_TABLES, b"gone", b"gone"))):
        if data is not None:
            uploads.append(Upload(at, "content.csv", None if data == b"gone" else data, is_valid=False))
            continue
        table = {code: f"{code.replace('code', 'content')}~{version}" for code, when in added.items() if when <= at}
        lines = ["code,contentId", *(f"{code},{content_id}" for code, content_id in table.items())]
        uploads.append(Upload(at, "content.csv", "\n".join(lines).encode(), is_valid=True, table=table))
    scenario.uploads = sorted(uploads, key=lambda upload: upload.at)
    if rng.random() < 0.4:
        start = rng.uniform(-0.1, 0.8) * span
        end = start + rng.choice((30.0, 300.0, 1800.0)) * rng.uniform(0.2, 1.0)
        scenario.spells.append(Spell(start, end, rng.choice(CONFIG_TROUBLES), "config"))
    if rng.random() < 0.3:
        scenario.noise["config-fails"] = rng.uniform(0.1, 0.4)
    ends = [upload.at for upload in scenario.uploads] + [spell.end for spell in scenario.spells]
    scenario.healed = max(scenario.healed, max(ends) + 1.0)


def _versions(
    rng: random.Random, span: float, times: list[float], broken: tuple[bytes, ...]
) -> list[tuple[float, bytes | None]]:
    """Return when a file gets which data, None for a valid version, from before the first message on.

    It is valid at ``times``, and each broken version is corrected.
    """
    is_broken_first = rng.random() < 0.15
    drawn: list[tuple[float, bytes | None]] = [(at, None) for at in ([] if is_broken_first else [-2.0]) + times]
    for start in [-2.0] * is_broken_first + [rng.uniform(0.0, span)] * rng.choice((0, 1, 1)):
        length = rng.choice((20.0, 300.0, 1800.0)) * rng.uniform(0.1, 1.0)
        drawn += [(start, rng.choice(broken)), (start + length, None)]
    return sorted(drawn, key=lambda item: item[0])


def _by_reference(
    sent: list[Sent], rng: random.Random, span: float, *, fifo: bool
) -> tuple[list[Sent], dict[str, float]]:
    """Replace some user ids by references; some of the people are created late, some never.

    Messages of a FIFO queue wait for nobody, so there each person exists from the beginning or never.
    """
    people: dict[str, float] = {}
    changed: list[Sent] = []
    before: Sent | None = None
    for one in sent:
        if before is not None and one.body == before.body:  # repeated: it stays the same
            last = changed[-1]
            changed.append(replace(one, body=last.body, fate=last.fate, key=last.key, ref=last.ref))
            continue
        before = one
        if one.fate != "good" or one.direct or rng.random() < 0.4:
            changed.append(one)
            continue
        user = json.loads(one.key or "")["userId"]
        dice = rng.random()
        late = rng.uniform(0.0, rng.choice((60.0, span, 10 * HOUR)))
        ref = f"{MARKER}-ref-{user}-{'never' if dice < 0.1 else 'late' if dice < 0.5 and not fifo else 'now'}"
        people.setdefault(ref, float("inf") if "never" in ref else late if "late" in ref else -1.0)
        body = one.body.replace(json.dumps(user), json.dumps(ref)).replace('"userId"', '"userRef"')
        body = body.replace(json.dumps(json.dumps(user))[1:-1], json.dumps(json.dumps(ref))[1:-1])
        body = body.replace('\\"userId\\"', '\\"userRef\\"')
        fate, key = ("unknown", None) if "never" in ref else (one.fate, one.key)
        changed.append(replace(one, body=body, fate=fate, key=key, ref=ref))
    return changed, people


def _sick(rng: random.Random, seed: int) -> Scenario:
    """Draw healthy messages among some that Thrive always fails for; on a FIFO queue each of these is a group."""
    fifo = rng.random() < 0.5
    in_flight = rng.choice((1, 2, REQUESTS_IN_FLIGHT))
    number = rng.randint(1, 6)
    # One that is never answered takes half of an invocation's time.
    kinds = ("503", "500", "reset_before", "page", *(("black_hole",) if number == 1 or in_flight > number else ()))
    sick = {f"sick-{index}": rng.choice(kinds) for index in range(number)}
    span = rng.choice((60.0, 600.0, 2 * HOUR))
    burst = rng.random() < 0.5
    times = [(rng.choice((0.0, 30.0)) if burst else rng.uniform(0.0, span), user) for user in sick]
    times += [(rng.uniform(0.0, span), f"user-{index % 3}") for index in range(rng.randint(10, 40))]
    return Scenario(
        seed,
        _steady(times, rng, fifo=fifo),
        healed=span + rng.uniform(0.0, 2 * HOUR),
        kind="sick",
        fifo=fifo,
        preemption=rng.choice((0.0, 0.1)),
        batch_size=rng.choice((1, 3, BATCH_SIZE)),
        concurrency=rng.choice((1, 2, MAXIMUM_CONCURRENCY)),
        in_flight=in_flight,
        sick=sick,
        latency=rng.choice((0.02, 0.15)),
    )


def _outage(rng: random.Random, seed: int) -> Scenario:
    """Draw an outage of all of Thrive, or of its completions alone, and traffic before, in and after it."""
    fifo = rng.random() < 0.35
    start = rng.uniform(1.0, 20.0)
    end = start + rng.choice((60.0, 600.0, HOUR)) * rng.uniform(0.3, 1.0)
    times = [(rng.uniform(0.0, end), "user") for _ in range(rng.randint(20, 60))]
    times += [(rng.uniform(end, end + 60.0), "user") for _ in range(rng.randint(20, 40))]
    kind = rng.choice(OUTAGES)
    spells = [Spell(start, end, kind, "records")]
    if rng.random() < 0.4:
        spells.append(Spell(start, end, kind, "tokens"))
    return Scenario(
        seed,
        _steady(times, rng, fifo=fifo),
        healed=end + 61.0,
        kind="outage",
        fifo=fifo,
        preemption=rng.choice((0.0, 0.1)),
        concurrency=rng.choice((1, 2, MAXIMUM_CONCURRENCY)),
        in_flight=rng.choice((3, REQUESTS_IN_FLIGHT)),
        queue_limit=rng.choice((float("inf"), 5, 20)),
        token_lifetime=rng.choice((3600, 120)),
        spells=spells,
    )


def _rate(rng: random.Random, seed: int) -> Scenario:
    """Draw a backlog that takes two minutes at the rate that Thrive accepts."""
    per_second = rng.uniform(4.0, 12.0)
    limit = RateLimit(per_second, per_second * rng.uniform(1.0, 3.0), says_when=rng.random() < 0.5)
    count = int(limit.burst + 120 * per_second)
    return Scenario(
        seed,
        _steady([(0.0, "user")] * count, rng, fifo=False),
        healed=2 * count / per_second,
        kind="rate",
        preemption=rng.choice((0.0, 0.05)),
        concurrency=rng.choice((1, 2, MAXIMUM_CONCURRENCY)),
        rate_limit=limit,
        # One environment that waits for the slowest of ten answers must still have time for more than the limit.
        latency=0.05,
    )


def _steady(times: list[tuple[float, str]], rng: random.Random, *, fifo: bool) -> list[Sent]:
    """Return good messages, one for each time and user. On a FIFO queue a sick user's messages are a group."""
    sent = []
    for number, (at, user) in enumerate(sorted(times, key=lambda item: item[0])):
        body, key, _ = _completion(rng, number, user, direct=False)
        group = user if user.startswith("sick") else f"group-{rng.randrange(8)}"
        sent.append(Sent(number, at + number * 1e-6, body, "good", key, group if fifo else None))
    return sent


def _rotations(rng: random.Random, span: float) -> list[tuple[float, str, str]]:
    """Return (time, what happens, secret): ``promote`` in Secrets Manager, ``issue`` and ``revoke`` at Thrive."""
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
    """Return messages that are sent at any time, or in bursts: at the beginning, and just before secrets change."""
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
    """Return a body, the record that must come of it, and whether it is sent to the function directly."""
    content = f"content-{number // 3}"
    moment = f"2021-01-01T{number // 3600:02d}:{number // 60 % 60:02d}:{number % 60:02d}"
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
