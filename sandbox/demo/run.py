"""The demo from start to end: set up, send messages while things go wrong, wait, and account for every message."""

from __future__ import annotations

import random
import shutil
import tempfile
import time
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from sandbox import SandboxError
from sandbox.config import EXAMPLE, FILES, parse, read_files
from sandbox.demo import foreign, report, trouble
from sandbox.demo.events_file import read_events_file
from sandbox.demo.reconcile import Sent, reconcile
from sandbox.demo.shapes import UNKNOWN_CONTENT, UNKNOWN_USER
from sandbox.demo.workload import Message, generate
from sandbox.pipeline import mail
from sandbox.pipeline.emulator import running_emulator
from sandbox.pipeline.rig import Plan, Rig, build_artefact, running_rig
from sandbox.thrive_api import StandIn

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from rich.console import Console

# As deployed, the function waits for minutes, hours and days. Nobody would watch that.
BACKOFF = {"BACKOFF_BASE_SECONDS": "1", "BACKOFF_CAP_SECONDS": "4"}
_OVERRIDES = {**BACKOFF, "USER_WAIT_HOURS": f"{trouble.WAIT_SECONDS / 3600:g}"}
_VISIBILITY_SECONDS = 8
_ENVIRONMENTS = 3
# How long a stage waits for the queue to empty before the next begins, and how long the last one does.
_STAGE_SECONDS = 1.5
_DRAIN_SECONDS = 90.0
_TICK_SECONDS = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What to run: `messages` made up from `seed`, or the lines of `events`; with `calm` nothing goes wrong.

    `config` is the folder of a mapping and a content table for `events`.
    """

    messages: int = 400
    seed: int = 1
    events: Path | None = None
    config: Path | None = None
    plain: bool = False
    calm: bool = False
    # Called before the check, so that a test can see the check fail.
    before_check: Callable[[StandIn], None] = lambda _api: None


@dataclass(frozen=True, slots=True)
class Work:
    """The messages to send, and the world that they are sent into.

    The first `waiting` messages are about people whom Thrive does not know yet; `refs` are those whom it knows.
    """

    messages: list[Message]
    refs: Iterable[str]
    files: Mapping[str, bytes]
    waiting: int = 0
    unsendable: Sequence[str] = ()


def run(options: Options, console: Console) -> bool:
    """Run the demo and print a report; return whether every message is accounted for.

    The logs are kept, and their folder is printed, if something is wrong.

    :raises OSError: a file cannot be read.
    :raises SandboxError: the events file holds nothing to send, or the folder no configuration.
    :raises ConfigError: the configuration is invalid.
    """
    work = made_up(options) if options.events is None else _from_files(options.events, options.config)
    folder = Path(tempfile.mkdtemp(prefix="completion-sync-demo-"))
    is_even = False
    try:
        is_even = _run(options, work, console, folder)
        for line in work.unsendable:
            console.print(f"[yellow]not sent:[/] {line}", highlight=False)
        return is_even
    finally:
        if is_even:
            shutil.rmtree(folder, ignore_errors=True)
        else:
            console.print(f"The logs are in {folder}", highlight=False, soft_wrap=True)


def made_up(options: Options) -> Work:
    """Make up messages in Thrive's ids and in the words of source systems, good and bad."""
    waiting = [] if options.calm else foreign.generate_waiting(options.messages // 16, options.seed)
    others = options.messages - len(waiting)
    messages = foreign.generate(others * 2 // 5, options.seed)
    messages += generate(others - len(messages), options.seed)
    random.Random(options.seed).shuffle(messages)  # noqa: S311 - a repeatable workload, not a secret
    return Work([*waiting, *messages], foreign.PRESENT, EXAMPLE, len(waiting))


def _from_files(events: Path, config: Path | None) -> Work:
    files = {} if config is None else read_files(config)
    if config is not None and not files:
        raise SandboxError(f"{config} holds neither {' nor '.join(FILES)}")
    file = read_events_file(events, parse(files))
    if not file.messages:
        raise SandboxError("; ".join([f"{events} holds no event to send", *file.unsendable]))
    return Work(file.messages, file.refs, files, unsendable=file.unsendable)


def _run(options: Options, work: Work, console: Console, folder: Path) -> bool:
    api = StandIn(seed=options.seed)
    api.directory.users.update(foreign.directory(work.refs))
    if options.events is None:  # the user's own file may use these ids
        api.directory.unknown_users.add(UNKNOWN_USER)
        api.directory.unknown_contents.add(UNKNOWN_CONTENT)
    stages = trouble.stages(calm=options.calm, waiting=work.waiting)
    shares = _split(work.messages, len(stages))
    with ExitStack() as cleanup:
        with _step(console, "build the function as `sam build` does"):
            code = build_artefact()
        with _step(console, "start the stand-in Thrive API"):
            cleanup.enter_context(api.running())
        with _step(console, "start the AWS emulator"):
            emulator = cleanup.enter_context(running_emulator(folder))
        with _step(console, "deploy template.yaml, secret, configuration"):
            plan = Plan(
                environments=_ENVIRONMENTS,
                overrides=_OVERRIDES,
                config=work.files,
                visibility=_VISIBILITY_SECONDS,
                plain=options.plain,
            )
            rig = cleanup.enter_context(running_rig(emulator, api, code, folder, plan=plan))
        _describe(console, rig, work)
        rig.poller.start()
        started = time.monotonic()
        sent = _send_all(stages, shares, rig, api, console)
        seconds = time.monotonic() - started
        rig.poller.stop()
        options.before_check(api)
        balance = reconcile(sent, api.ledger, rig.dead_letters(), rig.backlog())
        limited = sum(len(share) for stage, share in zip(stages, shares, strict=True) if stage.limits_rate)
        report.show(console, sent, balance, report.effort(rig, api, seconds, limited))
        if options.events:
            report.show_rejections(console, balance)
        return balance.is_even


def _split(messages: Sequence[Message], parts: int) -> list[Sequence[Message]]:
    share = -(-len(messages) // parts)
    return [messages[number * share : (number + 1) * share] for number in range(parts)]


@contextmanager
def _step(console: Console, what: str) -> Iterator[None]:
    started = time.monotonic()
    yield
    console.print(f"  {what:<44}[dim]{time.monotonic() - started:5.1f} s[/]", highlight=False)


def _describe(console: Console, rig: Rig, work: Work) -> None:
    function, source = rig.stack.function, rig.stack.event_source
    base, cap = (function.environment[name] for name in BACKOFF)
    facts = {
        "function": f"{function.handler}, timeout {function.timeout} s",
        "runtime": f"{rig.runtime.name} (deployed: {function.runtime})",
        "queue": f"batches of {source.batch_size}, {len(rig.environments)} environments",
        "config": " and ".join(sorted(work.files)) or "none: messages hold Thrive's own ids",
        "backoff": f"{' to '.join(BACKOFF.values())} s here, {base} to {cap} s as deployed",
    }
    if work.waiting:
        hours = function.environment["USER_WAIT_HOURS"]
        facts["people"] = f"not in Thrive: messages wait {trouble.WAIT_SECONDS:g} s here, {hours} hours as deployed,"
        facts[""] = "and come back when the person appears; as deployed, minutes later"
    console.print()
    for name, fact in facts.items():
        console.print(f"  {name:<12}{fact}", highlight=False)
    console.print()


def _send_all(
    stages: Sequence[trouble.Stage], shares: Sequence[Sequence[Message]], rig: Rig, api: StandIn, console: Console
) -> list[Sent]:
    """Send a share of the messages in each stage, then wait until the queue is empty or the time is up."""
    sent: list[Sent] = []
    columns = (
        SpinnerColumn(),
        BarColumn(bar_width=20),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.description}"),
    )
    # On a terminal a bar; elsewhere, and in a picture, a line for each stage.
    is_live = console.is_terminal and not console.record
    with Progress(*columns, console=console, disable=not is_live) as progress:
        task = progress.add_task("", total=sum(map(len, shares)))

        def announce(title: str) -> None:
            progress.update(task, description=title)
            if not is_live:
                console.print(f"  ... {title}", highlight=False)

        def drain(seconds: float) -> None:
            deadline = time.monotonic() + seconds
            while (backlog := rig.backlog()) and time.monotonic() < deadline:
                progress.update(task, completed=len(sent) - backlog)
                rig.poller.check()
                time.sleep(_TICK_SECONDS)
            progress.update(task, completed=len(sent) - backlog)

        for stage, share in zip(stages, shares, strict=True):
            announce(stage.title)
            with stage.trouble(rig, api):
                sent += _send(share, rig)
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
