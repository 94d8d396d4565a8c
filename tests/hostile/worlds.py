"""The whole function, from the event to the answer, in a world of fakes that remembers everything that left it.

:class:`World` answers at the transport; :class:`WireWorld` answers below it, byte by byte: urllib3, http.client and the
real transport read what a test says that the wire carried. Both can be used for thousands of cases, one after another.
"""

from __future__ import annotations

import contextlib
import functools
import io
import itertools
import json
import logging
import re
import threading
from concurrent.futures import Executor, Future
from dataclasses import dataclass
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Self
from unittest import mock

from urllib3.connectionpool import HTTPConnectionPool

from completion_sync import bootstrap, handler
from completion_sync.settings import Settings
from completion_sync.transport import Response, _DeadlineHTTPConnection
from tests.support.fakes import FakeClock, FakeContext, FakeSecretsManager, Request, json_response, token_response

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from completion_sync.bootstrap import Application

DLQ_URL = "https://sqs.eu-west-2.amazonaws.com/123456789012/dead-letters"
RETRY_URL = "https://sqs.eu-west-2.amazonaws.com/123456789012/retries"
TOKEN_ROUTE, COMPLETION_ROUTE = "token", "completion"

# What SQS refuses in a body or in an attribute: https://docs.aws.amazon.com/AWSSimpleQueueService, SendMessage.
_REFUSED_BY_SQS = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_SQS_MAX_BYTES = 1_048_576
_numbers = itertools.count()


class FakeSqs:
    """SQS as far as the function uses it, with the rules by which the real one refuses.

    ``failure`` is raised by every call while it is set; ``failed`` are entries that every batch call fails with.
    """

    meta = SimpleNamespace(endpoint_url="https://sqs.eu-west-2.amazonaws.com")

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.clear()

    def clear(self) -> None:
        """Forget everything."""
        self.failure: Exception | None = None
        self.failed: dict[str, str] | None = None
        self.calls: list[tuple[str, dict[str, Any]]] = []
        self.dead_letters: list[dict[str, Any]] = []
        self.retries: list[dict[str, Any]] = []
        self.timeouts: dict[str, int] = {}

    def client(self) -> Any:
        """Give the client."""
        return self

    def _arrive(self, operation: str, request: dict[str, Any]) -> None:
        with self._lock:
            self.calls.append((operation, request))
        if self.failure is not None:
            raise self.failure

    def send_message_batch(self, **request: Any) -> dict[str, Any]:
        """Take up to ten dead letters."""
        self._arrive("send_message_batch", request)
        entries = request["Entries"]
        assert request["QueueUrl"] == DLQ_URL
        assert 1 <= len(entries) <= 10
        answer: dict[str, Any] = {"Successful": [], "Failed": []}
        for entry in entries:
            if self.failed is not None:
                answer["Failed"].append({"Id": entry["Id"], "SenderFault": True, **self.failed})
            elif _acceptable(entry["MessageBody"], entry["MessageAttributes"]):
                answer["Successful"].append({"Id": entry["Id"]})
                with self._lock:
                    self.dead_letters.append(entry)
            else:
                answer["Failed"].append({"Id": entry["Id"], "Code": "InvalidMessageContents"})
        return answer

    def change_message_visibility_batch(self, **request: Any) -> dict[str, Any]:
        """Put up to ten messages off."""
        self._arrive("change_message_visibility_batch", request)
        assert 1 <= len(request["Entries"]) <= 10
        with self._lock:
            for entry in request["Entries"]:
                assert isinstance(entry["VisibilityTimeout"], int)
                assert 0 <= entry["VisibilityTimeout"] <= 43_200
                self.timeouts[entry["ReceiptHandle"]] = entry["VisibilityTimeout"]
        if self.failed is not None:
            return {"Failed": [{"Id": entry["Id"], **self.failed} for entry in request["Entries"]]}
        return {"Successful": [{"Id": entry["Id"]} for entry in request["Entries"]]}

    def send_message(self, **request: Any) -> dict[str, Any]:
        """Take one event that is to be tried again."""
        self._arrive("send_message", request)
        assert request["QueueUrl"] == RETRY_URL
        assert 0 <= request["DelaySeconds"] <= 900
        if not _acceptable(request["MessageBody"], {}):
            raise ValueError("InvalidMessageContents")
        self.retries.append(request)
        return {"MessageId": "1"}


