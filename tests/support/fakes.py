"""The fakes that tests share: a virtual clock, Secrets Manager, a transport, a Lambda context; and builders of input.

All may be called from several threads.
"""

from __future__ import annotations

import json
import threading
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar, cast
from urllib.parse import parse_qs

from botocore.exceptions import ClientError

from completion_sync.clock import Deadline, Instant
from completion_sync.completion import Completion, read_completion
from completion_sync.credentials import Credentials
from completion_sync.pressure import Pressure
from completion_sync.resolution import Resolver
from completion_sync.retry import RetryPolicy
from completion_sync.sync import CompletionSync
from completion_sync.transport import Response
from tests.support.canaries import everything_about

if TYPE_CHECKING:
    from concurrent.futures import Executor

    from completion_sync.clock import Clock
    from completion_sync.people import People
    from completion_sync.recording import Recorder

T = TypeVar("T")

TENANT = "eu-west-2_AbcdEfghI"
CANARY = "canary-7f3a9c"
USER_ID = "646767d82535201223349e09"
CONTENT_ID = "64a1b2c3d4e5f6789abcdef0"
COMPLETED_AT = "2021-01-01T09:00:00Z"
QUEUE_ARN = "arn:aws:sqs:eu-west-2:123456789012:completions"

# Far longer than any thread of a test has to wait; only reached by a test that fails.
PATIENCE_SECONDS = 20.0


class FakeClock:
    """Both clocks, virtual. Nothing waits: ``sleep`` moves both at once, and is remembered in ``sleeps``."""

    def __init__(self, wall: float = 1_800_000_000.0, monotonic: float = 5_000.0) -> None:
        self._lock = threading.Lock()
        self._wall = wall
        self._monotonic = monotonic
        self.sleeps: list[float] = []

    def now(self) -> Instant:
        with self._lock:
            return Instant(self._wall, self._monotonic)

    def sleep(self, seconds: float) -> None:
        if seconds < 0:
            raise ValueError("sleep length must be non-negative")
        with self._lock:
            self.sleeps.append(seconds)
        before = self.now()
        self.advance(seconds)
        if seconds > 0 and self.now().monotonic == before.monotonic:
            self.advance(1e-6)  # the rest of a wait, too small to be added to a float of this size, would never pass

    def advance(self, seconds: float) -> None:
        assert seconds >= 0, "use step_wall to move a clock back"
        with self._lock:
            self._wall += seconds
            self._monotonic += seconds

    def freeze(self, seconds: float) -> None:
        """Freeze the execution environment: the wall clock moves on, the monotonic clock stands still."""
        assert seconds >= 0, "a freeze takes time"
        with self._lock:
            self._wall += seconds

    def step_wall(self, seconds: float) -> None:
        """Set the wall clock forward or back while no time passes."""
        with self._lock:
            self._wall += seconds


class Counts(Counter[str]):
    """A counter that can be passed as ``count``."""

    def __call__(self, metric: str) -> None:
        with _COUNTS_LOCK:
            self[metric] += 1


_COUNTS_LOCK = threading.Lock()


class FakeSecretsManager:
    """Holds one secret, which may be replaced, and fails on demand.

    Pass :meth:`client` where a factory of clients is expected. ``failure`` is raised by every read while it is set;
    ``on_read`` is called at the beginning of each read, in the reading thread.
    """

    def __init__(self, secret: str | None = None) -> None:
        self.secret: str | None = secret_text() if secret is None else secret
        self.binary: bytes | None = None
        self.failure: Exception | None = None
        self.on_read: Callable[[], None] = _nothing
        self.requests: list[dict[str, Any]] = []
        self.version = 1
        self._lock = threading.Lock()

    def client(self) -> Any:
        return self

    @property
    def reads(self) -> int:
        return len(self.requests)

    def rotate(self, secret: str) -> None:
        """Promote a new version to AWSCURRENT."""
        self.secret = secret
        self.version += 1

    def get_secret_value(self, **request: Any) -> dict[str, Any]:
        with self._lock:
            self.requests.append(request)
        self.on_read()
        if self.failure is not None:
            raise self.failure
        answer: dict[str, Any] = {
            "ARN": "arn:aws:secretsmanager:eu-west-2:123456789012:secret:thrive-AbCdEf",
            "Name": request["SecretId"],
            "VersionId": f"00000000-0000-4000-8000-{self.version:012d}",
            "VersionStages": ["AWSCURRENT"],
        }
        if self.binary is not None:
            return answer | {"SecretBinary": self.binary}
        return answer | {"SecretString": self.secret}


@dataclass(frozen=True)
class Request:
    """What a fake transport was asked to send."""

    path: str
    headers: Mapping[str, str]
    body: bytes
    timeout: float

    @property
    def form(self) -> dict[str, list[str]]:
        return parse_qs(self.body.decode("ascii"), keep_blank_values=True, strict_parsing=True)

    @property
    def json(self) -> Any:
        return json.loads(self.body)


