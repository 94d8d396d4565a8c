"""The command in this process, with AWS in memory, or on the emulator; and as a process of its own."""

from __future__ import annotations

import contextlib
import io
import itertools
import json
import os
import subprocess
import sys
from dataclasses import dataclass, field
from functools import cache, cached_property
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import boto3
import pytest
from jsonschema import Draft202012Validator

from completion_sync.settings import Settings
from completion_sync_cli.context import Operator
from completion_sync_cli.main import run
from completion_sync_cli.stack import Stack
from sandbox.pipeline import stack as sandbox_stack
from sandbox.pipeline.emulator import PROGRAM, REGION
from sandbox.pipeline.rig import LOGICAL_ID, TEMPLATE, secret_of
from tests.support.fakes import FakeClock, FakeSecretsManager
from tests.support.simulated_sqs import SimulatedSqs

if TYPE_CHECKING:
    from collections.abc import Callable, Container

    from sandbox.pipeline.emulator import Emulator
    from sandbox.thrive_api import StandIn
    from tests.support.simulated_sqs import SimulatedQueue

ROOT = Path(__file__).parents[2]
ARN = "arn:aws:sqs:eu-west-2:123456789012:"
SCHEMAS = json.loads((ROOT / "docs" / "command.schema.json").read_text())
_numbers = itertools.count(1)


@dataclass(frozen=True)
class Outcome:
    """The result of a run: exit status, standard output and standard error."""

    status: int
    out: str
    err: str
    command: str = ""

    @property
    def document(self) -> Any:
        """Standard output, which must be one JSON document that is valid by the command's schema."""
        document = json.loads(self.out)
        schema = {**SCHEMAS, "$ref": f"#/$defs/{self.command}"}
        Draft202012Validator(schema, format_checker=Draft202012Validator.FORMAT_CHECKER).validate(document)
        return document


def invoke(*arguments: object, operator: Operator | None = None) -> Outcome:
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        status = run([str(argument) for argument in arguments], operator)
    return Outcome(status, out.getvalue(), err.getvalue(), _command(arguments))


def _command(arguments: tuple[object, ...]) -> str:
    names = " ".join(map(str, arguments[:2]))
    return names if names in SCHEMAS["$defs"] else names.partition(" ")[0]


def start(*arguments: object, env: dict[str, str], **options: Any) -> subprocess.Popen[str]:
    """Start the command as a process with an environment of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "completion_sync_cli", *map(str, arguments)],
        env={"PATH": os.defpath, "PYTHONPATH": f"{ROOT / 'src'}:{ROOT / 'cli'}", "HOME": "/nonexistent", **env},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **options,
    )


def process(*arguments: object, env: dict[str, str], text: str = "") -> Outcome:
    child = start(*arguments, env=env, stdin=subprocess.PIPE)
    out, err = child.communicate(text, timeout=120)
    return Outcome(child.returncode, out, err, _command(arguments))


@dataclass
class World:
    """A stack in memory: its queues on a virtual clock, and an operator who works on it."""

    clock: FakeClock
    sqs: SimulatedSqs
    source: SimulatedQueue
    dead: SimulatedQueue
    undelivered: SimulatedQueue
    operator: Operator = field(default_factory=Operator)
    # The successive ages of the oldest message by CloudWatch; the last one stays.
    ages: list[float] = field(default_factory=lambda: [0.0])
    # The stand-in Thrive (for tests that need one), and the client of CloudWatch Logs.
    thrive: Any = None
    logs: Any = None

    def run(self, *arguments: object) -> Outcome:
        """Run a command; each run is a new one."""
        stop, self.operator = self.operator.stop, self._operator()
        stop.requested = False
        self.operator.stop = stop
        return invoke(*arguments, operator=self.operator)

    def letter(self, body: object = None, *, group: str | None = None, **attributes: str) -> Any:
        """Put a letter into the dead-letter queue."""
        text = body if isinstance(body, str) else json.dumps(body or completion(next(_numbers)))
        return self.sqs.put(self.dead, text, group=group, **attributes)

    def letters(self, count: int, **more: Any) -> list[Any]:
        return [self.letter(**more) for _ in range(count)]

    def interrupt(self) -> None:
        """Do what the first Ctrl-C does."""
        self.operator.stop.requested = True

    def get_metric_statistics(self, **_query: Any) -> dict[str, Any]:
        """Answer as CloudWatch does."""
        age = self.ages.pop(0) if len(self.ages) > 1 else self.ages[0]
        return {"Datapoints": [{"Timestamp": 1, "Maximum": 0.0}, {"Timestamp": 2, "Maximum": age}]}

    def _operator(self) -> Operator:
        operator = Operator(stack="stack")
        operator.clock = self.clock
        secrets = FakeSecretsManager(json.dumps(secret_of(self.thrive)) if self.thrive else None)
        operator.aws = SimpleNamespace(
            region="", sqs=self.sqs, secrets=secrets, logs=self.logs, client=lambda _service: self
        )
        url = {"THRIVE_BASE_URL": self.thrive.url} if self.thrive else {}
        operator.settings = Settings.from_env({"THRIVE_SECRET_ID": "thrive", **url})
        queues = {"SourceQueue": self.source, "DeadLetterQueue": self.dead, "UndeliveredQueue": self.undelivered}
        outputs = {f"{name}Url": queue.url for name, queue in queues.items()}
        outputs["LogGroupName"] = "/aws/lambda/stack"
        outputs |= {f"{name}Arn": ARN + queue.url.rpartition("/")[2] for name, queue in queues.items()}
        operator.found = Stack("stack", "CREATE_COMPLETE", {}, outputs, {})
        return operator


def make_world(*, fifo: bool = False) -> World:
    clock, suffix = FakeClock(), ".fifo" if fifo else ""
    sqs = SimulatedSqs(clock)
    names = (f"stack-completions-1{suffix}", f"stack-dead-letters-1{suffix}", "stack-undelivered-1")
    return World(clock, sqs, *map(sqs.create, names))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip the tests on a deployed stack if the AWS emulator is not installed."""
    missing = pytest.mark.skip(reason="the AWS emulator is not installed (make setup)")
    for item in items:
        is_ours = Path(__file__).parent in item.path.parents
        if is_ours and "emulator" in getattr(item, "fixturenames", ()) and not PROGRAM.exists():
            item.add_marker(missing)


