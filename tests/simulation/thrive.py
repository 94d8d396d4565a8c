"""Simulated Thrive and Secrets Manager, below the connection pool and below boto3's client.

Modelled: latency, idle connections that the server has dropped, answers of every kind (pages of proxies and gateways
among them), resets before and after the commit, requests that are never answered, answers that come after the caller
has gone (the commit stays), `Retry-After` as seconds and as a date, a rate limit by token bucket, learners for whom
Thrive always fails; tokens that expire, are revoked, or are refused with their secret; rotation in either order;
Secrets Manager throttled, failing, denying, hanging.

Not modelled: TLS and bytes on the wire (deadlines within http.client, endless bodies). Real sockets test those.
"""

from __future__ import annotations

import base64
import json
import math
import re
from dataclasses import dataclass, field
from email.utils import formatdate
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, quote_plus, unquote, unquote_plus

from botocore.exceptions import ClientError, EndpointConnectionError, ReadTimeoutError
from urllib3.exceptions import NewConnectionError, ProtocolError
from urllib3.exceptions import ReadTimeoutError as NoAnswerError

from .kernel import EPOCH
from .scenario import E_MAIL, HOUR, MARKER, TENANT

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Mapping

    import urllib3

    from .lambdas import Environment, Invocation
    from .scenario import RateLimit
    from .world import World

COMPLETIONS, USERS = "/rest/v1/learning/completions", "/rest/v1/users/ref/"
# The server closes a connection that was idle for longer than this.
IDLE_SECONDS = 60.0
_STATUS = {"503": 503, "500": 500, "429": 429, "429-seconds": 429, "429-date": 429, "408": 408, "425": 425}
_STATUS |= {"403": 403, "302": 302}
_VERSION = re.compile(r"~\d+")
_PAGE_STATUS = (200, 201, 404, 410, 400, 422)


@dataclass(frozen=True)
class Answer:
    """What a server sends; ``body`` None: it breaks off."""

    status: int
    body: bytes | None
    retry_after: str | None = None

    @property
    def longest_wait(self) -> float:
        """How long ``Retry-After`` may send the caller away. A date is read by a wall clock, which may be wrong."""
        if self.retry_after is None:
            return 0.0
        is_numeric = self.retry_after.replace(".", "").isdigit()
        return min(float(self.retry_after), HOUR) if is_numeric else HOUR

    def fields(self) -> dict[str, Any] | None:
        try:
            value = json.loads(self.body or b"")
        except ValueError:
            return None
        return value if isinstance(value, dict) else None


@dataclass
class Token:
    """A token as the server knows it."""

    secret: str
    expires_at: float


@dataclass(frozen=True)
class Plan:
    """What happens to a request that has arrived: when it is committed, when and how it is answered."""

    commit_after: float
    answer_after: float | None
    commit: Callable[[], Answer] | None = None
    answer: Answer | None = None
    reset: bool = False


@dataclass(eq=False)
class Call:
    """One request, from the caller's side.

    ``about`` is the completion, the reference that is looked up, or the secret that asks for a token. ``kind`` is
    ``records``, ``lookups`` or ``tokens``.
    """

    environment: Environment
    invocation: Invocation | None
    path: str
    about: str
    headers: Mapping[str, str]
    began: float
    timeout: float
    # What the function's memory of failures is kept by: on a FIFO queue the group.
    subject: Hashable = None
    ended: float | None = None
    kind: str = field(init=False)
    is_record: bool = field(init=False)

    def __post_init__(self) -> None:
        self.is_record = self.path == COMPLETIONS
        self.kind = "records" if self.is_record else "lookups" if self.path.startswith(USERS) else "tokens"


class _Connection:
    """What urllib3's connection does, as far as the function's mixin and the simulated pool need it."""

    is_connected = True
    dropped_at = float("inf")

    def getresponse(self) -> None:
        """Read the head of an answer."""


class FakeResponse:
    """What urllib3 returns for an answer."""

    def __init__(self, answer: Answer) -> None:
        self.status = answer.status
        self.headers = {} if answer.retry_after is None else {"Retry-After": answer.retry_after}
        self._body = answer.body

    def read(self, amount: int) -> bytes:
        if self._body is None:
            raise ProtocolError(f"IncompleteRead {MARKER}")
        body, self._body = self._body[:amount], self._body[amount:]
        return body

    def release_conn(self) -> None:
        """There is nothing to do, and neither is there for ``close``."""

    close = release_conn


