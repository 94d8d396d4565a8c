"""Files that a command writes: those with personal data, and databases that last as long as the run."""

from __future__ import annotations

import os
import sqlite3
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from pathlib import Path


def open_private(path: Path) -> TextIO:
    """Open a text file for writing, replacing what it holds. If it is created, only its owner can read it."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    return open(descriptor, "w", encoding="utf-8", errors="replace", newline="")  # noqa: PTH123 - a descriptor, not a path


def scratch_database(path: Path) -> sqlite3.Connection:
    """Open a database that only this process uses and that need not survive it: fast, in 16 MiB of memory."""
    database = sqlite3.connect(path, isolation_level=None)
    for setting in ("journal_mode=OFF", "synchronous=OFF", "locking_mode=EXCLUSIVE", "cache_size=-16384"):
        database.execute(f"PRAGMA {setting}")
    return database
