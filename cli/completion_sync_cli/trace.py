"""`trace`: what happened to one learner's or one message's record, in order of time."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import click
from botocore.exceptions import ClientError

from .aws_errors import explain, is_fatal
from .errors import OK, WRONG, CommandError
from .formats import count, iso
from .insights import Log
from .interrupts import InterruptingClock
from .options import common, pass_operator
from .reading import Scan
from .selection import Moment, Selection
from .tenant import Tenant

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from .context import Operator
    from .letters import Letter

_DAYS = 30
# How many of a learner's messages are also searched for by id.
_MAX_MESSAGES = 100


@dataclass(frozen=True, slots=True)
class Event:
    """One thing that happened. ``source`` is log, dead-letter, undelivered or thrive."""

    time: datetime
    source: str
    outcome: str
    fields: dict[str, Any] = field(default_factory=dict)

    def document(self) -> dict[str, Any]:
        """Return it as JSON shows it, without unknown fields."""
        known = {name: value for name, value in self.fields.items() if value is not None}
        return {"time": iso(self.time), "source": self.source, "outcome": self.outcome, **known}


@click.command("trace")
@click.option("--user-id", metavar="ID", help="The learner's Thrive user id.")
@click.option("--user-ref", metavar="REF", help="The learner's reference, which Thrive resolves to a user id.")
@click.option("--message-id", metavar="ID", help="The id of a message on the source queue.")
@click.option(
    "--since",
    type=Moment(),
    metavar="TIME",
    help=f"How far to look back: 2h, 3d or an ISO 8601 time.  [default: {_DAYS}d]",
)
@common
@pass_operator
def command(
    operator: Operator, /, user_id: str | None, user_ref: str | None, message_id: str | None, since: datetime | None
) -> int:
    """Show what happened to a record: log lines, dead letters and what Thrive holds, in order of time.

    The log is searched with CloudWatch Logs Insights, where a line appears about a minute after it was written.

    \b
    Examples:
      completion-sync trace --user-id 646767d82535201223349e09
      completion-sync trace --message-id 1f2e… --since 3d
    """
    if sum(value is not None for value in (user_id, user_ref, message_id)) != 1:
        raise click.UsageError("use exactly one of --user-id, --user-ref and --message-id")
    trace = Trace(operator, since or operator.now - timedelta(days=_DAYS))
    with operator.interruptible():
        if message_id is not None:
            trace.message(message_id)
        else:
            trace.learner(user_id, user_ref)
    events = sorted(trace.events, key=lambda event: event.time)
    if events:
        operator.output.table(["time", "source", "outcome", "details"], [_row(event) for event in events])
    operator.output.say(f"{count(len(events), 'event')} since {iso(trace.since)}.")
    operator.output.result({"events": [event.document() for event in events]})
    return WRONG if trace.gaps or operator.stop.requested else OK


class Trace:
    """Collects events from all sources. A source that cannot be read is counted as a gap; the others are shown."""

    def __init__(self, operator: Operator, since: datetime) -> None:
        self._operator = operator
        self.since = since
        self.events: list[Event] = []
        self.gaps = 0

    def learner(self, user_id: str | None, user_ref: str | None) -> None:
        """Follow one learner, by user id or reference."""
        if user_ref is not None:
            user_id = self._user_of(user_ref)
        if user_id is not None:
            self._try("the log", lambda: self._log_of_learner(user_id or ""))
            self._try("Thrive", lambda: self._recorded({"userId": user_id or ""}))
        self._try("the dead letters", lambda: self._letters(self._is_about(user_id, user_ref)))

    def message(self, message_id: str) -> None:
        """Follow one message."""
        self._try("the log", lambda: self._log("message_id", [message_id]))
        named = [event.fields for event in self.events if event.fields.get("userId")]
        if named:
            query = {"userId": named[-1]["userId"], "contentId": named[-1]["contentId"]}
            self._try("Thrive", lambda: self._recorded(query))
        self._try(
            "the dead letters", lambda: self._letters(lambda letter, _: message_id in {letter.id, letter.source_id})
        )

    def _user_of(self, user_ref: str) -> str | None:
        """Return the user id of a reference, None if Thrive does not know it.

        :raises CommandError: Thrive does not answer.
        """
        user_id = Tenant(self._operator).user_id(user_ref)
        say = self._operator.output.warn
        if user_id is None:
            say(
                "Thrive does not know this reference. Messages waiting for it cannot be found: logs hold no references."
            )
        else:
            say("Log lines from before Thrive knew this reference cannot be found: logs hold no references.")
        return user_id

    def _try(self, what: str, read: Callable[[], None]) -> None:
        try:
            read()
        except CommandError as error:
            problem = error
        except ClientError as error:
            if is_fatal(error):
                raise
            problem = explain(error)
        else:
            return
        self._operator.output.warn(f"Without {what}: {problem.message} {problem.remedy}")
        self.gaps += 1

    def _log_of_learner(self, user_id: str) -> None:
        self._log("user_id", [user_id])
        # A message that waited for its person was logged without the user id.
        known = {event.fields["messageId"] for event in self.events}
        if known:
            before = list(self.events)
            self.events.clear()
            self._log("message_id", sorted(known)[:_MAX_MESSAGES])
            self.events += [event for event in before if event not in self.events]

    def _log(self, key: str, values: list[str]) -> None:
        clock = InterruptingClock(self._operator.clock, self._operator.stop)
        log = Log(self._operator.aws.logs, self._operator.found.outputs["LogGroupName"], clock)
        for line in log.lines(key, values, self.since, self._operator.now):
            names = ("reason", "status", "attempts")
            more = {
                "messageId": line.get("message_id"),
                "userId": line.get("user_id"),
                "contentId": line.get("content_id"),
                "statementId": line.get("statement_id"),
                "receiveCount": line.get("receive_count"),
            }
            fields = {name: line.get(name) for name in names} | more
            self.events.append(Event(line["time"], "log", str(line["outcome"]), fields))
        if log.is_cut_off:
            self._operator.output.warn(
                "The log has more lines than one query returns. Choose a shorter time (--since)."
            )

    def _recorded(self, query: dict[str, str]) -> None:
        for page in Tenant(self._operator).completions(query):
            for record in page:
                try:
                    moment = datetime.fromisoformat(f"{record.second}+00:00")
                except ValueError:
                    moment = self.since
                fields = {"userId": record.user_id, "contentId": record.content_id, "id": record.id}
                self.events.append(Event(moment, "thrive", "recorded", fields))

    def _letters(self, is_wanted: Callable[[Letter, dict[str, str]], bool]) -> None:
        stack = self._operator.found
        for source, queue in (("dead-letter", stack.dead_letters), ("undelivered", stack.undelivered)):
            scan = Scan(self._operator, queue)
            with scan.queue_pass:
                self.events += _letter_events(scan, source, is_wanted)
                scan.say_if_incomplete()

    @staticmethod
    def _is_about(user_id: str | None, user_ref: str | None) -> Callable[[Letter, dict[str, str]], bool]:
        def is_about(_letter: Letter, fields: dict[str, str]) -> bool:
            by_id = user_id is not None and fields.get("userId") == user_id
            return by_id or (user_ref is not None and fields.get("userRef") == user_ref)

        return is_about


def _letter_events(scan: Scan, source: str, is_wanted: Callable[[Letter, dict[str, str]], bool]) -> Iterator[Event]:
    for letter in scan.letters(Selection()):
        found = scan.reader.fields(letter)
        if is_wanted(letter, found):
            fields = {
                "messageId": letter.source_id,
                "letterId": letter.id,
                "reason": letter.reason,
                "status": letter.status,
                "detail": letter.detail,
                "userId": found.get("userId"),
                "contentId": found.get("contentId"),
            }
            yield Event(letter.sent, source, "waiting", fields)


def _row(event: Event) -> list[str]:
    known = event.document()
    names = ("reason", "status", "contentId", "detail", "receiveCount", "messageId")
    details = ", ".join(f"{name} {known[name]}" for name in names if name in known)
    return [known["time"], event.source, event.outcome, details]
