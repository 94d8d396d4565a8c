"""Points in time: which forms are accepted, and that each becomes the same moment in UTC, cut to milliseconds."""

import re
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from completion_sync.errors import ConfigError, InvalidMessageError
from completion_sync.time_format import MAX_LENGTH, TimeFormat, parse_time_format
from completion_sync.timestamps import format_timestamp, utc_timestamp
from tests.support.fakes import COMPLETED_AT

SRC = Path(__file__).resolve().parents[2] / "src"

# By what they become.
ACCEPTED_TIMESTAMPS = {
    "2021-01-01T09:00:00.000Z": [
        *("2021-01-01T09:00:00Z", "2021-01-01T09:00:00.000Z", "2021-01-01t09:00:00z", "2021-01-01 09:00:00Z"),
        *("2021-01-01T09:00Z", "20210101T090000Z", "20210101T0900Z", "2021-01-01T090000Z", "20210101T09:00:00Z"),
        *("2021-01-01T09:00:00.000999Z", "2021-01-01T09:00:00+00:00", "2021-01-01T09:00:00-00:00"),
    ],
    "2023-04-05T06:07:08.009Z": ["2023-04-05T06:07:08.009Z"],
    "2021-01-01T09:00:00.100Z": ["2021-01-01T09:00:00.1Z"],
    "2021-01-01T09:00:00.120Z": ["2021-01-01T09:00:00.12Z"],
    "2021-01-01T09:00:00.123Z": [f"2021-01-01T09:00:00.{digits}Z" for digits in ("123", "1239", "123999", "1239999")],
    "2021-01-01T09:00:00.999Z": [f"2021-01-01T09:00:00.{'9' * length}Z" for length in (9, 30)],
    "2021-01-01T09:00:00.001Z": ["2021-01-01T09:00:00.001Z"],
    "2021-01-01T09:00:00.500Z": ["2021-01-01T09:00:00,5Z", "20210101T090000.50Z"],
    "2021-01-01T07:00:00.000Z": ["2021-01-01T09:00:00+02:00", "2021-01-01T09:00:00+02"],
    "2021-01-01T11:00:00.000Z": ["2021-01-01T09:00:00-02:00"],
    "2021-01-01T03:15:00.000Z": ["2021-01-01T09:00:00+05:45", "20210101T090000+0545"],
    "2021-01-01T12:30:00.000Z": ["2021-01-01T09:00:00-03:30", "2021-01-01T09:00:00-0330"],
    "2020-12-31T23:30:00.000Z": ["2021-01-01T00:30:00+01:00"],
    "2021-01-01T00:30:00.000Z": ["2020-12-31T23:30:00-01:00"],
    "2021-01-01T00:00:00.000Z": ["2021-01-01T23:59:00+23:59"],
    "2021-01-01T23:59:00.000Z": ["2021-01-01T00:00:00-23:59"],
    "2020-02-29T00:00:00.000Z": ["2020-02-29T00:00:00Z"],
    "0001-01-01T00:00:00.000Z": ["0001-01-01T00:00:00Z"],
    "9999-12-31T23:59:59.999Z": ["9999-12-31T23:59:59.999Z", "9999-12-31T23:59:59.9999999Z"],
}

# By what is wrong with them.
REFUSED_TIMESTAMPS = {
    "naive": ["2021-01-01T09:00:00", "2021-01-01T09:00:00.000"],
    "not a date and a time": ["2021-01-01", "20210101", "2021-01-01Z", "09:00:00Z", "2021-01-01T09Z", ""],
    "another form": ["yesterday", "1609491600", "Fri, 01 Jan 2021 09:00:00 GMT", "2021/01/01T09:00:00Z"],
    "another form of ISO 8601": ["2021-W01-5T09:00:00Z", "2021-001T09:00:00Z", "2021-01-01T09:00Z/2021-01-02T09:00Z"],
    "half extended, half basic": [
        *("2021-0101T09:00:00Z", "202101-01T09:00:00Z", "2021-01-01T09:0000Z", "2021-01-01T0900:00Z"),
    ],
    "more or fewer digits": ["2021-1-01T09:00:00Z", "12021-01-01T09:00:00Z", "+2021-01-01T09:00:00Z"],
    "no such year or month": ["0000-01-01T00:00:00Z", "2021-00-01T09:00:00Z", "2021-13-01T09:00:00Z"],
    "no such day": [f"2021-{day}T09:00:00Z" for day in ("01-00", "02-29", "02-30", "04-31")],
    "no such time": [f"2021-01-01T{time}Z" for time in ("24:00:00", "25:00:00", "09:60:00", "09:00:61")],
    "a leap second": ["2016-12-31T23:59:60Z"],
    "a bad fraction": [f"2021-01-01T09:00:00{end}Z" for end in (".", ".,5", "." + "1" * 31)],
    "a fraction of a minute": ["2021-01-01T09:00.5Z"],
    "an offset beyond a day": [f"2021-01-01T09:00:00{offset}" for offset in ("+24:00", "-24:00", "+99:00")],
    "a bad offset": [
        f"2021-01-01T09:00:00{offset}"
        for offset in ("+01:60", "+1", "+013", "+01:00:00", " 01:00", "\u221201:00", " UTC", "Z+01:00")
    ],
    "outside the years 1 to 9999": ["0001-01-01T00:00:00+00:01", "9999-12-31T23:59:59-00:01"],
    "digits and letters beyond ASCII": [
        *("\u0662\u0660\u0662\u0661-01-01T09:00:00Z", "202\uff11-01-01T09:00:00Z", "2021-01-01\uff3409:00:00Z"),
        "2021-01-01T09:00:00+0\uff11:00",
    ],
    "another separator": [f"2021-01-01{separator}09:00:00Z" for separator in ("  ", "\t", "_", "")],
    "something around it": [" 2021-01-01T09:00Z", *(f"2021-01-01T09:00Z{end}" for end in " \n\x00\ud800")],
    "not a string": [None, True, 1609491600, 1609491600.0, [COMPLETED_AT], {"at": COMPLETED_AT}, COMPLETED_AT.encode()],
}
NORMAL_FORM = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{3}Z")


