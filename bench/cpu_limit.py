"""Durations with the share of a processor that Lambda gives to a memory size."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Self

from bench.derived import MB_PER_CPU

if TYPE_CHECKING:
    from bench.function import Function

# The kernel hands out the share in slices of this length; Lambda's own is not documented.
_PERIOD_MICROSECONDS = 20_000
_CGROUPS = Path("/sys/fs/cgroup")
_V1, _V2 = "cpu.cfs_quota_us", "cpu.max"


class CpuLimit:
    """A control group that limits a function's processor time, to be used as a context manager.

    Where this user cannot make a group, durations are computed instead: the time that a batch took without a limit,
    plus its processor time stretched by the share. That is too long where the two would have overlapped.
    """

    def __enter__(self) -> Self:
        self._group: Path | None = None
        for parent in (_CGROUPS / "cpu", _CGROUPS):
            group = parent / f"completion-sync-bench-{os.getpid()}"
            with suppress(OSError):
                group.mkdir()
                if (group / _V1).exists() or (group / _V2).exists():
                    self._group = group
                    break
                group.rmdir()
        return self

    def __exit__(self, *_: object) -> None:
        if self._group is not None:
            self._group.rmdir()

    @property
    def method(self) -> str:
        """How durations are obtained: `cgroup` or `model`."""
        return "model" if self._group is None else "cgroup"

    def duration_ms(self, function: Function, size: int, memory_mb: int) -> float:
        """Return the duration of one batch at a memory size."""
        share = memory_mb / MB_PER_CPU
        if self._group is None:
            before = function.cpu_ms
            duration = function.invoke(size)
            return duration + (function.cpu_ms - before) * max(0.0, 1 / share - 1)
        quota = round(share * _PERIOD_MICROSECONDS)
        if (self._group / _V2).exists():
            (self._group / _V2).write_text(f"{quota} {_PERIOD_MICROSECONDS}")
        else:
            (self._group / "cpu.cfs_period_us").write_text(str(_PERIOD_MICROSECONDS))
            (self._group / _V1).write_text(str(quota))
        (self._group / "cgroup.procs").write_text(str(function.pid))
        try:
            return function.invoke(size)
        finally:
            (self._group.parent / "cgroup.procs").write_text(str(function.pid))
