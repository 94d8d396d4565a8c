"""`check` on a deployed stack: no false alarms, and every change by hand is found, with a remedy."""

from __future__ import annotations

import io
import json
from typing import TYPE_CHECKING, Any

import pytest
from botocore.exceptions import ClientError, ReadTimeoutError

from completion_sync_cli.aws import Aws
from completion_sync_cli.context import Operator
from completion_sync_cli.policies import Policy
from tests.cli.conftest import Deployed, Outcome, completion, invoke
from tests.support.fakes import client_error

if TYPE_CHECKING:
    from collections.abc import Callable


SUBSCRIBED = {"AlarmEmail": "ops@example.com"}

_clients: dict[str, Any] = {}


class Function:
    """Lambda's client for invocations: answers with ``payload``, or fails."""

    def __init__(self, payload: object = None, *, error: str | None = None, raises: Exception | None = None) -> None:
        self.payload = {"checks": []} if payload is None else payload
        self.error = error
        self.raises = raises
        self.events: list[Any] = []

    def invoke(self, **request: Any) -> dict[str, Any]:
        self.events.append(json.loads(request["Payload"]))
        if self.raises:
            raise self.raises
        answer: dict[str, Any] = {"StatusCode": 200, "Payload": io.BytesIO(json.dumps(self.payload).encode())}
        return answer | ({"FunctionError": self.error} if self.error else {})


def check(function: Function | None = None, *arguments: str, aws: dict[str, Any] | None = None) -> Outcome:
    """Run `check --json` with this function in place of the deployed one, and these clients in place of boto3's."""
    operator = Operator()
    # Clients are shared, because creating them takes longer than everything else here.
    operator.aws = Aws(None, None)
    operator.aws._clients = _clients | (aws or {})
    operator.aws.__dict__["invocations"] = function or Function()
    outcome = invoke("check", "--json", *arguments, operator=operator)
    if aws is None:
        _clients.update(operator.aws._clients)
    return outcome


def found(outcome: Outcome) -> dict[str, dict[str, str]]:
    """Return what is not ok, by name; each has a remedy, or was skipped."""
    checks = outcome.document["checks"]
    assert all(set(one) == {"name", "status", "detail", "remedy"} for one in checks)
    assert all(one["remedy"] for one in checks if one["status"] in {"warning", "failed"})
    assert outcome.status == any(one["status"] == "failed" for one in checks)
    return {one["name"]: one for one in checks if one["status"] not in {"ok", "skipped"}}


def enable(deployed: Deployed, **changes: Any) -> None:
    """Switch the event source on, which the sandbox leaves off; its queue is empty, so the emulator invokes nothing."""
    lambda_ = deployed.client("lambda")
    [mapping] = lambda_.list_event_source_mappings(EventSourceArn=deployed.outputs["SourceQueueArn"])[
        "EventSourceMappings"
    ]
    lambda_.update_event_source_mapping(UUID=mapping["UUID"], **{"Enabled": True, **changes})
    # The emulator evaluates an alarm over the metrics of all functions, those of other tests included.
    cloudwatch = deployed.client("cloudwatch")
    for alarm in cloudwatch.describe_alarms(AlarmNamePrefix=f"{deployed.name}-", StateValue="ALARM")["MetricAlarms"]:
        cloudwatch.set_alarm_state(AlarmName=alarm["AlarmName"], StateValue="OK", StateReason="not of this stack")


def attribute(queue: str, **values: str) -> Callable[[Deployed], None]:

    def change(deployed: Deployed) -> None:
        deployed.emulator.sqs.set_queue_attributes(QueueUrl=deployed.outputs[f"{queue}QueueUrl"], Attributes=values)

    return change


def call(service: str, operation: str, **request: Any) -> Callable[[Deployed], None]:
    """Return a change that makes one call; a value that begins with $ is an output of the stack."""

    def change(deployed: Deployed) -> None:
        filled = {
            key: deployed.outputs[value[1:]] if isinstance(value, str) and value.startswith("$") else value
            for key, value in request.items()
        }
        getattr(deployed.client(service), operation)(**filled)

    return change


