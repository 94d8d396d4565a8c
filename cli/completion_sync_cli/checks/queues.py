"""Checks of the three queues, and of the key that encrypts them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from ..formats import count, duration, number
from ..policies import Policy
from .facts import Check, Facts, Status, ok_or

if TYPE_CHECKING:
    from collections.abc import Iterator

_DEPLOY = "It was changed by hand. Undo that; CloudFormation's drift detection shows the difference."
# An outage of Thrive of a day needs this many (docs/decisions/0004).
_RECEIVES = 400
_IN_FLIGHT_LIMIT, _IN_FLIGHT_WARNING = 120_000, 60_000
_BUS, _ALARMS, _TOPIC = "events.amazonaws.com", "cloudwatch.amazonaws.com", "sns.amazonaws.com"
_KEY_ACTIONS = ("kms:GenerateDataKey", "kms:Decrypt")


def visibility(facts: Facts) -> Iterator[Check]:
    """Check that a message cannot reappear while it is being recorded."""
    actual = int(facts.queue(facts.stack.source)["VisibilityTimeout"])
    window = (facts.event_source or {}).get("MaximumBatchingWindowInSeconds", 0)
    needed = 6 * facts.function["Timeout"] + window
    problems = [f"it is {actual} s, less than six function timeouts and the batching window ({needed} s)"]
    yield ok_or("failed", "visibility-timeout", f"{actual} s", problems if actual < needed else [], _DEPLOY)


def redrive(facts: Facts) -> Iterator[Check]:
    """Check that messages are dead-lettered, to the right queue and not too soon."""
    policy = json.loads(facts.queue(facts.stack.source).get("RedrivePolicy") or "{}")
    admits = json.loads(facts.queue(facts.stack.dead_letters).get("RedriveAllowPolicy") or "{}")
    receives = int(policy.get("maxReceiveCount", 0))
    problems = []
    if not policy:
        problems.append("there is none: a message that always fails is tried until it expires, and is then lost")
    elif policy["deadLetterTargetArn"] != facts.stack.dead_letters.arn:
        problems.append(f"it targets {policy['deadLetterTargetArn']}, not the stack's dead-letter queue")
    if policy and receives < _RECEIVES:
        problems.append(f"maxReceiveCount is {receives}; a day's outage of Thrive needs {_RECEIVES}")
    may = admits.get("redrivePermission", "allowAll")
    if may == "denyAll" or (may == "byQueue" and facts.stack.source.arn not in admits.get("sourceQueueArns", [])):
        problems.append("the dead-letter queue does not allow the source queue (RedriveAllowPolicy)")
    yield ok_or("failed", "redrive-policy", f"dead-lettered after {receives} receives", problems, _DEPLOY)


def retention(facts: Facts) -> Iterator[Check]:
    """Check how long messages are kept. A message that SQS dead-letters keeps its age."""
    source = int(facts.queue(facts.stack.source)["MessageRetentionPeriod"])
    dead = int(facts.queue(facts.stack.dead_letters)["MessageRetentionPeriod"])
    problems = []
    if dead <= source:
        problems.append(
            f"dead letters are kept for {duration(dead)}, messages for {duration(source)}: they can expire early"
        )
    if source < 432_000:
        problems.append(f"messages are kept for {duration(source)}; an outage needs five days")
    good = f"messages {duration(source)}, dead letters {duration(dead)}"
    yield ok_or("failed", "retention", good, problems, _DEPLOY)


def policies(facts: Facts) -> Iterator[Check]:
    """Check that the queues require TLS and are not public."""
    queues = {
        "source-queue-policy": facts.stack.source,
        "dead-letter-queue-policy": facts.stack.dead_letters,
        "undelivered-queue-policy": facts.stack.undelivered,
    }
    for name, queue in queues.items():
        policy = Policy(facts.queue(queue).get("Policy"))
        problems = []
        if not policy.requires_tls:
            problems.append("it does not deny requests without TLS")
        if any(policy.is_open(action) for action in ("sqs:SendMessage", "sqs:ReceiveMessage", "sqs:DeleteMessage")):
            problems.append("it allows everyone to use the queue")
        yield ok_or("failed", name, "requires TLS, not public", problems, _DEPLOY)


def encryption(facts: Facts) -> Iterator[Check]:
    """Check that the services that use the queues may use a customer managed key."""
    name = "encryption-key"
    stack = facts.stack
    keys = {
        facts.queue(queue).get("KmsMasterKeyId", "") for queue in (stack.source, stack.dead_letters, stack.undelivered)
    }
    if len(keys) > 1:
        detail = f"the three queues have different keys: {', '.join(sorted(key or 'AWS owned' for key in keys))}"
        yield Check(name, "failed", detail, _DEPLOY)
        return
    [key] = keys
    if not key:
        yield Check(name, "ok", "SQS encrypts the queues with its own key")
        return
    if key.endswith("alias/aws/sqs"):
        detail = "the queues use alias/aws/sqs, whose policy allows neither EventBridge nor SNS"
        yield Check(name, "failed", detail, "Deploy with KmsKeyArn=create, with a key of your own, or without.")
        return
    kms = facts.aws.client("kms")
    found = kms.describe_key(KeyId=key)["KeyMetadata"]
    state = found["KeyState"]
    problems = [] if state == "Enabled" else [f"the key is {state}: nothing can be sent or read"]
    # GetKeyPolicy does not accept an alias, which a queue's key may be.
    policy = Policy(kms.get_key_policy(KeyId=found["Arn"], PolicyName="default")["Policy"])
    account = {"aws:sourceaccount": facts.account}
    needed = {_BUS: account} if facts.rule else {}
    if facts.stack.outputs.get("AlarmTopicArn"):
        needed[_ALARMS] = account | {"aws:sourcearn": facts.alarm_arn}
    if topic := facts.stack.parameters.get("SnsTopicArn"):
        needed[_TOPIC] = account | {"aws:sourcearn": topic}
    for service, context in needed.items():
        missing = [action for action in _KEY_ACTIONS if not policy.admits(service, action, context)]
        problems += [f"the key's policy does not allow {service} {' and '.join(missing)}"] if missing else []
    yield ok_or(
        "failed", name, "enabled, and its policy allows the services", problems, "docs/security.md has the policy."
    )


def in_flight(facts: Facts) -> Iterator[Check]:
    """Check the messages in flight. Beyond SQS's limit, it delivers no more."""
    attributes = facts.queue(facts.stack.source)
    hidden = int(attributes["ApproximateNumberOfMessagesNotVisible"])
    waiting = int(attributes["ApproximateNumberOfMessages"])
    detail = f"{number(hidden)} of about {number(_IN_FLIGHT_LIMIT)} messages in flight, {number(waiting)} waiting"
    status: Status = "ok" if hidden < _IN_FLIGHT_WARNING else "warning" if hidden < _IN_FLIGHT_LIMIT else "failed"
    remedy = "" if status == "ok" else "Find out why messages are deferred (docs/operate.md, in-flight)."
    yield Check("in-flight", status, detail, remedy)


def letters(facts: Facts) -> Iterator[Check]:
    """Check whether there are dead letters or undelivered events."""
    for name, queue, remedy in (
        ("dead-letters", facts.stack.dead_letters, "completion-sync dead-letters, then redrive."),
        (
            "undelivered",
            facts.stack.undelivered,
            "completion-sync dead-letters --undelivered, then redrive --undelivered.",
        ),
    ):
        found = int(facts.queue(queue)["ApproximateNumberOfMessages"])
        yield Check(name, "warning" if found else "ok", count(found, "letter"), remedy if found else "")


CHECKS = [visibility, redrive, retention, policies, encryption, in_flight, letters]
