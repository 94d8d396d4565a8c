"""Canary credentials and a canary learner through every path: nothing that leaves the function shows them.

What may stand where, and nothing else may:

- the tenant id in the path of the token request; the client id and the secret in its form, or in its Authorization;
- the token, or tenant id and secret, in the Authorization header of a completion, and in no other part of it;
- the message's own body, learner's data and all, in the dead-letter queue and in the retry queue, unchanged;
- a learner's name, where Thrive's own words hold it, in a dead letter's ``detail`` and in the answer to a direct event:
  never in a log, and never an e-mail address. Credentials never stand there.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import re
import ssl
import subprocess
import sys
import types
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest import mock
from urllib.parse import parse_qs, quote, quote_plus, unquote

import pytest
import trustme
from botocore.exceptions import EndpointConnectionError, NoCredentialsError, ParamValidationError

from completion_sync import bootstrap, events, handler, queues, sync, thrive, tokens
from completion_sync.authorization import Authorizer
from completion_sync.credentials import Credentials
from completion_sync.errors import EventNotRecordedError, SettingError, UnsupportedEventError
from completion_sync.observability import Telemetry
from completion_sync.retry import Backoff
from completion_sync.settings import Settings
from tests.hostile import canaries
from tests.hostile.canaries import ALL, EMAIL, NAME, SECRET, TENANT, TOKENS, found, shown
from tests.hostile.worlds import TOKEN_ROUTE, Bytes, Seen, WireWorld, World, http_answer
from tests.support.fakes import (
    FakeClock,
    FakeContext,
    client_error,
    completion_fields,
    eventbridge_event,
    sqs_event,
    sqs_record,
    token_response,
)
from tests.support.sockets import RawServer, close, reset, say, server_context

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.support.fakes import Request

SECRETS: dict[str, str] = {
    "client_secret_post": canaries.secret_text(),
    "client_secret_basic": canaries.secret_text(tokenEndpointAuthMethod="client_secret_basic"),
    "basic": canaries.secret_text(authMethod="basic"),
    "apiSecret": canaries.secret_text(clientSecret=None, apiSecret=canaries.OTHER_SECRET),
}
FIELDS = completion_fields(name=NAME, email=EMAIL, learner={"name": [NAME], EMAIL: NAME})
DIRECT = eventbridge_event(FIELDS)
BATCH = sqs_event(
    sqs_record(FIELDS, message_id="plain"),
    sqs_record(eventbridge_event(FIELDS | {"userId": "user-2"}), message_id="eventbridge"),
    sqs_record(FIELDS | {"completedAt": f"{NAME} {EMAIL}"}, message_id="poison"),
    sqs_record(f"{NAME} {EMAIL} {SECRET}", message_id="no-json"),
)


# Where Thrive's own words may be: an error inside carries them to a dead letter or to the answer to a direct event.
MAY_HOLD_A_NAME = ("dead letters: detail", "answer", "errors inside")


@dataclass
class Evidence:
    """All that came of one invocation, by the surface on which it would be seen."""

    seen: Seen
    surfaces: dict[str, str] = field(default_factory=dict)

    def leaks(self) -> dict[str, set[str]]:
        """Give the canaries on each surface where they may not be."""
        leaks = {}
        for surface, text in self.surfaces.items():
            allowed = {"name"} if surface in MAY_HOLD_A_NAME else ()
            if names := found(text, allowed=allowed):
                leaks[surface] = names
        return leaks


def examine(world: World, event: object, *, context: Any = None) -> Evidence:
    """Invoke the function while everything is watched, and gather what is to be searched."""
    internal: list[Exception] = []
    grants: list[object] = []

    def remember(error: Exception) -> Any:
        internal.append(error)
        return outcome_of(error)  # type: ignore[arg-type]

    def grant(*arguments: Any) -> Any:
        grants.append(grant_by(*arguments))
        return grants[-1]

    outcome_of, grant_by = sync.outcome_of, Authorizer._grant_by
    with (
        canaries.Watch(loggers=(world.variables["POWERTOOLS_SERVICE_NAME"],)) as watch,
        mock.patch.object(sync, "outcome_of", remember),
        mock.patch.object(Authorizer, "_grant_by", grant),
    ):
        seen = world.invoke(event)
    evidence = Evidence(seen)
    evidence.surfaces |= {
        "standard output": seen.output,
        "watched": watch.text(),
        "answer": f"{seen.answer!r} {json.dumps(seen.answer)} {json.dumps(seen.answer, ensure_ascii=False)}",
        "error raised": "" if seen.error is None else shown(seen.error),
        # These end inside the function. A context behind "from None" is in no traceback, and dies with them.
        "errors inside": "\n".join(shown(error, hidden_too=False) for error in internal),
        "reads of the secret": repr(world.secrets.requests),
        "objects": printed([world.application, *grants]),
    }
    evidence.surfaces |= sqs_surfaces(world.sqs.calls) | http_surfaces(world.thrive.requests)
    return evidence


def sqs_surfaces(calls: list[tuple[str, dict[str, Any]]]) -> dict[str, str]:
    """Give what went to SQS, less the bodies, which are the messages' own."""
    rest, details = [], []
    for operation, request in calls:
        assert operation in {"send_message", "send_message_batch", "change_message_visibility_batch"}
        for entry in request.get("Entries", [request]):
            entry = {name: value for name, value in entry.items() if name != "MessageBody"}  # noqa: PLW2901
            attributes = dict(entry.pop("MessageAttributes", {}))
            details.append(repr(attributes.pop("detail", None)))
            rest.append(f"{operation} {entry!r} {attributes!r}")
    return {"dead letters: detail": "\n".join(details), "calls to SQS": "\n".join(rest)}