def variable(name: str, value: str | None) -> Callable[[Deployed], None]:
    """Return a change of a variable of the function, in the version that the alias points to."""

    def change(deployed: Deployed) -> None:
        lambda_, name_ = deployed.client("lambda"), deployed.outputs["FunctionName"]
        variables = {**deployed.stack.function.environment, **({name: value} if value is not None else {})}
        lambda_.update_function_configuration(FunctionName=name_, Environment={"Variables": variables})
        often = {"Delay": 1, "MaxAttempts": 60}
        lambda_.get_waiter("function_updated_v2").wait(FunctionName=name_, WaiterConfig=often)
        version = lambda_.publish_version(FunctionName=name_)["Version"]
        lambda_.get_waiter("published_version_active").wait(FunctionName=name_, Qualifier=version, WaiterConfig=often)
        lambda_.update_alias(FunctionName=name_, Name="live", FunctionVersion=version)

    return change


def rule(operation: str) -> Callable[[Deployed], None]:

    def change(deployed: Deployed) -> None:
        events, name = deployed.client("events"), f"thrive-{deployed.source.rpartition('-')[2]}-default"
        if operation == "delete":
            events.remove_targets(Rule=name, Ids=["completions"])
            events.delete_rule(Name=name)
        elif operation == "disable":
            events.disable_rule(Name=name)
        elif operation == "pattern":
            events.put_rule(Name=name, EventPattern='{"source": ["another"]}')
        else:
            [target] = events.list_targets_by_rule(Rule=name)["Targets"]
            if operation == "no dead letters":
                target.pop("DeadLetterConfig")
            events.put_targets(
                Rule=name, Targets=[target | ({"InputPath": "$.detail"} if operation == "input" else {})]
            )

    return change


def other_consumer(deployed: Deployed) -> None:
    lambda_ = deployed.client("lambda")
    mapping = {"EventSourceArn": deployed.outputs["SourceQueueArn"], "FunctionName": deployed.outputs["FunctionName"]}
    lambda_.create_event_source_mapping(**mapping, Enabled=False)


def unsubscribe(deployed: Deployed) -> None:
    sns = deployed.client("sns")
    for item in sns.list_subscriptions_by_topic(TopicArn=deployed.outputs["AlarmTopicArn"])["Subscriptions"]:
        sns.unsubscribe(SubscriptionArn=item["SubscriptionArn"])


def key_policy(deployed: Deployed) -> None:
    """Leave only the account in the key's policy."""
    statement = {"Effect": "Allow", "Principal": {"AWS": "arn:aws:iam::000000000000:root"}, "Action": "kms:*"}
    policy = json.dumps({"Version": "2012-10-17", "Statement": [statement | {"Resource": "*"}]})
    deployed.client("kms").put_key_policy(
        KeyId=deployed.outputs["EncryptionKeyArn"], PolicyName="default", Policy=policy
    )


def no_alarm_action(deployed: Deployed) -> None:
    """Replace an alarm with the same one without actions."""
    cloudwatch = deployed.client("cloudwatch")
    [alarm] = cloudwatch.describe_alarms(AlarmNames=[f"{deployed.name}-in-flight"])["MetricAlarms"]
    kept = ("AlarmName", "Namespace", "MetricName", "Statistic", "Period", "EvaluationPeriods", "Threshold")
    request = {name: alarm[name] for name in (*kept, "ComparisonOperator", "Dimensions")}
    cloudwatch.put_metric_alarm(**request)


def two_versions(deployed: Deployed) -> None:
    """Let the alias send a tenth of the invocations to another version."""
    variable("POWERTOOLS_SERVICE_NAME", "another")(deployed)
    routing = {"AdditionalVersionWeights": {"1": 0.1}}
    deployed.client("lambda").update_alias(
        FunctionName=deployed.outputs["FunctionName"], Name="live", RoutingConfig=routing
    )


def few_receives(deployed: Deployed) -> None:
    policy = {"deadLetterTargetArn": deployed.outputs["DeadLetterQueueArn"], "maxReceiveCount": 10}
    attribute("Source", RedrivePolicy=json.dumps(policy))(deployed)


def aws_key(deployed: Deployed) -> None:
    """Encrypt all queues with the key that AWS manages for SQS."""
    for queue in ("Source", "DeadLetter", "Undelivered"):
        attribute(queue, KmsMasterKeyId="alias/aws/sqs")(deployed)


EVERYONE = {"Principal": "*", "Action": "sqs:*", "Resource": "*"}
TLS_ONLY = {"Effect": "Deny", **EVERYONE, "Condition": {"Bool": {"aws:SecureTransport": "false"}}}
OPEN = json.dumps({"Statement": [{"Effect": "Allow", **EVERYONE}, TLS_ONLY]})
DENIED = json.dumps({"Statement": [{"Effect": "Deny", **EVERYONE}]})