@pytest.fixture
def world() -> World:
    return make_world()


def on(operation: str, act: BaseException | Callable[[], Any], calls: Container[int] = range(10**6)) -> Any:
    """Return a hook for the simulated SQS that acts on an operation, or raises; ``calls`` counts its calls from 0."""
    numbers = itertools.count()

    def hook(called: str, _request: dict[str, Any]) -> None:
        if called == operation and next(numbers) in calls:
            if isinstance(act, BaseException):
                raise act
            act()

    return hook


def completion(number: int, **changes: object) -> dict[str, Any]:
    return {"userId": f"user-{number}", "contentId": "content", "completedAt": "2024-05-01T09:00:00Z", **changes}


@dataclass(frozen=True)
class Deployed:
    """A stack of the project's template on the emulator."""

    emulator: Emulator
    stack: sandbox_stack.Stack
    name: str

    @property
    def env(self) -> dict[str, str]:
        """The variables that let boto3 find the emulator, and the command the stack."""
        return {
            "AWS_ENDPOINT_URL": self.emulator.url,
            "AWS_ACCESS_KEY_ID": "local",
            "AWS_SECRET_ACCESS_KEY": "local",
            "AWS_DEFAULT_REGION": REGION,
            "COMPLETION_SYNC_STACK": self.name,
        }

    @cached_property
    def outputs(self) -> dict[str, str]:
        [found] = self.emulator.cloudformation.describe_stacks(StackName=self.name)["Stacks"]
        return {item["OutputKey"]: item["OutputValue"] for item in found["Outputs"]}

    @property
    def source(self) -> str:
        return self.outputs["SourceQueueUrl"]

    @property
    def dead(self) -> str:
        return self.outputs["DeadLetterQueueUrl"]

    def client(self, service: str) -> Any:
        return _client(service, self.emulator.url)

    def bodies(self, url: str) -> list[str]:
        """Read and delete all messages of a queue; return their bodies."""
        found = []
        sqs = self.emulator.sqs
        while messages := sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10, WaitTimeSeconds=0).get("Messages"):
            for message in messages:
                found.append(message["Body"])
                sqs.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])
        return found


@cache
def _client(service: str, url: str) -> Any:
    return boto3.client(
        service,
        endpoint_url=url,
        region_name=REGION,
        aws_access_key_id="local",
        aws_secret_access_key="local",
    )


@pytest.fixture
def deploy(emulator: Emulator, thrive: StandIn, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Deployed]:
    """Return a function that deploys the template, and points boto3 in this process to the emulator."""

    def make(**parameters: str) -> Deployed:
        name = f"cli-{next(_numbers)}"
        stack = sandbox_stack.deploy(emulator, TEMPLATE, LOGICAL_ID, name, {"ThriveBaseUrl": thrive.url, **parameters})
        sandbox_stack.set_secret(emulator, stack, secret_of(thrive))
        deployed = Deployed(emulator, stack, name)
        for variable, value in deployed.env.items():
            monkeypatch.setenv(variable, value)
        return deployed

    return make
