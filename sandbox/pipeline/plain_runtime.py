"""A replacement for Lambda's runtime where that does not run (macOS): invokes the handler in plain Python.

Run as a script, `plain_runtime.py PORT HANDLER`, with the function's environment; it imports nothing of this project.
It answers on a loopback port as the runtime interface emulator does: one invocation at a time, killed at the timeout.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import threading
import time
import uuid
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any


class Context:
    """The part of Lambda's context object that the function reads."""

    def __init__(self, timeout: float) -> None:
        self.aws_request_id = str(uuid.uuid4())
        self._deadline = time.monotonic() + timeout

    def get_remaining_time_in_millis(self) -> int:
        """Return the milliseconds until the function is killed."""
        return max(0, int((self._deadline - time.monotonic()) * 1000))


class Invocations(BaseHTTPRequestHandler):
    """Answers each POST with what the handler returns, or with the type and message of what it raises."""

    handler: Any = None
    timeout_seconds = 3.0

    def do_POST(self) -> None:
        """Invoke the handler."""
        event = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        # A thread cannot be killed but the process can; the caller sees the connection close.
        watchdog = threading.Timer(self.timeout_seconds, os._exit, [1])
        watchdog.daemon = True
        watchdog.start()
        try:
            answer = json.dumps(type(self).handler(event, Context(self.timeout_seconds)))
        except Exception as error:  # noqa: BLE001 - whatever the handler raises is its answer
            answer = json.dumps({"errorMessage": str(error), "errorType": type(error).__name__})
        finally:
            watchdog.cancel()
        sys.stdout.flush()
        body = answer.encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class's name
        """Log nothing: the output is the function's own."""


def main() -> None:
    """Import the handler and serve until killed."""
    port, (module, _, function) = int(sys.argv[1]), sys.argv[2].rpartition(".")
    # Python puts this script's folder on the import path; the function must not find modules there.
    sys.path.pop(0)
    sys.stderr.write("INIT START (plain Python)\n")
    Invocations.handler = staticmethod(getattr(importlib.import_module(module), function))
    Invocations.timeout_seconds = float(os.environ["AWS_LAMBDA_FUNCTION_TIMEOUT"])
    HTTPServer(("127.0.0.1", port), Invocations).serve_forever()


if __name__ == "__main__":
    main()
