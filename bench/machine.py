"""What the measurements were taken on, so that a reader can judge them. Names no host and no path."""

from __future__ import annotations

import os
import platform
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from typing import Any


def describe() -> dict[str, Any]:
    """Describe this machine; ``load`` is what it was busy with before the first measurement."""
    return {
        "cpu": _field(Path("/proc/cpuinfo"), "model name") or platform.machine(),
        "cores": os.cpu_count(),
        "memory_gb": round(int((_field(Path("/proc/meminfo"), "MemTotal") or "0 kB").split()[0]) / 1024**2),
        "system": f"{platform.system()} {platform.release().split('-')[0]}",
        "load": os.getloadavg()[0],
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
    }


def version_of(program: Path) -> str:
    """Return what a program says of its own version."""
    done = subprocess.run([str(program), "--version"], capture_output=True, text=True, check=True, timeout=30)  # noqa: S603
    return done.stdout.strip()


def _field(file: Path, name: str) -> str | None:
    if not file.exists():
        return None
    for line in file.read_text().splitlines():
        key, _, value = line.partition(":")
        if key.strip() == name:
            return value.strip()
    return None
