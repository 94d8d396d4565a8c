"""Ways to break the package on purpose, which the watch must notice.

A breakage replaces a name, or edits one place in a function's syntax tree; it is an error if that is no longer there.
The test runs the seeds 0, 1, … and expects a violation within the first ``within`` of them. ``caught_by`` matches the
first violation, so that a breakage is caught for its own reason. There is no breakage here that teaches the same as
another one; the unit tests hold single rules more exactly.
"""

from __future__ import annotations

import ast
import contextlib
import dataclasses
from collections.abc import Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from .kernel import kernel
from .package import Package
from .runs import first_wrong

if TYPE_CHECKING:
    from .world import Report

Breakage = Callable[["Package"], None]


class Bite:
    """One breakage of the package."""

    def __init__(self, name: str, within: int, caught_by: str, *breakages: Breakage) -> None:
        self.name = name
        self.within = within
        self.caught_by = caught_by
        self.breakages = breakages


def put(path: str, value: object) -> Breakage:
    """Replace a name by a value or a function."""
    return lambda package: package.replace(path, lambda _: value)


def wrap(path: str, make: Callable[[Any], Any]) -> Breakage:
    """Replace a name by what ``make`` returns for the original."""
    return lambda package: package.replace(path, make)


def edit(path: str, change: Callable[[ast.FunctionDef], int]) -> Breakage:
    """Change one place in a function's syntax tree."""
    return lambda package: package.rewrite(path, change)


# ---- what several of them need


def settles(*names: str) -> Breakage:
    """Count messages with these outcomes as settled."""
    return wrap(
        "handler._is_settled",
        lambda original: lambda message, result, dead: result.outcome.name in names or original(message, result, dead),
    )


def reads(which: Callable[[int], bool], read_as: int) -> Breakage:
    """Read Thrive's answers to completions with some statuses as if they had another status."""

    def breakage(package: Package) -> None:
        def make(original: Any) -> Any:
            def interpret(self: Any, response: Any, grant: Any, *, expects_list: bool) -> Any:
                if self._scope == "api/write" and which(response.status):
                    return package.thrive.Answer(read_as, {}, grant)
                return original(self, response, grant, expects_list=expects_list)

            return interpret

        package.replace("thrive.ThriveApi._interpret", make)

    return breakage


def in_except(statement: str) -> Callable[[ast.FunctionDef], int]:
    """Add a statement to what handles exceptions in a function."""

    def change(function: ast.FunctionDef) -> int:
        handlers = [node for node in ast.walk(function) if isinstance(node, ast.ExceptHandler)]
        for handler in handlers:
            handler.body += ast.parse(statement).body
        return len(handlers)

    return change


# ---- the implementations that do not fit into a line


def _ignores_failed_entries(original: Any) -> Any:
    def send(self: Any, url: Any, chunk: Any) -> Any:
        return {message.id for message, *_ in chunk} if original(self, url, chunk) else set()

    return send


def _renames_ids(original: Any) -> Any:
    def handle(*given: Any) -> Any:
        ids = [failure["itemIdentifier"] for failure in original(*given)["batchItemFailures"]]
        return {"batchItemFailures": [{"itemIdentifier": f"{one}x"} for one in ids]}

    return handle


def _changes_bodies(original: Any) -> Any:
    return lambda self, url, chunk: original(self, url, [(message, f"{body} ", rest) for message, body, rest in chunk])


def _lost_means_created(package: Package) -> None:
    def make(original: Any) -> Any:
        def post(*given: Any) -> Any:
            try:
                return original(*given)
            except package.errors.TemporaryError:
                return package.transport.Response(201, b"{}")

        return post

    package.replace("transport.Transport.post", make)


def _never_renews(package: Package) -> None:
    def renew(*_: Any) -> Any:
        raise package.errors.RefusedError("refused", status=401)

    package.replace("authorization.Authorizer.renew", lambda _: renew)