# How a fake transport answers: with a response, an error to raise, or a function of the request.
Answer = Response | Exception | Callable[[Request], Response]


class FakeTransport:
    """Answers each request with the next answer of a script, and remembers the requests.

    A request beyond the end of the script fails the test, unless there is an answer for all further ones.
    """

    def __init__(self, *script: Answer, always: Answer | None = None) -> None:
        """:param always: the answer to every request after the end of the script."""
        self._script = list(script)
        self._always = always
        self._lock = threading.Lock()
        self.requests: list[Request] = []
        self.closed = 0

    def post(self, path: str, headers: Mapping[str, str], body: bytes, timeout: float) -> Response:
        """Answer as :class:`completion_sync.transport.Transport` does."""
        request = Request(path, dict(headers), body, timeout)
        with self._lock:
            self.requests.append(request)
            answer = self._script.pop(0) if self._script else self._always
        if answer is None:
            raise AssertionError(f"request {len(self.requests)}, to {path}, is one more than was expected")
        if isinstance(answer, Exception):
            raise answer
        return answer if isinstance(answer, Response) else answer(request)

    def close(self) -> None:
        self.closed += 1

    def then(self, *script: Answer) -> None:
        with self._lock:
            self._script.extend(script)


@dataclass
class FakeContext:
    """A Lambda context whose time runs out by a given clock."""

    clock: Clock
    seconds: float = 30.0
    aws_request_id: str = "00000000-0000-4000-8000-00000000c0de"
    function_name: str = "completion-sync"
    _ends: float = field(init=False)

    def __post_init__(self) -> None:
        self._ends = self.clock.now().monotonic + self.seconds

    def get_remaining_time_in_millis(self) -> int:
        return max(0, int((self._ends - self.clock.now().monotonic) * 1000))


def secret_fields(**changes: object) -> dict[str, object]:
    """Return the fields of a good secret; a field changed to None is left out."""
    fields: dict[str, object] = {"tenantId": TENANT, "clientSecret": CANARY}
    return {name: value for name, value in (fields | changes).items() if value is not None}


def secret_text(**changes: object) -> str:
    """Return the text of a good secret; a field changed to None is left out."""
    return json.dumps(secret_fields(**changes))


def credentials(**changes: object) -> Credentials:
    """Return the credentials in the secret that :func:`secret_text` returns."""
    return Credentials.parse(secret_text(**changes))


def json_response(status: int, fields: object, retry_after: str | None = None) -> Response:
    return Response(status, json.dumps(fields).encode(), retry_after)


def token_response(token: str = "token-1", expires_in: object = 3600, **changes: object) -> Response:
    """Return a token endpoint's good answer; a field changed to None is left out."""
    fields = {"access_token": token, "token_type": "Bearer", "expires_in": expires_in, "scope": "api/write"} | changes
    return json_response(200, {name: value for name, value in fields.items() if value is not None})


def client_error(code: str, status: int = 400, operation: str = "GetSecretValue") -> ClientError:
    """Return what boto3 raises if AWS answers with an error; its text quotes what must not be passed on."""
    return ClientError(
        {
            "Error": {"Code": code, "Message": f"{CANARY} is quoted here"},
            "ResponseMetadata": {
                "HTTPStatusCode": status,
                "RequestId": "00000000-0000-4000-8000-0000000000e0",
                "HostId": "",
                "HTTPHeaders": {},
                "RetryAttempts": 0,
            },
        },
        operation,
    )


def completion_fields(**changes: object) -> dict[str, object]:
    """Return the fields of a good completion; a field changed to None is left out."""
    fields: dict[str, object] = {"userId": USER_ID, "contentId": CONTENT_ID, "completedAt": COMPLETED_AT}
    return {name: value for name, value in (fields | changes).items() if value is not None}


def completion(**changes: object) -> Completion:
    read = read_completion(completion_fields(**changes))
    assert isinstance(read, Completion)
    return read


def body(**changes: object) -> str:
    return json.dumps(completion_fields(**changes))


def eventbridge_event(detail: object = None, **changes: object) -> dict[str, Any]:
    """Return an EventBridge event around a completion's fields; a field changed to None is left out."""
    fields: dict[str, Any] = {
        "version": "0",
        "id": "7bf73129-1428-4cd3-a780-95db273d1602",
        "detail-type": "Completion",
        "source": "learning.example",
        "account": "123456789012",
        "time": "2021-01-01T10:00:00Z",
        "region": "eu-west-2",
        "resources": [],
        "detail": completion_fields() if detail is None else detail,
    } | changes
    return {name: value for name, value in fields.items() if value is not None}


