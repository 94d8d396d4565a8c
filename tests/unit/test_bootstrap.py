"""The composition root: what is built when, and that nothing is before it is needed."""

from __future__ import annotations

import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from completion_sync import bootstrap
from completion_sync.bootstrap import Lazy, build, webhook_token_flow
from completion_sync.clock import SystemClock
from completion_sync.errors import SettingError
from completion_sync.events import read_eventbridge_event
from completion_sync.settings import Settings
from tests.support.fakes import (
    Counts,
    FakeClock,
    FakeSecretsManager,
    FakeTransport,
    credentials,
    eventbridge_event,
    far_deadline,
    in_threads,
    json_response,
    token_response,
)
from tests.support.sqs import FakeSqs

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT = Path(__file__).parents[2]


def settings(**variables: str) -> Settings:
    """Give settings."""
    return Settings.from_env({"THRIVE_SECRET_ID": "thrive"} | variables)


def refuse(*_arguments: Any, **_options: Any) -> Any:
    """Fail the test: this is not to be made."""
    raise AssertionError("made too early")


# --- Nothing before it is needed ----------------------------------------------------------------------------------

IMPORTING = """
import os, socket, sys, threading

def refuse(*_arguments, **_options):
    raise AssertionError("touched at import")

socket.socket.connect = refuse
socket.getaddrinfo = refuse

class Closed(dict):
    def get(self, name, default=None):
        touched.append(name)
        return default
    def __getitem__(self, name):
        touched.append(name)
        raise KeyError(name)

touched = []
sys.path.insert(0, "src")
import botocore.exceptions, urllib3, aws_lambda_powertools.logging  # these may read theirs
import aws_lambda_powertools.metrics.provider.cloudwatch_emf.cloudwatch
os.environ = Closed()
import completion_sync.handler
assert touched == [], touched
assert "boto3" not in sys.modules
assert threading.active_count() == 1
print("fine")
"""


def test_importing_touches_neither_network_nor_environment() -> None:
    """Importing the handler reads no variable, opens no connection, starts no thread and loads no boto3."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", IMPORTING],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.stdout, done.returncode) == ("fine\n", 0), done.stderr


def test_building_makes_no_client_no_connection_and_no_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """The object graph is built without a boto3 client, a connection pool, a TLS context or a thread."""
    # Given
    monkeypatch.setattr("boto3.client", refuse)
    monkeypatch.setattr(bootstrap, "connection_pool", refuse)
    monkeypatch.setattr(bootstrap, "ThreadPoolExecutor", refuse)
    before = threading.active_count()

    # When
    application = build(settings(), ssl_context=refuse)

    # Then
    assert isinstance(application.clock, SystemClock)
    assert threading.active_count() == before
    application.reset()


def test_clients_are_short_tempered(monkeypatch: pytest.MonkeyPatch) -> None:
    """boto3's clients give up within seconds, so that a silent service does not cost the invocation."""
    # Given
    made: dict[str, Any] = {}

    def make(name: str, **options: Any) -> Any:
        made[name] = options["config"]
        return {"sqs": FakeSqs, "secretsmanager": FakeSecretsManager}[name]()

    monkeypatch.setattr("boto3.client", make)
    transport = FakeTransport(token_response(), json_response(201, {"statementId": "s"}))
    monkeypatch.setattr(bootstrap, "_transport", lambda *_: transport)

    # When
    application = build(settings(RETRY_QUEUE_URL="https://sqs.example/1/q"), clock=FakeClock())
    message = read_eventbridge_event(eventbridge_event())
    application.queues.requeue(message, 0)
    application.sync.run([message], far_deadline(application.clock))
    application.reporters().shutdown()

    # Then
    assert set(made) == {"sqs", "secretsmanager"}
    for config in made.values():
        tries = config.retries["total_max_attempts"]
        assert tries * (config.connect_timeout + config.read_timeout) <= 10


def test_size_of_the_pool_is_the_setting() -> None:
    """MAX_CONCURRENCY is the number of threads."""
    application = build(settings(MAX_CONCURRENCY="3"))
    executor = application.executor()
    assert isinstance(executor, ThreadPoolExecutor)
    assert executor._max_workers == 3
    assert application.executor() is executor
    executor.shutdown()


