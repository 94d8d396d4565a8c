"""The composition root: builds the objects of one execution environment, once, from its settings.

Nothing is built at import. boto3 clients and connections are created on first use, so that a path that needs none does
not pay for any.
"""

from __future__ import annotations

import functools
import os
import ssl
import threading
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeVar

from .authorization import Authorizer
from .clock import Clock, SystemClock
from .connections import connection_pool
from .credentials import CredentialsCache
from .errors import SettingError
from .observability import Telemetry
from .people import People
from .pressure import Pressure
from .queues import Queues
from .resolution import Resolver
from .retry import Backoff, RetryPolicy
from .settings import WEBHOOK_SCOPE, Settings
from .sync import CompletionSync
from .thrive import ThriveApi, ThriveClient
from .tokens import ClientCredentialsFlow, TokenCache
from .transport import Transport

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from botocore.config import Config as ClientConfig
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_secretsmanager import SecretsManagerClient
    from mypy_boto3_sqs import SQSClient

    from .config import Config

T = TypeVar("T")

# How many calls to SQS are made side by side.
REPORTERS = 10


class Lazy(Generic[T]):
    """A value that is created once, on first use, by whichever thread needs it first."""

    # One lock for all: boto3's default session is not safe to create clients from in two threads at once.
    _lock = threading.RLock()

    def __init__(self, make: Callable[[], T]) -> None:
        self._make = make
        self._made: list[T] = []

    def __call__(self) -> T:
        """Return the value, creating it on first use."""
        if not self._made:
            with self._lock:
                if not self._made:
                    self._made.append(self._make())
        return self._made[0]


@dataclass(frozen=True, slots=True)
class Application:
    """What the handler works with."""

    settings: Settings
    credentials: CredentialsCache
    completions: ThriveApi
    lookups: ThriveApi
    sync: CompletionSync
    config: Config | None
    sqs: Callable[[], SQSClient]
    queues: Queues
    backoff: Backoff
    telemetry: Telemetry
    clock: Clock
    executor: Callable[[], Executor]
    reporters: Callable[[], Executor]
    reset: Callable[[], None]