def _acceptable(body: str, attributes: Mapping[str, Mapping[str, str]]) -> bool:
    values = [attribute["StringValue"] for attribute in attributes.values()]
    assert len(attributes) <= 10
    assert all(values), "SQS takes no empty attribute"
    if not body or any(_REFUSED_BY_SQS.search(text) for text in (body, *values)):
        return False
    size = len(body.encode()) + sum(
        len(name) + len("String") + len(attribute["StringValue"].encode()) for name, attribute in attributes.items()
    )
    return size <= _SQS_MAX_BYTES


class Thrive:
    """Thrive at the transport: it keeps records, and answers as it should unless ``answer`` says otherwise."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.clear()

    def clear(self) -> None:
        """Forget everything."""
        self.answer: Callable[[str, Request], Response | None] = lambda _route, _request: None
        self.requests: list[Request] = []
        self.ledger: dict[tuple[str, str, str], str] = {}

    def post(self, path: str, headers: Mapping[str, str], body: bytes, timeout: float) -> Response:
        """Answer as :class:`completion_sync.transport.Transport` does."""
        request = Request(path, dict(headers), body, timeout)
        with self._lock:
            self.requests.append(request)
            route = TOKEN_ROUTE if path.startswith("/oauth2/token/") else COMPLETION_ROUTE
            if (response := self.answer(route, request)) is not None:
                return response
            return token_response() if route == TOKEN_ROUTE else self._record(request)

    def _record(self, request: Request) -> Response:
        fields = request.json
        assert sorted(fields) == ["completedAt", "contentId", "userId"]
        assert all(isinstance(value, str) for value in fields.values())
        assert request.headers["Content-Type"] == "application/json"
        key = fields["userId"], fields["contentId"], fields["completedAt"]
        status = 200 if key in self.ledger else 201
        statement = self.ledger.setdefault(key, f"statement-{len(self.ledger) + 1}")
        return json_response(status, {"statementId": statement})

    def close(self) -> None:
        """Nothing is open."""


class InlineExecutor(Executor):
    """Does the work at once, in the calling thread: one order, and no threads for thousands of worlds."""

    def __init__(self, *_arguments: object, **_options: object) -> None:
        pass

    def submit(self, function: Callable[..., Any], /, *arguments: Any, **options: Any) -> Future[Any]:
        """Do it."""
        future: Future[Any] = Future()
        try:
            future.set_result(function(*arguments, **options))
        except Exception as error:  # noqa: BLE001 - a future keeps it
            future.set_exception(error)
        return future


@dataclass
class Seen:
    """What one invocation did: the answer or the error, and the log and the metrics, line by line."""

    answer: Any = None
    error: Exception | None = None
    output: str = ""

    @functools.cached_property
    def lines(self) -> list[dict[str, Any]]:
        """The log and the metrics, read."""
        return [json.loads(line) for line in self.output.splitlines()]

    @property
    def messages(self) -> dict[str, dict[str, Any]]:
        """The log's line for each message, by its id."""
        return {line["message_id"]: line for line in self.lines if "message_id" in line}

    @property
    def outcomes(self) -> dict[str, tuple[str, str | None]]:
        """Outcome and reason of each message, as logged."""
        return {name: (line["outcome"], line.get("reason")) for name, line in self.messages.items()}