class Pool:
    """The connection pool of one execution environment. Like urllib3's, it hands out the most recent connection."""

    def __init__(self, world: World, environment: Environment, clock: object) -> None:
        self._world = world
        self._environment = environment
        # The function's own limit on idle time, over the simulated connection.
        kind = type("Connection", (world.package.connections.KeepAliveMixin, _Connection), {})
        self._connect: Callable[[], Any] = lambda: kind(clock=clock)
        self._idle: list[Any] = []

    def close(self) -> None:
        self._idle.clear()

    def urlopen(
        self,
        _method: str,
        path: str,
        *,
        body: bytes | None,
        headers: Mapping[str, str],
        timeout: urllib3.Timeout,
        **_: object,
    ) -> FakeResponse:
        """Send one request and wait for its answer, for at most ``timeout.total`` seconds."""
        world, run, environment = self._world, self._world.kernel, self._environment
        run.switch()
        if body is None:
            about, body = unquote(path.removeprefix(USERS)), b""
        else:
            about = canonical(body) if path == COMPLETIONS else secret_of(body, headers)
        seconds = float(timeout.total or 0.0)
        call = Call(environment, environment.invocation, path, about, headers, run.now, seconds)
        world.watch.called(call)
        answer = None
        try:
            answer = self._exchange(call, body)
        finally:
            if not environment.process.dead:
                call.ended = run.now
                world.watch.ended(call, answer)
        run.switch()
        return FakeResponse(answer)

    def _exchange(self, call: Call, body: bytes) -> Answer:
        world, run = self._world, self._world.kernel
        end = call.began + call.timeout
        trouble = world.trouble(call.kind)
        if trouble == "refuse":
            run.sleep(min(0.01, end - run.now))
            raise NewConnectionError(None, f"{MARKER} is quoted here: {call.headers}")
        connection = self._idle.pop() if self._idle else None
        if connection is None or not connection.is_connected:
            connection = self._connect()
        elif run.now > connection.dropped_at:
            world.watch.stale_connection(self._environment)
            # urllib3 mostly sees that a connection was closed, and opens another one.
            if world.rng.random() < 0.5:
                run.sleep(0.001)
                raise ProtocolError(f"Connection aborted, {call.headers}")
        run.sleep(min(world.latency() / 2, end - run.now))
        plan = world.thrive.receive(call, body, trouble)
        sent, box = run.now, [plan.answer]
        if plan.commit is not None:
            commit = plan.commit
            run.after(plan.commit_after, lambda: box.__setitem__(0, commit()))
        wait = float("inf") if plan.answer_after is None else plan.answer_after
        run.sleep(min(wait, max(0.0, end - run.now)))
        if run.now - sent < wait - 1e-9:
            raise NoAnswerError(self, call.path, f"Read timed out, {call.headers}")
        answer = box[0]
        if plan.reset or answer is None:
            raise ProtocolError(f"Connection reset by peer, {call.headers}")
        connection.getresponse()
        connection.dropped_at = run.now + IDLE_SECONDS
        self._idle.append(connection)
        return answer


