"""What a command prints: its result on standard output, everything else on standard error."""

from __future__ import annotations

import json
import os
import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeRemainingColumn
from rich.table import Table

from .formats import duration

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

# Without a terminal, tables are not squeezed into 80 columns.
_PIPE_WIDTH = 140
# How often progress is reported without a terminal.
_LINE_SECONDS = 60.0
_STYLES = {"ok": "green", "warning": "yellow", "failed": "bold red", "skipped": "dim"}


class Output:
    """Standard output and standard error of one command."""

    def __init__(self, *, as_json: bool) -> None:
        self.as_json = as_json
        self.err = Console(stderr=True, highlight=False, soft_wrap=True)
        has_width = sys.stdout.isatty() or "COLUMNS" in os.environ
        self.out = Console(highlight=False, width=None if has_width else _PIPE_WIDTH)

    def say(self, text: str, style: str = "") -> None:
        """Print a line on standard error; the text may hold any characters."""
        self.err.print(escape(text), style=style)

    def warn(self, text: str) -> None:
        """Print a highlighted line on standard error."""
        self.say(text, "yellow")

    def result(self, document: Mapping[str, Any]) -> None:
        """Print the one JSON document, if it was asked for."""
        if self.as_json:
            sys.stdout.write(json.dumps(document, ensure_ascii=False, indent=2) + "\n")
            sys.stdout.flush()

    def table(self, columns: Sequence[str], rows: Sequence[Sequence[str]], *, right: Sequence[int] = ()) -> None:
        """Print a table on standard output, unless JSON was asked for; ``right`` lists right-aligned columns."""
        if self.as_json:
            return
        table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 3, 0, 0))
        for index, column in enumerate(columns):
            table.add_column(column, justify="right" if index in right else "left", overflow="fold")
        for row in rows:
            table.add_row(*(escape(cell) for cell in row))
        self.out.print(table)

    def line(self, text: str, style: str = "") -> None:
        """Print a line of the result on standard output, unless JSON was asked for."""
        if not self.as_json:
            self.out.print(escape(text), style=style)

    def status(self, status: str, name: str, detail: str, remedy: str) -> None:
        """Print one check: its status, what was found and what to do."""
        if self.as_json:
            return
        style = _STYLES[status]
        self.out.print(f"[{style}]{status:>8}[/]  [bold]{escape(name):<26}[/]  {escape(detail)}", soft_wrap=True)
        if remedy:
            self.out.print(f"          [cyan]→ {escape(remedy)}[/]", soft_wrap=True)

    @contextmanager
    def progress(self, what: str, total: float | None) -> Iterator[Bar]:
        """Show a progress bar on standard error if that is a terminal, and otherwise a line every minute."""
        columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
        more = (TextColumn("{task.fields[note]}"), TimeRemainingColumn(), TextColumn("left"))
        with Progress(*columns, *more, console=self.err, transient=True, disable=not self.err.is_interactive) as bar:
            yield Bar(bar, what, total, None if self.err.is_interactive else self.say)


class Bar:
    """One progress bar."""

    def __init__(self, progress: Progress, what: str, total: float | None, say: Callable[[str], None] | None) -> None:
        """:param say: prints a line where there is no terminal for a bar."""
        self._progress = progress
        self._task = progress.add_task(escape(what), total=total, note="")
        self._what, self._total, self._say = what, total, say
        self._began = self._said = time.monotonic()

    def update(self, done: float, note: str = "") -> None:
        """Show how much is done, with a note."""
        self._progress.update(self._task, completed=done, note=escape(note))
        now = time.monotonic()
        if self._say is not None and now - self._said >= _LINE_SECONDS:
            self._said = now
            left = (self._total or 0) - done
            hint = f", {duration((now - self._began) * left / done)} left" if done and left > 0 else ""
            self._say(f"{self._what}: {note or f'{done:,.0f}'}{hint}")
