"""``completedAt`` in a mapping: the formats of time that source systems use."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from typing import TYPE_CHECKING

from .errors import ConfigError, InvalidMessageError
from .timestamps import format_timestamp, utc_timestamp

if TYPE_CHECKING:
    from fractions import Fraction

ISO_8601 = "iso8601"
MAX_LENGTH = 128

# Ticks in a second.
_EPOCHS = {"epoch-seconds": 1, "epoch-milliseconds": 1000}
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_DECIMAL = re.compile(r"-?\d{1,20}(\.\d{1,20})?", re.ASCII)
_UTC_OFFSET = re.compile(r"(?P<sign>[+-])(?P<hours>[01]\d|2[0-3]):(?P<minutes>[0-5]\d)", re.ASCII)
# Links that a system may have to its own time zone.
_LOCAL_ZONES = frozenset({"localtime", "posixrules"})

_DIRECTIVE = re.compile("%(.)", re.DOTALL)
# Those that mean the same in Python 3.11 to 3.14 and on any machine: not %Z, %c, %x and %X, which depend on it, nor any
# that is newer.
_DIRECTIVES = frozenset("YymdBbAajHIpMSfzGVuUWw%")
# A pattern must be able to hold all of these.
_SAMPLES = (
    datetime(2021, 11, 23, 13, 45, 56, tzinfo=UTC),
    datetime(1999, 2, 1, 0, 5, 6, tzinfo=UTC),
    datetime(2020, 2, 29, 12, tzinfo=UTC),
)
_FORMATS_ALLOWED = (
    "must be iso8601, epoch-seconds, epoch-milliseconds or a strptime pattern that has a whole date, "
    "and no directive twice or other than %" + " %".join(sorted(_DIRECTIVES))
)


@dataclass(frozen=True, slots=True)
class TimeFormat:
    """How a time is written. ``zone`` belongs to a pattern without an offset of its own."""

    name: str = ISO_8601
    zone: tzinfo | None = None

    def read(self, value: object) -> str:
        """Return the value as ``YYYY-MM-DDTHH:MM:SS.sssZ`` in UTC; digits beyond milliseconds are cut off.

        :raises InvalidMessageError: it does not have this format.
        """
        if self.name == ISO_8601:
            return utc_timestamp(value, field="completedAt")
        try:
            if self.name in _EPOCHS:
                moment = _EPOCH + timedelta(milliseconds=math.floor(_number(value) * 1000 / _EPOCHS[self.name]))
            else:
                moment = self._strptime(value)
            return format_timestamp(moment.astimezone(UTC))
        except (ValueError, OverflowError):
            raise InvalidMessageError(f"completedAt: must have the format {self.name}") from None

    def _strptime(self, value: object) -> datetime:
        if not isinstance(value, str) or len(value) > MAX_LENGTH:
            raise ValueError
        moment = datetime.strptime(value, self.name)  # noqa: DTZ007 - the zone follows
        # Of a time that occurs twice, the first: fold is 0.
        return moment if self.zone is None else moment.replace(tzinfo=self.zone)


def _number(value: object) -> Fraction:
    """Return a number exactly as it is written: the float 1.001 itself is a little less than that."""
    from fractions import Fraction  # noqa: PLC0415 - it imports decimal; most mappings need neither

    if isinstance(value, str) and _DECIMAL.fullmatch(value):
        return Fraction(value)
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return Fraction(value if isinstance(value, int) else repr(value))
    raise ValueError


def parse_time_format(name: object, offset: object, zone_name: object, place: str) -> TimeFormat:
    """Return the format with the ``format``, ``utcOffset`` and ``timeZone`` of a mapping; None is absent.

    :raises ConfigError: names the field, which is at ``place``, and says what is allowed.
    """
    if name is None:
        name = ISO_8601
    if not isinstance(name, str):
        raise ConfigError(f"{place}.format: must be a string")
    if offset is not None and zone_name is not None:
        raise ConfigError(f"{place}: must not have both utcOffset and timeZone")
    zone = _offset(offset, place) if offset is not None else _zone(zone_name, place) if zone_name is not None else None
    if name == ISO_8601 or name in _EPOCHS:
        if zone is not None:
            raise ConfigError(f"{place}: the format {name} takes neither utcOffset nor timeZone")
    elif _has_offset(name, place) == (zone is not None):
        problem = "a format with %z takes neither utcOffset nor timeZone, one without %z needs one of them"
        raise ConfigError(f"{place}: {problem}")
    return TimeFormat(name, zone)


def _has_offset(pattern: str, place: str) -> bool:
    """Check that a pattern can hold a whole date, by a round trip; return whether it has an offset of its own."""
    directives = _DIRECTIVE.findall(pattern)
    fields = [directive for directive in directives if directive != "%"]
    is_allowed = len(pattern) <= MAX_LENGTH and _DIRECTIVES.issuperset(directives) and len(fields) == len(set(fields))
    # Without a year, newer versions of Python warn or refuse.
    if not (is_allowed and {"Y", "y", "G"}.intersection(fields)):
        raise ConfigError(f"{place}.format: {_FORMATS_ALLOWED}")
    for sample in _SAMPLES:
        try:
            moment = datetime.strptime(sample.strftime(pattern), pattern)  # noqa: DTZ007 - compared only
        except ValueError:
            moment = None
        # Parts of the time may be absent, but not wrong, as with %I and no %p.
        if moment is None or moment.date() != sample.date() or moment.hour not in (0, sample.hour):
            raise ConfigError(f"{place}.format: {_FORMATS_ALLOWED}")
    return "z" in fields


def _offset(value: object, place: str) -> timezone:
    match = _UTC_OFFSET.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        raise ConfigError(f"{place}.utcOffset: must be an offset such as +01:00")
    delta = timedelta(hours=int(match["hours"]), minutes=int(match["minutes"]))
    return timezone(-delta if match["sign"] == "-" else delta)


def _zone(name: object, place: str) -> tzinfo:
    import zoneinfo  # noqa: PLC0415 - only where it is used

    problem = f"{place}.timeZone: must be a name from the IANA time zone database, such as Europe/London"
    if not isinstance(name, str) or name in _LOCAL_ZONES:
        raise ConfigError(problem)
    try:
        return zoneinfo.ZoneInfo(name)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
        raise ConfigError(problem) from None
