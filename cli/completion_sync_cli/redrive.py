"""`redrive`: sends dead letters back to the source queue, and deletes each one after it has been sent."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from .errors import OK, WRONG
from .formats import count, duration
from .options import common, pass_operator, rate, yes
from .queue_pass import chunks
from .reading import scanning
from .selection import Selection, selectors
from .sending import Outgoing, Pace, Sender

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .context import Operator
    from .letters import Letter
    from .queue_pass import QueuePass
    from .reading import Scan
    from .sending import Receipt

# Receive no more than can be sent in a minute: a letter must not reappear before its turn.
_AHEAD_SECONDS = 60
# The group that the template's rule uses for all events.
_BUS_GROUP = "eventbridge"


@click.command("redrive")
@selectors
@click.option("--max", "most", type=click.IntRange(min=1), metavar="NUMBER", help="Move at most this many.")
@rate(10, "letters")
@yes
@common
@pass_operator
def command(
    operator: Operator, /, most: int | None, rate: float, *, confirmed: bool, undelivered: bool, **criteria: Any
) -> int:
    """Send dead letters back to the source queue, body unchanged; without a criterion, all of them.

    A letter is deleted only after SQS has accepted its copy. The worst result is a repeat, which is harmless. Correct
    the cause first: a message that fails again becomes a new dead letter, which this run does not send again.

    \b
    Examples:
      completion-sync redrive --reason refused --status 404            # dry run
      completion-sync redrive --reason refused --status 404 --yes
      completion-sync redrive --undelivered --yes                      # events that never reached the function
    """
    source, pace = operator.found.source, Pace(rate, operator.clock)
    sender = Sender(operator.aws.sqs, source.url, pace, operator.clock, operator.stop)
    with scanning(operator, undelivered=undelivered, batch=int(rate * _AHEAD_SECONDS)) as scan:
        move = Move(scan.queue_pass, sender, most=most, is_fifo=source.is_fifo, confirmed=confirmed)
        for batch in scan.batches(Selection(**criteria)):
            for letters in chunks(batch, pace.batch_size):
                if operator.stop.requested or move.is_enough:
                    break
                move.send(letters)
            if move.is_enough:
                break
    return _report(operator, scan, move, rate, confirmed=confirmed)


class Move:
    """What one run has moved so far."""

    def __init__(
        self, queue_pass: QueuePass, sender: Sender, *, most: int | None, is_fifo: bool, confirmed: bool
    ) -> None:
        self._queue_pass = queue_pass
        self._sender = sender
        self._most = most
        self._is_fifo = is_fifo
        self._confirmed = confirmed
        self._sent_ids: set[str] = set()
        # Groups of a FIFO queue with a letter that could not be moved: later letters must not overtake it.
        self._blocked: set[str | None] = set()
        self.matched = self.moved = self.failed = self.returned = 0
        self.errors: set[str] = set()

    @property
    def is_enough(self) -> bool:
        """Whether --max is reached."""
        return self._most is not None and self.matched >= self._most

    def send(self, letters: Sequence[Letter]) -> None:
        """Send letters and delete those that were accepted; in a dry run, count them."""
        fresh = [letter for letter in letters if not {letter.id, letter.source_id} & self._sent_ids]
        self.returned += len(letters) - len(fresh)
        if self._most is not None:
            fresh = fresh[: self._most - self.matched]
        self.matched += len(fresh)
        if not self._confirmed:
            return
        by_id = {letter.id: letter for letter in fresh}
        for batch in self._sender.batches(map(self._outgoing, fresh)):
            allowed = [message for message in batch if not (self._is_fifo and message.group in self._blocked)]
            self.failed += len(batch) - len(allowed)
            if allowed:
                self._settle(self._sender.send(allowed), by_id)

    def _settle(self, receipts: Sequence[Receipt], by_id: dict[str, Letter]) -> None:
        accepted = []
        for receipt in receipts:
            letter = by_id[receipt.key]
            if receipt.message_id is None:
                self.failed += 1
                self.errors.add(receipt.error or "")
                self._blocked.add(self._outgoing(letter).group)
            else:
                self._sent_ids.add(receipt.message_id)
                accepted.append(letter)
        if accepted:
            undeleted = self._queue_pass.delete(accepted)
            self.moved += len(accepted) - len(undeleted)
            self.failed += len(undeleted)

    def _outgoing(self, letter: Letter) -> Outgoing:
        if not self._is_fifo:
            return Outgoing(letter.id, letter.original())
        return Outgoing(letter.id, letter.original(), letter.group or _BUS_GROUP, letter.id)


def _report(operator: Operator, scan: Scan, move: Move, rate: float, *, confirmed: bool) -> int:
    output, complete = operator.output, scan.queue_pass.is_complete
    if confirmed:
        output.say(f"{count(move.moved, 'letter')} moved to the source queue.", "green")
    else:
        output.say(
            f"{count(move.matched, 'letter')} would be moved to the source queue, which takes "
            f"{duration(move.matched / rate)}. Nothing was changed; use --yes to do it."
        )
    if move.failed:
        why = f" ({', '.join(sorted(move.errors))})" if move.errors else ""
        output.warn(f"{count(move.failed, 'letter')} could not be moved{why}. Run the command again.")
    if move.returned:
        output.warn(f"{count(move.returned, 'letter')} failed again and came back. Has the cause been corrected?")
    if not move.is_enough:
        scan.say_if_incomplete()
    output.result(
        {
            "matched": move.matched,
            "moved": move.moved,
            "failed": move.failed,
            "complete": complete,
            "dryRun": not confirmed,
        }
    )
    left_undone = confirmed and not complete and not move.is_enough
    return WRONG if move.failed or operator.stop.requested or left_undone else OK
