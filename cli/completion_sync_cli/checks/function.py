"""Checks of the function, its event source, its log and its secret."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from completion_sync.errors import SettingError
from completion_sync.settings import Settings

from ..aws_errors import code_of
from .facts import Check, Facts, Status, ok_or

if TYPE_CHECKING:
    from collections.abc import Iterator

_DEPLOY = "Deploy the template again; do not change the function by hand."


def stack(facts: Facts) -> Iterator[Check]:
    """Check that the last deployment succeeded."""
    status = facts.stack.status
    good = status in {"CREATE_COMPLETE", "UPDATE_COMPLETE", "IMPORT_COMPLETE", "UPDATE_COMPLETE_CLEANUP_IN_PROGRESS"}
    kind: Status = "warning" if "ROLLBACK_COMPLETE" in status or status.endswith("IN_PROGRESS") else "failed"
    yield ok_or(kind, "stack", status, [] if good else [status], "Look at the stack's events, and deploy again.")


def state(facts: Facts) -> Iterator[Check]:
    """Check that Lambda can run the version that the alias points to."""
    function = facts.function
    if function.get("State") == "Pending" or function.get("LastUpdateStatus") == "InProgress":
        yield Check("function", "warning", "Lambda is still preparing it", "Check again in a minute.")
        return
    problems = [
        f"{name} is {function[name]} ({function.get(f'{name}ReasonCode', 'no reason given')})"
        for name, good in (("State", {"Active", "Inactive"}), ("LastUpdateStatus", {"Successful"}))
        if function.get(name, "Active" if name == "State" else "Successful") not in good
    ]
    alias = facts.aws.functions.get_alias(FunctionName=facts.stack.outputs["FunctionName"], Name="live")
    if weights := alias.get("RoutingConfig", {}).get("AdditionalVersionWeights"):
        problems.append(f"the alias also sends invocations to version {', '.join(weights)}")
    good = f"version {function['Version']}, {function['Runtime']}, {function['MemorySize']} MB"
    yield ok_or("failed", "function", good, problems, _DEPLOY)


def settings(facts: Facts) -> Iterator[Check]:
    """Check that the function's variables are valid, and name resources of this stack."""
    if "Error" in facts.function.get("Environment", {}):
        detail = "Lambda does not show the variables, because you have no access to their KMS key"
        yield Check("settings", "skipped", detail, "Ask for kms:Decrypt on that key.")
        return
    try:
        found = Settings.from_env(facts.variables)
    except SettingError as error:
        yield Check("settings", "failed", str(error), _DEPLOY)
        return
    problems = []
    if (found.dead_letter_queue_url or "").rpartition("/")[2] != facts.stack.dead_letters.url.rpartition("/")[2]:
        problems.append("DEAD_LETTER_QUEUE_URL is not the stack's dead-letter queue")
    if found.secret_id != facts.stack.outputs["ThriveSecretArn"]:
        problems.append("THRIVE_SECRET_ID is not the stack's secret")
    if (found.backoff_base_seconds, found.backoff_cap_seconds) != (30, 900):
        problems.append("the backoff is not 30 to 900 s, which maxReceiveCount is based on (docs/decisions/0004)")
    yield ok_or("failed", "settings", f"valid; Thrive is {found.public_api}", problems, _DEPLOY)


def event_source(facts: Facts) -> Iterator[Check]:
    """Check that Lambda polls the queue, accepts partial failures, and that the queue has no other consumer."""
    mapping = facts.event_source
    others = [item["FunctionArn"] for item in facts.event_sources if item is not mapping]
    if others:
        detail = f"{', '.join(others)} also receives messages from the source queue: they are not recorded"
        yield Check("queue-consumers", "failed", detail, "Remove the other event source mapping.")
    if mapping is None:
        yield Check("event-source", "failed", "nothing invokes the function for the source queue", _DEPLOY)
        return
    enable = f"aws lambda update-event-source-mapping --uuid {mapping['UUID']} --enabled"
    if mapping["State"] not in {"Enabled", "Creating", "Enabling", "Updating"}:
        yield Check(
            "event-source", "failed", f"it is {mapping['State']}: messages wait and nothing is recorded", enable
        )
    elif "PROBLEM" in mapping.get("LastProcessingResult", ""):
        remedy = "Compare the function's role and the queue's key with the template."
        yield Check("event-source", "failed", mapping["LastProcessingResult"], remedy)
    else:
        yield Check("event-source", "ok", f"{mapping['State']}, batches of {mapping['BatchSize']}")
    problems = []
    if "ReportBatchItemFailures" not in mapping.get("FunctionResponseTypes", []):
        problems.append("without ReportBatchItemFailures, deferred messages are deleted")
    if "MaximumConcurrency" not in mapping.get("ScalingConfig", {}):
        problems.append("without MaximumConcurrency, nothing bounds the requests to Thrive")
    if mapping.get("FilterCriteria", {}).get("Filters"):
        problems.append("it has a filter: Lambda deletes the messages that do not match")
    yield ok_or("failed", "event-source-settings", "failures are reported one by one", problems, _DEPLOY)