def http_surfaces(requests: list[Request]) -> dict[str, str]:
    """Give what went to Thrive, less what belongs there, which is checked to be what it should be."""
    rest = []
    for request in requests:
        headers = dict(request.headers)
        authorization = headers.pop("Authorization", "")
        if request.path.startswith("/oauth2/token/"):
            assert unquote(request.path.removeprefix("/oauth2/token/")) == TENANT
            form = parse_qs(request.body.decode("ascii"), keep_blank_values=True, strict_parsing=True)
            if authorization:
                assert set(form) == {"grant_type", "scope"}
            else:
                del form["client_id"], form["client_secret"]
            rest.append(f"{headers!r} {form!r}")
        else:
            assert authorization.startswith(("Bearer canary-token-", "Basic "))
            rest.append(f"{request.path} {headers!r} {request.body!r}")
    return {"requests to Thrive": "\n".join(rest)}


def printed(roots: list[object]) -> str:
    """Print every object of the package that can be reached, in the ways in which a person in a hurry would."""
    texts: list[str] = []
    seen: set[int] = set()
    queue = list(roots)
    while queue:
        item = queue.pop()
        if id(item) in seen:
            continue
        seen.add(id(item))
        if isinstance(item, (list, tuple, set, frozenset)):
            queue += item
        elif isinstance(item, dict):
            queue += item.values()
        elif isinstance(item, types.FunctionType):
            queue += [cell.cell_contents for cell in item.__closure__ or () if not _is_empty(cell)]
        elif isinstance(item, types.MethodType):
            queue.append(item.__self__)
        elif type(item).__module__.partition(".")[0] in ("completion_sync", "urllib3"):
            texts += [repr(item), str(item), f"{item}", "%s" % (item,), repr([item])]  # noqa: UP031
            if hasattr(item, "__dict__"):
                texts.append(repr(vars(item)))
                queue += vars(item).values()
            queue += [getattr(item, name, None) for name in getattr(type(item), "__slots__", ())]
    return "\n".join(texts)


def _is_empty(cell: types.CellType) -> bool:
    try:
        cell.cell_contents  # noqa: B018
    except ValueError:
        return True
    return False


def token_answer(number: int = 0) -> bytes:
    """Give a token endpoint's good answer."""
    return http_answer(200, json.dumps({"access_token": TOKENS[number], "token_type": "Bearer"}).encode())


def echo(status: int, *, quoting: str | None = None, also: dict[str, Any] | None = None) -> bytes:
    """Give an answer that quotes canaries: in the reason phrase, in headers, and in every field one might read."""
    everything = " ".join(ALL.values())
    text = everything if quoting is None else quoting
    fields = dict.fromkeys(
        ["message", "statementId", "error", "error_description", "token_type", "scope", "detail"], text
    )
    headers = [
        (name, everything.encode())
        for name in (b"Retry-After", b"Location", b"WWW-Authenticate", b"Set-Cookie", b"Content-Type", b"X-Request-Id")
    ]
    answer = http_answer(status, json.dumps(fields | (also or {})).encode(), headers)
    return answer.replace(b" Status\r\n", b" " + everything.encode() + b"\r\n", 1)


