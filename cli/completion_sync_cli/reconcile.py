"""`reconcile`: compares a history with what Thrive holds."""

from __future__ import annotations

import csv
import tempfile
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .backfill import ATTEMPTS, message_builder
from .backlog import MAX_AGE_SECONDS, MAX_DEPTH, Backlog
from .comparison import AMBIGUOUS, MISSING, PRESENT, Comparison
from .errors import OK, WRONG
from .files import open_private
from .formats import count, number
from .history import examined_history, history_options
from .options import common, pass_operator, rate, yes
from .sending import Pace, Sender, SqsUnavailableError
from .tenant import Tenant

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .context import Operator
    from .examination import Examination, Judge
    from .sending import Outgoing

_STATES = {PRESENT: "present", AMBIGUOUS: "ambiguous", MISSING: "missing"}
_LINES_SHOWN = 10
# For this few people, a call to find out which way is shorter is not worth it.
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
    """Compare the completions in FILE with Thrive's list: present, ambiguous (at another time) or missing.

    It calls Thrive from this machine with the stack's secret, by person or by time, whichever needs fewer calls.

    \b
    Examples:
      completion-sync reconcile history.csv --report missing.csv
      completion-sync reconcile history.csv --resend --yes
    """
    tenant = Tenant(operator)
    if report:
        # Fail now if the path cannot be written to, not after an hour of calls.
        Path(report).touch(0o600)
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
    """Finds out which rows Thrive holds, in as few calls as possible."""

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
            # If this page is empty, all completions of the time span fit on at most as many pages as there are people.
            if not self._tenant.page(query, users + 1):
                self._read(query, users)
        # A row that was not found in that time span may have been recorded with another time.
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
                    self._comparison.found(page)
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
    output.table(["state", "rows"], [[name, number(counts[state])] for state, name in _STATES.items()], right=[1])
    output.say(f"Thrive was called {count(tenant.calls, 'time')}.")
    if counts[MISSING]:
        rows = comparison.rows(MISSING)
        lines = ", ".join(str(line) for _, (_, line, _) in zip(range(_LINES_SHOWN), rows, strict=False))
        more = " …" if counts[MISSING] > _LINES_SHOWN else ""
        output.warn(f"Missing: line {lines}{more}. --report lists all of them, --resend --yes sends them.")


def _write(path: str, comparison: Comparison) -> None:
    with open_private(Path(path)) as out:
        writer = csv.writer(out)
        writer.writerow(("line", "state"))
        writer.writerows((line, _STATES[state]) for _, line, state in comparison.rows(MISSING, AMBIGUOUS))


def _resend(
    operator: Operator, examination: Examination, judge: Judge, comparison: Comparison, rate: float, *, confirmed: bool
) -> int:
    """Send the missing rows; return how many SQS has accepted."""
    if not confirmed:
        operator.output.say("Nothing was sent; use --yes to do it.")
        return 0
    source = operator.found.source
    pace = Pace(rate, operator.clock)
    sender = Sender(operator.aws.sqs, source.url, pace, operator.clock, operator.stop, attempts=ATTEMPTS)
    backlog = Backlog(operator, source, MAX_DEPTH, MAX_AGE_SECONDS)
    build = message_builder(source.arn, examination.digest, judge)

    def outgoing() -> Iterator[Outgoing]:
        wanted = (row_number for row_number, _, _ in comparison.rows(MISSING))
        following = next(wanted, None)
        for row_number, row in examination.valid_rows():
            if row_number == following:
                following = next(wanted, None)
                yield build(str(row_number), row)

    sent = 0
    with operator.output.progress("sending", comparison.counts()[MISSING]) as bar:
        for batch in sender.batches(outgoing()):
            backlog.wait(len(batch), lambda note: bar.update(sent, note))  # noqa: B023 - called before the next round
            if operator.stop.requested:
                break
            receipts = sender.send(batch)
            sent += sum(receipt.message_id is not None for receipt in receipts)
            bar.update(sent, f"{number(sent)} sent")
            if unavailable := next((receipt for receipt in receipts if receipt.is_temporary), None):
                operator.output.warn(f"{SqsUnavailableError(unavailable.error)} Run the command again.")
                break
    operator.output.say(f"{count(sent, 'missing row')} sent.", "green")
    return sent
