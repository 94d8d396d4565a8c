"""Runs the function with every switch on that makes anything talk, and real boto3 clients: ``python -m`` this module.

Whatever it says goes to standard output and standard error, for :mod:`test_secrets_stay_secret` to search. With the
argument ``bite`` the function's own guard over the libraries' loggers is off, and the secret must show.
"""

from __future__ import annotations

import logging
import sys
from typing import Any
from unittest import mock

import boto3
from moto import mock_aws

from completion_sync import observability
from tests.hostile import canaries
from tests.hostile.test_secrets_stay_secret import BATCH, DIRECT, echo, token_answer
from tests.hostile.worlds import TOKEN_ROUTE, Bytes, WireWorld

# The environment that makes Powertools, botocore and Lambda's own runtime say more; the parent process sets it.
SWITCHES = {
    "POWERTOOLS_LOGGER_LOG_EVENT": "true",
    "POWERTOOLS_DEBUG": "true",
    "POWERTOOLS_DEV": "true",
    "POWERTOOLS_LOG_LEVEL": "DEBUG",
    "AWS_LAMBDA_LOG_LEVEL": "DEBUG",
    "LOG_LEVEL": "DEBUG",
}


class Exposed(WireWorld):
    """The function with boto3's own clients."""

    def _clients(self) -> dict[str, Any]:
        return {}


def main() -> None:
    """Send a batch and a direct event under answers of every kind, and print all that is logged."""
    if "bite" in sys.argv:
        mock.patch.object(observability, "_LIBRARIES", ()).start()
    with mock_aws():
        boto3.client("secretsmanager").create_secret(Name="thrive", SecretString=canaries.secret_text())
        for name in ("dead-letters", "retries", "completions"):
            boto3.client("sqs").create_queue(QueueName=name)
        # From here on everything talks; what came before was the test's own.
        logging.basicConfig(stream=sys.stderr, level=logging.DEBUG)
        canaries.debug_everything()
        with Exposed() as world:
            logging.getLogger(world.variables["POWERTOOLS_SERVICE_NAME"]).propagate = True
            for status in (201, 200, 400, 401, 403, 409, 422, 429, 503, 302):
                world.application.reset()
                world.thrive.clear()
                world.thrive.answer = lambda route, _: Bytes(
                    token_answer() if route == TOKEN_ROUTE else echo(status)  # noqa: B023 - called before the next turn
                )
                for event in (BATCH, DIRECT):
                    seen = world.invoke(event)
                    sys.stdout.write(f"{seen.output}\n{seen.answer}\n{seen.error!r}\n")
            boto3_sees = world.application.queues._client().get_queue_attributes(
                QueueUrl=world.variables["DEAD_LETTER_QUEUE_URL"], AttributeNames=["ApproximateNumberOfMessages"]
            )
            sys.stdout.write(f"dead letters: {boto3_sees['Attributes']['ApproximateNumberOfMessages']}\n")


if __name__ == "__main__":
    main()
