"""The stand-in as a program."""

from __future__ import annotations

import json
import signal
import ssl
import threading
from pathlib import Path
from typing import Any

import click

from sandbox.thrive_api.stand_in import EXAMPLE_TENANT, StandIn

_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


def _read_users(_: click.Context, __: click.Parameter, path: Path | None) -> dict[str, Any]:
    if path is None:
        return {}
    try:
        users = json.loads(path.read_text())
    except ValueError:
        users = None
    if not isinstance(users, dict) or not all(
        isinstance(u, dict) and isinstance(u.get("id"), str) for u in users.values()
    ):
        raise click.BadParameter('a JSON object from ref to user is needed: {"E-1": {"id": "..."}}')
    return users


@click.command("thrive-api")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on; 0.0.0.0 for containers.")
@click.option("--port", default=8700, show_default=True, type=click.IntRange(0, 65535), help="0 takes a free one.")
@click.option("--tenant", default=EXAMPLE_TENANT, show_default=True, help="The tenant id.")
@click.option("--client-id", help="The client id; the tenant id when left out.")
@click.option(
    "--secret",
    envvar="THRIVE_STAND_IN_SECRET",
    help="The client (or API) secret; generated and printed when left out.  [env: THRIVE_STAND_IN_SECRET]",
)
@click.option("--token-lifetime", default=3600, show_default=True, type=click.IntRange(0), help="In seconds.")
@click.option("--per-second", type=click.FloatRange(0, min_open=True), help="Completions per second; 429 above.")
@click.option("--users", callback=_read_users, type=_FILE, help='JSON file: {"<ref>": {"id": "<user id>", ...}}.')
@click.option("--unknown-user", "unknown_users", multiple=True, help="A user id that completions are refused for.")
@click.option("--unknown-content", "unknown_contents", multiple=True, help="The same for a content id.")
@click.option("--seed", default=0, show_default=True, help="Drives faults that have a probability.")
@click.option("--cert", type=_FILE, help="PEM file with the certificate chain: speak TLS.")
@click.option("--key", type=_FILE, help="PEM file with the certificate's key.")
def thrive_api(
    tenant: str, secret: str | None, cert: Path | None, key: Path | None, token_lifetime: int, **options: Any
) -> None:
    """Run a stand-in Thrive API until interrupted.

    It keeps to the contract, holds everything in memory, and is steered under /_stand-in/.
    """
    stand_in = StandIn(
        tenant_id=tenant,
        client_secret=secret,
        ssl_context=_tls(cert, key),
        token_lifetime=token_lifetime,
        **options,
    )
    stopped = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stopped.set())
    signal.signal(signal.SIGINT, lambda *_: stopped.set())
    try:
        with stand_in.running():
            click.echo(f"stand-in Thrive API on {stand_in.url}")
            if secret is None:
                click.echo(f"tenant id {tenant}\nclient secret {stand_in.client_secret}")
            stopped.wait()
    except OSError as failure:
        raise click.ClickException(f"cannot listen: {failure.strerror}") from None


def _tls(cert: Path | None, key: Path | None) -> ssl.SSLContext | None:
    if cert is None:
        if key is not None:
            raise click.UsageError("--key needs --cert")
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        context.load_cert_chain(cert, key)
    except (OSError, ssl.SSLError):
        raise click.UsageError("--cert and --key hold no matching certificate and key in PEM") from None
    return context
