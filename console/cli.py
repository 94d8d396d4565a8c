"""The `completion-sync` command. What a subcommand needs is imported when it runs, so that `--help` is quick."""

from __future__ import annotations

import importlib
import signal
import sys
from pathlib import Path
from typing import Any

import click

# Subcommands that live elsewhere: name, module, attribute, and the line that `--help` shows without importing them.
_ELSEWHERE = {
    "sam-local": ("console.sam_local", "sam_local", "Run what `sam local` talks to: a stand-in Thrive API and AWS."),
    "thrive-api": ("console.thrive_api.command", "thrive_api", "Run a stand-in Thrive API."),
}


class _Commands(click.Group):
    """A group that imports some of its commands only when they are called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Name all commands."""
        return sorted([*super().list_commands(ctx), *_ELSEWHERE])

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return a command, imported if need be."""
        if cmd_name in _ELSEWHERE:
            module, attribute, _ = _ELSEWHERE[cmd_name]
            command: click.Command = getattr(importlib.import_module(module), attribute)
            return command
        return super().get_command(ctx, cmd_name)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002 - click's
        """List the commands with one line each."""
        rows = [(name, command.get_short_help_str(90)) for name, command in self.commands.items()]
        rows += [(name, line) for name, (_, _, line) in _ELSEWHERE.items()]
        with formatter.section("Commands"):
            formatter.write_dl(sorted(rows))


@click.group(cls=_Commands)
@click.version_option(package_name="thrive-completion-sync")
def main() -> None:
    """Development tools of thrive-completion-sync; nothing here is deployed."""


@main.command()
@click.option(
    "--events",
    type=click.Path(exists=True, dir_okay=False, readable=True, path_type=Path),
    metavar="FILE",
    help="Send your own events: JSON lines, each the body of one message.",
)
@click.option("--messages", default=400, show_default=True, type=click.IntRange(1, 20_000), help="How many to make up.")
@click.option("--seed", default=1, show_default=True, help="The same seed makes up the same messages.")
@click.option("--calm", is_flag=True, help="Let nothing go wrong.")
@click.option(
    "--plain", "--in-process", is_flag=True, help="Run the function in plain Python, without Lambda's runtime."
)
def demo(**options: Any) -> None:
    """Run the whole pipeline on this machine and account for every message.

    Deploys template.yaml to an AWS emulator, runs the function in Lambda's runtime, and sends it events of every shape
    while a stand-in Thrive API fails, throttles and goes away. Exits with 1 if one message is unaccounted for.
    """
    from rich.console import Console  # noqa: PLC0415

    from console.demo.run import NoEventsError, Options, run  # noqa: PLC0415
    from console.pipeline.artefact import BuildError  # noqa: PLC0415
    from console.pipeline.emulator import EmulatorMissingError  # noqa: PLC0415
    from console.pipeline.processes import StartError  # noqa: PLC0415
    from console.pipeline.stack import DeployError  # noqa: PLC0415

    # The end of a process that is asked to go must not leave its children behind.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        is_even = run(Options(**options), Console())
    except (BuildError, DeployError, EmulatorMissingError, NoEventsError, StartError) as error:
        raise click.ClickException(str(error)) from error
    sys.exit(0 if is_even else 1)


if __name__ == "__main__":
    main()
