"""The watch: sees everything that happens, and reports what must not.

What must hold in every run, checked at the moment when it could be violated:

- A message is acknowledged only after the function has received an answer of Thrive's for its completion, or once the
  message is in the dead-letter queue. A direct event may also be in the retry queue.
- A dead letter has an unchanged body and a true reason, with the status that Thrive gave.
- Thrive receives only what was sent to us, byte for byte, and the messages of a FIFO group in their order.
- One invocation makes at most 3 calls for a completion that are not answered with 401, and 9 in all. An environment
  has at most MAX_CONCURRENCY calls in flight, and uses no connection that was idle for more than a minute.
- A token is requested only if there is no good one or it is about to expire, and not for 60 s with a secret that was
  refused. No token is sent after its end.
- The secret is read only when it is due or was refused; a refused one is read again in the same invocation.
- Pauses, outages and probes follow the rules in :mod:`tests.simulation.calls`.
- The backoff of a deferred message is between half and the whole of what its receives give, longer only because of
  Retry-After.
- A content id comes from the newest valid table that the environment could read. A code is unknown only by a table that
  was there and valid within the same invocation. Broken files and S3's trouble defer no message for which a good copy
  is at hand, and a broken table none without a code.
- A message is deferred without a call only for a trouble that it shares: not for its neighbour's, not for an outage or
  a pause that is over, not because Secrets Manager fails while a secret is at hand, and not because of anything that
  happened more than a minute ago.
- The answer is well formed, and names each failed message once and none that was recorded. Nothing is raised for SQS,
  and no invocation reaches its timeout.
- Each message has one log line with its outcome. No marker is in any output: logs, answers, errors, attributes.

At the end each message is recorded once, or is in the dead-letter queue for a true reason, none because SQS gave it up
during an outage; and all of them were settled in time.
"""

from __future__ import annotations

import json
import re
from collections import Counter, defaultdict
from typing import TYPE_CHECKING, Any

from .calls import SLACK
from .lambdas import HeldToken
from .scenario import (
    BACKOFF_BASE,
    BACKOFF_CAP,
    FUNCTION_TIMEOUT,
    HOUR,
    MARKER,
    REQUEST_TIMEOUT,
    SECRET_MAX_AGE,
    VISIBILITY,
    Sent,
)

if TYPE_CHECKING:
    from collections.abc import Hashable, Mapping

    from .lambdas import Environment, Invocation
    from .queues import Stored
    from .scenario import Upload
    from .thrive import Answer, Call
    from .world import World

# How long a message waits for an unknown person, and at most until it asks again.
USER_WAIT, LONGEST_WAIT = 72 * HOUR, 6 * HOUR
# The log's words for what keeps all messages from being sent.
_SHARED = re.compile("no token|token endpoint|[Ss]ecret|credentials|base URL|no time|behind a deferred|held back")
# The outcomes of messages by whether the answer names them.
_LOGGED_AS = {True: {"deferred", "rejected"}, False: {"created", "exists", "rejected"}}
_ATTEMPTS, _CALLS = 3, 9
_REFUSAL_SECONDS = 60.0
# The log's words for trouble with the configuration in S3.
_CONFIG = re.compile(r"S3|content\.csv|mapping\.json")
# The longest time from the look at the clock to the arrival at Thrive: a renewal of the token, connecting, sending.
_ON_THE_WAY_SECONDS = REQUEST_TIMEOUT + 8.0
# An invocation that lasted longer may have met the function's own deadline.
_WORK_SECONDS = FUNCTION_TIMEOUT * 0.8 - 1.0
# Environments are at full speed this long after an outage; one that is waiting for a probe must first give it up.
_RECOVERY_SECONDS = 10.0
_USED_RATE = 0.85


