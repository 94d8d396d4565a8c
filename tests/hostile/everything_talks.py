"""Runs the function with every switch on that makes anything talk, and real boto3 clients: ``python -m`` this module.

Whatever is said goes to standard output and standard error, where :mod:`test_canaries` searches it. With the argument
``unguarded`` the function does not silence the libraries' loggers, and the credentials must show.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sys
from unittest import mock

import boto3
from moto import mock_aws

from completion_sync import bootstrap, handler, observability
from tests.hostile.test_canaries import BATCH, DIRECT, STATUSES, quoting, token
from tests.support.canaries import LIBRARIES, secret_text
from tests.support.fakes import FakeClock, FakeContext
from tests.support.sockets import Peer, RawServer


def main() -> None:
    """Send a batch and a direct event under answers of every kind."""
    if "unguarded" in sys.argv:
        mock.patch.object(observability, "_LIBRARIES", ()).start()
    statuses = [status for status in STATUSES for _ in (BATCH, DIRECT)]

    def behave(peer: Peer) -> None:
        (token(1) if peer.received.target.startswith("/oauth2/") else quoting(statuses[0]))(peer)

    with mock_aws(), RawServer(behave) as server:
        boto3.client("secretsmanager").create_secret(Name="thrive", SecretString=secret_text())
        queues = [
            boto3.client("sqs").create_queue(QueueName=name)["QueueUrl"] for name in ("dead", "retry", "completions")
        ]
        os.environ |= {"THRIVE_SECRET_ID": "thrive", "THRIVE_BASE_URL": server.url}
        os.environ |= {"DEAD_LETTER_QUEUE_URL": queues[0], "RETRY_QUEUE_URL": queues[1]}
        # What was said until now was the test's own.
        logging.basicConfig(stream=sys.stderr, level=logging.DEBUG)
        for name in LIBRARIES:
            logging.getLogger(name).setLevel(logging.DEBUG)
        while statuses:
            bootstrap.application().reset()
            for event in (BATCH, DIRECT):
                with contextlib.suppress(Exception):
                    sys.stdout.write(f"{handler.lambda_handler(event, FakeContext(FakeClock()))}\n")
                statuses.pop(0)
        bootstrap.application().executor().shutdown()


if __name__ == "__main__":
    main()
