"""SnapStart: the snapshot holds nothing that must differ between environments, and a restore starts afresh."""

import random
import sys

import pytest

from completion_sync import bootstrap, handler, snapstart
from completion_sync.errors import SettingError


@pytest.fixture
def environment(monkeypatch):
    """Give a valid environment and no application built so far."""
    monkeypatch.setenv("THRIVE_SECRET_ID", "thrive")
    bootstrap.application.cache_clear()
    yield monkeypatch
    bootstrap.application.cache_clear()


@pytest.fixture
def hooks():
    """Give the runtime's registry of hooks, empty before and after."""
    registry = pytest.importorskip("snapshot_restore_py")
    registry.get_before_snapshot().clear()
    registry.get_after_restore().clear()
    yield registry
    registry.get_before_snapshot().clear()
    registry.get_after_restore().clear()


def run(registered):
    """Run hooks as the runtime does: each with its own arguments."""
    for function, arguments, keywords in registered:
        function(*arguments, **keywords)


def test_hooks_run_in_the_runtime(environment, hooks):
    """Both hooks are registered with the runtime and run without a network, a secret or a client."""
    snapstart.register()
    run(hooks.get_before_snapshot())
    built = bootstrap.application()
    run(hooks.get_after_restore())
    assert bootstrap.application() is built


def test_before_the_snapshot_no_client_is_made(environment, monkeypatch):
    """Before the snapshot no boto3 client and no connection pool is made, as these hold credentials and sockets."""

    def refuse(*_args, **_kwargs):
        raise AssertionError("made before the snapshot")

    monkeypatch.setattr("boto3.client", refuse)
    monkeypatch.setattr(bootstrap, "connection_pool", refuse)
    snapstart.before_snapshot()
    assert bootstrap.application() is bootstrap.application()


def test_a_restore_empties_every_cache(environment, monkeypatch):
    """After a restore the credentials, the token and the connections are gone."""
    emptied = []
    for owner, method in (
        (bootstrap.CredentialsCache, "clear"),
        (bootstrap.TokenCache, "clear"),
        (bootstrap.Transport, "close"),
    ):
        monkeypatch.setattr(owner, method, lambda self, owner=owner: emptied.append(owner))
    snapstart.before_snapshot()
    assert emptied == []
    snapstart.after_restore()
    assert set(emptied) == {bootstrap.CredentialsCache, bootstrap.TokenCache, bootstrap.Transport}


def test_restored_environments_differ_in_their_jitter(environment):
    """Two environments restored from one snapshot do not draw the same random numbers."""
    snapshot = random.getstate()
    draws = []
    for _ in range(2):
        random.setstate(snapshot)
        snapstart.after_restore()
        draws.append([random.random() for _ in range(8)])
    assert draws[0] != draws[1]


def test_a_bad_setting_fails_the_snapshot(environment):
    """A bad setting ends the deployment of a version, with the variable's name, and not the first message."""
    environment.setenv("MAX_CONCURRENCY", "many")
    with pytest.raises(SettingError, match="MAX_CONCURRENCY"):
        snapstart.before_snapshot()


def test_without_the_runtimes_registry_nothing_is_registered(monkeypatch):
    """Where the runtime has no hooks, the handler works without them."""
    monkeypatch.setitem(sys.modules, "snapshot_restore_py", None)
    snapstart.register()
    assert callable(handler.lambda_handler)
