"""A fake SQS client that remembers its calls, refuses what SQS would refuse, and fails on demand."""

from __future__ import annotations

import re
import threading
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import botocore.session
from botocore import xform_name
from botocore.validate import ParamValidator

from tests.support.fakes import client_error

if TYPE_CHECKING:
    from collections.abc import Callable

ENDPOINT = "https://sqs.eu-west-2.amazonaws.com"
DEAD_LETTER_URL = f"{ENDPOINT}/123456789012/dead-letters"
RETRY_URL = f"{ENDPOINT}/123456789012/retries"

# The characters that SQS accepts, and the largest message, attributes included: API reference, SendMessage.
_UNACCEPTABLE = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_MAX_BYTES = 1_048_576
_MODEL: Any = botocore.session.get_session().get_service_model("sqs")
_SHAPES = {xform_name(name): _MODEL.operation_model(name).input_shape for name in _MODEL.operation_names}


class FakeSqs:
    """Takes what boto3's client takes, checked against botocore's own model, and answers as SQS does.

    ``calls`` holds the operations and their requests. ``on_call`` is called first, with both, and may raise.
    ``refused`` returns the code with which SQS fails one entry of a batch, or None.
    """

    def __init__(self, endpoint_url: str = ENDPOINT) -> None:
        self.meta = SimpleNamespace(endpoint_url=endpoint_url)
        self.calls: list[tuple[str, dict[str, Any]]] = []
        self.on_call: Callable[[str, dict[str, Any]], None] = _nothing
        self.refused: Callable[[dict[str, Any]], str | None] = refused_by_sqs
        self._lock = threading.Lock()

    def client(self) -> Any:
        return self

    def of(self, operation: str) -> list[dict[str, Any]]:
        with self._lock:
            return [request for name, request in self.calls if name == operation]

    def entries(self, operation: str) -> list[dict[str, Any]]:
        return [entry for request in self.of(operation) for entry in request["Entries"]]

    def send_message_batch(self, **request: Any) -> dict[str, Any]:
        return self._batch("send_message_batch", request)

    def change_message_visibility_batch(self, **request: Any) -> dict[str, Any]:
        return self._batch("change_message_visibility_batch", request)

    def send_message(self, **request: Any) -> dict[str, Any]:
        self._note("send_message", request)
        assert 0 <= request.get("DelaySeconds", 0) <= 900
        return {"MessageId": "sent"}

    def _batch(self, operation: str, request: dict[str, Any]) -> dict[str, Any]:
        self._note(operation, request)
        entries = request["Entries"]
        assert 1 <= len(entries) <= 10, "SQS refuses the whole call"
        assert len({entry["Id"] for entry in entries}) == len(entries), "SQS refuses the whole call"
        codes = {entry["Id"]: self.refused(entry) for entry in entries}
        # SQS leaves an empty list out.
        answer = {
            "Successful": [{"Id": name} for name, code in codes.items() if code is None],
            "Failed": [{"Id": name, "Code": code, "SenderFault": True} for name, code in codes.items() if code],
        }
        return {name: value for name, value in answer.items() if value}

    def _note(self, operation: str, request: dict[str, Any]) -> None:
        report = ParamValidator().validate(request, _SHAPES[operation])
        assert not report.has_errors(), report.generate_report()
        with self._lock:
            self.calls.append((operation, request))
        self.on_call(operation, request)


def refused_by_sqs(entry: dict[str, Any]) -> str | None:
    """Return the code with which SQS itself fails an entry of a batch call, or None."""
    if "VisibilityTimeout" in entry:
        return None if 0 <= entry["VisibilityTimeout"] <= 43_200 else "InvalidParameterValue"
    attributes = {name: value["StringValue"] for name, value in entry.get("MessageAttributes", {}).items()}
    texts = [entry["MessageBody"], *attributes.values()]
    if len(attributes) > 10 or not all(texts) or any(_UNACCEPTABLE.search(text) for text in texts):
        return "InvalidMessageContents"
    size = sum(len(text.encode()) for text in [*texts, *attributes, *("String" for _ in attributes)])
    return None if size <= _MAX_BYTES else "InvalidParameterValue"


def fail_with(error: Exception, operation: str | None = None) -> Callable[[str, dict[str, Any]], None]:
    """Return an ``on_call`` that raises, for one operation or for all."""

    def fail(called: str, _request: dict[str, Any]) -> None:
        if operation in {None, called}:
            raise error

    return fail


def throttled(operation: str = "SendMessageBatch") -> Exception:
    """Return what boto3 raises where SQS throttles; its text quotes what must not be passed on."""
    return client_error("ThrottlingException", 400, operation)


def _nothing(_operation: str, _request: dict[str, Any]) -> None:
    return None
