"""A stand-in for Lambda's runtime where it does not run: answers invocations on a loopback port, in plain Python.

Run as a script, `plain_runtime.py PORT HANDLER`, in the function's own environment: it imports nothing of this project.
As far as the pipeline can tell it does what the runtime interface emulator does: the same answers, one invocation at a
time, death at the timeout.
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
    """The part of Lambda's context object that handlers and Powertools read."""

    def __init__(self, timeout: float) -> None:
        self.function_name = os.environ["AWS_LAMBDA_FUNCTION_NAME"]
        self.function_version = "$LATEST"
        self.memory_limit_in_mb = os.environ["AWS_LAMBDA_FUNCTION_MEMORY_SIZE"]
        self.invoked_function_arn = (
            f"arn:aws:lambda:{os.environ['AWS_REGION']}:000000000000:function:{self.function_name}"
        )
        self.aws_request_id = str(uuid.uuid4())
        self.log_group_name = f"/aws/lambda/{self.function_name}"
        self.log_stream_name = "local"
        self._deadline = time.monotonic() + timeout

    def get_remaining_time_in_millis(self) -> int:
        """Return the milliseconds until the function would be killed."""
        return max(0, int((self._deadline - time.monotonic()) * 1000))


class Invocations(BaseHTTPRequestHandler):
    """Answers each POST with what the handler returns, or with the error's type and message."""

    handler: Any = None
    timeout_seconds = 3.0

    def do_POST(self) -> None:
        """Invoke the handler."""
        event = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        # A thread cannot be killed, the process can: the caller sees the connection end.
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
        """Stay silent: the function's own output is what counts."""


def main() -> None:
    """Import the handler and serve until killed."""
    port, (module, _, function) = int(sys.argv[1]), sys.argv[2].rpartition(".")
    # The folder of this script must not lend the function its modules.
    sys.path.pop(0)
    sys.stderr.write("INIT START (plain Python)\n")
    Invocations.handler = staticmethod(getattr(importlib.import_module(module), function))
    Invocations.timeout_seconds = float(os.environ["AWS_LAMBDA_FUNCTION_TIMEOUT"])
    HTTPServer(("127.0.0.1", port), Invocations).serve_forever()


if __name__ == "__main__":
    main()
