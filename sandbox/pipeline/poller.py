"""The poller: Lambda's event source mapping for SQS, by AWS's rules."""

from __future__ import annotations

import threading
from collections import Counter
from typing import TYPE_CHECKING, Any, Protocol

from sandbox.pipeline.batches import MalformedAnswerError, failed_ids, record_of
from sandbox.pipeline.runtime import InvocationError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from mypy_boto3_sqs import SQSClient

    from sandbox.pipeline.stack import EventSource

# SQS's limit for one receive and for one batch of deletes.
_MAX_PER_CALL = 10
# Lambda uses a long poll. A short one with a pause amounts to the same, and the poller can stop at any time.
_IDLE_SECONDS = 0.1


class Invocable(Protocol):
    """An execution environment."""

    def invoke(self, event: Mapping[str, Any]) -> bytes:
        """Return the function's answer. :raises InvocationError: there is none."""
        ...


class Poller:
    """Polls one queue for a pool of execution environments, with one thread per environment, as Lambda does.

    It receives a batch, invokes the function, and deletes exactly the messages that the answer does not report as
    failed. Without an answer, or with a malformed one, it deletes nothing: the messages become visible again, and the
    queue moves them to the dead-letter queue after too many receives. The order within a FIFO message group is kept by
    the queue, which holds a group back while messages of it are in flight. There is no batching window, and a batch is
    not split at Lambda's payload limit of 6 MB.

    `counts` holds `invocations`, `received`, `deleted`, `reported`, and failed invocations by kind (`error`, `timeout`,
    `exit`, `malformed`). `handles` holds the latest receipt handle of each message, by its id.
    """

    def __init__(self, sqs: SQSClient, source: EventSource, environments: Sequence[Invocable]) -> None:
        """Set up without starting. Environments beyond the mapping's maximum concurrency stay idle."""
        self._sqs = sqs
        self._source = source
        self._environments = environments[: source.maximum_concurrency]
        self._stopping = threading.Event()
        self._threads: list[threading.Thread] = []
        self._lock = threading.Lock()
        self._counts: Counter[str] = Counter()
        self.handles: dict[str, str] = {}
        self._failure: Exception | None = None

    @property
    def counts(self) -> Counter[str]:
        """What has happened so far."""
        with self._lock:
            return self._counts.copy()

    def start(self) -> None:
        """Start polling, in threads."""
        for number, environment in enumerate(self._environments, 1):
            thread = threading.Thread(target=self._run, args=(environment,), name=f"poller-{number}", daemon=True)
            self._threads.append(thread)
            thread.start()

    def stop(self) -> None:
        """Finish the batches in progress and stop.

        :raises Exception: what ended a thread early: the queue is gone, or the runtime does not start.
        """
        self._stopping.set()
        for thread in self._threads:
            thread.join()
        self.check()

    def check(self) -> None:
        """Raise the exception that ended a thread early, if there was one."""
        if self._failure is not None:
            raise self._failure

    def poll_once(self, environment: Invocable) -> int:
        """Receive and process one batch; return the number of messages in it."""
        messages = self._sqs.receive_message(
            QueueUrl=self._source.queue.url,
            MaxNumberOfMessages=min(self._source.batch_size, _MAX_PER_CALL),
            WaitTimeSeconds=0,
            MessageSystemAttributeNames=["All"],
            MessageAttributeNames=["All"],
        ).get("Messages", [])
        self._count(received=len(messages))
        self.handles.update({message["MessageId"]: message["ReceiptHandle"] for message in messages})
        if messages:
            self._process(environment, [record_of(message, self._source.queue.arn) for message in messages])
        return len(messages)

    def _run(self, environment: Invocable) -> None:
        while not self._stopping.is_set() and self._failure is None:
            try:
                if not self.poll_once(environment):
                    self._stopping.wait(_IDLE_SECONDS)
            except Exception as error:  # noqa: BLE001 - `check` raises it again, in the caller's thread
                self._failure = error

    def _process(self, environment: Invocable, batch: Sequence[Mapping[str, Any]]) -> None:
        self._count(invocations=1)
        try:
            answer = environment.invoke({"Records": batch})
            # Without ReportBatchItemFailures Lambda does not read the answer.
            ids = [record["messageId"] for record in batch]
            failed = failed_ids(answer, ids) if self._source.reports_failures else frozenset()
        except InvocationError as error:
            self._count(**{error.kind: 1})
            return
        except MalformedAnswerError:
            self._count(malformed=1)
            return
        self._count(reported=len(failed))
        done = [record for record in batch if record["messageId"] not in failed]
        if done:
            answer_to_delete = self._sqs.delete_message_batch(
                QueueUrl=self._source.queue.url,
                Entries=[{"Id": str(n), "ReceiptHandle": record["receiptHandle"]} for n, record in enumerate(done)],
            )
            # SQS refuses the handle of a message that became visible meanwhile. That message comes again.
            self._count(deleted=len(answer_to_delete.get("Successful", [])))

    def _count(self, **numbers: int) -> None:
        with self._lock:
            self._counts.update(numbers)
