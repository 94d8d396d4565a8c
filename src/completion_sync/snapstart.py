"""SnapStart: the hooks before Lambda takes a snapshot of an execution environment and after each restore.

Every restored environment starts from the same memory. So the snapshot holds modules and wiring only: no secret, token,
connection or client (a boto3 client holds credentials), nothing that ages. After a restore everything remembered is
dropped, and the random number generator is reseeded.
"""

from __future__ import annotations

import random

from . import bootstrap


def register() -> None:
    """Register both hooks, if the runtime has them (Python 3.12 and newer in Lambda)."""
    try:
        from snapshot_restore_py import (  # type: ignore[import-untyped]  # noqa: PLC0415 - it has no type hints
            register_after_restore,
            register_before_snapshot,
        )
    except ImportError:
        return
    register_before_snapshot(before_snapshot)
    register_after_restore(after_restore)


def before_snapshot() -> None:
    """Import and wire what can be; a bad setting then fails the deployment, not the first message.

    :raises SettingError: a variable is missing or has a bad value.
    """
    import boto3  # noqa: F401, PLC0415 - the larger part of a cold start

    bootstrap.application()


def after_restore() -> None:
    """Share nothing with other environments: neither credentials nor sockets nor jitter."""
    random.seed()
    bootstrap.application().reset()
