"""`python -m sandbox demo`."""

from __future__ import annotations

import signal
import sys
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from sandbox.demo.run import NoEventsError, Options, run
from sandbox.pipeline.artefact import BuildError
from sandbox.pipeline.emulator import EmulatorMissingError
from sandbox.pipeline.processes import StartError
from sandbox.pipeline.stack import DeployError


@click.command()
@click.option(
    "--events",
    type=click.Path(exists=True, dir_okay=False, readable=True, path_type=Path),
    metavar="FILE",
    help="Send your own events: JSON lines, each the body of one message.",
)
@click.option("--messages", default=400, show_default=True, type=click.IntRange(1, 20_000), help="How many to make up.")
@click.option("--seed", default=1, show_default=True, help="The same seed makes up the same messages.")
@click.option("--calm", is_flag=True, help="Let nothing go wrong.")
@click.option("--plain", is_flag=True, help="Run the function in plain Python, without Lambda's runtime.")
def demo(**options: Any) -> None:
    """Run the whole pipeline on this machine and account for every message.

    Deploys template.yaml to an AWS emulator, runs the function in Lambda's runtime, and sends it events of every shape
    while a stand-in Thrive API fails, throttles and goes down. Exits with 1 if a message is unaccounted for.
    """
    # Exit through the context managers, so that no child process is left running.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        is_even = run(Options(**options), Console())
    except (BuildError, DeployError, EmulatorMissingError, NoEventsError, StartError) as error:
        raise click.ClickException(str(error)) from error
    sys.exit(0 if is_even else 1)
