"""The completion: which fields are accepted, and what they become."""

from __future__ import annotations

import json
import re
import unicodedata
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from completion_sync.completion import MAX_ID_LENGTH, Completion, read_completion
from completion_sync.errors import InvalidMessageError
from completion_sync.timestamps import format_timestamp, utc_timestamp
from tests.support.fakes import COMPLETED_AT, CONTENT_ID, USER_ID, completion, completion_fields

ACCEPTED_TIMESTAMPS = {
    "as-in-the-contract": ("2021-01-01T09:00:00Z", "2021-01-01T09:00:00.000Z"),
    "normalised-already": ("2021-01-01T09:00:00.000Z", "2021-01-01T09:00:00.000Z"),
    "lower-case": ("2021-01-01t09:00:00z", "2021-01-01T09:00:00.000Z"),
    "space-for-T": ("2021-01-01 09:00:00Z", "2021-01-01T09:00:00.000Z"),
    "without-seconds": ("2021-01-01T09:00Z", "2021-01-01T09:00:00.000Z"),
    "basic": ("20210101T090000Z", "2021-01-01T09:00:00.000Z"),
    "basic-with-offset": ("20210101T090000+0530", "2021-01-01T03:30:00.000Z"),
    "each-field-in-its-place": ("2023-04-05T06:07:08.009Z", "2023-04-05T06:07:08.009Z"),
    "fraction-3-digits": ("2021-01-01T09:00:00.123Z", "2021-01-01T09:00:00.123Z"),
    "fraction-30-digits-cut": (f"2021-01-01T09:00:00.{'9' * 30}Z", "2021-01-01T09:00:00.999Z"),
    "fraction-below-a-millisecond": ("2021-01-01T09:00:00.000999Z", "2021-01-01T09:00:00.000Z"),
    "fraction-with-comma": ("2021-01-01T09:00:00,5Z", "2021-01-01T09:00:00.500Z"),
    "offset-east-minutes": ("2021-01-01T09:00:00+05:45", "2021-01-01T03:15:00.000Z"),
    "offset-hours-only": ("2021-01-01T09:00:00+02", "2021-01-01T07:00:00.000Z"),
    "offset-without-colon": ("2021-01-01T09:00:00-0330", "2021-01-01T12:30:00.000Z"),
    "offset-into-the-day-before": ("2021-01-01T00:30:00+01:00", "2020-12-31T23:30:00.000Z"),
    "offset-largest": ("2021-01-01T23:59:00+23:59", "2021-01-01T00:00:00.000Z"),
    "offset-smallest": ("2021-01-01T00:00:00-23:59", "2021-01-01T23:59:00.000Z"),
    "leap-day": ("2020-02-29T00:00:00Z", "2020-02-29T00:00:00.000Z"),
    "year-1": ("0001-01-01T00:00:00Z", "0001-01-01T00:00:00.000Z"),
    "year-9999": ("9999-12-31T23:59:59.999Z", "9999-12-31T23:59:59.999Z"),
    "year-9999-is-not-rounded-up": ("9999-12-31T23:59:59.9999999Z", "9999-12-31T23:59:59.999Z"),
}

REFUSED_TIMESTAMPS = {
    "naive": "2021-01-01T09:00:00",
    "date-only": "2021-01-01",
    "time-only": "09:00:00Z",
    "hour-only": "2021-01-01T09Z",
    "empty": "",
    "week-date": "2021-W01-5T09:00:00Z",
    "mixed-within-the-date": "2021-0101T09:00:00Z",
    "mixed-within-the-time": "2021-01-01T09:0000Z",
    "five-digit-year": "12021-01-01T09:00:00Z",
    "year-0": "0000-01-01T00:00:00Z",
    "month-0": "2021-00-01T09:00:00Z",
    "month-13": "2021-13-01T09:00:00Z",
    "30-february": "2021-02-30T09:00:00Z",
    "29-february-of-a-common-year": "2021-02-29T09:00:00Z",
    "24-o-clock": "2021-01-01T24:00:00Z",
    "minute-60": "2021-01-01T09:60:00Z",
    "leap-second": "2016-12-31T23:59:60Z",
    "fraction-without-digits": "2021-01-01T09:00:00.Z",
    "fraction-31-digits": f"2021-01-01T09:00:00.{'1' * 31}Z",
    "offset-24-hours": "2021-01-01T09:00:00+24:00",
    "offset-60-minutes": "2021-01-01T09:00:00+01:60",
    "offset-one-digit": "2021-01-01T09:00:00+1",
    "offset-three-digits": "2021-01-01T09:00:00+013",
    "offset-with-seconds": "2021-01-01T09:00:00+01:00:00",
    "offset-with-the-minus-sign-U+2212": "2021-01-01T09:00:00\u221201:00",
    "before-year-1": "0001-01-01T00:00:00+00:01",
    "after-year-9999": "9999-12-31T23:59:59-00:01",
    "arabic-indic-digits": "\u0662\u0660\u0662\u0661-01-01T09:00:00Z",
    "fullwidth-digit-in-the-offset": "2021-01-01T09:00:00+0\uff11:00",
    "leading-space": " 2021-01-01T09:00:00Z",
    "trailing-newline": "2021-01-01T09:00:00Z\n",
    "null-character": "2021-01-01T09:00:00Z\x00",
}