def concurrency(facts: Facts) -> Iterator[Check]:
    """Check that Lambda does not have to throttle the function, which uses up receives of messages."""
    wanted = (facts.event_source or {}).get("ScalingConfig", {}).get("MaximumConcurrency", 2)
    functions = facts.aws.functions
    answer: dict[str, Any] = {**functions.get_function_concurrency(FunctionName=facts.stack.outputs["FunctionName"])}
    reserved = answer.get("ReservedConcurrentExecutions")
    if reserved is not None:
        problem = (
            f"the reserved concurrency is {reserved}, below MaximumConcurrency ({wanted}): throttling uses up receives"
        )
        remedy = f"aws lambda delete-function-concurrency --function-name {facts.stack.outputs['FunctionName']}"
        good = f"{reserved} reserved, {wanted} needed"
        yield ok_or("failed", "concurrency", good, [problem] if reserved < wanted else [], remedy)
        return
    free = functions.get_account_settings()["AccountLimit"]["UnreservedConcurrentExecutions"]
    problem = f"the account has {free} unreserved for all functions, this one may use {wanted}"
    remedy = "Lower MaximumConcurrency, or ask AWS for a higher quota."
    yield ok_or("warning", "concurrency", f"{wanted} of {free}", [problem] if free <= wanted else [], remedy)


def log_group(facts: Facts) -> Iterator[Check]:
    """Check the log group, which is the audit trail."""
    name, used = facts.stack.outputs["LogGroupName"], facts.function.get("LoggingConfig", {}).get("LogGroup")
    found = facts.aws.logs.describe_log_groups(logGroupNamePrefix=name)["logGroups"]
    group = next((item for item in found if item["logGroupName"] == name), None)
    problems = []
    if group is None:
        problems.append(f"{name} does not exist")
    if used is not None and used != name:
        problems.append(f"the function writes to {used}")
    if facts.variables.get("POWERTOOLS_LOG_LEVEL", "INFO").upper() not in {"DEBUG", "INFO"}:
        problems.append("LogLevel suppresses the lines of recorded completions: there is no audit trail")
    days = (group or {}).get("retentionInDays")
    yield ok_or("failed", "log-group", f"kept for {days} days" if days else "kept forever", problems, _DEPLOY)


def direct_delivery(facts: Facts) -> Iterator[Check]:
    """Check that direct events are kept when the function fails."""
    if facts.stack.parameters.get("EventDelivery") != "direct":
        return
    name = facts.stack.outputs["FunctionName"]
    try:
        config = facts.aws.functions.get_function_event_invoke_config(FunctionName=name, Qualifier="live")
        target = config.get("DestinationConfig", {}).get("OnFailure", {}).get("Destination")
    except facts.aws.functions.exceptions.ResourceNotFoundException:
        target = None
    problems = []
    if target != facts.stack.undelivered.arn:
        problems.append("there is no on-failure destination: a direct event that fails three times is lost")
    if not facts.variables.get("RETRY_QUEUE_URL"):
        problems.append("RETRY_QUEUE_URL is not set: direct events cannot be deferred")
    yield ok_or("failed", "direct-delivery", "failed events go to the undelivered queue", problems, _DEPLOY)


def secret(facts: Facts) -> Iterator[Check]:
    """Check the secret's metadata. Only the function reads its value."""
    put = facts.stack.outputs.get("PutSecretCommand", "aws secretsmanager put-secret-value")
    try:
        found: dict[str, Any] = {**facts.aws.secrets.describe_secret(SecretId=facts.stack.outputs["ThriveSecretArn"])}
    except facts.aws.secrets.exceptions.ClientError as error:
        if code_of(error) != "ResourceNotFoundException":
            raise
        yield Check("secret", "failed", "it does not exist", "Deploy with ThriveSecretArn, or restore it.")
        return
    stages = {stage for stages in found.get("VersionIdsToStages", {}).values() for stage in stages}
    problems = []
    if "DeletedDate" in found:
        put = f"aws secretsmanager restore-secret --secret-id {facts.stack.outputs['ThriveSecretArn']}"
        problems.append("it is scheduled for deletion")
    elif "AWSCURRENT" not in stages:
        problems.append("it has no value yet")
    yield ok_or("failed", "secret", "it has a value", problems, put)


CHECKS = [stack, state, settings, event_source, concurrency, log_group, direct_delivery, secret]
