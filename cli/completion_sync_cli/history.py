"""The options that name a history, and the check of all its rows before anything else happens."""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from . import sources
from .config_source import StackConfig
from .examination import Judge, Rejects, examined
from .formats import count, number

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from .context import Operator
    from .examination import Examination
    from .rows import Format

F = TypeVar("F", bound="Callable[..., Any]")


def history_options(function: F) -> F:
    """Add FILE, --format and --rejects."""
    for option in (
        click.option(
            "--format", "kind", type=click.Choice(["csv", "jsonl"]), help="Needed only if FILE's name does not show it."
        ),
        click.option("--rejects", metavar="PATH", help="Where to write rejected rows.  [default: FILE.rejects.csv]"),
        click.argument("file"),
    ):
        function = option(function)
    return function


@contextmanager
def examined_history(
    operator: Operator, file: str, kind: Format | None, rejects: str | None
) -> Iterator[tuple[Examination, Judge, Rejects]]:
    """Check all rows of a file; say how many are valid, and why the others are not."""
    output = operator.output
    judge = Judge(StackConfig(operator.aws, operator.settings, operator.clock))
    with ExitStack() as cleanup:
        source = cleanup.enter_context(sources.opened(file, lambda: operator.aws))
        rejected = cleanup.enter_context(Rejects(Path(rejects or f"{source.local}.rejects.csv")))
        with output.progress("checking", source.size) as bar:
            examination = cleanup.enter_context(
                examined(source, kind, judge, rejected, bar, lambda: operator.stop.requested)
            )
        _say(operator, examination, rejected.path)
        yield examination, judge, rejected


def _say(operator: Operator, examination: Examination, path: Path) -> None:
    rejected, output = examination.rejected, operator.output
    output.say(f"{count(examination.rows, 'row')}, {number(examination.valid)} of them valid.")
    if rejected:
        reasons = ", ".join(f"{number(found)} {reason}" for reason, found in sorted(examination.reasons.items()))
        output.warn(f"{count(rejected, 'row')} rejected ({reasons}): see {path}.")
