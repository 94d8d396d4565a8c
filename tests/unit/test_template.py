"""The template, transformed for several sets of parameters: what an emulator ignores is held here."""

from __future__ import annotations

import fnmatch
import json
import re
from itertools import accumulate
from pathlib import Path
from typing import Any

import botocore
import pytest

from completion_sync.observability import METRICS
from completion_sync.settings import Settings
from tests.support import sam_template
from tests.support.sam_template import (
    BOUNDARY,
    FIFO,
    KEY,
    OLD_KEY,
    PARAMETER_SETS,
    SECRET,
    TOPIC,
    Transformed,
    rule_violations,
    transform,
    transformed,
)

ROOT = Path(__file__).resolve().parents[2]
HOUR, DAY = 3600, 86_400
NAMESPACE = "ThriveCompletionSync"
EVENTS = f"arn:aws:events:{sam_template.REGION}:{sam_template.ACCOUNT}"


@pytest.fixture(params=PARAMETER_SETS)
def stack(request: pytest.FixtureRequest) -> Transformed:
    return transformed(request.param)


@pytest.fixture(params=[name for name, values in PARAMETER_SETS.items() if values.get("EventDelivery") != "none"])
def stack_with_rule(request: pytest.FixtureRequest) -> Transformed:
    return transformed(request.param)


def arn(logical_id: str) -> dict[str, Any]:
    return {"Fn::GetAtt": [logical_id, "Arn"]}


def role_statements(stack: Transformed) -> list[dict[str, Any]]:
    (policy,) = stack.properties("FunctionRole")["Policies"]
    return policy["PolicyDocument"]["Statement"]


def allowed(stack: Transformed) -> set[tuple[str, str]]:
    """Return the role's permissions as (action, resource)."""
    return {
        (action, resource if isinstance(resource, str) else ".".join(resource["Fn::GetAtt"]))
        for statement in role_statements(stack)
        for action in as_list(statement["Action"])
        for resource in as_list(statement["Resource"])
    }


def as_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def variables(stack: Transformed) -> dict[str, Any]:
    return stack.properties("CompletionFunction")["Environment"]["Variables"]


# ---- queues


def test_visibility_exceeds_six_timeouts(stack: Transformed) -> None:
    timeout = stack.properties("CompletionFunction")["Timeout"]
    longest_window = sam_template.raw()["Parameters"]["BatchingWindowSeconds"]["MaxValue"]
    assert stack.properties("SourceQueue")["VisibilityTimeout"] >= 6 * timeout + longest_window


def test_the_dead_letter_queue_is_on_the_queue(stack: Transformed) -> None:
    redrive = stack.properties("SourceQueue")["RedrivePolicy"]
    assert redrive["deadLetterTargetArn"] == arn("DeadLetterQueue")
    assert redrive["maxReceiveCount"] >= 5


def test_maximum_concurrency_bounds_the_queue_and_not_reserved_concurrency(stack: Transformed) -> None:
    mapping = stack.one("AWS::Lambda::EventSourceMapping")
    assert 2 <= int(mapping["ScalingConfig"]["MaximumConcurrency"]) <= 1000
    assert "ReservedConcurrentExecutions" not in stack.properties("CompletionFunction")


def backoff(stack: Transformed, jitter: float) -> list[float]:
    """Return the waits after each receive that the queue allows, at one jitter, from the deployed settings."""
    base, cap = (float(variables(stack)[name]) for name in ("BACKOFF_BASE_SECONDS", "BACKOFF_CAP_SECONDS"))
    receives = stack.properties("SourceQueue")["RedrivePolicy"]["maxReceiveCount"]
    return [min(cap, base * 2**n) * jitter for n in range(receives)]


def test_an_outage_of_a_day_dead_letters_nothing(stack: Transformed) -> None:
    """With the smallest jitter every time, the receives outlast a day of outage, with a third to spare for crashes."""
    waits = backoff(stack, 0.5)
    moments = [0.0, *accumulate(waits[:-1])]  # of each receive; the last one may still succeed
    needed = next(number for number, moment in enumerate(moments, start=1) if moment >= DAY)
    assert needed == 197
    assert needed <= len(moments) * 2 / 3
    assert moments[-1] == 177_765


def test_no_message_expires_before_its_receives_are_used_up(stack: Transformed) -> None:
    """With the largest jitter every time, the receives end within the shortest retention that the parameter allows."""
    shortest = min(sam_template.raw()["Parameters"]["QueueRetentionDays"]["AllowedValues"])
    assert sum(backoff(stack, 1.0)) < shortest * DAY
    assert stack.properties("SourceQueue")["MessageRetentionPeriod"] >= shortest * DAY


