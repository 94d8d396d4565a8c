"""The poller: plays Lambda's event source mapping for SQS, strictly."""

from __future__ import annotations

import threading
import time
from collections import Counter
from typing import TYPE_CHECKING, Any, Protocol

from sandbox.pipeline.batches import MalformedAnswerError, event_of, failed_ids, record_of, within_payload_limit
from sandbox.pipeline.runtime import InvocationError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from mypy_boto3_sqs import SQSClient
    from mypy_boto3_sqs.type_defs import MessageTypeDef

    from sandbox.pipeline.stack import EventSource

# SQS's own limits: messages in one receive, entries in one delete.
_MOST_PER_CALL = 10
_LONGEST_WAIT = 20
# Lambda waits in a long poll. A poll that ends at once and a pause come to the same, and the poller can stop any time.
_IDLE_SECONDS = 0.1


class Invocable(Protocol):
    """An execution environment."""

    def invoke(self, event: Mapping[str, Any]) -> bytes:
        """Return the function's answer; InvocationError if there is none."""
        ...


class Poller:
    """Polls one queue for a pool of execution environments, one thread for each, as Lambda would.

    A batch is received, handed to the function, and of its messages exactly those are deleted that the function's
    answer leaves unreported. If there is no answer, or a malformed one, nothing is deleted: the messages come back
    when their visibility ends, and the queue itself moves them to the dead-letter queue after too many receives. That
    no two batches of one FIFO message group are out at once is the queue's own doing: it holds a group back while
    messages of it are in flight.

    `counts` tells what happened: `invocations`, `received`, `deleted`, `reported`, and failed invocations by kind
    (`error`, `timeout`, `exit`, `malformed`).
    """

    def __init__(
        self,
        sqs: SQSClient,
        source: EventSource,
        environments: Sequence[Invocable],
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Set up without polling yet; environments beyond the mapping's maximum concurrency stay idle."""
        self._sqs = sqs
        self._source = source
        self._environments = environments[: source.maximum_concurrency]
        self._clock = clock
        self._stopping = threading.Event()
        self._threads: list[threading.Thread] = []
        self._lock = threading.Lock()
        self._counts: Counter[str] = Counter()
        self._failure: Exception | None = None

    @property
    def counts(self) -> Counter[str]:
        """What happened until now."""
        with self._lock:
            return self._counts.copy()

    def start(self) -> None:
        """Start polling, in threads."""
        for number, environment in enumerate(self._environments, 1):
            thread = threading.Thread(target=self._run, args=(environment,), name=f"poller-{number}", daemon=True)
            self._threads.append(thread)
            thread.start()

    def stop(self) -> None:
        """Finish the batches at hand and stop.

        :raises Exception: what made a thread give up, if one did: the queue went away, the runtime does not start.
        """
        self._stopping.set()
        for thread in self._threads:
            thread.join()
        self.check()

    def check(self) -> None:
        """Raise what made a thread give up, if one did."""
        if self._failure is not None:
            raise self._failure

    def poll_once(self, environment: Invocable) -> int:
        """Receive one batch and work it off; return how many messages it had."""
        messages = self._receive()
        records = [record_of(message, self._source.queue.arn) for message in messages]
        for batch in within_payload_limit(records):
            self._work_off(environment, batch)
        return len(messages)

    def _run(self, environment: Invocable) -> None:
        while not self._stopping.is_set() and self._failure is None:
            try:
                if not self.poll_once(environment):
                    self._stopping.wait(_IDLE_SECONDS)
            except Exception as error:  # noqa: BLE001 - it is raised again in `check`, in the caller's thread
                self._failure = error

    def _receive(self) -> list[MessageTypeDef]:
        """Gather a batch: until it is full or, counted from its first message, the window has passed."""
        messages = self._receive_some(self._source.batch_size, 0)
        if messages and self._source.window:
            closes_at = self._clock() + self._source.window
            while len(messages) < self._source.batch_size and (left := closes_at - self._clock()) > 0:
                wait = min(_LONGEST_WAIT, max(1, round(left)))
                messages += self._receive_some(self._source.batch_size - len(messages), wait)
        self._count(received=len(messages))
        return messages

    def _receive_some(self, most: int, wait_seconds: int) -> list[MessageTypeDef]:
        answer = self._sqs.receive_message(
            QueueUrl=self._source.queue.url,
            MaxNumberOfMessages=min(most, _MOST_PER_CALL),
            WaitTimeSeconds=wait_seconds,
            MessageSystemAttributeNames=["All"],
            MessageAttributeNames=["All"],
        )
        return answer.get("Messages", [])

    def _work_off(self, environment: Invocable, batch: Sequence[Mapping[str, Any]]) -> None:
        self._count(invocations=1)
        try:
            answer = environment.invoke(event_of(batch))
            failed = self._failed(answer, batch)
        except InvocationError as error:
            self._count(**{error.kind: 1})
            return
        except MalformedAnswerError:
            self._count(malformed=1)
            return
        self._count(reported=len(failed))
        self._delete([record for record in batch if record["messageId"] not in failed])

    def _failed(self, answer: bytes, batch: Sequence[Mapping[str, Any]]) -> frozenset[str]:
        # Without ReportBatchItemFailures Lambda does not look at the answer.
        if not self._source.reports_failures:
            return frozenset()
        return failed_ids(answer, (record["messageId"] for record in batch))

    def _delete(self, records: Sequence[Mapping[str, Any]]) -> None:
        for start in range(0, len(records), _MOST_PER_CALL):
            some = records[start : start + _MOST_PER_CALL]
            answer = self._sqs.delete_message_batch(
                QueueUrl=self._source.queue.url,
                Entries=[{"Id": str(n), "ReceiptHandle": record["receiptHandle"]} for n, record in enumerate(some)],
            )
            # A handle that is no longer good belongs to a message whose visibility ended meanwhile: it comes again.
            self._count(deleted=len(answer.get("Successful", [])))

    def _count(self, **numbers: int) -> None:
        with self._lock:
            self._counts.update(numbers)
