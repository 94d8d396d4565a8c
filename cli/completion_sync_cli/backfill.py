"""`backfill`: sends a history of completions, after checking all rows."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import click

from . import checkpoint as checkpoints
from .backlog import MAX_AGE_SECONDS, MAX_DEPTH, Backlog
from .errors import OK, WRONG
from .formats import count, duration, number
from .history import examined_history, history_options
from .options import common, pass_operator, rate, yes
from .sending import Outgoing, Pace, Sender, SqsUnavailableError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from .checkpoint import Checkpoint, Progress
    from .context import Operator
    from .examination import Examination, Judge, Rejects
    from .rows import Row
    from .sending import Receipt

# About four minutes of retries. After that, the operator has to look.
ATTEMPTS = 9


@click.command("backfill")
@history_options
@rate(20, "rows")
@click.option("--checkpoint", metavar="PATH", help="A path or s3:// URI.  [default: beside FILE, by its content]")
@click.option(
    "--max-depth",
    type=click.IntRange(min=1),
    default=MAX_DEPTH,
    show_default=True,
    metavar="NUMBER",
    help="Wait while the queue holds more messages than this.",
)
@click.option(
    "--max-age",
    type=click.FloatRange(min=0),
    default=MAX_AGE_SECONDS,
    show_default=True,
    metavar="SECONDS",
    help="Wait while its oldest message is older than this; 0 ignores the age.",
)
@yes
@common
@pass_operator
def command(
    operator: Operator, /, file: str, kind: Any, rejects: str | None, checkpoint: str | None, **options: Any
) -> int:
    """Send the completions in FILE: CSV or JSON lines, gzip or not; a path, an s3:// URI or - for standard input.

    First all rows are checked with the stack's mapping and content table. Duplicates and rows that would not be
    recorded are written to a file of rejects, with line and reason. Then the valid rows are sent unchanged. An
    interrupted run continues where it stopped.

    \b
    Examples:
      completion-sync backfill history.csv                  # only checks the rows
      completion-sync backfill history.csv --yes --rate 50
      completion-sync backfill s3://bucket/history.jsonl.gz --checkpoint s3://bucket/history.checkpoint --yes
    """
    stack, confirmed = operator.found, options["confirmed"]
    pace = Pace(options["rate"], operator.clock)
    sender = Sender(operator.aws.sqs, stack.source.url, pace, operator.clock, operator.stop, attempts=ATTEMPTS)
    backlog = Backlog(operator, stack.source, options["max_depth"], options["max_age"])
    with operator.interruptible(), examined_history(operator, file, kind, rejects) as (examination, judge, rejected):
        name = checkpoint or f"{examination.source.local}.{examination.digest[:12]}.{stack.name}.checkpoint"
        with checkpoints.opened(name, lambda: operator.aws.s3, operator.clock, read_only=not confirmed) as notes:
            backfill = Backfill(operator, examination, judge, rejected, notes)
            backfill.say_plan(options["rate"], confirmed=confirmed)
            if confirmed:
                backfill.run(sender, backlog)
    return backfill.report(confirmed=confirmed)


class Backfill:
    """One run over a history that has been checked."""

    def __init__(
        self, operator: Operator, examination: Examination, judge: Judge, rejects: Rejects, notes: Checkpoint
    ) -> None:
        self._operator = operator
        self._examination = examination
        self._judge = judge
        self._rejects = rejects
        self._notes = notes
        self._queue = operator.found.source
        self._progress: Progress = notes.load(examination.digest, self._queue.arn)
        self._began = operator.clock.now().monotonic
        self._left = examination.valid_after(self._progress.row)
        self._sending_since = self._began
        self._sent = self._refused = 0
        # The rows that are being sent, by key.
        self._rows: dict[str, Row] = {}

    def say_plan(self, rate: float, *, confirmed: bool) -> None:
        """Say how many rows will be sent, and how long that takes."""
        output, skipped = self._operator.output, self._examination.valid - self._left
        if skipped:
            output.say(f"{count(skipped, 'row')} were sent by earlier runs ({self._notes.name}).")
        if not self._left:
            output.say("There is nothing left to send.")
            return
        verb = "to send" if confirmed else "would be sent"
        text = f"{count(self._left, 'row')} {verb} at {rate:g} a second: {duration(self._left / rate)}"
        output.say(f"{text}, or longer if the queue drains more slowly.")

    def run(self, sender: Sender, backlog: Backlog) -> None:
        """Send the remaining rows. Stop if SQS has not accepted messages for minutes."""
        self._sending_since = self._operator.clock.now().monotonic
        with self._operator.output.progress("sending", self._left) as bar:

            def show(note: str) -> None:
                bar.update(self._sent, note)

            try:
                for batch in sender.batches(self._outgoing()):
                    backlog.wait(len(batch), show)
                    if self._operator.stop.requested:
                        break
                    self._settle(sender.send(batch))
                    self._notes.save(self._progress)
                    show(self._speed())
                else:
                    self._progress = replace(self._progress, row=self._examination.rows)
            except SqsUnavailableError as error:
                self._operator.output.warn(str(error))
            finally:
                self._notes.save(self._progress, now=True)

    def _speed(self) -> str:
        seconds = self._operator.clock.now().monotonic - self._sending_since
        return f"{number(self._sent)} sent, {self._sent / max(seconds, 1):.0f} a second"

    def report(self, *, confirmed: bool) -> int:
        """Say what was done and what to do next; return the exit status."""
        output, examination = self._operator.output, self._examination
        rejected = examination.rejected + self._refused
        is_done = self._progress.row == examination.rows
        if not confirmed:
            output.say("Nothing was sent; use --yes to do it.")
        else:
            seconds = self._operator.clock.now().monotonic - self._began
            output.say(f"{count(self._sent, 'row')} sent in {duration(seconds)}.", "green" if is_done else "yellow")
        if confirmed and not is_done:
            output.warn("Not finished. Run the same command again to continue.")
        elif confirmed:
            output.say("When the queue is empty, run completion-sync reconcile to see what has not been recorded.")
        output.result(
            {
                "rows": examination.rows,
                "valid": examination.rows - rejected,
                "rejected": rejected,
                "sent": self._sent,
                "skipped": examination.valid - self._left,
                "dryRun": not confirmed,
            }
        )
        return WRONG if rejected or (confirmed and not is_done) else OK

    def _outgoing(self) -> Iterator[Outgoing]:
        build = message_builder(self._queue.arn, self._examination.digest, self._judge)
        for row_number, row in self._examination.valid_rows():
            if row_number > self._progress.row:
                self._rows[str(row_number)] = row
                yield build(str(row_number), row)

    def _settle(self, receipts: Sequence[Receipt]) -> None:
        for receipt in receipts:
            row = self._rows.pop(receipt.key)
            if receipt.is_temporary:
                raise SqsUnavailableError(receipt.error)
            if receipt.message_id is None:
                self._refused += 1
                self._rejects.add(row.line, "refused by SQS", receipt.error or "", row.raw)
            else:
                self._sent += 1
            sent = self._progress.sent + (receipt.message_id is not None)
            self._progress = replace(self._progress, row=int(receipt.key), sent=sent)


def message_builder(queue_arn: str, digest: str, judge: Judge) -> Callable[[str, Row], Outgoing]:
    """Return a function that builds the message for a row.

    On a standard queue all rows share one message group, so that SQS's fair queues let live messages overtake them. On
    a FIFO queue each person is a group, so that their completions stay in order.
    """
    if not queue_arn.endswith(".fifo"):
        return lambda key, row: Outgoing(key, row.body, f"backfill-{digest[:16]}")

    def fifo(key: str, row: Row) -> Outgoing:
        person = judge.judge(row).person
        return Outgoing(key, row.body, _hash(f"{queue_arn}\0{person}"), _hash(row.body))

    return fifo


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:40]