def _completed_now(original: Any) -> Any:
    def to_json(self: Any) -> Any:
        now = datetime.fromtimestamp(kernel().process.wall(), UTC)
        return original(dataclasses.replace(self, completed_at=f"{now:%Y-%m-%dT%H:%M:%S}.000Z"))

    return to_json


def _any_trouble_halts(package: Package) -> None:
    def learn(self: Any, error: Any, _subject: Any) -> None:
        self._halted = package.errors.AccessError("unavailable", f"Thrive is unwell: {type(error).__name__}")

    package.replace("recording.Access.failed", lambda _: learn)


def _without_groups(original: Any) -> Any:
    return lambda messages: original([dataclasses.replace(message, group=None) for message in messages])


def _without_holding(original: Any) -> Any:
    return lambda messages: [dataclasses.replace(lane, is_group=False) for lane in original(messages)]


def _forgets_the_deadline(package: Package) -> None:
    package.replace(
        "handler._work_deadline", lambda _: lambda application, *_: package.clock.Deadline(application.clock, 600)
    )


def _always_the_first(original: Any) -> Any:
    return lambda self, _count, *rest: original(self, 1, *rest)


def _without_retry_after(original: Any) -> Any:
    return lambda self, count, _retry_after, *rest: original(self, count, None, *rest)


def _without_lock(original: Any) -> Any:
    def init(self: Any, *given: Any) -> None:
        original(self, *given)
        self._lock = contextlib.nullcontext()

    return init


def _always_reads(self: Any) -> Any:
    with self._lock:
        return self._read()


def _forgets_before_reading(original: Any) -> Any:
    def read(self: Any) -> Any:
        self._current = None
        return original(self)

    return read


def _logs_bodies(original: Any) -> Any:
    def log(self: Any, message: Any, result: Any, age: float = 0.0) -> None:
        original(self, message, result, age)
        self.notice(message.body)

    return log


def _renames_reasons(original: Any) -> Any:
    return lambda *given: original(*given) | {"reason": "refused"}


def _counts_attempts(original: Any) -> Any:
    def failed(self: Any, subject: Any, now: Any) -> Any:
        if subject in self._tried:
            self._failed.add(object())
        return original(self, subject, now)

    return failed


def _never_ends(original: Any) -> Any:
    return lambda self: None if self.began is not None else original(self)


def _holds_nothing_back(self: Any, *, probing: bool) -> None:
    pass


def _slots_in_the_future(original: Any) -> Any:
    def throttled(self: Any, sent: Any, retry_after: Any, now: Any) -> Any:
        is_new = original(self, sent, retry_after, now)
        self._next_slot = now.monotonic + self._pause_seconds
        return is_new

    return throttled


def _renewal_must_work(package: Package) -> None:
    def renew(self: Any, _token: Any, credentials: Any, deadline: Any) -> Any:
        with self._lock:
            return self._fetch(credentials, deadline)

    package.replace("tokens.TokenCache._renew", lambda _: renew)


SETTLED = "without an answer or a dead letter|of its group was decided"
REFUSED = "was dead-lettered for refused|of its group was decided"
UNKNOWN = "was dead-lettered for unknown_content|of its group was decided"

