"""How the package is broken on purpose, to see that the watch notices.

A breakage replaces something by its name, or edits one place in a function's syntax tree; both raise an error when what
they mean is no longer there. ``within`` is what the test holds: of the seeds 0, 1, … so many are enough. ``caught_by``
matches what the watch says first, so that a breakage is caught for its own reason.
"""

from __future__ import annotations

import ast
import contextlib
import dataclasses
from collections.abc import Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NamedTuple

from .kernel import kernel
from .package import Package
from .runs import first_wrong

if TYPE_CHECKING:
    from .world import Report

Breakage = Callable[["Package"], None]


class Bite(NamedTuple):
    """One breakage of the package."""

    name: str
    within: int
    caught_by: str
    breakages: tuple[Breakage, ...]


def bite(name: str, within: int, caught_by: str, *breakages: Breakage) -> Bite:
    """Describe a breakage."""
    return Bite(name, within, caught_by, breakages)


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


def answers(change: Callable[[dict[str, Any]], Any]) -> Breakage:
    """Change the answer to a batch."""
    return wrap("handler._handle_batch", lambda original: lambda *given: change(original(*given)))


def reads(means: Callable[[Any, int], bool], how: Callable[[Any, int], Any]) -> Breakage:
    """Read some of Thrive's answers to completions, given the answer and its status, in another way."""

    def breakage(package: Package) -> None:
        def make(original: Any) -> Any:
            def interpret(self: Any, response: Any, grant: Any, *, expects_list: bool) -> Any:
                if self._scope == "api/write" and means(response, response.status):
                    return how(package, response.status)(grant)
                return original(self, response, grant, expects_list=expects_list)

            return interpret

        package.replace("thrive.ThriveApi._interpret", make)

    return breakage


def created(package: Any, _status: int) -> Any:
    """Return what reads an answer as a record that was created."""
    return lambda grant: package.thrive.Answer(201, {}, grant)


def refused(package: Any, _status: int) -> Any:
    """Return what reads an answer as a refusal of the completion."""
    return lambda grant: package.thrive.Answer(422, {}, grant)


def backoff(change: Callable[[Any, int, float | None], tuple[int, float | None]]) -> Breakage:
    """Change what the backoff is computed from."""

    def make(original: Any) -> Any:
        def seconds(self: Any, receive_count: int, retry_after: float | None = None, passed: float = 0.0) -> Any:
            return original(self, *change(self, receive_count, retry_after), passed)

        return seconds

    return wrap("retry.Backoff.seconds", make)


def in_except(statement: str) -> Callable[[ast.FunctionDef], int]:
    """Add a statement to what handles exceptions in a function."""

    def change(function: ast.FunctionDef) -> int:
        handlers = [node for node in ast.walk(function) if isinstance(node, ast.ExceptHandler)]
        for handler in handlers:
            handler.body += ast.parse(statement).body
        return len(handlers)

    return change


def without_finally(function: ast.FunctionDef) -> int:
    """Do nothing in the function's ``finally``."""
    tries = [node for node in ast.walk(function) if isinstance(node, ast.Try) and node.finalbody]
    for node in tries:
        node.finalbody = [ast.Pass()]
    return len(tries)


def assigned(name: str, value: str) -> Callable[[ast.FunctionDef], int]:
    """Replace the value that is assigned to a variable."""

    def change(function: ast.FunctionDef) -> int:
        targets = [
            node
            for node in ast.walk(function)
            if isinstance(node, ast.Assign)
            and any(isinstance(one, ast.Name) and one.id == name for one in node.targets)
        ]
        for node in targets:
            node.value = ast.parse(value, mode="eval").body
        return len(targets)

    return change


# ---- the implementations that do not fit into a line


def _sends_nothing_and_says_so(original: Any) -> Any:
    return lambda self, url, chunk: original(self, url, chunk) or {message.id for message, *_ in chunk}


def _ignores_failed_entries(original: Any) -> Any:
    def send(self: Any, url: Any, chunk: Any) -> Any:
        return {message.id for message, *_ in chunk} if original(self, url, chunk) else set()

    return send


def _changes_bodies(original: Any) -> Any:
    return lambda self, url, chunk: original(self, url, [(message, f"{body} ", rest) for message, body, rest in chunk])


