"""The composition root: what is built when, and that nothing is built before it is needed."""

import threading
from concurrent.futures import ThreadPoolExecutor

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
from tests.support.s3 import CONFIG_URI, FakeS3
from tests.support.sqs import FakeSqs


def settings(**variables):
    return Settings.from_env({"THRIVE_SECRET_ID": "thrive"} | variables)


def refuse(*_arguments, **_options):
    raise AssertionError("built too early")


# --- Nothing before it is needed ----------------------------------------------------------------------------------


def test_building_creates_no_client_no_connection_and_no_thread(monkeypatch):
    monkeypatch.setattr("boto3.client", refuse)
    monkeypatch.setattr(bootstrap, "connection_pool", refuse)
    monkeypatch.setattr(bootstrap, "ThreadPoolExecutor", refuse)
    before = threading.active_count()
    application = build(settings(), ssl_context=refuse)
    webhook_token_flow(settings(), FakeClock(), Counts())
    assert isinstance(application.clock, SystemClock)
    assert threading.active_count() == before
    application.reset()


def test_clients_of_aws_give_up_within_seconds(monkeypatch):
    configs = {}

    def create(name, **options):
        configs[name] = options["config"]
        return {"sqs": FakeSqs, "secretsmanager": FakeSecretsManager}[name]()

    monkeypatch.setattr("boto3.client", create)
    transport = FakeTransport(token_response(), json_response(201, {"statementId": "s"}))
    monkeypatch.setattr(bootstrap, "_transport", lambda *_: transport)
    application = build(settings(RETRY_QUEUE_URL="https://sqs.example/1/q"), clock=FakeClock())
    message = read_eventbridge_event(eventbridge_event())
    application.queues.requeue(message, 0)
    application.sync.run([message], far_deadline(application.clock))
    application.executor().shutdown()
    assert set(configs) == {"sqs", "secretsmanager"}
    for config in configs.values():
        tries = config.retries["total_max_attempts"]
        assert tries * (config.connect_timeout + config.read_timeout) <= 10


@pytest.mark.parametrize(("endpoint", "style"), [("http://127.0.0.1:9", "path"), ("", "auto")])
def test_s3_is_addressed_by_path_only_at_an_emulator(monkeypatch, endpoint, style):
    configs = []

    def create(name, **options):
        assert name == "s3"
        configs.append(options["config"])
        return FakeS3(mapping__json='{"version": 1}')

    monkeypatch.setattr("boto3.client", create)
    monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
    application = build(settings(CONFIG_URI=CONFIG_URI), clock=FakeClock())
    assert application.config is not None
    assert application.config.mapping(application.clock.now()) is not None
    [config] = configs
    assert config.s3 == {"addressing_style": style}


def test_calls_to_thrive_and_to_sqs_have_threads_of_their_own():
    application = build(settings(MAX_CONCURRENCY="3"))
    pools = [application.executor(), application.reporters()]
    assert [pool._max_workers for pool in pools if isinstance(pool, ThreadPoolExecutor)] == [3, bootstrap.REPORTERS]
    assert [application.executor(), application.reporters()] == pools
    for pool in pools:
        pool.shutdown()


def test_good_settings_are_read_once_and_bad_ones_fail_each_time(monkeypatch):
    bootstrap.application.cache_clear()
    monkeypatch.setenv("THRIVE_SECRET_ID", "")
    for _ in range(2):
        with pytest.raises(SettingError):
            bootstrap.application()
    monkeypatch.setenv("THRIVE_SECRET_ID", "thrive")
    first = bootstrap.application()
    monkeypatch.setenv("THRIVE_SECRET_ID", "")
    assert bootstrap.application() is first
    bootstrap.application.cache_clear()


# --- Lazy ---------------------------------------------------------------------------------------------------------


def test_lazy_creates_its_value_once_for_all_threads():
    created = []

    def create():
        threading.Event().wait(0.05)
        created.append(object())
        return created[-1]

    lazy = Lazy(create)
    assert created == []
    values = in_threads(8, lambda _: lazy())
    assert len(created) == 1
    assert values == created * 8


def test_two_values_are_not_created_at_once_as_boto3s_default_session_cannot():
    creating = most = 0

    def create():
        nonlocal creating, most
        creating += 1
        most = max(most, creating)
        threading.Event().wait(0.02)
        creating -= 1

    values = [Lazy(create) for _ in range(4)]
    in_threads(4, lambda index: values[index]())
    assert most == 1


def test_lazy_may_need_another_lazy():
    inner = Lazy(lambda: 1)
    outer = Lazy(lambda: inner() + 1)
    assert in_threads(1, lambda _: outer()) == [2]


def test_lazy_tries_again_after_a_failure_and_keeps_a_falsy_value():
    answers = [ValueError("the first time"), None]

    def create():
        answer = answers.pop(0)
        if answer:
            raise answer

    lazy = Lazy(create)
    with pytest.raises(ValueError, match="the first time"):
        lazy()
    assert lazy() is lazy() is None
    assert answers == []


# --- Hosts --------------------------------------------------------------------------------------------------------


@pytest.fixture
def hosts(monkeypatch):
    """Return the fake transports that are built instead of real ones, by base URL."""
    built = {}

    def transport(base_url, *_):
        return built.setdefault(base_url, FakeTransport(always=token_response()))

    monkeypatch.setattr(bootstrap, "_transport", transport)
    return built


def test_completions_go_to_the_public_api_and_webhook_tokens_come_from_the_user_api(hosts):
    public_api, user_api = "https://public.api.learn.link", "https://user.api.learn.link"
    ours = settings(THRIVE_SCOPE="api/all")
    build(ours)
    assert list(hosts) == [public_api]
    clock = FakeClock()
    token = webhook_token_flow(ours, clock, Counts()).fetch(credentials(), far_deadline(clock))
    assert token.value == "token-1"
    [request] = hosts[user_api].requests
    assert request.form["scope"] == ["api/webhooks"]
    assert hosts[public_api].requests == []


def test_base_url_replaces_both_hosts(hosts):
    ours = settings(THRIVE_BASE_URL="http://127.0.0.1:8080/")
    build(ours)
    webhook_token_flow(ours, FakeClock(), Counts())
    assert list(hosts) == ["http://127.0.0.1:8080"]
