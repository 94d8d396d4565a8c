"""What every command works with: options, AWS, the stack, output and time."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from typing import TYPE_CHECKING

from .errors import CommandError
from .interrupts import Stop, StoppableClock

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from completion_sync.clock import Clock
    from completion_sync.settings import Settings

    from .aws import Aws
    from .output import Output
    from .stack import Stack


@dataclass
class Operator:
    """One run of a command: the options that all commands share, and what is created on first use to save time."""

    stack: str | None = None
    region: str | None = None
    profile: str | None = None
    as_json: bool = False

    @cached_property
    def output(self) -> Output:
        """Standard output and standard error."""
        from .output import Output  # noqa: PLC0415 - importing rich takes a tenth of a second, which --help does not need

        return Output(as_json=self.as_json)

    @cached_property
    def stop(self) -> Stop:
        """Whether the operator wants to stop."""
        return Stop()

    @cached_property
    def clock(self) -> Clock:
        """The time."""
        return StoppableClock(self.stop)

    @property
    def now(self) -> datetime:
        """The current time in UTC."""
        return datetime.fromtimestamp(self.clock.now().wall, UTC)

    def interruptible(self) -> AbstractContextManager[None]:
        """Let Ctrl-C and SIGTERM end the block cleanly."""
        return self.stop.watched(self.output.warn)

    @cached_property
    def aws(self) -> Aws:
        """AWS, with the operator's own credentials."""
        from .aws import Aws  # noqa: PLC0415 - importing boto3 takes a fifth of a second

        return Aws(self.region, self.profile)

    @property
    def region_in_use(self) -> str:
        """The Region that AWS was called in, empty if unknown."""
        return self.region or (self.aws.region if "aws" in self.__dict__ else "")

    @cached_property
    def found(self) -> Stack:
        """The stack.

        :raises CommandError: no stack was given, or it does not exist.
        """
        from .stack import find_stack  # noqa: PLC0415 - it imports botocore

        if not self.stack:
            raise CommandError("No stack was given.", "Use --stack, or set COMPLETION_SYNC_STACK.")
        return find_stack(self.aws, self.stack)

    @cached_property
    def settings(self) -> Settings:
        """The function's settings."""
        from .stack import function_settings  # noqa: PLC0415 - likewise

        return function_settings(self.aws, self.found)
