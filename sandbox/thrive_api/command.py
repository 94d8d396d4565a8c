"""`python -m sandbox thrive-api`: the stand-in as a program."""

from __future__ import annotations

import signal
import threading

import click

from sandbox.thrive_api.stand_in import EXAMPLE_TENANT, StandIn


@click.command("thrive-api")
@click.option("--port", default=8700, show_default=True, type=click.IntRange(0, 65535), help="0 takes a free one.")
@click.option("--secret", envvar="THRIVE_STAND_IN_SECRET", show_envvar=True, help="Generated and printed if left out.")
def thrive_api(port: int, secret: str | None) -> None:
    """Run a stand-in Thrive API until interrupted.

    It keeps to the contract, holds everything in memory, and can be told to fail: POST /_stand-in/faults.
    """
    api = StandIn(port=port, client_secret=secret)
    stopped = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stopped.set())
    signal.signal(signal.SIGINT, lambda *_: stopped.set())
    try:
        with api.running():
            click.echo(f"stand-in Thrive API on {api.url}")
            if secret is None:
                click.echo(f"tenant id {EXAMPLE_TENANT}\nclient secret {api.client_secret}")
            stopped.wait()
    except OSError as failure:
        raise click.ClickException(f"cannot listen on port {port}: {failure.strerror}") from None
