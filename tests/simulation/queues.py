"""Simulated SQS: the source queue, and the client that the function calls.

Modelled: visibility, receive counts and receipts; at-least-once duplicates and any order on a standard queue (whose
messages may bear a group, which means nothing there), order by group on a FIFO queue; the limit on messages in flight;
redrive after ``maxReceiveCount`` receives; the limits of batch calls; calls that fail as a whole, in part, after having
worked, or by hanging; twelve hours of invisibility at most.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError, EndpointConnectionError, ReadTimeoutError

from .scenario import MARKER, VISIBILITY

if TYPE_CHECKING:
    from collections.abc import Callable

    from .lambdas import Environment
    from .world import World

ENDPOINT = "https://sqs.eu-west-2.amazonaws.com"
SUFFIX = {True: ".fifo", False: ""}
MAX_INVISIBLE = 43_200


@dataclass(eq=False)
class Stored:
    id: str
    body: str
    sent_at: float
    visible_at: float
    group: str | None = None
    receives: int = 0
    first_received: float | None = None
    received_at: float = 0.0
    receipt: str = ""


class Queue:
    """The source queue."""

    def __init__(self, world: World) -> None:
        scenario = world.scenario
        self.fifo = scenario.fifo
        self.name = f"completions{SUFFIX[self.fifo]}"
        self.arn = f"arn:aws:sqs:eu-west-2:123456789012:{self.name}"
        self.url = f"{ENDPOINT}/123456789012/{self.name}"
        self.stored: list[Stored] = []
        self.redriven: list[Stored] = []
        self._world = world
        self._max_receive_count = scenario.max_receive_count
        self._limit = scenario.queue_limit
        self._count = 0

    def send(self, body: str, *, group: str | None = None, delay: float = 0.0) -> Stored:
        self._count += 1
        now = self._world.kernel.now
        message = Stored(f"{self.name}-{self._count:04d}", body, now, now + delay, group)
        self.stored.append(message)
        return message

    def receive(self, most: int) -> list[Stored]:
        """Hand out messages, each with one more receive and a new receipt; none while too many are in flight."""
        rng, now = self._world.rng, self._world.kernel.now
        chosen: list[Stored] = []
        most = int(min(most, self._limit - sum(self._is_in_flight(message) for message in self.stored)))
        for message in self._candidates():
            if message.receives >= self._max_receive_count:
                self._redrive(message)
            elif len(chosen) < most:
                message.receives += 1
                message.receipt = f"{message.id}/{message.receives}"
                message.received_at = now
                message.first_received = now if message.first_received is None else message.first_received
                # At least once: now and then a second consumer receives it too.
                twice = not self.fifo and rng.random() < self._world.noise("duplicate")
                message.visible_at = now + (rng.uniform(0.0, 5.0) if twice else VISIBILITY)
                chosen.append(message)
        return chosen

    def _candidates(self) -> list[Stored]:
        now = self._world.kernel.now
        if not self.fifo:
            visible = [message for message in self.stored if message.visible_at <= now]
            self._world.rng.shuffle(visible)
            return visible
        # None of a group of which one is in flight. `stored` is in order of sending, and only its head is looked at.
        held = {message.group for message in self.stored if message.visible_at > now}
        head = self.stored[: None if self._limit == float("inf") else int(self._limit)]
        return [message for message in head if message.group not in held]

    def _is_in_flight(self, message: Stored) -> bool:
        return message.receives > 0 and message.visible_at > self._world.kernel.now

    def _redrive(self, message: Stored) -> None:
        self.stored.remove(message)
        self.redriven.append(message)
        self._world.trace("redriven", message.id, message.receives)

    def delete(self, message: Stored, receipt: str) -> None:
        """Delete by receipt; an old receipt deletes nothing."""
        if message not in self.stored or message.receipt != receipt:
            return
        self.stored.remove(message)
        if not self.fifo and self._world.rng.random() < self._world.noise("resurrected"):
            # A replica that had missed the deletion delivers it once more.
            message.visible_at = self._world.kernel.now + self._world.rng.uniform(0.0, 60.0)
            self.stored.append(message)

    def change_visibility(self, receipt: str, seconds: int) -> str | None:
        now = self._world.kernel.now
        message = next((message for message in self.stored if message.receipt == receipt), None)
        if message is None:
            return "ReceiptHandleIsInvalid"
        if message.visible_at <= now:
            return "MessageNotInflight"
        self._world.watch.postponed(message, seconds)
        if not 0 <= seconds <= MAX_INVISIBLE or now - message.received_at + seconds > MAX_INVISIBLE:
            self._world.violate(f"visibility of {seconds} s, {now - message.received_at:.0f} s after the receive")
            return "InvalidParameterValue"
        message.visible_at = now + seconds
        return None


class SqsClient:
    """What boto3's client for SQS does, in one execution environment."""

    meta = SimpleNamespace(endpoint_url=ENDPOINT)

    def __init__(self, world: World, environment: Environment) -> None:
        self._world = world
        self._environment = environment

    def change_message_visibility_batch(self, *, QueueUrl: str, Entries: list[dict[str, Any]]) -> dict[str, Any]:  # noqa: N803
        assert QueueUrl == self._world.source.url

        def change(entry: dict[str, Any]) -> str | None:
            return self._world.source.change_visibility(entry["ReceiptHandle"], entry["VisibilityTimeout"])

        self._world.watch.postpone_attempted(self._environment, [entry["ReceiptHandle"] for entry in Entries])
        return self._batch("ChangeMessageVisibilityBatch", Entries, change)

    def send_message_batch(self, *, QueueUrl: str, Entries: list[dict[str, Any]]) -> dict[str, Any]:  # noqa: N803
        assert QueueUrl == self._world.dead_letters_url

        def send(entry: dict[str, Any]) -> str | None:
            attributes = {name: value["StringValue"] for name, value in entry["MessageAttributes"].items()}
            if self._world.source.fifo and not (entry.get("MessageGroupId") and entry.get("MessageDeduplicationId")):
                return "MissingParameter"
            self._world.watch.dead_lettered(entry["MessageBody"], attributes)
            return None

        return self._batch("SendMessageBatch", Entries, send)

    def send_message(self, *, QueueUrl: str, MessageBody: str, DelaySeconds: int) -> dict[str, Any]:  # noqa: N803
        assert QueueUrl == self._world.source.url

        def send() -> None:
            sent = self._world.watch.requeued(MessageBody)
            stored = self._world.source.send(MessageBody, delay=DelaySeconds)
            self._world.watch.sent_of[stored.id] = sent
            self._world.poller.look()

        self._call("SendMessage", send)
        return {"MessageId": "sent"}

    def _batch(
        self, operation: str, entries: list[dict[str, Any]], effect: Callable[[dict[str, Any]], str | None]
    ) -> dict[str, Any]:
        if not 0 < len(entries) <= 10 or len({entry["Id"] for entry in entries}) != len(entries):
            self._world.violate(f"{operation} with {len(entries)} entries")
        answer: dict[str, Any] = {"Successful": [], "Failed": []}

        def change() -> None:
            for entry in entries:
                fails = self._world.rng.random() < self._world.noise("queue-entry-fails")
                code = "InternalError" if fails else effect(entry)
                if code is None:
                    answer["Successful"].append({"Id": entry["Id"]})
                else:
                    answer["Failed"].append({"Id": entry["Id"], "Code": code, "SenderFault": False, "Message": MARKER})

        self._call(operation, change)
        self._world.trace(operation, self._environment.name, len(answer["Successful"]), len(answer["Failed"]))
        return {name: listed for name, listed in answer.items() if listed}

    def _call(self, operation: str, effect: Callable[[], None]) -> None:
        """Let a call take time, and fail as calls do."""
        world = self._world
        world.kernel.switch()
        world.kernel.sleep(world.rng.uniform(0.005, 0.05))
        if world.rng.random() < world.noise("queue-hangs"):
            # Two attempts of three seconds each, as boto3 is configured.
            world.kernel.sleep(6.0)
            raise ReadTimeoutError(endpoint_url=f"{ENDPOINT}/{MARKER}")
        if world.trouble("queues") or world.rng.random() < world.noise("queue-fails"):
            raise world.rng.choice((_error(operation), EndpointConnectionError(endpoint_url=f"{ENDPOINT}/{MARKER}")))
        effect()
        if world.rng.random() < world.noise("queue-after"):
            raise ReadTimeoutError(endpoint_url=f"{ENDPOINT}/{MARKER}")
        world.kernel.switch()


def _error(operation: str) -> ClientError:
    answer = {"Error": {"Code": "ServiceUnavailable", "Message": MARKER}, "ResponseMetadata": {"HTTPStatusCode": 503}}
    return ClientError(answer, operation)
