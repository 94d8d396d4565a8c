"""AWS on this machine: the ministack emulator, on a local port."""

from __future__ import annotations

import os
import urllib.request
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import boto3
from botocore.config import Config

from sandbox import SandboxError
from sandbox.pipeline.processes import LOOPBACK, Child, free_port

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mypy_boto3_cloudformation import CloudFormationClient
    from mypy_boto3_events import EventBridgeClient
    from mypy_boto3_lambda import LambdaClient
    from mypy_boto3_logs import CloudWatchLogsClient
    from mypy_boto3_secretsmanager import SecretsManagerClient
    from mypy_boto3_sqs import SQSClient

ROOT = Path(__file__).resolve().parents[2]
# In an environment of its own, because its pinned versions clash with the project's.
PROGRAM = ROOT / ".tools" / "emulator" / "bin" / "ministack"
REGION = "eu-west-1"
# The emulator accepts any key. With these boto3 does not look for real ones.
ACCESS = {"AWS_ACCESS_KEY_ID": "local", "AWS_SECRET_ACCESS_KEY": "local", "AWS_REGION": REGION}

_START_SECONDS = 30.0
_REQUEST_SECONDS = 10.0
_DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))


class Emulator:
    """A running emulator: its address, and boto3 clients for it, which any thread may use.

    `functions` is Lambda's control plane; the emulator never runs the function.
    """

    def __init__(self, url: str) -> None:
        session = boto3.session.Session(ACCESS["AWS_ACCESS_KEY_ID"], ACCESS["AWS_SECRET_ACCESS_KEY"], None, REGION)
        # Without a proxy, whatever the environment says: the address is on this machine.
        config = Config(proxies={}, max_pool_connections=64)

        def client(service: Any) -> Any:
            return session.client(service, endpoint_url=url, config=config)

        self.url = url
        self.cloudformation: CloudFormationClient = client("cloudformation")
        self.events: EventBridgeClient = client("events")
        self.logs: CloudWatchLogsClient = client("logs")
        self.functions: LambdaClient = client("lambda")
        self.secrets: SecretsManagerClient = client("secretsmanager")
        self.sqs: SQSClient = client("sqs")

    def put(self, path: str, content: bytes = b"") -> str:
        """Create a bucket (`/bucket`) or an object (`/bucket/key`) in S3 and return its URL.

        By plain HTTP: the emulator asks for no signature, and another boto3 client would cost a tenth of a second.
        """
        url = f"{self.url}{path}"
        request = urllib.request.Request(url, data=content, method="PUT")  # noqa: S310 - our own http address
        with _DIRECT.open(request, timeout=_REQUEST_SECONDS):
            return url


@contextmanager
def running_emulator(folder: Path, host: str = LOOPBACK, port: int = 0) -> Iterator[Emulator]:
    """Run an emulator on `host` for the length of the block; port 0 takes a free one.

    Its log is `folder/emulator.log`, and its state is below `folder`.

    :raises SandboxError: it is not installed, or did not start.
    """
    if not PROGRAM.exists():
        raise SandboxError("the AWS emulator is not installed: run `make setup`")
    port = port or free_port()
    environment = {
        "PATH": os.environ.get("PATH", os.defpath),
        "GATEWAY_PORT": str(port),
        # By default it listens on every interface, names queues after localhost and looks for Docker.
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
