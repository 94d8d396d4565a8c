"""Simulated Thrive and Secrets Manager, from the connection pool and from boto3's client downwards.

Modelled: latency, connections that a server has dropped while they were idle, answers of every kind, resets before and
after the commit, black holes, answers that come after the caller has gone (the commit stays), `Retry-After` as seconds
and as a date; tokens that expire, are revoked, or are refused with their secret; rotation in either order; Secrets
Manager throttled, failing, denying, hanging.

Not modelled: TLS, bytes on the wire (the deadline under http.client, bodies without end): real sockets test those.
"""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass
from email.utils import formatdate
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, quote_plus, unquote_plus

from botocore.exceptions import ClientError, EndpointConnectionError, ReadTimeoutError
from urllib3.exceptions import NewConnectionError, ProtocolError
from urllib3.exceptions import ReadTimeoutError as NoAnswerError

from .kernel import EPOCH
from .scenario import E_MAIL, MARKER, TENANT

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import urllib3

    from .lambdas import Environment
    from .world import World

COMPLETIONS = "/rest/v1/learning/completions"
# Longer than this without use, and the server has closed the connection.
IDLE_SECONDS = 60.0
_STATUS = {"503": 503, "500": 500, "429": 429, "429-seconds": 429, "429-date": 429, "408": 408, "425": 425}
_OTHER_STATUS = {"403": 403, "302": 302}


@dataclass(frozen=True)
class Answer:
    """What a server sends; ``body`` None: it breaks off."""

    status: int
    body: bytes | None
    retry_after: str | None = None


@dataclass
class Token:
    """A token as the server knows it."""

    secret: str
    expires_at: float


@dataclass(frozen=True)
class Plan:
    """What becomes of a request that has arrived: when it is committed, when and how it is answered."""

    commit_after: float
    answer_after: float | None
    commit: Callable[[], Answer] | None = None
    answer: Answer | None = None
    reset: bool = False


class FakeResponse:
    """What urllib3 gives for an answer."""

    def __init__(self, answer: Answer) -> None:
        self.status = answer.status
        self.headers = {} if answer.retry_after is None else {"Retry-After": answer.retry_after}
        self._body = answer.body

    def read(self, amount: int) -> bytes:
        """Read up to so many bytes."""
        if self._body is None:
            raise ProtocolError(f"IncompleteRead {MARKER}")
        body, self._body = self._body[:amount], self._body[amount:]
        return body

    def close(self) -> None:
        """Close the connection."""

    def release_conn(self) -> None:
        """Hand the connection back."""


class Pool:
    """The connection pool of one execution environment."""

    def __init__(self, world: World, environment: Environment) -> None:
        self._world = world
        self._environment = environment
        self._idle: list[float] = []
        self._last_used = world.kernel.now

    def close(self) -> None:
        """Drop every idle connection."""
        self._idle.clear()

    def urlopen(
        self, _method: str, path: str, *, body: bytes, headers: Mapping[str, str], timeout: urllib3.Timeout, **_: object
    ) -> FakeResponse:
        """Send one request and wait for its answer, for ``timeout.total`` seconds at most."""
        world, run = self._world, self._world.kernel
        run.switch()
        end = run.now + float(timeout.total or 0.0)
        tokens, memory = path != COMPLETIONS, self._environment.memory
        memory.asked_at = run.now
        if tokens:
            memory.token_asked_at = run.now
        trouble = world.trouble("tokens" if tokens else "records")
        quiet, self._last_used = run.now - self._last_used, run.now
        if trouble == "refuse":
            run.sleep(min(0.01, end - run.now))
            raise NewConnectionError(None, f"{MARKER} is quoted here: {headers}")
        if self._idle and run.now - self._idle.pop() > IDLE_SECONDS:
            if quiet > IDLE_SECONDS:
                world.watch.stale_connection(self._environment)
            # urllib3 mostly sees that a connection was closed, and opens another one.
            if world.rng.random() < 0.5:
                run.sleep(0.001)
                raise ProtocolError(f"Connection aborted, {headers}")
        run.sleep(min(world.latency() / 2, end - run.now))
        plan = world.thrive.receive(self._environment, path, body, headers, trouble)
        sent, box = run.now, [plan.answer]
        if plan.commit is not None:
            commit = plan.commit
            run.after(plan.commit_after, lambda: box.__setitem__(0, commit()))
        wait = float("inf") if plan.answer_after is None else plan.answer_after
        run.sleep(min(wait, max(0.0, end - run.now)))
        world.watch.call_ended(self._environment, path)
        if run.now - sent < wait - 1e-9:
            raise NoAnswerError(self, path, f"Read timed out, {headers}")
        answer = box[0]
        if plan.reset or answer is None:
            raise ProtocolError(f"Connection reset by peer, {headers}")
        self._idle.append(run.now)
        world.watch.answered(self._environment, path, body, headers, answer)
        run.switch()
        return FakeResponse(answer)


