"""docs/configuration.md describes an interface; these tests compare it with the code."""

import json
import re
from pathlib import Path

import pytest

from completion_sync.credentials import Credentials
from completion_sync.errors import AccessError
from completion_sync.settings import ENVIRONMENTS, Settings

PAGE = (Path(__file__).parents[2] / "docs" / "configuration.md").read_text(encoding="utf-8")


def table_rows(heading: str) -> list[list[str]]:
    """Return the cells of the first table below a heading, without its head."""
    section = PAGE.split(heading, 1)[1]
    lines = re.search(r"(?:^\|.*\n)+", section, re.MULTILINE)
    assert lines is not None
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines[0].splitlines()[2:]]


class RecordingEnvironment(dict):
    """An environment that remembers which variables were asked for."""

    def __init__(self, **values: str) -> None:
        super().__init__(values)
        self.asked: set[str] = set()

    def get(self, key, default=None):
        self.asked.add(key)
        return super().get(key, default)


def test_table_names_exactly_the_variables_that_are_read():
    environment = RecordingEnvironment(THRIVE_SECRET_ID="thrive")
    Settings.from_env(environment)
    assert {row[0].strip("`") for row in table_rows("## Variables")} == environment.asked


@pytest.mark.parametrize(
    "row",
    [row for row in table_rows("## Variables") if row[1].startswith("`")],
    ids=lambda row: row[0].strip("`"),
)
def test_table_gives_the_defaults(row):
    variable, default = row[0].strip("`"), row[1].strip("`")
    base = {"THRIVE_SECRET_ID": "thrive"}
    assert Settings.from_env({**base, variable: default}) == Settings.from_env(base)


@pytest.mark.parametrize(
    "row",
    [row for row in table_rows("## Variables") if re.search(r"[\d.]+ to \d+", row[2])],
    ids=lambda row: row[0].strip("`"),
)
def test_table_gives_the_bounds(row):
    """The bounds are allowed, and what is beyond the upper one is refused."""
    variable = row[0].strip("`")
    lowest, highest = re.search(r"([\d.]+) to (\d+)", row[2]).groups()
    for allowed in (lowest, highest):
        Settings.from_env({"THRIVE_SECRET_ID": "thrive", variable: allowed})
    with pytest.raises(Exception, match=f"{variable}: .*{lowest} to {highest}"):
        Settings.from_env({"THRIVE_SECRET_ID": "thrive", variable: str(int(highest) + 1)})


def test_every_thrive_environment_is_named():
    [row] = [row for row in table_rows("## Variables") if row[0] == "`THRIVE_ENVIRONMENT`"]
    assert set(re.findall(r"`([a-z-]+)`", row[2])) == set(ENVIRONMENTS)


def test_secret_needs_exactly_the_required_keys():
    required = [row[0].split(" or ")[0].strip("`") for row in table_rows("## The secret") if row[1] == "required"]
    values = dict.fromkeys(required, "value")
    Credentials.parse(json.dumps(values))
    for key in required:
        with pytest.raises(AccessError, match=key):
            Credentials.parse(json.dumps({k: v for k, v in values.items() if k != key}))
