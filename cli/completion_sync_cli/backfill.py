"""`backfill`: sends a history of completions, after all rows were checked."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import click

from . import checkpoint as checkpoints
from .backlog import Backlog
from .errors import OK, WRONG, CommandError
from .history import examined_history, history_options
from .humane import count, duration, number
from .options import common, pass_operator, rate, yes
from .sending import Outgoing, Pace, Sender

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from .checkpoint import Checkpoint, Progress
    from .context import Operator
    from .examination import Examination, Judge, Rejects
    from .rows import Row
    from .sending import Receipt

# About four minutes of trying; after that the operator is to look.
ATTEMPTS = 9


@click.command("backfill")
@history_options
@rate(20, "rows")
@click.option("--checkpoint", metavar="PATH", help="A path or s3:// URI.  [default: beside FILE, by its content]")
@click.option(
    "--max-depth",
    type=click.IntRange(min=1),
    default=10_000,
    show_default=True,
    metavar="NUMBER",
    help="Wait while the queue holds more messages.",
)
@click.option(
    "--max-age",
    type=click.FloatRange(min=0),
    default=3600,
    show_default=True,
    metavar="SECONDS",
    help="Wait while its oldest message is older; 0: never.",
)
@yes
@common
@pass_operator
def command(
    operator: Operator, /, file: str, kind: Any, rejects: str | None, checkpoint: str | None, **options: Any
) -> int:
    r"""Send the completions in FILE: CSV or JSON lines, gzip or not; a path, an s3:// URI or - for standard input.

    First all rows are checked with the stack's mapping and content table. Those that would not be recorded, and
    duplicates, are written to a file of rejects with line and reason. Then the valid ones are sent as they are. A run
    that was interrupted goes on where it stopped.

    \b
    Examples:
      completion-sync backfill history.csv                  # checks, and says what it would do
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
    """One run over a history that has been examined."""

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
        self._sent = self._refused = 0
        # What is on its way to SQS.
        self._rows: dict[str, Row] = {}

    def say_plan(self, rate: float, *, confirmed: bool) -> None:
        """Say what is going to be sent, and how long that takes."""
        output, skipped = self._operator.output, self._examination.valid - self._left
        if skipped:
            output.say(f"{count(skipped, 'row')} sent by earlier runs ({self._notes.name}).")
        verb = "to send" if confirmed else "would be sent"
        text = f"{count(self._left, 'row')} {verb} at {rate:g} a second: {duration(self._left / rate)}"
        output.say(f"{text}, or longer if the queue drains more slowly.")

    def run(self, sender: Sender, backlog: Backlog) -> None:
        """Send what is left.

        :raises CommandError: SQS did not take messages for minutes.
        """
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
                    show(f"{number(self._sent)} sent")
                else:
                    self._progress = replace(self._progress, row=self._examination.rows)
            finally:
                self._notes.save(self._progress, now=True)

    def report(self, *, confirmed: bool) -> int:
        """Say what was done and what to do next; return the exit status."""
        output, examination = self._operator.output, self._examination
        rejected = examination.rejected + self._refused
        is_done = self._progress.row == examination.rows
        if not confirmed:
            output.say("Nothing was sent; --yes does it.")
        else:
            seconds = self._operator.clock.now().monotonic - self._began
            output.say(f"{count(self._sent, 'row')} sent in {duration(seconds)}.", "green" if is_done else "yellow")
        if confirmed and not is_done:
            output.warn("Not finished. The same command goes on where this one stopped.")
        elif confirmed:
            output.say("When the queue is empty: completion-sync reconcile shows what has not been recorded.")
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
        shape = shape_of(self._queue.arn, self._examination.digest, self._judge)
        for row_number, row in self._examination.valid_rows():
            if row_number > self._progress.row:
                self._rows[str(row_number)] = row
                yield shape(str(row_number), row)

    def _settle(self, receipts: Sequence[Receipt]) -> None:
        for receipt in receipts:
            row = self._rows.pop(receipt.key)
            if receipt.is_temporary:
                text = f"SQS does not take messages ({receipt.error}) and did not for minutes."
                raise CommandError(text, "The same command goes on where this one stopped.", status=WRONG)
            if receipt.message_id is None:
                self._refused += 1
                self._rejects.add(row.line, "refused by SQS", receipt.error or "", row.raw)
            else:
                self._sent += 1
            sent = self._progress.sent + (receipt.message_id is not None)
            self._progress = replace(self._progress, row=int(receipt.key), sent=sent)


def shape_of(queue_arn: str, digest: str, judge: Judge) -> Callable[[str, Row], Outgoing]:
    """Return what makes a message of a row.

    On a standard queue all rows share a group, so that SQS's fair queues let live messages overtake them. On a FIFO
    queue each person has one, so that their completions stay in order.
    """
    if not queue_arn.endswith(".fifo"):
        return lambda key, row: Outgoing(key, row.body, f"backfill-{digest[:16]}")

    def fifo(key: str, row: Row) -> Outgoing:
        person = judge.judge(row).person
        return Outgoing(key, row.body, _hash(f"{queue_arn}\0{person}"), _hash(row.body))

    return fifo


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:40]
