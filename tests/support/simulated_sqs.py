"""SQS as AWS documents it, in memory and on a virtual clock, behind the methods of boto3's client.

Modelled, with the page of Amazon SQS's developer guide: visibility timeouts and messages in flight ("Visibility
timeout"), a new receipt handle for each receive ("Queue and message identifiers"), order and locked groups of FIFO
queues ("FIFO delivery logic"), deduplication for five minutes ("Exactly-once processing"), the limits of batch calls.
Every request and answer is checked against botocore's own model of the service.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import botocore.session
from botocore.validate import ParamValidator

if TYPE_CHECKING:
    from collections.abc import Callable

    from completion_sync.clock import Clock

ENDPOINT = "https://sqs.eu-west-2.amazonaws.com/123456789012"
MAX_IN_FLIGHT = 120_000
DEDUPLICATION_SECONDS = 300
_MODEL = botocore.session.get_session().get_service_model("sqs")


@dataclass
class Stored:
    id: str
    body: str
    sent: float
    visible_at: float
    group: str | None
    attributes: dict[str, Any]
    receives: int = 0
    receipt: str = ""


@dataclass
class SimulatedQueue:
    url: str
    messages: list[Stored] = field(default_factory=list)
    deduplicated: dict[str, tuple[float, str]] = field(default_factory=dict)

    @property
    def is_fifo(self) -> bool:
        return self.url.endswith(".fifo")


class SimulatedSqs:
    """A client. ``before`` and ``after`` are called with operation and request, and may raise.

    ``before`` raises before anything happened, ``after`` when it has: the answer is lost. ``refuses`` names the error
    code with which a batch entry fails, or None.
    """

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.queues: dict[str, SimulatedQueue] = {}
        self.calls: list[tuple[str, dict[str, Any]]] = []
        self.before: Callable[[str, dict[str, Any]], None] = lambda _operation, _request: None
        self.after: Callable[[str, dict[str, Any]], None] = lambda _operation, _request: None
        self.refuses: Callable[[str, dict[str, Any]], str | None] = lambda _operation, _entry: None
        self._numbers = itertools.count(1)

    def create(self, name: str) -> SimulatedQueue:
        """Create a queue; a FIFO queue's name ends in ``.fifo``."""
        queue = self.queues[f"{ENDPOINT}/{name}"] = SimulatedQueue(f"{ENDPOINT}/{name}")
        return queue

    def put(self, queue: SimulatedQueue, body: str, *, group: str | None = None, **attributes: str) -> Stored:
        """Put a message into a queue without a call."""
        typed = {name: {"DataType": "String", "StringValue": value} for name, value in attributes.items()}
        now = self.clock.now().wall
        message = Stored(f"m-{next(self._numbers):05d}", body, now, now, group, typed)
        queue.messages.append(message)
        return message

    def in_flight(self, queue: SimulatedQueue) -> list[Stored]:
        """Return the messages that are hidden from readers."""
        return [message for message in queue.messages if message.visible_at > self.clock.now().wall]

    def of(self, operation: str) -> list[dict[str, Any]]:
        return [request for name, request in self.calls if name == operation]

    def get_queue_attributes(self, **request: Any) -> Any:
        def answer(queue: SimulatedQueue) -> dict[str, Any]:
            hidden = len(self.in_flight(queue))
            return {
                "Attributes": {
                    "ApproximateNumberOfMessages": str(len(queue.messages) - hidden),
                    "ApproximateNumberOfMessagesNotVisible": str(hidden),
                    "ApproximateNumberOfMessagesDelayed": "0",
                }
            }

        return self._call("GetQueueAttributes", request, answer)

    def receive_message(self, **request: Any) -> Any:
        def answer(queue: SimulatedQueue) -> dict[str, Any]:
            chosen = self._choose(queue, request["MaxNumberOfMessages"])
            if not chosen:
                self.clock.sleep(request["WaitTimeSeconds"])
                chosen = self._choose(queue, request["MaxNumberOfMessages"])
            for message in chosen:
                message.receives += 1
                message.receipt = f"{message.id}/{message.receives}"
                message.visible_at = self.clock.now().wall + request["VisibilityTimeout"]
            return {"Messages": [_received(message) for message in chosen]} if chosen else {}

        return self._call("ReceiveMessage", request, answer)

    def send_message_batch(self, **request: Any) -> Any:
        def send(queue: SimulatedQueue, entry: dict[str, Any]) -> dict[str, Any]:
            now = self.clock.now().wall
            if queue.is_fifo:
                key = entry["MessageDeduplicationId"]
                since, known = queue.deduplicated.get(key, (float("-inf"), ""))
                if now - since < DEDUPLICATION_SECONDS:
                    return {"MessageId": known, "MD5OfMessageBody": ""}
            message = self.put(queue, entry["MessageBody"], group=entry.get("MessageGroupId"))
            if queue.is_fifo:
                queue.deduplicated[key] = (now, message.id)
            return {"MessageId": message.id, "MD5OfMessageBody": ""}

        return self._batch("SendMessageBatch", request, send)

    def delete_message_batch(self, **request: Any) -> Any:
        def delete(queue: SimulatedQueue, entry: dict[str, Any]) -> dict[str, Any]:
            # With an older handle the call succeeds, but need not delete anything.
            queue.messages = [message for message in queue.messages if message.receipt != entry["ReceiptHandle"]]
            return {}

        return self._batch("DeleteMessageBatch", request, delete)

    def change_message_visibility_batch(self, **request: Any) -> Any:
        def change(queue: SimulatedQueue, entry: dict[str, Any]) -> dict[str, Any] | str:
            now = self.clock.now().wall
            for message in queue.messages:
                if message.receipt == entry["ReceiptHandle"]:
                    if message.visible_at <= now:
                        return "MessageNotInflight"
                    message.visible_at = now + entry["VisibilityTimeout"]
                    return {}
            return "ReceiptHandleIsInvalid"

        return self._batch("ChangeMessageVisibilityBatch", request, change)

    def _choose(self, queue: SimulatedQueue, most: int) -> list[Stored]:
        now = self.clock.now().wall
        hidden = self.in_flight(queue)
        locked = {message.group for message in hidden} if queue.is_fifo else set()
        free = [m for m in queue.messages if m.visible_at <= now and m.group not in locked]
        return free[: max(0, min(most, MAX_IN_FLIGHT - len(hidden)))]

    def _batch(
        self,
        operation: str,
        request: dict[str, Any],
        effect: Callable[[SimulatedQueue, dict[str, Any]], dict[str, Any] | str],
    ) -> Any:
        entries = request["Entries"]
        assert 0 < len(entries) <= 10, "SQS refuses the whole call"
        assert len({entry["Id"] for entry in entries}) == len(entries), "SQS refuses the whole call"
        assert sum(len(entry.get("MessageBody", "").encode()) for entry in entries) <= 1_048_576

        def answer(queue: SimulatedQueue) -> dict[str, Any]:
            lists: dict[str, list[dict[str, Any]]] = {"Successful": [], "Failed": []}
            for entry in entries:
                result = self.refuses(operation, entry) or effect(queue, entry)
                if isinstance(result, str):
                    is_theirs = result not in {"InternalError", "ServiceUnavailable"}
                    lists["Failed"].append({"Id": entry["Id"], "Code": result, "SenderFault": is_theirs})
                else:
                    lists["Successful"].append({"Id": entry["Id"], **result})
            return lists

        return self._call(operation, request, answer)

    def _call(
        self, operation: str, request: dict[str, Any], answer: Callable[[SimulatedQueue], dict[str, Any]]
    ) -> dict[str, Any]:
        model: Any = _MODEL.operation_model(operation)
        report = ParamValidator().validate(request, model.input_shape)
        assert not report.has_errors(), report.generate_report()
        self.calls.append((operation, request))
        self.before(operation, request)
        result = answer(self.queues[request["QueueUrl"]])
        unknown = result.keys() - model.output_shape.members.keys()
        assert not unknown, f"{operation} does not answer with {unknown}"
        self.after(operation, request)
        # SQS leaves an empty list out.
        return {name: value for name, value in result.items() if value}


def _received(message: Stored) -> dict[str, Any]:
    system = {
        "SentTimestamp": str(int(message.sent * 1000)),
        "ApproximateReceiveCount": str(message.receives),
        **({"MessageGroupId": message.group} if message.group else {}),
    }
    return {
        "MessageId": message.id,
        "Body": message.body,
        "ReceiptHandle": message.receipt,
        "Attributes": system,
        "MessageAttributes": message.attributes,
    }
