"""Deploying template.yaml to the emulator, and reading back what was deployed."""

from __future__ import annotations

import io
import json
import time
import zipfile
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from samtranslator.yaml_helper import yaml_parse  # type: ignore[import-untyped] # it has no type hints

from sandbox import SandboxError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from mypy_boto3_cloudformation.type_defs import StackTypeDef

    from sandbox.pipeline.emulator import Emulator

_DEPLOY_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Function:
    """The function as deployed; `timeout` in seconds, `memory` in MB."""

    name: str
    handler: str
    runtime: str
    timeout: int
    memory: int
    environment: dict[str, str]


@dataclass(frozen=True, slots=True)
class Queue:
    """A queue's URL and ARN."""

    url: str
    arn: str


@dataclass(frozen=True, slots=True)
class EventSource:
    """The event source mapping: how Lambda polls the queue."""

    queue: Queue
    batch_size: int
    reports_failures: bool
    maximum_concurrency: int


@dataclass(frozen=True, slots=True)
class Rule:
    """The rule that sends events to the queue: its bus, and a source and detail type that it matches."""

    bus: str
    source: str
    detail_type: str


@dataclass(frozen=True, slots=True)
class Stack:
    """The deployed application. ``rule`` is None if no rule sends events to the queue (EventDelivery is not queue)."""

    function: Function
    event_source: EventSource
    dead_letters: Queue
    rule: Rule | None


def deploy(emulator: Emulator, template: Path, logical_id: str, name: str, parameters: Mapping[str, str]) -> Stack:
    """Create the stack `name` from a SAM template and read back what was created.

    `logical_id` is the function's name in the template. The emulator's own poller is switched off, because it takes
    some malformed answers of the function for success.

    :raises SandboxError: creation failed, or something is missing in the stack.
    """
    _create(emulator, name, _upload(emulator, template, name), parameters)
    function_name = _resource(emulator, name, logical_id)
    event_source = _take_over_event_source(emulator, function_name)
    return Stack(
        function=_function(emulator, function_name),
        event_source=event_source,
        dead_letters=_dead_letters(emulator, event_source.queue),
        rule=_rule(emulator, event_source.queue),
    )


def set_secret(emulator: Emulator, stack: Stack, secret: Mapping[str, str]) -> None:
    """Store a new value of the secret that the function reads."""
    secret_id = stack.function.environment["THRIVE_SECRET_ID"]
    emulator.secrets.put_secret_value(SecretId=secret_id, SecretString=json.dumps(secret))


def _upload(emulator: Emulator, template: Path, name: str) -> str:
    """Do what `sam package` does: upload the code and a template that refers to it. Return the template's URL."""
    bucket = f"{name}-deployment"
    document: dict[str, Any] = yaml_parse(template.read_text())
    for resource in document["Resources"].values():
        if resource["Type"] == "AWS::Serverless::Function":
            resource["Properties"]["CodeUri"] = {"Bucket": bucket, "Key": "code.zip"}
    # The emulator never runs the code (the runtime does), so an empty archive is enough.
    archive = io.BytesIO()
    zipfile.ZipFile(archive, "w").close()
    emulator.put(f"/{bucket}")
    emulator.put(f"/{bucket}/code.zip", archive.getvalue())
    return emulator.put(f"/{bucket}/template.json", json.dumps(document).encode())


def _create(emulator: Emulator, name: str, template_url: str, parameters: Mapping[str, str]) -> None:
    emulator.cloudformation.create_stack(
        StackName=name,
        TemplateURL=template_url,
        Parameters=[{"ParameterKey": key, "ParameterValue": value} for key, value in parameters.items()],
        Capabilities=["CAPABILITY_IAM", "CAPABILITY_AUTO_EXPAND"],
    )
    deadline = time.monotonic() + _DEPLOY_SECONDS
    while (status := _describe(emulator, name)["StackStatus"]) == "CREATE_IN_PROGRESS":
        if time.monotonic() > deadline:
            raise SandboxError(f"the stack {name} was not created within {_DEPLOY_SECONDS:g} s")
        time.sleep(0.05)
    if status != "CREATE_COMPLETE":
        events = emulator.cloudformation.describe_stack_events(StackName=name)["StackEvents"]
        reasons = [
            f"{event['LogicalResourceId']}: {event.get('ResourceStatusReason', 'no reason given')}"
            for event in events
            if event["ResourceStatus"].endswith("FAILED")
        ]
        raise SandboxError(f"creating the stack {name} ended in {status}: {'; '.join(reasons)}")


def _describe(emulator: Emulator, name: str) -> StackTypeDef:
    return emulator.cloudformation.describe_stacks(StackName=name)["Stacks"][0]


def _resource(emulator: Emulator, name: str, logical_id: str) -> str:
    resources = emulator.cloudformation.describe_stack_resources(StackName=name)["StackResources"]
    for resource in resources:
        if resource["LogicalResourceId"] == logical_id:
            return resource["PhysicalResourceId"]
    raise SandboxError(f"the template has no resource {logical_id}")


def _function(emulator: Emulator, name: str) -> Function:
    configuration = emulator.functions.get_function_configuration(FunctionName=name)
    return Function(
        name=name,
        handler=configuration["Handler"],
        runtime=configuration["Runtime"],
        timeout=configuration["Timeout"],
        memory=configuration["MemorySize"],
        environment=configuration.get("Environment", {}).get("Variables", {}),
    )


def _take_over_event_source(emulator: Emulator, function_name: str) -> EventSource:
    # Not filtered by function name in the call, which would miss a mapping of an alias.
    for mapping in emulator.functions.list_event_source_mappings()["EventSourceMappings"]:
        if function_name in mapping["FunctionArn"].split(":"):
            emulator.functions.update_event_source_mapping(UUID=mapping["UUID"], Enabled=False)
            return EventSource(
                queue=_queue(emulator, mapping["EventSourceArn"]),
                batch_size=mapping["BatchSize"],
                reports_failures="ReportBatchItemFailures" in mapping.get("FunctionResponseTypes", []),
                maximum_concurrency=mapping.get("ScalingConfig", {}).get("MaximumConcurrency", 1000),
            )
    raise SandboxError(f"no queue invokes the function {function_name}")


def _queue(emulator: Emulator, arn: str) -> Queue:
    return Queue(emulator.sqs.get_queue_url(QueueName=arn.rpartition(":")[2])["QueueUrl"], arn)


def _dead_letters(emulator: Emulator, source: Queue) -> Queue:
    attributes = emulator.sqs.get_queue_attributes(QueueUrl=source.url, AttributeNames=["RedrivePolicy"])
    policy = attributes.get("Attributes", {}).get("RedrivePolicy")
    if policy is None:
        raise SandboxError(f"the queue {source.arn} has no dead-letter queue")
    return _queue(emulator, json.loads(policy)["deadLetterTargetArn"])


def _rule(emulator: Emulator, queue: Queue) -> Rule | None:
    for bus in emulator.events.list_event_buses()["EventBuses"]:
        rules = emulator.events.list_rule_names_by_target(TargetArn=queue.arn, EventBusName=bus["Name"])
        for name in rules["RuleNames"]:
            rule = emulator.events.describe_rule(Name=name, EventBusName=bus["Name"])
            pattern = json.loads(rule["EventPattern"])
            # A field that the pattern does not mention may have any value.
            source, *_ = pattern.get("source", ["local.pipeline"])
            detail_type, *_ = pattern.get("detail-type", ["LearningCompleted"])
            return Rule(bus["Name"], source, detail_type)
    return None