def test_the_guarantees_say_how_many_messages_can_use_up_their_receives() -> None:
    """SQS lets 120,000 be in flight (its guide, "Amazon SQS standard queue quotas"); the shortest long wait counts."""
    stack = transformed("defaults")
    waits = backoff(stack, 0.5)
    retention = stack.properties("SourceQueue")["MessageRetentionPeriod"]
    messages = 120_000 * retention / waits[-1] / len(waits)
    guarantees = (ROOT / "docs" / "guarantees.md").read_text(encoding="utf-8")
    assert f"in ten days at most {messages:,.0f} messages" in guarantees
    assert retention == 10 * DAY


def test_the_backoff_is_the_default_of_the_function() -> None:
    settings = Settings.from_env({"THRIVE_SECRET_ID": "any"})
    deployed = variables(transformed("defaults"))
    assert float(deployed["BACKOFF_BASE_SECONDS"]) == settings.backoff_base_seconds
    assert float(deployed["BACKOFF_CAP_SECONDS"]) == settings.backoff_cap_seconds


@pytest.mark.parametrize("days", sam_template.raw()["Parameters"]["QueueRetentionDays"]["AllowedValues"])
def test_dead_letters_outlive_the_source(days: int) -> None:
    assert sam_template.raw()["Mappings"]["Days"][str(days)]["Seconds"] == days * DAY
    dead_letters = transformed("defaults").properties("DeadLetterQueue")["MessageRetentionPeriod"]
    assert days * DAY < dead_letters == 14 * DAY


def test_queues_of_a_pair_have_one_type(stack: Transformed) -> None:
    """SQS redrives between queues of one type; EventBridge, SNS and Lambda send what failed to standard queues."""
    assert stack.properties("SourceQueue").get("FifoQueue") == stack.properties("DeadLetterQueue").get("FifoQueue")
    assert "FifoQueue" not in stack.properties("UndeliveredQueue")


def test_a_fifo_queue_is_named_so_and_takes_events_without_a_deduplication_id() -> None:
    stack = transformed("fifo")
    for logical_id in ("SourceQueue", "DeadLetterQueue"):
        properties = stack.properties(logical_id)
        assert properties["QueueName"].endswith(".fifo")
        assert properties["ContentBasedDeduplication"] is True
    (target,) = stack.properties("CompletionRule")["Targets"]
    assert target["SqsParameters"]["MessageGroupId"]


def test_redrive_is_allowed_to_the_source_queue_alone(stack: Transformed) -> None:
    policy = stack.properties("DeadLetterQueue")["RedriveAllowPolicy"]
    name = stack.properties("SourceQueue")["QueueName"]
    expected = f"arn:aws:sqs:{sam_template.REGION}:{sam_template.ACCOUNT}:{name}"
    assert policy == {"redrivePermission": "byQueue", "sourceQueueArns": [expected]}
    for logical_id in ("SourceQueue", "UndeliveredQueue"):
        assert stack.properties(logical_id)["RedriveAllowPolicy"] == {"redrivePermission": "denyAll"}


def test_queue_names_fit_a_stack_name_of_53_characters(stack: Transformed) -> None:
    """A queue's name may have 80 characters."""
    for queue in stack.of_type("AWS::SQS::Queue").values():
        assert len(queue["QueueName"]) - len(sam_template.STACK) + 53 <= 80


def test_what_holds_data_outlives_the_stack(stack: Transformed) -> None:
    """It stays when the stack goes or replaces it, but not when its creation fails."""
    kept = ("AWS::SQS::Queue", "AWS::SecretsManager::Secret", "AWS::KMS::Key", "AWS::Logs::LogGroup")
    for logical_id, resource in stack.resources.items():
        if resource["Type"] in kept:
            assert resource["DeletionPolicy"] == "RetainExceptOnCreate", logical_id
            assert resource["UpdateReplacePolicy"] == "Retain", logical_id


# ---- EventBridge, SNS


def test_the_rule_feeds_the_queue_by_default() -> None:
    """Events wait in the queue and not in Lambda's own, which gives up after three tries."""
    (target,) = transformed("defaults").properties("CompletionRule")["Targets"]
    assert target["Arn"] == arn("SourceQueue")
    assert "RETRY_QUEUE_URL" not in variables(transformed("defaults"))


@pytest.mark.parametrize("name", ["direct", "everything"])
def test_a_direct_event_is_retried_by_the_queue_and_never_dropped_silently(name: str) -> None:
    """The direct path has the source queue for deferred events, an on-failure destination and the longest event age."""
    stack = transformed(name)
    assert variables(stack)["RETRY_QUEUE_URL"] == {"Ref": "SourceQueue"}
    config = stack.one("AWS::Lambda::EventInvokeConfig")
    assert config["DestinationConfig"]["OnFailure"]["Destination"] == arn("UndeliveredQueue")
    assert (config["MaximumEventAgeInSeconds"], config["MaximumRetryAttempts"]) == (6 * HOUR, 2)
    assert {("sqs:SendMessage", "SourceQueue.Arn"), ("sqs:SendMessage", "UndeliveredQueue.Arn")} <= allowed(stack)
    assert "FifoQueue" not in stack.properties("SourceQueue")


