"""Runs the examples of a mapping: each ``NAME.json`` must have the outcome in ``NAME.expected.json``."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from completion_sync.completion import Completion, Unresolved
from completion_sync.errors import InvalidMessageError
from completion_sync.events import read_body
from completion_sync.outcomes import Ignored

if TYPE_CHECKING:
    from pathlib import Path

    from completion_sync.mapping import Mapping

EXPECTED = ".expected.json"
# Not shown in problems, because they identify people.
_PERSONAL = frozenset({"userId", "userRef"})


@dataclass(frozen=True, slots=True)
class Report:
    """How many examples were run, and the problems: the file's name and a sentence."""

    count: int
    problems: list[tuple[str, str]]


def run_examples(mapping: Mapping, folder: Path) -> Report:
    """Run all examples in a folder, which need not exist.

    :raises OSError: a file cannot be read.
    """
    files = {path.name: path for path in folder.glob("*.json")}
    names = sorted(name for name in files if not name.endswith(EXPECTED))
    problems = []
    for name in names:
        expected = files.pop(name.removesuffix(".json") + EXPECTED, None)
        del files[name]
        problem = f"has no {EXPECTED} beside it" if expected is None else _compare(mapping, folder / name, expected)
        if problem:
            problems.append((name, problem))
    problems += [(name, "has no example beside it") for name in sorted(files)]
    return Report(len(names), problems)


def outcome_of(mapping: Mapping, body: str) -> dict[str, str]:
    """Return what a message with this body holds, in the form of ``NAME.expected.json``.

    ``{"outcome": "completion", "userRef": …, "contentCode": …, "completedAt": …}`` (or ``userId``, ``contentId``),
    ``{"outcome": "ignored"}``, or ``{"outcome": "invalid_message", "detail": …}``.
    """
    try:
        content = read_body(body, mapping=mapping)
    except InvalidMessageError as error:
        return {"outcome": "invalid_message", "detail": str(error)}
    match content:
        case Ignored():
            return {"outcome": "ignored"}
        case Completion():
            fields: dict[str, str | None] = {"userId": content.user_id, "contentId": content.content_id}
        case Unresolved():
            fields = {
                "userId": content.user_id,
                "userRef": content.user_ref,
                "contentId": content.content_id,
                "contentCode": content.content_code,
            }
    found = {name: value for name, value in fields.items() if value is not None}
    return {"outcome": "completion", **found, "completedAt": content.completed_at}


def _compare(mapping: Mapping, example: Path, expected_file: Path) -> str | None:
    try:
        expected = json.loads(expected_file.read_bytes())
    except ValueError:
        return f"{expected_file.name} is not JSON"
    if not isinstance(expected, dict):
        return f"{expected_file.name} is not a JSON object"
    actual: dict[str, Any] = outcome_of(mapping, example.read_text("utf-8-sig", errors="surrogateescape"))
    different = [name for name in {**actual, **expected} if actual.get(name) != expected.get(name)]
    return "; ".join(_difference(name, actual.get(name), expected.get(name)) for name in different) or None


def _difference(name: str, actual: object, expected: object) -> str:
    if name in _PERSONAL:
        return f"{name} is not the expected one"
    return f"{name} is {json.dumps(actual)}, not {json.dumps(expected)}"