class Thrive:
    """The server: its ledger, its tokens, and the secrets that it accepts."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.ledger: dict[str, str] = {}
        self.secrets = {f"{MARKER}-secret-0+%: /é"}
        self.tokens: dict[str, Token] = {}
        self._issued: dict[str, str] = {}
        limit = world.scenario.rate_limit
        self._bucket = None if limit is None else _Bucket(limit)

    def secret_behind(self, authorization: str) -> str | None:
        """Return the secret that a token was issued for, or that a Basic header holds."""
        if authorization in self._issued:
            return self._issued[authorization]
        return base64.b64decode(authorization).decode().partition(":")[2]

    def revoke(self, secret: str, *, tokens_too: bool) -> None:
        """Refuse a secret from now on; ``tokens_too``: also the tokens that were issued for it."""
        self.secrets.discard(secret)
        if tokens_too:
            self.tokens = {value: token for value, token in self.tokens.items() if token.secret != secret}

    def receive(self, call: Call, body: bytes, trouble: str | None) -> Plan:
        """Decide what happens to a request at the moment of its arrival."""
        world, is_record = self._world, call.is_record
        world.watch.arrived(call)
        if is_record and world.scenario.uploads:
            world.watch.content_arrived(call, json.loads(body)["contentId"])
        kind = trouble or (world.sickness(call.about) if is_record else None)
        kind = kind or world.chance("token-" if call.kind == "tokens" else "")
        if kind == "token-revoked" or (kind is None and world.chance_of("token-revoked")):
            self.tokens.clear()
            kind = None
        kind = kind.removeprefix("token-") if kind else None
        delay = world.latency()
        if kind == "black_hole":
            commit = (lambda: self._serve(call, body)) if world.rng.random() < 0.5 else None
            return Plan(world.rng.uniform(0.0, 30.0), None, commit)
        if kind == "reset_before":
            return Plan(0.0, delay, reset=True)
        if is_record and kind is None and self._bucket is not None and not self._bucket.take(world.kernel.now):
            return Plan(0.0, delay, answer=Answer(429, b"{}", self._bucket.retry_after()))
        if (answer := self._unserved(kind, call)) is not None:
            return Plan(0.0, delay, answer=answer)
        if kind == "slow":
            delay = world.rng.uniform(2.0, 25.0)

        def serve() -> Answer:
            answer = self._serve(call, body)
            return Answer(answer.status, None) if kind == "unreadable" else answer

        return Plan(delay * 0.9, delay, serve, reset=kind == "reset_after")

    def _unserved(self, kind: str | None, call: Call) -> Answer | None:
        """Return an answer that does not come from Thrive's own code, if ``kind`` is one of those."""
        if kind in _STATUS:
            return Answer(_STATUS[kind], self._words(call.headers), self._retry_after(kind))
        if kind == "page":
            status = 200 if call.kind == "tokens" else self._world.rng.choice(_PAGE_STATUS)
            return Answer(status, b"<html>" + MARKER.encode())
        if kind == "gateway":
            return Answer(404, b'{"message": "Not Found"}')
        return None

    def _retry_after(self, kind: str) -> str | None:
        seconds = self._world.rng.choice((0.5, 1, 1.5, 7, 90, 1200, 5000))
        if kind == "429-seconds":
            return str(seconds)
        if kind == "429-date":
            return formatdate(EPOCH + self._world.kernel.now + seconds, usegmt=True)
        return None

    def _words(self, headers: Mapping[str, str]) -> bytes:
        """Return the body of an error, which quotes everything that must not be passed on."""
        return json.dumps({"message": f"{E_MAIL}: {dict(headers)}"}).encode()

    def _serve(self, call: Call, body: bytes) -> Answer:
        if call.kind == "lookups":
            return self._user(call)
        return self._record(body, call.headers) if call.is_record else self._token(body, call.headers)

    def _user(self, call: Call) -> Answer:
        world, ref = self._world, call.about
        if not self._is_authorized(call.headers.get("Authorization", "")):
            return Answer(401, self._words(call.headers))
        if world.scenario.people[ref] > world.kernel.now:
            return Answer(404, json.dumps({"status": 404, "message": f"no user {ref}"}).encode())
        if world.chance_of("other-person"):
            return Answer(200, json.dumps({"id": "somebody-else", "ref": "another"}).encode())
        user = ref.removeprefix(f"{MARKER}-ref-").rpartition("-")[0]
        return Answer(200, json.dumps({"id": user, "ref": ref.upper()}).encode())

    def _record(self, body: bytes, headers: Mapping[str, str]) -> Answer:
        if not self._is_authorized(headers.get("Authorization", "")):
            return Answer(401, self._words(headers))
        key = canonical(body)
        status = self._world.scenario.refused.get(json.loads(body)["userId"])
        if status is not None:
            # Thrive's words may quote the learner, and a careless server even the token.
            message = f"{E_MAIL}: {dict(headers)}" if self._world.rng.random() < 0.5 else f"no such user as {E_MAIL}"
            return Answer(status, json.dumps({"status": status, "message": message}).encode())
        created = key not in self.ledger
        statement = self.ledger.setdefault(key, f"statement-{len(self.ledger)}")
        if created:
            self._world.watch.committed(key)
            self._world.trace("committed", key)
        status = 201 if created else self._world.rng.choice((200, 409))
        return Answer(status, json.dumps({"statementId": statement}).encode())

    def _is_authorized(self, header: str) -> bool:
        scheme, _, value = header.partition(" ")
        if scheme == "Basic":
            return any(value == base64.b64encode(f"{TENANT}:{one}".encode()).decode() for one in self.secrets)
        token = self.tokens.get(value)
        return token is not None and token.expires_at > self._world.kernel.now

    def _token(self, body: bytes, headers: Mapping[str, str]) -> Answer:
        secret = secret_of(body, headers)
        if secret not in self.secrets:
            fields = {"error": "invalid_client", "error_description": f"{MARKER}: {body!r}"}
            return Answer(self._world.rng.choice((400, 401)), json.dumps(fields).encode())
        lifetime = self._world.scenario.token_lifetime
        value = f"{MARKER}-token-{len(self.tokens)}-{self._world.rng.randrange(10**9)}"
        # No server issues a token for thirty years, whatever it says.
        usual = 3600.0 if isinstance(lifetime, (str, bool)) or lifetime is None or lifetime <= 0 else float(lifetime)
        self._issued[value] = secret
        self.tokens[value] = Token(secret, self._world.kernel.now + min(usual, 86_400.0))
        fields = {"access_token": value, "token_type": "Bearer", "expires_in": lifetime}
        return Answer(200, json.dumps({name: value for name, value in fields.items() if value is not None}).encode())