def test_the_rule_has_a_dead_letter_queue(stack_with_rule: Transformed) -> None:
    (target,) = stack_with_rule.properties("CompletionRule")["Targets"]
    assert target["DeadLetterConfig"]["Arn"] == arn("UndeliveredQueue")
    assert target["RetryPolicy"]["MaximumEventAgeInSeconds"] == DAY


def test_every_permission_exists_before_the_rule(stack_with_rule: Transformed) -> None:
    """EventBridge does not retry what a policy denies (its guide, eb-rule-dlq: "without any retry attempts")."""
    first = {"SourceQueuePolicy", "UndeliveredQueuePolicy"}
    if "DirectInvokeConfig" in stack_with_rule.resources:
        first |= {"CompletionRulePermission", "DirectInvokeConfig"}
    assert first <= stack_with_rule.depends_on("CompletionRule")
    for logical_id in first:
        assert "CompletionRule" not in stack_with_rule.depends_on(logical_id)


def test_the_policies_exist_before_the_subscription() -> None:
    assert {"SourceQueuePolicy", "UndeliveredQueuePolicy"} <= transformed("everything").depends_on("TopicSubscription")


def test_nothing_depends_on_a_resource_that_a_condition_leaves_out(stack: Transformed) -> None:
    """Such a resource would not be created either (CloudFormation's template reference, "Condition attribute")."""
    for logical_id in stack.resources:
        assert set(stack.explicitly_depends_on(logical_id)) <= stack.resources.keys(), logical_id


def rule_arn(stack: Transformed) -> str:
    rule = stack.properties("CompletionRule")
    bus = "" if rule["EventBusName"] == "default" else rule["EventBusName"] + "/"
    return f"{EVENTS}:rule/{bus}{rule['Name']}"


def admitted_rules(stack: Transformed, policy: str) -> list[str]:
    (statement,) = (
        statement
        for statement in stack.properties(policy)["PolicyDocument"]["Statement"]
        if statement["Sid"] == "OurRuleOnly"
    )
    return statement["Condition"]["ArnLike"]["aws:SourceArn"]


@pytest.mark.parametrize("policy", ["SourceQueuePolicy", "UndeliveredQueuePolicy"])
def test_the_queues_admit_the_rule_whatever_the_bus(stack_with_rule: Transformed, policy: str) -> None:
    """In direct delivery too. During an update, the old rule is in use until the update ends."""
    patterns = admitted_rules(stack_with_rule, policy)
    for admitted in (
        rule_arn(stack_with_rule),
        rule_arn(transform({"EventBusName": "another"})),
        rule_arn(transformed("defaults")),
        f"{EVENTS}:rule/learning-CompletionRule-1ABCDEF2GHIJK",  # of version 0.1.0
        f"{EVENTS}:rule/another/learning-CompletionRule-1ABCDEF2GHIJK",
    ):
        assert any(fnmatch.fnmatchcase(admitted, pattern) for pattern in patterns), admitted
    for denied in (
        rule_arn(stack_with_rule).replace(sam_template.ACCOUNT, "210987654321"),
        rule_arn(stack_with_rule).replace("thrive-", "another-"),
        f"{EVENTS}:rule/elearning-CompletionRule-1ABCDEF2GHIJK",
    ):
        assert not any(fnmatch.fnmatchcase(denied, pattern) for pattern in patterns), denied


@pytest.mark.parametrize("name", ["direct", "everything"])
def test_the_function_admits_the_rule_alone(name: str) -> None:
    permission = transformed(name).one("AWS::Lambda::Permission")
    assert permission["SourceArn"] == rule_arn(transformed(name))


def test_a_rule_on_another_bus_has_another_name_of_at_most_64_characters() -> None:
    """CloudFormation does not replace a named resource by one of the same name (AWS::Events::Rule, "Name")."""
    longest = "b" * 48
    names = [transform({"EventBusName": bus}).properties("CompletionRule")["Name"] for bus in ("default", longest)]
    assert accepts("EventBusName", longest)
    assert not accepts("EventBusName", longest + "b")
    assert len(set(names)) == 2
    assert max(map(len, names)) <= 64


def test_the_rules_alarms_name_the_rule_and_a_bus_other_than_the_default(stack_with_rule: Transformed) -> None:
    """The default bus reports by rule alone (EventBridge's guide, "Monitoring Amazon EventBridge")."""
    rule = stack_with_rule.properties("CompletionRule")
    expected = {"RuleName": rule["Name"]}
    if rule["EventBusName"] != "default":
        expected["EventBusName"] = rule["EventBusName"]
    for alarm in ("RuleFailedAlarm", "RuleEventsLostAlarm"):
        dimensions = stack_with_rule.properties(alarm)["Dimensions"]
        assert {item["Name"]: item["Value"] for item in dimensions} == expected


