"""The watch: sees all that happens, and says what must not.

What holds in every run, and is checked at the moment it could break:

- acknowledged only after an answer of Thrive's for that completion has reached the function, or after the message
  stands in the dead-letter queue; a direct event also when it stands in the retry queue;
- dead-lettered by the function only with a reason that is true, the body unchanged, and the status that Thrive gave;
- sent to Thrive only what was sent to us, byte for byte; in FIFO order by group, none before what is ahead is decided;
- in one invocation and for one completion at most 3 calls that are not answered with 401, and 9 in all; at most
  MAX_CONCURRENCY calls of one environment at once; none from a pool that was idle for more than a minute;
- a token is asked for by one thread at a time, while no good one is held; never 4 times within a second by one secret;
  a refused secret not again for 60 s; no token is sent after its end;
- secret reads: the first; each after max-age, or 1 s after one that failed; one on each refusal that arrives, and while
  one is remembered at most one per thread and invocation; a refused secret is read again in the same invocation;
- every deferred message is put off, by half to all of its backoff, longer only by Retry-After, never beyond 12 h;
- no message is deferred without a call for a trouble that is its neighbour's alone, nor for Secrets Manager's while a
  secret is at hand, nor for a trouble that was remembered for more than a minute;
- the answer is well formed, names each failed message once and none that was recorded; nothing is raised for SQS; no
  invocation runs into the hard stop;
- one log line per message, which says what became of it; no marker in any output (logs, answers, errors, attributes).

And at the end: each message is recorded once, or stands in the dead-letter queue for a reason that is true; none was
moved there by SQS for an outage; and it all came to an end in time.
"""

from __future__ import annotations

import json
import re
from collections import Counter, defaultdict
from typing import TYPE_CHECKING, Any

from .scenario import (
    BACKOFF_BASE,
    BACKOFF_CAP,
    FUNCTION_TIMEOUT,
    HOUR,
    MARKER,
    SECRET_MAX_AGE,
    VISIBILITY,
    Sent,
)
from .thrive import COMPLETIONS, Answer, secret_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from .lambdas import Environment, Invocation
    from .queues import Stored
    from .world import World

# What keeps messages from being sent at all, in the words of the log.
_SHARED = re.compile("no token|token endpoint|[Ss]ecret|credentials|base URL|no time|behind a deferred")
_NOT_A_REFUSAL = frozenset({401, 403, 408, 409, 425, 429})
_ATTEMPTS, _CALLS = 3, 9
_REFUSAL_SECONDS = 60.0
_SLACK = 0.05
# From the look at the clock to the arrival at the server: a connection is opened, a request travels.
_ON_THE_WAY_SECONDS = 8.0
# Longer than these, and the function's own deadline may have come first.
_WORK_SECONDS = FUNCTION_TIMEOUT * 0.8 - 1.0


