"""Child processes that leave nothing behind: each has a session of its own, which is killed as a whole."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from sandbox import SandboxError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

LOOPBACK = "127.0.0.1"
_POLL_SECONDS = 0.02
# Waits for a line from us. If we die without sending one (by SIGKILL, say), the pipe closes and this kills the child.
_GUARD = 'read _ || kill -9 "$0"'
_IS_LINUX = sys.platform.startswith("linux")


class StartError(SandboxError):
    """A child process did not start; the text names it and its log."""


def free_port() -> int:
    """Return a loopback port that was free a moment ago. The child binds it itself, so it is not reserved."""
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        port: int = probe.getsockname()[1]
        return port


def accepts(port: int) -> bool:
    """Return whether something listens on the loopback port."""
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex((LOOPBACK, port)) == 0


class Child:
    """A program in a session of its own: Ctrl-C in the terminal reaches only us, and we end the child in order."""

    def __init__(
        self, command: Sequence[str], environment: Mapping[str, str], *, cwd: Path, out: Path, err: Path | None = None
    ) -> None:
        """Start the program in `cwd` and append its output to `out` and `err` (None: both to `out`).

        :raises StartError: the program cannot be run at all.
        """
        self._name = Path(command[0]).name
        self._log = err or out
        with out.open("ab") as stdout, self._log.open("ab") as stderr:
            try:
                self._process = subprocess.Popen(  # noqa: S603 - our own command lines
                    command,
                    env=dict(environment),
                    cwd=cwd,
                    stdin=subprocess.DEVNULL,
                    stdout=stdout,
                    stderr=stderr,
                    start_new_session=True,
                )
            except OSError as error:
                raise StartError(f"{command[0]} cannot be run: {error.strerror}") from error
        self._killing = threading.Lock()
        self._guard = subprocess.Popen(  # noqa: S603 - our own script
            ["/bin/sh", "-c", _GUARD, str(self._process.pid)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    def is_running(self) -> bool:
        """Return whether the program is alive. This does not reap it, so its process id cannot be reused."""
        if self._process.returncode is not None:
            return False
        if not hasattr(os, "waitid"):  # macOS before Python 3.13
            return self._process.poll() is None
        return os.waitid(os.P_PID, self._process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None

    def wait_until(self, ready: Callable[[], bool], *, seconds: float) -> None:
        """Wait until `ready()` is true.

        :raises StartError: the program ended, or the time ran out.
        """
        deadline = time.monotonic() + seconds
        while not ready():
            if not self.is_running():
                raise StartError(f"{self._name} ended while starting; see {self._log}")
            if time.monotonic() > deadline:
                raise StartError(f"{self._name} was not ready within {seconds:g} s; see {self._log}")
            time.sleep(_POLL_SECONDS)

    def stop(self, *, patience: float = 5.0) -> None:
        """Ask the program to end (SIGTERM), and after `patience` seconds kill what is left of its session."""
        if self.is_running():
            self._process.send_signal(signal.SIGTERM)
            deadline = time.monotonic() + patience
            while self.is_running() and time.monotonic() < deadline:
                time.sleep(_POLL_SECONDS)
        self.kill()

    def kill(self) -> None:
        """Kill the whole session with SIGKILL."""
        with self._killing:
            if self._process.returncode is None:
                self._signal(signal.SIGKILL)
                self._process.wait()
            if self._guard.returncode is None:
                self._guard.communicate(b"\n")

    def freeze(self) -> None:
        """Stop the program's children, or the program itself if it has none, with SIGSTOP."""
        self._signal(signal.SIGSTOP, children_only=True)

    def thaw(self) -> None:
        """Continue the whole session: the program may have started a child since it was frozen."""
        self._signal(signal.SIGCONT)

    def _signal(self, number: signal.Signals, *, children_only: bool = False) -> None:
        if not _IS_LINUX:
            os.killpg(self._process.pid, number)
            return
        # The second round catches a process that was started during the first.
        for _ in range(2):
            members = session_members(self._process.pid)
            children = [pid for pid in members if pid != self._process.pid]
            for pid in (children or members) if children_only else members:
                with suppress(ProcessLookupError):
                    os.kill(pid, number)


def proc_stat(pid: int | str) -> list[str]:
    """Return the fields of /proc/PID/stat that follow the program's name, which may hold spaces (proc_pid_stat(5))."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()


def session_members(leader: int) -> list[int]:
    """Return the processes of a session, the oldest first.

    A process group would not do: Lambda's emulator makes one for its child.
    """
    members = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with suppress(OSError):  # it has just ended
                fields = proc_stat(entry.name)
                if int(fields[3]) == leader:
                    members.append((int(fields[19]), int(entry.name)))
    return [pid for _, pid in sorted(members)]