# Each change by hand, the check that finds it, and the parameters that the stack needs for it.
BREAKAGES: dict[str, tuple[Any, ...]] = {
    "event source disabled": (lambda deployed: enable(deployed, Enabled=False), "event-source"),
    "failures not reported": (lambda deployed: enable(deployed, FunctionResponseTypes=[]), "event-source-settings"),
    "no maximum concurrency": (lambda deployed: enable(deployed, ScalingConfig={}), "event-source-settings"),
    "messages filtered": (
        lambda deployed: enable(deployed, FilterCriteria={"Filters": [{"Pattern": "{}"}]}),
        "event-source-settings",
    ),
    "two versions in use": (two_versions, "function"),
    "another consumer": (other_consumer, "queue-consumers"),
    "visibility too short": (attribute("Source", VisibilityTimeout="30"), "visibility-timeout"),
    "no redrive policy": (attribute("Source", RedrivePolicy=""), "redrive-policy"),
    "too few receives": (few_receives, "redrive-policy"),
    "queue not admitted": (
        attribute("DeadLetter", RedriveAllowPolicy='{"redrivePermission": "denyAll"}'),
        "redrive-policy",
    ),
    "dead letters kept too short": (attribute("DeadLetter", MessageRetentionPeriod="86400"), "retention"),
    "messages kept too short": (attribute("Source", MessageRetentionPeriod="86400"), "retention"),
    "queue open to all": (attribute("Source", Policy=OPEN), "source-queue-policy"),
    "dead-letter policy gone": (attribute("DeadLetter", Policy=""), "dead-letter-queue-policy"),
    "rule not admitted": (attribute("Source", Policy=DENIED), "event-rule-admitted"),
    "undelivered not admitted": (attribute("Undelivered", Policy=""), "event-rule-admitted"),
    "rule disabled": (rule("disable"), "event-rule"),
    "rule deleted": (rule("delete"), "event-rule"),
    "rule without dead letters": (rule("no dead letters"), "event-rule"),
    "rule changes the event": (rule("input"), "event-rule"),
    "rule with another pattern": (rule("pattern"), "event-rule"),
    "AWS's own SQS key": (aws_key, "encryption-key"),
    "queues with different keys": (attribute("Source", KmsMasterKeyId="alias/x"), "encryption-key"),
    "key policy": (key_policy, "encryption-key", {"KmsKeyArn": "create"}),
    "key disabled": (
        call("kms", "disable_key", KeyId="$EncryptionKeyArn"),
        "encryption-key",
        {"KmsKeyArn": "create"},
    ),
    "reserved concurrency": (
        call("lambda", "put_function_concurrency", FunctionName="$FunctionName", ReservedConcurrentExecutions=1),
        "concurrency",
    ),
    "bad setting": (variable("MAX_CONCURRENCY", "many"), "settings"),
    "another dead-letter queue": (variable("DEAD_LETTER_QUEUE_URL", "https://sqs/1/x"), "settings"),
    "another secret": (variable("THRIVE_SECRET_ID", "another"), "settings"),
    "another backoff": (variable("BACKOFF_CAP_SECONDS", "30"), "settings"),
    "no audit trail": (variable("POWERTOOLS_LOG_LEVEL", "WARNING"), "log-group"),
    "log group deleted": (call("logs", "delete_log_group", logGroupName="$LogGroupName"), "log-group"),
    "secret going to be deleted": (call("secretsmanager", "delete_secret", SecretId="$ThriveSecretArn"), "secret"),
    "nobody listens": (unsubscribe, "alarm-topic"),
    "topic policy": (
        call("sns", "set_topic_attributes", TopicArn="$AlarmTopicArn", AttributeName="Policy", AttributeValue=DENIED),
        "alarm-topic-policy",
    ),
    "alarm deleted": (
        lambda deployed: deployed.client("cloudwatch").delete_alarms(AlarmNames=[f"{deployed.name}-dead-letters"]),
        "alarms",
    ),
    "alarms switched off": (
        lambda deployed: deployed.client("cloudwatch").disable_alarm_actions(AlarmNames=[f"{deployed.name}-in-flight"]),
        "alarms",
    ),
    "alarm without an action": (no_alarm_action, "alarms"),
    "an alarm": (
        lambda deployed: deployed.client("cloudwatch").set_alarm_state(
            AlarmName=f"{deployed.name}-in-flight", StateValue="ALARM", StateReason="test"
        ),
        "alarm-states",
    ),
    "a dead letter": (
        lambda deployed: deployed.client("sqs").send_message(QueueUrl=deployed.dead, MessageBody="x"),
        "dead-letters",
    ),
    "no on-failure destination": (
        call("lambda", "delete_function_event_invoke_config", FunctionName="$FunctionName", Qualifier="live"),
        "direct-delivery",
        {"EventDelivery": "direct"},
    ),
}
WARNINGS = {"alarm-topic", "alarm-states", "dead-letters"}


