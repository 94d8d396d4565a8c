"""The completion: which fields are accepted, and what they become."""

from __future__ import annotations

import json
import re
import unicodedata
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from completion_sync.completion import MAX_ID_LENGTH, Completion, format_timestamp, utc_timestamp
from completion_sync.errors import InvalidMessageError
from tests.support.fakes import COMPLETED_AT, CONTENT_ID, USER_ID, completion, completion_fields

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

NO_TEXTS = {
    "null": None,
    "true": True,
    "integer": 1609491600,
    "float": 1609491600.0,
    "list": [COMPLETED_AT],
    "object": {"at": COMPLETED_AT},
    "bytes": COMPLETED_AT.encode(),
}

GOOD_IDS = {
    "one-character": "a",
    "longest": "a" * MAX_ID_LENGTH,
    "longest-beyond-ascii": "\u00e9" * MAX_ID_LENGTH,
    "longest-beyond-16-bits": "\U0001f600" * MAX_ID_LENGTH,
    "digits-as-text": "12345",
    "punctuation": "urn:user/1?x=&y#z",
    "inner-space": "user 1",
    "no-break-space": "user\u00a01",
    "line-separator": "user\u20281",
    "zero-width-joiner": "user\u200d1",
    "private-use": "user\ue000",
    "right-to-left": "\u05d0\u05d1",
    "first-behind-C0": "\x20a",
    "last-before-DEL": "a\x7e",
    "first-behind-C1": "a\xa0",
    "last-before-the-surrogates": "a\ud7ff",
    "first-behind-the-surrogates": "a\ue000",
    "quotes-and-backslash": 'a"b\\c',
}

BAD_IDS = {
    "absent": ...,
    "null": None,
    "empty": "",
    "too-long": "a" * (MAX_ID_LENGTH + 1),
    "integer": 12345,
    "zero": 0,
    "float": 1.5,
    "true": True,
    "false": False,
    "list": ["a"],
    "empty-list": [],
    "object": {"id": "a"},
    "bytes": b"a",
    "NUL": "a\x00",
    "NUL-alone": "\x00",
    "tab": "a\tb",
    "newline-at-the-end": "a\n",
    "carriage-return": "a\rb",
    "escape": "\x1b[31m",
    "last-of-C0": "a\x1f",
    "DEL": "a\x7f",
    "first-of-C1": "a\x80",
    "next-line": "a\x85b",
    "last-of-C1": "a\x9f",
    "high-surrogate": "a\ud800",
    "low-surrogate": "\udfffa",
    "surrogates-in-the-wrong-order": "\ude00\ud83d",
}


def cases(table: dict[str, object]) -> dict[str, object]:
    """Turn a table into pytest's arguments."""
    return {"argvalues": list(table.values()), "ids": list(table)}