BITES = (
    # ---- what leaves the queue
    Bite("deferred messages are acknowledged", 25, "acknowledged, but the log says|" + SETTLED, settles("deferred")),
    Bite("rejected messages are acknowledged without a dead letter", 100, SETTLED, settles("rejected")),
    Bite(
        "failed entries of a batch call are ignored", 300, SETTLED, wrap("queues.Queues._send", _ignores_failed_entries)
    ),
    Bite(
        "nothing is reported after an exception",
        100,
        SETTLED,
        edit("handler._handle_batch", in_except("unsettled = []")),
    ),
    Bite(
        "an exception is raised to Lambda",
        100,
        "not a partial batch response",
        edit("handler._handle_batch", in_except("raise")),
    ),
    Bite(
        "the answer names ids that were not received",
        25,
        "the answer names",
        wrap("handler._handle_batch", _renames_ids),
    ),
    Bite(
        "the whole batch is reported when one message failed",
        50,
        "reported, but the log says|after the last trouble",
        wrap("handler._is_settled", lambda original: lambda m, r, dead: original(m, r, dead) and False),
    ),
    Bite(
        "a failed call to the retry queue is ignored",
        300,
        SETTLED,
        wrap("queues.Queues.requeue", lambda original: lambda *given: original(*given) or True),
    ),
    Bite("a dead letter's body is changed", 25, "another body", wrap("queues.Queues._send", _changes_bodies)),
    # ---- what Thrive's answers mean
    Bite("5xx counts as created", 50, SETTLED, reads(lambda status: status >= 500, 201)),
    Bite("a lost connection counts as created", 50, SETTLED, _lost_means_created),
    Bite("401 counts as a refusal", 50, REFUSED, _never_renews),
    Bite("429 counts as a refusal", 100, REFUSED, reads(lambda status: status == 429, 422)),
    Bite(
        "a body that is not JSON settles a message",
        150,
        f"{SETTLED}|{REFUSED}",
        wrap("transport.Response.json_object", lambda original: lambda self: original(self) or {}),
    ),
    Bite("a gateway's 404 is Thrive's", 300, REFUSED, put("thrive._GATEWAYS_4XX", frozenset())),
    # ---- what is sent, and how often
    Bite(
        "completedAt comes from the clock",
        25,
        "what nobody sent",
        wrap("completion.Completion.to_json", _completed_now),
    ),
    Bite(
        "one learner's completions count as the same",
        50,
        SETTLED + "|in an outage",
        put("completion.Completion.__hash__", lambda self: hash(self.user_id)),
        put("completion.Completion.__eq__", lambda self, other: self.user_id == other.user_id),
    ),
    Bite("attempts without end", 100, "calls for one completion", put("retry.MAX_ATTEMPTS", 10**9)),
    Bite("one message's trouble stops its batch", 100, "deferred without a call", _any_trouble_halts),
    Bite(
        "the groups of a FIFO queue are not kept in order",
        100,
        "of its group was decided",
        wrap("sync.lanes_of", _without_groups),
    ),
    Bite(
        "a deferred message does not hold its group",
        200,
        "of its group was decided",
        wrap("sync.lanes_of", _without_holding),
    ),
    Bite("the function's deadline is forgotten", 2000, "ran into the hard stop", _forgets_the_deadline),
    Bite(
        "connections are kept however long they were idle",
        25,
        "a connection that was idle",
        put("connections.MAX_IDLE_SECONDS", 1e9),
    ),
    # ---- backoff
    Bite("no backoff is set", 50, "without being put off", put("queues.Queues.postpone", lambda *_: [])),
    Bite("the backoff does not grow", 50, "put off by", wrap("retry.Backoff.seconds", _always_the_first)),
    Bite("Retry-After is not heeded", 300, "put off by", wrap("retry.Backoff.seconds", _without_retry_after)),
    # ---- tokens and secrets
    Bite(
        "every thread fetches a token of its own",
        100,
        "of one environment at once|while a good one was held",
        wrap("tokens.TokenCache.__init__", _without_lock),
    ),
    Bite(
        "time is the monotonic clock alone",
        25,
        "was idle|was sent after|by a memory",
        put("clock.elapsed", lambda since, now: now.monotonic - since.monotonic),
    ),
    Bite(
        "tokens do not expire",
        50,
        "was sent after",
        put("tokens.AccessToken.is_due", lambda *_: False),
        put("tokens.AccessToken.has_expired", lambda *_: False),
    ),
    Bite("a refusal is not remembered", 100, "tried again within a minute", put("tokens.REFUSAL_SECONDS", 0.0)),
    Bite(
        "the secret is not read again when it is refused",
        100,
        "not read again",
        put("credentials.CredentialsCache.reread", lambda self, _: self._current),
    ),
    Bite(
        "the secret is read for every message",
        25,
        "without need",
        put("credentials.CredentialsCache.get", _always_reads),
    ),
    Bite(
        "without Secrets Manager nothing works",
        150,
        "though a secret was at hand",
        wrap("credentials.CredentialsCache._read", _forgets_before_reading),
    ),
    Bite(
        "a failed renewal drops a valid token",
        500,
        "though one was at hand|while a good one was held",
        _renewal_must_work,
    ),
    # ---- pauses
    Bite("a pause is ignored", 200, "into a pause", put("pressure.Throttle.paused_for", lambda *_: 0.0)),
    Bite(
        "a pause does not end while the environment is frozen",
        300,
        "by a pause that is over|by a memory",
        wrap("pressure.Throttle.throttled", _slots_in_the_future),
    ),
    Bite(
        "there is no pace",
        300,
        "of the rate that Thrive accepts|were refused",
        put("pressure.Throttle.take_slot", lambda *_: 0.0),
    ),
    # ---- outages and probes
    Bite(
        "an outage begins with one message that fails three times",
        300,
        "an outage that is none",
        wrap("pressure.Outage.failed", _counts_attempts),
    ),
    Bite("an outage never ends", 100, "an outage that is none", wrap("pressure.Outage.answered", _never_ends)),
    Bite(
        "an outage holds nothing back",
        100,
        "of an outage|in an outage",
        put("pressure.Pressure._raise_if_out", _holds_nothing_back),
    ),
    Bite("outages are probed too often", 300, "of an outage|in an outage", put("pressure.LONGEST_PROBE_SECONDS", 0.0)),
    Bite("outages are probed too seldom", 100, "though a probe was due", put("pressure.LONGEST_PROBE_SECONDS", 3600.0)),
    # ---- people
    Bite(
        "another person's id is taken",
        600,
        "what nobody sent|somebody-else",
        put("people._user_id", lambda fields, _: fields["id"]),
    ),
    Bite(
        "nobody waits for people",
        100,
        "was dead-lettered for unknown_user",
        wrap(
            "sync.CompletionSync.__init__",
            lambda original: lambda self, *given: original(self, *given[:5], 0.0, *given[6:]),
        ),
    ),
    # ---- configuration
    Bite(
        "a code is rejected by an old listing",
        300,
        UNKNOWN,
        wrap(
            "config.Config.content_id",
            lambda original: lambda self, code, began: original(self, code, self._tried or began),
        ),
    ),
    Bite(
        "a broken table counts as an empty one",
        300,
        UNKNOWN,
        edit("config.Config._parse", in_except("if file.name == CONTENT_FILE: file.value, file.problem = {}, None")),
    ),
    Bite(
        "a broken table drops the good one",
        300,
        "though a good copy was at hand",
        edit("config.Config._parse", in_except("file.value = None")),
    ),
    Bite(
        "a changed table is not read again",
        300,
        UNKNOWN,
        put("config._File.is_new", property(lambda self: self.listed is not None and self.good is None)),
    ),
    Bite(
        "a broken table defers every message",
        300,
        "which has no code",
        wrap("config.Config.mapping", lambda original: lambda *given: (original(*given), given[0]._table(given[1]))[0]),
    ),
    # ---- what anybody may read
    Bite("the log holds bodies", 25, "an output holds", wrap("observability.Telemetry.message", _logs_bodies)),
    Bite("the log holds a library's words", 100, "an output holds", put("transport._describe", str)),
    Bite(
        "dead letters hold whatever Thrive says",
        50,
        "an output holds",
        put("redaction.Redactor.one_line", lambda self, value, *_: str(value)),
    ),
    Bite(
        "dead letters name another reason",
        50,
        "was dead-lettered for refused",
        wrap("queues._attributes", _renames_reasons),
    ),
)


def caught(name: str) -> Report | None:
    """Run seeds with one breakage until one of them goes wrong."""
    [bite] = [bite for bite in BITES if bite.name == name]
    package = Package()
    for breakage in bite.breakages:
        breakage(package)
    return first_wrong(range(bite.within), package)