def _never_raises(original: Any) -> Any:
    def handle(*given: Any) -> Any:
        try:
            return original(*given)
        except Exception:  # noqa: BLE001 - the breakage
            return {"outcome": "deferred"}

    return handle


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


def _forbidden_halts(package: Package) -> None:
    def make(original: Any) -> Any:
        def learn(self: Any, error: Any, subject: Any) -> None:
            original(self, error, subject)
            if error.status == 403:
                self._halted = package.errors.AccessError(error.reason, "one was forbidden", status=403)

        return learn

    package.replace("recording.Access.failed", make)


def _without_groups(original: Any) -> Any:
    return lambda messages: original([dataclasses.replace(message, group=None) for message in messages])


def _without_holding(original: Any) -> Any:
    return lambda messages: [dataclasses.replace(lane, is_group=False) for lane in original(messages)]


def _forgets_the_deadline(package: Package) -> None:
    package.replace(
        "handler._work_deadline", lambda _: lambda application, *_: package.clock.Deadline(application.clock, 600)
    )


def _without_cap(original: Any) -> Any:
    return lambda self, base, _cap, *rest: original(self, base, 43_200, *rest)


def _without_lock(original: Any) -> Any:
    def init(self: Any, *given: Any) -> None:
        original(self, *given)
        self._lock = contextlib.nullcontext()

    return init


def _forgets_the_token(self: Any, _token: Any) -> None:
    self._token = None


def _true_is_a_second(original: Any) -> Any:
    return lambda expires_in: 1.0 if expires_in is True else original(expires_in)


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


def _fails_at_once(package: Package) -> None:
    def make(original: Any) -> Any:
        def call(
            self: Any, operation: Any, deadline: Any, pressure: Any, subject: Any, *, probing: bool = False
        ) -> Any:
            def single() -> Any:
                try:
                    return operation()
                except package.errors.TemporaryError:
                    pressure.failed(subject)
                    raise

            return original(self, single, deadline, pressure, subject, probing=probing)

        return call

    package.replace("retry.RetryPolicy.call", make)


def _counts_attempts(original: Any) -> Any:
    def failed(self: Any, subject: Any, now: Any) -> Any:
        if subject in self._tried:
            self._failed.add(object())
        return original(self, subject, now)

    return failed


def _never_ends(original: Any) -> Any:
    return lambda self: None if self.began is not None else original(self)


def _only_ends_outages(original: Any) -> Any:
    return lambda self: original(self) if self.began is not None else None


def _ends_by_itself(original: Any) -> Any:
    def probe_failed(self: Any, subject: Any, now: Any) -> None:
        original(self, subject, now)
        self.answered()

    return probe_failed


def _first_of_each_pair_alone(original: Any) -> Any:
    def is_probe_due(self: Any, subject: Any, now: Any) -> Any:
        self._first = None
        return original(self, subject, now)

    return is_probe_due


def _holds_nothing_back(self: Any, *, probing: bool) -> None:
    pass


def _by_the_wall_clock_alone(self: Any, now: Any) -> float:
    began = self._pause_began
    return 0.0 if began is None else max(0.0, began.wall + self._pause_seconds - now.wall)


def _one_by_one(original: Any) -> Any:
    return lambda self, sent, retry_after, now: original(self, now, retry_after, now)


def _slots_in_the_future(original: Any) -> Any:
    def throttled(self: Any, sent: Any, retry_after: Any, now: Any) -> Any:
        is_new = original(self, sent, retry_after, now)
        self._next_slot = now.monotonic + self._pause_seconds
        return is_new

    return throttled


def _returns_too_soon(package: Package) -> None:
    def make(original: Any) -> Any:
        def admit(self: Any, deadline: Any, *, probing: bool = False) -> Any:
            try:
                return original(self, deadline, probing=probing)
            except package.errors.HeldError as error:
                error.retry_after = None
                raise

        return admit

    package.replace("pressure.Pressure.admit", make)


def _renewal_must_work(package: Package) -> None:
    def renew(self: Any, _token: Any, credentials: Any, deadline: Any) -> Any:
        with self._lock:
            return self._fetch(credentials, deadline)

    package.replace("tokens.TokenCache._renew", lambda _: renew)


def _vanished_is_empty(original: Any) -> Any:
    def compare(self: Any, file: Any, etag: Any) -> None:
        original(self, file, etag)
        if etag is None and file.name == "content.csv":
            file.value, file.good, file.problem = {}, None, None

    return compare


