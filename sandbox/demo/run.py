"""The demo from start to end: set up, send messages while things go wrong, wait, and account for every message."""

from __future__ import annotations

import shutil
import tempfile
import time
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from sandbox.demo import report, trouble
from sandbox.demo.events_file import read_events_file
from sandbox.demo.reconcile import Sent, reconcile
from sandbox.demo.shapes import UNKNOWN_CONTENT, UNKNOWN_USER
from sandbox.demo.workload import Message, generate
from sandbox.pipeline import mail
from sandbox.pipeline.emulator import running_emulator
from sandbox.pipeline.rig import Plan, Rig, build_artefact, running_rig
from sandbox.thrive_api import StandIn

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from rich.console import Console

# As deployed, the function waits for minutes and hours while Thrive is down. Nobody would watch that.
BACKOFF = {"BACKOFF_BASE_SECONDS": "1", "BACKOFF_CAP_SECONDS": "4"}
_VISIBILITY_SECONDS = 8
_ENVIRONMENTS = 3
# How long a stage waits for the queue to empty before the next begins, and how long the last one does.
_STAGE_SECONDS = 1.5
_DRAIN_SECONDS = 90.0
_TICK_SECONDS = 0.1


class NoEventsError(ValueError):
    """The user's file holds nothing to send."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What to run: `messages` made up from `seed`, or the lines of `events`; with `calm` nothing goes wrong."""

    messages: int = 400
    seed: int = 1
    events: Path | None = None
    plain: bool = False
    calm: bool = False
    # Called before the check, so that a test can see the check fail.
    before_check: Callable[[StandIn], None] = lambda _api: None


def run(options: Options, console: Console) -> bool:
    """Run the demo and print a report; return whether every message is accounted for.

    The logs are kept, and their folder is printed, if something is wrong.

    :raises OSError: the events file cannot be read.
    :raises NoEventsError: it holds nothing to send.
    """
    messages, unsendable = _messages(options)
    folder = Path(tempfile.mkdtemp(prefix="completion-sync-demo-"))
    is_even = False
    try:
        is_even = _run(options, messages, console, folder)
        for line in unsendable:
            console.print(f"[yellow]not sent:[/] {line}", highlight=False)
        return is_even
    finally:
        if is_even:
            shutil.rmtree(folder, ignore_errors=True)
        else:
            console.print(f"The logs are in {folder}", highlight=False, soft_wrap=True)


def _messages(options: Options) -> tuple[list[Message], list[str]]:
    if options.events is None:
        return generate(options.messages, options.seed), []
    file = read_events_file(options.events)
    if not file.messages:
        raise NoEventsError("; ".join([f"{options.events} holds no event to send", *file.unsendable]))
    return file.messages, file.unsendable


def _run(options: Options, messages: Sequence[Message], console: Console, folder: Path) -> bool:
    api = StandIn(seed=options.seed)
    if options.events is None:  # the user's own file may use these ids
        api.directory.unknown_users.add(UNKNOWN_USER)
        api.directory.unknown_contents.add(UNKNOWN_CONTENT)
    with ExitStack() as cleanup:
        with _step(console, "build the function as `sam build` does"):
            code = build_artefact()
        with _step(console, "start the stand-in Thrive API"):
            cleanup.enter_context(api.running())
        with _step(console, "start the AWS emulator"):
            emulator = cleanup.enter_context(running_emulator(folder))
        with _step(console, "deploy template.yaml and store the secret"):
            plan = Plan(
                environments=_ENVIRONMENTS, overrides=BACKOFF, visibility=_VISIBILITY_SECONDS, plain=options.plain
            )
            rig = cleanup.enter_context(running_rig(emulator, api, code, folder, plan=plan))
        _describe(console, rig)
        rig.poller.start()
        started = time.monotonic()
        sent = _send_all(trouble.CALM if options.calm else trouble.FULL, messages, rig, api, console)
        seconds = time.monotonic() - started
        rig.poller.stop()
        options.before_check(api)
        balance = reconcile(sent, api.ledger, rig.dead_letters(), rig.backlog())
        report.show(console, sent, balance, report.effort(rig, api, seconds))
        if options.events:
            report.show_rejections(console, balance)
        return balance.is_even


@contextmanager
def _step(console: Console, what: str) -> Iterator[None]:
    started = time.monotonic()
    yield
    console.print(f"  {what:<44}[dim]{time.monotonic() - started:5.1f} s[/]", highlight=False)


def _describe(console: Console, rig: Rig) -> None:
    function, source = rig.stack.function, rig.stack.event_source
    base, cap = (function.environment[name] for name in BACKOFF)
    facts = {
        "function": f"{function.handler}, timeout {function.timeout} s",
        "runtime": f"{rig.runtime.name} (deployed: {function.runtime})",
        "queue": f"batches of {source.batch_size}, {len(rig.environments)} environments",
        "backoff": f"{' to '.join(BACKOFF.values())} s here, {base} to {cap} s as deployed",
    }
    console.print()
    for name, fact in facts.items():
        console.print(f"  {name:<12}{fact}", highlight=False)
    console.print()


def _send_all(
    stages: Sequence[trouble.Stage], messages: Sequence[Message], rig: Rig, api: StandIn, console: Console
) -> list[Sent]:
    """Send a share of the messages in each stage, then wait until the queue is empty or the time is up."""
    sent: list[Sent] = []
    share = -(-len(messages) // len(stages))
    columns = (
        SpinnerColumn(),
        BarColumn(bar_width=20),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.description}"),
    )
    # On a terminal a bar, elsewhere a line for each stage.
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        task = progress.add_task("", total=len(messages))

        def announce(title: str) -> None:
            progress.update(task, description=title)
            if not console.is_terminal:
                console.print(f"  ... {title}", highlight=False)

        def drain(seconds: float) -> None:
            deadline = time.monotonic() + seconds
            while (backlog := rig.backlog()) and time.monotonic() < deadline:
                progress.update(task, completed=len(sent) - backlog)
                rig.poller.check()
                time.sleep(_TICK_SECONDS)
            progress.update(task, completed=len(sent) - backlog)

        for number, stage in enumerate(stages):
            announce(stage.title)
            with stage.trouble(rig, api):
                sent += _send(messages[number * share : (number + 1) * share], rig)
            drain(_STAGE_SECONDS)
        announce("waiting for the queue to empty")
        drain(_DRAIN_SECONDS)
    return sent


def _send(messages: Sequence[Message], rig: Rig) -> list[Sent]:
    """Send messages to the queue or the bus, each to its channel."""
    to_queue = [m for m in messages if m.written.channel == "queue"]
    to_bus = [m for m in messages if m.written.channel == "bus"]
    ids = mail.send(rig.emulator.sqs, rig.queue_url, [m.written.content for m in to_queue])
    ids += mail.put(rig.emulator.events, rig.stack.rule, [m.written.content for m in to_bus])
    return [Sent(message, identity) for message, identity in zip([*to_queue, *to_bus], ids, strict=True)]
