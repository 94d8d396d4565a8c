"""Canary credentials and a canary learner on every path: nothing that leaves the function may show them.

What may be where, and nowhere else:

- the tenant id in the path of the token request; client id and secret in its form, or in its Authorization header;
- the token, or tenant id and secret, in the Authorization header of a completion;
- the reference in the path of a lookup;
- the message's own body, a learner's data included, unchanged in the dead-letter queue and in the retry queue;
- a learner's name, where Thrive's answer quotes it, in a dead letter's ``detail`` and in the answer to a direct event.
"""

from __future__ import annotations

import base64
import gc
import json
import logging
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest import mock
from urllib.parse import parse_qs, quote, quote_plus, unquote

import pytest
from botocore.exceptions import EndpointConnectionError, NoCredentialsError, ParamValidationError
from hypothesis import given
from hypothesis import strategies as st

from completion_sync import sync
from completion_sync.errors import EventNotRecordedError, InvalidMessageError, TemporaryError
from tests.hostile import shapes
from tests.hostile.world import CREATED, USERS_PATH, World, cases, recorded, world
from tests.support import canaries
from tests.support.canaries import CANARIES, EMAIL, NAME, SECRET, TENANT, TOKENS, found, secret_text
from tests.support.fakes import client_error, completion_fields, eventbridge_event, sqs_event, sqs_record
from tests.support.sockets import answer, close, head, reset, response, say
from tests.support.sqs import fail_with

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from tests.hostile.world import Seen
    from tests.support.sockets import Behaviour, Peer, Received

SECRETS: dict[str, str] = {
    "client_secret_post": secret_text(),
    "client_secret_basic": secret_text(tokenEndpointAuthMethod="client_secret_basic"),
    "basic": secret_text(authMethod="basic"),
    "apiSecret": secret_text(clientSecret=None, apiSecret=SECRET),
}
FIELDS = completion_fields(name=NAME, email=EMAIL, learner={"name": [NAME], EMAIL: NAME})
DIRECT = eventbridge_event(FIELDS)
BATCH = sqs_event(
    sqs_record(FIELDS, message_id="plain"),
    sqs_record(eventbridge_event(FIELDS | {"userId": "user-2"}), message_id="eventbridge"),
    sqs_record(FIELDS | {"completedAt": f"{NAME} {EMAIL}"}, message_id="poison"),
    sqs_record(f"{NAME} {EMAIL} {SECRET}", message_id="no-json"),
)
EVENTS = pytest.mark.parametrize("event", [BATCH, DIRECT], ids=["batch", "direct"])
KINDS = pytest.mark.parametrize("kind", SECRETS)
EVERYTHING = " ".join(CANARIES.values())


# --- The search ---------------------------------------------------------------------------------------------------


def surfaces(it: World, seen: Seen) -> dict[str, str]:
    """Return everything that left the function, by the place where it would be seen."""
    details, calls = [], []
    for operation, request in it.function.sqs.calls:
        for entry in request.get("Entries", [request]):
            attributes = dict(entry.get("MessageAttributes", {}))
            details.append(repr(attributes.pop("detail", "")))
            # The body is the message's own.
            calls.append(repr([operation, entry | {"MessageBody": "", "MessageAttributes": attributes}]))
    return {
        "output": seen.recording.text(),
        "answer": repr(seen.answer),
        "error": canaries.everything_about(seen.error),
        "details of dead letters": "\n".join(details),
        "calls to SQS": "\n".join(calls),
        "reads of the secret": repr(it.function.secrets.requests),
        "requests to Thrive": "\n".join(rest_of(request) for request in it.server.requests),
    }


def rest_of(request: Received) -> str:
    """Return a request without the credentials in the places where they belong."""
    headers = request.headers
    authorization = headers.pop("authorization", "")
    if not request.target.startswith("/oauth2/token/"):
        assert authorization.startswith(("Bearer canaryToken", "Basic "))
        # In the path of a lookup is the reference.
        target = USERS_PATH if request.target.startswith(USERS_PATH) else request.target
        return f"{target} {headers} {request.body!r}"
    assert unquote(request.target.removeprefix("/oauth2/token/")) == TENANT
    form = parse_qs(request.body.decode("ascii"), strict_parsing=True)
    if not authorization:
        del form["client_id"], form["client_secret"]
    return f"{headers} {form}"


def leaks(it: World, event: object) -> dict[str, set[str]]:
    """Invoke the function, and return the canaries on each surface where they must not be."""
    with mock.patch.object(sync, "outcome_of", wraps=sync.outcome_of) as outcome_of:
        seen = it.invoke(event)
    errors = [call.args[0] for call in outcome_of.call_args_list]
    texts = surfaces(it, seen) | {"errors inside": canaries.everything_about(*errors, suppressed=False)}
    # In these three there may be Thrive's own words, with a learner's name in them.
    quoting = ("answer", "details of dead letters", "errors inside")
    searched = {place: found(text, allowed={"name"} if place in quoting else ()) for place, text in texts.items()}
    return {place: names for place, names in searched.items() if names}


