"""Points in time: which forms are accepted, and that each becomes the same moment in UTC, cut to milliseconds."""

import re
import subprocess
import sys
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

ACCEPTED_TIMESTAMPS = {
    "as-in-the-contract": ("2021-01-01T09:00:00Z", "2021-01-01T09:00:00.000Z"),
    "normalised-already": ("2021-01-01T09:00:00.000Z", "2021-01-01T09:00:00.000Z"),
    "small-letters": ("2021-01-01t09:00:00z", "2021-01-01T09:00:00.000Z"),
    "space-for-T": ("2021-01-01 09:00:00Z", "2021-01-01T09:00:00.000Z"),
    "without-seconds": ("2021-01-01T09:00Z", "2021-01-01T09:00:00.000Z"),
    "basic": ("20210101T090000Z", "2021-01-01T09:00:00.000Z"),
    "basic-without-seconds": ("20210101T0900Z", "2021-01-01T09:00:00.000Z"),
    "basic-with-fraction": ("20210101T090000.25Z", "2021-01-01T09:00:00.250Z"),
    "basic-with-offset": ("20210101T090000+0530", "2021-01-01T03:30:00.000Z"),
    "extended-date-basic-time": ("2021-01-01T090000Z", "2021-01-01T09:00:00.000Z"),
    "basic-date-extended-time": ("20210101T09:00:00Z", "2021-01-01T09:00:00.000Z"),
    "each-field-in-its-place": ("2023-04-05T06:07:08.009Z", "2023-04-05T06:07:08.009Z"),
    "fraction-1-digit": ("2021-01-01T09:00:00.1Z", "2021-01-01T09:00:00.100Z"),
    "fraction-2-digits": ("2021-01-01T09:00:00.12Z", "2021-01-01T09:00:00.120Z"),
    "fraction-3-digits": ("2021-01-01T09:00:00.123Z", "2021-01-01T09:00:00.123Z"),
    "fraction-4-digits-cut": ("2021-01-01T09:00:00.1239Z", "2021-01-01T09:00:00.123Z"),
    "fraction-6-digits-cut": ("2021-01-01T09:00:00.123999Z", "2021-01-01T09:00:00.123Z"),
    "fraction-7-digits-cut": ("2021-01-01T09:00:00.1239999Z", "2021-01-01T09:00:00.123Z"),
    "fraction-9-digits-cut": ("2021-01-01T09:00:00.999999999Z", "2021-01-01T09:00:00.999Z"),
    "fraction-30-digits-cut": (f"2021-01-01T09:00:00.{'9' * 30}Z", "2021-01-01T09:00:00.999Z"),
    "fraction-leading-zeros": ("2021-01-01T09:00:00.001Z", "2021-01-01T09:00:00.001Z"),
    "fraction-below-a-millisecond": ("2021-01-01T09:00:00.000999Z", "2021-01-01T09:00:00.000Z"),
    "fraction-with-comma": ("2021-01-01T09:00:00,5Z", "2021-01-01T09:00:00.500Z"),
    "offset-zero": ("2021-01-01T09:00:00+00:00", "2021-01-01T09:00:00.000Z"),
    "offset-minus-zero": ("2021-01-01T09:00:00-00:00", "2021-01-01T09:00:00.000Z"),
    "offset-east": ("2021-01-01T09:00:00+02:00", "2021-01-01T07:00:00.000Z"),
    "offset-west": ("2021-01-01T09:00:00-02:00", "2021-01-01T11:00:00.000Z"),
    "offset-east-minutes": ("2021-01-01T09:00:00+05:45", "2021-01-01T03:15:00.000Z"),
    "offset-west-minutes": ("2021-01-01T09:00:00-03:30", "2021-01-01T12:30:00.000Z"),
    "offset-hours-alone": ("2021-01-01T09:00:00+02", "2021-01-01T07:00:00.000Z"),
    "offset-without-colon": ("2021-01-01T09:00:00-0330", "2021-01-01T12:30:00.000Z"),
    "offset-into-the-day-before": ("2021-01-01T00:30:00+01:00", "2020-12-31T23:30:00.000Z"),
    "offset-into-the-day-after": ("2020-12-31T23:30:00-01:00", "2021-01-01T00:30:00.000Z"),
    "offset-largest": ("2021-01-01T23:59:00+23:59", "2021-01-01T00:00:00.000Z"),
    "offset-smallest": ("2021-01-01T00:00:00-23:59", "2021-01-01T23:59:00.000Z"),
    "offset-minutes-59": ("2021-01-01T09:00:00+00:59", "2021-01-01T08:01:00.000Z"),
    "leap-day": ("2020-02-29T00:00:00Z", "2020-02-29T00:00:00.000Z"),
    "year-1": ("0001-01-01T00:00:00Z", "0001-01-01T00:00:00.000Z"),
    "year-9999": ("9999-12-31T23:59:59.999Z", "9999-12-31T23:59:59.999Z"),
    "year-9999-is-not-rounded-up": ("9999-12-31T23:59:59.9999999Z", "9999-12-31T23:59:59.999Z"),
}

