"""The error that ends a command with a message, and the exit statuses."""

from __future__ import annotations

# The exit statuses of every command: success; something is wrong or was not completed; wrong usage or no access.
OK, WRONG, UNUSABLE = 0, 1, 2


class CommandError(Exception):
    """The command cannot go on. ``remedy`` tells the operator what to do, ``status`` is the exit status."""

    def __init__(self, message: str, remedy: str = "", *, status: int = UNUSABLE) -> None:
        super().__init__(message)
        self.message = message
        self.remedy = remedy
        self.status = status
