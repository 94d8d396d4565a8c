"""The template, created through CloudFormation on an emulator of AWS, and what then stands there read back."""

import fnmatch
import io
import json
import time
import zipfile

import pytest
from botocore.exceptions import ClientError

from sandbox.pipeline.emulator import PROGRAM, REGION, running_emulator
from tests.support import sam_template
from tests.support.sam_template import PARAMETER_SETS

pytestmark = [
    pytest.mark.emulator,
    pytest.mark.skipif(not PROGRAM.exists(), reason="the AWS emulator is not installed (make setup)"),
]

CREATION_SECONDS = 60.0


class Account:
    """An account with the stacks that these tests made."""

    def __init__(self, emulator):
        """Package the template as `sam package` does: the code goes to a bucket."""
        self.emulator = emulator
        archive = io.BytesIO()
        with zipfile.ZipFile(archive, "w") as content:
            content.writestr("completion_sync/handler.py", "")
        emulator.put("/deployment")
        emulator.put("/deployment/code.zip", archive.getvalue())
        text = sam_template.TEMPLATE.read_text(encoding="utf-8")
        assert "CodeUri: src/\n" in text
        packaged = text.replace("CodeUri: src/\n", "CodeUri: s3://deployment/code.zip\n")
        self._url = emulator.put("/deployment/template.yaml", packaged.encode())
        self._made = {}

    def create(self, name, values):
        """Create a stack and wait; its mapping is switched off, because the emulator would run the empty code."""
        self.emulator.cloudformation.create_stack(
            StackName=name,
            TemplateURL=self._url,
            Parameters=[{"ParameterKey": key, "ParameterValue": value} for key, value in values.items()],
            Capabilities=["CAPABILITY_IAM", "CAPABILITY_AUTO_EXPAND"],
        )
        deadline = time.monotonic() + CREATION_SECONDS
        while (status := self._describe(name)["StackStatus"]).endswith("IN_PROGRESS"):
            assert time.monotonic() < deadline, f"{name} is still {status}"
            time.sleep(0.05)
        assert status == "CREATE_COMPLETE", self._reasons(name)

    def ids(self, name):
        """Return the physical ids of a parameter set's stack by logical id, creating it on first use."""
        if name not in self._made:
            stack = f"it-{name}"
            self.create(stack, PARAMETER_SETS[name])
            listed = self.emulator.cloudformation.describe_stack_resources(StackName=stack)["StackResources"]
            self._made[name] = {one["LogicalResourceId"]: one["PhysicalResourceId"] for one in listed}
            mapping = self.mapping(name)
            self.emulator.functions.update_event_source_mapping(UUID=mapping["UUID"], Enabled=False)
        return self._made[name]

    def outputs(self, name):
        self.ids(name)
        return {one["OutputKey"]: one["OutputValue"] for one in self._describe(f"it-{name}")["Outputs"]}

    def mapping(self, name):
        function = self._made[name]["CompletionFunction"]
        mappings = self.emulator.functions.list_event_source_mappings()["EventSourceMappings"]
        (mapping,) = [one for one in mappings if function in one["FunctionArn"].split(":")]
        return mapping

    def rule(self, name):
        rule = self.ids(name)["CompletionRule"]  # in AWS "bus|rule" on another bus than the default
        return self.emulator.events.describe_rule(Name=rule, EventBusName=self.outputs(name)["EventBus"])

    def attributes(self, queue_url):
        answer = self.emulator.sqs.get_queue_attributes(QueueUrl=queue_url, AttributeNames=["All"])
        return {str(key): value for key, value in answer["Attributes"].items()}

    def _describe(self, stack):
        return self.emulator.cloudformation.describe_stacks(StackName=stack)["Stacks"][0]

    def _reasons(self, stack):
        events = self.emulator.cloudformation.describe_stack_events(StackName=stack)["StackEvents"]
        return [
            f"{event['LogicalResourceId']}: {event.get('ResourceStatusReason')}"
            for event in events
            if event["ResourceStatus"].endswith("FAILED")
        ]