class World:
    """The function on fakes. Use it as a context manager; :meth:`fresh` forgets what one case left behind."""

    def __init__(self, *, threads: bool = False, **variables: str) -> None:
        """:param threads: work in threads as the function does, not in the caller's."""
        self.clock = FakeClock()
        self.secrets = FakeSecretsManager()
        self.sqs = FakeSqs()
        self.thrive: Any = self._thrive()
        self._out = io.StringIO()
        self._stack = contextlib.ExitStack()
        self._threads = threads
        self.variables = {
            "THRIVE_SECRET_ID": "thrive",
            "THRIVE_BASE_URL": "http://127.0.0.1:9",
            "DEAD_LETTER_QUEUE_URL": DLQ_URL,
            "RETRY_QUEUE_URL": RETRY_URL,
            # Loggers are known by their names for the life of a process: a name of one's own is a logger of one's own.
            "POWERTOOLS_SERVICE_NAME": f"hostile-{next(_numbers)}",
        } | variables
        self.application: Application = self._build()

    def _thrive(self) -> Any:
        return Thrive()

    def _patches(self) -> list[Any]:
        return [mock.patch.object(bootstrap, "_transport", return_value=self.thrive)]

    def _clients(self) -> dict[str, Any]:
        return {"secrets": self.secrets.client, "sqs": self.sqs.client}

    def _build(self) -> Application:
        with contextlib.ExitStack() as patched, contextlib.redirect_stdout(self._out):
            for patch in self._patches():
                patched.enter_context(patch)
            application = bootstrap.build(
                Settings.from_env(self.variables),
                clock=self.clock,
                **self._clients(),
            )
            if not self._threads:
                patched.enter_context(mock.patch.object(bootstrap, "ThreadPoolExecutor", InlineExecutor))
            application.executor()
        # What is printed is looked at, line by line: what pytest would collect as well takes time and memory.
        logging.getLogger(self.variables["POWERTOOLS_SERVICE_NAME"]).propagate = False
        return application

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.application.reset()
        self.application.executor().shutdown()

    def _give(self) -> Application:
        return self.application

    def fresh(self) -> Self:
        """Forget what the last case left behind."""
        self.application.reset()
        self.application.telemetry._counts.clear()
        self.application.telemetry._latencies.clear()
        for fake in (self.thrive, self.sqs):
            fake.clear()
        self.secrets.__init__()  # type: ignore[misc]
        self.clock.sleeps.clear()
        return self

    def invoke(self, event: object, *, seconds: float = 30.0) -> Seen:
        """Invoke the function as Lambda does, and keep what it prints."""
        self._out.seek(0)
        self._out.truncate()
        seen = Seen()
        with (
            mock.patch.object(bootstrap, "application", new=self._give),
            contextlib.redirect_stdout(self._out),
        ):
            try:
                seen.answer = handler.lambda_handler(event, FakeContext(self.clock, seconds))  # type: ignore[arg-type]
            except Exception as error:  # noqa: BLE001 - the test looks at it
                seen.error = error
        seen.output = self._out.getvalue()
        return seen


class WireWorld(World):
    """The function with its real transport above a wire that is all the test's.

    Requests are worked on one at a time, in the order of the batch.
    """

    def __init__(self, *, threads: bool = False, **variables: str) -> None:
        super().__init__(threads=threads, **variables)

    def _thrive(self) -> Any:
        return WireThrive()

    def _patches(self) -> list[Any]:
        thrive = self.thrive

        class Connection(_WireConnection):
            server = thrive

        def open_pool(*_: object) -> HTTPConnectionPool:
            pool = HTTPConnectionPool("127.0.0.1", 9, maxsize=1, block=False)
            pool.ConnectionCls = Connection
            return pool

        return [mock.patch.object(bootstrap, "connection_pool", open_pool)]

    def _build(self) -> Application:
        application = super()._build()
        # The pool is opened on the first request, long after the patches of the build are gone.
        transport = application.sync._recorder._transport
        with contextlib.ExitStack() as patched:
            for patch in self._patches():
                patched.enter_context(patch)
            opened = bootstrap.connection_pool
        transport._open_pool = lambda: opened("", 1, None)
        return application


