"""The entry point of `completion-sync`."""

from __future__ import annotations

import importlib
import os
import signal
import sys
from typing import TYPE_CHECKING, Any, NoReturn

import click

from completion_sync import __version__

from .context import Operator
from .errors import UNUSABLE, WRONG, CommandError
from .options import common

if TYPE_CHECKING:
    from collections.abc import Sequence

# The module and the summary of each command. A module is imported only when its command is used.
_COMMANDS = {
    "check": ("check", "Find what is wrong with a deployed stack, and what to do."),
    "dead-letters": ("dead_letters", "Show, export or delete what could not be recorded."),
    "redrive": ("redrive", "Send dead letters back to the source queue."),
    "trace": ("trace", "Show what happened to one learner's or one message's record."),
    "backfill": ("backfill", "Send a history of completions from a file."),
    "reconcile": ("reconcile", "Compare a history with what Thrive holds."),
    "config": ("config_files", "Check, upload or download the mapping and the content table."),
    "completion": ("shell_completion", "Print a shell completion script."),
}
_DEBUG = "COMPLETION_SYNC_DEBUG"


class _Commands(click.Group):
    """The commands, imported on demand."""

    def list_commands(self, _context: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, _context: click.Context, name: str) -> click.Command | None:
        if name not in _COMMANDS:
            return None
        module = importlib.import_module(f".{_COMMANDS[name][0]}", __package__)
        command: click.Command = module.command
        return command

    def format_commands(self, _context: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, what) for name, (_, what) in _COMMANDS.items()])


@click.group(
    cls=_Commands,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
    epilog="Start with:  completion-sync check --stack my-stack",
)
@click.version_option(__version__, prog_name="completion-sync")
@common
def cli() -> None:
    """Operate a deployed thrive-completion-sync stack, with your own AWS credentials.

    A command that would change anything is a dry run unless you add --yes. You can interrupt it at any time: the worst
    result is a repeat, which is harmless.

    Exit status: 0 success; 1 something is wrong or was not completed; 2 wrong usage, no such stack or file, no access.
    """


def main() -> NoReturn:
    """Run the command line, and exit with its status."""
    sys.exit(run(sys.argv[1:]))


def run(arguments: Sequence[str], operator: Operator | None = None) -> int:
    """Run a command and return its exit status. Errors become messages on standard error.

    :param operator: for tests; by default, a new one.
    """
    previous = signal.getsignal(signal.SIGTERM)
    try:
        signal.signal(signal.SIGTERM, _terminate)
    except ValueError:  # signals can be set only in the main thread
        previous = None
    try:
        return _run(arguments, operator or Operator())
    finally:
        if previous is not None:
            signal.signal(signal.SIGTERM, previous)


def _run(arguments: Sequence[str], operator: Operator) -> int:
    try:
        status = cli.main(list(arguments), prog_name="completion-sync", standalone_mode=False, obj=operator)
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except CommandError as error:
        return _fail(error)
    except (KeyboardInterrupt, click.Abort):
        click.secho("Interrupted.", fg="yellow", err=True)
        return WRONG
    except BrokenPipeError:
        # The reader of the output has gone. Without this, Python would report it again at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return WRONG
    except Exception as error:
        if os.environ.get(_DEBUG):
            raise
        return _fail(_explained(error, operator.region_in_use))
    return status if isinstance(status, int) else 0


def _explained(error: Exception, region: str) -> CommandError:
    from botocore.exceptions import BotoCoreError, ClientError  # noqa: PLC0415 - only when something went wrong

    from .aws_errors import explain  # noqa: PLC0415 - it imports botocore

    if isinstance(error, (BotoCoreError, ClientError)):
        return explain(error, region)
    if isinstance(error, OSError) and error.filename is not None:
        return CommandError(f"{error.filename}: {error.strerror}")
    # The error's text may quote a message.
    return CommandError(
        f"Unexpected {type(error).__name__}.", f"{_DEBUG}=1 shows where. Please report it.", status=WRONG
    )


def _fail(error: CommandError) -> int:
    click.secho(f"Error: {error.message}", fg="red", err=True)
    if error.remedy:
        click.secho(f"→ {error.remedy}", fg="cyan", err=True)
    return error.status or UNUSABLE


def _terminate(_number: int, _frame: Any) -> NoReturn:
    raise KeyboardInterrupt