@pytest.fixture(scope="module")
def account(tmp_path_factory):
    """Run one emulator for all these tests, with the bus and the topic that two parameter sets name."""
    folder = tmp_path_factory.mktemp("emulator")
    with running_emulator(folder) as emulator:
        emulator.events.create_event_bus(Name=PARAMETER_SETS["everything"]["EventBusName"])
        yield Account(emulator)


@pytest.fixture(params=PARAMETER_SETS)
def name(request):
    """Each parameter set in turn."""
    return str(request.param)


def test_the_queues_are_made_as_written(account, name):
    ids = account.ids(name)
    source, dead = account.attributes(ids["SourceQueue"]), account.attributes(ids["DeadLetterQueue"])
    assert source["VisibilityTimeout"] == "420"
    assert json.loads(source["RedrivePolicy"]) == {"deadLetterTargetArn": dead["QueueArn"], "maxReceiveCount": 400}
    assert int(source["MessageRetentionPeriod"]) < int(dead["MessageRetentionPeriod"]) == 14 * 86_400
    assert json.loads(dead["RedriveAllowPolicy"])["sourceQueueArns"] == [source["QueueArn"]]
    assert (source.get("FifoQueue") == "true") == (PARAMETER_SETS[name].get("QueueType") == "fifo")
    if "KmsKeyArn" in PARAMETER_SETS[name]:
        assert ":key/" in source["KmsMasterKeyId"]


def test_the_mapping_is_made_as_written(account, name):
    ids = account.ids(name)
    mapping = account.mapping(name)
    assert mapping["EventSourceArn"] == account.attributes(ids["SourceQueue"])["QueueArn"]
    assert mapping["FunctionArn"].endswith(":live")
    assert mapping["FunctionResponseTypes"] == ["ReportBatchItemFailures"]
    assert int(mapping["ScalingConfig"]["MaximumConcurrency"]) == 5
    is_fifo = PARAMETER_SETS[name].get("QueueType") == "fifo"
    assert mapping["BatchSize"] == (1 if is_fifo else int(PARAMETER_SETS[name].get("BatchSize", "10")))


def test_the_function_knows_its_queues_and_its_secret(account, name):
    ids = account.ids(name)
    configuration = account.emulator.functions.get_function_configuration(FunctionName=ids["CompletionFunction"])
    environment = configuration["Environment"]["Variables"]
    assert (configuration["Runtime"], configuration["Timeout"]) == ("python3.13", 60)
    assert environment["DEAD_LETTER_QUEUE_URL"] == ids["DeadLetterQueue"]
    direct = PARAMETER_SETS[name].get("EventDelivery") == "direct"
    assert environment.get("RETRY_QUEUE_URL") == (ids["SourceQueue"] if direct else None)
    assert environment["POWERTOOLS_SERVICE_NAME"] == f"it-{name}"
    given = PARAMETER_SETS[name].get("ThriveSecretArn")
    assert environment["THRIVE_SECRET_ID"] == (given or account.outputs(name)["ThriveSecretArn"])


def test_the_created_secret_has_no_value_until_someone_puts_one(account):
    """AWS makes no version without SecretString; the emulator makes one that is empty."""
    secret = account.outputs("defaults")["ThriveSecretArn"]
    assert account.emulator.secrets.get_secret_value(SecretId=secret)["SecretString"] == ""
    account.emulator.secrets.put_secret_value(SecretId=secret, SecretString="{}")
    assert account.emulator.secrets.get_secret_value(SecretId=secret)["SecretString"] == "{}"


@pytest.mark.parametrize("queued", ["defaults", "fifo", "customer-key", "existing-secret"])
def test_an_event_on_the_bus_arrives_in_the_queue(account, queued):
    queue = account.ids(queued)["SourceQueue"]
    account.emulator.sqs.purge_queue(QueueUrl=queue)
    entry = {"Source": "learning.completions", "EventBusName": account.outputs(queued)["EventBus"]}
    account.emulator.events.put_events(
        Entries=[
            {**entry, "DetailType": "SomethingElse", "Detail": "{}"},
            {**entry, "DetailType": "LearningCompleted", "Detail": '{"userId": "u"}'},
        ]
    )
    received = account.emulator.sqs.receive_message(QueueUrl=queue, MaxNumberOfMessages=10, WaitTimeSeconds=5)
    bodies = [json.loads(message["Body"]) for message in received["Messages"]]
    assert [(body["detail-type"], body["detail"]) for body in bodies] == [("LearningCompleted", {"userId": "u"})]


