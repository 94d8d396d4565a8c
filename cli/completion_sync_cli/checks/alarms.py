"""Checks of the alarms and their topic."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..formats import count
from ..policies import Policy
from .facts import Check, Facts, ok_or

if TYPE_CHECKING:
    from collections.abc import Iterator


def alarms(facts: Facts) -> Iterator[Check]:
    """Check that all alarms of the stack exist and are enabled."""
    expected = {name for logical, name in facts.stack.resources.items() if logical.endswith("Alarm")}
    pages = facts.aws.client("cloudwatch").get_paginator("describe_alarms")
    found = {
        alarm["AlarmName"]: alarm
        for page in pages.paginate(AlarmNamePrefix=f"{facts.stack.name}-", AlarmTypes=["MetricAlarm"])
        for alarm in page["MetricAlarms"]
        if alarm["AlarmName"] in expected
    }
    problems = []
    if missing := sorted(expected - found.keys()):
        problems.append(f"missing: {', '.join(missing)}")
    if off := sorted(name for name, alarm in found.items() if not alarm["ActionsEnabled"]):
        problems.append(f"disabled: {', '.join(off)}")
    if silent := sorted(name for name, alarm in found.items() if not alarm["AlarmActions"]):
        problems.append(f"without an action: {', '.join(silent)}")
    remedy = "aws cloudwatch enable-alarm-actions --alarm-names …, or deploy the template again."
    yield ok_or("failed", "alarms", f"{len(found)} alarms are enabled", problems, remedy)
    ringing = sorted(name for name, alarm in found.items() if alarm["StateValue"] == "ALARM")
    yield ok_or("warning", "alarm-states", "no alarm", ringing, "docs/operate.md has a section for each.")


def topic(facts: Facts) -> Iterator[Check]:
    """Check that the alarm topic has a confirmed subscriber, and that CloudWatch may publish to it."""
    arn = facts.stack.outputs.get("AlarmTopicArn") or facts.stack.parameters.get("AlarmTopicArn")
    if not arn:
        return
    sns = facts.aws.client("sns")
    pages = sns.get_paginator("list_subscriptions_by_topic").paginate(TopicArn=arn)
    found = [item["SubscriptionArn"] for page in pages for item in page["Subscriptions"]]
    confirmed = [item for item in found if item.startswith("arn:")]
    if found and not confirmed:
        problem = ["no subscription is confirmed: look for the e-mail from AWS"]
    else:
        problem = [] if confirmed else ["it has no subscriber: nobody is notified of an alarm"]
    subscribe = f"aws sns subscribe --topic-arn {arn} --protocol email --notification-endpoint you@example.com"
    yield ok_or("warning", "alarm-topic", count(len(confirmed), "subscriber"), problem, subscribe)
    context = {
        "aws:sourceaccount": facts.account,
        "aws:sourcearn": facts.alarm_arn,
        # In the policy that SNS gives a new topic.
        "aws:sourceowner": facts.account,
    }
    policy = Policy(sns.get_topic_attributes(TopicArn=arn)["Attributes"].get("Policy"))
    denied = (
        [] if policy.admits("cloudwatch.amazonaws.com", "sns:Publish", context) else ["it does not admit CloudWatch"]
    )
    yield ok_or("failed", "alarm-topic-policy", "CloudWatch may publish", denied, "docs/security.md has the policy.")


CHECKS = [alarms, topic]