class TestTimestamps:
    """``utc_timestamp``."""

    @pytest.mark.parametrize(("text", "expected"), **cases(ACCEPTED_TIMESTAMPS))
    def test_accepted_timestamps_become_utc_with_milliseconds(self, text: str, expected: str) -> None:
        """Each ISO 8601 form with an offset becomes the same moment in UTC, cut to milliseconds."""
        assert utc_timestamp(text, field="completedAt") == expected

    @pytest.mark.parametrize("value", **cases(REFUSED_TIMESTAMPS | NO_TEXTS))
    def test_all_else_is_refused(self, value: object) -> None:
        """What is ambiguous, no such moment, or no text is refused; the error names the field and not the value."""
        with pytest.raises(InvalidMessageError) as refused:
            utc_timestamp(value, field="completedAt")

        assert str(refused.value) == (
            "completedAt: must be an ISO 8601 date and time with a UTC offset or Z, such as 2021-01-01T09:00:00Z"
        )

    def test_the_error_names_the_field_that_was_read(self) -> None:
        """The envelope's ``time`` is refused under its own name."""
        with pytest.raises(InvalidMessageError, match=r"^time: must be"):
            utc_timestamp("", field="time")

    @given(
        moment=st.datetimes(min_value=datetime(2, 1, 1), max_value=datetime(9998, 12, 31)),  # noqa: DTZ001
        offset=st.integers(min_value=-1439, max_value=1439),
    )
    def test_any_moment_survives(self, moment: datetime, offset: int) -> None:
        """Any aware moment is read as the standard library writes it, and comes out as the same moment, cut."""
        aware = moment.replace(tzinfo=timezone(timedelta(minutes=offset)))

        result = utc_timestamp(aware.isoformat(), field="completedAt")

        expected = aware.astimezone(UTC)
        assert datetime.fromisoformat(result) == expected.replace(microsecond=expected.microsecond // 1000 * 1000)
        assert utc_timestamp(result, field="completedAt") == result

    @given(st.text(st.sampled_from("0123456789-:TtZz+., \u0661\n"), max_size=40) | st.text(max_size=40))
    def test_any_text_is_either_normalised_or_refused(self, text: str) -> None:
        """No text leads to anything but the normal form or an InvalidMessageError."""
        try:
            result = utc_timestamp(text, field="completedAt")
        except InvalidMessageError:
            return
        assert re.fullmatch(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{3}Z", result)

    def test_a_moment_is_written_with_milliseconds(self) -> None:
        """``format_timestamp`` writes milliseconds also where there are none, and cuts microseconds off."""
        assert format_timestamp(datetime(2021, 1, 1, 9, tzinfo=UTC)) == "2021-01-01T09:00:00.000Z"
        assert format_timestamp(datetime(2021, 1, 1, 9, 0, 0, 1999, tzinfo=UTC)) == "2021-01-01T09:00:00.001Z"


class TestIdentifiers:
    """``userId`` and ``contentId``."""

    @pytest.mark.parametrize("field", ["userId", "contentId"])
    @pytest.mark.parametrize("value", **cases(GOOD_IDS))
    def test_good_ids_pass_unchanged(self, field: str, value: str) -> None:
        """An id of 1 to 256 characters without control characters is taken as it is."""
        result = completion(**{field: value})

        assert (result.user_id if field == "userId" else result.content_id) == value

    @pytest.mark.parametrize("field", ["userId", "contentId"])
    @pytest.mark.parametrize("value", **cases(BAD_IDS))
    def test_bad_ids_are_refused(self, field: str, value: object) -> None:
        """An id that is absent, no text, empty, too long, or holds a control character or a surrogate is refused."""
        fields = completion_fields() | {field: value}
        if value is ...:
            del fields[field]

        with pytest.raises(InvalidMessageError) as refused:
            Completion.parse(fields)

        assert str(refused.value) == (
            f"{field}: must be a non-empty string of at most 256 characters without control characters"
        )

    @given(st.text(st.characters(codec=None), min_size=1, max_size=MAX_ID_LENGTH))
    def test_any_id_is_judged_by_its_characters(self, value: str) -> None:
        """Exactly the ids without characters of the categories Cc and Cs pass, and those can be encoded."""
        good = not any(unicodedata.category(character) in {"Cc", "Cs"} for character in value)

        try:
            result = completion(userId=value)
        except InvalidMessageError:
            assert not good
        else:
            assert good
            assert json.loads(result.to_json())["userId"] == value


class TestCompletion:
    """The three fields together."""

    def test_the_three_fields_are_read(self) -> None:
        """Each field lands in its own attribute."""
        assert completion() == Completion(USER_ID, CONTENT_ID, "2021-01-01T09:00:00.000Z")

    def test_unknown_fields_are_ignored(self) -> None:
        """Fields beside the three change nothing, whatever they hold."""
        assert completion(score=0.5, user_id="other", extra={"userId": 1}) == completion()

    def test_the_envelope_time_stands_in_for_an_absent_time(self) -> None:
        """Where ``completedAt`` is absent, the envelope's time is taken and normalised alike."""
        fields = completion_fields(completedAt=None)

        result = Completion.parse(fields, envelope_time="2022-02-03T04:05:06+01:00")

        assert result.completed_at == "2022-02-03T03:05:06.000Z"

    def test_an_own_time_wins_over_the_envelope_time(self) -> None:
        """Where both are there, ``completedAt`` counts, and the envelope's time may be anything."""
        assert Completion.parse(completion_fields(), envelope_time="junk") == completion()

    @pytest.mark.parametrize("value", [None, "", "junk", 5], ids=["null", "empty", "junk", "number"])
    def test_a_bad_own_time_is_not_replaced(self, value: object) -> None:
        """A ``completedAt`` that is there but unusable is refused, not replaced by the envelope's time."""
        fields = completion_fields() | {"completedAt": value}

        with pytest.raises(InvalidMessageError, match=r"^completedAt: "):
            Completion.parse(fields, envelope_time="2022-02-03T04:05:06Z")

    def test_a_bad_envelope_time_is_named(self) -> None:
        """An unusable envelope time is refused under its own name."""
        with pytest.raises(InvalidMessageError, match=r"^time: "):
            Completion.parse(completion_fields(completedAt=None), envelope_time="2022-02-03T04:05:06")

    def test_no_time_at_all_is_refused(self) -> None:
        """Without ``completedAt`` and without an envelope the message is refused: the clock never stands in."""
        with pytest.raises(InvalidMessageError, match=r"^completedAt: "):
            Completion.parse(completion_fields(completedAt=None))


class TestBody:
    """The request's body."""

    def test_the_body_is_fixed_byte_for_byte(self) -> None:
        """The three fields stand in a fixed order, without white space."""
        assert completion(userId="user-1", contentId="content-1").to_json() == (
            b'{"userId":"user-1","contentId":"content-1","completedAt":"2021-01-01T09:00:00.000Z"}'
        )

    def test_the_body_is_ascii(self) -> None:
        """Characters beyond ASCII are escaped, those beyond 16 bits as a pair."""
        result = completion(userId="\u00e9\U0001f600", contentId='"\\').to_json()

        assert result.startswith(b'{"userId":"\\u00e9\\ud83d\\ude00","contentId":"\\"\\\\",')

    @pytest.mark.parametrize(
        "completed_at", ["2021-01-01T10:00:00+01:00", "20210101T0900Z", "2021-01-01T09:00:00.0009Z"]
    )
    def test_one_moment_gives_one_body(self, completed_at: str) -> None:
        """However a source writes the moment, the repeat is the same request byte for byte."""
        assert completion(completedAt=completed_at).to_json() == completion().to_json()

    def test_equal_completions_are_one_key(self) -> None:
        """Equal completions hash alike, so that a batch may send them once."""
        assert len({completion(), completion(note="x"), completion(completedAt="2021-01-01T09:00Z")}) == 1
        assert len({completion(), completion(userId="other"), completion(contentId="other")}) == 3