def cases(table):
    """Turn a table into pytest's arguments."""
    return {"argvalues": list(table.values()), "ids": list(table)}


@pytest.mark.parametrize(
    ("text", "expected"), [(text, expected) for expected, texts in ACCEPTED_TIMESTAMPS.items() for text in texts]
)
def test_each_iso_8601_form_with_an_offset_becomes_utc_with_milliseconds(text, expected):
    assert utc_timestamp(text, field="completedAt") == expected


@pytest.mark.parametrize("value", [value for values in REFUSED_TIMESTAMPS.values() for value in values], ids=ascii)
def test_anything_else_is_refused_with_the_field_but_without_the_value(value):
    with pytest.raises(InvalidMessageError) as refused:
        utc_timestamp(value, field="time")
    assert str(refused.value) == (
        "time: must be an ISO 8601 date and time with a UTC offset or Z, such as 2021-01-01T09:00:00Z"
    )


@given(
    moment=st.datetimes(min_value=datetime(2, 1, 1), max_value=datetime(9998, 12, 31)),  # noqa: DTZ001
    offset=st.integers(min_value=-1439, max_value=1439),
)
def test_any_moment_survives(moment, offset):
    aware = moment.replace(tzinfo=timezone(timedelta(minutes=offset)))
    result = utc_timestamp(aware.isoformat(), field="completedAt")
    expected = aware.astimezone(UTC)
    assert datetime.fromisoformat(result) == expected.replace(microsecond=expected.microsecond // 1000 * 1000)
    assert utc_timestamp(result, field="completedAt") == result


@given(st.text(st.sampled_from("0123456789-:TtZz+., \u0661\n"), max_size=40) | st.text(max_size=40))
def test_any_text_is_either_normalised_or_refused(text):
    try:
        assert NORMAL_FORM.fullmatch(utc_timestamp(text, field="completedAt"))
    except InvalidMessageError:
        return


def test_format_timestamp_writes_milliseconds_and_cuts_microseconds():
    assert format_timestamp(datetime(2021, 1, 1, 9, tzinfo=UTC)) == "2021-01-01T09:00:00.000Z"
    assert format_timestamp(datetime(2021, 1, 1, 9, 0, 0, 1999, tzinfo=UTC)) == "2021-01-01T09:00:00.001Z"


# ---- the formats of a mapping


def time_format(name=None, offset=None, zone=None):
    return parse_time_format(name, offset, zone, "completedAt")


SECONDS, MILLISECONDS = time_format("epoch-seconds"), time_format("epoch-milliseconds")
LONDON = time_format("%Y-%m-%d %H:%M", None, "Europe/London")
READ = {
    "iso-8601-by-default": (time_format(), "2021-01-01T10:00+01:00", "2021-01-01T09:00:00.000Z"),
    "seconds": (SECONDS, 1609491600, "2021-01-01T09:00:00.000Z"),
    "seconds-as-digits": (SECONDS, "1609491600", "2021-01-01T09:00:00.000Z"),
    "seconds-with-a-fraction": (SECONDS, 1609491600.123, "2021-01-01T09:00:00.123Z"),
    "seconds-as-the-float-that-is-a-little-less": (SECONDS, 1.001, "1970-01-01T00:00:01.001Z"),
    "seconds-cut": (SECONDS, "1.99999999999999999999", "1970-01-01T00:00:01.999Z"),
    "seconds-of-many-digits-cut": (SECONDS, "1609459200.99999999999999999999", "2021-01-01T00:00:00.999Z"),
    "seconds-before-1970-cut-downwards": (SECONDS, -1.0005, "1969-12-31T23:59:58.999Z"),
    "seconds-of-the-first-moment": (SECONDS, -62135596800, "0001-01-01T00:00:00.000Z"),
    "seconds-of-the-last-moment": (SECONDS, 253402300799.9999, "9999-12-31T23:59:59.999Z"),
    "seconds-in-exponential-form": (SECONDS, 1e-05, "1970-01-01T00:00:00.000Z"),
    "milliseconds": (MILLISECONDS, 1609491600123, "2021-01-01T09:00:00.123Z"),
    "milliseconds-as-digits": (MILLISECONDS, "1609491600123", "2021-01-01T09:00:00.123Z"),
    "milliseconds-cut": (MILLISECONDS, 1609491600123.9, "2021-01-01T09:00:00.123Z"),
    "offset": (time_format("%d.%m.%Y %H:%M %z"), "1.2.2021 10:00 +0100", "2021-02-01T09:00:00.000Z"),
    "Z": (time_format("%Y-%m-%dT%H:%M:%S.%f%z"), "2021-01-01T09:00:00.1239Z", "2021-01-01T09:00:00.123Z"),
    "utcOffset": (time_format("%Y-%m-%d %H:%M:%S", "-03:30"), "2021-01-01 09:00:00", "2021-01-01T12:30:00.000Z"),
    "12-hours": (time_format("%m/%d/%y %I:%M %p", "+00:00"), "1/2/21 9:05 PM", "2021-01-02T21:05:00.000Z"),
    "date": (time_format("%d %b %Y", "+00:00"), "01 Feb 2021", "2021-02-01T00:00:00.000Z"),
    "percent-signs": (time_format("%%%Y%m%d%%", "+00:00"), "%20210101%", "2021-01-01T00:00:00.000Z"),
    "percent-sign": (time_format("%Y%m%d%%z", "+00:00"), "20210101%z", "2021-01-01T00:00:00.000Z"),
    "zone-in-winter": (LONDON, "2021-01-01 09:00", "2021-01-01T09:00:00.000Z"),
    "zone-in-summer": (LONDON, "2021-07-01 09:00", "2021-07-01T08:00:00.000Z"),
    "zone-twice-the-first": (LONDON, "2021-10-31 01:30", "2021-10-31T00:30:00.000Z"),
    "zone-never-as-before-the-change": (LONDON, "2021-03-28 01:30", "2021-03-28T01:30:00.000Z"),
}

NOT_READ = {
    "a-word": ("epoch-seconds", "yesterday"),
    "an-exponent-as-text": ("epoch-seconds", "1e9"),
    "other-digits": ("epoch-seconds", "\u0661"),
    "white-space": ("epoch-seconds", " 1"),
    "an-underscore": ("epoch-seconds", "1_0"),
    "true": ("epoch-seconds", True),
    "null": ("epoch-seconds", None),
    "infinity": ("epoch-seconds", float("inf")),
    "nan": ("epoch-milliseconds", float("nan")),
    "beyond-the-last-year": ("epoch-seconds", 253402300800),
    "before-the-first-year": ("epoch-milliseconds", -62135596800001),
    "thousands-of-digits": ("epoch-seconds", 10**4000),
    "a-huge-float": ("epoch-seconds", 1e300),
    "no-match": ("%Y-%m-%d %z", "2021-01-01"),
    "more-than-the-pattern": ("%Y-%m-%d %z", "2021-01-01 Z!"),
    "no-such-day": ("%Y-%m-%d %z", "2021-02-30 Z"),
    "too-long": ("%Y-%m-%d %z", "2021-01-01" + " " * MAX_LENGTH + "Z"),
    "a-number-for-a-pattern": ("%Y%m%d%z", 20210101),
    "before-the-first-year-by-its-offset": ("%Y-%m-%d %z", "0001-01-01 +0100"),
}

BAD_PATTERNS = {
    "a-word": "iso",
    "no-year": "%d.%m. %z",
    "no-day": "%Y-%m %z",
    "twelve-hours-without-am-or-pm": "%Y-%m-%d %I:%M %z",
    "a-year-of-weeks-with-a-month": "%m%d%A%G%V%z",
    "weeks-without-a-weekday": "%Y-%W %z",
    "a-directive-twice": "%Y-%m-%d %d %z",
    "a-zone-s-name": "%Y-%m-%d %Z",
    "a-locale-s-form": "%c %z",
    "a-directive-of-newer-versions": "%F %z",
    "an-offset-of-newer-versions": "%Y-%m-%d %:z",
    "a-percent-sign-at-the-end": "%Y-%m-%d%",
    "a-null-character": "%Y\x00%m%d",
    "too-long": "%Y-%m-%d" + "x" * MAX_LENGTH,
}
BAD_OFFSETS = ("01:00", "+24:00", "+01:60", 1)
BAD_ZONES = ("Mars/Olympus", "", "../UTC", "/etc/passwd", "Europe", "localtime", "a\0", "\ud800", 5)
REFUSED_FORMATS = {
    "a-number": ((5,), "completedAt.format: must be a string"),
    **{name: ((pattern,), "completedAt.format: must be iso8601, epoch-s") for name, pattern in BAD_PATTERNS.items()},
    "a-pattern-without-a-zone": (("%Y-%m-%d",), "completedAt: a format with %z takes neither"),
    "a-pattern-with-two": (("%Y-%m-%d %z", "+01:00"), "completedAt: a format with %z takes neither"),
    "both": (("%Y-%m-%d", "+01:00", "UTC"), "completedAt: must not have both utcOffset and timeZone"),
    "iso-8601-with-an-offset": (("iso8601", "+01:00"), "completedAt: the format iso8601 takes neither"),
    "epoch-with-a-zone": (("epoch-seconds", None, "UTC"), "completedAt: the format epoch-seconds takes neither"),
    **{
        f"offset-{offset}": (("%Y-%m-%d", offset), "completedAt.utcOffset: must be an offset such as +01:00")
        for offset in BAD_OFFSETS
    },
    **{
        f"zone-{number}": (("%Y-%m-%d", None, zone), "completedAt.timeZone: must be a name from the IANA")
        for number, zone in enumerate(BAD_ZONES)
    },
}


@pytest.mark.parametrize(("how", "value", "expected"), **cases(READ))
def test_a_time_in_its_format_becomes_utc_with_milliseconds(how, value, expected):
    assert how.read(value) == expected


@pytest.mark.parametrize(("name", "value"), **cases(NOT_READ))
def test_a_time_that_does_not_have_its_format_is_refused_with_the_format_but_without_the_value(name, value):
    with pytest.raises(InvalidMessageError) as refused:
        time_format(name).read(value)
    assert str(refused.value) == f"completedAt: must have the format {name}"


@pytest.mark.parametrize(("arguments", "problem"), **cases(REFUSED_FORMATS))
def test_a_format_that_cannot_work_or_differs_between_machines_is_refused(arguments, problem):
    with pytest.raises(ConfigError) as refused:
        time_format(*arguments)
    assert str(refused.value).startswith(problem)
    assert refused.value.__suppress_context__ or refused.value.__context__ is None


def test_a_time_in_a_format_is_utc_wherever_this_runs(monkeypatch):
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    time.tzset()
    try:
        assert LONDON.read("2021-07-01 09:00") == "2021-07-01T08:00:00.000Z"
        assert SECONDS.read(0) == "1970-01-01T00:00:00.000Z"
    finally:
        monkeypatch.undo()
        time.tzset()


@given(
    st.lists(st.sampled_from(["%" + d for d in "YymdBbAajHIpMSfzGVuUWw%ZcF:"] + list(" -T.%\0é")), max_size=9).map(
        "".join
    )
)
def test_any_pattern_is_read_or_refused(pattern):
    try:
        how = time_format(pattern, None if "%z" in pattern.replace("%%", "") else "+00:00")
    except ConfigError:
        return
    moment = datetime(2024, 2, 29, 12, 34, 56, tzinfo=UTC)
    assert how.read(moment.strftime(pattern)).startswith("2024-02-29T")


@given(st.one_of(st.floats(), st.integers(), st.text(max_size=30), st.decimals().map(str)), st.booleans())
def test_any_number_is_a_moment_or_refused(value, in_milliseconds):
    try:
        result = TimeFormat("epoch-milliseconds" if in_milliseconds else "epoch-seconds").read(value)
    except InvalidMessageError:
        return
    assert NORMAL_FORM.fullmatch(result)


def test_time_zones_and_fractions_are_imported_only_where_a_format_needs_them():
    code = """
import sys
from completion_sync.time_format import TimeFormat, parse_time_format
lazy = {"zoneinfo", "fractions", "decimal", "_strptime"}
TimeFormat().read("2021-01-01T09:00:00Z")
assert not lazy & set(sys.modules), lazy & set(sys.modules)
parse_time_format("epoch-seconds", None, None, "").read(1)
parse_time_format("%Y-%m-%d", None, "UTC", "").read("2021-01-01")
assert lazy <= set(sys.modules)
"""
    subprocess.run([sys.executable, "-c", code], env={"PYTHONPATH": str(SRC)}, check=True, timeout=60)
