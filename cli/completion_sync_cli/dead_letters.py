"""`dead-letters`: show, export or delete the messages of the dead-letter queue."""

from __future__ import annotations

import json
import sys
from collections import defaultdict
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

import click

from .context import Operator
from .errors import OK, WRONG, CommandError
from .files import open_private
from .formats import ago, count, iso, number
from .options import common, pass_operator, yes
from .reading import scanning
from .selection import Selection, selectors, undelivered_option

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

    from .letters import Letter
    from .reading import Scan

_BY = ("reason", "status", "detail", "content")
GAVE_UP = "(gave up)"


class _By(click.ParamType[tuple[str, ...]]):
    name = "fields"

    def convert(self, value: Any, parameter: click.Parameter | None, context: click.Context | None) -> tuple[str, ...]:
        chosen = tuple(dict.fromkeys(part.strip() for part in value.split(",")))
        if unknown := [part for part in chosen if part not in _BY]:
            self.fail(f"{unknown[0]!r} is none of {', '.join(_BY)}", parameter, context)
        return chosen


@click.group("dead-letters", invoke_without_command=True)
@click.option("--by", type=_By(), default="reason,status", show_default=True, help=f"Any of {', '.join(_BY)}.")
@undelivered_option
@common
@click.pass_context
def command(context: click.Context, by: tuple[str, ...], *, undelivered: bool) -> int:
    """Show what could not be recorded, in groups: how many, since when, and why.

    Letters are hidden from other readers only while the command runs.

    \b
    Examples:
      completion-sync dead-letters --stack my-stack
      completion-sync dead-letters --by reason,detail
      completion-sync dead-letters show --reason refused --status 404
      completion-sync dead-letters export letters.jsonl
    """
    if context.invoked_subcommand is not None:
        return OK
    operator = context.find_root().ensure_object(Operator)
    groups: defaultdict[tuple[Any, ...], list[datetime]] = defaultdict(list)
    with scanning(operator, undelivered=undelivered) as scan:
        for letter in scan.letters(Selection()):
            groups[tuple(_value(letter, name, scan) for name in by)].append(letter.sent)
    ordered = sorted(groups.items(), key=lambda item: -len(item[1]))
    found = scan.queue_pass
    if ordered:
        operator.output.table(
            [*by, "count", "oldest", "newest"],
            [
                [*map(_cell, key), number(len(sent)), ago(min(sent), operator.now), ago(max(sent), operator.now)]
                for key, sent in ordered
            ],
            right=[len(by)],
        )
    operator.output.say(
        f"{count(found.total, 'letter')} in {count(len(ordered), 'group')}." if ordered else "No letters."
    )
    scan.say_if_incomplete()
    groups_found = [
        {**dict(zip(by, key, strict=True)), "count": len(sent), "oldest": iso(min(sent)), "newest": iso(max(sent))}
        for key, sent in ordered
    ]
    operator.output.result({"total": found.total, "complete": found.is_complete, "groups": groups_found})
    return WRONG if operator.stop.requested else OK


@command.command("show")
@selectors
@click.option(
    "--max", "most", type=click.IntRange(min=1), default=100, show_default=True, help="Show at most this many."
)
@common
@pass_operator
def show(operator: Operator, /, most: int, *, undelivered: bool, **criteria: Any) -> int:
    """List letters with their bodies, which hold personal data.

    \b
    Example:
      completion-sync dead-letters show --reason invalid_message --max 5
    """
    documents: list[dict[str, Any]] = []
    with scanning(operator, undelivered=undelivered) as scan:
        for letter in scan.letters(Selection(**criteria)):
            documents.append(letter.document())
            if len(documents) == most:
                break
    for document in documents:
        why = " ".join(str(part) for part in (document["reason"] or GAVE_UP, document["status"]) if part)
        operator.output.line(f"{document['messageId']}  {document['sentAt']}  {why}", "bold")
        if document["detail"]:
            operator.output.line(f"  {document['detail']}")
        operator.output.line(f"  {document['body']}", "dim")
    operator.output.say(f"{count(len(documents), 'letter')} shown.")
    found = scan.queue_pass
    operator.output.result({"total": found.total, "complete": found.is_complete, "messages": documents})
    return WRONG if operator.stop.requested else OK


