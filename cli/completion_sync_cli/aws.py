"""The operator's own AWS session."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any

import boto3
from botocore.config import Config

from completion_sync import __version__

if TYPE_CHECKING:
    from mypy_boto3_cloudformation import CloudFormationClient
    from mypy_boto3_lambda import LambdaClient
    from mypy_boto3_logs import CloudWatchLogsClient
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_secretsmanager import SecretsManagerClient
    from mypy_boto3_sqs import SQSClient

_CONFIG: dict[str, Any] = {
    "user_agent_extra": f"completion-sync/{__version__}",
    "connect_timeout": 5,
    "read_timeout": 30,
    "retries": {"mode": "standard", "total_max_attempts": 4},
}
# The function may use its whole timeout of a minute. A retry would run all checks a second time.
_INVOKE_CONFIG = _CONFIG | {"read_timeout": 90, "retries": {"total_max_attempts": 1}}


class Aws:
    """AWS clients, each created on first use. :mod:`completion_sync_cli.aws_errors` explains what they raise."""

    def __init__(self, region: str | None, profile: str | None) -> None:
        """:param region, profile: None for boto3's default."""
        self._session = boto3.Session(region_name=region, profile_name=profile)
        self._clients: dict[str, Any] = {}

    @property
    def region(self) -> str:
        """The Region, empty if there is none."""
        return self._session.region_name or ""

    def client(self, service: str) -> Any:
        """Return the client of a service."""
        if service not in self._clients:
            self._clients[service] = self._session.client(service, config=Config(**_CONFIG))  # type: ignore[call-overload] # the stubs accept only literal names
        return self._clients[service]

    @property
    def cloudformation(self) -> CloudFormationClient:
        """CloudFormation."""
        client: CloudFormationClient = self.client("cloudformation")
        return client

    @property
    def functions(self) -> LambdaClient:
        """Lambda."""
        client: LambdaClient = self.client("lambda")
        return client

    @cached_property
    def invocations(self) -> LambdaClient:
        """Lambda, for invocations."""
        return self._session.client("lambda", config=Config(**_INVOKE_CONFIG))

    @property
    def logs(self) -> CloudWatchLogsClient:
        """CloudWatch Logs."""
        client: CloudWatchLogsClient = self.client("logs")
        return client

    @property
    def s3(self) -> S3Client:
        """S3."""
        client: S3Client = self.client("s3")
        return client

    @property
    def secrets(self) -> SecretsManagerClient:
        """Secrets Manager."""
        client: SecretsManagerClient = self.client("secretsmanager")
        return client

    @property
    def sqs(self) -> SQSClient:
        """SQS."""
        client: SQSClient = self.client("sqs")
        return client
