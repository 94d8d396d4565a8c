"""One pass over a queue that reads each message once, and hands back what was not deleted.

Received messages are hidden from other readers until they are handed back at the end. If the process is killed, they
reappear by themselves after ``VISIBILITY_SECONDS`` (later if very many are held). To keep that time short, a long pass
extends it repeatedly instead of asking for a long one from the start.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Self, TypeVar

from botocore.exceptions import BotoCoreError, ClientError

from .letters import Letter

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from types import TracebackType

    from mypy_boto3_sqs import SQSClient
    from mypy_boto3_sqs.literals import QueueAttributeFilterType

    from completion_sync.clock import Clock

    from .interrupts import Stop
    from .stack import Queue

T = TypeVar("T")

VISIBILITY_SECONDS = 120
# Extending takes a call for every ten messages, so the time is longer if very many are held.
_HELD_PER_SECOND = 50
MAX_LETTERS = 100_000
_EMPTY_POLLS = 2
# With any wait, SQS queries all of its servers (SQS developer guide, "Short and long polling").
_POLL_SECONDS = 1
_BATCH = 10
_HANDLERS = 8
_COUNTS: tuple[QueueAttributeFilterType, ...] = (
    "ApproximateNumberOfMessages",
    "ApproximateNumberOfMessagesNotVisible",
    "ApproximateNumberOfMessagesDelayed",
)


def depth(sqs: SQSClient, url: str) -> int:
    """Return how many messages a queue holds by its attributes: waiting, in flight and delayed."""
    found: dict[Any, str] = {**sqs.get_queue_attributes(QueueUrl=url, AttributeNames=[*_COUNTS])["Attributes"]}
    return sum(int(found.get(name, "0")) for name in _COUNTS)


class QueuePass:
    """An iterable of batches of letters, and a context manager that hands back the letters it still holds."""

    def __init__(self, sqs: SQSClient, queue: Queue, clock: Clock, stop: Stop, *, batch: int = _BATCH) -> None:
        """:param batch: how many letters are received at once; no more than can be handled in a minute."""
        self._sqs = sqs
        self._url = queue.url
        self.is_fifo = queue.is_fifo
        self._clock = clock
        self._stop = stop
        self._batch = max(1, min(_BATCH, batch))
        self._seen: set[str] = set()
        self._deleted: set[str] = set()
        # Receipt and expiry by message id, in order of expiry.
        self._held: dict[str, tuple[str, float]] = {}
        self._has_ended = False
        self.expected = 0

    def __enter__(self) -> Self:
        self.expected = depth(self._sqs, self._url)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.hand_back()

    def __iter__(self) -> Iterator[list[Letter]]:
        empty = 0
        while empty < _EMPTY_POLLS and len(self._seen) < MAX_LETTERS and not self._stop.requested:
            self._extend()
            new = self._receive()
            empty = 0 if new else empty + 1
            if new:
                yield new
        self._has_ended = empty >= _EMPTY_POLLS

    @property
    def seen(self) -> int:
        """How many letters have been seen so far."""
        return len(self._seen)

    @property
    def total(self) -> int:
        """How many letters the queue held when the pass began, as far as known."""
        return self.seen if self.is_complete else max(self.seen, self.expected)

    @property
    def is_complete(self) -> bool:
        """Whether every letter must have been seen.

        A FIFO queue hides the letters behind those that are held here, and other readers may hold some too.
        """
        return self._has_ended and self.seen >= self.expected and not (self.is_fifo and self._was_held)

    @property
    def _was_held(self) -> bool:
        return len(self._deleted) < len(self._seen)

    def delete(self, letters: Sequence[Letter]) -> set[str]:
        """Delete letters; return the ids of those that were not deleted."""
        failed: set[str] = set()
        for chunk in chunks([letter.id for letter in letters]):
            failed |= self._delete(chunk)
        self._deleted |= {letter.id for letter in letters} - failed
        return failed

    def hand_back(self, letters: Iterable[Letter] | None = None) -> None:
        """Make letters (by default, all that are held) visible at once. If that fails, they reappear by themselves."""
        ids = list(self._held) if letters is None else [letter.id for letter in letters if letter.id in self._held]
        receipts = [self._held.pop(identifier)[0] for identifier in ids]
        parts = list(chunks(receipts))
        if len(parts) == 1:
            self._set_visibility(parts[0], 0)
        elif parts:
            with ThreadPoolExecutor(_HANDLERS) as executor:
                list(executor.map(lambda part: self._set_visibility(part, 0), parts))

    @property
    def _visibility(self) -> int:
        return VISIBILITY_SECONDS + len(self._held) // _HELD_PER_SECOND

    def _receive(self) -> list[Letter]:
        visibility = self._visibility
        expires = self._clock.now().monotonic + visibility
        answer = self._sqs.receive_message(
            QueueUrl=self._url,
            MaxNumberOfMessages=self._batch,
            VisibilityTimeout=visibility,
            WaitTimeSeconds=_POLL_SECONDS,
            MessageAttributeNames=["All"],
            MessageSystemAttributeNames=["All"],
        )
        new, again = [], []
        for letter in map(Letter.read, answer.get("Messages", [])):
            self._held.pop(letter.id, None)
            self._held[letter.id] = (letter.receipt, expires)
            if letter.id in self._deleted:
                again.append(letter)
            elif letter.id not in self._seen:
                self._seen.add(letter.id)
                new.append(letter)
        # Delivered again although deleted (SQS developer guide, "At-least-once delivery").
        self.delete(again)
        return new

    def _delete(self, ids: Sequence[str]) -> set[str]:
        entries = [
            {"Id": str(index), "ReceiptHandle": self._held[identifier][0]} for index, identifier in enumerate(ids)
        ]
        try:
            answer = self._sqs.delete_message_batch(QueueUrl=self._url, Entries=entries)  # type: ignore[arg-type] # dicts of this shape
        except (BotoCoreError, ClientError):
            return set(ids)
        failed = {ids[int(item["Id"])] for item in answer.get("Failed", [])}
        for identifier in set(ids) - failed:
            del self._held[identifier]
        return failed

    def _extend(self) -> None:
        """Extend the time of letters that have less than half of it left."""
        now, visibility = self._clock.now().monotonic, self._visibility
        due = []
        for identifier, (_, expires) in self._held.items():
            if expires - now > visibility / 2:
                break
            due.append(identifier)
        for chunk in chunks(due):
            self._set_visibility([self._held[identifier][0] for identifier in chunk], visibility)
            for identifier in chunk:
                receipt, _ = self._held.pop(identifier)
                self._held[identifier] = (receipt, now + visibility)

    def _set_visibility(self, receipts: Sequence[str], seconds: int) -> None:
        try:
            self._sqs.change_message_visibility_batch(
                QueueUrl=self._url,
                Entries=[
                    {"Id": str(index), "ReceiptHandle": receipt, "VisibilityTimeout": seconds}
                    for index, receipt in enumerate(receipts)
                ],
            )
        except (BotoCoreError, ClientError):
            # Best effort: the letters reappear when their visibility timeout ends.
            return


def chunks(items: Sequence[T], size: int = _BATCH) -> Iterator[Sequence[T]]:
    """Split into parts of at most ``size`` items."""
    for start in range(0, len(items), size):
        yield items[start : start + size]
