"""The stack as AWS describes it, and the result of a check."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal, get_args

from ..stack import Queue, function_configuration

if TYPE_CHECKING:
    from ..aws import Aws
    from ..stack import Stack

Status = Literal["ok", "warning", "failed", "skipped"]
STATUSES: tuple[Status, ...] = get_args(Status)


@dataclass(frozen=True, slots=True)
class Check:
    """The result of one check. ``remedy`` says what to do about it."""

    name: str
    status: Status
    detail: str
    remedy: str = ""


def ok_or(status: Status, name: str, good: str, problems: list[str], remedy: str) -> Check:
    """Return a check that is ok if there are no problems, and otherwise has this status and lists them."""
    if problems:
        return Check(name, status, "; ".join(problems), remedy)
    return Check(name, "ok", good)


class Facts:
    """A stack as AWS describes it, asked once."""

    def __init__(self, aws: Aws, stack: Stack) -> None:
        self.aws = aws
        self.stack = stack
        self._attributes: dict[str, dict[str, str]] = {}

    @property
    def account(self) -> str:
        """The account id."""
        return self.stack.source.arn.split(":")[4]

    @property
    def alarm_arn(self) -> str:
        """The ARN of one of the stack's alarms."""
        _, partition, _, region, *_ = self.stack.source.arn.split(":")
        return f"arn:{partition}:cloudwatch:{region}:{self.account}:alarm:{self.stack.name}-dead-letters"

    def queue(self, queue: Queue) -> dict[str, str]:
        """Return all attributes of a queue."""
        if queue.url not in self._attributes:
            found = self.aws.sqs.get_queue_attributes(QueueUrl=queue.url, AttributeNames=["All"])
            self._attributes[queue.url] = {str(name): value for name, value in found["Attributes"].items()}
        return self._attributes[queue.url]

    @cached_property
    def function(self) -> dict[str, Any]:
        """The configuration of the version that the alias points to."""
        return function_configuration(self.aws, self.stack)

    @cached_property
    def variables(self) -> dict[str, str]:
        """The function's environment."""
        variables: dict[str, str] = self.function.get("Environment", {}).get("Variables", {})
        return variables

    @cached_property
    def event_sources(self) -> list[dict[str, Any]]:
        """All event source mappings of the source queue."""
        found = self.aws.functions.list_event_source_mappings(EventSourceArn=self.stack.source.arn)
        return [dict(item) for item in found["EventSourceMappings"]]

    @cached_property
    def event_source(self) -> dict[str, Any] | None:
        """The event source mapping from the source queue to the function."""
        alias = self.stack.outputs["FunctionAliasArn"]
        return next((item for item in self.event_sources if item["FunctionArn"] == alias), None)

    @cached_property
    def rule(self) -> dict[str, Any] | None:
        """The rule, with its targets under ``Targets``; None if the stack has none."""
        # For a rule on a custom bus, CloudFormation's physical id is bus|name.
        name = self.stack.resources.get("CompletionRule", "").rpartition("|")[2]
        if not name:
            return None
        bus = self.stack.outputs.get("EventBus", "default")
        events = self.aws.client("events")
        return {
            **events.describe_rule(Name=name, EventBusName=bus),
            "Targets": events.list_targets_by_rule(Rule=name, EventBusName=bus)["Targets"],
        }
