"""The deployed stack, as CloudFormation and Lambda describe it."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from completion_sync.errors import SettingError
from completion_sync.settings import Settings

from .aws_errors import code_of
from .errors import CommandError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from .aws import Aws

_MARK = "SourceQueueUrl"
_MAX_NAMES = 8


@dataclass(frozen=True, slots=True)
class Queue:
    """A queue, by URL and ARN."""

    url: str
    arn: str

    @property
    def is_fifo(self) -> bool:
        """Whether it is a FIFO queue."""
        return self.url.endswith(".fifo")

    @property
    def name(self) -> str:
        """The last part of its ARN."""
        return self.arn.rpartition(":")[2]


@dataclass(frozen=True, slots=True)
class Stack:
    """One deployed stack. ``resources`` maps logical to physical ids."""

    name: str
    status: str
    parameters: Mapping[str, str]
    outputs: Mapping[str, str]
    resources: Mapping[str, str]

    @property
    def source(self) -> Queue:
        """The queue that completions arrive on."""
        return Queue(self.outputs["SourceQueueUrl"], self.outputs["SourceQueueArn"])

    @property
    def dead_letters(self) -> Queue:
        """The dead-letter queue."""
        return Queue(self.outputs["DeadLetterQueueUrl"], self.outputs["DeadLetterQueueArn"])

    @property
    def undelivered(self) -> Queue:
        """The queue of events that never reached the function."""
        url = self.outputs["UndeliveredQueueUrl"]
        return Queue(url, f"{self.outputs['SourceQueueArn'].rpartition(':')[0]}:{url.rpartition('/')[2]}")


def find_stack(aws: Aws, name: str) -> Stack:
    """Find a stack.

    :raises CommandError: there is no such stack in this Region, or it belongs to another application.
    """
    try:
        [found] = aws.cloudformation.describe_stacks(StackName=name)["Stacks"]
    except ClientError as error:
        if code_of(error) != "ValidationError":
            raise
        where = f"in {aws.region}" if aws.region else "in this Region"
        raise CommandError(f"There is no stack {name} {where}.", _suggestion(aws, name)) from None
    outputs = {item["OutputKey"]: item["OutputValue"] for item in found.get("Outputs", [])}
    if _MARK not in outputs and found["StackStatus"] in {"CREATE_COMPLETE", "UPDATE_COMPLETE"}:
        raise CommandError(f"The stack {name} belongs to another application.", _suggestion(aws, name))
    if _MARK not in outputs:
        remedy = "Wait until it is deployed. If the deployment failed, look at the stack's events and deploy again."
        raise CommandError(f"The stack {name} is {found['StackStatus']} and has no outputs.", remedy)
    listed = aws.cloudformation.get_paginator("list_stack_resources").paginate(StackName=name)
    return Stack(
        name=found["StackName"],
        status=found["StackStatus"],
        parameters={item["ParameterKey"]: item.get("ParameterValue", "") for item in found.get("Parameters", [])},
        outputs=outputs,
        resources={
            item["LogicalResourceId"]: item.get("PhysicalResourceId", "")
            for page in listed
            for item in page["StackResourceSummaries"]
        },
    )


def function_configuration(aws: Aws, stack: Stack) -> dict[str, Any]:
    """Return the configuration of the version that the alias points to."""
    configuration: Any = aws.functions.get_function_configuration(FunctionName=stack.outputs["FunctionAliasArn"])
    return dict(configuration)


def function_settings(aws: Aws, stack: Stack) -> Settings:
    """Return the function's settings, read as the function reads them.

    :raises CommandError: its variables cannot be decrypted, or one has a bad value.
    """
    environment = function_configuration(aws, stack).get("Environment", {})
    if "Error" in environment:
        text = "Lambda does not show the function's variables, because you have no access to their KMS key."
        raise CommandError(text, "Ask for kms:Decrypt on that key.")
    try:
        return Settings.from_env(environment.get("Variables", {}))
    except SettingError as error:
        raise CommandError(f"The function has a bad setting: {error}", "completion-sync check") from None


def _suggestion(aws: Aws, name: str) -> str:
    """Suggest stacks of this application in the Region, if the operator may list them."""
    try:
        pages = aws.cloudformation.get_paginator("describe_stacks").paginate()
        found = [
            stack["StackName"]
            for page in pages
            for stack in page["Stacks"]
            if any(output["OutputKey"] == _MARK for output in stack.get("Outputs", []))
        ]
    except ClientError:
        found = []
    if not found:
        return "Is the Region right (--region), and the account (--profile)?"
    likely = difflib.get_close_matches(name, found, n=1)
    names = ", ".join(likely or sorted(found)[:_MAX_NAMES])
    return f"Did you mean {names}? Otherwise check the Region (--region) and the account (--profile)."
