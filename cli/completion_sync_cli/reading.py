"""Reads the dead-letter queue or the undelivered queue, with progress on standard error."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from .config_source import StackConfig
from .formats import number
from .letters import Reader
from .queue_pass import MAX_LETTERS, QueuePass

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .context import Operator
    from .letters import Letter
    from .selection import Selection
    from .stack import Queue


class Scan:
    """One pass over a queue of letters."""

    def __init__(self, operator: Operator, queue: Queue, *, batch: int = 10) -> None:
        self._operator = operator
        self.queue_pass = QueuePass(operator.aws.sqs, queue, operator.clock, operator.stop, batch=batch)
        self.reader = Reader(lambda: StackConfig(operator.aws, operator.settings, operator.clock).mapping)

    def batches(self, selection: Selection) -> Iterator[list[Letter]]:
        """Yield the selected letters, in batches as received. The others stay hidden until the end."""
        total = min(MAX_LETTERS, self.queue_pass.expected)
        with self._operator.output.progress("reading", total or None) as bar:
            for batch in self.queue_pass:
                bar.update(self.queue_pass.seen)
                if matching := [letter for letter in batch if selection.matches(letter, self.reader)]:
                    yield matching

    def letters(self, selection: Selection) -> Iterator[Letter]:
        """Yield the selected letters."""
        for batch in self.batches(selection):
            yield from batch

    def say_if_incomplete(self) -> None:
        """Say that there may be more letters than were read, and why."""
        found = self.queue_pass
        if found.is_complete or self._operator.stop.requested:
            return
        if found.seen >= MAX_LETTERS:
            reason = "one run does not read more"
        elif found.is_fifo:
            reason = "a FIFO queue shows only the first letters of each group"
        else:
            reason = "other readers may hold the rest at this moment"
        self._operator.output.warn(f"{number(found.seen)} of about {number(found.total)} letters were read: {reason}.")


@contextmanager
def scanning(operator: Operator, *, undelivered: bool, batch: int = 10) -> Iterator[Scan]:
    """Open a pass; at the end, interrupted or not, what was not deleted is handed back to other readers."""
    stack = operator.found
    scan = Scan(operator, stack.undelivered if undelivered else stack.dead_letters, batch=batch)
    with operator.interruptible(), scan.queue_pass:
        yield scan