REFUSED_TIMESTAMPS = {
    "naive": "2021-01-01T09:00:00",
    "naive-with-fraction": "2021-01-01T09:00:00.000",
    "date-alone": "2021-01-01",
    "basic-date-alone": "20210101",
    "date-with-Z": "2021-01-01Z",
    "time-alone": "09:00:00Z",
    "hour-alone": "2021-01-01T09Z",
    "empty": "",
    "words": "yesterday",
    "seconds-since-the-epoch": "1609491600",
    "rfc-2822": "Fri, 01 Jan 2021 09:00:00 GMT",
    "week-date": "2021-W01-5T09:00:00Z",
    "ordinal-date": "2021-001T09:00:00Z",
    "mixed-within-the-date": "2021-0101T09:00:00Z",
    "mixed-within-the-date-other": "202101-01T09:00:00Z",
    "mixed-within-the-time": "2021-01-01T09:0000Z",
    "mixed-within-the-time-other": "2021-01-01T0900:00Z",
    "one-digit-month": "2021-1-01T09:00:00Z",
    "five-digit-year": "12021-01-01T09:00:00Z",
    "signed-year": "+2021-01-01T09:00:00Z",
    "year-0": "0000-01-01T00:00:00Z",
    "month-0": "2021-00-01T09:00:00Z",
    "month-13": "2021-13-01T09:00:00Z",
    "day-0": "2021-01-00T09:00:00Z",
    "30-february": "2021-02-30T09:00:00Z",
    "29-february-of-a-common-year": "2021-02-29T09:00:00Z",
    "31-april": "2021-04-31T09:00:00Z",
    "24-o-clock": "2021-01-01T24:00:00Z",
    "25-o-clock": "2021-01-01T25:00:00Z",
    "minute-60": "2021-01-01T09:60:00Z",
    "leap-second": "2016-12-31T23:59:60Z",
    "second-61": "2021-01-01T09:00:61Z",
    "fraction-without-digits": "2021-01-01T09:00:00.Z",
    "fraction-of-a-minute": "2021-01-01T09:00.5Z",
    "fraction-31-digits": f"2021-01-01T09:00:00.{'1' * 31}Z",
    "two-separators": "2021-01-01T09:00:00.,5Z",
    "offset-24-hours": "2021-01-01T09:00:00+24:00",
    "offset-minus-24-hours": "2021-01-01T09:00:00-24:00",
    "offset-99-hours": "2021-01-01T09:00:00+99:00",
    "offset-60-minutes": "2021-01-01T09:00:00+01:60",
    "offset-one-digit": "2021-01-01T09:00:00+1",
    "offset-three-digits": "2021-01-01T09:00:00+013",
    "offset-with-seconds": "2021-01-01T09:00:00+01:00:00",
    "offset-without-sign": "2021-01-01T09:00:00 01:00",
    "offset-with-the-minus-sign-U+2212": "2021-01-01T09:00:00\u221201:00",
    "offset-by-name": "2021-01-01T09:00:00 UTC",
    "Z-and-offset": "2021-01-01T09:00:00Z+01:00",
    "before-year-1": "0001-01-01T00:00:00+00:01",
    "after-year-9999": "9999-12-31T23:59:59-00:01",
    "arabic-indic-digits": "\u0662\u0660\u0662\u0661-01-01T09:00:00Z",
    "fullwidth-digit": "202\uff11-01-01T09:00:00Z",
    "fullwidth-digit-in-the-offset": "2021-01-01T09:00:00+0\uff11:00",
    "kelvin-sign-like-letters": "2021-01-01\uff3409:00:00Z",
    "leading-space": " 2021-01-01T09:00:00Z",
    "trailing-space": "2021-01-01T09:00:00Z ",
    "trailing-newline": "2021-01-01T09:00:00Z\n",
    "two-spaces": "2021-01-01  09:00:00Z",
    "tab-for-T": "2021-01-01\t09:00:00Z",
    "underscore-for-T": "2021-01-01_09:00:00Z",
    "no-separator": "2021-01-0109:00:00Z",
    "slashes": "2021/01/01T09:00:00Z",
    "interval": "2021-01-01T09:00:00Z/2021-01-02T09:00:00Z",
    "null-character": "2021-01-01T09:00:00Z\x00",
    "lone-surrogate": "2021-01-01T09:00:00Z\ud800",
}

