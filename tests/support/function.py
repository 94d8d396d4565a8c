"""The function in this process: its handler on an application built from settings, and what it prints."""

from __future__ import annotations

import json
import logging
import sys
import uuid
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from completion_sync import bootstrap
from completion_sync.handler import lambda_handler
from completion_sync.settings import Settings
from sandbox.pipeline.batches import failed_ids
from tests.support.fakes import FakeClock, FakeContext, FakeSecretsManager, secret_text
from tests.support.sqs import DEAD_LETTER_URL, RETRY_URL, FakeSqs

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pytest

    from completion_sync.bootstrap import Application
    from completion_sync.clock import Clock
    from sandbox.thrive_api import StandIn


@dataclass
class Function:
    """One execution environment.

    Its clock is virtual by default: waits end at once, and what really takes time does not count.
    """

    application: Application
    clock: Clock
    sqs: FakeSqs
    secrets: FakeSecretsManager
    contexts: list[FakeContext] = field(default_factory=list)

    def invoke(self, event: Any, seconds: float = 30.0) -> Any:
        """Invoke it; the answer has been through JSON, as in Lambda."""
        context = FakeContext(self.clock, seconds)
        self.contexts.append(context)
        return json.loads(json.dumps(lambda_handler(event, context)))

    def reported(self, *records: dict[str, Any], seconds: float = 30.0) -> list[str]:
        """Invoke it with SQS records; return the ids that it reports, in order, if Lambda would accept the answer."""
        answer = self.invoke({"Records": list(records)}, seconds)
        assert set(answer) == {"batchItemFailures"}
        ids = [item["itemIdentifier"] for item in answer["batchItemFailures"]]
        assert len(ids) == len(set(ids))
        assert failed_ids(json.dumps(answer).encode(), [record["messageId"] for record in records]) == set(ids)
        return ids

    @property
    def dead_letters(self) -> list[dict[str, Any]]:
        """The entries that were sent to the dead-letter queue, whether SQS accepted them or not."""
        return self.sqs.entries("send_message_batch")

    @property
    def visibilities(self) -> dict[str, int]:
        """The visibility timeouts that were set, by receipt handle."""
        entries = self.sqs.entries("change_message_visibility_batch")
        return {entry["ReceiptHandle"]: entry["VisibilityTimeout"] for entry in entries}


@contextmanager
def functioning(
    monkeypatch: pytest.MonkeyPatch,
    base_url: str,
    *,
    secret: str | None = None,
    clock: Clock | None = None,
    sqs: FakeSqs | None = None,
    **variables: str,
) -> Iterator[Function]:
    """Yield the function with a fake SQS and a fake Secrets Manager; an empty variable removes a queue."""
    time_source = clock or FakeClock()
    fake_sqs = sqs or FakeSqs()
    secrets = FakeSecretsManager(secret)
    env = {
        "THRIVE_SECRET_ID": "thrive",
        "THRIVE_BASE_URL": base_url,
        "DEAD_LETTER_QUEUE_URL": DEAD_LETTER_URL,
        "RETRY_QUEUE_URL": RETRY_URL,
        # Powertools keeps one logger for each service, so each function here gets a service of its own.
        "POWERTOOLS_SERVICE_NAME": f"service-{uuid.uuid4()}",
    } | variables
    application = bootstrap.build(
        Settings.from_env(env), clock=time_source, secrets=secrets.client, sqs=fake_sqs.client
    )
    print_to_current_stdout(env["POWERTOOLS_SERVICE_NAME"])
    monkeypatch.setattr(bootstrap, "application", lambda: application)
    try:
        yield Function(application, time_source, fake_sqs, secrets)
    finally:
        close(application)


class _CurrentStdout:
    """Standard output at the time of writing: pytest replaces it for each phase of a test."""

    def write(self, text: str) -> int:
        return sys.stdout.write(text)

    def flush(self) -> None:
        sys.stdout.flush()


def print_to_current_stdout(service: str) -> None:
    """Let a service's logger print to the current standard output, not to that of the time when it was made."""
    [handler] = [each for each in logging.getLogger(service).handlers if isinstance(each, logging.StreamHandler)]
    handler.setStream(_CurrentStdout())


def close(application: Application) -> None:
    """Close everything that an application holds open, as the end of a process would."""
    application.reset()
    application.executor().shutdown()
    application.reporters().shutdown()


def secret_of(thrive: StandIn, **changes: object) -> str:
    return secret_text(tenantId=thrive.tenant_id, clientSecret=thrive.client_secret, **changes)


@dataclass(frozen=True)
class Output:
    """What was printed: log lines and metric blobs, each a line of JSON."""

    text: str
    logs: list[dict[str, Any]]
    blobs: list[dict[str, Any]]

    @classmethod
    def read(cls, text: str) -> Output:
        """Read standard output; a line that is not JSON fails the test."""
        # Not splitlines, which would also split at U+2028: a forged line must be found.
        lines = [json.loads(line) for line in text.split("\n") if line]
        return cls(
            text,
            [line for line in lines if "_aws" not in line],
            [line for line in lines if "_aws" in line],
        )

    @property
    def messages(self) -> list[dict[str, Any]]:
        return [line for line in self.logs if "message_id" in line]

    @property
    def invocations(self) -> list[dict[str, Any]]:
        return [line for line in self.logs if line["message"] == "invocation"]

    def metric(self, name: str) -> list[float]:
        values: list[float] = []
        for blob in self.blobs:
            value = blob.get(name, [])
            values += value if isinstance(value, list) else [value]
        return values
