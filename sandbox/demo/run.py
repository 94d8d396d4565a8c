"""The demonstration from start to end: set up, send, let things go wrong, wait, and check every message."""

from __future__ import annotations

import shutil
import tempfile
import threading
import time
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from sandbox.demo import report, weather
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

    from sandbox.demo.weather import Act

# The product waits for minutes and hours where Thrive is away; nobody would watch that. The report names these.
HURRY = {"BACKOFF_BASE_SECONDS": "1", "BACKOFF_CAP_SECONDS": "4"}
VISIBILITY_SECONDS = 8
ENVIRONMENTS = 3
# How long an act lasts at most before the next begins, and how long the queue may take to run empty after the last.
_ACT_SECONDS = 1.5
_DRAIN_SECONDS = 90.0
_TICK_SECONDS = 0.1


class NoEventsError(ValueError):
    """The user's file holds nothing to send."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What to run: `messages` made up from `seed`, or the lines of `events`; `calm` lets nothing go wrong."""

    messages: int = 400
    seed: int = 1
    events: Path | None = None
    plain: bool = False
    calm: bool = False
    # Called when all is done and before the check, so that a test can see that the check bites.
    before_check: Callable[[StandIn], None] = lambda _api: None


def run(options: Options, console: Console) -> bool:
    """Run the demonstration and report to `console`; return whether every message is accounted for.

    The logs are kept, and their place is printed, when something is wrong.

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
    if options.events is None:  # the user's own file may well speak of these ids
        api.directory.unknown_users.add(UNKNOWN_USER)
        api.directory.unknown_contents.add(UNKNOWN_CONTENT)
    with ExitStack() as cleanup:
        with _step(console, "build the function as `sam build` does"):
            code = build_artefact()
        with _step(console, "start the stand-in Thrive API"):
            cleanup.enter_context(api.running())
        with _step(console, "start the AWS emulator"):
            emulator = cleanup.enter_context(running_emulator(folder))
        with _step(console, "deploy template.yaml, put the secret"):
            plan = Plan(environments=ENVIRONMENTS, overrides=HURRY, visibility=VISIBILITY_SECONDS, plain=options.plain)
            rig = cleanup.enter_context(running_rig(emulator, api, code, folder, plan=plan))
        _describe(console, rig, is_built=code.is_built)
        rig.poller.start()
        started = time.monotonic()
        sent = _play(weather.FAIR if options.calm else weather.STORMY, messages, rig, api, console)
        seconds = time.monotonic() - started
        rig.poller.stop()
        options.before_check(api)
        balance = reconcile(sent, api.ledger, rig.dead_letters(), rig.backlog())
        report.show(console, sent, balance, report.measure(rig, api, seconds))
        if options.events:
            report.show_rejections(console, balance)
        return balance.is_even


@contextmanager
def _step(console: Console, what: str) -> Iterator[None]:
    started = time.monotonic()
    yield
    console.print(f"  {what:<44}[dim]{time.monotonic() - started:5.1f} s[/]", highlight=False)


def _describe(console: Console, rig: Rig, *, is_built: bool) -> None:
    function, source = rig.stack.function, rig.stack.event_source
    base, cap = (function.environment[name] for name in HURRY)
    facts = {
        "function": f"{function.handler}, timeout {function.timeout} s{'' if is_built else '; not built, bare source'}",
        "runtime": f"{rig.runtime.name} (deployed: {function.runtime})",
        "queue": f"batches of {source.batch_size} to {len(rig.environments)} environments",
        "in a hurry": f"backoff {' to '.join(HURRY.values())} s, as deployed {base} to {cap} s",
    }
    console.print()
    for name, fact in facts.items():
        console.print(f"  {name:<12}{fact}", highlight=False)
    console.print()


def _play(acts: Sequence[Act], messages: Sequence[Message], rig: Rig, api: StandIn, console: Console) -> list[Sent]:
    """Send the messages act by act, then wait until the queue is empty or the patience is at an end."""
    sent: list[Sent] = []
    share = -(-len(messages) // len(acts))
    with _progress(console, len(messages), lambda: len(sent) - rig.backlog()) as announce:
        for number, act in enumerate(acts):
            announce(act.title)
            with act.weather(rig, api):
                sent += _send(messages[number * share : (number + 1) * share], rig)
            _wait_until_empty(rig, _ACT_SECONDS)
        announce("the queue runs empty")
        _wait_until_empty(rig, _DRAIN_SECONDS)
    return sent


def _send(messages: Sequence[Message], rig: Rig) -> list[Sent]:
    """Send to the queue and put on the bus."""
    rule = rig.stack.rule
    to_queue = [m for m in messages if m.written.channel == "queue"]
    to_bus = [m for m in messages if m.written.channel == "bus"]
    ids = mail.send(rig.emulator.sqs, rig.queue_url, [m.written.content for m in to_queue])
    if to_bus:
        if rule is None:
            raise RuntimeError("the template has no rule that takes events to the queue")
        ids += mail.put(rig.emulator.events, rule, [m.written.content for m in to_bus])
    return [Sent(message, identity) for message, identity in zip([*to_queue, *to_bus], ids, strict=True)]


def _wait_until_empty(rig: Rig, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while rig.backlog() and time.monotonic() < deadline:
        rig.poller.check()
        time.sleep(_TICK_SECONDS)


@contextmanager
def _progress(console: Console, total: int, settled: Callable[[], int]) -> Iterator[Callable[[str], None]]:
    """Show a bar on a terminal, and a line for each act elsewhere; give the function that announces an act."""
    columns = (
        SpinnerColumn(),
        BarColumn(bar_width=20),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.description}"),
    )
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        task = progress.add_task("", total=total)
        done = threading.Event()

        def follow() -> None:
            # A wave counts as sent once it is out altogether, so the difference may dip; the bar should not.
            most = 0
            while not done.wait(_TICK_SECONDS):
                most = max(most, settled())
                progress.update(task, completed=most)

        def announce(title: str) -> None:
            progress.update(task, description=title)
            if not console.is_terminal:
                console.print(f"  ... {title}", highlight=False)

        follower = threading.Thread(target=follow, name="progress", daemon=True)
        follower.start()
        try:
            yield announce
        finally:
            done.set()
            follower.join()
            progress.update(task, completed=settled())