NOT_STRINGS = {
    "null": None,
    "true": True,
    "integer": 1609491600,
    "list": [COMPLETED_AT],
    "object": {"at": COMPLETED_AT},
    "bytes": COMPLETED_AT.encode(),
}

GOOD_IDS = {
    "one-character": "a",
    "longest": "a" * MAX_ID_LENGTH,
    "longest-beyond-ascii": "\u00e9" * MAX_ID_LENGTH,
    "longest-beyond-16-bits": "\U0001f600" * MAX_ID_LENGTH,
    "inner-space": "user 1",
    "line-separator": "user\u20281",
    "zero-width-joiner": "user\u200d1",
    "private-use": "user\ue000",
    "first-after-C0": "\x20a",
    "last-before-DEL": "a\x7e",
    "first-after-C1": "a\xa0",
    "last-before-the-surrogates": "a\ud7ff",
    "first-after-the-surrogates": "a\ue000",
}

BAD_IDS = {
    "absent": ...,
    "null": None,
    "empty": "",
    "too-long": "a" * (MAX_ID_LENGTH + 1),
    "integer": 12345,
    "true": True,
    "list": ["a"],
    "object": {"id": "a"},
    "bytes": b"a",
    "NUL": "a\x00",
    "newline-at-the-end": "a\n",
    "escape": "\x1b[31m",
    "last-of-C0": "a\x1f",
    "DEL": "a\x7f",
    "first-of-C1": "a\x80",
    "last-of-C1": "a\x9f",
    "high-surrogate": "a\ud800",
    "low-surrogate": "\udfffa",
    "surrogates-in-the-wrong-order": "\ude00\ud83d",
}


def cases(table: dict[str, Any]) -> dict[str, Any]:
    """Return a table as arguments of ``parametrize``."""
    return {"argvalues": list(table.values()), "ids": list(table)}


# --- Timestamps ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("text", "expected"), **cases(ACCEPTED_TIMESTAMPS))
def test_timestamp_with_an_offset_becomes_utc_cut_to_milliseconds(text: str, expected: str) -> None:
    assert utc_timestamp(text, field="completedAt") == expected


@pytest.mark.parametrize("value", **cases(REFUSED_TIMESTAMPS | NOT_STRINGS))
def test_ambiguous_or_impossible_timestamp_is_refused_by_its_field_without_its_value(value: object) -> None:
    for field in ("completedAt", "time"):
        with pytest.raises(InvalidMessageError) as refused:
            utc_timestamp(value, field=field)
        assert str(refused.value) == (
            f"{field}: must be an ISO 8601 date and time with a UTC offset or Z, such as 2021-01-01T09:00:00Z"
        )


