"""What the demo prints at the end: where the messages ended up, what it took, and the verdict."""

from __future__ import annotations

from collections import Counter
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


def show(console: Console, sent: Sequence[Sent], balance: Balance, effort: Table) -> None:
    """Print the tables and the verdict."""
    console.print()
    console.print(_outcomes(sent, balance))
    console.print()
    console.print(effort)
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
        table = _table("Rejected messages", "", "reason", "detail")
        for label, reason, detail in balance.rejections:
            table.add_row(escape(label), reason, escape(detail))
        console.print()
        console.print(table)


def effort(rig: Rig, api: StandIn, seconds: float) -> Table:
    """Return a table of what the stand-in received, what the poller counted and what the function's metrics say."""
    metrics, counts = metric_sums(json_lines(rig.logs)), rig.poller.counts
    calls, tokens = _by_status(api.requests.of("completion")), _by_status(api.requests.of("token"))
    failures = [f"{counts[kind]} {text}" for kind, text in _FAILURES.items() if counts[kind]]
    cold_starts = sum(environment.cold_starts for environment in rig.environments)
    table = _table("What it took", "", ">number", "")
    table.add_row("calls to Thrive", str(calls.total()), _listed(calls))
    table.add_row("token requests", str(tokens.total()), _listed(tokens))
    table.add_row("secret reads", str(int(metrics["SecretReads"])), "")
    table.add_row("invocations", str(counts["invocations"]), ", ".join(failures))
    table.add_row("messages received", str(counts["received"]), f"{int(metrics['CompletionsDeferred'])} deferrals")
    table.add_row("cold starts", str(cold_starts), "")
    table.add_row("seconds", f"{seconds:.1f}", f"{counts['deleted'] / seconds:.0f} messages per second")
    return table


def _outcomes(sent: Sequence[Sent], balance: Balance) -> Table:
    channels = Counter(item.message.written.channel for item in sent)
    table = _table("Where the messages ended up", "", ">number", "")
    table.add_row("sent", str(balance.sent), f"{channels['queue']} to the queue, {channels['bus']} to the event bus")
    table.add_row("created", str(balance.created), "a new record in Thrive")
    table.add_row("existing", str(balance.existing), "repeats: Thrive already had the record")
    table.add_row("rejected", str(balance.rejected.total()), "in the dead-letter queue, with the reason")
    for reason, number in sorted(balance.rejected.items()):
        table.add_row(f"  {reason}", str(number), "")
    table.add_row("still queued", str(balance.queued), "")
    table.add_row("unaccounted for", str(balance.unaccounted), "", style="" if balance.is_even else "bold red")
    return table


def _table(title: str, *columns: str) -> Table:
    """Return a table that fits 80 columns; a column whose name begins with > is aligned to the right."""
    table = Table(title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        name = column.removeprefix(">")
        table.add_column(name, justify="right" if name != column else "left", overflow="fold")
    return table


def _by_status(arrivals: Iterable[Arrival]) -> Counter[str]:
    return Counter("no answer" if arrival.status is None else str(arrival.status) for arrival in arrivals)


def _listed(counts: Counter[str]) -> str:
    return ", ".join(f"{status}: {number}" for status, number in sorted(counts.items()))
