"""The completion: which fields are accepted, and what they become."""

import json
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from completion_sync.completion import MAX_ID_LENGTH, Completion, Unresolved, build_completion, read_completion
from completion_sync.errors import InvalidMessageError
from tests.support.fakes import CONTENT_ID, USER_ID, completion, completion_fields

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


def cases(table):
    """Turn a table into pytest's arguments."""
    return {"argvalues": list(table.values()), "ids": list(table)}


IDENTIFIERS = ["userId", "contentId", "userRef", "contentCode"]
OTHER = {"userId": "userRef", "userRef": "userId", "contentId": "contentCode", "contentCode": "contentId"}


def with_one(field, value):
    """Return the fields of a completion in which this one stands for the person or the content."""
    return completion_fields(**{OTHER[field]: None}) | {field: value}


@pytest.mark.parametrize("field", IDENTIFIERS)
@pytest.mark.parametrize("value", **cases(GOOD_IDS))
def test_ids_references_and_codes_pass_unchanged(field, value):
    result = read_completion(with_one(field, value))

    name = {"userId": "user_id", "userRef": "user_ref", "contentId": "content_id", "contentCode": "content_code"}[field]
    assert getattr(result, name) == value


@pytest.mark.parametrize("field", IDENTIFIERS)
@pytest.mark.parametrize("value", **cases(BAD_IDS))
def test_what_is_no_id_is_refused_without_the_value(field, value):
    fields = with_one(field, value)
    if value is ...:
        del fields[field]

    with pytest.raises(InvalidMessageError) as refused:
        read_completion(fields)

    pair = " or ".join(sorted((field, OTHER[field]), key=IDENTIFIERS.index))
    assert str(refused.value) == (
        f"{pair}: must be given"
        if value in (..., None)
        else f"{field}: must be a non-empty string of at most 256 characters without control characters"
    )


@pytest.mark.parametrize(("first", "second"), [("userId", "userRef"), ("contentId", "contentCode")])
def test_both_of_a_pair_are_refused_unless_one_is_null(first, second):
    with pytest.raises(InvalidMessageError, match=f"^{first} and {second}: must not both be given$"):
        read_completion(completion_fields(**{first: "a", second: "b"}))

    assert read_completion(completion_fields() | {second: None}) == completion()


@pytest.mark.parametrize("ref", [".", ".."])
def test_a_reference_that_would_be_another_path_is_refused(ref):
    with pytest.raises(InvalidMessageError, match=r"^userRef: must not be \. or \.\.$"):
        read_completion(completion_fields(userId=None, userRef=ref))


def test_a_reference_is_not_shown():
    unresolved = read_completion(
        completion_fields(userId=None, userRef="ada@example.com", contentCode="A", contentId=None)
    )

    assert unresolved == Unresolved(None, "ada@example.com", None, "A", "2021-01-01T09:00:00.000Z")
    assert "ada" not in repr(unresolved)
    assert isinstance(unresolved, Unresolved)
    assert unresolved.resolve("u", "c") == Completion("u", "c", "2021-01-01T09:00:00.000Z")


@given(st.text(st.characters(codec=None), min_size=1, max_size=MAX_ID_LENGTH))
def test_any_id_is_judged_by_the_categories_of_its_characters(value):
    good = not any(unicodedata.category(character) in {"Cc", "Cs"} for character in value)

    try:
        result = completion(userId=value)
    except InvalidMessageError:
        assert not good
    else:
        assert good
        assert json.loads(result.to_json())["userId"] == value


def test_unknown_fields_are_ignored():
    assert completion(score=0.5, user_id="other", extra={"userId": 1}) == completion()
    assert completion() == Completion(USER_ID, CONTENT_ID, "2021-01-01T09:00:00.000Z")


def test_the_time_of_an_envelope_replaces_an_absent_time_only():
    fields = completion_fields(completedAt=None)

    assert read_completion(fields, envelope_time="2022-02-03T04:05:06+01:00").completed_at == "2022-02-03T03:05:06.000Z"
    assert read_completion(completion_fields(), envelope_time="junk") == completion()


@pytest.mark.parametrize("value", [None, "", "junk", 5], ids=["null", "empty", "junk", "number"])
def test_a_bad_time_is_not_replaced_by_that_of_the_envelope(value):
    with pytest.raises(InvalidMessageError, match=r"^completedAt: "):
        read_completion(completion_fields() | {"completedAt": value}, envelope_time="2022-02-03T04:05:06Z")


def test_without_any_time_a_message_is_refused():
    with pytest.raises(InvalidMessageError, match=r"^time: "):
        read_completion(completion_fields(completedAt=None), envelope_time="2022-02-03T04:05:06")
    with pytest.raises(InvalidMessageError, match=r"^completedAt: "):
        read_completion(completion_fields(completedAt=None))


def test_a_time_in_its_final_form_is_not_read_again():
    assert build_completion(completion_fields(), "2021-01-01T09:00:00.000Z") == completion()


def test_the_body_is_fixed_byte_for_byte_and_ascii():
    assert completion(userId="user-1", contentId="content-1").to_json() == (
        b'{"userId":"user-1","contentId":"content-1","completedAt":"2021-01-01T09:00:00.000Z"}'
    )
    result = completion(userId="\u00e9\U0001f600", contentId='"\\').to_json()
    assert result.startswith(b'{"userId":"\\u00e9\\ud83d\\ude00","contentId":"\\"\\\\",')


@pytest.mark.parametrize("completed_at", ["2021-01-01T10:00:00+01:00", "20210101T0900Z", "2021-01-01T09:00:00.0009Z"])
def test_one_moment_gives_one_body(completed_at):
    assert completion(completedAt=completed_at).to_json() == completion().to_json()


def test_equal_completions_are_one_key():
    assert len({completion(), completion(note="x"), completion(completedAt="2021-01-01T09:00Z")}) == 1
    others = [{"userId": "other"}, {"contentId": "other"}, {"completedAt": "2021-01-01T09:00:01Z"}]
    assert len({completion(), *(completion(**other) for other in others)}) == 4
