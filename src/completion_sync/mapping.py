"""``mapping.json``: how events of any shape become completions. docs/mapping.md describes the format.

Imported only where a mapping is configured.
"""

from __future__ import annotations

import json
import re
import zoneinfo
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from decimal import Decimal, InvalidOperation
from typing import TYPE_CHECKING, Any

from .completion import build_completion
from .errors import ConfigError, InvalidExpressionError, InvalidMessageError
from .expressions import EvaluationError, Expression
from .outcomes import Ignored
from .timestamps import format_timestamp, utc_timestamp

if TYPE_CHECKING:
    from collections.abc import Mapping as Fields

    from .completion import Completion, Unresolved

FILE = "mapping.json"
MAX_BYTES = 1_000_000
MAX_SOURCES = 100
# A message that holds one of these is meant for us, even if it is malformed.
NATIVE_FIELDS = ("userId", "userRef", "contentId", "contentCode")

_NAME = re.compile(r"[A-Za-z0-9._-]{1,64}")
_UTC_OFFSET = re.compile(r"(?P<sign>[+-])(?P<hours>\d{2}):(?P<minutes>[0-5]\d)", re.ASCII)
_DIGITS = re.compile(r"-?\d{1,20}(\.\d{1,20})?", re.ASCII)
_MAX_DEPTH = 32
# A pattern must be able to carry both.
_SAMPLES = (datetime(2021, 11, 23, 13, 45, 56), datetime(1999, 2, 1, 0, 5, 6))  # noqa: DTZ001 - patterns may lack an offset


