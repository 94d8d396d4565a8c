"""`reconcile`: compares a history with what Thrive holds."""

from __future__ import annotations

import csv
import os
import tempfile
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .backfill import ATTEMPTS, shape_of
from .backlog import Backlog
from .comparison import AMBIGUOUS, MISSING, PRESENT, Comparison
from .errors import OK, WRONG
from .history import examined_history, history_options
from .humane import count, number
from .options import common, pass_operator, rate, yes
from .sending import Pace, Sender
from .tenant import Tenant

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .context import Operator
    from .examination import Examination, Judge
    from .sending import Outgoing

_STATES = ("missing", "ambiguous", "present")
_LINES_SHOWN = 10
# For so few people, finding out which way is shorter is not worth a call.
_FEW_PEOPLE = 3


@click.command("reconcile")
@history_options
@click.option("--report", metavar="PATH", help="Write line and state of every row that is not present (CSV).")
@click.option("--resend", is_flag=True, help="Send the missing rows to the source queue (needs --yes).")
@rate(20, "rows resent")
@yes
@common
@pass_operator
def command(
    operator: Operator,
    /,
    file: str,
    kind: Any,
    rejects: str | None,
    report: str | None,
    rate: float,
    *,
    resend: bool,
    confirmed: bool,
) -> int:
    r"""Compare the completions in FILE with Thrive's list: present, ambiguous (at another time) or missing.

    It calls Thrive from this machine with the stack's secret, by person or by time, whichever takes fewer calls.

    \b
    Examples:
      completion-sync reconcile history.csv --report missing.csv
      completion-sync reconcile history.csv --resend --yes
    """
    tenant = Tenant(operator)
    with (
        operator.interruptible(),
        examined_history(operator, file, kind, rejects) as (examination, judge, _),
        tempfile.TemporaryDirectory() as folder,
        closing(Comparison(Path(folder))) as comparison,
    ):
        comparison.add(_entries(examination, judge))
        Reconciliation(operator, tenant, comparison).run()
        counts = comparison.counts()
        _say(operator, comparison, tenant, counts)
        if report:
            _write(report, comparison)
        unsent = counts[MISSING]
        if resend and unsent:
            unsent -= _resend(operator, examination, judge, comparison, rate, confirmed=confirmed)
    operator.output.result(
        {
            "rows": examination.rows,
            "present": counts[PRESENT],
            "missing": counts[MISSING],
            "ambiguous": counts[AMBIGUOUS],
        }
    )
    return WRONG if unsent or examination.rejected else OK


class Reconciliation:
    """Finds out which rows Thrive holds, with few calls."""

    def __init__(self, operator: Operator, tenant: Tenant, comparison: Comparison) -> None:
        self._operator = operator
        self._tenant = tenant
        self._comparison = comparison

    def run(self) -> None:
        """Ask Thrive.

        :raises CommandError: it has no list of completions, or does not answer.
        """
        self._resolve()
        users, span = self._comparison.users(), self._comparison.span()
        if span is not None and users > _FEW_PEOPLE:
            query = {"completedDateRangeStart": f"{span[0]}.000Z", "completedDateRangeEnd": f"{span[1]}.999Z"}
            # All completions of that time come on fewer pages than there are people, if this page is empty.
            if not self._tenant.page(query, users + 1):
                self._read(query, users)
        # What was not found in that time may have been recorded with another one.
        self._read_by_person()

    def _resolve(self) -> None:
        with self._operator.output.progress("looking people up", None) as bar:
            for done, ref in enumerate(self._comparison.references(), 1):
                if (user_id := self._tenant.user_id(ref)) is not None:
                    self._comparison.resolve(ref, user_id)
                self._go_on()
                bar.update(done, f"{number(done)} people")
        self._comparison.index()

    def _read(self, query: dict[str, str], pages: int) -> None:
        with self._operator.output.progress("reading completions by time", pages) as bar:
            for done, page in enumerate(self._tenant.completions(query), 1):
                self._comparison.found(page)
                self._go_on()
                bar.update(done, f"{number(done)} pages")

    def _read_by_person(self) -> None:
        with self._operator.output.progress("reading completions by person", self._comparison.users()) as bar:
            for done, user_id in enumerate(self._comparison.users_with_missing(), 1):
                for page in self._tenant.completions({"userId": user_id}):
                    self._comparison.found(record for record in page if record.user_id == user_id)
                self._go_on()
                bar.update(done, f"{number(done)} people")

    def _go_on(self) -> None:
        if self._operator.stop.requested:
            raise KeyboardInterrupt


def _entries(examination: Examination, judge: Judge) -> Iterator[tuple[int, int, Any]]:
    for row_number, row in examination.valid_rows():
        yield row_number, row.line, judge.judge(row)


def _say(operator: Operator, comparison: Comparison, tenant: Tenant, counts: dict[int, int]) -> None:
    output = operator.output
    output.table(["state", "rows"], [[_STATES[state], number(counts[state])] for state in (2, 1, 0)], right=[1])
    output.say(f"Thrive was called {count(tenant.calls, 'time')}.")
    if counts[0]:
        rows = comparison.rows(0)
        lines = ", ".join(str(line) for _, (_, line, _) in zip(range(_LINES_SHOWN), rows, strict=False))
        more = " …" if counts[0] > _LINES_SHOWN else ""
        output.warn(f"Missing: line {lines}{more}. --report lists all, --resend --yes sends them.")


def _write(path: str, comparison: Comparison) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with open(descriptor, "w", encoding="utf-8", newline="") as out:  # noqa: PTH123 - a descriptor
        writer = csv.writer(out)
        writer.writerow(("line", "state"))
        writer.writerows((line, _STATES[state]) for _, line, state in comparison.rows(0, 1))


def _resend(
    operator: Operator, examination: Examination, judge: Judge, comparison: Comparison, rate: float, *, confirmed: bool
) -> int:
    """Send the missing rows; return how many SQS has accepted."""
    if not confirmed:
        operator.output.say("Nothing was sent; --yes does it.")
        return 0
    source = operator.found.source
    pace = Pace(rate, operator.clock)
    sender = Sender(operator.aws.sqs, source.url, pace, operator.clock, operator.stop, attempts=ATTEMPTS)
    backlog = Backlog(operator, source, 10_000, 3600)
    shape = shape_of(source.arn, examination.digest, judge)

    def outgoing() -> Iterator[Outgoing]:
        wanted = (row_number for row_number, _, _ in comparison.rows(0))
        following = next(wanted, None)
        for row_number, row in examination.valid_rows():
            if row_number == following:
                following = next(wanted, None)
                yield shape(str(row_number), row)

    sent = 0
    with operator.output.progress("sending", comparison.counts()[0]) as bar:
        for batch in sender.batches(outgoing()):
            backlog.wait(len(batch), lambda note: bar.update(sent, note))  # noqa: B023 - called before the next round
            if operator.stop.requested:
                break
            sent += sum(receipt.message_id is not None for receipt in sender.send(batch))
            bar.update(sent, f"{number(sent)} sent")
    operator.output.say(f"{count(sent, 'missing row')} sent.", "green")
    return sent
