"""AWS on this machine: the ministack emulator, on a loopback port of its own."""

from __future__ import annotations

import os
import urllib.request
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import boto3
from botocore.config import Config

from sandbox.pipeline.processes import LOOPBACK, Child, free_port

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mypy_boto3_cloudformation import CloudFormationClient
    from mypy_boto3_events import EventBridgeClient
    from mypy_boto3_lambda import LambdaClient
    from mypy_boto3_secretsmanager import SecretsManagerClient
    from mypy_boto3_sqs import SQSClient

ROOT = Path(__file__).resolve().parents[2]
# An environment of its own: the emulator's pins clash with the project's.
PROGRAM = ROOT / ".tools" / "emulator" / "bin" / "ministack"
REGION = "eu-west-1"
# The emulator accepts any key. These keep boto3 from looking for real ones.
ACCESS = {"AWS_ACCESS_KEY_ID": "local", "AWS_SECRET_ACCESS_KEY": "local", "AWS_REGION": REGION}

_START_SECONDS = 30.0
_REQUEST_SECONDS = 10.0
# No proxy, whatever the environment says: the address is on this machine.
_DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))


class EmulatorMissingError(RuntimeError):
    """The emulator is not installed."""


class Emulator:
    """A running emulator: its address, and boto3 clients (which any thread may use) that talk to nothing else."""

    def __init__(self, url: str) -> None:
        self.url = url

    @cached_property
    def cloudformation(self) -> CloudFormationClient:
        """CloudFormation."""
        client: CloudFormationClient = self._client("cloudformation")
        return client

    @cached_property
    def events(self) -> EventBridgeClient:
        """EventBridge."""
        client: EventBridgeClient = self._client("events")
        return client

    @cached_property
    def functions(self) -> LambdaClient:
        """Lambda's control plane; the emulator's own executor is never used."""
        client: LambdaClient = self._client("lambda")
        return client

    @cached_property
    def secrets(self) -> SecretsManagerClient:
        """Secrets Manager."""
        client: SecretsManagerClient = self._client("secretsmanager")
        return client

    def put(self, path: str, content: bytes = b"") -> str:
        """Make a bucket (`/bucket`) or an object (`/bucket/key`) in S3 and return its URL.

        By plain HTTP: the emulator asks for no signature, and one more client would cost a tenth of a second.
        """
        url = f"{self.url}{path}"
        request = urllib.request.Request(url, data=content, method="PUT")  # noqa: S310 - our own http address
        with _DIRECT.open(request, timeout=_REQUEST_SECONDS):
            return url

    @cached_property
    def sqs(self) -> SQSClient:
        """SQS."""
        client: SQSClient = self._client("sqs")
        return client

    def _client(self, service: Any) -> Any:
        # A session per client, because making clients from the shared default session is not thread-safe.
        return boto3.session.Session().client(
            service,
            endpoint_url=self.url,
            region_name=REGION,
            aws_access_key_id=ACCESS["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=ACCESS["AWS_SECRET_ACCESS_KEY"],
            config=Config(proxies={}, max_pool_connections=64),
        )


@contextmanager
def running_emulator(folder: Path, host: str = LOOPBACK, port: int = 0) -> Iterator[Emulator]:
    """Run an emulator for as long as the block lasts; its log goes to `folder/emulator.log`, its state below `folder`.

    It listens on one address of this machine, `host`; port 0 takes a free one.

    :raises EmulatorMissingError: it is not installed.
    :raises StartError: it did not come up.
    """
    if not PROGRAM.exists():
        raise EmulatorMissingError("the AWS emulator is not installed: run `make setup`")
    port = port or free_port()
    environment = {
        "PATH": os.environ.get("PATH", os.defpath),
        "GATEWAY_PORT": str(port),
        # Left alone it listens on every interface, names queues after localhost and looks for Docker.
        "BIND_HOST": host,
        "MINISTACK_HOST": host,
        "DOCKER_HOST": "unix:///nonexistent",
        "MINISTACK_REGION": REGION,
        "STATE_DIR": str(folder / "emulator-state"),
        "S3_DATA_DIR": str(folder / "emulator-state" / "s3"),
        "TMPDIR": str(folder),
        **ACCESS,
    }
    child = Child([str(PROGRAM)], environment, cwd=folder, out=folder / "emulator.log")
    try:
        emulator = Emulator(f"http://{host}:{port}")
        child.wait_until(lambda: _is_ready(emulator.url), seconds=_START_SECONDS)
        yield emulator
    finally:
        child.stop()


def _is_ready(url: str) -> bool:
    try:
        with _DIRECT.open(f"{url}/_ministack/ready", timeout=_REQUEST_SECONDS) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False
