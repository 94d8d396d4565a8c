"""What samconfig.toml and sandbox/sam_local/env.json hold for `sam local`, checked without Docker."""

from __future__ import annotations

import json
import re
import tomllib
from urllib.parse import urlsplit

import pytest

from sandbox.pipeline.emulator import ROOT
from sandbox.sam_local import AWS_PORT, CONTAINERS_NAME_FOR_US, THRIVE_PORT
from tests.support import sam_template

SAMCONFIG = tomllib.loads((ROOT / "samconfig.toml").read_text())
COMMANDS = ("local_invoke", "local_start_lambda")
FUNCTION = "CompletionFunction"


def overrides(command: str) -> dict[str, str]:
    given = SAMCONFIG["default"][command]["parameters"]["parameter_overrides"]
    return dict(part.split("=", 1) for part in given.split())


@pytest.mark.parametrize("command", COMMANDS)
def test_the_template_accepts_the_parameters_and_they_lead_to_this_machine(command: str) -> None:
    """`sam local` checks no pattern, so this does; the ports are those that `python -m sandbox sam-local` takes."""
    ports = {"ThriveBaseUrl": THRIVE_PORT, "AwsEndpointUrl": AWS_PORT}
    given = overrides(command)
    assert {name: urlsplit(url).port for name, url in given.items()} == ports
    for name, url in given.items():
        assert urlsplit(url).hostname == CONTAINERS_NAME_FOR_US
        assert re.fullmatch(sam_template.raw()["Parameters"][name]["AllowedPattern"], url)


@pytest.mark.parametrize("command", COMMANDS)
def test_the_container_knows_this_machine_by_that_name(command: str) -> None:
    """Docker Engine on Linux does not add the name by itself."""
    assert SAMCONFIG["default"][command]["parameters"]["add_host"] == [f"{CONTAINERS_NAME_FOR_US}:host-gateway"]


@pytest.mark.parametrize("command", COMMANDS)
def test_the_template_lists_every_variable_that_is_overridden(command: str) -> None:
    """`sam local` silently leaves out a variable that the template does not list."""
    path = ROOT / SAMCONFIG["default"][command]["parameters"]["env_vars"]
    [(function, variables)] = json.loads(path.read_text()).items()
    properties = sam_template.raw()["Resources"][function]["Properties"]
    assert function == FUNCTION
    assert variables.keys() <= properties["Environment"]["Variables"].keys()


def test_what_sam_local_needs_is_no_if_with_novalue() -> None:
    """`sam local` leaves such an expression unresolved, and the variable empty."""
    variables = sam_template.raw()["Resources"][FUNCTION]["Properties"]["Environment"]["Variables"]
    assert variables["THRIVE_BASE_URL"] == {"Ref": "ThriveBaseUrl"}
    assert variables["AWS_ENDPOINT_URL"] == {"Ref": "AwsEndpointUrl"}