class Thrive:
    """The server: its ledger, its tokens, and the secrets that it accepts."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.ledger: dict[str, str] = {}
        self.secrets = {f"{MARKER}-secret-0+%: /é"}
        self.tokens: dict[str, Token] = {}
        self._issued: dict[str, str] = {}

    def secret_behind(self, authorization: str) -> str | None:
        """Give the secret that a token was given for, or that a Basic header holds."""
        if authorization in self._issued:
            return self._issued[authorization]
        return base64.b64decode(authorization).decode().partition(":")[2]

    def revoke(self, secret: str, *, tokens_too: bool) -> None:
        """Refuse a secret from now on, and the tokens that were given for it or not."""
        self.secrets.discard(secret)
        if tokens_too:
            self.tokens = {value: token for value, token in self.tokens.items() if token.secret != secret}

    def receive(
        self, environment: Environment, path: str, body: bytes, headers: Mapping[str, str], trouble: str | None
    ) -> Plan:
        """Decide what becomes of a request at the moment of its arrival."""
        watch = self._world.watch
        if path == COMPLETIONS:
            watch.record_request(environment, body, headers)
        else:
            watch.token_request(environment, body, headers)
        kind = trouble or self._world.chance("token-" if path != COMPLETIONS else "")
        if kind == "token-revoked" or (kind is None and self._world.chance_of("token-revoked")):
            self.tokens.clear()
            kind = None
        kind = kind.removeprefix("token-") if kind else None
        delay = self._world.latency()
        if kind == "black_hole":
            commit = (lambda: self._serve(path, body, headers)) if self._world.rng.random() < 0.5 else None
            return Plan(self._world.rng.uniform(0.0, 30.0), None, commit)
        if kind == "reset_before":
            return Plan(0.0, delay, reset=True)
        if kind in _STATUS:
            return Plan(0.0, delay, answer=Answer(_STATUS[kind], self._words(headers), self._retry_after(kind)))
        if kind in _OTHER_STATUS:
            return Plan(0.0, delay, answer=Answer(_OTHER_STATUS[kind], self._words(headers)))
        if kind == "junk":
            # The token endpoint answers 200 with something else; the API a 502 as proxies do.
            return Plan(0.0, delay, answer=Answer(200 if path != COMPLETIONS else 502, b"<html>" + MARKER.encode()))
        if kind == "slow":
            delay = self._world.rng.uniform(2.0, 25.0)

        def serve() -> Answer:
            answer = self._serve(path, body, headers)
            return Answer(answer.status, None) if kind == "unreadable" else answer

        return Plan(delay * 0.9, delay, serve, reset=kind == "reset_after")

    def _retry_after(self, kind: str) -> str | None:
        seconds = self._world.rng.choice((0.5, 1, 1.5, 7, 90, 1200, 5000))
        if kind == "429-seconds":
            return str(seconds)
        if kind == "429-date":
            return formatdate(EPOCH + self._world.kernel.now + seconds, usegmt=True)
        return None

    def _words(self, headers: Mapping[str, str]) -> bytes:
        """Give an error's body: it quotes all that must not go further."""
        return json.dumps({"message": f"{E_MAIL}: {dict(headers)}"}).encode()

    def _serve(self, path: str, body: bytes, headers: Mapping[str, str]) -> Answer:
        return self._record(body, headers) if path == COMPLETIONS else self._token(body, headers)

    def _record(self, body: bytes, headers: Mapping[str, str]) -> Answer:
        if not self._is_authorized(headers.get("Authorization", "")):
            return Answer(401, self._words(headers))
        key = body.decode()
        status = self._world.scenario.refused.get(json.loads(body)["userId"])
        if status is not None:
            # Thrive's words may quote the learner, and a careless server even the token.
            words = json.dumps({"message": f"no such user as {E_MAIL}"}).encode()
            return Answer(status, words if self._world.rng.random() < 0.5 else self._words(headers))
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
        # Nobody gives a token for thirty years, whatever it says.
        usual = 3600.0 if isinstance(lifetime, (str, bool)) or lifetime is None or lifetime <= 0 else float(lifetime)
        self._issued[value] = secret
        self.tokens[value] = Token(secret, self._world.kernel.now + min(usual, 86_400.0))
        fields = {"access_token": value, "token_type": "Bearer", "expires_in": lifetime}
        return Answer(200, json.dumps({name: value for name, value in fields.items() if value is not None}).encode())


def secret_of(body: bytes, headers: Mapping[str, str]) -> str:
    """Give the client secret that a token request holds, by either method."""
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
        """Read the current version."""
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
    """Give the forms in which a secret travels."""
    return secret, quote_plus(secret), base64.b64encode(f"{TENANT}:{secret}".encode()).decode()