class Watch:
    """Collects what happens and reports violations."""

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
        self._commits: list[float] = []
        self.calls = Counter[str]()

    # ---- Thrive

    def called(self, call: Call) -> None:
        memory = call.environment.memory
        memory.asked_at = self._world.kernel.now
        if call.kind != "tokens":
            # A token that is still valid is used to its end, whatever becomes of its renewal.
            memory.unread_refusal = False
        if call.invocation is not None and call.kind == "tokens":
            call.invocation.waited_for_access = True
        call.subject = self._subject_of(self._by_key[call.about][0]) if call.about in self._by_key else call.about
        self._calls_of(call).began(call)

    def _subject_of(self, sent: Sent) -> Hashable:
        return sent.group if self._world.source.fifo else sent.key

    def arrived(self, call: Call) -> None:
        if call.kind == "tokens":
            self._token_request(call)
            return
        if call.kind == "lookups":
            self.calls["lookups"] += 1
            self._check_token(call.environment, call.headers.get("Authorization", ""))
            return
        key, environment, invocation = call.about, call.environment, call.invocation
        self.calls["records"] += 1
        if key not in self._by_key:
            self._bad(f"Thrive got what nobody sent: {key}")
            return
        if key not in self._arrived:
            self._arrived.add(key)
            self._check_order(self._by_key[key][0])
        self._check_token(environment, call.headers.get("Authorization", ""))
        if invocation is not None:
            invocation.calls[key] += 1
            invocation.retry_after.pop(key, None)
            calls = invocation.calls[key]
            # A thread that was left behind finishes, in a later invocation, the one call that it was about to make.
            late = 1 if environment.odd_times else 0
            # The same completion with a reference and with a user id is not known to be the same.
            kinds = len({sent.ref for sent in self._by_key[key]})
            if calls - invocation.unauthorized[key] > _ATTEMPTS * kinds + late or calls > _CALLS * kinds + late:
                self._bad(f"{calls} calls for one completion in one invocation")

    def _check_token(self, environment: Environment, header: str) -> None:
        token = environment.memory.token
        if token is not None and header == f"Bearer {token.value}" and not environment.odd_times:
            age = self._world.kernel.now - token.requested_at
            if age > token.lifetime + _ON_THE_WAY_SECONDS:
                self._bad(f"a token of {token.lifetime:.0f} s was sent after {age:.0f} s")

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
        if sent.code is not None and (self._dead[sent.number] or self._lacks(sent.code, sent.at)):
            return True
        return any(self.sent_of[message.id] is sent for message in self._world.source.redriven)

    def _token_request(self, call: Call) -> None:
        self.calls["tokens"] += 1
        memory, secret = call.environment.memory, call.about
        if call.environment.odd_times:  # a token may look old, and a minute short
            return
        token, now = memory.token, self._world.kernel.now
        is_good = token is not None and token.secret == secret and token.value not in memory.refused_tokens
        if token is not None and is_good and now - token.requested_at < token.lifetime:
            is_early = now - token.requested_at < token.lifetime - min(300.0, token.lifetime / 12) - 2.0
            if is_early and token.received_at < call.began:  # else another thread was faster
                self._bad("a token was requested while a good one was held")
        elif SLACK < call.began - memory.token_refused.get(secret, float("-inf")) < _REFUSAL_SECONDS - SLACK:
            self._bad("a refused secret was tried again within a minute")

    def ended(self, call: Call, answer: Answer | None) -> None:
        """Note a caller that stops waiting, with or without an answer."""
        what = self._calls_of(call).ended(call, answer)
        if answer is None:
            return
        memory = call.environment.memory
        memory.longest_retry_after = max(memory.longest_retry_after, answer.longest_wait)
        if call.kind == "tokens":
            self._token_answered(call, answer)
        else:
            self._authorized_call_answered(call, answer, what)

    def _authorized_call_answered(self, call: Call, answer: Answer, what: str) -> None:
        key, invocation, status, memory = call.about, call.invocation, answer.status, call.environment.memory
        if status == 401:
            value = call.headers["Authorization"].partition(" ")[2]
            memory.refused_tokens.add(value)
            memory.refusals += self._world.thrive.secret_behind(value) == memory.secret
            if invocation is not None:
                invocation.unauthorized[key] += 1
        elif not call.is_record:
            return
        elif what == "answer" and status != 403:
            if status < 300 or status == 409:
                self.answers.add(key)
                if invocation is not None:
                    invocation.successes.setdefault(key, self._world.kernel.now)
            else:
                self._refusals[key].add(status)
        elif invocation is not None and answer.retry_after is not None and answer.retry_after.isdigit():
            invocation.retry_after[key] = min(float(answer.retry_after), HOUR)

    def _token_answered(self, call: Call, answer: Answer) -> None:
        memory, now, secret, fields = call.environment.memory, self._world.kernel.now, call.about, answer.fields()
        if fields is None:
            return
        if answer.status in {400, 401}:
            memory.token_refused[secret] = now
            memory.refusals += secret == memory.secret
            memory.unread_refusal = secret == memory.secret
        elif answer.status == 200:
            lifetime = fields.get("expires_in")
            usable = isinstance(lifetime, (int, float)) and not isinstance(lifetime, bool) and lifetime > 0
            lifetime = min(float(lifetime), 86_400.0) if usable else 300.0
            memory.token = HeldToken(fields["access_token"], secret, lifetime, call.began, now)
            memory.token_refused.pop(secret, None)

    def _calls_of(self, call: Call) -> Any:
        name = "completions" if call.is_record else call.kind
        return getattr(call.environment, name)

    def committed(self, key: str) -> None:
        self._commits.append(self._world.kernel.now)

    def stale_connection(self, environment: Environment) -> None:
        """Note a request on a connection that the server has closed, as it was idle for a minute."""
        if not environment.odd_times:
            self._bad("a request on a connection that was idle for more than a minute")

    def secret_read(self, environment: Environment) -> None:
        self.calls["secrets"] += 1
        memory, now = environment.memory, self._world.kernel.now
        memory.asked_at = now
        memory.reads_in_invocation += 1
        if environment.invocation is not None:
            environment.invocation.waited_for_access = True
        since = now - memory.secret_asked_at
        refused = any(now - at < _REFUSAL_SECONDS + SLACK for at in memory.token_refused.values())
        is_due = since > SECRET_MAX_AGE - SLACK or (not memory.secret_was_given and since > 1.0 - SLACK)
        is_allowed = memory.refusals > memory.refusals_at_read or (
            refused and memory.reads_in_invocation <= self._world.scenario.in_flight + 1
        )
        if not is_due and not is_allowed and not environment.odd_times:
            self._bad(f"the secret was read {since:.3f} s after the last time without need")
        memory.secret_asked_at, memory.secret_was_given, memory.unread_refusal = now, False, False

    def secret_given(self, environment: Environment) -> None:
        environment.memory.secret_was_given = True
        environment.memory.secret = self._world.current_secret
        environment.memory.refusals_at_read = environment.memory.refusals

    # ---- S3

    def config_read(self, environment: Environment, data: bytes) -> None:
        """Note a file that was read to its end."""
        upload = next(one for one in self._world.scenario.uploads if one.data == data)
        if upload.is_valid:
            environment.memory.configs.append((self._world.kernel.now, upload))

    def _tables(self, since: float) -> list[Upload]:
        """Return the versions of the content table from a moment until now."""
        now, uploads = self._world.kernel.now, self._world.scenario.uploads
        tables = [one for one in uploads if one.name == "content.csv" and one.at <= now]
        return [one for one, after in zip(tables, [*tables[1:], None], strict=True) if not after or after.at >= since]

    def _lacks(self, code: str, since: float) -> bool:
        return any(table.is_valid and code not in table.table for table in self._tables(since))

    def _held(self, environment: Environment, name: str) -> tuple[list[Upload], list[Upload]]:
        """Return the versions of a file that were read before this invocation, and in it."""
        started = environment.invocation.started if environment.invocation else float("inf")
        read = [(at, one) for at, one in environment.memory.configs if one.name == name]
        return [one for at, one in read if at < started], [one for at, one in read if at >= started]

    def content_arrived(self, call: Call, content_id: str) -> None:
        """Check the content id of a completion that has arrived."""
        environment, sent = call.environment, self._by_key[call.about][0]
        if sent.code is None or environment.odd_times or call.invocation is None:
            return
        before, since = self._held(environment, "content.csv")
        if content_id not in [one.table.get(sent.code) for one in [*before[-1:], *since]]:
            self._bad(f"{sent.name} was sent with the content id of an old table")

    def _check_config(self, environment: Environment, sent: Sent, text: str) -> None:
        if environment.odd_times or environment.left_threads or "behind a deferred" in text:
            return
        if sent.code is None and "content.csv" in text:
            self._bad(f"{sent.name}, which has no code, was deferred for the content table")
        (mappings, _), (tables, _) = (self._held(environment, name) for name in ("mapping.json", "content.csv"))
        if mappings and (sent.code is None or (tables and sent.code in tables[-1].table)):
            self._bad(f"{sent.name} was deferred for the configuration, though a good copy was at hand")

    # ---- SQS

    def postpone_attempted(self, environment: Environment, receipts: list[str]) -> None:
        """Note an attempt to postpone messages, successful or not."""
        if environment.invocation is not None:
            environment.invocation.postponed.update(receipts)

    def postponed(self, message: Stored, seconds: int) -> None:
        environment = self._world.fleet.environment()
        whole = min(BACKOFF_CAP, BACKOFF_BASE * 2 ** min(message.receives - 1, 30))
        longest = max(whole, environment.memory.longest_retry_after, 60.0) + 1
        sent, invocation = self.sent_of[message.id], environment.invocation
        if invocation is not None and any(
            line.get("reason") == "unknown_user" for line in invocation.lines[message.id]
        ):
            return
        due = 0.0
        # A thread that an earlier invocation left behind puts off by what it knew then.
        if invocation is not None and sent.key is not None and not environment.left_threads:
            due = invocation.retry_after.get(sent.key, 0.0)
        shortest = max(whole // 2, due)
        if environment.left_threads and sent.ref is not None:
            shortest, longest = min(shortest, 150), max(longest, LONGEST_WAIT + 1)
        if not shortest <= seconds <= longest:
            self._bad(f"put off by {seconds} s, receive {message.receives}: not from {shortest} to {longest}")

    def dead_lettered(self, body: str, attributes: Mapping[str, str]) -> None:
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
        elif reason == "unknown_user":
            is_odd = self._world.fleet.environment().odd_times
            is_old = is_odd or self._world.source.fifo or self._world.kernel.now - sent.at > USER_WAIT - 2 * HOUR
            is_true = sent.fate == "unknown" and status == "404" and is_old
        elif reason == "unknown_content":
            environment = self._world.fleet.environment()
            is_late = environment.left_threads or environment.invocation is None
            since = sent.at if is_late or environment.invocation is None else environment.invocation.started
            is_true = sent.code is not None and status is None and self._lacks(sent.code, since)
        else:
            refusals = self._refusals[sent.key or ""]
            is_true = reason == "refused" and status in {str(one) for one in refusals}
        if not is_true:
            self._bad(f"{sent.name} ({sent.fate}) was dead-lettered for {reason} {status}")

    def requeued(self, body: str) -> Sent:
        """Note a direct event that is sent to the retry queue."""
        sent = next(one for one in self._world.scenario.sent if one.direct and one.body == body)
        self._requeued.add(sent.number)
        return sent

    def acknowledged(self, message: Stored) -> None:
        """Check a message that the event source is about to delete."""
        sent = self.sent_of[message.id]
        self._check_settled(sent)
        self._settled_at.setdefault(sent.number, self._world.kernel.now)

    def _check_settled(self, sent: Sent) -> None:
        if not self._dead[sent.number] and (sent.key is None or sent.key not in self.answers):
            self._bad(f"{sent.name} ({sent.fate}) was acknowledged without an answer or a dead letter")

    # ---- Lambda

    def stopped_hard(self, environment: Environment, invocation: Invocation) -> None:
        self._world.trace("stopped hard", environment.name)
        if not environment.process.stalled:
            self._bad(f"invocation {invocation.number} ran into the hard stop")

    def logged(self, environment: Environment, text: str) -> None:
        self.output(text)
        invocation, line = environment.invocation, json.loads(text)
        if invocation is None:
            return
        if "message_id" in line:
            invocation.lines[line["message_id"]].append(line)
        elif str(line.get("message", "")).startswith("unexpected"):
            invocation.defects.append(line["message"])

    def returned(self, environment: Environment, invocation: Invocation, outcome: Any) -> None:
        if isinstance(outcome, Exception):
            self._world.trace("raised", type(outcome).__name__)
            self.output(f"{outcome} {outcome!r}")
        else:
            self._world.trace("answered", json.dumps(outcome))
            self.output(json.dumps(outcome))
        if invocation.direct is not None:
            self._direct_returned(invocation.direct, outcome)
        else:
            self._batch_returned(environment, invocation, outcome)

    def _direct_returned(self, sent: Sent, outcome: Any) -> None:
        if isinstance(outcome, Exception):
            if not isinstance(outcome, self._world.package.errors.EventNotRecordedError):
                self._bad(f"a direct event raised {outcome!r}")
        elif sent.number not in self._requeued:
            self._check_settled(sent)
            self._settled_at.setdefault(sent.number, self._world.kernel.now)

    def _batch_returned(self, environment: Environment, invocation: Invocation, outcome: Any) -> None:
        ids = {message.id for message, _ in invocation.messages}
        try:
            named = [item["itemIdentifier"] for item in outcome["batchItemFailures"]]
        except (TypeError, KeyError):
            self._bad(f"not a partial batch response: {outcome!r}")
            return
        if len(named) != len(set(named)) or not set(named) <= ids:
            self._bad("the answer names a message twice, or one that was not in the batch")
        if invocation.without_thread:  # no thread could be started: the only promise left is that nothing is lost
            return
        for defect in invocation.defects:
            self._bad(f"a defect: {defect}")
        memory = environment.memory
        # A read that failed is not repeated within a second.
        is_read = memory.reads_in_invocation > 0 or invocation.started - memory.secret_asked_at < 1.0
        in_time = self._world.kernel.now - invocation.started < _WORK_SECONDS and not environment.process.stalled
        if memory.unread_refusal and not is_read and not environment.odd_times and in_time:
            self._bad("a secret was refused, and not read again")
        for message, receipt in invocation.messages:
            self._check_lines(environment, invocation, message, is_reported=message.id in named)
            if message.id in named:
                self._check_reported(environment, invocation, message, receipt)

    def _check_lines(
        self, environment: Environment, invocation: Invocation, message: Stored, *, is_reported: bool
    ) -> None:
        sent, lines = self.sent_of[message.id], invocation.lines[message.id]
        outcomes = [line["outcome"] for line in lines]
        if len(outcomes) != 1 or outcomes[0] not in _LOGGED_AS[is_reported]:
            said = "reported" if is_reported else "acknowledged"
            self._bad(f"{message.id}: {said}, but the log says {outcomes}")
        for line in lines:
            if line["outcome"] == "deferred":
                self._check_deferred(environment, invocation, sent, line)

    def _check_deferred(
        self, environment: Environment, invocation: Invocation, sent: Sent, line: dict[str, Any]
    ) -> None:
        memory, scenario = environment.memory, self._world.scenario
        text, reason, is_uncalled = line["message"], line["reason"], line["attempts"] == 0
        if scenario.uploads and _CONFIG.search(text):
            self._check_config(environment, sent, text)
            return
        if is_uncalled and not _SHARED.search(text) and sent.ref is None:
            self._bad(f"{sent.name} was deferred without a call, though nothing stood in its own way")
        if reason == "unavailable" and "Secrets Manager" in text and memory.secret is not None:
            self._bad(f"{sent.name} was deferred for Secrets Manager, though a secret was at hand")
        if environment.left_threads:
            return
        is_exempt = reason == "out_of_time" or (reason == "unknown_user" and environment.odd_times)
        if not is_exempt and invocation.started - memory.asked_at > FUNCTION_TIMEOUT + 1.0:
            is_paused = any(calls.may_be_paused() for calls in environment.all_calls)
            if not (reason == "rate_limited" and is_paused):
                self._bad(f"{sent.name} was deferred by a memory of more than a minute")
        if is_uncalled and "no token" not in text:
            self._check_uncalled(environment, invocation, sent, text)

    def _check_uncalled(self, environment: Environment, invocation: Invocation, sent: Sent, text: str) -> None:
        """Check that the outage or pause for which a message was deferred without a call is there."""
        scenario = self._world.scenario
        needs_more = bool(scenario.people or scenario.uploads)
        kinds = (environment.completions, environment.lookups) if needs_more else (environment.completions,)
        if "has not been answering" in text:
            if not any(calls.may_be_out(invocation.started) for calls in kinds):
                self._bad(f"{sent.name} was held back by an outage that is none")
            if not needs_more:  # else a probe may end with the lookup or the table that it needs
                self._check_held(environment, invocation, sent)
        if "limits the rate" in text and not any(calls.may_be_paused() for calls in kinds):
            self._bad(f"{sent.name} was held back by a pause that is over")

    def _check_held(self, environment: Environment, invocation: Invocation, sent: Sent) -> None:
        """Check a message that was held back by an outage of completions."""
        scenario, calls = self._world.scenario, environment.completions
        # Also an attempt that got no token is a probe.
        has_probed = any(line["attempts"] for lines in invocation.lines.values() for line in lines)
        if not has_probed and calls.is_probe_due(invocation.started):
            self._bad(f"{sent.name} was held back, though a probe was due")
        if scenario.kind == "outage" and scenario.spells:
            hanging = 2 * REQUEST_TIMEOUT if scenario.spells[0].kind == "black_hole" else 0.0
            late = invocation.started - scenario.spells[0].end - hanging - _RECOVERY_SECONDS
            if late > SLACK:
                self._bad(f"{sent.name} was held back {late:.1f} s after the environment should have recovered")
        if scenario.kind == "sick" and len(scenario.sick) < 3:
            self._bad(f"{sent.name} was held back, though only {len(scenario.sick)} messages are sick")

    def _check_reported(self, environment: Environment, invocation: Invocation, message: Stored, receipt: str) -> None:
        sent, now = self.sent_of[message.id], self._world.kernel.now
        recorded_at = invocation.successes.get(sent.key or "")
        in_time = recorded_at is not None and recorded_at - invocation.started < _WORK_SECONDS
        # It may have been recorded by a thread that an earlier invocation left behind; or one that names a person by
        # reference is the same completion as one that does not.
        if environment.odd_times or sent.ref is not None:
            return
        if in_time:
            self._bad(f"{sent.name} was recorded, and will be delivered again")
        is_hurried = now - invocation.started > FUNCTION_TIMEOUT - 2.0
        is_deferred = [line["outcome"] for line in invocation.lines[message.id]] == ["deferred"]
        if is_deferred and receipt not in invocation.postponed and not is_hurried:
            self._bad(f"{sent.name} was deferred without being put off")

    def output(self, text: str) -> None:
        """Check a text that anybody may read."""
        if MARKER in text or any(form in text for form in self._world.secret_forms):
            at = text.find(MARKER)
            self._bad(f"an output holds what it must not: …{text[max(0, at - 200) : at + 100]}…")

    # ---- the end

    def last_settled(self) -> float:
        return max(self._settled_at.values())

    def end(self) -> None:
        world = self._world
        redriven = {self.sent_of[message.id].number for message in world.source.redriven}
        undelivered = {sent.number for sent in world.fleet.undelivered}
        for sent in world.scenario.sent:
            self._judge(sent, by_sqs=sent.number in redriven, undelivered=sent.number in undelivered)
        if world.source.stored:
            self._bad(f"{len(world.source.stored)} messages are still in the queue")
        if len(self._commits) > len(world.thrive.ledger):
            self._bad("a completion was recorded twice")
        if world.scenario.rate_limit is not None:
            self._check_rate()

    def _judge(self, sent: Sent, *, by_sqs: bool, undelivered: bool) -> None:
        recorded = sent.key is not None and sent.key in self._world.thrive.ledger
        if sent.fate != "good":
            if recorded:
                self._bad(f"{sent.name} ({sent.fate}) was recorded")
            if not (self._dead[sent.number] or by_sqs or undelivered):
                self._bad(f"{sent.name} ({sent.fate}) is lost")
            return
        is_rejected = sent.code is not None and bool(self._dead[sent.number])
        if not (recorded or by_sqs or undelivered or is_rejected):
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
        waits = [BACKOFF_CAP, *([LONGEST_WAIT] if sent.ref is not None else [])]
        longest = max([*waits, *(one.memory.longest_retry_after for one in environments)])
        late = self._settled_at.get(sent.number, float("inf")) - world.scenario.healed
        if late > longest + 3 * VISIBILITY:
            self._bad(f"{sent.name} was settled {late:.0f} s after the last trouble")

    def _check_rate(self) -> None:
        """Check how much was recorded of what the rate limit allows, until the backlog runs out."""
        limit = self._world.scenario.rate_limit
        assert limit is not None
        count = int(0.8 * len(self._commits))
        seconds = sorted(self._commits)[count - 1]
        used = count / (limit.burst + limit.per_second * seconds)
        if used < _USED_RATE:
            self._bad(f"of the rate that Thrive accepts {used:.0%} was used")

    def _bad(self, what: str) -> None:
        self._world.violate(what)
