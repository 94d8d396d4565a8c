"""SnapStart: the snapshot holds nothing that must differ between environments, and a restore starts afresh."""

import random
import sys
from collections import Counter

import pytest

from completion_sync import bootstrap, handler, snapstart
from completion_sync.config import Config
from completion_sync.errors import SettingError


@pytest.fixture
def environment(monkeypatch):
    """Provide a valid environment in which no application has been built."""
    monkeypatch.setenv("THRIVE_SECRET_ID", "thrive")
    bootstrap.application.cache_clear()
    yield monkeypatch
    bootstrap.application.cache_clear()


def test_hooks_are_registered_with_the_runtime_and_need_no_network_no_secret_and_no_client(environment):
    registry = pytest.importorskip("snapshot_restore_py")
    lists = [registry.get_before_snapshot(), registry.get_after_restore()]
    for hooks in lists:
        hooks.clear()
    snapstart.register()
    for hooks in lists:
        [(hook, arguments, keywords)] = hooks
        hook(*arguments, **keywords)
        hooks.clear()
        built = bootstrap.application.cache_info()
        assert (built.currsize, built.misses) == (1, 1)


def test_before_the_snapshot_no_client_is_made(environment, monkeypatch):
    def refuse(*_args, **_kwargs):
        raise AssertionError("a client or a connection: it would hold credentials or a socket")

    monkeypatch.setattr("boto3.client", refuse)
    monkeypatch.setattr(bootstrap, "connection_pool", refuse)
    snapstart.before_snapshot()
    assert "boto3" in sys.modules
    assert bootstrap.application.cache_info().currsize == 1


def test_restore_empties_every_cache(environment, monkeypatch):
    environment.setenv("CONFIG_URI", "s3://bucket/prefix/")
    methods = {
        (Config, "clear"),
        (bootstrap.People, "clear"),
        (bootstrap.CredentialsCache, "clear"),
        (bootstrap.TokenCache, "clear"),
        (bootstrap.Transport, "close"),
        (bootstrap.Pressure, "reset"),
    }
    emptied = []
    for owner, method in methods:
        monkeypatch.setattr(owner, method, lambda self, owner=owner: emptied.append((owner, id(self))))
    snapstart.before_snapshot()
    emptied.clear()
    snapstart.after_restore()
    assert len(set(emptied)) == len(emptied)
    # Completions and lookups have a pressure and a token each, and each token has a pressure of its own.
    several = {bootstrap.TokenCache: 2, bootstrap.Pressure: 4}
    assert Counter(owner for owner, _ in emptied) == {owner: several.get(owner, 1) for owner, _ in methods}


def test_restored_environments_differ_in_their_jitter(environment):
    snapshot = random.getstate()
    draws = []
    for _ in range(2):
        random.setstate(snapshot)
        snapstart.after_restore()
        draws.append([random.random() for _ in range(8)])
    assert draws[0] != draws[1]


def test_bad_setting_fails_the_snapshot_by_its_name(environment):
    environment.setenv("MAX_CONCURRENCY", "many")
    with pytest.raises(SettingError, match="MAX_CONCURRENCY"):
        snapstart.before_snapshot()


def test_without_the_runtimes_registry_nothing_is_registered(monkeypatch):
    monkeypatch.setitem(sys.modules, "snapshot_restore_py", None)
    snapstart.register()
    assert callable(handler.lambda_handler)
