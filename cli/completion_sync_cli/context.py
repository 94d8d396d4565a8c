"""What a command works with: options, AWS, the stack, output, time."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from .errors import CommandError
from .interrupts import Stop, StoppableClock

if TYPE_CHECKING:
    from contextlib import AbstractContextManager
    from datetime import datetime

    from completion_sync.clock import Clock
    from completion_sync.settings import Settings

    from .aws import Aws
    from .output import Output
    from .stack import Stack


@dataclass
class Options:
    """The options that all commands have in common."""

    stack: str | None = None
    region: str | None = None
    profile: str | None = None
    as_json: bool = False


class Operator(Options):
    """One run of the command. What it needs is created on first use, as imports and look-ups take time."""

    @cached_property
    def output(self) -> Output:
        """Standard output and standard error."""
        from .output import Output  # noqa: PLC0415 - rich takes a tenth of a second, which --help need not spend

        return Output(as_json=self.as_json)

    @cached_property
    def stop(self) -> Stop:
        """Whether to stop."""
        return Stop()

    @cached_property
    def clock(self) -> Clock:
        """The time."""
        return StoppableClock(self.stop)

    @property
    def now(self) -> datetime:
        """The present moment, in UTC."""
        from datetime import UTC, datetime  # noqa: PLC0415

        return datetime.fromtimestamp(self.clock.now().wall, UTC)

    def interruptible(self) -> AbstractContextManager[None]:
        """Let Ctrl-C and SIGTERM end the block in order."""
        return self.stop.watched(self.output.warn)

    @cached_property
    def aws(self) -> Aws:
        """AWS, with the operator's own credentials."""
        from .aws import Aws  # noqa: PLC0415 - boto3 takes a fifth of a second

        return Aws(self.region, self.profile)

    @cached_property
    def found(self) -> Stack:
        """The stack.

        :raises CommandError: none is named, or there is no such stack.
        """
        from .stack import find_stack  # noqa: PLC0415

        if not self.stack:
            raise CommandError("No stack is named.", "Name it with --stack, or set COMPLETION_SYNC_STACK.")
        return find_stack(self.aws, self.stack)

    @cached_property
    def settings(self) -> Settings:
        """The function's settings."""
        from .stack import function_settings  # noqa: PLC0415

        return function_settings(self.aws, self.found)