def test_application_is_built_once_and_a_bad_setting_every_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Good settings are read once for an execution environment; bad ones fail each time until they are put right."""
    # Given
    bootstrap.application.cache_clear()
    monkeypatch.setenv("THRIVE_SECRET_ID", "")
    for _ in range(2):
        with pytest.raises(SettingError):
            bootstrap.application()

    # When
    monkeypatch.setenv("THRIVE_SECRET_ID", "thrive")
    first = bootstrap.application()
    monkeypatch.setenv("THRIVE_SECRET_ID", "")

    # Then
    assert bootstrap.application() is first
    bootstrap.application.cache_clear()


# --- Lazy ---------------------------------------------------------------------------------------------------------


def test_lazy_makes_once_for_all_threads() -> None:
    """However many threads ask at once, the thing is made once, and each gets it."""
    # Given
    made: list[object] = []

    def make() -> object:
        threading.Event().wait(0.05)
        made.append(object())
        return made[-1]

    lazy = Lazy(make)
    assert made == []

    # When
    got = in_threads(8, lambda _: lazy())

    # Then
    assert len(made) == 1
    assert got == made * 8


def test_lazy_makes_two_things_one_after_the_other() -> None:
    """Two clients are not made at the same time: boto3's default session is not made for that."""
    # Given
    in_making = 0
    most = 0

    def make() -> None:
        nonlocal in_making, most
        in_making += 1
        most = max(most, in_making)
        threading.Event().wait(0.02)
        in_making -= 1

    things: list[Callable[[], None]] = [Lazy(make) for _ in range(4)]

    # When
    in_threads(4, lambda index: things[index]())

    # Then
    assert most == 1


def test_lazy_may_need_another_lazy() -> None:
    """A thing whose making needs another one does not wait for itself."""
    inner = Lazy(lambda: 1)
    outer = Lazy(lambda: inner() + 1)
    done = in_threads(1, lambda _: outer())
    assert done == [2]


def test_lazy_tries_again_after_a_failure() -> None:
    """What could not be made is tried again when it is asked for again, and what is falsy is made once all the same."""
    answers: list[Any] = [ValueError("the first time"), None]

    def make() -> None:
        answer = answers.pop(0)
        if answer:
            raise answer

    lazy = Lazy(make)
    with pytest.raises(ValueError, match="the first time"):
        lazy()
    assert lazy() is lazy() is None
    assert answers == []


# --- The webhook tokens -------------------------------------------------------------------------------------------

HOSTS = {
    "production": ("https://public.api.learn.link", "https://user.api.learn.link"),
    "staging": ("https://public.api.learnstaging.link", "https://user.api.learnstaging.link"),
    "production-mea": ("https://public.api.mea.learn.tech", "https://user.api.mea.learn.tech"),
    "staging-mea": ("https://public.api.meastaging.learn.tech", "https://user.api.meastaging.learn.tech"),
}


@pytest.fixture
def hosts(monkeypatch: pytest.MonkeyPatch) -> dict[str, FakeTransport]:
    """Return the fake transports that are made in place of real ones, by base URL."""
    made: dict[str, FakeTransport] = {}

    def transport(base_url: str, *_: object) -> FakeTransport:
        made[base_url] = FakeTransport(always=token_response())
        return made[base_url]

    monkeypatch.setattr(bootstrap, "_transport", transport)
    return made


@pytest.mark.parametrize("environment", HOSTS)
def test_webhook_tokens_come_from_the_user_api(environment: str, hosts: dict[str, FakeTransport]) -> None:
    """A webhook token is asked for at the environment's user API, with the scope api/webhooks."""
    # When
    clock = FakeClock()
    flow = webhook_token_flow(settings(THRIVE_ENVIRONMENT=environment, THRIVE_SCOPE="api/all"), clock, Counts())
    token = flow.fetch(credentials(), far_deadline(clock))

    # Then
    assert token.value == "token-1"
    assert list(hosts) == [HOSTS[environment][1]]
    [request] = hosts[HOSTS[environment][1]].requests
    assert request.form["scope"] == ["api/webhooks"]


@pytest.mark.parametrize("environment", HOSTS)
def test_completions_and_their_tokens_go_to_the_public_api(environment: str, hosts: dict[str, FakeTransport]) -> None:
    """The application talks to the environment's public API, and to no other host."""
    build(settings(THRIVE_ENVIRONMENT=environment))
    assert list(hosts) == [HOSTS[environment][0]]


def test_base_url_replaces_both_hosts(hosts: dict[str, FakeTransport]) -> None:
    """THRIVE_BASE_URL stands for both APIs."""
    mine = settings(THRIVE_BASE_URL="http://127.0.0.1:8080/")
    build(mine)
    webhook_token_flow(mine, FakeClock(), Counts())
    assert list(hosts) == ["http://127.0.0.1:8080"]


def test_webhook_flow_makes_no_connection_before_it_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """Building the flow opens nothing and loads no certificates."""
    monkeypatch.setattr(bootstrap, "connection_pool", refuse)
    webhook_token_flow(settings(), FakeClock(), Counts())