@pytest.fixture(scope="module", params=SECRETS)
def canary_wire(request: pytest.FixtureRequest) -> Iterator[WireWorld]:
    """Yield a function with canary credentials of each kind, above a wire that is the test's."""
    canaries.debug_everything()
    with WireWorld() as built:
        built.kind = request.param  # type: ignore[attr-defined]
        yield built


@pytest.fixture(scope="module")
def canary_world() -> Iterator[World]:
    """Yield a function with canary credentials and a Thrive in memory."""
    canaries.debug_everything()
    with World() as built:
        yield built


TOKEN = token_response(TOKENS[0])


def ready(world: World, kind: str | None = None) -> Any:
    """Forget the last case; put the canary secret in, and a Thrive whose tokens are canaries too."""
    world.fresh()
    world.secrets.secret = SECRETS[kind or getattr(world, "kind", "client_secret_post")]
    if isinstance(world, WireWorld):
        world.thrive.answer = lambda route, _: Bytes(token_answer()) if route == TOKEN_ROUTE else None
    else:
        world.thrive.answer = lambda route, _: TOKEN if route == TOKEN_ROUTE else None
    return world


def assert_kept(evidence: Evidence) -> None:
    """Fail on the first surface that shows a canary."""
    assert evidence.leaks() == {}


# --- The search bites ---------------------------------------------------------------------------------------------


def test_every_form_of_every_canary_is_found() -> None:
    """Plain, in a URL, in JSON, in JSON in JSON, as bytes, and in Base64 at any offset: the search finds it."""
    for name, value in ALL.items():
        raw = value.encode()
        texts = [value, quote(value), quote(value, safe=""), quote_plus(value), json.dumps({"a": json.dumps([value])})]
        texts += [repr({value: raw}), raw.hex(), json.dumps(value, ensure_ascii=False), ascii(value)]
        texts += [
            base64.b64encode(b"x" * before + raw + b"y" * after).decode() for before in range(4) for after in range(4)
        ]
        texts += [base64.urlsafe_b64encode(raw).decode()]
        for text in texts:
            assert name in found(f"before {text} behind"), (name, text)
        assert name not in found(value[:-3])
    assert found("") == set()


def _log(text: str) -> Callable[..., None]:
    return lambda self, *_: self._logger.warning("x %s", text)


LEAKS: dict[str, tuple[str, Any, Callable[..., Any], str]] = {
    "a log line": ("watched", Telemetry, lambda self, *_: self._logger.warning(SECRET), "clientSecret"),
    "an argument of a log line": ("watched", Telemetry, _log(TOKENS[0]), "access token 1"),
    "an extra field, in Base64": (
        "standard output",
        Telemetry,
        lambda self, *_: self._logger.info("x", extra={"h": base64.b64encode(f"{TENANT}:{SECRET}".encode()).decode()}),
        "clientSecret",
    ),
    "standard error": ("watched", Telemetry, lambda *_: sys.stderr.write(quote_plus(SECRET)), "clientSecret"),
    "standard output": (
        "standard output",
        Telemetry,
        lambda *_: sys.stdout.write(json.dumps({"to": EMAIL}) + "\n"),
        "e-mail",
    ),
    "a library's logger at DEBUG": (
        "watched",
        Telemetry,
        lambda *_: __import__("logging").getLogger("urllib3.connectionpool").critical("POST %r", TENANT),
        "tenantId",
    ),
    "a traceback": ("watched", Telemetry, lambda self, *_: _raise_and_log(self), "clientSecret"),
}


def _raise_and_log(telemetry: Any) -> None:
    try:
        int(SECRET)
    except ValueError:
        telemetry._logger.exception("x")


@pytest.mark.parametrize("leak", LEAKS)
def test_the_search_bites_where_something_is_printed(canary_world: World, leak: str) -> None:
    """A deliberate leak into a log or a stream is found where it is, under its name."""
    surface, owner, careless, name = LEAKS[leak]
    ready(canary_world)
    with mock.patch.object(owner, "message", careless):
        leaks = examine(canary_world, BATCH).leaks()
    assert name in leaks[surface]


