"""`python -m sandbox demo`."""

from __future__ import annotations

import signal
import sys
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from completion_sync.errors import ConfigError
from sandbox import SandboxError
from sandbox.demo import picture
from sandbox.demo.run import Options, run

_PICTURE_WIDTH = 80


@click.command()
@click.option(
    "--events",
    type=click.Path(exists=True, dir_okay=False, readable=True, path_type=Path),
    metavar="FILE",
    help="Send your own events: JSON lines, each the body of one message.",
)
@click.option(
    "--config",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    metavar="DIR",
    help="With --events: a folder with mapping.json, content.csv or both. Everyone whom an event names exists.",
)
@click.option("--messages", default=400, show_default=True, type=click.IntRange(1, 20_000), help="How many to make up.")
@click.option("--seed", default=1, show_default=True, help="The same seed makes up the same messages.")
@click.option("--calm", is_flag=True, help="Let nothing go wrong.")
@click.option("--plain", is_flag=True, help="Run the function in plain Python, without Lambda's runtime.")
@click.option(
    "--svg",
    type=click.Path(dir_okay=False, writable=True, path_type=Path),
    metavar="FILE",
    help="Write a picture of the output too; docs/demo.svg is one.",
)
def demo(svg: Path | None, **options: Any) -> None:
    """Run the whole pipeline on this machine and account for every message.

    Deploys template.yaml to an AWS emulator, runs the function in Lambda's runtime, and sends it events of every shape
    while a stand-in Thrive API fails, throttles and goes down. Exits with 1 if a message is unaccounted for.
    """
    if options["config"] and not options["events"]:
        raise click.UsageError("--config needs --events: the messages that are made up have a configuration")
    console = Console(record=svg is not None, width=_PICTURE_WIDTH if svg else None)
    # Exit through the context managers, so that no child process is left running.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        is_even = run(Options(**options), console)
    except (ConfigError, SandboxError) as error:
        raise click.ClickException(str(error)) from error
    if svg is not None:
        picture.save(console, svg, title="make demo", name="demo")
    sys.exit(0 if is_even else 1)