@dataclass(frozen=True, slots=True)
class TimeFormat:
    """How ``completedAt`` is written. ``zone`` belongs to a pattern without an offset of its own."""

    name: str
    zone: tzinfo | None = None

    def read(self, value: object) -> str:
        """Return the value as ``YYYY-MM-DDTHH:MM:SS.sssZ`` in UTC.

        :raises InvalidMessageError: it does not have this format.
        """
        if self.name == "iso8601":
            return utc_timestamp(value, field="completedAt")
        try:
            if self.name in _EPOCH_MILLISECONDS:
                milliseconds = int(_number(value) * _EPOCH_MILLISECONDS[self.name] // 1)
                moment = _EPOCH + timedelta(milliseconds=milliseconds)
            else:
                moment = self._strptime(value)
            return format_timestamp(moment.astimezone(UTC))
        except (ValueError, OverflowError, InvalidOperation):
            raise InvalidMessageError(f"completedAt: must have the format {self.name}") from None

    def _strptime(self, value: object) -> datetime:
        if not isinstance(value, str):
            raise ValueError  # noqa: TRY004 - the one error for whatever does not have the format
        moment = datetime.strptime(value, self.name)  # noqa: DTZ007 - the zone follows
        # Of a time that occurs twice, the first: fold is 0.
        return moment if self.zone is None else moment.replace(tzinfo=self.zone)


_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_EPOCH_MILLISECONDS = {"epoch-seconds": 1000, "epoch-milliseconds": 1}


def _number(value: object) -> Decimal:
    if isinstance(value, bool) or not (isinstance(value, (int, float)) or _is_digits(value)):
        raise ValueError
    # By its text, as a float such as 1.001 is a little less than that.
    number = Decimal(str(value))
    if not number.is_finite() or abs(number) > 10**15:
        raise ValueError
    return number


def _is_digits(value: object) -> bool:
    return isinstance(value, str) and _DIGITS.fullmatch(value) is not None


@dataclass(frozen=True, slots=True)
class Source:
    """One kind of event: when it matches, and where its fields are."""

    name: str
    when: Expression | None
    fields: Fields[str, Expression]
    completed_at: Expression | None
    time_format: TimeFormat

    def matches(self, event: object) -> bool:
        """Return whether ``when`` is true for the event.

        :raises EvaluationError: that cannot be said.
        """
        return self.when is None or is_true(self.when.search(event))

    def read(self, event: object, envelope_time: object) -> Completion | Unresolved:
        """Return the completion in the event.

        :raises InvalidMessageError: names the source, the field and what is allowed.
        """
        try:
            values = {name: _evaluate(name, expression, event) for name, expression in self.fields.items()}
            if self.completed_at is not None:
                completed_at = self.time_format.read(_evaluate("completedAt", self.completed_at, event))
            else:
                completed_at = utc_timestamp(envelope_time, field="time")
            return build_completion(values, completed_at)
        except InvalidMessageError as error:
            raise InvalidMessageError(f"source {self.name}: {error}") from None


@dataclass(frozen=True, slots=True)
class Mapping:
    """A compiled mapping."""

    sources: tuple[Source, ...]
    ignores_others: bool

    def read(self, event: dict[str, Any]) -> Completion | Unresolved | Ignored | None:
        """Return what the first matching source makes of an event, whole with its EventBridge envelope if it has one.

        :returns: None: no source matches, so the event is to be read as a native message.
        :raises InvalidMessageError: a source matches, but does not give what a completion needs.
        """
        is_certain = True
        for source in self.sources:
            try:
                is_match = source.matches(event)
            except EvaluationError:
                is_match = is_certain = False
            if is_match:
                return source.read(event, event.get("time") if _is_envelope(event) else None)
        if not (self.ignores_others and is_certain):
            return None
        body = event["detail"] if _is_envelope(event) else event
        is_native = not isinstance(body, dict) or any(name in body for name in NATIVE_FIELDS)
        return None if is_native else Ignored()


def _is_envelope(event: dict[str, Any]) -> bool:
    return "detail-type" in event and "detail" in event


def is_true(value: object) -> bool:
    """Return whether JMESPath calls a value true: not false, null, or an empty string, array or object."""
    return not (value is None or value is False or (isinstance(value, (str, list, dict)) and not value))


def _evaluate(name: str, expression: Expression, event: object) -> Any:
    try:
        return expression.search(event)
    except EvaluationError as error:
        raise InvalidMessageError(f"{name}: the expression {error}") from None


# ---- reading the file


def parse_mapping(data: bytes) -> Mapping:
    """Parse and compile ``mapping.json``.

    :raises ConfigError: names the source, the field and the position, and says what is allowed.
    """
    if len(data) > MAX_BYTES:
        raise _error("", f"must be at most {MAX_BYTES} bytes long")
    document = _object(_json(data), "")
    _only(document, {"version", "sources", "otherwise"}, "")
    if document.get("version") != 1 or isinstance(document["version"], bool):
        raise _error("version", "must be 1")
    sources = document.get("sources", [])
    if not isinstance(sources, list) or len(sources) > MAX_SOURCES:
        raise _error("sources", f"must be an array of at most {MAX_SOURCES} sources")
    otherwise = document.get("otherwise", "native")
    if otherwise not in ("native", "ignore"):
        raise _error("otherwise", 'must be "native" or "ignore"')
    compiled = tuple(_source(source, f"sources[{index}]") for index, source in enumerate(sources))
    names = [source.name for source in compiled]
    for index, name in enumerate(names):
        if name in names[:index]:
            raise _error(f"sources[{index}].name", f"{name} is used twice")
    return Mapping(compiled, otherwise == "ignore")


def _json(data: bytes) -> object:
    try:
        return json.loads(data.decode("utf-8-sig"), object_pairs_hook=_without_duplicates)
    except UnicodeDecodeError as error:
        raise _error("", f"must be UTF-8; byte {error.start + 1} is not") from None
    except json.JSONDecodeError as error:
        raise _error("", f"line {error.lineno}, column {error.colno}: {error.msg}") from None
    except RecursionError:
        raise _error("", "is nested too deeply") from None
    except ValueError:
        raise _error("", "holds a number that is too long") from None


def _without_duplicates(pairs: list[tuple[str, object]]) -> dict[str, object]:
    fields: dict[str, object] = {}
    for name, value in pairs:
        if name in fields:
            raise _error("", f"the key {name[:64]!r} occurs twice in an object")
        fields[name] = value
    return fields


def _source(value: object, place: str) -> Source:
    source = _object(value, place)
    _only(source, {"name", "when", "completedAt", *NATIVE_FIELDS}, place)
    name = source.get("name")
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise _error(f"{place}.name", "must be 1 to 64 letters, digits, dots, hyphens or underscores")
    place = f"{place} ({name})"
    for first, second in (("userId", "userRef"), ("contentId", "contentCode")):
        if (first in source) == (second in source):
            raise _error(place, f"must have exactly one of {first} and {second}")
    fields = {field: _expression(source[field], f"{place}.{field}") for field in NATIVE_FIELDS if field in source}
    when = _expression(source["when"], f"{place}.when") if "when" in source else None
    completed_at, time_format = _completed_at(source.get("completedAt"), f"{place}.completedAt")
    return Source(name, when, fields, completed_at, time_format)


def _completed_at(value: object, place: str) -> tuple[Expression | None, TimeFormat]:
    if value is None:
        return None, TimeFormat("iso8601")
    if isinstance(value, str):
        return _expression(value, place), TimeFormat("iso8601")
    fields = _object(value, place)
    _only(fields, {"expression", "format", "utcOffset", "timeZone"}, place)
    expression = _expression(fields.get("expression"), f"{place}.expression")
    name = fields.get("format", "iso8601")
    if not isinstance(name, str):
        raise _error(f"{place}.format", "must be a string")
    zone = _zone(fields, place)
    if name == "iso8601" or name in _EPOCH_MILLISECONDS:
        if zone is not None:
            raise _error(place, f"the format {name} takes neither utcOffset nor timeZone")
        return expression, TimeFormat(name)
    has_offset = _check_pattern(name, f"{place}.format")
    if has_offset == (zone is not None):
        raise _error(place, "a format with %z takes neither utcOffset nor timeZone, one without %z needs one of them")
    return expression, TimeFormat(name, zone)


def _check_pattern(pattern: str, place: str) -> bool:
    """Check by a round trip that a pattern holds a whole date; return whether it has an offset of its own."""
    for sample in _SAMPLES:
        try:
            read = datetime.strptime(sample.replace(tzinfo=UTC).strftime(pattern), pattern)  # noqa: DTZ007 - compared only
        except ValueError:
            read = None
        # Parts of the time may be absent, but not wrong, as with %I and no %p.
        if read is None or read.date() != sample.date() or read.hour not in (0, sample.hour):
            allowed = "iso8601, epoch-seconds, epoch-milliseconds or a strptime pattern with a whole date"
            raise _error(place, f"must be {allowed}")
    return "%z" in pattern.replace("%%", "")


def _zone(fields: dict[str, Any], place: str) -> tzinfo | None:
    offset, name = fields.get("utcOffset"), fields.get("timeZone")
    if offset is not None and name is not None:
        raise _error(place, "must not have both utcOffset and timeZone")
    if offset is not None:
        match = _UTC_OFFSET.fullmatch(offset) if isinstance(offset, str) else None
        if match is None or int(match["hours"]) > 23:
            raise _error(f"{place}.utcOffset", "must be an offset such as +01:00")
        delta = timedelta(hours=int(match["hours"]), minutes=int(match["minutes"]))
        return timezone(-delta if match["sign"] == "-" else delta)
    if name is not None:
        try:
            return zoneinfo.ZoneInfo(name)
        except (zoneinfo.ZoneInfoNotFoundError, ValueError, TypeError, OSError):
            raise _error(f"{place}.timeZone", "must be a name from the IANA time zone database") from None
    return None


def _expression(value: object, place: str) -> Expression:
    if not isinstance(value, str) or not value.strip():
        raise _error(place, "must be a JMESPath expression")
    try:
        return Expression(value)
    except InvalidExpressionError as error:
        raise _error(place, str(error)) from None


def _object(value: object, place: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise _error(place, "must be a JSON object")
    return value


def _only(fields: dict[str, Any], allowed: set[str], place: str) -> None:
    if unknown := sorted(fields.keys() - allowed):
        raise _error(place, f"does not know {unknown[0][:64]!r}; allowed are {', '.join(sorted(allowed))}")


def _error(place: str, problem: str) -> ConfigError:
    return ConfigError(": ".join(part for part in (FILE, place, problem) if part))
