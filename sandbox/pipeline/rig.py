"""The whole pipeline put together: queue, poller, runtime and stand-in API, ready to receive messages."""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from sandbox.pipeline import artefact, mail
from sandbox.pipeline.emf import json_lines
from sandbox.pipeline.emulator import ROOT
from sandbox.pipeline.poller import Poller
from sandbox.pipeline.runtime import Environment, RuntimeSpec, runtime_emulator, spec_for
from sandbox.pipeline.stack import Stack, deploy, set_secret

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path

    from sandbox.pipeline.artefact import Artefact
    from sandbox.pipeline.emulator import Emulator
    from sandbox.thrive_api import StandIn

TEMPLATE = ROOT / "template.yaml"
LOGICAL_ID = "CompletionFunction"


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How a pipeline differs from the template.

    `environments` is the number of execution environments; `parameters` are the template's; `overrides` replaces the
    function's variables after the deployment; `config` holds the files that are in S3 at the parameter ConfigUri, by
    name (empty: the parameter is not set); `visibility` (seconds) replaces the queue's visibility timeout, so that
    messages of a killed environment come back soon; `plain` skips Lambda's runtime even if it is available.
    """

    environments: int = 2
    parameters: Mapping[str, str] = field(default_factory=dict)
    overrides: Mapping[str, str] = field(default_factory=dict)
    config: Mapping[str, bytes] = field(default_factory=dict)
    visibility: int | None = None
    plain: bool = False


@dataclass(frozen=True, slots=True)
class Rig:
    """A running pipeline; its poller has not been started."""

    emulator: Emulator
    stack: Stack
    runtime: RuntimeSpec
    environments: list[Environment]
    poller: Poller

    @property
    def queue_url(self) -> str:
        """The source queue."""
        return self.stack.event_source.queue.url

    @property
    def logs(self) -> list[Path]:
        """The function's output, one file per environment."""
        return [environment.log for environment in self.environments]

    def backlog(self) -> int:
        """Return the number of messages in the source queue."""
        return mail.backlog(self.emulator.sqs, self.queue_url)

    def deferred(self, reason: str) -> set[str]:
        """Return the ids of messages that were deferred for this reason and have not been settled since."""
        lines = [line for line in json_lines(self.logs) if "outcome" in line]
        settled = {line["message_id"] for line in lines if line["outcome"] != "deferred"}
        return {line["message_id"] for line in lines if line.get("reason") == reason} - settled

    def deliver_now(self, message_ids: Iterable[str]) -> None:
        """End the backoff of messages: SQS delivers them at once."""
        mail.show(self.emulator.sqs, self.queue_url, [self.poller.handles[message_id] for message_id in message_ids])

    def dead_letters(self) -> list[mail.Letter]:
        """Read the dead-letter queue; the next call does not return the same messages again."""
        return mail.read_all(self.emulator.sqs, self.stack.dead_letters.url)


def build_artefact() -> Artefact:
    """Build what `sam build` would ship, or take it from the cache."""
    return artefact.build(ROOT / "src", LOGICAL_ID, ROOT / "build" / "artefact")


@contextmanager
def running_rig(
    emulator: Emulator, api: StandIn, code: Artefact, folder: Path, *, name: str = "local", plan: Plan | None = None
) -> Iterator[Rig]:
    """Deploy a stack called `name` whose function calls the stand-in `api`, and run it for the length of the block.

    The function's logs go to `folder`. On leaving, the poller stops before the environments do.
    """
    plan = plan or Plan()
    parameters = {"ThriveBaseUrl": api.url, **plan.parameters}
    if plan.config:
        parameters["ConfigUri"] = f"s3://{name}-configuration/config/"
        put_config(emulator, parameters["ConfigUri"], plan.config)
    stack = deploy(emulator, TEMPLATE, LOGICAL_ID, name, parameters)
    set_secret(emulator, stack, secret_of(api))
    if plan.visibility is not None:
        emulator.sqs.set_queue_attributes(
            QueueUrl=stack.event_source.queue.url, Attributes={"VisibilityTimeout": str(plan.visibility)}
        )
    runtime = None if plan.plain else runtime_emulator()
    spec = spec_for(stack.function, code, emulator.url, emulator=runtime, overrides=plan.overrides)
    folder.mkdir(parents=True, exist_ok=True)
    environments = [Environment(spec, folder, f"environment-{number}") for number in range(1, plan.environments + 1)]
    poller = Poller(emulator.sqs, stack.event_source, environments)
    with ExitStack() as cleanup:
        for environment in environments:
            cleanup.callback(environment.kill)
        cleanup.callback(poller.stop)
        yield Rig(emulator, stack, spec, environments, poller)


def put_config(emulator: Emulator, uri: str, files: Mapping[str, bytes]) -> None:
    """Put files, by name, where the parameter ConfigUri (`s3://bucket/prefix/`) points to; create the bucket."""
    bucket, _, prefix = uri.removeprefix("s3://").partition("/")
    emulator.put(f"/{bucket}")
    for name, content in files.items():
        emulator.put(f"/{bucket}/{prefix}{name}", content)


def secret_of(api: StandIn) -> dict[str, str]:
    """Return the secret's value that the stand-in accepts."""
    return {"tenantId": api.tenant_id, "clientId": api.client_id, "clientSecret": api.client_secret}
