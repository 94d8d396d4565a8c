"""What all commands share: help, errors, exit statuses, and JSON alone on standard output."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import botocore.exceptions as boto
import click
import pytest

from completion_sync_cli import main, output
from completion_sync_cli.aws_errors import explain
from completion_sync_cli.context import Operator
from completion_sync_cli.formats import ago, duration, moment
from tests.cli.conftest import ROOT, Deployed, World, invoke, process
from tests.support.fakes import client_error

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from datetime import datetime


def commands(group: click.Group, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    """Yield every command with its path, groups included."""
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        yield (*path, name), command
        if isinstance(command, click.Group):
            yield from commands(command, (*path, name))


@pytest.mark.parametrize("path", [path for path, _ in commands(main.cli)], ids=" ".join)
def test_every_help_is_complete(path: tuple[str, ...]) -> None:
    """What it does, what each option means, and an example that can be copied."""
    outcome = invoke(*path, "--help")

    assert outcome.status == 0
    command = dict(commands(main.cli))[path]
    assert all(option.help for option in command.params if isinstance(option, click.Option))
    if not (isinstance(command, click.Group) and not command.invoke_without_command):
        assert "Example" in outcome.out
        lines = [line.strip() for line in outcome.out.splitlines()]
        assert any(line.startswith(f"completion-sync {' '.join(path)}") or "$(" in line for line in lines)
    if path != ("completion",):
        assert all(name in outcome.out for name in ("--stack", "--region", "--profile", "--json"))


def test_help_imports_nothing_that_takes_time() -> None:
    program = (
        "import sys; from completion_sync_cli.main import run; run(sys.argv[1:]); print(*sys.modules, file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, "--help"],
        env={"PYTHONPATH": f"{ROOT / 'src'}:{ROOT / 'cli'}"},
        capture_output=True,
        text=True,
        check=True,
    )

    assert {"boto3", "botocore", "rich", "urllib3"} & set(done.stderr.split()) == set()
    assert "backfill" in done.stdout


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_shells_complete_commands_and_options(shell: str) -> None:
    assert "_COMPLETION_SYNC_COMPLETE" in invoke("completion", shell).out
    # fish passes the word itself, the others its number
    asked = {"_COMPLETION_SYNC_COMPLETE": f"{shell}_complete", "COMP_WORDS": "completion-sync re"}
    asked["COMP_CWORD"] = "re" if shell == "fish" else "1"

    assert "redrive" in process(env=asked).out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["backfil"], "No such command"),
        (["redrive", "--rate", "0"], "--rate"),
        (["redrive", "--since", "tomorrow"], "not a time"),
        (["redrive"], "No stack was given"),
        (["check", "--profile", "nobody", "--stack", "x"], "list-profiles"),
        (["check", "--stack", "x"], "Region"),
    ],
)
def test_wrong_usage_is_explained(arguments: list[str], message: str) -> None:
    outcome = process(*arguments, env={})

    assert outcome.status == 2
    assert message in outcome.err
    assert outcome.out == ""
    assert "Traceback" not in outcome.err


def test_missing_credentials_are_explained() -> None:
    outcome = process("check", "--stack", "x", "--region", "eu-west-2", env={"AWS_EC2_METADATA_DISABLED": "true"})

    assert outcome.status == 2
    assert "no usable AWS credentials" in outcome.err
    assert "aws sso login" in outcome.err


def test_an_endpoint_that_does_not_answer_is_explained() -> None:
    env = {"AWS_ENDPOINT_URL": "http://127.0.0.1:9", "AWS_ACCESS_KEY_ID": "x", "AWS_SECRET_ACCESS_KEY": "x"}

    outcome = process("check", "--stack", "x", "--region", "eu-west-9", env=env | {"AWS_MAX_ATTEMPTS": "1"})

    assert outcome.status == 2
    assert "Is the Region right (eu-west-9)?" in outcome.err


@pytest.mark.parametrize(
    ("error", "message", "remedy"),
    [
        (client_error("ExpiredToken"), "expired", "aws sso login"),
        (client_error("ExpiredTokenException"), "expired", "aws sso login"),
        (client_error("InvalidClientTokenId", 403), "does not accept", "clock"),
        (client_error("AccessDenied", 403), "denied GetSecretValue", "operator-policy.json"),
        (client_error("KMS.AccessDeniedException"), "denied GetSecretValue", "operator-policy.json"),
        (boto.SSOTokenLoadError(error_msg="x"), "expired", "aws sso login"),
        (boto.TokenRetrievalError(provider="sso", error_msg="x"), "expired", "aws sso login"),
        (boto.PartialCredentialsError(provider="env", cred_var="x"), "no usable", "--profile"),
        (boto.ConnectTimeoutError(endpoint_url="x"), "did not answer", "Region"),
    ],
)
def test_boto3s_errors_are_explained(error: Any, message: str, remedy: str) -> None:
    found = explain(error)

    assert (found.status, message in found.message, remedy in found.remedy) == (2, True, True)


def test_an_unexpected_error_shows_neither_trace_nor_text(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise ZeroDivisionError("a body with a name")

    monkeypatch.setattr(Operator, "found", property(fail))
    outcome = invoke("redrive", operator=Operator())

    assert outcome.status == 1
    assert "Unexpected ZeroDivisionError" in outcome.err
    assert "a body with a name" not in outcome.err
    assert "Traceback" not in outcome.err
    monkeypatch.setenv("COMPLETION_SYNC_DEBUG", "1")
    with pytest.raises(ZeroDivisionError):
        invoke("redrive", operator=Operator())


@pytest.mark.parametrize("where", [["--json", "dead-letters"], ["dead-letters", "--json"]])
def test_json_is_all_that_is_on_standard_output(world: World, where: list[str]) -> None:
    world.letter(reason="refused")

    outcome = world.run(*where)

    assert json.loads(outcome.out)["total"] == 1
    assert outcome.err != ""


def test_colours_degrade(world: World) -> None:
    world.letter("[red]not markup[/red] \x1b[31m", reason="[red]refused[/red]")

    listing = world.run("dead-letters").out
    assert "\x1b[1m" not in listing
    assert "[red]refused[/red]" in listing
    assert "[red]not markup[/red]" in world.run("dead-letters", "show").out


def test_progress_is_a_line_a_minute_without_a_terminal(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = iter(range(0, 100_000, 25))
    monkeypatch.setattr(output.time, "monotonic", lambda: float(next(now)))
    with output.Output(as_json=False).progress("sending", 1000) as bar:
        for done in range(0, 500, 100):
            bar.update(done, f"{done} sent")

    assert capsys.readouterr().err.splitlines() == ["sending: 200 sent, 5 min left"]


def test_a_stack_is_found_by_option_or_variable(deploy: Callable[..., Deployed]) -> None:
    deployed = deploy()
    env = {name: value for name, value in deployed.env.items() if name != "COMPLETION_SYNC_STACK"}

    assert process("--stack", deployed.name, "redrive", "--json", env=env).status == 0
    assert process("redrive", "--stack", deployed.name, "--json", env=env).status == 0
    assert process("redrive", "--stack", deployed.name, env=env | {"COMPLETION_SYNC_STACK": "x"}).status == 0
    assert process("redrive", env=deployed.env).status == 0


def test_a_stack_that_is_not_there_or_not_ours_is_explained(deploy: Callable[..., Deployed]) -> None:
    deployed = deploy()
    deployed.emulator.cloudformation.create_stack(
        StackName=f"{deployed.name}-other", TemplateBody='{"Resources": {"Q": {"Type": "AWS::SQS::Queue"}}}'
    )

    missing = invoke("check", "--stack", f"{deployed.name}x")
    other = invoke("check", "--stack", f"{deployed.name}-other")

    assert (missing.status, other.status) == (2, 2)
    assert "There is no stack" in missing.err
    assert f"Did you mean {deployed.name}" in missing.err
    assert "another application" in other.err


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.2, "under a second"),
        (59.6, "1 min"),
        (3720, "1 h 2 min"),
        (3600, "1 h"),
        (200_000, "2 d 7 h"),
        (86_405, "1 d"),
    ],
)
def test_durations_are_short(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_moments_are_read_and_shown(world: World) -> None:
    now: datetime = world._operator().now
    assert ago(moment("90s", now), now) == "1 min ago"
    assert ago(moment("3d", now), now) == "3 d ago"
    assert moment("2027-01-15", now) == moment("2027-01-15T00:00Z", now) == moment("8h", now)