SETTLED = "without an answer or a dead letter|of its group was decided"
REFUSED = "was dead-lettered for refused|of its group was decided"
HELD = "held back"
UNKNOWN = "was dead-lettered for unknown_content|of its group was decided"

BITES = (
    # ---- what leaves the queue
    bite("deferred messages are acknowledged", 25, "acknowledged, but the log says|" + SETTLED, settles("deferred")),
    bite("rejected messages are acknowledged without a dead letter", 100, SETTLED, settles("rejected")),
    bite(
        "a failed call to the dead-letter queue is ignored",
        150,
        SETTLED,
        wrap("queues.Queues._send", _sends_nothing_and_says_so),
    ),
    bite(
        "failed entries of a batch call are ignored", 300, SETTLED, wrap("queues.Queues._send", _ignores_failed_entries)
    ),
    bite(
        "nothing is reported after an exception",
        100,
        SETTLED,
        edit("handler._handle_batch", in_except("unsettled = []")),
    ),
    bite(
        "an exception is raised to Lambda",
        100,
        "not a partial batch response",
        edit("handler._handle_batch", in_except("raise")),
    ),
    bite(
        "the answer names ids that were not received",
        25,
        "the answer names",
        answers(
            lambda a: {
                "batchItemFailures": [{"itemIdentifier": one["itemIdentifier"] + "x"} for one in a["batchItemFailures"]]
            }
        ),
    ),
    bite("the answer is null", 25, "not a partial batch response", answers(lambda _: None)),
    bite(
        "the whole batch is reported when one message failed",
        50,
        "reported, but the log says|after the last trouble",
        wrap("handler._is_settled", lambda original: lambda m, r, dead: original(m, r, dead) and False),
    ),
    bite("a direct event that is nowhere is answered", 300, SETTLED, wrap("handler._handle_event", _never_raises)),
    bite(
        "a failed call to the retry queue is ignored",
        300,
        SETTLED,
        wrap("queues.Queues.requeue", lambda original: lambda *given: original(*given) or True),
    ),
    bite("a batch call has more than ten entries", 1500, "with 1[1-9] entries", put("queues.MAX_ENTRIES", 19)),
    bite("a dead letter's body is changed", 25, "another body", wrap("queues.Queues._send", _changes_bodies)),
    # ---- what Thrive's answers mean
    bite("5xx counts as created", 50, SETTLED, reads(lambda _, status: status >= 500, created)),
    bite("a lost connection counts as created", 50, SETTLED, _lost_means_created),
    bite("3xx counts as recorded", 300, SETTLED, reads(lambda _, status: 300 <= status < 400, created)),
    bite("404 counts as recorded", 100, SETTLED, reads(lambda _, status: status == 404, created)),
    bite("401 counts as a refusal", 50, REFUSED, _never_renews),
    bite("403 counts as a refusal", 500, REFUSED, reads(lambda _, status: status == 403, refused)),
    bite("429 counts as a refusal", 100, REFUSED, reads(lambda _, status: status == 429, refused)),
    bite("408 and 425 count as refusals", 150, REFUSED, put("thrive._UNAVAILABLE_4XX", frozenset())),
    bite(
        "an unreadable body counts as a refusal",
        150,
        REFUSED,
        reads(lambda response, _: response.body is None, refused),
    ),
    bite(
        "a body that is not JSON settles a message",
        150,
        f"{SETTLED}|{REFUSED}",
        wrap("transport.Response.json_object", lambda original: lambda self: original(self) or {}),
    ),
    bite("a gateway's 404 is Thrive's", 300, REFUSED, put("thrive._GATEWAYS_4XX", frozenset())),
    # ---- what is sent, and how often
    bite(
        "completedAt comes from the clock",
        25,
        "what nobody sent",
        wrap("completion.Completion.to_json", _completed_now),
    ),
    bite(
        "one learner's completions count as the same",
        50,
        SETTLED + "|in an outage",
        put("completion.Completion.__hash__", lambda self: hash(self.user_id)),
        put("completion.Completion.__eq__", lambda self, other: self.user_id == other.user_id),
    ),
    bite("attempts without end", 100, "calls for one completion", put("retry.MAX_ATTEMPTS", 10**9)),
    bite("one message's trouble stops its batch", 100, "deferred without a call", _any_trouble_halts),
    bite("one forbidden message stops its batch", 500, "deferred without a call", _forbidden_halts),
    bite(
        "the groups of a FIFO queue are not kept in order",
        100,
        "of its group was decided",
        wrap("sync.lanes_of", _without_groups),
    ),
    bite(
        "a deferred message does not hold its group",
        200,
        "of its group was decided",
        wrap("sync.lanes_of", _without_holding),
    ),
    bite("the function's deadline is forgotten", 2000, "ran into the hard stop", _forgets_the_deadline),
    bite(
        "what was not begun goes on in a later invocation",
        750,
        "calls for one completion|will be delivered again|by a memory|at once",
        edit("sync.CompletionSync.run", without_finally),
    ),
    bite(
        "connections are kept however long they were idle",
        25,
        "a connection that was idle",
        put("connections.MAX_IDLE_SECONDS", 1e9),
    ),
    # ---- backoff
    bite("no backoff is set", 50, "without being put off", put("queues.Queues.postpone", lambda *_: [])),
    bite("the backoff is 0", 25, "put off by", put("retry.Backoff.seconds", lambda *_: 0)),
    bite("the backoff has no cap", 100, "put off by", wrap("retry.Backoff.__init__", _without_cap)),
    bite("the backoff does not grow", 50, "put off by", backoff(lambda self, _, after: (1, after))),
    bite("Retry-After is not heeded", 300, "put off by", backoff(lambda self, count, _: (count, None))),
    bite("Retry-After has no limit", 300, "put off by", put("retry.MAX_RETRY_AFTER_SECONDS", 43_200.0)),
    # ---- tokens and secrets
    bite(
        "a 401 drops whatever token there is",
        750,
        "while a good one was held",
        put("tokens.TokenCache.invalidate", _forgets_the_token),
    ),
    bite(
        "every thread fetches a token of its own",
        100,
        "of one environment at once|while a good one was held",
        wrap("tokens.TokenCache.__init__", _without_lock),
    ),
    bite(
        "time is the monotonic clock alone",
        25,
        "was idle|was sent after|by a memory",
        put("clock.elapsed", lambda since, now: now.monotonic - since.monotonic),
    ),
    bite(
        "tokens do not expire",
        50,
        "was sent after",
        put("tokens.AccessToken.is_due", lambda *_: False),
        put("tokens.AccessToken.has_expired", lambda *_: False),
    ),
    bite(
        "expires_in true counts as one second",
        300,
        "while a good one was held",
        wrap("tokens._lifetime", _true_is_a_second),
    ),
    bite("a refusal is not remembered", 100, "tried again within a minute", put("tokens.REFUSAL_SECONDS", 0.0)),
    bite(
        "a remembered failure outlives a step of the clock",
        1000,
        "by a memory|though a probe was due",
        wrap(
            "clock.is_within",
            lambda original: (
                lambda seconds, since, now: max(now.wall - since.wall, now.monotonic - since.monotonic) < seconds
            ),
        ),
    ),
    bite(
        "the secret is not read again when it is refused",
        100,
        "not read again",
        put("credentials.CredentialsCache.reread", lambda self, _: self._current),
    ),
    bite(
        "the secret is read for every message",
        25,
        "without need",
        put("credentials.CredentialsCache.get", _always_reads),
    ),
    bite(
        "without Secrets Manager nothing works",
        150,
        "though a secret was at hand",
        wrap("credentials.CredentialsCache._read", _forgets_before_reading),
    ),
    bite(
        "a failed renewal drops a valid token",
        500,
        "though one was at hand|while a good one was held",
        _renewal_must_work,
    ),
    bite(
        "a renewal is tried with every message",
        500,
        "renewed again within 30 s|at once",
        put("tokens.RENEWAL_RETRY_SECONDS", 0.0),
    ),
    # ---- pauses
    bite("a pause is ignored", 200, "into a pause", put("pressure.Throttle.paused_for", lambda *_: 0.0)),
    bite(
        "a pause outlives a step of the clock",
        1000,
        "by a pause that is over|put off by",
        put("pressure.Throttle.paused_for", _by_the_wall_clock_alone),
    ),
    bite(
        "a pause does not end while the environment is frozen",
        300,
        "by a pause that is over|by a memory",
        wrap("pressure.Throttle.throttled", _slots_in_the_future),
    ),
    bite(
        "the 429s of one burst are counted one by one",
        300,
        "before the last pause began",
        wrap("pressure.Throttle.throttled", _one_by_one),
    ),
    bite("messages return before the pause ends", 500, "put off by", _returns_too_soon),
    bite(
        "there is no pace",
        300,
        "of the rate that Thrive accepts|were refused",
        put("pressure.Throttle.take_slot", lambda *_: 0.0),
    ),
    bite("the pace never rises", 600, "of the rate that Thrive accepts", put("pressure.FASTER", 0.0)),
    # ---- outages and probes
    bite("an outage begins with single attempts", 100, "an outage that is none", _fails_at_once),
    bite(
        "an outage begins with one message that fails three times",
        300,
        "an outage that is none",
        wrap("pressure.Outage.failed", _counts_attempts),
    ),
    bite(
        "an outage begins although Thrive answers",
        300,
        "an outage that is none",
        wrap("pressure.Outage.answered", _only_ends_outages),
    ),
    bite("an outage never ends", 100, "an outage that is none", wrap("pressure.Outage.answered", _never_ends)),
    bite(
        "an outage ends without an answer",
        300,
        "of an outage|in an outage",
        wrap("pressure.Outage.probe_failed", _ends_by_itself),
    ),
    bite(
        "an outage holds nothing back",
        100,
        "of an outage|in an outage",
        put("pressure.Pressure._raise_if_out", _holds_nothing_back),
    ),
    bite(
        "a probe is repeated", 100, "in an outage", edit("retry.RetryPolicy.call", assigned("is_last", "attempts == 3"))
    ),
    bite("outages are probed too often", 300, "of an outage|in an outage", put("pressure.LONGEST_PROBE_SECONDS", 0.0)),
    bite("outages are probed too seldom", 100, "though a probe was due", put("pressure.LONGEST_PROBE_SECONDS", 3600.0)),
    bite(
        "a probe is a message that has failed before",
        500,
        "had failed before",
        put("pressure.Outage.has_failed", lambda self, subject: subject not in self._tried),
    ),
    bite(
        "there is no second probe",
        500,
        "a second probe was due",
        wrap("pressure.Outage.is_probe_due", _first_of_each_pair_alone),
    ),
    # ---- people
    bite(
        "another person's id is taken",
        600,
        "what nobody sent|somebody-else",
        put("people._user_id", lambda fields, _: fields["id"]),
    ),
    bite(
        "nobody waits for people",
        100,
        "was dead-lettered for unknown_user",
        wrap(
            "sync.CompletionSync.__init__",
            lambda original: lambda self, *given: original(self, *given[:5], 0.0, *given[6:]),
        ),
    ),
    bite(
        "the wait for people follows the receives",
        200,
        "for an unknown person",
        put("retry.Backoff.for_unknown_person", lambda self, age, passed=0.0: self.seconds(1, None, passed)),
    ),
    # ---- configuration
    bite(
        "a code is rejected by an old listing",
        300,
        UNKNOWN,
        wrap(
            "config.Config.content_id",
            lambda original: lambda self, code, began: original(self, code, self._tried or began),
        ),
    ),
    bite(
        "a broken table counts as an empty one",
        300,
        UNKNOWN,
        edit("config.Config._parse", in_except("if file.name == CONTENT_FILE: file.value, file.problem = {}, None")),
    ),
    bite("a vanished table counts as an empty one", 300, UNKNOWN, wrap("config.Config._compare", _vanished_is_empty)),
    bite(
        "a broken table drops the good one",
        300,
        "though a good copy was at hand",
        edit("config.Config._parse", in_except("file.value = None")),
    ),
    bite(
        "a changed table is not read again",
        300,
        "though a newer one was listed",
        put("config._File.is_new", property(lambda self: self.listed is not None and self.good is None)),
    ),
    bite(
        "a broken table defers every message",
        300,
        "which has no code",
        wrap("config.Config.mapping", lambda original: lambda *given: (original(*given), given[0]._table(given[1]))[0]),
    ),
    # ---- what anybody may read
    bite("the log holds bodies", 25, "an output holds", wrap("observability.Telemetry.message", _logs_bodies)),
    bite("the log holds a library's words", 100, "an output holds", put("transport._describe", str)),
    bite(
        "dead letters hold whatever Thrive says",
        50,
        "an output holds",
        put("redaction.Redactor.one_line", lambda self, value, *_: str(value)),
    ),
    bite(
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