@pytest.mark.parametrize(
    "parameters",
    [
        {},
        {"QueueType": "fifo", "UserWaitHours": "0"},
        {"EventDelivery": "direct"},
        {"EventDelivery": "none"},
        {"KmsKeyArn": "create"},
    ],
    ids=str,
)
def test_an_unchanged_stack_has_no_problems(deploy: Callable[..., Deployed], parameters: dict[str, str]) -> None:
    enable(deploy(**SUBSCRIBED, **parameters))

    outcome = check()

    assert found(outcome) == {}
    assert outcome.status == 0
    assert len(outcome.document["checks"]) > 20


@pytest.mark.parametrize("breakage", BREAKAGES)
def test_what_was_changed_by_hand_is_found(deploy: Callable[..., Deployed], breakage: str) -> None:
    change, name, *parameters = BREAKAGES[breakage]
    deployed = deploy(**SUBSCRIBED, **dict(*parameters))
    enable(deployed)

    change(deployed)
    wrong = found(check())

    assert wrong.get(name, {}).get("status") == ("warning" if name in WARNINGS else "failed"), wrong


def test_a_topic_that_is_not_admitted_or_not_subscribed_is_found(deploy: Callable[..., Deployed]) -> None:
    sns_topic = deploy().client("sns").create_topic(Name="completions")["TopicArn"]
    deployed = deploy(**SUBSCRIBED, SnsTopicArn=sns_topic)
    enable(deployed)
    assert found(check()) == {}

    sns = deployed.client("sns")
    [subscription] = sns.list_subscriptions_by_topic(TopicArn=sns_topic)["Subscriptions"]
    for name, value, detail in (
        ("RawMessageDelivery", "true", "raw delivery"),
        ("FilterPolicy", '{"a": ["b"]}', "filter policy"),
        ("RedrivePolicy", "{}", "has no dead-letter queue"),
    ):
        sns.set_subscription_attributes(
            SubscriptionArn=subscription["SubscriptionArn"], AttributeName=name, AttributeValue=value
        )
        assert detail in found(check())["topic-subscription"]["detail"]
    attribute("Source", Policy=DENIED)(deployed)
    assert "the source queue does not allow the topic" in found(check())["topic-subscription"]["detail"]
    sns.unsubscribe(SubscriptionArn=subscription["SubscriptionArn"])
    assert "not subscribed" in found(check())["topic-subscription"]["detail"]


def test_the_configuration_in_s3_is_checked(deploy: Callable[..., Deployed]) -> None:
    deployed = deploy(**SUBSCRIBED)
    enable(deployed)
    variable("CONFIG_URI", "s3://config/p/")(deployed)
    deployed.emulator.put("/config")
    assert "neither" in found(check())["config"]["detail"]

    deployed.emulator.put("/config/p/mapping.json", b"{")
    assert "mapping.json: line 1" in found(check())["config"]["detail"]
    deployed.emulator.put("/config/p/mapping.json", b'{"version": 1, "sources": []}')
    deployed.emulator.put("/config/p/content.csv", b"code,contentId\na,b\n")
    assert found(check()) == {}


@pytest.mark.parametrize(
    ("function", "detail"),
    [
        (Function({"errorType": "SettingError", "errorMessage": "secret"}, error="Unhandled"), "SettingError"),
        (Function({"errorType": "UnsupportedEventError"}, error="Unhandled"), "UnsupportedEvent"),
        (Function({"batchItemFailures": []}), "no checks"),
        (Function(raises=ReadTimeoutError(endpoint_url="x")), "ReadTimeoutError"),
    ],
)
def test_a_failed_invocation_is_one_failed_check(
    deploy: Callable[..., Deployed], function: Function, detail: str
) -> None:
    enable(deploy(**SUBSCRIBED))

    wrong = found(check(function))

    assert list(wrong) == ["function-check"]
    assert detail in wrong["function-check"]["detail"]


