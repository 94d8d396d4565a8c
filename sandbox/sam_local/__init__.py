"""`python -m sandbox sam-local`: the stand-in Thrive API and the AWS emulator, where a container can reach them.

samconfig.toml and env.json beside this file hold what the function in the container needs: the addresses, and the names
of the secret, the queue and the configuration that are created here. `prepare` gets a machine ready for `sam local`.
"""

from __future__ import annotations

import ipaddress
import json
import signal
import socket
import subprocess
import tempfile
import threading
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import boto3
import click

from sandbox import SandboxError
from sandbox.config import EXAMPLE
from sandbox.pipeline.emulator import ACCESS, running_emulator
from sandbox.pipeline.processes import LOOPBACK
from sandbox.pipeline.rig import LOGICAL_ID, put_config, secret_of
from sandbox.thrive_api import StandIn

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sandbox.pipeline.emulator import Emulator

# As in samconfig.toml.
THRIVE_PORT, AWS_PORT = 8700, 4566
CONTAINERS_NAME_FOR_US = "host.docker.internal"

# Whom the files in events/ name by a reference.
PEOPLE = {"E-1042": {"id": "646767d82535201223349e09"}}

_VARIABLES = Path(__file__).with_name("env.json")
# Docker answers within some 30 ms.
_DOCKER_SECONDS = 20


@dataclass(frozen=True, slots=True)
class Neighbours:
    """The two running services."""

    api: StandIn
    emulator: Emulator

    @property
    def parameter_overrides(self) -> list[str]:
        """What `sam local` needs after `--parameter-overrides` if the ports are not those in samconfig.toml."""
        _, _, aws_port = self.emulator.url.rpartition(":")
        host = f"http://{CONTAINERS_NAME_FOR_US}"
        return [f"ThriveBaseUrl={host}:{self.api.port}", f"AwsEndpointUrl={host}:{aws_port}"]


@contextmanager
def running_neighbours(folder: Path, *, thrive_port: int = 0, aws_port: int = 0) -> Iterator[Neighbours]:
    """Run both services for the length of the block; port 0 takes a free one. The emulator writes to `folder`.

    :raises SandboxError: Docker does not answer, so the address to listen on is unknown; a port is in use; or the
        emulator is not installed or did not start.
    """
    host = container_facing_address()
    for port in (thrive_port, aws_port):
        if not _can_listen(host, port):
            raise SandboxError(f"another program listens on {host}:{port}")
    api = StandIn(host=host, port=thrive_port)
    api.directory.users.update(PEOPLE)
    with api.running(), running_emulator(folder, host, aws_port) as emulator:
        _create_resources(emulator, secret_of(api))
        yield Neighbours(api, emulator)


def container_facing_address() -> str:
    """Return the address of this machine that containers reach as host.docker.internal, and other machines do not.

    With Docker Engine it is the bridge's address. With Docker Desktop, whose bridge is inside a virtual machine, it is
    loopback.

    :raises SandboxError: Docker does not answer.
    """
    question = ["docker", "network", "inspect", "bridge", "--format", "{{json .IPAM.Config}}"]
    try:
        answer = subprocess.run(question, capture_output=True, check=True, text=True, timeout=_DOCKER_SECONDS)  # noqa: S603 - a fixed command
    except (OSError, subprocess.SubprocessError):
        raise SandboxError("Docker does not answer: start it, or see sandbox/sam_local/prepare") from None
    for bridge in json.loads(answer.stdout) or []:
        # Older engines name the gateway only if it was configured; otherwise it is the network's first address.
        address = bridge.get("Gateway") or str(next(ipaddress.ip_network(bridge["Subnet"]).hosts()))
        if ":" not in address and _can_listen(address, 0):
            return str(address)
    return LOOPBACK


def _can_listen(host: str, port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
        return True


def _create_resources(emulator: Emulator, secret: dict[str, str]) -> None:
    """Create the configuration, the secret and the dead-letter queue that env.json names.

    Secret and queue in every Region: the emulator keeps Regions apart, and `sam local` uses the one of the user's AWS
    profile. A bucket can be read from all of them.
    """
    variables = json.loads(_VARIABLES.read_text())[LOGICAL_ID]
    put_config(emulator, variables["CONFIG_URI"], EXAMPLE)
    queue = variables["DEAD_LETTER_QUEUE_URL"].rpartition("/")[2]
    # One session for all clients, because each one reads botocore's data files again.
    session = boto3.session.Session(ACCESS["AWS_ACCESS_KEY_ID"], ACCESS["AWS_SECRET_ACCESS_KEY"])
    for region in session.get_available_regions("sqs"):
        secrets = session.client("secretsmanager", region_name=region, endpoint_url=emulator.url)
        secrets.create_secret(Name=variables["THRIVE_SECRET_ID"], SecretString=json.dumps(secret))
        session.client("sqs", region_name=region, endpoint_url=emulator.url).create_queue(QueueName=queue)


@click.command("sam-local")
@click.option("--thrive-port", default=THRIVE_PORT, show_default=True, type=click.IntRange(0, 65535))
@click.option("--aws-port", default=AWS_PORT, show_default=True, type=click.IntRange(0, 65535))
def sam_local(thrive_port: int, aws_port: int) -> None:
    """Run what `sam local` talks to, until interrupted: a stand-in Thrive API and an AWS emulator.

    With the default ports `sam local invoke` needs no options. With others it needs the options that this prints.
    """
    stopped = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stopped.set())
    signal.signal(signal.SIGINT, lambda *_: stopped.set())
    options = ""
    with tempfile.TemporaryDirectory(prefix="sam-local-") as folder:
        try:
            with running_neighbours(Path(folder), thrive_port=thrive_port, aws_port=aws_port) as neighbours:
                if (thrive_port, aws_port) != (THRIVE_PORT, AWS_PORT):
                    options = f" --parameter-overrides {' '.join(neighbours.parameter_overrides)}"
                click.echo(f"stand-in Thrive API: {neighbours.api.url}/_stand-in/ledger shows what it has recorded")
                click.echo(f"AWS emulator:        {neighbours.emulator.url}")
                click.echo(f"Ready. In another terminal: sam local invoke -e events/sqs-plain.json{options}")
                stopped.wait()
        except SandboxError as failure:
            raise click.ClickException(str(failure)) from None