@dataclass(frozen=True)
class Bytes:
    """What the wire carries back for one request, cut into pieces; then the end: kept open, ended, or reset."""

    data: bytes
    end: str = "keep"
    piece: int = 1 << 20


class WireThrive:
    """Thrive below HTTP: ``answer`` gives the bytes for a request, or None for an answer as it should be."""

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        """Forget everything."""
        self.answer: Callable[[str, Request], Bytes | None] = lambda _route, _request: None
        self.requests: list[Request] = []
        self.connections = 0

    def serve(self, head: bytes, body: bytes) -> Bytes:
        """Answer one request."""
        lines = head.decode("latin-1").split("\r\n")
        target = lines[0].split(" ")[1]
        headers = dict(line.split(": ", 1) for line in lines[1:] if line)
        request = Request(target, headers, body, 0.0)
        self.requests.append(request)
        route = TOKEN_ROUTE if target.startswith("/oauth2/token/") else COMPLETION_ROUTE
        return self.answer(route, request) or Bytes(self.good(route, request))

    def good(self, route: str, request: Request) -> bytes:
        """Give the answer that a request should have; the statement's id tells for whom it was."""
        if route == TOKEN_ROUTE:
            return http_answer(200, token_response().body or b"")
        return http_answer(201, json.dumps({"statementId": f"of-{request.json['userId']}"}).encode())


def http_answer(status: int, body: bytes, headers: Iterable[tuple[bytes, bytes]] = ()) -> bytes:
    """Give a whole answer with its true length."""
    lines = [b"HTTP/1.1 %d Status" % status, *(name + b": " + value for name, value in headers)]
    return b"\r\n".join([*lines, b"Content-Length: %d" % len(body), b"", body])


class _WireSocket:
    """What urllib3 and http.client take for a connected socket."""

    def __init__(self, server: WireThrive) -> None:
        self._server = server
        self._sent = b""
        self._incoming = b""
        self._answer = Bytes(b"")
        server.connections += 1

    def sendall(self, data: bytes) -> None:
        self._sent += bytes(data)
        head, separator, body = self._sent.partition(b"\r\n\r\n")
        length = re.search(rb"(?i)content-length: (\d+)", head)
        if not separator or len(body) < int(length[1] if length else 0):
            return
        self._sent = b""
        self._answer = self._server.serve(head, body)
        self._incoming += self._answer.data

    @property
    def stale(self) -> bool:
        """Whether a poll would find something to read between two requests."""
        return bool(self._incoming) or self._answer.end != "keep"

    def makefile(self, _mode: str, **_options: object) -> _WireFile:
        return _WireFile(self)

    def take(self, count: int) -> bytes:
        if not self._incoming:
            if self._answer.end == "keep":
                raise TimeoutError("timed out")  # as after a real wait
            if self._answer.end == "reset":
                raise ConnectionResetError(104, "Connection reset by peer")
            return b""
        count = min(count, self._answer.piece)
        taken, self._incoming = self._incoming[:count], self._incoming[count:]
        return taken

    def settimeout(self, _seconds: float | None) -> None:
        pass

    def setsockopt(self, *_: object) -> None:
        pass

    def shutdown(self, _how: int) -> None:
        pass

    def close(self) -> None:
        pass


class _WireFile(io.RawIOBase):
    def __init__(self, sock: _WireSocket) -> None:
        self._sock = sock

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = self._sock.take(len(buffer))
        buffer[: len(data)] = data
        return len(data)


class _WireConnection(_DeadlineHTTPConnection):
    server: WireThrive

    def _new_conn(self) -> Any:
        return _WireSocket(self.server)

    @property
    def is_connected(self) -> bool:
        return self.sock is not None and not self.sock.stale