@given(
    moment=st.datetimes(min_value=datetime(2, 1, 1), max_value=datetime(9998, 12, 31)),  # noqa: DTZ001 - aware below
    offset=st.integers(min_value=-1439, max_value=1439),
)
def test_moment_written_by_the_standard_library_is_the_same_moment_cut(moment: datetime, offset: int) -> None:
    aware = moment.replace(tzinfo=timezone(timedelta(minutes=offset)))
    result = utc_timestamp(aware.isoformat(), field="completedAt")
    expected = aware.astimezone(UTC)
    assert datetime.fromisoformat(result) == expected.replace(microsecond=expected.microsecond // 1000 * 1000)
    assert utc_timestamp(result, field="completedAt") == result


@given(st.text(st.sampled_from("0123456789-:TtZz+., \u0661\n"), max_size=40) | st.text(max_size=40))
def test_any_text_is_normalised_or_refused(text: str) -> None:
    try:
        result = utc_timestamp(text, field="completedAt")
    except InvalidMessageError:
        return
    assert re.fullmatch(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{3}Z", result)


def test_moment_is_written_with_milliseconds() -> None:
    assert format_timestamp(datetime(2021, 1, 1, 9, tzinfo=UTC)) == "2021-01-01T09:00:00.000Z"
    assert format_timestamp(datetime(2021, 1, 1, 9, 0, 0, 1999, tzinfo=UTC)) == "2021-01-01T09:00:00.001Z"


# --- userId and contentId -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", **cases(GOOD_IDS))
def test_good_id_passes_unchanged(value: str) -> None:
    assert completion(userId=value, contentId="c") == Completion(value, "c", "2021-01-01T09:00:00.000Z")
    assert completion(contentId=value).content_id == value


@pytest.mark.parametrize("field", ["userId", "contentId"])
@pytest.mark.parametrize("value", **cases(BAD_IDS))
def test_bad_id_is_refused_by_its_field_without_its_value(field: str, value: object) -> None:
    fields = completion_fields() | {field: value}
    if value is ...:
        del fields[field]
    with pytest.raises(InvalidMessageError) as refused:
        read_completion(fields)
    assert str(refused.value) == (
        f"{field}: must be a non-empty string of at most 256 characters without control characters"
    )


@given(st.text(st.characters(codec=None), min_size=1, max_size=MAX_ID_LENGTH))
def test_id_passes_exactly_if_it_has_no_control_characters_and_no_surrogates(value: str) -> None:
    good = not any(unicodedata.category(character) in {"Cc", "Cs"} for character in value)
    try:
        result = completion(userId=value)
    except InvalidMessageError:
        assert not good
    else:
        assert good
        assert json.loads(result.to_json())["userId"] == value


# --- The three fields together ------------------------------------------------------------------------------------


def test_unknown_fields_are_ignored() -> None:
    assert completion() == Completion(USER_ID, CONTENT_ID, "2021-01-01T09:00:00.000Z")
    assert completion(score=0.5, user_id="other", extra={"userId": 1}) == completion()


def test_time_of_the_envelope_is_used_only_where_completed_at_is_absent() -> None:
    without = completion_fields(completedAt=None)
    parsed = read_completion(without, envelope_time="2022-02-03T04:05:06+01:00")
    assert parsed.completed_at == "2022-02-03T03:05:06.000Z"
    assert read_completion(completion_fields(), envelope_time="junk") == completion()


@pytest.mark.parametrize(
    ("change", "envelope_time", "field"),
    [
        *(({"completedAt": value}, "2022-02-03T04:05:06Z", "completedAt") for value in (None, "", "junk", 5)),
        ({}, "2022-02-03T04:05:06", "time"),
        ({}, None, "completedAt"),
    ],
)
def test_unusable_time_is_never_replaced_by_another_one(
    change: dict[str, object], envelope_time: str | None, field: str
) -> None:
    with pytest.raises(InvalidMessageError, match=f"^{field}: "):
        read_completion(completion_fields(completedAt=None) | change, envelope_time=envelope_time)


# --- The request's body -------------------------------------------------------------------------------------------


def test_body_is_fixed_byte_for_byte_and_ascii() -> None:
    assert completion(userId="\u00e9\U0001f600", contentId='"\\').to_json() == (
        b'{"userId":"\\u00e9\\ud83d\\ude00","contentId":"\\"\\\\","completedAt":"2021-01-01T09:00:00.000Z"}'
    )


@pytest.mark.parametrize("completed_at", ["2021-01-01T10:00:00+01:00", "20210101T0900Z", "2021-01-01T09:00:00.0009Z"])
def test_one_moment_gives_one_completion_however_it_is_written(completed_at: str) -> None:
    same = completion(completedAt=completed_at, note="x")
    assert same.to_json() == completion().to_json()
    assert len({same, completion()}) == 1
    assert len({same, completion(userId="other"), completion(contentId="other")}) == 3