def test_services_send_only_on_behalf_of_our_sources(stack: Transformed) -> None:
    """Each permission for a service names the source's ARN, and every queue and topic refuses plain HTTP."""
    policies = [*stack.of_type("AWS::SQS::QueuePolicy").values(), *stack.of_type("AWS::SNS::TopicPolicy").values()]
    for policy in policies:
        first, *others = policy["PolicyDocument"]["Statement"]
        assert (first["Effect"], first["Principal"]) == ("Deny", "*")
        assert first["Condition"] == {"Bool": {"aws:SecureTransport": "false"}}
        for statement in others:
            (sources,) = [test["aws:SourceArn"] for test in statement["Condition"].values() if "aws:SourceArn" in test]
            assert sources == TOPIC or all(f":{sam_template.ACCOUNT}:" in source for source in as_list(sources))
    assert len(stack.of_type("AWS::SQS::QueuePolicy")) == len(stack.of_type("AWS::SQS::Queue"))


def test_a_topic_is_subscribed_with_a_queue_for_what_it_cannot_deliver() -> None:
    subscription = transformed("everything").one("AWS::SNS::Subscription")
    assert subscription["Endpoint"] == arn("SourceQueue")
    assert subscription["RawMessageDelivery"] is False
    assert subscription["RedrivePolicy"]["deadLetterTargetArn"] == arn("UndeliveredQueue")


# ---- encryption


def test_a_created_key_admits_the_services_that_send() -> None:
    """Conditions only as AWS documents them for the service; docs/security.md names the pages."""
    key = transformed("everything").one("AWS::KMS::Key")
    owner, *services = key["KeyPolicy"]["Statement"]
    assert owner["Principal"]["AWS"].endswith(":root")
    account = {"aws:SourceAccount": sam_template.ACCOUNT}
    ours = f"{sam_template.REGION}:{sam_template.ACCOUNT}"
    alarms = f"arn:aws:cloudwatch:{ours}:alarm:{sam_template.STACK}-*"
    logs = f"arn:aws:logs:{ours}:log-group:/aws/lambda/{sam_template.STACK}-*"
    assert {statement["Principal"]["Service"]: statement["Condition"] for statement in services} == {
        "events.amazonaws.com": {"StringEquals": account},
        "cloudwatch.amazonaws.com": {"StringEquals": account, "ArnLike": {"aws:SourceArn": alarms}},
        "sns.amazonaws.com": {"ArnEquals": {"aws:SourceArn": TOPIC}},
        f"logs.{sam_template.REGION}.amazonaws.com": {"ArnLike": {"kms:EncryptionContext:aws:logs:arn": logs}},
    }
    assert key["EnableKeyRotation"] is True


def test_everything_that_can_be_is_encrypted(stack: Transformed) -> None:
    """Queues by SQS or by the key; with a key, the secret, logs, variables and alarms by it too."""
    queues = stack.of_type("AWS::SQS::Queue").values()
    if "KmsMasterKeyId" not in stack.properties("SourceQueue"):
        assert all(queue["SqsManagedSseEnabled"] is True for queue in queues)
        return
    key = stack.properties("SourceQueue")["KmsMasterKeyId"]
    assert all(queue["KmsMasterKeyId"] == key and "SqsManagedSseEnabled" not in queue for queue in queues)
    assert stack.properties("ThriveSecret")["KmsKeyId"] == key
    assert stack.properties("FunctionLogGroup")["KmsKeyId"] == key
    assert stack.properties("CompletionFunction")["KmsKeyArn"] == key
    assert stack.properties("AlarmTopic")["KmsMasterKeyId"] == key


@pytest.mark.parametrize("new", ["", "create", KEY])
def test_the_previous_key_still_decrypts_and_no_more(new: str) -> None:
    """A consumer needs every key that encrypts a message in the queue (SQS's guide, "Key management")."""
    stack = transform({"KmsKeyArn": new, "PreviousKmsKeyArn": OLD_KEY})
    assert {action for action, resource in allowed(stack) if resource == OLD_KEY} == {"kms:Decrypt"}


def test_keys_are_used_only_through_the_services_that_need_them(stack: Transformed) -> None:
    for statement in role_statements(stack):
        if "kms:Decrypt" in statement["Action"]:
            assert statement["Condition"]["StringEquals"]["kms:ViaService"]


def test_cloudformation_writes_no_value_into_the_secret() -> None:
    """What it once wrote it could write again, over the real credentials."""
    assert transformed("defaults").properties("ThriveSecret").keys() == {"Description"}
    assert transformed("created-key").properties("ThriveSecret").keys() == {"Description", "KmsKeyId"}


# ---- function


def test_only_the_prefix_of_the_configuration_may_be_listed() -> None:
    (statement,) = [s for s in role_statements(transformed("configured")) if s["Action"] == "s3:ListBucket"]
    assert statement["Condition"] == {"StringEquals": {"s3:prefix": "thrive/"}}