def test_the_search_bites_elsewhere(canary_world: World) -> None:
    """A deliberate leak into an answer, an error, a metric, a dead letter, a request or an object's text is found."""

    def leaks_with(event: object, owner: Any, name: str, careless: Any) -> dict[str, set[str]]:
        ready(canary_world)
        with mock.patch.object(owner, name, careless):
            return examine(canary_world, event).leaks()

    attributes = queues._attributes
    poison = sqs_event(sqs_record("poison"))
    leaks = leaks_with(poison, queues, "_attributes", lambda *all_: attributes(*all_) | {"sourceQueue": TENANT})
    assert leaks == {"calls to SQS": {"tenantId"}}
    leaks = leaks_with(poison, queues, "_attributes", lambda *all_: attributes(*all_) | {"detail": f"{NAME} {SECRET}"})
    assert leaks == {"dead letters: detail": {"clientSecret"}}
    leaks = leaks_with(DIRECT, handler, "_record_event", lambda *_: {"outcome": "created", "statementId": TOKENS[0]})
    assert leaks == {"answer": {"access token 1"}}
    leaks = leaks_with(DIRECT, handler, "_record_event", mock.Mock(side_effect=EventNotRecordedError(SECRET)))
    assert leaks == {"error raised": {"clientSecret"}}
    leaks = leaks_with(DIRECT, Credentials, "__repr__", lambda self: f"<{self.client_id}>")
    assert set(leaks) == {"objects"}
    leaks = leaks_with(
        DIRECT, Telemetry, "end", lambda self, *_, **__: sys.stdout.write(json.dumps({"_aws": {}, "service": NAME}))
    )
    assert leaks == {"standard output": {"name"}}
    post = type(canary_world.thrive).post

    def careless_post(self: Any, path: str, headers: dict[str, str], body: bytes, timeout: float) -> Any:
        return post(self, path, {**headers, "User-Agent": TENANT}, body, timeout)

    assert leaks_with(DIRECT, type(canary_world.thrive), "post", careless_post) == {"requests to Thrive": {"tenantId"}}


# --- Every path ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("event", [BATCH, DIRECT], ids=["batch", "direct"])
def test_and_32_success(canary_wire: WireWorld, event: dict[str, Any]) -> None:
    """A completion that is recorded leaves no trace of its learner or of the credentials."""
    evidence = examine(ready(canary_wire), event)
    assert_kept(evidence)
    assert evidence.seen.error is None
    if "Records" in event:
        assert [reason for _, reason in evidence.seen.outcomes.values()] == [
            None,
            None,
            "invalid_message",
            "invalid_message",
        ]


def statuses(world: World) -> range | list[int]:
    """Give every status for one kind of credentials, and for the others those that have a row of their own."""
    if world.kind == "client_secret_post":  # type: ignore[attr-defined]
        return range(100, 600)
    return [
        100,
        101,
        199,
        200,
        201,
        204,
        299,
        300,
        302,
        399,
        400,
        401,
        403,
        404,
        408,
        409,
        422,
        425,
        429,
        499,
        500,
        599,
    ]


@pytest.mark.parametrize("event", [BATCH, DIRECT], ids=["batch", "direct"])
def test_every_status_that_quotes_everything(canary_wire: WireWorld, event: dict[str, Any]) -> None:
    """Whatever status Thrive answers with, none of the credentials and learners that the answer quotes goes on."""
    for status in statuses(canary_wire):
        ready(canary_wire)
        canary_wire.thrive.answer = lambda route, _: Bytes(
            token_answer() if route == TOKEN_ROUTE else echo(status),  # noqa: B023 - called before the next turn
            "end",
        )
        evidence = examine(canary_wire, event)
        assert (status, evidence.leaks()) == (status, {})


def test_every_status_of_the_token_endpoint(canary_wire: WireWorld) -> None:
    """Whatever the token endpoint answers, none of the credentials that the answer quotes goes on."""
    for status in statuses(canary_wire):
        ready(canary_wire)
        canary_wire.thrive.answer = lambda route, _: (
            Bytes(echo(status), "end") if route == TOKEN_ROUTE else None  # noqa: B023
        )
        evidence = examine(canary_wire, BATCH if status % 2 else DIRECT)
        assert (status, evidence.leaks()) == (status, {})


def encodings(value: str) -> dict[str, str]:
    """Give the ways in which an answer may well quote a credential."""
    return {
        "plain": value,
        "in words": f"the client {value}, is unknown",
        "as a header": f"Bearer {value}",
        "URL": quote(value, safe=""),
        "form": quote_plus(value),
        "over lines": value.replace(" ", "\n"),
    }


