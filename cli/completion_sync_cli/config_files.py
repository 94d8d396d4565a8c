"""`config`: check, upload or download the mapping and the content table."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from completion_sync import catalogue, mapping
from completion_sync.completion import Completion, Unresolved
from completion_sync.errors import ConfigError, InvalidMessageError

from .config_source import Store
from .errors import OK, WRONG, CommandError
from .examples import run_examples
from .formats import count
from .options import common, pass_operator, yes

if TYPE_CHECKING:
    from completion_sync.mapping import Mapping

    from .context import Operator

_DIRECTORY = click.Path(file_okay=False, path_type=Path)
# Thrive's own webhook for a completion. Recording it would trigger the next one.
_WEBHOOK = {
    "eventType": "content.completed",
    "tenantId": "eu-west-2_AbcdEfghI",
    "user": {"id": "646767d82535201223349e09", "reference": "E-1", "email": "a@example.com"},
    "content": {"id": "64a1b2c3d4e5f6789abcdef0", "title": "Title", "type": "course", "urls": {}},
    "createdAt": "2021-01-01T09:00:00.000Z",
    "dispatchedAt": "2021-01-01T09:00:01.000Z",
}
_WARNING = "warning: "


@click.group("config")
@common
def command() -> None:
    """Check, upload or download the mapping (mapping.json) and the content table (content.csv).

    \b
    Examples:
      completion-sync config pull config/
      completion-sync config validate config/
      completion-sync config push config/ --yes
    """


@dataclass
class Verdict:
    """What is wrong with the files of a directory. A problem that begins with "warning" does not make them invalid."""

    files: dict[str, bytes]
    problems: list[str]

    @property
    def is_valid(self) -> bool:
        """Whether the files may be used."""
        return all(problem.startswith(_WARNING) for problem in self.problems)

    def document(self) -> dict[str, Any]:
        """Return it as JSON shows it."""
        return {"valid": self.is_valid, "problems": self.problems}


@command.command("validate")
@click.argument("directory", type=_DIRECTORY)
@common
@pass_operator
def validate(operator: Operator, /, directory: Path) -> int:
    """Check the files in DIRECTORY, and run its examples. This needs no stack and no network.

    \b
    Example:
      completion-sync config validate config/
    """
    verdict = examine(directory)
    _report(operator, verdict)
    operator.output.result(verdict.document())
    return OK if verdict.is_valid else WRONG


@command.command("push")
@click.argument("directory", type=_DIRECTORY)
@yes
@common
@pass_operator
def push(operator: Operator, /, directory: Path, *, confirmed: bool) -> int:
    """Check the files in DIRECTORY and upload those that differ. The function uses them within CONFIG_MAX_AGE_SECONDS.

    \b
    Examples:
      completion-sync config push config/          # dry run
      completion-sync config push config/ --yes
    """
    verdict = examine(directory)
    _report(operator, verdict)
    store = _store(operator)
    changes: dict[str, str] = {}
    if verdict.is_valid:
        present = store.list()
        for name, data in verdict.files.items():
            changes[name] = _change(name, data, present, store)
            if changes[name] != "unchanged" and confirmed:
                store.write(name, data, present.get(name))
            operator.output.say(f"{changes[name]:>9}  {store.uri}{name}")
        for name in sorted(present.keys() - verdict.files.keys()):
            operator.output.warn(f"{store.uri}{name} is kept: {directory} has no such file.")
        if not confirmed and set(changes.values()) - {"unchanged"}:
            operator.output.say("Nothing was changed; use --yes to do it.")
    operator.output.result(verdict.document())
    return OK if verdict.is_valid else WRONG


@command.command("pull")
@click.argument("directory", type=_DIRECTORY)
@yes
@common
@pass_operator
def pull(operator: Operator, /, directory: Path, *, confirmed: bool) -> int:
    """Download the stack's files to DIRECTORY. A local file that differs is replaced only with --yes.

    \b
    Example:
      completion-sync config pull config/
    """
    store = _store(operator)
    fetched = {name: store.read(name) for name in sorted(store.list())}
    if not fetched:
        raise CommandError(
            f"{store.uri} has neither {mapping.FILE} nor {catalogue.FILE}.",
            "completion-sync config push DIR --yes",
            status=WRONG,
        )
    directory.mkdir(parents=True, exist_ok=True)
    changes: dict[str, str] = {}
    for name, data in fetched.items():
        path = directory / name
        if path.exists() and path.read_bytes() == data:
            changes[name] = "unchanged"
        elif path.exists() and not confirmed:
            changes[name] = "differs"
        else:
            changes[name] = "replaced" if path.exists() else "new"
            path.write_bytes(data)
        operator.output.say(f"{changes[name]:>9}  {path}")
    kept = "differs" in changes.values()
    if kept:
        operator.output.warn("Files that differ were not replaced; use --yes to do it.")
    operator.output.result(examine(directory).document())
    return WRONG if kept else OK


def examine(directory: Path) -> Verdict:
    """Read and check the files of a directory.

    :raises CommandError: it has neither file.
    """
    files = {
        name: (directory / name).read_bytes() for name in (catalogue.FILE, mapping.FILE) if (directory / name).is_file()
    }
    if not files:
        raise CommandError(f"{directory} has neither {mapping.FILE} nor {catalogue.FILE}.")
    problems: list[str] = []
    try:
        if catalogue.FILE in files:
            catalogue.parse_table(files[catalogue.FILE])
    except ConfigError as error:
        problems.append(str(error))
    try:
        if mapping.FILE in files:
            parsed = mapping.parse_mapping(files[mapping.FILE])
            problems += _loops(parsed)
            problems += [
                f"examples/{name} {text}" for name, text in run_examples(parsed, directory / "examples").problems
            ]
    except ConfigError as error:
        problems.append(str(error))
    return Verdict(files, problems)


def _loops(mapping: Mapping) -> list[str]:
    """Return a warning if the mapping accepts Thrive's own webhooks."""
    try:
        is_taken = isinstance(mapping.read(_WEBHOOK, is_envelope=False), (Completion, Unresolved))
    except InvalidMessageError:
        is_taken = False
    if not is_taken:
        return []
    return [f"{_WARNING}mapping.json accepts Thrive's own completion webhooks: recording them would cause a loop"]


def _store(operator: Operator) -> Store:
    if operator.settings.config_uri is None:
        name = operator.found.name
        raise CommandError(f"The stack {name} has no CONFIG_URI.", "Deploy it with ConfigUri=s3://bucket/prefix/.")
    return Store(operator.aws.s3, operator.settings.config_uri)


def _change(name: str, data: bytes, present: dict[str, str], store: Store) -> str:
    if name not in present:
        return "new"
    # The ETag of an object that was uploaded in one piece, without a KMS key, is its MD5.
    is_same = present[name].strip('"') == hashlib.md5(data, usedforsecurity=False).hexdigest()
    return "unchanged" if is_same or store.read(name) == data else "replaced"


def _report(operator: Operator, verdict: Verdict) -> None:
    for problem in verdict.problems:
        operator.output.line(problem, "yellow" if problem.startswith(_WARNING) else "red")
    if verdict.is_valid:
        operator.output.say(f"{count(len(verdict.files), 'file')} valid.", "green")