def test_every_form_of_every_canary_is_found() -> None:
    """The search finds a canary plain, in URLs, in JSON, as bytes, in hexadecimal, and in Base64 at any offset."""
    for name, value in CANARIES.items():
        raw = value.encode()
        forms = [
            value,
            quote(value, safe=""),
            quote_plus(value),
            json.dumps([json.dumps(value)]),
            repr(raw),
            ascii(value),
        ]
        forms += [raw.hex(), *(base64.b64encode(b"x" * shift + raw + b"y" * shift).decode() for shift in range(4))]
        assert {name} == set.intersection(*(found(f"before {form} after") for form in forms))
    assert found("") == found("a canary") == set()


_LOG = "observability.Telemetry.message"
# Where it is planted, in place of which function, and what is done there instead.
PLANTED: dict[str, tuple[str, Any]] = {
    "output: standard output": (_LOG, lambda *_: sys.stdout.write(f"{quote_plus(SECRET)}\n")),
    "output: standard error": (_LOG, lambda *_: sys.stderr.write(SECRET)),
    "output: a library": (_LOG, lambda *_: logging.getLogger("any").debug(SECRET)),
    "answer": ("handler._record_event", lambda *_: {"outcome": "created", "statementId": SECRET}),
    "error": ("handler._record_event", mock.Mock(side_effect=EventNotRecordedError(SECRET))),
    "details of dead letters": ("events.read_completion", mock.Mock(side_effect=InvalidMessageError(SECRET))),
    "calls to SQS": ("queues._attributes", lambda *_: {"sourceQueue": SECRET}),
    "errors inside": ("transport.Transport.post", mock.Mock(side_effect=TemporaryError("unavailable", SECRET))),
    "requests to Thrive": ("completion.Completion.to_json", lambda _: json.dumps({"userId": SECRET}).encode()),
}


@pytest.mark.parametrize("place", PLANTED)
def test_the_search_finds_a_planted_leak(place: str) -> None:
    name, careless = PLANTED[place]
    with world(secret=secret_text(), token=token(1)) as it, mock.patch(f"completion_sync.{name}", careless):
        event = BATCH if place == "calls to SQS" else DIRECT
        assert "secret" in leaks(it, event)[place.partition(":")[0]]


# --- Every answer -------------------------------------------------------------------------------------------------


def token(number: int) -> Behaviour:
    return answer(200, json.dumps({"access_token": TOKENS[number - 1], "token_type": "Bearer"}).encode())


def quoting(status: int, text: str = EVERYTHING, /, **fields: Any) -> Behaviour:
    """Answer with a text in the reason phrase, in headers and in every field of the body that might be read."""
    names = ("message", "statementId", "error", "error_description", "token_type", "scope", "access_token", "detail")
    headers = dict.fromkeys(("Retry_After", "Location", "WWW_Authenticate", "X_Request_Id"), text.replace("\n", " "))
    data = response(status, json.dumps(dict.fromkeys(names, text) | fields).encode(), Connection="close", **headers)
    return say(data.replace(b"Status\r\n", EVERYTHING.encode("latin-1") + b"\r\n", 1), then=close)


def broken() -> dict[str, Behaviour]:
    """Return answers that urllib3 and http.client cannot read, and would quote in their errors."""
    quoted = EVERYTHING.encode("latin-1")
    answers = {
        "no HTTP": quoted,
        "two lengths": b"HTTP/1.1 400 x\r\nContent-Length: 1, %b\r\n\r\n" % quoted,
        "a bad header": b"HTTP/1.1 400 x\r\n%b\r\n: %b\r\n\r\n" % (quoted, quoted),
        "a long header": b"HTTP/1.1 400 x\r\nX: %b\r\n\r\n" % (quoted * 500),
        "a bad chunk": b"HTTP/1.1 400 x\r\nTransfer-Encoding: chunked\r\n\r\n%b\r\n" % quoted,
        "a body cut off": head(400, Content_Length="9999") + quoted,
        "an interim answer alone": b"HTTP/1.1 100 %b\r\n\r\n" % quoted,
    }
    return {"a reset": reset} | {name: say(data, then=close) for name, data in answers.items()}


STATUSES = [100, 101, 199, 200, 201, 204, 299, 300, 302, 399, *range(400, 405), 408, 409, 422, 425, 429, 499, 500, 599]
ANSWERS = {str(status): quoting(status) for status in STATUSES} | broken()