@pytest.mark.parametrize("status", [200, 201, 400, 409, 422])
@pytest.mark.parametrize("event", [BATCH, DIRECT], ids=["batch", "direct"])
def test_each_credential_quoted_alone(canary_wire: WireWorld, event: dict[str, Any], status: int) -> None:
    """A message or a statementId that quotes one of the credentials in use, plain or encoded, is not passed on."""
    kind = canary_wire.kind  # type: ignore[attr-defined]
    fields = json.loads(SECRETS[kind])
    values = [fields["tenantId"], fields["clientId"], fields.get("clientSecret") or fields["apiSecret"]]
    values += [] if kind == "basic" else [TOKENS[0]]
    texts = [text for value in values for text in encodings(value).values()]
    password = values[2]
    for pair in ((values[0], password), (values[1], password), (quote_plus(values[1]), quote_plus(password))):
        texts += ["Basic " + base64.b64encode(":".join(pair).encode()).decode()]
    for text in texts:
        ready(canary_wire)
        canary_wire.thrive.answer = lambda route, _: Bytes(
            token_answer() if route == TOKEN_ROUTE else echo(status, quoting=text)  # noqa: B023
        )
        assert (text, examine(canary_wire, event).leaks()) == (text, {})


@pytest.mark.parametrize("status", [201, 400, 422])
def test_a_learner_in_what_thrive_says(canary_wire: WireWorld, status: int) -> None:
    """An address in Thrive's words goes nowhere; a name at most into the dead letter and the direct answer."""
    for text in (f"{NAME} <{EMAIL}> is gone", quote(EMAIL), f"mailto:{EMAIL}", f"user={quote_plus(EMAIL)}&x=1", EMAIL):
        for event in (BATCH, DIRECT):
            ready(canary_wire)
            canary_wire.thrive.answer = lambda route, _: Bytes(
                token_answer() if route == TOKEN_ROUTE else echo(status, quoting=text, also={"statementId": "s-1"})  # noqa: B023
            )
            evidence = examine(canary_wire, event)
            assert (text, evidence.leaks()) == (text, {})
            assert evidence.seen.error is None


_EVERYTHING = " ".join(ALL.values()).encode()
BROKEN: dict[str, Bytes] = {
    "reset": Bytes(b"", "reset"),
    "closed": Bytes(b"", "end"),
    "silence": Bytes(b"", "keep"),
    "no HTTP": Bytes(_EVERYTHING, "end"),
    "no status": Bytes(b"HTTP/1.1 " + _EVERYTHING + b"\r\n\r\n", "end"),
    "a bad version": Bytes(b"HTTP/9 201 " + _EVERYTHING + b"\r\n\r\n", "end"),
    "a bad length": Bytes(b"HTTP/1.1 400 x\r\nContent-Length: " + _EVERYTHING + b"\r\n\r\n", "end"),
    "two lengths": Bytes(b"HTTP/1.1 400 x\r\nContent-Length: 1, " + _EVERYTHING + b"\r\n\r\n", "end"),
    "a bad header": Bytes(b"HTTP/1.1 400 x\r\n" + _EVERYTHING + b"\r\n: " + _EVERYTHING + b"\r\n\r\n", "end"),
    "a long header": Bytes(b"HTTP/1.1 400 x\r\nX: " + _EVERYTHING * 500 + b"\r\n\r\n", "end"),
    "a bad chunk": Bytes(b"HTTP/1.1 400 x\r\nTransfer-Encoding: chunked\r\n\r\n" + _EVERYTHING + b"\r\n", "end"),
    "a body cut off": Bytes(b"HTTP/1.1 400 x\r\nContent-Length: 9999\r\n\r\n" + _EVERYTHING, "reset"),
    "a body that is no JSON": Bytes(http_answer(400, _EVERYTHING)),
    "an interim answer alone": Bytes(b"HTTP/1.1 100 " + _EVERYTHING + b"\r\n\r\n", "end"),
}


@pytest.mark.parametrize("broken", BROKEN)
@pytest.mark.parametrize("at", ["token", "completion"])
def test_every_broken_answer(canary_wire: WireWorld, at: str, broken: str) -> None:
    """What urllib3 and http.client quote of an answer that they cannot read stays where it is."""
    for event in (BATCH, DIRECT):
        ready(canary_wire)
        canary_wire.thrive.answer = lambda route, _: BROKEN[broken] if route == at else Bytes(token_answer())
        assert_kept(examine(canary_wire, event))