@pytest.mark.parametrize("direct", ["direct", "everything"])
def test_the_direct_rule_leads_to_the_function(account, direct):
    rule = account.rule(direct)
    targets = account.emulator.events.list_targets_by_rule(Rule=rule["Name"], EventBusName=rule["EventBusName"])
    (target,) = targets["Targets"]
    assert target["Arn"] == account.outputs(direct)["FunctionAliasArn"]
    undelivered = account.attributes(account.ids(direct)["UndeliveredQueue"])["QueueArn"]
    assert target["DeadLetterConfig"]["Arn"] == undelivered


@pytest.mark.parametrize(
    "name", [name for name, values in PARAMETER_SETS.items() if values.get("EventDelivery") != "none"]
)
def test_the_policies_name_the_rule_that_was_made(account, name):
    """They spell its ARN out before there is a rule; the emulator does not enforce them."""
    arn = account.rule(name)["Arn"]
    for queue in ("SourceQueue", "UndeliveredQueue"):
        policy = json.loads(account.attributes(account.ids(name)[queue])["Policy"])
        (statement,) = [statement for statement in policy["Statement"] if statement["Sid"] == "OurRuleOnly"]
        patterns = statement["Condition"]["ArnLike"]["aws:SourceArn"]
        assert any(fnmatch.fnmatchcase(arn, pattern) for pattern in patterns)
    if PARAMETER_SETS[name].get("EventDelivery") == "direct":
        function, alias = account.outputs(name)["FunctionAliasArn"].split(":")[-2:]
        policy = json.loads(account.emulator.functions.get_policy(FunctionName=function, Qualifier=alias)["Policy"])
        (statement,) = policy["Statement"]
        assert statement["Condition"]["ArnLike"]["AWS:SourceArn"] == arn


def test_the_outputs_are_what_a_person_needs(account, name):
    outputs = account.outputs(name)
    expected = {"SourceQueueUrl", "SourceQueueArn", "DeadLetterQueueUrl", "DeadLetterQueueArn", "UndeliveredQueueUrl"}
    expected |= {"ThriveSecretArn", "FunctionName", "FunctionAliasArn", "LogGroupName", "DashboardUrl"}
    assert expected <= set(outputs)
    assert ("EventBus" in outputs) == (PARAMETER_SETS[name].get("EventDelivery") != "none")
    assert ("PutSecretCommand" in outputs) == ("ThriveSecretArn" not in PARAMETER_SETS[name])
    assert REGION in outputs["DashboardUrl"]


def test_a_rule_refuses_what_cannot_work_before_anything_is_made(account):
    with pytest.raises(ClientError, match="QueueType=standard"):
        account.create("it-refused", {"QueueType": "fifo", "EventDelivery": "direct"})
    with pytest.raises(ClientError, match="must be empty or the full ARN of a secret"):
        account.create("it-refused", {"ThriveSecretArn": "thrive"})


def test_what_holds_data_survives_the_stack(account):
    """After the stack is gone its queues and secret are there, and a new stack of the same name does not collide."""
    account.create("it-survivor", {})
    resources = account.emulator.cloudformation.describe_stack_resources(StackName="it-survivor")["StackResources"]
    ids = {one["LogicalResourceId"]: one["PhysicalResourceId"] for one in resources}
    account.emulator.sqs.send_message(QueueUrl=ids["DeadLetterQueue"], MessageBody="{}")
    account.emulator.cloudformation.delete_stack(StackName="it-survivor")
    assert account.attributes(ids["DeadLetterQueue"])["ApproximateNumberOfMessages"] == "1"
    assert account.emulator.secrets.describe_secret(SecretId=ids["ThriveSecret"])["Name"]
    account.create("it-survivor", {})
