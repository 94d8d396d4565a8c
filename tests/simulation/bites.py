"""How the code is broken on purpose: each breakage is a small patch of the source, and the seeds that catch it.

``within`` is the promise that the test holds: of the seeds 0, 1, … that many are enough. ``caught_by`` matches
what the watch then says, so that a breakage is caught for its own reason.
"""

from __future__ import annotations

from dataclasses import dataclass

from .package import Patch


@dataclass(frozen=True)
class Bite:
    """One breakage."""

    name: str
    patches: tuple[Patch, ...]
    within: int
    caught_by: str


def _bite(name: str, within: int, caught_by: str, *patches: tuple[str, str, str]) -> Bite:
    return Bite(name, tuple(Patch(*patch) for patch in patches), within, caught_by)


BITES = (
    # ---- what leaves the queue
    _bite(
        "deferred messages are acknowledged",
        25,
        "acknowledged, but the log says",
        ("handler", "return isinstance(result.outcome, (Created, Existing))", "return True"),
    ),
    _bite(
        "rejected messages are acknowledged without a dead letter",
        100,
        "without an answer or a dead letter",
        ("handler", "return message.id in dead_lettered", "return True"),
    ),
    _bite(
        "a failed call to the dead-letter queue is swallowed",
        150,
        "without an answer or a dead letter",
        (
            "queues",
            'messages were not dead-lettered: {describe(error)}")\n            return set()',
            'messages were not dead-lettered: {describe(error)}")\n            return {item[0].id for item in chunk}',
        ),
    ),
    _bite(
        "failed entries of a batch call are swallowed",
        300,
        "without an answer or a dead letter",
        (
            "queues",
            'sent = {entry["Id"] for entry in answer.get("Successful", [])}',
            "sent = {str(index) for index in range(len(chunk))}",
        ),
    ),
    _bite(
        "nothing is reported where an exception came",
        100,
        "without an answer or a dead letter",
        ("handler", 'unsettled = [record["messageId"] for record in event["Records"]]', "unsettled: list[str] = []"),
    ),
    _bite(
        "an exception is raised to Lambda",
        100,
        "not a partial batch response",
        (
            "handler",
            "application.telemetry.unexpected(error)\n    return {",
            "raise\n    return {",
        ),
    ),
    _bite(
        "the answer names ids that were not received",
        25,
        "the answer names",
        ("handler", '{"itemIdentifier": identifier}', '{"itemIdentifier": identifier + "x"}'),
    ),
    _bite(
        "the answer is null",
        25,
        "not a partial batch response",
        ("handler", 'return {"batchItemFailures": [', '_ = {"batchItemFailures": ['),
    ),
    _bite(
        "the whole batch is reported where one message failed",
        50,
        "reported, but the log says|after the last trouble",
        (
            "handler",
            "unsettled = [message.id for message, result in pairs if not _is_settled(message, result, dead_lettered)]",
            "unsettled = unsettled and [message.id for message, _ in pairs]",
        ),
    ),
    _bite(
        "a direct event is answered though it stands nowhere",
        300,
        "without an answer or a dead letter",
        ("handler", "if not settled:", "if False:"),
    ),
    _bite(
        "a failed call to the retry queue is swallowed",
        300,
        "without an answer or a dead letter",
        (
            "queues",
            'retry queue: {describe(error)}")\n            return False',
            'retry queue: {describe(error)}")\n            return True',
        ),
    ),
    _bite(
        "a batch call has more than ten entries",
        200,
        "with 1[1-9] entries",
        ("queues", "MAX_ENTRIES = 10", "MAX_ENTRIES = 19"),
    ),
    _bite(
        "a dead letter's body is changed",
        25,
        "another body",
        ("queues", '"MessageBody": body,', '"MessageBody": body.strip() + " ",'),
    ),
    # ---- what Thrive's answers mean
    _bite(
        "5xx counts as created",
        50,
        "without an answer or a dead letter|of its group was decided",
        ("thrive", "if status == 201:", "if status == 201 or status >= 500:"),
    ),
    _bite(
        "a lost connection counts as created",
        50,
        "without an answer or a dead letter|of its group was decided",
        (
            "transport",
            'raise TemporaryError("unavailable", _describe(error)) from None',
            "return Response(201, None)",
        ),
    ),
    _bite(
        "3xx counts as recorded",
        300,
        "without an answer or a dead letter|of its group was decided",
        ("thrive", "if 200 <= status < 300 or status == 409:", "if 200 <= status < 400 or status == 409:"),
    ),
    _bite(
        "404 counts as recorded",
        100,
        "without an answer or a dead letter",
        ("thrive", "if 200 <= status < 300 or status == 409:", "if 200 <= status < 300 or status in (404, 409):"),
    ),
    _bite(
        "401 counts as a refusal",
        50,
        "was dead-lettered for refused|of its group was decided",
        ("thrive", "while response.status == 401:", "while False:"),
    ),
    _bite(
        "403 counts as a refusal",
        500,
        "was dead-lettered for refused|of its group was decided",
        ("thrive", "if status == 403:", "if status == 4030:"),
    ),
    _bite(
        "429 counts as a refusal",
        100,
        "was dead-lettered for refused|of its group was decided",
        ("thrive", "if status == 429:", "if status == 4290:"),
    ),
    _bite(
        "408 and 425 count as refusals",
        150,
        "was dead-lettered for refused|of its group was decided",
        ("thrive", "_UNAVAILABLE_4XX = frozenset({408, 425})", "_UNAVAILABLE_4XX: frozenset[int] = frozenset()"),
    ),
    _bite(
        "an unreadable body counts as a failure",
        150,
        "was dead-lettered for refused|was recorded, and is to come again",
        (
            "thrive",
            "        status = response.status\n",
            "        status = 400 if response.body is None else response.status\n",
        ),
    ),
    # ---- what is sent, and how often
    _bite(
        "completedAt comes from the clock",
        25,
        "what nobody sent",
        (
            "completion",
            '"completedAt": self.completed_at}',
            '"completedAt": format_timestamp(datetime.fromtimestamp(__import__("time").time(), UTC))}',
        ),
    ),
    _bite(
        "one learner's completions count as the same",
        50,
        "without an answer or a dead letter|of its group was decided",
        ("sync", "known = self._sent.get(completion)", "known = self._sent.get(completion.user_id)"),
        ("sync", "self._sent.setdefault(completion, Future())", "self._sent.setdefault(completion.user_id, Future())"),
    ),
    _bite(
        "attempts without end", 100, "calls for one completion", ("retry", "MAX_ATTEMPTS = 3", "MAX_ATTEMPTS = 10**9")
    ),
    _bite(
        "one message's trouble stops its batch",
        100,
        "deferred without a call",
        ("sync", "if isinstance(error, AccessError):", "if True:"),
        ("sync", "raise self._halted.again()", 'raise OutOfTimeError("Thrive is unwell")'),
    ),
    _bite(
        "the groups of a FIFO queue are not kept in order",
        100,
        "of its group was decided",
        (
            "sync",
            "lanes[content if message.group is None else (message.queue_arn, message.group)]",
            "lanes[content]",
        ),
    ),
    _bite(
        "a deferred message does not hold its group",
        200,
        "of its group was decided",
        ("sync", "if held is None and isinstance(result.outcome, Deferred)", "if isinstance(result.outcome, int)"),
    ),
    _bite(
        "the function's deadline is forgotten",
        2000,
        "ran into the hard stop",
        ("handler", "return Deadline(application.clock, seconds - report)", "return Deadline(application.clock, 600)"),
    ),
    _bite(
        "what was not begun goes on in a later invocation",
        750,
        "calls for one completion|is to come again|by a memory",
        ("sync", "            batch.close()\n", "            pass\n"),
        ("sync", "                future.cancel()\n", "                pass\n"),
    ),
    _bite(
        "connections are kept however long they were idle",
        25,
        "a pool that was idle",
        ("transport", "if elapsed(self._last_used, now) > MAX_IDLE_SECONDS:", "if False:"),
    ),
    # ---- backoff
    _bite(
        "no backoff is set",
        50,
        "without being put off",
        ("handler", "postponed.append(Postponed(message, wait_seconds))", "pass"),
    ),
    _bite("the backoff is 0", 25, "put off by", ("retry", "return max(0, min(math.ceil(wait), allowed))", "return 0")),
    _bite(
        "the backoff has no cap",
        100,
        "put off by",
        ("retry", "whole = min(self._cap, self._base *", "whole = max(0, self._base *"),
    ),
    _bite(
        "the backoff does not grow",
        50,
        "put off by",
        ("retry", "self._base * 2 ** min(max(receive_count, 1) - 1, 30)", "self._base"),
    ),
    _bite(
        "Retry-After is not heeded",
        300,
        "put off by",
        (
            "retry",
            "wait = max(self._uniform(whole / 2, whole), retry_after or 0.0)",
            "wait = self._uniform(whole / 2, whole)",
        ),
    ),
    # ---- tokens and secrets
    _bite(
        "a 401 drops whatever token there is",
        750,
        "while a good one was held",
        ("tokens", "if self._token is token:", "if True:"),
    ),
    _bite(
        "a thread goes on with credentials that another one has replaced",
        3000,
        "while a good one was held|tried again within a minute",
        (
            "authorization",
            "credentials = refused.credentials if current == refused.credentials else current",
            "credentials = refused.credentials",
        ),
    ),
    _bite(
        "every thread fetches a token of its own",
        100,
        "of one environment at once|while a good one was held",
        (
            "tokens",
            "        with self._lock:\n            if self._token is not None and self._token_of",
            "        if True:\n            if self._token is not None and self._token_of",
        ),
    ),
    _bite(
        "time is told by the monotonic clock alone",
        25,
        "was idle|was sent after|by a memory",
        (
            "retry",
            "return max(now.wall - since.wall, now.monotonic - since.monotonic)",
            "return now.monotonic - since.monotonic",
        ),
    ),
    _bite(
        "tokens do not expire",
        50,
        "was sent after",
        ("tokens", "return elapsed(self.requested, now) < self.lifetime - margin", "return True"),
    ),
    _bite(
        "expires_in true counts as one second",
        300,
        "while a good one was held",
        ("tokens", "if isinstance(expires_in, bool) or not isinstance", "if not isinstance"),
    ),
    _bite(
        "a refusal is not remembered",
        100,
        "tried again within a minute",
        ("tokens", "            self._raise_remembered(credentials)\n", ""),
    ),
    _bite(
        "a remembered failure outlives a step of the clock",
        1000,
        "by a memory",
        ("retry", "return now.wall >= since.wall and elapsed", "return elapsed"),
    ),
    _bite(
        "the secret is not read again when it is refused",
        100,
        "not read again",
        ("authorization", "reread = self._credentials.reread(credentials)", "reread = credentials"),
    ),
    _bite(
        "the secret is read for every message",
        25,
        "without need",
        ("credentials", "if self._current is None or self._age() >= self._valid_for:", "if True:"),
    ),
    _bite(
        "without Secrets Manager nothing works",
        150,
        "though a secret was at hand",
        ("credentials", 'if error.reason == "unavailable" and self._current is not None:', "if False:"),
    ),
    # ---- what anybody may read
    _bite(
        "the log holds bodies",
        25,
        "in an output stands",
        ("observability", '"message_id": message.id[:128],', '"message_id": message.id[:128], "body": message.body,'),
    ),
    _bite(
        "the log holds a library's words",
        100,
        "in an output stands",
        (
            "transport",
            'raise TemporaryError("unavailable", _describe(error))',
            'raise TemporaryError("unavailable", str(error))',
        ),
    ),
    _bite(
        "dead letters hold whatever Thrive says",
        50,
        "in an output stands",
        ("thrive", 'return f": {harmless[:MAX_MESSAGE_LENGTH]}" if harmless else ""', 'return f": {message}"'),
    ),
    _bite(
        "dead letters name another reason",
        50,
        "was dead-lettered for refused",
        ("queues", '"reason": outcome.reason,', '"reason": "refused",'),
    ),
)