def test_rotation_keeps_both_secrets(canary_wire: WireWorld) -> None:
    """A 401, a fresh token, a freshly read secret and a second 401 show neither the old nor the new credentials."""
    ready(canary_wire)
    issued = iter(TOKENS)
    canary_wire.thrive.answer = lambda route, _: Bytes(
        token_answer(TOKENS.index(next(issued))) if route == TOKEN_ROUTE else echo(401)
    )
    original = canary_wire.secrets.secret
    rotated = json.dumps(json.loads(original or "") | {"clientSecret": canaries.OTHER_SECRET})
    canary_wire.secrets.on_read = lambda: canary_wire.secrets.rotate(
        rotated if canary_wire.secrets.reads > 1 else original
    )
    evidence = examine(canary_wire, BATCH)
    assert_kept(evidence)
    assert canary_wire.secrets.reads >= 2
    assert evidence.seen.outcomes["plain"] == ("deferred", "unauthorized")


# --- The secret and Secrets Manager -------------------------------------------------------------------------------

_GOOD = canaries.secret_text()
MALFORMED: dict[str, str | bytes | None] = {
    "cut off": _GOOD[:-2],
    "a trailing comma": _GOOD[:-1] + ",}",
    "as a text": json.dumps(_GOOD),
    "as a list": f"[{_GOOD}]",
    "plain": SECRET,
    "binary": _GOOD.encode(),
    "none": None,
    "a byte-order mark": "\ufeff" + _GOOD,
    **{
        f"{key} {problem}": canaries.secret_text(**{key: value})
        for key, good in (("tenantId", TENANT), ("clientId", canaries.CLIENT_ID), ("clientSecret", SECRET))
        for problem, value in {
            "with a newline": f"{good}\n",
            "with CR LF": f"{good}\r\nX-Injected: {good}",
            "with a NUL": f"{good}\0",
            "as a list": [good],
            "as an object": {good: good},
            "too long": good * 100,
            "behind a space": f" {good}",
            "with a lone surrogate": f"{good}\ud800",
        }.items()
    },
    "authMethod is the secret": canaries.secret_text(authMethod=SECRET),
    "tokenEndpointAuthMethod is the secret": canaries.secret_text(tokenEndpointAuthMethod=[SECRET]),
    "a colon in the tenant id": canaries.secret_text(authMethod="basic", tenantId=f"{TENANT}:{TENANT}"),
    "no tenant id": canaries.secret_text(tenantId=None),
}


@pytest.mark.parametrize("malformed", MALFORMED)
def test_every_malformed_secret(canary_world: World, malformed: str) -> None:
    """A malformed secret is named by its key; neither json's error, which holds it all, nor its value gets out."""
    secret = MALFORMED[malformed]
    for event in (BATCH, DIRECT):
        ready(canary_world)
        canary_world.secrets.secret = secret if isinstance(secret, str) else None
        canary_world.secrets.binary = secret if isinstance(secret, bytes) else None
        evidence = examine(canary_world, event)
        assert_kept(evidence)
        assert "misconfigured" in evidence.seen.output
        assert not canary_world.thrive.requests


_QUOTING = f"{SECRET} {TENANT} {NAME} {EMAIL}"
AWS_FAILURES: dict[str, Exception] = {
    "AccessDeniedException": client_error("AccessDeniedException"),
    "ThrottlingException": client_error("ThrottlingException"),
    "InternalServiceError": client_error("InternalServiceError", 500),
    "no connection": EndpointConnectionError(endpoint_url=_QUOTING),
    "no AWS credentials": NoCredentialsError(),
    "bad parameters": ParamValidationError(report=_QUOTING),
    "a ValueError": ValueError(_QUOTING),
}
for _failure in AWS_FAILURES.values():
    _failure.args = (*_failure.args, _QUOTING)
    if hasattr(_failure, "response"):
        _failure.response["Error"]["Message"] = _QUOTING


@pytest.mark.parametrize("failure", AWS_FAILURES)
def test_every_failure_of_secrets_manager(canary_world: World, failure: str) -> None:
    """boto3's own words, which may quote the secret, end in a code of AWS's or in the name of a class."""
    for event in (BATCH, DIRECT):
        ready(canary_world).secrets.failure = AWS_FAILURES[failure]
        evidence = examine(canary_world, event)
        assert_kept(evidence)
        assert "Secrets Manager" in evidence.seen.output


