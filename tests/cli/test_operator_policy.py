"""docs/operator-policy.json allows each call that the command makes, and no other: the calls are recorded."""

from __future__ import annotations

import fnmatch
import json
from typing import TYPE_CHECKING, Any

import boto3

from completion_sync_cli import aws
from tests.cli.conftest import ROOT, Deployed, completion, invoke
from tests.cli.test_backfill import write
from tests.cli.test_check import variable

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import pytest


# The permission of an operation, where it is not named like it (Service Authorization Reference).
ACTIONS = {
    "sqs:SendMessageBatch": "sqs:SendMessage",
    "sqs:DeleteMessageBatch": "sqs:DeleteMessage",
    "sqs:ChangeMessageVisibilityBatch": "sqs:ChangeMessageVisibility",
    "lambda:Invoke": "lambda:InvokeFunction",
    "s3:ListObjectsV2": "s3:ListBucket",
    "s3:HeadObject": "s3:GetObject",
}
# Made by the services for the caller, so that no call of the command shows them; and one for an interruption.
UNSEEN = {"kms:Decrypt", "kms:GenerateDataKey", "logs:StopQuery"}


# The part of a request that names the resource, and the ARN that it belongs into.
RESOURCES = {
    "sqs": ("QueueUrl", "arn:aws:sqs:r:1:{}"),
    "lambda": ("FunctionName", "arn:aws:lambda:r:1:function:{}"),
    "cloudformation": ("StackName", "arn:aws:cloudformation:r:1:stack/{}/id"),
    "logs": ("logGroupName", "arn:aws:logs:r:1:log-group:{}"),
    "secretsmanager": ("SecretId", "{}"),
    "kms": ("KeyId", "{}"),
    "sns": ("TopicArn", "{}"),
}


def resource(service: str, request: dict[str, Any]) -> str:
    """Return the ARN that a call is about, or *."""
    if service == "s3":
        return f"arn:aws:s3:::{'/'.join(request[name] for name in ('Bucket', 'Key') if name in request)}"
    if service == "events":
        return f"arn:aws:events:r:1:rule/{request.get('Rule') or request['Name']}"
    name, arn = RESOURCES.get(service, ("", "*"))
    if name not in request:
        return "*"
    value = request[name].rpartition("/")[2] if service == "sqs" else request[name].rpartition(":function:")[2]
    return arn.format(value)


def test_the_policy_is_what_the_command_needs(
    deploy: Callable[..., Deployed], thrive: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: set[tuple[str, str]] = set()

    def record(params: dict[str, Any], model: Any, **_: Any) -> None:
        service = model.service_model.signing_name.replace("monitoring", "cloudwatch")
        operation = f"{service}:{model.name}"
        calls.add((ACTIONS.get(operation, operation), resource(service, params)))

    class Recording(boto3.Session):
        def __init__(self, **options: Any) -> None:
            super().__init__(**options)
            self.events.register("provide-client-params.*.*", record)

    topic = deploy().client("sns").create_topic(Name="completions")["TopicArn"]
    plain = deploy(SnsTopicArn=topic)
    deployed = deploy(KmsKeyArn="create", EventDelivery="direct")
    for stack in (plain, deployed):
        variable("CONFIG_URI", "s3://my-config-bucket/prefix/")(stack)
    for path in ("my-config-bucket", "my-history-bucket"):
        deployed.emulator.put(f"/{path}")
    files = tmp_path / "config"
    files.mkdir()
    (files / "mapping.json").write_text('{"version": 1, "sources": []}')
    deployed.emulator.put("/my-history-bucket/h.jsonl", json.dumps(completion(1)).encode())
    for queue in (deployed.dead, deployed.outputs["UndeliveredQueueUrl"]):
        deployed.emulator.sqs.send_message(QueueUrl=queue, MessageBody=json.dumps(completion(1)))
    monkeypatch.setattr(aws.boto3, "Session", Recording)
    for arguments in (
        ("config", "push", files, "--yes"),
        ("config", "pull", tmp_path / "pulled"),
        ("check", "--stack", plain.name),
        ("check",),
        ("dead-letters",),
        ("redrive", "--user-id", "nobody", "--yes"),
        ("redrive", "--yes"),
        ("redrive", "--undelivered", "--yes"),
        ("trace", "--user-id", "user-1"),
        ("backfill", "s3://my-history-bucket/h.jsonl", "--checkpoint", "s3://my-history-bucket/c", "--yes"),
        ("reconcile", write(tmp_path / "h.jsonl", [completion(2)]), "--resend", "--yes"),
    ):
        monkeypatch.chdir(tmp_path)
        outcome = invoke(*arguments)
        assert outcome.status in {0, 1}, outcome.err
    text = (ROOT / "docs" / "operator-policy.json").read_text()
    statements = [
        {name: [value] if isinstance(value, str) else value for name, value in statement.items()}
        for statement in json.loads(text)["Statement"]
    ]

    def allows(action: str, arn: str) -> bool:
        return any(
            action in statement["Action"] and any(fnmatch.fnmatchcase(arn, pattern) for pattern in filled(statement))
            for statement in statements
        )

    def filled(statement: dict[str, list[str]]) -> list[str]:
        names = (plain.name, deployed.name)
        key = deployed.outputs["EncryptionKeyArn"].rpartition("/")[2]
        return [
            pattern.replace("my-stack", name).replace("my-secret", f"{name}-ThriveSecret").replace("my-key-id", key)
            for pattern in statement["Resource"]
            for name in names
        ]

    assert [call for call in sorted(calls) if not allows(*call)] == []
    # Without it, S3 answers 403 instead of 404 for an object that does not exist yet, such as a first checkpoint.
    assert allows("s3:ListBucket", "arn:aws:s3:::my-history-bucket")
    granted = {action for statement in statements for action in statement["Action"]}
    assert granted - {action for action, _ in calls} == UNSEEN
