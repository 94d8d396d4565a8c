"""The whole pipeline put together: queue, poller, runtime and stand-in API, ready to be sent to."""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from sandbox.pipeline import artefact, mail
from sandbox.pipeline.emulator import ROOT
from sandbox.pipeline.poller import Poller
from sandbox.pipeline.runtime import Environment, RuntimeSpec, runtime_emulator, spec_for
from sandbox.pipeline.stack import Stack, deploy, set_secret

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from sandbox.pipeline.artefact import Artefact
    from sandbox.pipeline.emulator import Emulator
    from sandbox.thrive_api import StandIn

TEMPLATE = ROOT / "template.yaml"
LOGICAL_ID = "CompletionFunction"


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What a pipeline may do differently from what the template says.

    `environments` is the number of execution environments; `parameters` go to the template, `overrides` replace the
    function's variables afterwards; `visibility` (seconds) replaces the queue's, so that what a killed environment
    held comes back soon; `plain` does without Lambda's runtime even where there is one.
    """

    environments: int = 2
    parameters: Mapping[str, str] = field(default_factory=dict)
    overrides: Mapping[str, str] = field(default_factory=dict)
    visibility: int | None = None
    plain: bool = False


@dataclass(frozen=True, slots=True)
class Rig:
    """A running pipeline; its poller waits to be started."""

    emulator: Emulator
    stack: Stack
    runtime: RuntimeSpec
    environments: list[Environment]
    poller: Poller

    @property
    def queue_url(self) -> str:
        """Where completions are sent."""
        return self.stack.event_source.queue.url

    @property
    def logs(self) -> list[Path]:
        """What the function wrote, one file for each environment."""
        return [environment.log for environment in self.environments]

    def backlog(self) -> int:
        """Count what has not left the source queue yet."""
        return mail.backlog(self.emulator.sqs, self.queue_url)

    def dead_letters(self) -> list[mail.Letter]:
        """Read the dead-letter queue; what was read is hidden from the next look."""
        return mail.read_all(self.emulator.sqs, self.stack.dead_letters.url)


def build_artefact() -> Artefact:
    """Build what `sam build` would ship, or take it from the cache."""
    return artefact.build(ROOT / "src", LOGICAL_ID, ROOT / "build" / "artefact")


@contextmanager
def running_rig(
    emulator: Emulator, api: StandIn, code: Artefact, folder: Path, *, name: str = "local", plan: Plan | None = None
) -> Iterator[Rig]:
    """Deploy a stack called `name`, and let its function talk to the stand-in `api` for as long as the block lasts.

    The function's logs go to `folder`. On leaving, the poller stops first and the environments end after it.
    """
    plan = plan or Plan()
    parameters = {"ThriveBaseUrl": api.url, **plan.parameters}
    stack = deploy(emulator, TEMPLATE, LOGICAL_ID, name, parameters)
    set_secret(emulator, stack, secret_of(api))
    if plan.visibility is not None:
        emulator.sqs.set_queue_attributes(
            QueueUrl=stack.event_source.queue.url, Attributes={"VisibilityTimeout": str(plan.visibility)}
        )
    spec = spec_for(
        stack.function,
        code,
        emulator.url,
        emulator=None if plan.plain else runtime_emulator(),
        overrides=plan.overrides,
    )
    folder.mkdir(parents=True, exist_ok=True)
    environments = [Environment(spec, folder, f"environment-{number}") for number in range(1, plan.environments + 1)]
    poller = Poller(emulator.sqs, stack.event_source, environments)
    with ExitStack() as cleanup:
        for environment in environments:
            cleanup.callback(environment.kill)
        cleanup.callback(poller.stop)
        yield Rig(emulator, stack, spec, environments, poller)


def secret_of(api: StandIn) -> dict[str, str]:
    """Give the secret's value that the stand-in accepts."""
    return {"tenantId": api.tenant_id, "clientId": api.client_id, "clientSecret": api.client_secret}