def test_a_fifo_queue_is_read_message_by_message() -> None:
    """In a larger batch, messages behind a deferred one of their group would spend receives without being tried."""
    assert transformed("fifo").one("AWS::Lambda::EventSourceMapping")["BatchSize"] == 1


def test_the_event_source_reports_failures_one_by_one(stack: Transformed) -> None:
    """Without ReportBatchItemFailures the function's answer would be ignored and failures deleted."""
    mapping = stack.one("AWS::Lambda::EventSourceMapping")
    assert mapping["FunctionResponseTypes"] == ["ReportBatchItemFailures"]
    assert mapping["EventSourceArn"] == arn("SourceQueue")


def test_the_environment_is_accepted_by_the_function(stack: Transformed) -> None:
    """Every variable is one that the function or its libraries know, and the values pass the function's own check."""
    environment = {
        name: value if isinstance(value, str) else "https://sqs.eu-west-1.amazonaws.com/123456789012/queue"
        for name, value in variables(stack).items()
    }
    environment["THRIVE_SECRET_ID"] = SECRET
    settings = Settings.from_env(environment)
    assert settings.service == sam_template.STACK
    assert settings.metrics_namespace == NAMESPACE
    assert settings.dead_letter_queue_url is not None


def test_permissions_are_exactly_these(stack: Transformed) -> None:
    secret = "ThriveSecret.Id" if "ThriveSecret" in stack.resources else SECRET
    expected = {
        *((f"sqs:{action}", "SourceQueue.Arn") for action in ("ReceiveMessage", "DeleteMessage")),
        *((f"sqs:{action}", "SourceQueue.Arn") for action in ("GetQueueAttributes", "ChangeMessageVisibility")),
        ("sqs:SendMessage", "DeadLetterQueue.Arn"),
        ("secretsmanager:GetSecretValue", secret),
        ("logs:CreateLogStream", "FunctionLogGroup.Arn"),
        ("logs:PutLogEvents", "FunctionLogGroup.Arn"),
    }
    if "DirectInvokeConfig" in stack.resources:
        expected |= {("sqs:SendMessage", "SourceQueue.Arn"), ("sqs:SendMessage", "UndeliveredQueue.Arn")}
    if "KmsMasterKeyId" in (queue := stack.properties("SourceQueue")):
        key = "EncryptionKey.Arn" if isinstance(queue["KmsMasterKeyId"], dict) else KEY
        expected |= {("kms:Decrypt", key), ("kms:GenerateDataKey", key)}
    if stack is transformed("customer-key"):
        expected.add(("kms:Decrypt", OLD_KEY))
    if stack is transformed("existing-secret"):
        expected.add(("kms:Decrypt", KEY))
    if stack is transformed("configured"):
        bucket = "arn:aws:s3:::learning-config"
        expected |= {("s3:GetObject", f"{bucket}/thrive/{file}") for file in ("mapping.json", "content.csv")}
        expected |= {("s3:ListBucket", bucket), ("kms:Decrypt", KEY)}
    assert allowed(stack) == expected
    assert "ManagedPolicyArns" not in stack.properties("FunctionRole")


def test_the_role_has_the_path_and_the_boundary_that_are_asked_for() -> None:
    role = transformed("everything").properties("FunctionRole")
    assert (role["Path"], role["PermissionsBoundary"]) == ("/applications/learning/", BOUNDARY)
    role = transformed("defaults").properties("FunctionRole")
    assert role["Path"] == "/"
    assert "PermissionsBoundary" not in role


def test_a_changed_parameter_publishes_a_version() -> None:
    """Every parameter that reaches the function is in the version's description: no alias keeps old settings."""
    function = sam_template.raw()["Resources"]["CompletionFunction"]["Properties"]
    described = names_in(function["VersionDescription"])
    assert function["VersionDescription"] == function["Description"]
    elsewhere = {"Events", "Description", "VersionDescription"}
    reaching = names_in({key: value for key, value in function.items() if key not in elsewhere})
    # The queues' URLs change with their type. An emulator is used by `sam local`, which knows no alias.
    assert described == (reaching | {"QueueType"}) - {"AwsEndpointUrl"}


def test_what_can_be_undone_is_what_the_manual_says() -> None:
    """New code is a new resource, and the old version is kept; a new parameter replaces the version, which is not."""
    logical_id, before = version({})
    changed_parameter, _ = version({"ThriveEnvironment": "staging"})
    changed_code, _ = version({}, code="s3://bucket/another.zip")
    assert changed_parameter == logical_id != changed_code
    assert before["DeletionPolicy"] == "Retain"
    assert "UpdateReplacePolicy" not in before


def version(values: dict[str, str], code: str = "s3://bucket/artefact.zip") -> tuple[str, dict[str, Any]]:
    stack = transform(values, code=code)
    (found,) = (item for item in stack.resources.items() if item[1]["Type"] == "AWS::Lambda::Version")
    return found