class Watch:
    """What is known, and what of it is wrong."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._by_key: defaultdict[str, list[Sent]] = defaultdict(list)
        self._groups: defaultdict[str, list[Sent]] = defaultdict(list)
        for sent in world.scenario.sent:
            if sent.key is not None:
                self._by_key[sent.key].append(sent)
            if sent.group is not None:
                self._groups[sent.group].append(sent)
        self.sent_of: dict[str, Sent] = {}
        self.answers: set[str] = set()
        self._arrived: set[str] = set()
        self._refusals: defaultdict[str, set[int]] = defaultdict(set)
        self._dead: defaultdict[int, list[Mapping[str, str]]] = defaultdict(list)
        self._requeued: set[int] = set()
        self._settled_at: dict[int, float] = {}
        self._commits: Counter[str] = Counter()
        self.calls = Counter[str]()
        self.outcomes = Counter[str]()

    # ---- Thrive

    def record_request(self, environment: Environment, body: bytes, headers: Mapping[str, str]) -> None:
        """See a completion arrive."""
        key = body.decode()
        self.calls["records"] += 1
        self._begin_call(environment, "records", self._world.scenario.in_flight)
        if key not in self._by_key:
            self._bad(f"Thrive got what nobody sent: {key}")
            return
        if headers.get("Content-Type") != "application/json":
            self._bad("a completion without Content-Type: application/json")
        if key not in self._arrived:
            self._arrived.add(key)
            self._check_order(self._by_key[key][0])
        self._check_token(environment, headers.get("Authorization", ""))
        invocation = environment.invocation
        if invocation is not None:
            invocation.calls[key] += 1
            invocation.retry_after.pop(key, None)
            calls = invocation.calls[key]
            # A thread that was left behind finishes, in a later invocation, the one call that it was about to make.
            late = 1 if environment.odd_times else 0
            if calls - invocation.unauthorized[key] > _ATTEMPTS + late or calls > _CALLS + late:
                self._bad(f"{calls} calls for one completion in one invocation")

    def _check_token(self, environment: Environment, header: str) -> None:
        token = environment.memory.token
        if token is not None and header == f"Bearer {token[0]}" and not environment.odd_times:
            age = self._world.kernel.now - token[1]
            if age > token[2] + _ON_THE_WAY_SECONDS:
                self._bad(f"a token of {token[2]:.0f} s was sent after {age:.0f} s")

    def _check_order(self, sent: Sent) -> None:
        if sent.group is None:
            return
        for earlier in self._groups[sent.group]:
            if earlier.number >= sent.number:
                return
            if not self._is_decided(earlier):
                self._bad(f"{sent.name} was sent before {earlier.name} of its group was decided")

    def _is_decided(self, sent: Sent) -> bool:
        if sent.key is None or sent.key in self._world.thrive.ledger or self._refusals[sent.key]:
            return True
        return any(self.sent_of[message.id] is sent for message in self._world.source.redriven)

    def token_request(self, environment: Environment, body: bytes, headers: Mapping[str, str]) -> None:
        """See a token request arrive."""
        self.calls["tokens"] += 1
        now, memory = self._world.kernel.now, environment.memory
        secret = secret_of(body, headers)
        self._begin_call(environment, "tokens", 1)
        # With a clock that jumps, a token may look old, and a minute short.
        odd = environment.odd_times
        if odd:
            pass
        elif memory.token is not None and self._is_good(memory.token, memory.refused_tokens, secret):
            self._bad("a token was asked for while a good one was held")
        elif now - memory.token_refused.get(secret, float("-inf")) < _REFUSAL_SECONDS - _SLACK:
            self._bad("a refused secret was tried again within a minute")
        times = memory.token_times = [(one, at) for one, at in memory.token_times if one == secret]
        if len(times) >= _ATTEMPTS and now - times[-_ATTEMPTS][1] < 1.0 - _SLACK and not odd:
            self._bad("four token requests within a second, for one secret")
        times.append((secret, now))

    def _is_good(self, token: tuple[str, float, float, str], refused: set[str], secret: str) -> bool:
        value, asked_at, lifetime, of_secret = token
        age = self._world.kernel.now - asked_at
        return value not in refused and of_secret == secret and age < lifetime - min(300.0, lifetime / 12) - 2.0

    def _begin_call(self, environment: Environment, kind: str, most: int) -> None:
        environment.in_flight[kind] += 1
        if environment.in_flight[kind] > most:
            self._bad(f"{environment.in_flight[kind]} requests ({kind}) of one environment at once")

    def call_ended(self, environment: Environment, path: str) -> None:
        """See a caller stop waiting, with or without an answer."""
        environment.in_flight["records" if path == COMPLETIONS else "tokens"] -= 1

    def committed(self, key: str) -> None:
        """See a record made."""
        self._commits[key] += 1

    def answered(
        self, environment: Environment, path: str, body: bytes, headers: Mapping[str, str], answer: Answer
    ) -> None:
        """See an answer reach the function."""
        memory, status = environment.memory, answer.status
        if answer.retry_after is not None:
            numeric = answer.retry_after.replace(".", "").isdigit()
            # A date is read by a wall clock that may be wrong.
            seconds = float(answer.retry_after) if numeric else 5000.0 if not environment.odd_times else 12 * HOUR
            memory.longest_retry_after = max(memory.longest_retry_after, seconds)
        if path != COMPLETIONS:
            self._token_answered(environment, body, headers, answer)
            return
        key, invocation = body.decode(), environment.invocation
        if 200 <= status < 300 or status == 409:
            self.answers.add(key)
            if invocation is not None:
                invocation.successes.setdefault(key, self._world.kernel.now)
        elif status == 401:
            value = headers["Authorization"].partition(" ")[2]
            memory.refused_tokens.add(value)
            memory.refusals += self._world.thrive.secret_behind(value) == memory.secret
            if invocation is not None:
                invocation.unauthorized[key] += 1
        elif 400 <= status < 500 and status not in _NOT_A_REFUSAL:
            self._refusals[key].add(status)
        elif invocation is not None and answer.retry_after is not None and answer.retry_after.isdigit():
            invocation.retry_after[key] = float(answer.retry_after)

    def _token_answered(
        self, environment: Environment, body: bytes, headers: Mapping[str, str], answer: Answer
    ) -> None:
        memory, now, secret = environment.memory, self._world.kernel.now, secret_of(body, headers)
        try:
            fields = json.loads(answer.body or b"")
        except ValueError:
            return
        if answer.status in {400, 401}:
            memory.token_refused[secret] = now
            memory.refusals += secret == memory.secret
            memory.unread_refusal = secret == memory.secret
        elif answer.status == 200:
            lifetime = fields.get("expires_in")
            usable = isinstance(lifetime, (int, float)) and not isinstance(lifetime, bool) and lifetime > 0
            lifetime = min(float(lifetime), 86_400.0) if usable else 300.0
            memory.token = (fields["access_token"], memory.token_asked_at, lifetime, secret)
            memory.token_times.clear()
            memory.token_refused.pop(secret, None)

    def stale_connection(self, environment: Environment) -> None:
        """See a request on a connection that the server has closed long ago, as nothing was sent for a minute."""
        if not environment.odd_times:
            self._bad("a request on a connection of a pool that was idle for more than a minute")

    def secret_read(self, environment: Environment) -> None:
        """See a secret asked for."""
        self.calls["secrets"] += 1
        memory, now = environment.memory, self._world.kernel.now
        memory.asked_at = now
        memory.reads_in_invocation += 1
        since = now - memory.secret_asked_at
        refused = any(now - at < _REFUSAL_SECONDS + _SLACK for at in memory.token_refused.values())
        is_due = since > SECRET_MAX_AGE - _SLACK or (not memory.secret_was_given and since > 1.0 - _SLACK)
        is_allowed = memory.refusals > memory.refusals_at_read or (
            refused and memory.reads_in_invocation <= self._world.scenario.in_flight + 1
        )
        if not is_due and not is_allowed and not environment.odd_times:
            self._bad(f"the secret was read {since:.3f} s after the last time without need")
        memory.secret_asked_at, memory.secret_was_given, memory.unread_refusal = now, False, False

    def secret_given(self, environment: Environment) -> None:
        """See a secret given."""
        environment.memory.secret_was_given = True
        environment.memory.secret = self._world.current_secret
        environment.memory.refusals_at_read = environment.memory.refusals

    # ---- SQS

    def received(self, message: Stored) -> None:
        """See a message received."""

    def postpone_attempted(self, environment: Environment, receipts: list[str]) -> None:
        """See an attempt to put messages off, whatever comes of it."""
        if environment.invocation is not None:
            environment.invocation.postponed.update(receipts)

    def postponed(self, message: Stored, seconds: int) -> None:
        """See a message put off."""
        environment = self._world.fleet.environment()
        whole = min(BACKOFF_CAP, BACKOFF_BASE * 2 ** min(message.receives - 1, 30))
        longest = max(whole, environment.memory.longest_retry_after) + 1
        sent, invocation = self.sent_of[message.id], environment.invocation
        due = invocation.retry_after.get(sent.key, 0.0) if invocation is not None and sent.key is not None else 0.0
        shortest = min(max(whole // 2, due), 12 * HOUR - 300 - FUNCTION_TIMEOUT)
        if not shortest <= seconds <= longest:
            self._bad(f"put off by {seconds} s, receive {message.receives}: not from {shortest} to {longest}")

    def dead_lettered(self, body: str, attributes: Mapping[str, str]) -> None:
        """See the function send a message to the dead-letter queue."""
        self.output(json.dumps(dict(attributes)))
        source = attributes.get("sourceMessageId", "")
        sent = self.sent_of.get(source) or next(
            (one for one in self._world.scenario.sent if one.direct and source == f"event-{one.number}"), None
        )
        if sent is None:
            self._bad(f"a dead letter of an unknown message {source!r}")
            return
        self._dead[sent.number].append(attributes)
        self._settled_at.setdefault(sent.number, self._world.kernel.now)
        if body != sent.body:
            self._bad(f"the dead letter of {sent.name} has another body")
        reason, status = attributes.get("reason"), attributes.get("status")
        if reason == "invalid_message":
            is_true = sent.fate == "invalid" and status is None
        else:
            refusals = self._refusals[sent.key or ""]
            is_true = reason == "refused" and status in {str(one) for one in refusals}
        if not is_true:
            self._bad(f"{sent.name} ({sent.fate}) was dead-lettered for {reason} {status}")

    def requeued(self, body: str) -> Sent:
        """See a direct event sent to the retry queue."""
        sent = next(one for one in self._world.scenario.sent if one.direct and one.body == body)
        self._requeued.add(sent.number)
        return sent

    def acknowledged(self, message: Stored) -> None:
        """See the mapping about to delete a message."""
        sent = self.sent_of[message.id]
        self._check_settled(sent)
        self._settled_at.setdefault(sent.number, self._world.kernel.now)

    def _check_settled(self, sent: Sent) -> None:
        if not self._dead[sent.number] and (sent.key is None or sent.key not in self.answers):
            self._bad(f"{sent.name} ({sent.fate}) was acknowledged without an answer or a dead letter")

    def expired(self, message: Stored) -> None:
        """See a message expire."""
        self._bad(f"{message.id} expired")

    # ---- Lambda

    def stopped_hard(self, environment: Environment, invocation: Invocation) -> None:
        """See an invocation reach its timeout."""
        self._world.trace("stopped hard", environment.name)
        if not environment.process.stalled:
            self._bad(f"invocation {invocation.number} ran into the hard stop")

    def returned(self, environment: Environment, invocation: Invocation, outcome: Any) -> None:
        """See an invocation end by itself."""
        text = "".join(invocation.output)
        if isinstance(outcome, Exception):
            self._world.trace("raised", type(outcome).__name__)
            self.output(f"{outcome} {outcome!r}")
        else:
            self._world.trace("answered", json.dumps(outcome))
            self.output(json.dumps(outcome))
        self.output(text)
        if invocation.direct is not None:
            self._direct_returned(invocation.direct, outcome)
        else:
            self._batch_returned(environment, invocation, outcome, _lines(text))

    def _direct_returned(self, sent: Sent, outcome: Any) -> None:
        if isinstance(outcome, Exception):
            if not isinstance(outcome, self._world.package.errors.EventNotRecordedError):
                self._bad(f"a direct event raised {outcome!r}")
        elif sent.number not in self._requeued:
            self._check_settled(sent)
            self._settled_at.setdefault(sent.number, self._world.kernel.now)

    def _batch_returned(
        self, environment: Environment, invocation: Invocation, outcome: Any, lines: list[dict[str, Any]]
    ) -> None:
        ids = {message.id for message, _ in invocation.messages}
        try:
            named = [item["itemIdentifier"] for item in outcome["batchItemFailures"]]
        except (TypeError, KeyError):
            self._bad(f"not a partial batch response: {outcome!r}")
            return
        if len(named) != len(set(named)) or not set(named) <= ids:
            self._bad("the answer names a message twice, or one that was not in the batch")
        if invocation.without_thread:  # a defect of the machine: all that holds then is that nothing is lost
            return
        memory = environment.memory
        if memory.unread_refusal and memory.reads_in_invocation == 0 and self._in_time(environment, invocation):
            self._bad("a secret was refused, and not read again")
        told = defaultdict(list)
        for line in lines:
            if "message_id" in line:
                told[line["message_id"]].append(line["outcome"])
                self.outcomes[line["outcome"]] += 1
                self._check_attempted(environment, line)
            elif str(line.get("message", "")).startswith("unexpected"):
                self._bad(f"a defect: {line['message']}")
        for message, receipt in invocation.messages:
            self._check_told(message, told[message.id], reported=message.id in named)
            if message.id in named:
                self._check_reported(environment, invocation, message, receipt, told[message.id])

    def _in_time(self, environment: Environment, invocation: Invocation) -> bool:
        in_time = self._world.kernel.now - invocation.started < _WORK_SECONDS
        return in_time and not environment.process.stalled

    def _check_attempted(self, environment: Environment, line: dict[str, Any]) -> None:
        if line["outcome"] != "deferred":
            return
        memory = environment.memory
        if line["attempts"] == 0 and not _SHARED.search(line["message"]):
            self._bad(f"{line['message_id']} was deferred without a call, though nothing stood in its own way")
        if line["reason"] == "unavailable" and "Secrets Manager" in line["message"] and memory.secret is not None:
            self._bad(f"{line['message_id']} was deferred for Secrets Manager, though a secret was at hand")
        since = 0.0 if environment.left_threads else self._world.kernel.now - memory.asked_at
        if line["reason"] != "out_of_time" and since > FUNCTION_TIMEOUT + 1.0:
            self._bad(f"{line['message_id']} was deferred by a memory of more than a minute")

    def _check_told(self, message: Stored, outcomes: list[str], *, reported: bool) -> None:
        allowed = {"deferred", "rejected"} if reported else {"created", "exists", "rejected"}
        if len(outcomes) != 1 or not set(outcomes) <= allowed:
            self._bad(f"{message.id}: {'reported' if reported else 'acknowledged'}, but the log says {outcomes}")

    def _check_reported(
        self, environment: Environment, invocation: Invocation, message: Stored, receipt: str, outcomes: list[str]
    ) -> None:
        sent, now = self.sent_of[message.id], self._world.kernel.now
        recorded_at = invocation.successes.get(sent.key or "")
        in_time = recorded_at is not None and recorded_at - invocation.started < _WORK_SECONDS
        if environment.odd_times:  # it may have been recorded by a thread that an earlier invocation left behind
            return
        if in_time:
            self._bad(f"{sent.name} was recorded, and is to come again")
        is_hurried = now - invocation.started > FUNCTION_TIMEOUT - 2.0
        if outcomes == ["deferred"] and receipt not in invocation.postponed and not is_hurried:
            self._bad(f"{sent.name} was deferred without being put off")

    def output(self, text: str) -> None:
        """See what anybody may read."""
        if MARKER in text or any(form in text for form in self._world.secret_forms):
            at = text.find(MARKER)
            self._bad(f"in an output stands what must not: …{text[max(0, at - 200) : at + 100]}…")

    # ---- the end

    def last_settled(self) -> float:
        """Give when the last message was settled."""
        return max(self._settled_at.values())

    def end(self) -> None:
        """Judge the run as a whole."""
        world = self._world
        redriven = {self.sent_of[message.id].number for message in world.source.redriven}
        undelivered = {sent.number for sent in world.fleet.undelivered}
        for sent in world.scenario.sent:
            self._judge(sent, by_sqs=sent.number in redriven, undelivered=sent.number in undelivered)
        for message in world.source.redriven:
            if message.receives < world.scenario.max_receive_count:
                self._bad(f"{message.id} was redriven after {message.receives} receives")
        if world.source.stored:
            self._bad(f"{len(world.source.stored)} messages are still in the queue")
        if any(times > 1 for times in self._commits.values()):
            self._bad("a completion was recorded twice")

    def _judge(self, sent: Sent, *, by_sqs: bool, undelivered: bool) -> None:
        recorded = sent.key is not None and sent.key in self._world.thrive.ledger
        if sent.fate != "good":
            if recorded:
                self._bad(f"{sent.name} ({sent.fate}) was recorded")
            if not (self._dead[sent.number] or by_sqs or undelivered):
                self._bad(f"{sent.name} ({sent.fate}) is lost")
            return
        if not (recorded or by_sqs or undelivered):
            self._bad(f"{sent.name} is lost")
        if by_sqs and not self._world.scenario.tight:
            self._bad(f"{sent.name} was dead-lettered by SQS although every outage has ended")
        if not by_sqs and not undelivered:
            self._check_in_time(sent)

    def _check_in_time(self, sent: Sent) -> None:
        world = self._world
        if not world.scenario.has_dead_letter_queue:  # what is rejected holds its group until SQS has redriven it
            return
        environments = world.fleet.environments
        longest = max([BACKOFF_CAP, *(one.memory.longest_retry_after for one in environments)])
        late = self._settled_at.get(sent.number, float("inf")) - world.scenario.healed
        if late > longest + 3 * VISIBILITY:
            self._bad(f"{sent.name} was settled {late:.0f} s after the last trouble")

    def _bad(self, what: str) -> None:
        self._world.violate(what)


def _lines(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines() if line]
