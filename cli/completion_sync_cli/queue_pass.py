"""One pass over a queue that looks at each message once, and puts back what was not deleted.

Received messages are hidden from other readers until they are handed back at the end. Should the process be killed,
they reappear by themselves after ``VISIBILITY_SECONDS`` (more, where very many are held): so while a long pass goes on,
their time is extended again and again instead of being long from the start.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Self

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

VISIBILITY_SECONDS = 120
# Extending the time of very many costs a call for every ten of them: so it is longer then.
_HELD_PER_SECOND = 50
MAX_LETTERS = 100_000
_EMPTY_POLLS = 2
# Any wait makes SQS ask all of its servers (its guide, "Short and long polling").
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
    """Iterate over it for the letters, in batches. It is a context manager that hands back what it holds."""

    def __init__(self, sqs: SQSClient, queue: Queue, clock: Clock, stop: Stop, *, batch: int = _BATCH) -> None:
        """:param batch: how many letters are received at once; no more than can be dealt with in a minute."""
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
        """How many letters the queue held when the pass began, as far as is known."""
        return self.seen if self.is_complete else max(self.seen, self.expected)

    @property
    def is_complete(self) -> bool:
        """Whether nothing can have been overlooked.

        A FIFO queue hides what is behind the letters that are held here; others may hold letters, too.
        """
        return self._has_ended and self.seen >= self.expected and not (self.is_fifo and self._was_held)

    @property
    def _was_held(self) -> bool:
        return len(self._deleted) < len(self._seen)

    def delete(self, letters: Sequence[Letter]) -> set[str]:
        """Delete letters; return the ids of those that SQS would not delete."""
        failed: set[str] = set()
        for chunk in _chunks([letter.id for letter in letters]):
            failed |= self._delete(chunk)
        self._deleted |= {letter.id for letter in letters} - failed
        return failed

    def hand_back(self, letters: Iterable[Letter] | None = None) -> None:
        """Make letters visible to others at once; None: all that are held. What fails reappears by itself."""
        ids = list(self._held) if letters is None else [letter.id for letter in letters if letter.id in self._held]
        receipts = [self._held.pop(identifier)[0] for identifier in ids]
        chunks = list(_chunks(receipts))
        if len(chunks) == 1:
            self._set_visibility(chunks[0], 0)
        elif chunks:
            with ThreadPoolExecutor(_HANDLERS) as executor:
                list(executor.map(lambda chunk: self._set_visibility(chunk, 0), chunks))

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
        # Delivered once more, although it was deleted (SQS's guide, "At-least-once delivery").
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
        """Extend the time of letters of which less than half is left."""
        now, visibility = self._clock.now().monotonic, self._visibility
        due = []
        for identifier, (_, expires) in self._held.items():
            if expires - now > visibility / 2:
                break
            due.append(identifier)
        for chunk in _chunks(due):
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
            # Best effort: the letters reappear when their time is over.
            return


def _chunks(items: Sequence[str]) -> Iterator[Sequence[str]]:
    for start in range(0, len(items), _BATCH):
        yield items[start : start + _BATCH]