def names_in(node: object) -> set[str]:
    """Return the parameters that a part of the template depends on, through conditions too."""
    template = sam_template.raw()
    found: set[str] = set()
    if isinstance(node, list):
        return found.union(*map(names_in, node)) if node else found
    if isinstance(node, str):
        found = set(re.findall(r"\$\{(\w+)\}", node))
    elif isinstance(node, dict):
        for key, value in node.items():
            if key == "Ref":
                found.add(value)
            elif key == "Fn::If":
                found |= names_in(template["Conditions"][value[0]]) | names_in(value[1:])
            else:
                found |= names_in(value)
    return found & set(template["Parameters"])


def test_the_description_fits_whatever_the_parameters() -> None:
    """Lambda allows a description 256 characters; the longest values of all its parameters stay within."""
    definitions = sam_template.raw()["Parameters"]
    text, local = sam_template.raw()["Resources"]["CompletionFunction"]["Properties"]["Description"]["Fn::Sub"]
    longest = {name: longest_value(definition) for name, definition in definitions.items()}
    longest["Secret"] = longest["ThriveSecretArn"] - len("arn:aws:secretsmanager:us-east-1:123456789012:secret:")
    longest["Key"] = len("1234abcd-12ab-34cd-56ef-1234567890ab")
    longest["Config"] = longest["ConfigUri"] - len("s3://")
    longest |= {
        "Environment": len("prod-mea"),
        "Queue": len("fifo"),
        "Delivery": len("direct"),
        "Processor": len("arm"),
    }
    longest |= {"Log": 1, "Snap": len("snap"), "Test": len("test")}
    assert set(local) <= set(longest)
    names = re.findall(r"\$\{(\w+)\}", text)
    assert sum(longest[name] for name in names) + len(names) - 1 <= 256


def longest_value(definition: dict[str, Any]) -> int:
    """Return the length of a parameter's longest value, 0 where it is not bounded."""
    if "AllowedValues" in definition:
        return max(len(str(value)) for value in definition["AllowedValues"])
    return int(definition.get("MaxLength", len(str(definition.get("MaxValue", "")))))


# ---- alarms (tests/unit/test_alarms.py says when they are on), dashboard, queries


def alarm_metrics(stack: Transformed) -> list[dict[str, Any]]:
    metrics = []
    for alarm in stack.of_type("AWS::CloudWatch::Alarm").values():
        stats = [query["MetricStat"]["Metric"] for query in alarm.get("Metrics", []) if "MetricStat" in query]
        metrics += stats or [alarm]
    return metrics


def drawn_metrics(stack: Transformed) -> list[tuple[str, ...]]:
    """Return every metric on the dashboard as (namespace, name, dimension, value, …), abbreviations written out."""
    body = json.loads(stack.one("AWS::CloudWatch::Dashboard")["DashboardBody"])
    drawn = []
    for widget in body["widgets"]:
        previous: list[str] = []
        for row in widget["properties"].get("metrics", []):
            texts = [cell for cell in row if isinstance(cell, str)]
            if not texts:
                continue
            if texts[0] == "...":
                texts = [*previous[: len(previous) - len(texts) + 1], *texts[1:]]
            previous = [previous[place] if cell == "." else cell for place, cell in enumerate(texts)]
            drawn.append(tuple(previous))
    return drawn


def test_every_drawn_metric_of_ours_is_emitted(stack: Transformed) -> None:
    ours = [metric for metric in drawn_metrics(stack) if metric[0] == NAMESPACE]
    assert {metric[1] for metric in ours} <= METRICS.keys()
    assert {metric[2:] for metric in ours} == {("service", sam_template.STACK)}
    outcomes = {"CompletionsCreated", "CompletionsExisting", "CompletionsRejected", "CompletionsDeferred"}
    assert {metric[1] for metric in ours} >= outcomes | {"AuthFailures", "Throttles", "ApiLatency"}


def test_the_dashboard_shows_every_alarm(stack: Transformed) -> None:
    body = json.loads(stack.one("AWS::CloudWatch::Dashboard")["DashboardBody"])
    (widget,) = (widget for widget in body["widgets"] if widget["type"] == "alarm")
    alarms = stack.of_type("AWS::CloudWatch::Alarm")
    assert sorted(widget["properties"]["alarms"]) == sorted(f"<{logical_id}.Arn>" for logical_id in alarms)


def test_alarms_tell_someone_what_to_do(stack: Transformed) -> None:
    for alarm in stack.of_type("AWS::CloudWatch::Alarm").values():
        assert 100 <= len(alarm["AlarmDescription"]) <= 1024
        assert len(alarm["AlarmActions"]) == len(alarm["OKActions"]) == 1


def manual() -> str:
    return (ROOT / "docs" / "operate.md").read_text(encoding="utf-8")