@pytest.mark.parametrize("failure", AWS_FAILURES)
def test_every_failure_of_sqs(canary_wire: WireWorld, failure: str) -> None:
    """boto3's own words about a call to SQS, which may quote the body, stay out; so do those on single entries."""
    for event in (BATCH, DIRECT, eventbridge_event(FIELDS | {"userId": f"{EMAIL}\n"})):
        for entry in (False, True):
            ready(canary_wire)
            if entry:
                canary_wire.sqs.failed = {"Code": "InternalError", "Message": _QUOTING}
            else:
                canary_wire.sqs.failure = AWS_FAILURES[failure]
            canary_wire.thrive.answer = lambda route, _: Bytes(token_answer() if route == TOKEN_ROUTE else echo(503))
            assert_kept(examine(canary_wire, event))


# --- Defects, and what is raised ----------------------------------------------------------------------------------

DEFECTS: dict[str, tuple[Any, str]] = {
    "the grant": (Authorizer, "grant"),
    "the token's request": (tokens.ClientCredentialsFlow, "_request"),
    "the token's answer": (tokens.ClientCredentialsFlow, "_read"),
    "the credentials": (Credentials, "parse"),
    "the answer": (thrive.ThriveClient, "_read"),
    "the batch": (sync.CompletionSync, "run"),
    "the lanes": (sync, "_lanes"),
    "reading a record": (events, "_read_sqs_record"),
    "reading a direct event": (events, "_from_envelope"),
    "the attributes of a dead letter": (queues, "_attributes"),
    "the dead letter": (queues.Queues, "dead_letter"),
    "the backoff": (Backoff, "seconds"),
    "the retry queue": (queues.Queues, "requeue"),
    "a log line": (Telemetry, "message"),
    "the metrics": (Telemetry, "end"),
}


class _DefectError(Exception):
    """A defect whose text, arguments, attributes, notes and chain all hold secrets."""

    def __init__(self) -> None:
        super().__init__(_QUOTING, {"token": TOKENS[0]})
        self.secret = SECRET
        self.add_note(_QUOTING)
        self.__cause__ = ValueError(_QUOTING)


@pytest.mark.parametrize("defect", DEFECTS)
@pytest.mark.parametrize("answer", [201, 400, 503])
def test_every_defect_of_ours(canary_wire: WireWorld, defect: str, answer: int) -> None:
    """A defect anywhere in the package, whatever its text, arguments and chain hold, is told by its kind and place."""
    owner, name = DEFECTS[defect]
    for event in (BATCH, DIRECT):
        ready(canary_wire)
        canary_wire.thrive.answer = lambda route, _: Bytes(token_answer() if route == TOKEN_ROUTE else echo(answer))
        with mock.patch.object(owner, name, mock.Mock(side_effect=_DefectError())) as spoilt:
            evidence = examine(canary_wire, event)
        assert_kept(evidence)
        assert type(evidence.seen.error) in (type(None), EventNotRecordedError)
        if spoilt.called:
            assert "_DefectError" in evidence.seen.output


def test_a_direct_event_that_raises(canary_wire: WireWorld) -> None:
    """Lambda logs what is raised, with its traceback: it names outcome and reason, and nothing that Thrive said."""
    for status in (400, 401, 403, 404, 429, 500, 302):
        ready(canary_wire)
        canary_wire.sqs.failure = AWS_FAILURES["InternalServiceError"]
        canary_wire.thrive.answer = lambda route, _: Bytes(
            token_answer() if route == TOKEN_ROUTE else echo(status, quoting=f"{NAME} is gone")  # noqa: B023
        )
        evidence = examine(canary_wire, DIRECT)
        assert_kept(evidence)
        assert type(evidence.seen.error) is EventNotRecordedError
        assert re.fullmatch(r"(rejected|deferred): [a-z_]+", str(evidence.seen.error))
        assert evidence.seen.error.__context__ is None


def test_an_unsupported_event(canary_world: World) -> None:
    """The error about a foreign event names its keys and shows none of its values."""
    for event in ({"detail": FIELDS, "body": _QUOTING, "Records": [{"s3": _QUOTING}]}, [FIELDS], _QUOTING, None):
        evidence = examine(ready(canary_world), event)
        assert type(evidence.seen.error) is UnsupportedEventError
        assert_kept(evidence)


VARIABLES = [
    "THRIVE_ENVIRONMENT",
    "THRIVE_BASE_URL",
    "THRIVE_SCOPE",
    "DEAD_LETTER_QUEUE_URL",
    "RETRY_QUEUE_URL",
    "MAX_CONCURRENCY",
    "SECRET_MAX_AGE_SECONDS",
    "REQUEST_TIMEOUT_SECONDS",
    "BACKOFF_BASE_SECONDS",
    "BACKOFF_CAP_SECONDS",
]


