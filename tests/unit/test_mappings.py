"""The ready mappings with their examples, and what runs them."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from completion_sync.expressions import Budget, Expression
from completion_sync.mapping import parse_mapping
from completion_sync_cli.examples import outcome_of, run_examples

ROOT = Path(__file__).resolve().parents[2]
MAPPINGS = ROOT / "mappings"
GUIDE = (ROOT / "docs" / "mapping.md").read_text(encoding="utf-8")
FOLDERS = sorted(path.parent for path in MAPPINGS.glob("*/mapping.json"))


def read(folder: Path):
    return parse_mapping((folder / "mapping.json").read_bytes())


def test_there_is_one_for_each_system():
    assert {folder.name for folder in FOLDERS} == {"canvas", "docebo", "eventbridge", "open-edx", "scorm-cloud", "xapi"}


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_its_examples_lead_to_what_they_should(folder):
    report = run_examples(read(folder), folder / "examples")
    assert report.problems == []
    outcomes = [json.loads(path.read_bytes())["outcome"] for path in folder.glob("examples/*.expected.json")]
    assert len(outcomes) == report.count
    assert {"completion", "ignored"} <= set(outcomes)


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_it_takes_no_example_of_the_others(folder):
    mapping = read(folder)
    for other in FOLDERS:
        # Open edX sends xAPI statements too, so that xapi has an example of its own.
        for example in set(other.glob("examples/*.json")) - set(other.glob("examples/*.expected.json")):
            if other != folder and example.stem != "several-statements":
                assert outcome_of(mapping, example.read_text()) == {"outcome": "ignored"}, example


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_its_page_says_what_has_to_be_known(folder):
    page = (folder / "README.md").read_text()
    for word in ("**Events to the queue**", "**The person**", "**The course**", "https://"):
        assert word in page
    assert f"]({folder.name}/README.md)" in (MAPPINGS / "README.md").read_text()


# ---- the guide


def test_the_example_of_the_guide_is_true():
    blocks = re.findall(r"```json\n(.*?)```", GUIDE, re.DOTALL)
    event, mapping, expected = blocks[0], parse_mapping(blocks[1].encode()), blocks[-1].splitlines()
    assert outcome_of(mapping, event) == json.loads(expected[0])
    assert outcome_of(mapping, "{}") == json.loads(expected[1])
    assert outcome_of(mapping, event.replace("number", "id")) == json.loads(expected[2])


def test_the_functions_of_the_guide_do_what_it_says():
    rows = re.findall(r"^\| `\w+\(s.*?\| `(.+?)` \| `(.+?)` \|$", GUIDE, re.MULTILINE)
    assert len(rows) == 6
    for text, result in rows:
        assert Expression(text).search({}, Budget()) == result


# ---- the runner


MAPPING = parse_mapping(
    json.dumps(
        {
            "version": 1,
            "sources": [{"name": "s", "when": "who", "userRef": "who", "contentId": "'c'", "completedAt": "at"}],
            "otherwise": "ignore",
        }
    ).encode()
)
EVENT = {"who": "ada@example.com", "at": "2021-01-01T09:00:00Z"}
EXPECTED = {
    "outcome": "completion",
    "userRef": "ada@example.com",
    "contentId": "c",
    "completedAt": "2021-01-01T09:00:00.000Z",
}


def problems(folder: Path, **files: object) -> list[tuple[str, str]]:
    for name, value in files.items():
        text = value if isinstance(value, bytes) else json.dumps(value).encode()
        (folder / f"{name.replace('__', '.')}.json").write_bytes(text)
    return run_examples(MAPPING, folder).problems


def test_what_is_as_expected_is_no_problem(tmp_path):
    assert problems(tmp_path, a=EVENT, a__expected=EXPECTED, b={}, b__expected={"outcome": "ignored"}) == []
    assert run_examples(MAPPING, tmp_path).count == 2
    assert run_examples(MAPPING, tmp_path / "nowhere").count == 0


@pytest.mark.parametrize(
    ("event", "expected", "problem"),
    [
        (EVENT, EXPECTED | {"completedAt": "x"}, 'completedAt is "2021-01-01T09:00:00.000Z", not "x"'),
        (EVENT, EXPECTED | {"userRef": "grace@example.com"}, "userRef is not the expected one"),
        (EVENT, EXPECTED | {"userId": "u"}, "userId is not the expected one"),
        ({}, EXPECTED, 'outcome is "ignored", not "completion"; .*'),
        (EVENT, {"outcome": "ignored"}, 'outcome is "completion", not "ignored"; .*'),
        ({"who": 5}, {"outcome": "invalid_message", "detail": "x"}, 'detail is "source s: completedAt: .*", not "x"'),
        (EVENT, b"{", r"a\.expected\.json is not JSON"),
        (EVENT, [], r"a\.expected\.json is not a JSON object"),
    ],
)
def test_a_difference_is_named_without_the_person(tmp_path, event, expected, problem):
    [(name, found)] = problems(tmp_path, a=event, a__expected=expected)
    assert name == "a.json"
    assert re.fullmatch(problem, found)
    assert "@" not in found


def test_an_example_without_an_expectation_is_a_problem_and_the_reverse(tmp_path):
    assert problems(tmp_path, a=EVENT, b__expected=EXPECTED) == [
        ("a.json", "has no .expected.json beside it"),
        ("b.expected.json", "has no example beside it"),
    ]


@pytest.mark.parametrize("body", [b"\xff", b"{", b'"\xed\xa0\x80"'])
def test_an_example_that_is_no_message_is_invalid(tmp_path, body):
    expected = {"outcome": "invalid_message"}
    [(_, problem)] = problems(tmp_path, a=body, a__expected=expected)
    assert problem.startswith('detail is "body: must ')


def test_a_native_message_is_read_as_such():
    assert outcome_of(MAPPING, json.dumps({"userId": "u", "contentCode": "A", "completedAt": EVENT["at"]})) == {
        "outcome": "completion",
        "userId": "u",
        "contentCode": "A",
        "completedAt": EXPECTED["completedAt"],
    }
    assert (
        outcome_of(MAPPING, json.dumps({"userId": "u", "contentId": "c", "completedAt": EVENT["at"]}))["userId"] == "u"
    )
