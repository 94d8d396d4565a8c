"""What the demo prints at the end: where the messages ended up, what it took, and the verdict."""

from __future__ import annotations

import textwrap
from collections import Counter
from typing import TYPE_CHECKING

from rich.markup import escape
from rich.padding import Padding
from rich.table import Table

from sandbox.pipeline.emf import json_lines, metric_sums

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from rich.console import Console

    from sandbox.demo.reconcile import Balance, Sent
    from sandbox.pipeline.rig import Rig
    from sandbox.thrive_api import Arrival, StandIn

# Of a table's last column, so that the table fits 80 columns.
_COLUMN_WIDTH = 48
_NO_BREAK = "\0"
_FAILURES = {"exit": "environment killed", "timeout": "timed out", "error": "raised", "malformed": "malformed answer"}


def show(console: Console, sent: Sequence[Sent], balance: Balance, effort: Table) -> None:
    """Print the tables and the verdict."""
    for table in (_outcomes(sent, balance), effort):
        console.print()
        console.print(Padding(table, (0, 0, 0, 2), expand=False))
    console.print()
    if balance.is_even:
        console.print("[bold green]Every message is accounted for:[/]")
        console.print("recorded once, rejected with the reason, or ignored as the mapping says.")
        return
    console.print(f"[bold red]{balance.unaccounted} of {balance.sent} messages are not where they belong.[/]")
    for problem in balance.problems:
        console.print(f"  {escape(problem)}", highlight=False, soft_wrap=True)


def show_rejections(console: Console, balance: Balance) -> None:
    """Print why each rejected message was rejected."""
    if balance.rejections:
        table = Table(title="Rejected messages", title_justify="left", title_style="bold", box=None, pad_edge=False)
        for column in ("", "reason", "detail"):
            table.add_column(column, overflow="fold")
        for label, reason, detail in balance.rejections:
            table.add_row(escape(label), reason, escape(detail))
        console.print()
        console.print(table)


def effort(rig: Rig, api: StandIn, seconds: float, limited: int) -> Table:
    """Return a table of what the stand-in received, what the poller counted and what the function's metrics say.

    `limited` is the number of messages that were sent while Thrive limited the rate.
    """
    metrics, counts = metric_sums(json_lines(rig.logs)), rig.poller.counts
    calls, lookups, tokens = (_by_status(api.requests.of(route)) for route in ("completion", "user", "token"))
    refused = calls["429"] + lookups["429"]
    failures = [f"{counts[kind]} {text}" for kind, text in _FAILURES.items() if counts[kind]]
    cold_starts = sum(environment.cold_starts for environment in rig.environments)
    table = _table("What it took")
    table.add_row("completions sent", str(calls.total()), _listed(calls))
    table.add_row("lookups of people", str(lookups.total()), _listed(lookups))
    if limited:
        share = f"{refused / limited:.2f} for each of the {limited} messages sent meanwhile"
        table.add_row("refused by the limit", str(refused), share)
    table.add_row("token requests", str(tokens.total()), _listed(tokens))
    table.add_row("secret reads", str(int(metrics["SecretReads"])), "")
    table.add_row("invocations", str(counts["invocations"]), ", ".join(failures))
    without = f"{int(metrics['DeferredWithoutCall'])} of them without a call"
    table.add_row("messages received", str(counts["received"]), "")
    table.add_row("deferrals", str(int(metrics["CompletionsDeferred"])), without)
    table.add_row("cold starts", str(cold_starts), "")
    table.add_row("seconds", f"{seconds:.1f}", f"{counts['deleted'] / seconds:.0f} messages per second")
    return table


def _outcomes(sent: Sequence[Sent], balance: Balance) -> Table:
    channels = Counter(item.message.written.channel for item in sent)
    table = _table("Where the messages ended up")
    table.add_row("sent", str(balance.sent), f"{channels['queue']} to the queue, {channels['bus']} to the event bus")
    table.add_row("created", str(balance.created), "a new record in Thrive")
    table.add_row("existing", str(balance.existing), "repeats: Thrive already had the record")
    table.add_row("rejected", str(balance.rejected.total()), "in the dead-letter queue, with the reason")
    for reason, number in sorted(balance.rejected.items()):
        table.add_row(f"  {reason}", str(number), "")
    table.add_row("ignored", str(balance.ignored), "no completions, according to the mapping")
    table.add_row("still queued", str(balance.queued), "")
    table.add_row("unaccounted for", str(balance.unaccounted), "", style="" if balance.is_even else "bold red")
    return table


def _table(title: str) -> Table:
    """Return a table of things, numbers and explanations that fits 80 columns."""
    table = Table(title=title, title_justify="left", title_style="bold", box=None, show_header=False, pad_edge=False)
    for justify in ("left", "right", "left"):
        table.add_column(justify=justify, overflow="fold")
    return table


def _by_status(arrivals: Iterable[Arrival]) -> Counter[str]:
    return Counter("no answer" if arrival.status is None else str(arrival.status) for arrival in arrivals)


def _listed(counts: Counter[str]) -> str:
    """Return the counts as lines of a column, none of which ends within an item."""
    items = ", ".join(f"{status}: {number}".replace(" ", _NO_BREAK) for status, number in sorted(counts.items()))
    return textwrap.fill(items, _COLUMN_WIDTH).replace(_NO_BREAK, " ")
