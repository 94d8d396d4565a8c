"""The function in front of a Thrive on a raw socket, which sends the bytes that a test chooses.

A world is made anew for each case, in four milliseconds: nothing of one case can reach the next.
"""

from __future__ import annotations

import contextlib
import json
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

import pytest
from hypothesis import HealthCheck, settings

from completion_sync import bootstrap
from completion_sync.observability import METRICS
from sandbox.pipeline.batches import failed_ids
from tests.support.canaries import Recording, recording
from tests.support.fakes import body, sqs_event, sqs_record, token_response
from tests.support.function import Function, Output, functioning
from tests.support.s3 import CONFIG_URI, FakeS3
from tests.support.sockets import Behaviour, Peer, RawServer, answer, response

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

NEIGHBOURS = ("neighbour-before", "neighbour-after")
HOSTILE = "hostile"
USERS_PATH, COMPLETIONS_PATH = "/rest/v1/users/ref/", "/rest/v1/learning/completions"
CREATED = ("created", None)
UNAVAILABLE = ("deferred", "unavailable")

_LINE_FIELDS = {"level", "message", "timestamp", "service", "function_request_id", "counts"}
_LINE_FIELDS |= {"message_id", "outcome", "reason", "status", "statement_id", "user_id", "content_id"}
_LINE_FIELDS |= {"attempts", "receive_count", "duration_ms"}


def cases(count: int) -> Callable[[Any], Any]:
    """Run a property test with the same ``count`` cases each time, or with ``HOSTILE_SOAK`` times as many new ones."""
    soak = int(os.environ.get("HOSTILE_SOAK", "0"))
    return settings(
        max_examples=count * max(1, soak),
        derandomize=not soak,
        database=None,
        deadline=None,
        # Bodies of a mebibyte are wanted here; they are no sign of a bad strategy.
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.large_base_example],
    )


def neighbour(name: str) -> dict[str, Any]:
    """Return a good record; its message id is also the user id of its completion."""
    return sqs_record(body(userId=name), message_id=name)


GOOD_TOKEN = answer(200, token_response().body or b"")


def recorded(peer: Peer) -> None:
    """Answer a completion with 201 and a statement id that tells whose answer it is."""
    user = json.loads(peer.received.body)["userId"]
    peer.send(response(201, json.dumps({"statementId": f"of-{user}"}).encode()))


def found_person(peer: Peer) -> None:
    """Answer a lookup with a person whose Thrive id is ``user-7``."""
    ref = unquote(peer.received.target.removeprefix(USERS_PATH))
    peer.send(response(200, json.dumps({"id": "user-7", "ref": ref}).encode()))


@dataclass
class Seen:
    """What one invocation did: the answer or the error, and everything that was printed or logged."""

    answer: Any
    error: Exception | None
    recording: Recording

    @property
    def output(self) -> Output:
        return Output.read(self.recording.out.getvalue())

    @property
    def outcomes(self) -> dict[str, tuple[str, str | None]]:
        return {line["message_id"]: (line["outcome"], line.get("reason")) for line in self.output.messages}


@dataclass
class World:
    function: Function
    server: RawServer

    def invoke(self, event: object) -> Seen:
        result, raised = None, None
        with recording() as record:
            try:
                result = self.function.invoke(event)
            except Exception as error:  # noqa: BLE001 - the test looks at it
                raised = error
        return Seen(result, raised, record)

    @property
    def sent(self) -> list[bytes]:
        return [request.body for request in self.server.requests if request.target == COMPLETIONS_PATH]

    @property
    def dead_lettered(self) -> set[str]:
        taken = [entry for entry in self.function.dead_letters if self.function.sqs.refused(entry) is None]
        return {entry["MessageAttributes"]["sourceMessageId"]["StringValue"] for entry in taken}

    def deliver(self, *records: dict[str, Any]) -> Seen:
        """Invoke the function with a batch, and check what must hold whatever the batch and the answers hold.

        The answer is one that Lambda accepts; it reports exactly what was neither recorded nor dead-lettered; no answer
        is taken for another message's; every line of the log is one that is promised.
        """
        seen = self.invoke(sqs_event(*records))
        assert seen.error is None, "a batch from SQS never raises"
        ids = {record["messageId"] for record in records}
        assert set(seen.outcomes) == ids
        settled = {name for name, (outcome, _) in seen.outcomes.items() if outcome in ("created", "exists", "ignored")}
        assert failed_ids(json.dumps(seen.answer).encode(), ids) == ids - settled - self.dead_lettered
        deferred = {name for name, (outcome, _) in seen.outcomes.items() if outcome == "deferred"}
        assert set(self.function.visibilities) <= {f"receipt-of-{name}" for name in deferred}
        for line in seen.output.messages:
            assert line.get("statement_id") in (None, f"of-{line.get('user_id')}") or line["message_id"] == HOSTILE
        assert all("unexpected" not in line["message"] for line in seen.output.logs), "no outcome is a defect of ours"
        assert_harmless_log(seen)
        return seen


def assert_harmless_log(seen: Seen) -> None:
    """Check that each line is one line of ASCII to any reader, with promised, bounded fields."""
    output = seen.output
    assert output.text.isascii()
    assert len(output.text.splitlines()) == len(output.logs) + len(output.blobs)
    for line in output.logs:
        assert set(line) <= _LINE_FIELDS
        assert all(len(value) <= 320 for value in line.values() if isinstance(value, str))
    for blob in output.blobs:
        assert set(blob) <= {"_aws", "service", *METRICS}


@contextlib.contextmanager
def world(
    *,
    token: Behaviour = GOOD_TOKEN,
    completion: Behaviour = recorded,
    lookup: Behaviour = found_person,
    s3: FakeS3 | None = None,
    url: str | None = None,
    secret: str | None = None,
    **variables: str,
) -> Iterator[World]:
    """Yield the function before a server that answers token requests, completions and lookups of people as given.

    :param s3: holds the configuration; without it there is none.
    :param url: used instead of the server's own URL.
    """

    def behave(peer: Peer) -> None:
        target = peer.received.target
        is_lookup = target.startswith(USERS_PATH)
        (token if target.startswith("/oauth2/") else lookup if is_lookup else completion)(peer)

    # One request at a time: what becomes of a message's neighbours then does not depend on the threads.
    variables = {"MAX_CONCURRENCY": "1"} | variables
    with pytest.MonkeyPatch.context() as patch, RawServer(behave) as server:
        if s3 is not None:
            patch.setattr(bootstrap, "_s3_client", s3.client)
            variables = {"CONFIG_URI": CONFIG_URI} | variables
        with functioning(patch, url or server.url, secret=secret, **variables) as function:
            yield World(function, server)