@EVENTS
@KINDS
@pytest.mark.parametrize("reply", ANSWERS)
@pytest.mark.parametrize("endpoint", ["token", "completion"])
def test_every_answer_that_quotes_everything(endpoint: str, reply: str, kind: str, event: dict[str, Any]) -> None:
    behaviours = {"token": token(1), "completion": recorded, endpoint: ANSWERS[reply]}
    with world(secret=SECRETS[kind], **behaviours) as it:
        assert leaks(it, event) == {}


@EVENTS
@KINDS
@pytest.mark.parametrize("status", [201, 400])
def test_each_credential_quoted_alone(status: int, kind: str, event: dict[str, Any]) -> None:
    """A message or a statement id that quotes one of the credentials in use, plain or encoded, is not passed on."""
    texts = ["Basic " + base64.b64encode(f"{user}:{SECRET}".encode()).decode() for user in (TENANT, canaries.CLIENT_ID)]
    texts += ["Basic " + base64.b64encode(f"{quote_plus(canaries.CLIENT_ID)}:{quote_plus(SECRET)}".encode()).decode()]
    for value in [TENANT, canaries.CLIENT_ID, SECRET, *TOKENS[: kind != "basic"]]:
        texts += [value, f"the client {value}, is unknown", f"Bearer {value}", quote(value, safe=""), quote_plus(value)]
        texts += [value.replace(" ", "\n")]
    for text in texts:
        with world(secret=SECRETS[kind], token=token(1), completion=quoting(status, text)) as it:
            assert (text, leaks(it, event)) == (text, {})


@EVENTS
@pytest.mark.parametrize("status", [201, 400, 422])
def test_a_learner_in_what_thrive_says(status: int, event: dict[str, Any]) -> None:
    """An address in Thrive's words goes nowhere; a name at most into a dead letter and the answer to a direct event."""
    for text in (f"{NAME} <{EMAIL}> is gone", quote(EMAIL), f"mailto:{EMAIL}", f"user={quote_plus(EMAIL)}&x=1"):
        reply = quoting(status, text, statementId=text if "@" in text else "s-1")
        with world(secret=secret_text(), token=token(1), completion=reply) as it:
            assert (text, leaks(it, event)) == (text, {})


class Objects:
    """A behaviour that first searches the objects of this package for canaries; ``shown`` has them by class."""

    def __init__(self, behaviour: Behaviour, show: Callable[[object], str], allowed: Collection[str]) -> None:
        """Answer with ``behaviour``; ``show`` returns the text to search, ``allowed`` names canaries it may hold."""
        self._behaviour = behaviour
        self._show = show
        self._allowed = allowed
        # Kept, so that no new object gets the id of one of them.
        self._of_other_tests = gc.get_objects()
        self._ids = set(map(id, self._of_other_tests))
        self.classes: set[str] = set()
        self.shown: dict[str, set[str]] = {}

    def __call__(self, peer: Peer) -> None:
        for each in gc.get_objects():
            if str(type(each).__module__).startswith("completion_sync.") and id(each) not in self._ids:
                name = type(each).__name__
                self.classes.add(name)
                if names := found(self._show(each), allowed=self._allowed):
                    self.shown[name] = self.shown.get(name, set()) | names
        self._behaviour(peer)


@KINDS
def test_objects_do_not_show_credentials(kind: str) -> None:
    objects = Objects(recorded, lambda each: f"{each!r} {each} {getattr(each, '__dict__', '')}", canaries.LEARNER)
    with world(secret=SECRETS[kind], token=token(1), completion=objects) as it:
        assert leaks(it, sqs_event(sqs_record(FIELDS))) == {}
    assert {"Grant", "Credentials", "Message"} <= objects.classes
    assert objects.shown == {}


@KINDS
def test_a_rotation_shows_neither_the_old_nor_the_new_secret(kind: str) -> None:
    numbers = iter(range(1, 10))

    def another_token(peer: Peer) -> None:
        token(next(numbers))(peer)

    key = "apiSecret" if kind == "apiSecret" else "clientSecret"
    rotated = json.dumps(json.loads(SECRETS[kind]) | {key: canaries.NEW_SECRET})
    with world(secret=SECRETS[kind], token=another_token, completion=quoting(401)) as it:
        secrets = it.function.secrets
        secrets.on_read = lambda: secrets.rotate(rotated if secrets.reads > 1 else SECRETS[kind])
        assert leaks(it, BATCH) == {}
        assert secrets.reads >= 2
        assert set(it.function.visibilities) == {"receipt-of-plain", "receipt-of-eventbridge"}


# --- Secrets Manager and SQS --------------------------------------------------------------------------------------

