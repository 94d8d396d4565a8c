"""What people see at the end: what became of the messages, what it took, and the verdict."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rich import box
from rich.markup import escape
from rich.table import Table

from sandbox.pipeline.emf import json_lines, metric_sums

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from rich.console import Console

    from sandbox.demo.reconcile import Balance, Sent
    from sandbox.pipeline.rig import Rig
    from sandbox.thrive_api import Arrival, StandIn

_FAILURES = {"exit": "environment killed", "timeout": "timed out", "error": "raised", "malformed": "malformed answer"}


@dataclass(frozen=True, slots=True)
class Effort:
    """What the run took; `seconds` from the first message to the last."""

    calls: Counter[str]
    token_requests: Counter[str]
    secret_reads: int
    deferred: int
    counts: Counter[str]
    cold_starts: int
    seconds: float


def measure(rig: Rig, api: StandIn, seconds: float) -> Effort:
    """Gather what the stand-in saw, what the poller counted and what the function's own metrics say."""
    metrics = metric_sums(json_lines(rig.logs))
    return Effort(
        calls=_by_status(api.requests.of("completion")),
        token_requests=_by_status(api.requests.of("token")),
        secret_reads=int(metrics["SecretReads"]),
        deferred=int(metrics["CompletionsDeferred"]),
        counts=rig.poller.counts,
        cold_starts=sum(environment.cold_starts for environment in rig.environments),
        seconds=seconds,
    )


def show(console: Console, sent: Sequence[Sent], balance: Balance, effort: Effort) -> None:
    """Print the tables and the verdict."""
    console.print()
    console.print(_outcomes(sent, balance))
    console.print()
    console.print(_effort(effort))
    console.print()
    if balance.is_even:
        console.print("[bold green]Every message is accounted for:[/] recorded once, or rejected with the reason.")
        return
    console.print(f"[bold red]{balance.unaccounted} of {balance.sent} messages are not where they belong.[/]")
    for problem in balance.problems:
        console.print(f"  {escape(problem)}", highlight=False, soft_wrap=True)


def show_rejections(console: Console, balance: Balance) -> None:
    """Print why each rejected message was rejected."""
    if balance.rejections:
        table = _table("Rejected: in the dead-letter queue, with the reason", "", "reason", "detail")
        for label, reason, detail in balance.rejections:
            table.add_row(escape(label), reason, escape(detail))
        console.print()
        console.print(table)


def _outcomes(sent: Sequence[Sent], balance: Balance) -> Table:
    channels = Counter(item.message.written.channel for item in sent)
    table = _table("What became of the messages", "", ">number", "")
    table.add_row("sent", str(balance.sent), f"{channels['queue']} to the queue, {channels['bus']} on the event bus")
    table.add_row("created", str(balance.created), "a new record in Thrive")
    table.add_row("existing", str(balance.existing), "a repeat: Thrive had the record")
    table.add_row("rejected", str(balance.rejected.total()), "in the dead-letter queue, with the reason")
    for reason, number in sorted(balance.rejected.items()):
        table.add_row(f"  {reason}", str(number), "")
    table.add_row("still queued", str(balance.queued), "")
    table.add_row("unaccounted for", str(balance.unaccounted), "", style="" if balance.is_even else "bold red")
    return table


def _effort(effort: Effort) -> Table:
    counts = effort.counts
    failures = [f"{counts[kind]} {text}" for kind, text in _FAILURES.items() if counts[kind]]
    table = _table("What it took", "", ">number", "")
    table.add_row("calls to Thrive", str(effort.calls.total()), _listed(effort.calls))
    table.add_row("token requests", str(effort.token_requests.total()), _listed(effort.token_requests))
    table.add_row("secret reads", str(effort.secret_reads), "")
    table.add_row("invocations", str(counts["invocations"]), ", ".join(failures))
    table.add_row("messages received", str(counts["received"]), f"deferred {effort.deferred} times")
    table.add_row("cold starts", str(effort.cold_starts), "")
    table.add_row("seconds", f"{effort.seconds:.1f}", f"{counts['deleted'] / effort.seconds:.0f} messages a second")
    return table


def _table(title: str, *columns: str) -> Table:
    """Make a table that fits 80 columns; a column whose name begins with > is aligned to the right."""
    table = Table(title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        name = column.removeprefix(">")
        table.add_column(name, justify="right" if name != column else "left", overflow="fold")
    return table


def _by_status(arrivals: Iterable[Arrival]) -> Counter[str]:
    return Counter("no answer" if arrival.status is None else str(arrival.status) for arrival in arrivals)


def _listed(counts: Counter[str]) -> str:
    return ", ".join(f"{status}: {number}" for status, number in sorted(counts.items()))
