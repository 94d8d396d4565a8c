"""The README promises an interface; these tests hold it against the code."""

import json
import re
from pathlib import Path

import pytest

from completion_sync.credentials import Credentials
from completion_sync.errors import AccessError
from completion_sync.settings import ENVIRONMENTS, Settings

README = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")


def table_rows(heading: str) -> list[list[str]]:
    """Give the cells of the first table below a heading, without its head."""
    section = README.split(heading, 1)[1]
    lines = re.search(r"(?:^\|.*\n)+", section, re.MULTILINE)
    assert lines is not None
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines[0].splitlines()[2:]]


class RecordingEnvironment(dict):
    """An environment that remembers which variables were asked for."""

    def __init__(self, **values: str) -> None:
        super().__init__(values)
        self.asked: set[str] = set()

    def get(self, key, default=None):
        """Remember, then look up."""
        self.asked.add(key)
        return super().get(key, default)


def test_configuration_table_names_exactly_the_variables_that_are_read():
    """A variable that the code reads stands in the README, and no other."""
    environment = RecordingEnvironment(THRIVE_SECRET_ID="thrive")
    Settings.from_env(environment)
    assert {row[0].strip("`") for row in table_rows("## Configuration")} == environment.asked


@pytest.mark.parametrize(
    "row",
    [row for row in table_rows("## Configuration") if row[1].startswith("`")],
    ids=lambda row: row[0].strip("`"),
)
def test_configuration_table_gives_the_defaults(row):
    """Setting a variable to the default that the README gives changes nothing."""
    variable, default = row[0].strip("`"), row[1].strip("`")
    base = {"THRIVE_SECRET_ID": "thrive"}
    assert Settings.from_env({**base, variable: default}) == Settings.from_env(base)


@pytest.mark.parametrize(
    "row",
    [row for row in table_rows("## Configuration") if re.search(r"[\d.]+ to \d+", row[2])],
    ids=lambda row: row[0].strip("`"),
)
def test_configuration_table_gives_the_bounds(row):
    """The bounds that the README gives are allowed, and what lies beyond the upper one is refused."""
    variable = row[0].strip("`")
    lowest, highest = re.search(r"([\d.]+) to (\d+)", row[2]).groups()
    for allowed in (lowest, highest):
        Settings.from_env({"THRIVE_SECRET_ID": "thrive", variable: allowed})
    with pytest.raises(Exception, match=f"{variable}: .*{lowest} to {highest}"):
        Settings.from_env({"THRIVE_SECRET_ID": "thrive", variable: str(int(highest) + 1)})


def test_environments_are_named():
    """Every Thrive environment that the code knows stands in the README."""
    [row] = [row for row in table_rows("## Configuration") if row[0] == "`THRIVE_ENVIRONMENT`"]
    assert set(re.findall(r"`([a-z-]+)`", row[2])) == set(ENVIRONMENTS)


def test_secret_table_gives_the_required_keys():
    """A secret with exactly the keys that the README calls required is accepted; without any one of them it is not."""
    required = [row[0].split(" or ")[0].strip("`") for row in table_rows("### The secret") if row[1] == "required"]
    values = dict.fromkeys(required, "value")
    Credentials.parse(json.dumps(values))
    for key in required:
        with pytest.raises(AccessError, match=key):
            Credentials.parse(json.dumps({k: v for k, v in values.items() if k != key}))


def test_links_lead_somewhere():
    """Every relative link of the README names a file that is there."""
    root = Path(__file__).parents[2]
    links = [link for link in re.findall(r"\]\(([^)#]+)\)", README) if "://" not in link]
    assert links
    assert [link for link in links if not (root / link).exists()] == []