class _Bucket:
    """A token bucket: what Thrive takes a second, and how much it saves up."""

    def __init__(self, limit: RateLimit) -> None:
        self._limit = limit
        self._tokens = limit.burst
        self._at = 0.0

    def take(self, now: float) -> bool:
        self._tokens = min(self._limit.burst, self._tokens + (now - self._at) * self._limit.per_second)
        self._at = now
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True

    def retry_after(self) -> str | None:
        """Return the ``Retry-After`` of a refusal, in whole seconds until a request is allowed again, or None."""
        if not self._limit.says_when:
            return None
        return str(math.ceil((1 - self._tokens) / self._limit.per_second))


def canonical(body: bytes) -> str:
    """Return a completion without the version of the content table that its content id comes from."""
    return _VERSION.sub("", body.decode())


def secret_of(body: bytes, headers: Mapping[str, str]) -> str:
    """Return the client secret that a token request holds, by either method."""
    scheme, _, value = headers.get("Authorization", "").partition(" ")
    if scheme == "Basic":
        return unquote_plus(base64.b64decode(value).decode().partition(":")[2])
    return parse_qs(body.decode()).get("client_secret", [""])[0]


class SecretsClient:
    """What boto3's client for Secrets Manager does, in one execution environment."""

    def __init__(self, world: World, environment: Environment) -> None:
        self._world = world
        self._environment = environment

    def get_secret_value(self, *, SecretId: str, VersionStage: str) -> dict[str, Any]:  # noqa: N803
        world = self._world
        world.watch.secret_read(self._environment)
        world.kernel.switch()
        world.kernel.sleep(world.rng.uniform(0.005, 0.05))
        trouble = world.trouble("secrets")
        if trouble == "hangs":
            world.kernel.sleep(6.0)
            raise ReadTimeoutError(endpoint_url=f"https://{MARKER}")
        if trouble == "unreachable":
            raise EndpointConnectionError(endpoint_url=f"https://{MARKER}")
        if trouble is not None:
            code, status = {
                "throttled": ("ThrottlingException", 400),
                "server_error": ("InternalServiceError", 500),
                "denied": ("AccessDeniedException", 400),
            }[trouble]
            answer = {"Error": {"Code": code, "Message": MARKER}, "ResponseMetadata": {"HTTPStatusCode": status}}
            raise ClientError(answer, "GetSecretValue")
        fields = {
            "tenantId": TENANT,
            "clientSecret": world.current_secret,
            "authMethod": world.scenario.auth_method,
            "tokenEndpointAuthMethod": world.scenario.token_method,
        }
        world.watch.secret_given(self._environment)
        world.kernel.switch()
        return {"SecretString": json.dumps(fields)}


def forms_of(secret: str) -> tuple[str, ...]:
    """Return the forms in which a secret is sent."""
    return secret, quote_plus(secret), base64.b64encode(f"{TENANT}:{secret}".encode()).decode()
