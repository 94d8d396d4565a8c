"""A share of one processor, as Lambda grants it by memory: by cgroup, where the machine allows one to be made."""

from __future__ import annotations

import os
from pathlib import Path

# Lambda, "Configure Lambda function memory": at 1,769 MB a function has the equivalent of one vCPU.
MB_PER_CPU = 1769
# The kernel's scheduler doles the share out in slices of this length. Lambda's own is not documented.
PERIOD_MICROSECONDS = 20_000
_ROOT = Path("/sys/fs/cgroup")


def share_of(memory_mb: int) -> float:
    """Return the processors that a memory size comes with."""
    return memory_mb / MB_PER_CPU


class CpuShare:
    """A group of processes that together get a share of one processor."""

    def __init__(self, folder: Path, *, is_v2: bool) -> None:
        self._folder = folder
        self._is_v2 = is_v2

    @classmethod
    def create(cls) -> CpuShare | None:
        """Make an empty group; None where this machine or this user may not."""
        for parent, is_v2 in ((_ROOT / "cpu", False), (_ROOT, True)):
            folder = parent / f"completion-sync-bench-{os.getpid()}"
            wanted = folder / ("cpu.max" if is_v2 else "cpu.cfs_quota_us")
            try:
                folder.mkdir()
            except OSError:
                continue
            if wanted.exists():
                return cls(folder, is_v2=is_v2)
            folder.rmdir()
        return None

    def set(self, processors: float) -> None:
        """Limit the group."""
        quota = str(round(processors * PERIOD_MICROSECONDS))
        if self._is_v2:
            (self._folder / "cpu.max").write_text(f"{quota} {PERIOD_MICROSECONDS}")
        else:
            (self._folder / "cpu.cfs_period_us").write_text(str(PERIOD_MICROSECONDS))
            (self._folder / "cpu.cfs_quota_us").write_text(quota)

    def add(self, pid: int) -> None:
        """Put a process, with all its threads, into the group."""
        (self._folder / "cgroup.procs").write_text(str(pid))

    def release(self, pid: int) -> None:
        """Take a process out again."""
        (self._folder.parent / "cgroup.procs").write_text(str(pid))

    def remove(self) -> None:
        """Remove the group, which must be empty."""
        self._folder.rmdir()
