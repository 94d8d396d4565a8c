"""Checks of what delivers events to the queue: the rule, the topic, and their permissions."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from ..aws_errors import code_of
from ..policies import Policy
from .facts import Check, Facts, ok_or

if TYPE_CHECKING:
    from collections.abc import Iterator

_DEPLOY = "Deploy the template again; do not change rules, subscriptions or policies by hand."
_SEND = "sqs:SendMessage"


def rule(facts: Facts) -> Iterator[Check]:
    """Check that the rule is enabled, targets the queue or the function, and has a dead-letter queue."""
    if not facts.stack.resources.get("CompletionRule"):
        yield Check("event-rule", "skipped", "EventDelivery is none: the stack has no rule")
        return
    try:
        found = facts.rule or {}
    except facts.aws.client("events").exceptions.ResourceNotFoundException:
        yield Check("event-rule", "failed", "the rule does not exist", _DEPLOY)
        return
    problems = [] if found["State"].startswith("ENABLED") else [f"it is {found['State']}: events are lost"]
    goals = {facts.stack.source.arn, facts.stack.outputs["FunctionAliasArn"]}
    problems += _pattern(facts, found)
    targets = [target for target in found["Targets"] if target["Arn"] in goals]
    if not targets:
        problems.append("its target is neither the source queue nor the function")
    for target in targets:
        if target.get("DeadLetterConfig", {}).get("Arn") != facts.stack.undelivered.arn:
            problems.append("it has no dead-letter queue: events that cannot be delivered are lost")
        if any(name in target for name in ("Input", "InputPath", "InputTransformer")):
            problems.append("it changes the event (Input…)")
    good = f"{found['Name']} on {found.get('EventBusName', 'default')}"
    yield ok_or("failed", "event-rule", good, problems, _DEPLOY)


def _pattern(facts: Facts, found: dict[str, Any]) -> list[str]:
    """Compare the rule's pattern with the stack's parameters."""
    wanted = {
        name: [item.strip() for item in facts.stack.parameters.get(parameter, "").split(",")]
        for name, parameter in (("source", "EventSources"), ("detail-type", "EventDetailTypes"))
    }
    return (
        []
        if json.loads(found.get("EventPattern", "{}")) == wanted
        else ["its pattern differs from the stack's parameters"]
    )


def rule_is_admitted(facts: Facts) -> Iterator[Check]:
    """Check that the policies allow EventBridge to deliver. It does not retry a denied delivery."""
    if facts.rule is None:
        return
    context = {"aws:sourcearn": facts.rule["Arn"], "aws:sourceaccount": facts.account}
    problems = [
        f"the policy of the {name} queue does not allow the rule"
        for name, queue in (("source", facts.stack.source), ("undelivered", facts.stack.undelivered))
        if not Policy(facts.queue(queue).get("Policy")).admits("events.amazonaws.com", _SEND, context)
    ]
    if facts.stack.outputs["FunctionAliasArn"] in {target["Arn"] for target in facts.rule["Targets"]}:
        problems += _function_admits(facts, context)
    yield ok_or("failed", "event-rule-admitted", "EventBridge may deliver", problems, _DEPLOY)


def _function_admits(facts: Facts, context: dict[str, str]) -> list[str]:
    try:
        text = facts.aws.functions.get_policy(FunctionName=facts.stack.outputs["FunctionName"], Qualifier="live")
    except facts.aws.functions.exceptions.ResourceNotFoundException:
        return ["the function's policy does not allow the rule"]
    admits = Policy(text["Policy"]).admits("events.amazonaws.com", "lambda:InvokeFunction", context)
    return [] if admits else ["the function's policy does not allow the rule"]


def topic(facts: Facts) -> Iterator[Check]:
    """Check the subscription to the customer's topic."""
    arn, subscription = facts.stack.parameters.get("SnsTopicArn"), facts.stack.resources.get("TopicSubscription")
    if not arn:
        return
    problems = []
    context = {"aws:sourcearn": arn, "aws:sourceaccount": arn.split(":")[4]}
    for name, queue in (("source", facts.stack.source), ("undelivered", facts.stack.undelivered)):
        if not Policy(facts.queue(queue).get("Policy")).admits("sns.amazonaws.com", _SEND, context):
            problems.append(f"the policy of the {name} queue does not allow the topic")
    try:
        found = facts.aws.client("sns").get_subscription_attributes(SubscriptionArn=subscription)["Attributes"]
    except facts.aws.client("sns").exceptions.ClientError as error:
        if code_of(error) not in {"NotFound", "InvalidParameter"}:
            raise
        found = {}
        problems.append("the queue is not subscribed to the topic")
    if found and found.get("PendingConfirmation") == "true":
        problems.append("the subscription is not confirmed")
    if found.get("RawMessageDelivery") == "true":
        problems.append("raw delivery loses messages with more than ten attributes")
    if found.get("FilterPolicy"):
        problems.append("it has a filter policy: SNS drops what does not match")
    if found and facts.stack.undelivered.arn not in found.get("RedrivePolicy", ""):
        problems.append("the subscription has no dead-letter queue: messages that cannot be delivered are lost")
    yield ok_or("failed", "topic-subscription", arn, problems, _DEPLOY)


CHECKS = [rule, rule_is_admitted, topic]