def test_the_manual_has_a_section_for_each_alarm_and_for_no_other() -> None:
    resources = sam_template.raw()["Resources"].values()
    names = [item["Properties"]["AlarmName"] for item in resources if item["Type"] == "AWS::CloudWatch::Alarm"]
    slugs = [name["Fn::Sub"].removeprefix("${AWS::StackName}-") for name in names]
    assert sorted(re.findall(r"^### ([a-z-]+)$", manual(), re.MULTILINE)) == sorted(slugs)


def test_the_manual_counts_the_metrics_of_the_alarms() -> None:
    """CloudWatch bills an alarm by the metrics that it watches."""
    (count, price) = re.findall(r"(\d+) metrics of alarms at 0\.10: (\d+\.\d\d)", manual())[0]
    assert int(count) == len(alarm_metrics(transformed("defaults")))
    assert float(price) == pytest.approx(int(count) * 0.10)


def test_alarms_and_queries_are_left_out_on_emulators_alone() -> None:
    """The condition lists every partition that botocore knows."""
    data = Path(botocore.__file__).parent / "data" / "partitions.json"
    known = {partition["id"] for partition in json.loads(data.read_text(encoding="utf-8"))["partitions"]}
    account, partitions = sam_template.raw()["Conditions"]["IsAws"]["Fn::And"]
    assert account == {"Fn::Not": [{"Fn::Equals": [{"Ref": "AWS::AccountId"}, "0" * 12]}]}
    assert {test["Fn::Equals"][1] for test in partitions["Fn::Or"]} == known


def test_saved_queries_use_fields_that_are_logged(stack: Transformed) -> None:
    fields = {"message_id", "outcome", "reason", "status", "statement_id", "user_id", "content_id"}
    fields |= {"attempts", "receive_count", "duration_ms", "message"}
    words = {"fields", "filter", "sort", "limit", "stats", "count", "count_distinct", "earliest", "latest"}
    words |= {"as", "by", "in", "and", "ispresent", "desc", "like"}
    labels = {"lines", "messages", "first", "last", "timestamp", "rejected", "deferred"}
    labels |= {"unknown_user", "unknown_content", "configuration"}
    queries = stack.of_type("AWS::Logs::QueryDefinition").values()
    assert len(queries) == 5
    for query in queries:
        text = re.sub(r'"PUT[^"]*"', "", query["QueryString"])
        assert set(re.findall(r"[a-z_]{2,}", text)) <= fields | words | labels


def test_the_dashboard_is_one_screen_without_overlap(stack: Transformed) -> None:
    """Every widget has a place of its own on a grid of 24 by 18."""
    body = json.loads(stack.one("AWS::CloudWatch::Dashboard")["DashboardBody"])
    taken = [
        (column, widget["y"])
        for widget in body["widgets"]
        for column in range(widget["x"], widget["x"] + widget["width"])
    ]
    assert sorted(taken) == [(column, row) for column in range(24) for row in (0, 6, 12)]


# ---- parameters


def test_no_default_breaks_its_own_rule() -> None:
    for values in PARAMETER_SETS.values():
        assert rule_violations(values) == []
        for name, value in sam_template.parameters(values).items():
            assert accepts(name, value), (name, value)


def accepts(parameter: str, value: str) -> bool:
    definition = sam_template.raw()["Parameters"][parameter]
    values = value.split(",") if definition["Type"] == "CommaDelimitedList" else [value]
    return all(accepts_one(definition, one) for one in values)


def accepts_one(definition: dict[str, Any], value: str) -> bool:
    if "AllowedValues" in definition and value not in map(str, definition["AllowedValues"]):
        return False
    if "AllowedPattern" in definition and not re.fullmatch(definition["AllowedPattern"], value):
        return False
    if definition["Type"] == "Number":
        if not re.fullmatch(r"\d+", value):
            return False
        return definition.get("MinValue", 0) <= int(value) <= definition.get("MaxValue", int(value))
    return len(value) <= definition.get("MaxLength", len(value))