@command.command("export")
@click.argument("file", type=click.Path(dir_okay=False, allow_dash=True))
@selectors
@click.option("--overwrite", is_flag=True, help="Replace the file if it exists.")
@common
@pass_operator
def export(operator: Operator, /, file: str, *, overwrite: bool, undelivered: bool, **criteria: Any) -> int:
    """Write letters to FILE as JSON lines (- is standard output). The letters stay in the queue.

    Only you can read the file, because it holds personal data.

    \b
    Example:
      completion-sync dead-letters export letters.jsonl --since 7d
    """
    if file == "-" and operator.as_json:
        raise click.UsageError("- and --json cannot be combined: both write to standard output")
    if file != "-" and Path(file).exists() and not overwrite:
        raise CommandError(f"{file} already exists.", "Choose another name, or use --overwrite.")
    exported = 0
    with scanning(operator, undelivered=undelivered) as scan, _writing(file) as out:
        for letter in scan.letters(Selection(**criteria)):
            out.write(json.dumps(letter.document(), ensure_ascii=False) + "\n")
            exported += 1
    operator.output.say(f"{count(exported, 'letter')} exported to {file}.", "green")
    scan.say_if_incomplete()
    found = scan.queue_pass
    operator.output.result({"total": found.total, "complete": found.is_complete, "exported": exported})
    return WRONG if operator.stop.requested else OK


@command.command("delete")
@selectors
@click.option("--all", "everything", is_flag=True, help="Delete all letters; needed if no other option selects any.")
@yes
@common
@pass_operator
def delete(operator: Operator, /, *, everything: bool, confirmed: bool, undelivered: bool, **criteria: Any) -> int:
    """Delete letters permanently. Their completions will not be recorded anywhere; export them first.

    \b
    Example:
      completion-sync dead-letters delete --reason invalid_message --until 2026-01-31
    """
    selection = Selection(**criteria)
    if selection.is_everything and not everything:
        raise click.UsageError("select letters (--reason, --message-id, …), or use --all")
    matched = failed = 0
    with scanning(operator, undelivered=undelivered) as scan:
        for batch in scan.batches(selection):
            matched += len(batch)
            if confirmed:
                failed += len(scan.queue_pass.delete(batch))
    deleted = matched - failed if confirmed else 0
    if confirmed:
        operator.output.say(f"{count(deleted, 'letter')} deleted.", "green")
    else:
        operator.output.say(f"{count(matched, 'letter')} would be deleted. Nothing was changed; use --yes to do it.")
    if failed:
        operator.output.warn(f"{count(failed, 'letter')} could not be deleted. Run the command again.")
    scan.say_if_incomplete()
    operator.output.result(
        {
            "matched": matched,
            "deleted": deleted,
            "failed": failed,
            "complete": scan.queue_pass.is_complete,
            "dryRun": not confirmed,
        }
    )
    return WRONG if failed or operator.stop.requested else OK


def _value(letter: Letter, name: str, scan: Scan) -> str | int | None:
    if name == "content":
        fields = scan.reader.fields(letter)
        return fields.get("contentId") or fields.get("contentCode")
    value: str | int | None = getattr(letter, name)
    return value


def _cell(value: str | int | None) -> str:
    return "-" if value is None else str(value)


@contextmanager
def _writing(file: str) -> Iterator[TextIO]:
    """Open a private file that appears only once it is complete, or standard output."""
    if file == "-":
        yield sys.stdout
        return
    part = Path(f"{file}.part")
    try:
        with open_private(part) as out:
            yield out
    except BaseException:
        part.unlink(missing_ok=True)
        raise
    part.replace(file)