def sns_notification(message: object, **changes: object) -> dict[str, Any]:
    """Return an SNS notification, as SNS sends it to a queue without raw delivery, around a text or an object."""
    fields: dict[str, Any] = {
        "Type": "Notification",
        "MessageId": "22b80b92-fdea-4c2c-8f9d-bdfb0c7bf324",
        "TopicArn": "arn:aws:sns:eu-west-2:123456789012:completions",
        "Message": message if isinstance(message, str) else json.dumps(message),
        "Timestamp": "2021-01-01T10:00:00.000Z",
        "SignatureVersion": "1",
        "Signature": "EXAMPLE",
        "SigningCertURL": "https://sns.eu-west-2.amazonaws.com/certificate.pem",
        "UnsubscribeURL": "https://sns.eu-west-2.amazonaws.com/?Action=Unsubscribe",
    } | changes
    return {name: value for name, value in fields.items() if value is not None}


def sqs_record(
    text: object = None,
    *,
    message_id: str = "message-1",
    receive_count: int = 1,
    group: str | None = None,
    queue_arn: str = QUEUE_ARN,
    **changes: object,
) -> dict[str, Any]:
    """Return an SQS record as Lambda passes it to a function.

    :param text: the body; an object becomes JSON, and a completion is the default.
    :param group: the message group, which makes the queue a FIFO queue.
    """
    attributes = {
        "ApproximateReceiveCount": str(receive_count),
        "SentTimestamp": "1609491600000",
        "SenderId": "AROAEXAMPLE:producer",
        "ApproximateFirstReceiveTimestamp": "1609491600123",
    }
    if group is not None:
        attributes |= {"MessageGroupId": group, "SequenceNumber": "18867400000000000051"}
        queue_arn = queue_arn if queue_arn.endswith(".fifo") else f"{queue_arn}.fifo"
    return {
        "messageId": message_id,
        "receiptHandle": f"receipt-of-{message_id}",
        "body": body() if text is None else text if isinstance(text, str) else json.dumps(text),
        "attributes": attributes,
        "messageAttributes": {},
        "md5OfBody": "0" * 32,
        "eventSource": "aws:sqs",
        "eventSourceARN": queue_arn,
        "awsRegion": "eu-west-2",
    } | changes


def sqs_event(*records: dict[str, Any]) -> dict[str, Any]:
    return {"Records": list(records)}


def memory_of(seconds: float) -> list[tuple[str, float, bool]]:
    """Return test cases for what is remembered for ``seconds``: how a clock moves, how far, whether it still holds."""
    moves = [("advance", 0.0), ("advance", seconds - 1e-6), ("advance", seconds), ("freeze", seconds)]
    return [*((how, far, far < seconds) for how, far in moves), ("step_wall", -0.5, False)]


def far_deadline(clock: Clock) -> Deadline:
    """Return a deadline that no test reaches."""
    return Deadline(clock, 1e9)


def pressure(clock: Clock, **options: Any) -> Pressure:
    """Return the pressure of completions on a clock, without jitter: each random wait is the longest possible."""
    defaults: dict[str, Any] = {"count": Counts(), "announce": _ignore, "uniform": lambda _shortest, longest: longest}
    return Pressure("completions", clock, **(defaults | options))


def sync_of(
    recorder: Recorder,
    completions: Pressure,
    executor: Callable[[], Executor],
    clock: Clock,
    *,
    counts: Counts | None = None,
    unexpected: Callable[[Exception], None] | None = None,
) -> CompletionSync:
    """Return an engine without randomness for completions in Thrive's own ids: it can look nothing up."""
    return CompletionSync(
        recorder,
        Resolver(cast("People", None), None),
        RetryPolicy(clock, lambda _shortest, longest: longest),
        completions,
        pressure(clock),
        0.0,
        executor,
        clock,
        Counts() if counts is None else counts,
        unexpected or _fail,
    )


def in_threads(count: int, work: Callable[[int], T]) -> list[T | Exception]:
    """Run ``work`` with 0, 1, … in ``count`` threads that start together; return what each returned or raised."""
    results: list[T | Exception | None] = [None] * count
    start = threading.Barrier(count)

    def run(index: int) -> None:
        start.wait(PATIENCE_SECONDS)
        try:
            results[index] = work(index)
        except Exception as error:  # noqa: BLE001 - the test looks at it
            results[index] = error

    threads = [threading.Thread(target=run, args=(index,), daemon=True) for index in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE_SECONDS)
    assert not any(thread.is_alive() for thread in threads), "a thread hangs"
    return results


def texts_of(error: BaseException) -> str:
    """Return everything that a careless log could show of an error, what ``from None`` hides excepted."""
    return everything_about(error, suppressed=False)


def holds_any(text: str, canaries: Sequence[str]) -> list[str]:
    return [canary for canary in canaries if canary in text]


def _nothing() -> None:
    return None


def _ignore(_text: str) -> None:
    return None


def _fail(error: Exception) -> None:
    raise AssertionError("unexpected") from error