REFUSED = {
    "AlarmEmail": ["ops", "ops@example.com, more@example.com"],
    "AlarmTopicArn": ["pager", "arn:aws:sns:eu-west-1:123456789012:pager.fifo"],
    "Architecture": ["arm"],
    "AwsEndpointUrl": ["https://attacker.example", "http://10.0.0.1:4566"],
    "BacklogAlarmHours": ["48"],
    "BatchSize": ["0", "101"],
    "BatchingWindowSeconds": ["61"],
    "ConfigKmsKeyArn": ["alias/mine"],
    "ConfigUri": [
        "s3://bucket/",
        "s3://bucket/prefix",
        "s3://bucket/two/levels/",
        "https://bucket.s3.amazonaws.com/prefix/",
    ],
    "EventBusName": ["aws.partner/example.com/1", "arn:aws:events:eu-west-1:123456789012:event-bus/learning"],
    "EventDelivery": ["pipe"],
    "EventDetailTypes": [""],
    "EventSources": ["one,,two"],
    "KmsKeyArn": ["alias/mine", "arn:aws:kms:eu-west-1:123456789012:alias/mine", "yes"],
    "LogLevel": ["info"],
    "LogRetentionDays": ["7"],
    "MaximumConcurrency": ["1", "1001"],
    "OldestMessageAlarmSeconds": ["60"],
    "PermissionsBoundaryArn": ["arn:aws:iam::123456789012:role/applications"],
    "PreviousKmsKeyArn": ["create"],
    "QueueRetentionDays": ["4", "14"],
    "QueueType": ["FIFO"],
    "ReadScope": ["api/read  api/all"],
    "RequestsInFlight": ["0"],
    "RolePath": ["", "/applications", "//"],
    "SnapStart": ["on"],
    "SnsTopicArn": ["arn:aws:sns:eu-west-1:123456789012:completions.fifo"],
    "ThriveBaseUrl": ["http://thrive.example", "https://thrive.example/rest/v1", "https://user@thrive.example"],
    "ThriveEnvironment": ["test"],
    "ThriveScope": ['"api/write"', "api/write  api/read"],
    "ThriveSecretArn": [
        "thrive",
        "arn:aws:ssm:eu-west-1:123456789012:parameter/thrive",
        "arn:aws:secretsmanager:eu-west-1:123456789012:secret:apps/thrive/prod",
    ],
    "ThriveSecretKmsKeyArn": ["alias/aws/secretsmanager"],
    "UserWaitHours": ["12"],
}
ACCEPTED = {
    "AwsEndpointUrl": ["http://host.docker.internal:4566"],
    "EventDetailTypes": ["Course Completed,Quiz Passed"],
    "EventSources": ["com.example.learning,hr-suite"],
    "KmsKeyArn": ["arn:aws-us-gov:kms:us-gov-west-1:123456789012:key/mrk-1234abcd12ab34cd56ef1234567890ab"],
    "PermissionsBoundaryArn": ["arn:aws:iam::aws:policy/PowerUserAccess"],
    "RolePath": ["/applications/learning/"],
    "ThriveBaseUrl": ["http://127.0.0.1:8080", "http://172.17.0.1:8080", "https://stand-in.example:8443"],
    "ThriveScope": ["", "api/read api/write"],
    "ThriveSecretArn": ["arn:aws:secretsmanager:eu-west-1:123456789012:secret:apps/thrive/prod-AbCdEf"],
}


def pairs(table: dict[str, list[str]]) -> list[tuple[str, str]]:
    return [(parameter, value) for parameter, values in table.items() for value in values]


@pytest.mark.parametrize(("parameter", "value"), pairs(REFUSED))
def test_bad_values_are_refused_before_anything_is_created(parameter: str, value: str) -> None:
    assert not accepts(parameter, value)


@pytest.mark.parametrize(("parameter", "value"), pairs(ACCEPTED))
def test_good_values_are_accepted(parameter: str, value: str) -> None:
    assert accepts(parameter, value)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        (FIFO | {"EventDelivery": "direct"}, "EventDelivery=queue or QueueType=standard"),
        (FIFO | {"SnsTopicArn": TOPIC}, "Leave SnsTopicArn empty or choose QueueType=standard"),
        (FIFO | {"BatchingWindowSeconds": "5"}, "BatchingWindowSeconds=0 or choose QueueType=standard"),
        (FIFO | {"BatchSize": "11"}, "BatchSize above 10"),
        (FIFO | {"UserWaitHours": "72"}, "UserWaitHours=0 or choose QueueType=standard"),
        ({"UserWaitHours": "168", "QueueRetentionDays": "7"}, "QueueRetentionDays to 10 or 13"),
        ({"ConfigKmsKeyArn": KEY}, "Set ConfigUri too"),
        ({"BatchSize": "11"}, "BatchingWindowSeconds of at least 1"),
        ({"ThriveSecretKmsKeyArn": KEY}, "Set ThriveSecretArn too, or use KmsKeyArn"),
        ({"AlarmEmail": "ops@example.com", "AlarmTopicArn": TOPIC}, "not both"),
    ],
)
def test_combinations_that_cannot_work_say_what_to_change(values: dict[str, str], words: str) -> None:
    (violation,) = rule_violations(values)
    assert words in violation


def test_every_parameter_is_grouped_and_labelled() -> None:
    """The console shows each parameter once, in a group, under a readable name."""
    template = sam_template.raw()
    interface = template["Metadata"]["AWS::CloudFormation::Interface"]
    grouped = [name for group in interface["ParameterGroups"] for name in group["Parameters"]]
    assert sorted(grouped) == sorted(template["Parameters"])
    assert sorted(interface["ParameterLabels"]) == sorted(template["Parameters"])


def test_every_skipped_check_carries_its_reason() -> None:
    for resource in sam_template.raw()["Resources"].values():
        for skip in resource.get("Metadata", {}).get("checkov", {}).get("skip", []):
            assert re.fullmatch(r"CKV2?_AWS_\d+", skip["id"])
            assert len(skip["comment"]) > 40