_VALUES = st.sampled_from([TENANT, SECRET, f"{SECRET}\n", f" {SECRET}", SECRET * 100, f"{SECRET}\ud800", [SECRET]])
_VALUES |= st.sampled_from([{SECRET: SECRET}, "basic", "client_secret_basic", "a:b", "REPLACE_ME", None, 5])
_KEYS = st.sampled_from(["tenantId", "clientId", "clientSecret", "apiSecret", "authMethod", "tokenEndpointAuthMethod"])
_objects = st.builds(lambda more: json.loads(secret_text()) | more, st.dictionaries(_KEYS, _VALUES | shapes.values))


@cases(400)
@given(_objects.map(json.dumps) | shapes.spoilt(_objects) | st.sampled_from([SECRET, f"[{secret_text()}]"]))
def test_any_secret_is_used_or_deferred_as_misconfigured(secret: str) -> None:
    """With any secret a batch is recorded or deferred: never rejected, never quoted; nothing is sent with a bad one."""
    with world(secret=secret) as it:
        seen = it.deliver(sqs_record(message_id="one"), sqs_record(message_id="two"))
        assert found(seen.recording.text()) == set()
        [outcome] = set(seen.outcomes.values())
        assert outcome == CREATED or (outcome, it.server.requests) == (("deferred", "misconfigured"), [])
        # What failed a moment ago would be remembered, without its cause.
        it.function.application.reset()
        assert outcome == CREATED or leaks(it, DIRECT) == {}


def quoting_error(error: Exception) -> Exception:
    error.args = (*error.args, EVERYTHING)
    if hasattr(error, "response"):
        error.response["Error"]["Message"] = EVERYTHING
    return error


AWS_FAILURES: dict[str, Exception] = {
    "denied": quoting_error(client_error("AccessDeniedException")),
    "throttled": quoting_error(client_error("ThrottlingException")),
    "an internal error": quoting_error(client_error("InternalServiceError", 500)),
    "no connection": EndpointConnectionError(endpoint_url=EVERYTHING),
    "no AWS credentials": quoting_error(NoCredentialsError()),
    "bad parameters": ParamValidationError(report=EVERYTHING),
    "a ValueError": ValueError(EVERYTHING),
}


@EVENTS
@pytest.mark.parametrize("failure", AWS_FAILURES)
@pytest.mark.parametrize("service", ["Secrets Manager", "SQS", "an entry of a batch call"])
@pytest.mark.parametrize("status", [400, 401, 503])
def test_failures_of_aws_are_not_quoted(status: int, service: str, failure: str, event: dict[str, Any]) -> None:
    """Of boto3's own words, which may quote what was sent, only a code or the name of a class is passed on."""
    with world(secret=secret_text(), token=token(1), completion=quoting(status)) as it:
        match service:
            case "Secrets Manager":
                it.function.secrets.failure = AWS_FAILURES[failure]
            case "SQS":
                it.function.sqs.on_call = fail_with(AWS_FAILURES[failure])
            case _:
                failed = [{"Id": "0", "Code": "InternalError", "Message": EVERYTHING}]
                for operation in ("send_message_batch", "change_message_visibility_batch"):
                    setattr(it.function.sqs, operation, lambda **_: {"Failed": failed})
        assert leaks(it, event) == {}


# --- Everything talks ---------------------------------------------------------------------------------------------

SWITCHES = dict.fromkeys(("POWERTOOLS_LOGGER_LOG_EVENT", "POWERTOOLS_DEBUG", "POWERTOOLS_DEV"), "true")
SWITCHES |= dict.fromkeys(("POWERTOOLS_LOG_LEVEL", "AWS_LAMBDA_LOG_LEVEL", "LOG_LEVEL"), "DEBUG")


def said(*arguments: str) -> str:
    """Return everything that is said in a process of its own in which every switch is on that makes anything talk."""
    aws = {"AWS_DEFAULT_REGION": "eu-west-2", "AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test"}
    done = subprocess.run(
        [sys.executable, "-m", "tests.hostile.everything_talks", *arguments],
        env=os.environ | SWITCHES | aws | {"PYTHONPATH": os.pathsep.join(["src", "."])},
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    return done.stdout + done.stderr


def test_libraries_that_talk_show_no_canary() -> None:
    """With every debug switch on, the root logger at DEBUG and real boto3 clients, no stream shows a canary."""
    text = said()
    assert all(f'"outcome":"{outcome}"' in text for outcome in ("created", "exists", "rejected", "deferred"))
    assert found(text) == set()


def test_libraries_would_show_canaries_unguarded() -> None:
    """If the function did not silence the loggers of boto3 and urllib3, the same run would show the credentials."""
    assert {"secret", "tenant id"} <= found(said("unguarded"))