def build(
    settings: Settings,
    *,
    clock: Clock | None = None,
    secrets: Callable[[], SecretsManagerClient] | None = None,
    sqs: Callable[[], SQSClient] | None = None,
    s3: Callable[[], S3Client] | None = None,
    ssl_context: Callable[[], ssl.SSLContext] = ssl.create_default_context,
) -> Application:
    """Build the object graph; the keyword arguments are for tests."""
    clock = clock or SystemClock()
    telemetry = _telemetry(settings)
    retry = RetryPolicy(clock)
    executor = Lazy[Executor](lambda: ThreadPoolExecutor(settings.max_concurrency, thread_name_prefix="record"))
    # Threads of their own for the calls to SQS: calls to Thrive that hang must not keep them waiting.
    reporters = Lazy[Executor](lambda: ThreadPoolExecutor(REPORTERS, thread_name_prefix="report"))
    completions = Pressure("completions", clock, telemetry.count, telemetry.notice)
    lookups = Pressure("lookups", clock, telemetry.count, telemetry.notice, below=completions)
    transport = _transport(settings.public_api, settings, Lazy(ssl_context), clock)
    credentials = CredentialsCache(
        settings.secret_id, secrets or Lazy(_secrets_client), settings.secret_max_age_seconds, clock, telemetry.count
    )
    resets = [credentials.clear, transport.close, completions.reset, lookups.reset]

    def token_cache(scope: str, what: str) -> TokenCache:
        requests = Pressure(what, clock, telemetry.count, telemetry.notice, subjects_of_an_outage=1)
        flow = ClientCredentialsFlow(transport, scope, settings.request_timeout_seconds, clock, telemetry.count)
        tokens = TokenCache(flow, retry, requests, clock)
        resets.extend([requests.reset, tokens.clear])
        return tokens

    def api(tokens: TokenCache, scope: str, answered: Callable[[], None]) -> ThriveApi:
        return ThriveApi(
            transport,
            Authorizer(credentials, tokens, telemetry.count),
            scope,
            settings.request_timeout_seconds,
            clock,
            answered,
            telemetry.count,
            telemetry.observe_latency,
        )

    write_tokens = token_cache(settings.scope, "tokens")
    read_tokens = write_tokens
    if not settings.one_scope_suffices:
        # A tenant whose credentials may not read loses nothing but references.
        read_tokens = token_cache(settings.read_scope, "tokens for lookups")
    completions_api = api(write_tokens, "api/write", completions.answered)
    lookups_api = api(read_tokens, "api/read", lookups.answered)
    people = People(
        lookups_api,
        retry,
        lookups,
        settings.user_cache_seconds,
        max(1, settings.max_concurrency // 2),
        clock,
        telemetry.count,
    )
    resets.append(people.clear)
    config = _config(settings, s3, clock, telemetry)
    if config is not None:
        resets.append(config.clear)

    def reset() -> None:
        for forget in resets:
            forget()

    sqs = sqs or Lazy(_sqs_client)
    return Application(
        settings=settings,
        credentials=credentials,
        completions=completions_api,
        lookups=lookups_api,
        sync=CompletionSync(
            ThriveClient(completions_api),
            Resolver(people, config),
            retry,
            completions,
            lookups,
            settings.user_wait_hours * 3600,
            executor,
            clock,
            telemetry.count,
            telemetry.unexpected,
        ),
        config=config,
        sqs=sqs,
        queues=Queues(
            sqs,
            settings.dead_letter_queue_url,
            settings.retry_queue_url,
            clock,
            telemetry.notice,
        ),
        backoff=Backoff(settings.backoff_base_seconds, settings.backoff_cap_seconds),
        telemetry=telemetry,
        clock=clock,
        executor=executor,
        reporters=reporters,
        reset=reset,
    )


def webhook_token_flow(settings: Settings, clock: Clock, count: Callable[[str], None]) -> ClientCredentialsFlow:
    """Build the flow that requests a token with the scope ``api/webhooks`` from the user API host."""
    transport = _transport(settings.user_api, settings, Lazy(ssl.create_default_context), clock)
    return ClientCredentialsFlow(transport, WEBHOOK_SCOPE, settings.request_timeout_seconds, clock, count)


def _config(settings: Settings, s3: Callable[[], S3Client] | None, clock: Clock, telemetry: Telemetry) -> Config | None:
    if settings.config_uri is None:
        return None
    from .config import Config  # noqa: PLC0415 - only where it is configured

    return Config(
        settings.config_uri,
        s3 or Lazy(_s3_client),
        settings.config_max_age_seconds,
        clock,
        telemetry.notice,
    )


def _telemetry(settings: Settings) -> Telemetry:
    try:
        return Telemetry(settings.service, settings.metrics_namespace, settings.log_level)
    except Exception:  # noqa: BLE001 - Powertools reads further variables, and its errors quote their values
        error = SettingError("POWERTOOLS_*", "one of these variables has a value that Powertools does not accept")
    raise error


def _transport(base_url: str, settings: Settings, ssl_context: Callable[[], ssl.SSLContext], clock: Clock) -> Transport:
    return Transport(lambda: connection_pool(base_url, settings.max_concurrency, ssl_context, clock))


def _secrets_client() -> SecretsManagerClient:
    import boto3  # noqa: PLC0415 - a tenth of a second, only for those who need a client

    return boto3.client("secretsmanager", config=_client_config())


def _sqs_client() -> SQSClient:
    import boto3  # noqa: PLC0415 - only where a client is created

    return boto3.client("sqs", config=_client_config())


def _s3_client() -> S3Client:
    import boto3  # noqa: PLC0415 - only where a client is created

    # An emulator answers under its own host name only, not under one for each bucket.
    style: Literal["path", "auto"] = "path" if _environment().get("AWS_ENDPOINT_URL") else "auto"
    return boto3.client("s3", config=_client_config(s3={"addressing_style": style}))


def _client_config(**options: Any) -> ClientConfig:
    from botocore.config import Config  # noqa: PLC0415 - likewise

    # Short, so that a service that does not answer costs some seconds and not the invocation.
    return Config(connect_timeout=2, read_timeout=3, retries={"mode": "standard", "total_max_attempts": 2}, **options)


@functools.cache
def application() -> Application:
    """Return this execution environment's application, built on the first call.

    :raises SettingError: a variable is missing or has a bad value.
    """
    return build(Settings.from_env(_environment()))


def _environment() -> Mapping[str, str]:
    return os.environ
