"""A fake S3 client that holds the objects of one bucket, remembers its calls and fails on demand."""

from __future__ import annotations

import hashlib
import io
import threading
from typing import TYPE_CHECKING, Any

from botocore.response import StreamingBody

from tests.support.fakes import client_error

if TYPE_CHECKING:
    from collections.abc import Callable

PREFIX = "config/"
CONFIG_URI = f"s3://bucket/{PREFIX}"


class FakeS3:
    """Answers as S3 does. ``on_call`` is called first, with the operation, and may raise or wait.

    ``body`` makes the body of an answer to ``get_object``; boto3's own class checks its length.
    """

    def __init__(self, **files: str | bytes) -> None:
        """Create the objects of a prefix; ``__`` in a name stands for its dot."""
        self.objects: dict[str, bytes] = {}
        self.calls: list[str] = []
        self.on_call: Callable[[str], None] = lambda _operation: None
        self.body: Callable[[bytes], Any] = lambda data: StreamingBody(io.BytesIO(data), len(data))
        self._lock = threading.Lock()
        for name, data in files.items():
            self.put(name.replace("__", "."), data)

    def client(self) -> Any:
        return self

    def put(self, name: str, data: str | bytes) -> None:
        self.objects[PREFIX + name] = data if isinstance(data, bytes) else data.encode()

    def delete(self, name: str) -> None:
        del self.objects[PREFIX + name]

    def fail(self, error: Exception, operation: str | None = None) -> None:
        def raise_it(called: str) -> None:
            if operation in {None, called}:
                raise error

        self.on_call = raise_it

    def recover(self) -> None:
        self.on_call = lambda _operation: None

    def taken_calls(self) -> list[str]:
        """Return the operations since the last time, ``list`` or ``get`` with a name, and forget them."""
        with self._lock:
            calls, self.calls = self.calls, []
        return calls

    def list_objects_v2(self, **request: Any) -> dict[str, Any]:
        self._note("list", "list")
        assert request == {"Bucket": "bucket", "Prefix": PREFIX, "Delimiter": "/"}
        return {
            "IsTruncated": False,
            "Contents": [{"Key": key, "ETag": _etag(data)} for key, data in sorted(self.objects.items())],
        }

    def get_object(self, **request: Any) -> dict[str, Any]:
        assert request.keys() == {"Bucket", "Key"}
        self._note("get", f"get {request['Key'].removeprefix(PREFIX)}")
        if request["Key"] not in self.objects:
            raise client_error("NoSuchKey", 404, "GetObject")
        data = self.objects[request["Key"]]
        return {"ETag": _etag(data), "ContentLength": len(data), "Body": self.body(data)}

    def _note(self, operation: str, call: str) -> None:
        with self._lock:
            self.calls.append(call)
        self.on_call(operation)


def _etag(data: bytes) -> str:
    return f'"{hashlib.md5(data, usedforsecurity=False).hexdigest()}"'
