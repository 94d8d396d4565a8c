"""What Linux says of a process: its time on the processor, its memory."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

_TICK = 1 / os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Process:
    """A running process."""

    pid: int

    def cpu_seconds(self) -> float:
        """Return the processor time of all its threads until now, the ended ones too."""
        fields = (Path("/proc") / str(self.pid) / "stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) * _TICK

    def memory_mb(self) -> tuple[float, float]:
        """Return resident memory, now and at its peak."""
        values = {}
        for line in (Path("/proc") / str(self.pid) / "status").read_text().splitlines():
            name, _, value = line.partition(":")
            if name in {"VmRSS", "VmHWM"}:
                values[name] = int(value.split()[0]) / 1024
        return values["VmRSS"], values["VmHWM"]


def child_of_session(session: int) -> Process:
    """Return the newest process of a session that is not its leader: the runtime, which the emulator starts."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != session:
            try:
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
            except OSError:  # it has just ended
                continue
            if int(fields[3]) == session:
                found.append((int(fields[19]), int(entry.name)))
    if not found:
        raise LookupError("the runtime has no process")
    return Process(max(found)[1])
