"""``mapping.json``: how events of any shape become completions. docs/mapping.md describes the format.

Imported only where a mapping is configured.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .completion import build_completion
from .errors import ConfigError, InvalidExpressionError, InvalidMessageError
from .expressions import Budget, EvaluationError, Expression
from .outcomes import Ignored
from .time_format import TimeFormat, parse_time_format
from .timestamps import utc_timestamp

if TYPE_CHECKING:
    from collections.abc import Mapping as Fields

    from .completion import Completion, Unresolved

FILE = "mapping.json"
MAX_BYTES = 1_000_000
MAX_SOURCES = 1000
MAX_NAME_LENGTH = 64
# A message that holds one of these is meant for us, even if it is malformed.
NATIVE_FIELDS = ("userId", "userRef", "contentId", "contentCode")


@dataclass(frozen=True, slots=True)
class Source:
    """One kind of event: when it matches, and where its fields are.

    Without ``when`` it matches every event. Without ``completed_at`` the time is that of the EventBridge event.
    """

    name: str
    when: Expression | None
    fields: Fields[str, Expression]
    completed_at: Expression | None
    time_format: TimeFormat

    def matches(self, event: object, budget: Budget) -> bool:
        """Return whether ``when`` is true for the event.

        :raises EvaluationError: that cannot be said.
        """
        return self.when is None or is_true(self.when.search(event, budget))

    def read(self, event: object, envelope_time: object, budget: Budget) -> Completion | Unresolved:
        """Return the completion in the event.

        :raises InvalidMessageError: names the source, the field and what is allowed.
        """
        try:
            values = {name: _evaluate(name, expression, event, budget) for name, expression in self.fields.items()}
            return build_completion(values, self._time(event, envelope_time, budget))
        except InvalidMessageError as error:
            raise InvalidMessageError(f"source {self.name}: {error}") from None

    def _time(self, event: object, envelope_time: object, budget: Budget) -> str:
        if self.completed_at is not None:
            return self.time_format.read(_evaluate("completedAt", self.completed_at, event, budget))
        if envelope_time is None:
            raise InvalidMessageError("completedAt: needs an expression, as the event has no time of EventBridge's")
        return utc_timestamp(envelope_time, field="time")


@dataclass(frozen=True, slots=True)
class Mapping:
    """A compiled mapping."""

    sources: tuple[Source, ...]
    ignores_others: bool

    def read(self, event: dict[str, Any], *, is_envelope: bool) -> Completion | Unresolved | Ignored | None:
        """Return what the first matching source makes of an event.

        :param is_envelope: the event is a whole EventBridge event, not only its ``detail``.
        :returns: None: no source matches, so the event is to be read as a native message.
        :raises InvalidMessageError: a source matches, but does not give what a completion needs.
        """
        budget = Budget()
        is_certain = True
        for source in self.sources:
            try:
                is_match = source.matches(event, budget)
            except EvaluationError:
                is_match = is_certain = False
            if is_match:
                return source.read(event, event.get("time") if is_envelope else None, budget)
        body = event["detail"] if is_envelope else event
        return Ignored() if self.ignores_others and is_certain and not _is_native(body) else None


def is_true(value: object) -> bool:
    """Return whether JMESPath calls a value true: not false, null, or an empty string, array or object."""
    return not (value is None or value is False or (isinstance(value, (str, list, dict)) and not value))


def _evaluate(name: str, expression: Expression, event: object, budget: Budget) -> Any:
    """Return the value of a field: neither null nor an array."""
    try:
        value = expression.search(event, budget)
    except EvaluationError as error:
        raise InvalidMessageError(f"{name}: the expression {error}") from None
    if value is None:
        raise InvalidMessageError(f"{name}: is missing, as the expression finds nothing in the event")
    if isinstance(value, list):
        raise InvalidMessageError(f"{name}: must not be an array, as each message must hold exactly one completion")
    return value


def _is_native(body: object) -> bool:
    return not isinstance(body, dict) or any(name in body for name in NATIVE_FIELDS)


# ---- reading the file


def parse_mapping(data: bytes) -> Mapping:
    """Parse and compile ``mapping.json``.

    :raises ConfigError: names the source, the field and the position, and says what is allowed.
    """
    try:
        return _mapping(data)
    except ConfigError as error:
        raise ConfigError(f"{FILE}: {error}") from None


def _mapping(data: bytes) -> Mapping:
    if len(data) > MAX_BYTES:
        raise ConfigError(f"must be at most {MAX_BYTES} bytes long")
    document = _json(data)
    if not isinstance(document, dict):
        raise ConfigError("must be a JSON object")
    _check_keys(document, {"version", "sources", "otherwise"}, "")
    version = document.get("version")
    if version != 1 or isinstance(version, bool):
        raise ConfigError("version: must be 1")
    sources = document.get("sources", [])
    if not isinstance(sources, list) or len(sources) > MAX_SOURCES:
        raise ConfigError(f"sources: must be an array of at most {MAX_SOURCES} sources")
    otherwise = document.get("otherwise", "native")
    if otherwise not in ("native", "ignore"):
        raise ConfigError('otherwise: must be "native" or "ignore"')
    compiled: dict[str, Source] = {}
    for index, item in enumerate(sources):
        source = _source(item, f"sources[{index}]")
        if source.name in compiled:
            raise ConfigError(f"sources[{index}].name: {source.name} is the name of another source, too")
        compiled[source.name] = source
    return Mapping(tuple(compiled.values()), otherwise == "ignore")


def _json(data: bytes) -> object:
    try:
        return json.loads(data.decode("utf-8-sig"), object_pairs_hook=_without_duplicates)
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        problem = f"line {line}: must be UTF-8"
    except json.JSONDecodeError as error:
        problem = f"line {error.lineno}, column {error.colno}: {error.msg}"
    except RecursionError:
        problem = "must not be nested so deeply"
    except ValueError:
        problem = "must not hold a number of thousands of digits"
    raise ConfigError(problem)


def _without_duplicates(pairs: list[tuple[str, object]]) -> dict[str, object]:
    fields: dict[str, object] = {}
    for name, value in pairs:
        if name in fields:
            raise ConfigError(f"must not hold the key {_quote(name)} twice in one object")
        fields[name] = value
    return fields


def _source(value: object, place: str) -> Source:
    if not isinstance(value, dict):
        raise ConfigError(f"{place}: must be a JSON object")
    name = value.get("name")
    if not isinstance(name, str) or not 0 < len(name) <= MAX_NAME_LENGTH or not name.isprintable():
        raise ConfigError(f"{place}.name: must be a string of 1 to {MAX_NAME_LENGTH} printable characters")
    place = f"{place} ({name})"
    _check_keys(value, {"name", "when", "completedAt", *NATIVE_FIELDS}, place)
    for first, second in (("userId", "userRef"), ("contentId", "contentCode")):
        if (first in value) == (second in value):
            raise ConfigError(f"{place}: must have exactly one of {first} and {second}")
    when = _expression(value["when"], f"{place}.when") if "when" in value else None
    fields = {field: _expression(value[field], f"{place}.{field}") for field in NATIVE_FIELDS if field in value}
    completed_at, time_format = None, TimeFormat()
    if "completedAt" in value:
        completed_at, time_format = _completed_at(value["completedAt"], f"{place}.completedAt")
    return Source(name, when, fields, completed_at, time_format)


def _completed_at(value: object, place: str) -> tuple[Expression, TimeFormat]:
    if not isinstance(value, dict):
        return _expression(value, place), TimeFormat()
    _check_keys(value, {"expression", "format", "utcOffset", "timeZone"}, place)
    expression = _expression(value.get("expression"), f"{place}.expression")
    return expression, parse_time_format(value.get("format"), value.get("utcOffset"), value.get("timeZone"), place)


def _expression(value: object, place: str) -> Expression:
    if not isinstance(value, str) or not value.strip():
        raise ConfigError(f"{place}: must be a JMESPath expression")
    try:
        return Expression(value)
    except InvalidExpressionError as error:
        raise ConfigError(f"{place}: {error}") from None


def _check_keys(fields: dict[str, Any], allowed: set[str], place: str) -> None:
    if unknown := sorted(fields.keys() - allowed):
        problem = f"has the unknown key {_quote(unknown[0])}; allowed are {', '.join(sorted(allowed))}"
        raise ConfigError(f"{place}: {problem}" if place else problem)


def _quote(key: str) -> str:
    return ascii(key[:MAX_NAME_LENGTH])