NO_STRINGS = {
    "null": None,
    "true": True,
    "integer": 1609491600,
    "float": 1609491600.0,
    "list": [COMPLETED_AT],
    "object": {"at": COMPLETED_AT},
    "bytes": COMPLETED_AT.encode(),
}
NORMAL_FORM = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{3}Z")


def cases(table):
    """Turn a table into pytest's arguments."""
    return {"argvalues": list(table.values()), "ids": list(table)}


@pytest.mark.parametrize(("text", "expected"), **cases(ACCEPTED_TIMESTAMPS))
def test_each_iso_8601_form_with_an_offset_becomes_utc_with_milliseconds(text, expected):
    assert utc_timestamp(text, field="completedAt") == expected


@pytest.mark.parametrize("value", **cases(REFUSED_TIMESTAMPS | NO_STRINGS))
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


READ = {
    "iso-8601-by-default": (time_format(), "2021-01-01T10:00+01:00", "2021-01-01T09:00:00.000Z"),
    "seconds": (time_format("epoch-seconds"), 1609491600, "2021-01-01T09:00:00.000Z"),
    "seconds-as-digits": (time_format("epoch-seconds"), "1609491600", "2021-01-01T09:00:00.000Z"),
    "seconds-with-a-fraction": (time_format("epoch-seconds"), 1609491600.123, "2021-01-01T09:00:00.123Z"),
    "seconds-as-the-float-that-is-a-little-less": (time_format("epoch-seconds"), 1.001, "1970-01-01T00:00:01.001Z"),
    "seconds-cut": (time_format("epoch-seconds"), "1.99999999999999999999", "1970-01-01T00:00:01.999Z"),
    "seconds-of-many-digits-cut": (
        time_format("epoch-seconds"),
        "1609459200.99999999999999999999",
        "2021-01-01T00:00:00.999Z",
    ),
    "seconds-before-1970-cut-downwards": (time_format("epoch-seconds"), -1.0005, "1969-12-31T23:59:58.999Z"),
    "seconds-of-the-first-moment": (time_format("epoch-seconds"), -62135596800, "0001-01-01T00:00:00.000Z"),
    "seconds-of-the-last-moment": (time_format("epoch-seconds"), 253402300799.9999, "9999-12-31T23:59:59.999Z"),
    "seconds-in-exponential-form": (time_format("epoch-seconds"), 1e-05, "1970-01-01T00:00:00.000Z"),
    "milliseconds": (time_format("epoch-milliseconds"), 1609491600123, "2021-01-01T09:00:00.123Z"),
    "milliseconds-as-digits": (time_format("epoch-milliseconds"), "1609491600123", "2021-01-01T09:00:00.123Z"),
    "milliseconds-cut": (time_format("epoch-milliseconds"), 1609491600123.9, "2021-01-01T09:00:00.123Z"),
    "pattern-with-offset": (time_format("%d.%m.%Y %H:%M %z"), "1.2.2021 10:00 +0100", "2021-02-01T09:00:00.000Z"),
    "pattern-with-a-Z": (
        time_format("%Y-%m-%dT%H:%M:%S.%f%z"),
        "2021-01-01T09:00:00.1239Z",
        "2021-01-01T09:00:00.123Z",
    ),
    "pattern-and-utcOffset": (
        time_format("%Y-%m-%d %H:%M:%S", "-03:30"),
        "2021-01-01 09:00:00",
        "2021-01-01T12:30:00.000Z",
    ),
    "pattern-of-12-hours": (time_format("%m/%d/%y %I:%M %p", "+00:00"), "1/2/21 9:05 PM", "2021-01-02T21:05:00.000Z"),
    "pattern-of-a-date": (time_format("%d %b %Y", "+00:00"), "01 Feb 2021", "2021-02-01T00:00:00.000Z"),
    "pattern-with-a-percent-sign": (time_format("%Y%m%d%%z", "+00:00"), "20210101%z", "2021-01-01T00:00:00.000Z"),
    "zone-in-winter": (
        time_format("%Y-%m-%d %H:%M", None, "Europe/London"),
        "2021-01-01 09:00",
        "2021-01-01T09:00:00.000Z",
    ),
    "zone-in-summer": (
        time_format("%Y-%m-%d %H:%M", None, "Europe/London"),
        "2021-07-01 09:00",
        "2021-07-01T08:00:00.000Z",
    ),
    "zone-twice-the-first": (
        time_format("%Y-%m-%d %H:%M", None, "Europe/London"),
        "2021-10-31 01:30",
        "2021-10-31T00:30:00.000Z",
    ),
    "zone-never-as-before-the-change": (
        time_format("%Y-%m-%d %H:%M", None, "Europe/London"),
        "2021-03-28 01:30",
        "2021-03-28T01:30:00.000Z",
    ),
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

REFUSED_FORMATS = {
    "a-number": ((5,), "completedAt.format: must be a string"),
    "a-word": (("iso",), "completedAt.format: must be iso8601, epoch-seconds"),
    "no-year": (("%d.%m. %z",), "completedAt.format: must be"),
    "no-day": (("%Y-%m %z",), "completedAt.format: must be"),
    "twelve-hours-without-am-or-pm": (("%Y-%m-%d %I:%M %z",), "completedAt.format: must be"),
    "a-year-of-weeks-with-a-month": (("%m%d%A%G%V%z",), "completedAt.format: must be"),
    "weeks-without-a-weekday": (("%Y-%W %z",), "completedAt.format: must be"),
    "a-directive-twice": (("%Y-%m-%d %d %z",), "completedAt.format: must be"),
    "a-zone-s-name": (("%Y-%m-%d %Z",), "completedAt.format: must be"),
    "a-locale-s-form": (("%c %z",), "completedAt.format: must be"),
    "a-directive-of-newer-versions": (("%F %z",), "completedAt.format: must be"),
    "an-offset-of-newer-versions": (("%Y-%m-%d %:z",), "completedAt.format: must be"),
    "a-percent-sign-at-the-end": (("%Y-%m-%d%",), "completedAt.format: must be"),
    "a-null-character": (("%Y\x00%m%d",), "completedAt.format: must be"),
    "too-long": (("%Y-%m-%d" + "x" * MAX_LENGTH,), "completedAt.format: must be"),
    "a-pattern-without-a-zone": (("%Y-%m-%d",), "completedAt: a format with %z takes neither"),
    "a-pattern-with-two": (("%Y-%m-%d %z", "+01:00"), "completedAt: a format with %z takes neither"),
    "both": (("%Y-%m-%d", "+01:00", "UTC"), "completedAt: must not have both utcOffset and timeZone"),
    "iso-8601-with-an-offset": (("iso8601", "+01:00"), "completedAt: the format iso8601 takes neither"),
    "epoch-with-a-zone": (("epoch-seconds", None, "UTC"), "completedAt: the format epoch-seconds takes neither"),
    "an-offset-without-a-sign": (("%Y-%m-%d", "01:00"), "completedAt.utcOffset: must be an offset such as +01:00"),
    "an-offset-of-24-hours": (("%Y-%m-%d", "+24:00"), "completedAt.utcOffset: must be an offset such as +01:00"),
    "an-offset-of-60-minutes": (("%Y-%m-%d", "+01:60"), "completedAt.utcOffset: must be an offset such as +01:00"),
    "an-offset-as-a-number": (("%Y-%m-%d", 1), "completedAt.utcOffset: must be an offset such as +01:00"),
    **{
        f"zone-{number}": (("%Y-%m-%d", None, zone), "completedAt.timeZone: must be a name from the IANA")
        for number, zone in enumerate(
            ["Mars/Olympus", "", "../UTC", "/etc/passwd", "Europe", "localtime", "a\0", "\ud800", 5]
        )
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