def test_the_functions_view_is_passed_on_and_write_needs_yes(deploy: Callable[..., Deployed]) -> None:
    enable(deploy(**SUBSCRIBED))
    one = {"name": "function-token", "status": "failed", "detail": "refused", "remedy": "correct it"}
    function = Function({"checks": [one]})

    assert found(check(function, "--write")) == {"function-token": one}
    check(function, "--write", "--yes", "--webhooks")

    assert function.events == [
        {"completionSync": "check"},
        {"completionSync": "check", "webhooks": True, "write": True},
    ]


def test_what_the_operator_may_not_look_at_is_skipped(deploy: Callable[..., Deployed]) -> None:
    deployed = deploy(**SUBSCRIBED)
    enable(deployed)
    logs = Aws(None, None).client("logs")
    denied = ClientError({"Error": {"Code": "AccessDeniedException"}}, "DescribeLogGroups")

    def deny(**_request: Any) -> None:
        raise denied

    logs.describe_log_groups = deny
    outcome = check(aws={"logs": logs})

    [skipped] = [one for one in outcome.document["checks"] if one["name"] == "log-group"]
    assert (outcome.status, skipped["status"]) == (0, "skipped")
    assert "DescribeLogGroups" in skipped["detail"]
    assert "operator-policy" in skipped["remedy"]


def test_check_reads_and_prints_no_secret(deploy: Callable[..., Deployed], thrive: Any) -> None:
    deployed = deploy(**SUBSCRIBED)
    deployed.emulator.sqs.send_message(QueueUrl=deployed.dead, MessageBody=json.dumps(completion(4711)))

    for outcome in (check(), invoke("check", "--json")):
        assert thrive.client_secret not in outcome.out + outcome.err
        assert "user-4711" not in outcome.out + outcome.err


@pytest.mark.parametrize(
    ("context", "expected"),
    [({"aws:sourcearn": "arn:r/a"}, True), ({"aws:sourcearn": "arn:r/b/c"}, False), ({}, False)],
)
def test_policies_are_read_with_their_conditions(context: dict[str, str], *, expected: bool) -> None:
    statement = {
        "Effect": "Allow",
        "Principal": {"Service": ["events.amazonaws.com"]},
        "Action": "sqs:Send*",
        "Condition": {"ArnLike": {"aws:SourceArn": ["arn:r/a*", "arn:other"]}},
    }
    policy = Policy(json.dumps({"Statement": statement}))

    assert policy.admits("events.amazonaws.com", "sqs:SendMessage", context) is expected
    assert not policy.admits("sns.amazonaws.com", "sqs:SendMessage", context)
    assert not policy.admits("events.amazonaws.com", "sqs:DeleteMessage", context)


@pytest.mark.parametrize(
    "statements",
    [
        [{"Effect": "Allow", "Condition": {"StringNotEquals": {"aws:SourceArn": "arn:r/a"}}}],
        [{"Effect": "Allow"}, {"Effect": "Deny", "Condition": {"ArnLike": {"aws:SourceArn": "arn:r/*"}}}],
    ],
    ids=["an unknown operator", "denied"],
)
def test_an_unknown_condition_or_a_denial_does_not_admit(statements: list[dict[str, Any]]) -> None:
    whole = [{"Principal": "*", "Action": "sqs:*", **statement} for statement in statements]
    policy = Policy(json.dumps({"Statement": whole}))

    assert not policy.admits("events.amazonaws.com", "sqs:SendMessage", {"aws:sourcearn": "arn:r/a"})


@pytest.mark.parametrize(
    ("statement", "expected"),
    [
        ({"Principal": {"AWS": ["*"]}}, True),
        ({"Principal": "*", "Condition": {"ArnEquals": {"aws:SourceArn": "arn:r/a"}}}, False),
        ({"Principal": {"AWS": "arn:aws:iam::123456789012:root"}}, False),
    ],
)
def test_a_policy_is_open_if_it_allows_everyone_without_a_condition(
    statement: dict[str, Any], *, expected: bool
) -> None:
    policy = Policy(json.dumps({"Statement": {"Effect": "Allow", "Action": "sqs:*", **statement}}))

    assert policy.is_open("sqs:SendMessage") is expected


def test_an_expired_session_ends_the_check(deploy: Callable[..., Deployed]) -> None:
    deploy()
    sqs = Aws(None, None).client("sqs")

    def expire(**_request: Any) -> None:
        raise client_error("ExpiredToken", 400)

    sqs.get_queue_attributes = expire
    outcome = check(aws={"sqs": sqs})

    assert outcome.status == 2
    assert "session has expired" in outcome.err