@pytest.mark.parametrize("variable", VARIABLES)
def test_a_secret_in_a_variable(monkeypatch: pytest.MonkeyPatch, variable: str) -> None:
    """A secret that was put into the wrong variable is not repeated by the error, which names the variable alone."""
    monkeypatch.setenv("THRIVE_SECRET_ID", "thrive")
    for value in (
        SECRET,
        f"1{SECRET}",
        f"https://[{SECRET}",
        f"{NAME} {EMAIL}",
        f"://{TENANT} {NAME}",
        f"{TOKENS[0]}\n",
    ):
        monkeypatch.setenv(variable, value)
        bootstrap.application.cache_clear()
        with canaries.Watch() as watch, pytest.raises(SettingError, match=variable) as caught:
            handler.lambda_handler(DIRECT, FakeContext(FakeClock()))  # type: ignore[arg-type]
        assert found(shown(caught.value) + watch.text()) == set()
    bootstrap.application.cache_clear()


# --- Real sockets -------------------------------------------------------------------------------------------------


class Real(World):
    """The function with its real transport, to a server at ``url``."""

    def __init__(self, url: str, kind: str, **options: Any) -> None:
        self._options = options
        super().__init__(THRIVE_BASE_URL=url)
        self.secrets.secret = SECRETS[kind]

    def _build(self) -> Any:
        canaries.debug_everything()
        with contextlib.redirect_stdout(self._out):
            return bootstrap.build(
                Settings.from_env(self.variables),
                clock=self.clock,
                secrets=self.secrets.client,
                sqs=self.sqs.client,
                **self._options,
            )


@pytest.mark.parametrize("kind", SECRETS)
def test_connections_and_certificates_that_fail(kind: str) -> None:
    """No connection, a reset one, a foreign or expired certificate, TLS to no TLS: their errors show no canary."""
    authority = trustme.CA()
    trusting = ssl.create_default_context()
    authority.configure_trust(trusting)
    expired = server_context(authority, "127.0.0.1", expired=True)
    with contextlib.ExitStack() as stack:
        servers = [
            (stack.enter_context(RawServer(reset, tls=tls)), context)
            for tls, context in (
                (None, ssl.create_default_context),
                (server_context(authority, "127.0.0.1"), ssl.create_default_context),
                (server_context(authority, "elsewhere.example"), lambda: trusting),
                (expired, lambda: trusting),
                (server_context(authority, "127.0.0.1"), lambda: trusting),
            )
        ]
        urls = [(server.url, context) for server, context in servers]
        no_tls = stack.enter_context(RawServer(reset, at_accept=say(b"220 no TLS here\r\n", then=close)))
        urls += [(no_tls.url.replace("http:", "https:"), lambda: trusting), ("http://127.0.0.1:1", lambda: trusting)]
        urls += [("https://canary.invalid", lambda: trusting)]
        for url, context in urls:
            with Real(url, kind, ssl_context=context) as world:
                evidence = examine(world, BATCH)
                assert_kept(evidence)
                assert evidence.seen.outcomes["plain"] == ("deferred", "unavailable"), url
                assert_kept(examine(world, DIRECT))


# --- Everything talks ---------------------------------------------------------------------------------------------


def spoken(*arguments: str) -> str:
    """Run the function in a process of its own with every switch on that makes anything talk; give all it said."""
    from tests.hostile.exposed import SWITCHES  # noqa: PLC0415 - it imports this module

    environment = os.environ | SWITCHES
    environment |= {
        "AWS_REGION": "eu-west-2",
        "AWS_DEFAULT_REGION": "eu-west-2",
        "PYTHONPATH": os.pathsep.join(["src", "."]),
    }
    environment |= {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test"}
    done = subprocess.run(
        [sys.executable, "-m", "tests.hostile.exposed", *arguments],
        env=environment,
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    return done.stdout + done.stderr


def test_and_32_everything_talks() -> None:
    """With every debug switch on, the root logger at DEBUG and real boto3 clients, no stream shows a canary."""
    said = spoken()
    assert "dead letters: 2" in said, "the run was a real one"
    assert '"outcome":"created"' in said
    # The answers' words to a direct event, printed by the run itself, may hold none here: each quotes the credentials.
    assert found(said) == set()


def test_the_search_bites_where_everything_talks() -> None:
    """Without the function's guard over boto3's and urllib3's loggers, the same run shows the secret."""
    assert {"clientSecret", "tenantId"} <= found(spoken("bite"))
