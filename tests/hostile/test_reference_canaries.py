"""References and e-mail addresses in mapped events: nothing that leaves the function may show them.

The same search as in test_canaries. A reference may stand in the path of its lookup, and in the message's own body.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any
from unittest import mock
from urllib.parse import quote

import pytest

from completion_sync.errors import EventNotRecordedError
from tests.hostile.test_canaries import (
    ANSWERS,
    AWS_FAILURES,
    EVERYTHING,
    SECRETS,
    Objects,
    leaks,
    quoting,
    token,
)
from tests.hostile.world import found_person, world
from tests.support.canaries import CANARIES, EMAIL, NAME, REFERENCE, SECRET, TOKENS, secret_text
from tests.support.fakes import COMPLETED_AT, completion_fields, eventbridge_event, sqs_event, sqs_record
from tests.support.s3 import FakeS3
from tests.support.sockets import answer

if TYPE_CHECKING:
    from tests.support.sockets import Behaviour

TABLE = "code,contentId\ncourse-1,content-1\n"
MAPPING = json.dumps(
    {
        "version": 1,
        "sources": [
            {
                "name": "statements",
                "when": "(detail || @).verb",
                "userRef": "(detail || @).actor.account.name || lower((detail || @).actor.mbox)",
                "contentCode": "(detail || @).object",
                "completedAt": "(detail || @).timestamp",
            }
        ],
    }
)


def statement(**changes: Any) -> dict[str, Any]:
    """Return an event that the mapping takes, about a person with the canary reference."""
    account = {"account": {"name": REFERENCE, "homePage": f"https://{EMAIL}"}, "name": NAME}
    fields = {"verb": "completed", "actor": account, "object": "course-1", "timestamp": COMPLETED_AT}
    return fields | changes


MESSAGES: dict[str, dict[str, Any]] = {
    "a reference": statement(),
    "an address for a reference": statement(actor={"mbox": EMAIL}),
    "a reference without a mapping": completion_fields(userId=None, userRef=REFERENCE),
    "an unknown code": statement(object=EMAIL),
    "two people": statement(actor={"account": {"name": [REFERENCE, EMAIL]}}),
    "an object for a reference": statement(actor={"account": {"name": {REFERENCE: EMAIL}}}),
    "an expression that fails": statement(actor={"mbox": [EMAIL, REFERENCE]}),
    "a bad time": statement(timestamp=f"{REFERENCE} {EMAIL} {NAME}"),
    "a reference that is too long": statement(actor={"account": {"name": REFERENCE * 20}}),
    "a reference and an id": completion_fields(userRef=REFERENCE),
}
BATCH = sqs_event(*(sqs_record(message, message_id=name) for name, message in MESSAGES.items()))
DIRECT = eventbridge_event(statement())
EVENTS = pytest.mark.parametrize("event", [BATCH, DIRECT], ids=["batch", "direct"])


def configuration() -> FakeS3:
    return FakeS3(mapping__json=MAPPING, content__csv=TABLE)


def test_messages_reach_every_outcome_that_they_are_for() -> None:
    with world(secret=secret_text(), token=token(1), s3=configuration()) as it:
        seen = it.deliver(*BATCH["Records"])
        kinds = dict.fromkeys(MESSAGES, ("rejected", "invalid_message"))
        kinds |= dict.fromkeys(list(MESSAGES)[:3], ("created", None)) | {
            "an unknown code": ("rejected", "unknown_content")
        }
        assert seen.outcomes == kinds
        lookups = [request for request in it.server.requests if request.target.startswith("/rest/v1/users/")]
        assert len(lookups) == 2


def people(fields: object) -> Behaviour:
    return answer(200, json.dumps(fields).encode())


@pytest.mark.parametrize("changes", [{"userId": EMAIL}, {"contentId": EMAIL}, {"userId": None, "userRef": "E-1"}])
def test_an_address_in_place_of_an_id_is_sent_but_not_logged(changes: dict[str, Any]) -> None:
    """If a sender, or Thrive, takes an address for an id, the log shows no more than that it is an address."""
    fields = completion_fields(**changes)
    for event in (sqs_event(sqs_record(fields)), eventbridge_event(fields)):
        with world(secret=secret_text(), token=token(1), lookup=people({"id": EMAIL})) as it:
            assert leaks(it, event) == {"requests to Thrive": {"e-mail"}}
            assert '"[e-mail]"' in it.invoke(event).recording.out.getvalue()


LOOKUPS: dict[str, Behaviour] = ANSWERS | {
    "another person": people({"id": "user-8", "ref": EMAIL}),
    "several people": people([{"id": "user-8", "ref": REFERENCE}]),
    "no id": people({"ref": REFERENCE, "email": EMAIL, "name": NAME}),
    "an id that is too long": people({"id": EVERYTHING * 10}),
    "the 404 of Thrive": answer(404, json.dumps({"status": 404, "message": EVERYTHING}).encode()),
}


@EVENTS
@pytest.mark.parametrize("kind", ["client_secret_post", "basic"])
@pytest.mark.parametrize("lookup", LOOKUPS)
def test_every_answer_to_a_lookup(lookup: str, kind: str, event: dict[str, Any]) -> None:
    with world(secret=SECRETS[kind], token=token(1), s3=configuration(), lookup=LOOKUPS[lookup]) as it:
        assert leaks(it, event) == {}


@pytest.mark.parametrize("event", [sqs_event(sqs_record(statement())), DIRECT], ids=["batch", "direct"])
@pytest.mark.parametrize("status", [200, 201, 400, 404, 409, 422])
def test_a_reference_in_what_thrive_says_about_a_completion(status: int, event: dict[str, Any]) -> None:
    """Thrive knows the references of its users, and may quote them where a completion is recorded or refused."""
    texts = (
        REFERENCE,
        f"user {REFERENCE.upper()} ({EMAIL}) is archived",
        quote(REFERENCE, safe=""),
        "x " * 75 + REFERENCE,
    )
    for text in texts:
        reply = quoting(status, text, statementId=text, status=status)
        with world(secret=secret_text(), token=token(1), s3=configuration(), completion=reply) as it:
            assert (text, leaks(it, event)) == (text, {})


@EVENTS
@pytest.mark.parametrize("operation", ["list", "get"])
@pytest.mark.parametrize("failure", AWS_FAILURES)
def test_failures_of_s3_are_not_quoted(failure: str, operation: str, event: dict[str, Any]) -> None:
    s3 = configuration()
    for has_copy in (False, True):
        with world(secret=secret_text(), token=token(1), s3=s3, CONFIG_MAX_AGE_SECONDS="0") as it:
            s3.recover()
            if has_copy:
                it.invoke(event)
                s3.put("mapping.json", f"{MAPPING} ")
            s3.fail(AWS_FAILURES[failure], operation)
            assert leaks(it, event) == {}


@EVENTS
@pytest.mark.parametrize(
    "line", [f"course-1,{EMAIL}\x00", f'{EMAIL},"{REFERENCE}', f"{EMAIL},1\n{EMAIL},2", f"{EMAIL}\n"]
)
def test_a_broken_table_is_not_quoted(line: str, event: dict[str, Any]) -> None:
    """An error in the content table names the line and quotes nothing of it."""
    with world(secret=secret_text(), token=token(1), s3=FakeS3(mapping__json=MAPPING, content__csv=TABLE + line)) as it:
        assert leaks(it, event) == {}
        assert "content.csv: line" in it.invoke(event).recording.out.getvalue()


def objects_in_a_lookup() -> Objects:
    """Deliver an event about the person with the canary reference; return the objects that exist during the lookup."""
    objects = Objects(found_person, lambda each: f"{each!r} {each}", allowed=set(CANARIES) - {"reference", "e-mail"})
    with world(secret=secret_text(), token=token(1), s3=configuration(), lookup=objects) as it:
        it.invoke(sqs_event(sqs_record(statement())))
    return objects


def test_objects_do_not_show_references() -> None:
    objects = objects_in_a_lookup()
    assert {"Unresolved", "People", "Message"} <= objects.classes
    assert objects.shown == {}


def test_an_object_that_shows_the_reference_is_found() -> None:
    with mock.patch("completion_sync.completion.Unresolved.__repr__", lambda each: f"Unresolved({each.user_ref})"):
        assert "reference" in objects_in_a_lookup().shown["Unresolved"]


DEFECTS = [
    "authorization.Authorizer.grant",
    "catalogue.parse_table",
    "completion.Completion.to_json",
    "completion.Unresolved.resolve",
    "config.Config.content_id",
    "config.Config.mapping",
    "credentials.Credentials.parse",
    "events.read_completion",
    "expressions.Expression.search",
    "mapping.Mapping.read",
    "mapping.parse_mapping",
    "observability.Telemetry.end",
    "observability.Telemetry.message",
    "people.People.find",
    "queues.Queues.dead_letter",
    "queues.Queues.postpone",
    "queues.Queues.requeue",
    "resolution.Resolver.resolve",
    "retry.Backoff.seconds",
    "sync.CompletionSync.run",
    "tokens.TokenCache.get",
    "transport.Transport.post",
]
# What these two events do not get to, whatever Thrive answers.
UNREACHED = {
    "batch": {"queues.Queues.requeue"},
    "direct": {"events.read_completion", "queues.Queues.postpone"},
}


class DefectError(Exception):
    """A defect whose text, arguments, attributes, notes and cause all hold secrets."""

    def __init__(self) -> None:
        super().__init__(EVERYTHING, {"token": TOKENS[0]})
        self.secret = SECRET
        self.add_note(EVERYTHING)
        self.__cause__ = ValueError(EVERYTHING)


@pytest.mark.parametrize(("kind", "event"), [("batch", BATCH), ("direct", DIRECT)])
@pytest.mark.parametrize("name", DEFECTS)
def test_a_defect_is_logged_by_kind_and_place_alone(name: str, kind: str, event: dict[str, Any]) -> None:
    called = False
    for status in (201, 400, 503):
        with (
            world(secret=secret_text(), token=token(1), s3=configuration(), completion=quoting(status)) as it,
            mock.patch(f"completion_sync.{name}", side_effect=DefectError()) as spoilt,
        ):
            assert (status, leaks(it, event)) == (status, {})
            seen = it.invoke(event)
        assert type(seen.error) in (type(None), EventNotRecordedError)
        assert ("DefectError" in seen.recording.out.getvalue()) == spoilt.called
        called |= spoilt.called
    assert called == (name not in UNREACHED[kind])
