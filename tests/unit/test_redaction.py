"""Redaction: no credentials, addresses or control characters in what is shown of other systems' text."""

import re
import time
import unicodedata
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from completion_sync.credentials import basic_header
from completion_sync.redaction import Redactor
from tests.support.fakes import CANARY, TENANT, credentials

TOKEN = "token/1+2=="
LONGEST = "s" * 256


def redactor(authorization=f"Bearer {TOKEN}", **secret):
    return Redactor(credentials(**secret), authorization)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("contentId is unknown", "contentId is unknown"),
        ("  spaces\t around ", "spaces around"),
        ("\u00dcn\u00efcode ist gut", "\u00dcn\u00efcode ist gut"),
        ("a\nb\r\nc\u2028d\u2029e\x85f", "a b c d e f"),
        ("a\x00b\x1b[31mc\x7fd\x9fe", "a b [31mc d e"),
        ("a\ud800b\udfffc", "a b c"),
        ("a\u202egpj\u202c\u2066b\u2069\u200bc\u200fd\ufeffe\u00adf\u061cg\u2060h\u206fi", "a gpj b c d e f g h i"),
        *[(f"a{edge}b", f"a{edge}b") for edge in "\u00ac\u00ae\u061b\u061d\u2010\u2027\u2070\ufefd\ue000\uff00\ufffd"],
        *[(f"a{edge}b", "a b") for edge in "\ufffe\uffff\U0001f511"],
        ("no user ada@learner.example here", "no user [e-mail] here"),
        ("<ada@learner.example>, bob@x", "[e-mail] [e-mail]"),
        ("no user?email=ada%40learner.example here", "no [e-mail] here"),
        ("ada@\nlearner", "[e-mail] learner"),
        ("x" * 1000, "x" * 160),
        *[(nothing, "") for nothing in ("\n\t\u2028\u200b", "", None, {"userId": "ada"}, ["a"], 7, True)],
    ],
    ids=lambda value: ascii(value)[:24],
)
def test_explanation_is_harmless(text, shown):
    assert redactor().one_line(text) == shown


@pytest.mark.parametrize("value", ["abc", LONGEST, "\u00e5", "a b", "a%20b"], ids=lambda value: ascii(value)[:12])
def test_a_plain_id_is_shown_as_it_is(value):
    assert redactor().printable_id(value) == value


@pytest.mark.parametrize(
    "value",
    [
        *[None, "", 12, True, {"a": "b"}, ["a"], f"{LONGEST}s"],
        *["a\nb", "a\u2028b", "a\ud800b", "a\u0000", "a\u009f", "a\u202e", "\u200b"],
        *["ada@learner.example", "ada%40learner.example", CANARY, TENANT, f"statement-{CANARY}-1", TOKEN],
    ],
    ids=lambda value: ascii(value)[:24],
)
def test_anything_but_a_plain_id_is_no_id(value):
    assert redactor().printable_id(value) is None


def lower_hex(text):
    return re.sub(r"%[0-9A-F]{2}", lambda match: match[0].lower(), quote(text, safe=""))


ENCODINGS = [str, lambda text: quote(text, safe=""), lambda text: quote(text, safe="+"), quote_plus, lower_hex]
PLACES = ["tenantId", "clientId", "clientSecret", "token"]
HARD = {place: f"{place} +/%&:\u00e9?" for place in PLACES}
VALUES = st.text(st.characters(exclude_categories=["C", "Z"]) | st.sampled_from("+/%&: "), min_size=8, max_size=30).map(
    lambda text: f"x{text}x"
)


@pytest.mark.parametrize("encode", ENCODINGS, ids=["plain", "percent", "percent but plus", "form", "lower case"])
@example(HARD)
@given(st.fixed_dictionaries(dict.fromkeys(PLACES, VALUES)))
def test_no_credential_is_shown_in_any_encoding(encode, values):
    secret = {place: value for place, value in values.items() if place != "token"}
    shown = redactor(f"Bearer {values['token']}", **secret)
    headers = [
        basic_header(spell(values[user]), spell(values["clientSecret"])).removeprefix("Basic ")
        for user, spell in (("tenantId", str), ("clientId", str), ("clientId", quote_plus))
    ]
    for quoted in [*values.values(), *headers, *(header.rstrip("=") for header in headers)]:
        text = f"<{encode(quoted)}>, sorry"
        assert shown.one_line(text) == "", quoted
        assert shown.printable_id(text) is None, quoted


def test_credentials_are_found_with_the_white_space_as_it_is_and_joined():
    with_blanks = redactor(clientSecret="se  cret-with blank")  # pragma: allowlist secret
    assert with_blanks.one_line("bad: se  cret-with blank") == ""
    assert redactor(clientId="client/1 2").one_line("bad: client/1\n2") == ""


def test_credentials_far_behind_are_found():
    assert redactor().one_line("x" * 1000 + CANARY) == ""


def test_the_authorization_header_of_the_request_is_found():
    header = basic_header(TENANT, CANARY)
    assert redactor(header).one_line(f"bad header {header}") == ""


@pytest.mark.parametrize("text", ["user not found", CANARY[:-1], CANARY.upper(), TENANT[1:]])
def test_text_without_a_whole_credential_is_shown(text):
    assert redactor().one_line(text) == redactor().printable_id(text) == text


def test_a_value_of_fewer_than_eight_characters_is_not_sought():
    assert redactor(clientId="a" * 7).one_line("a" * 7) == "a" * 7
    assert redactor(clientId="a" * 8).one_line("a" * 8) == ""


@pytest.mark.parametrize("encode", ENCODINGS, ids=["plain", "percent", "percent but plus", "form", "lower case"])
@pytest.mark.parametrize("ref", ["E-1001", "1", "Ada L\u00f6ve/7+1", "a.b*", "E-7+"])
def test_the_reference_of_the_person_is_shown_in_no_spelling(ref, encode):
    shown = Redactor(credentials(), f"Bearer {TOKEN}", ref)
    for quoted in (ref, ref.upper(), ref.lower()):
        assert shown.one_line(f"user {encode(quoted)}: is archived") == ""
        assert shown.printable_id(encode(quoted)) is None


@pytest.mark.parametrize("text", ["user E-10011", "user XE-1001", "user 1001", "contentId is unknown"])
def test_text_without_the_whole_reference_is_shown(text):
    assert Redactor(credentials(), f"Bearer {TOKEN}", "E-1001").one_line(text) == text


@given(st.text() | st.text(st.sampled_from("a @%40\n\u2028\u202e")))
def test_whatever_the_text_one_short_printable_line_is_shown(text):
    shown = redactor().one_line(text)
    assert len(shown) <= 160
    assert "@" not in shown
    assert "%40" not in shown
    assert shown == " ".join(shown.split())
    assert not {unicodedata.category(character) for character in shown} & {"Cc", "Cs", "Zl", "Zp"}


@pytest.mark.parametrize("pattern", ["a", "a@", "\n", " @", "%", "%4", "%e2"])
def test_the_time_grows_with_the_length_and_not_with_its_square(pattern):
    # As many characters in 200 texts, then in one: 200 times the time, if it grew with the square.
    text = (pattern * 64_000)[:64_000]
    times = []
    for size in (len(text) // 200, len(text)):
        began = time.process_time()
        for start in range(0, len(text), size):
            redactor().one_line(text[start : start + size])
        times.append(time.process_time() - began)
    assert times[1] < 20 * times[0]
