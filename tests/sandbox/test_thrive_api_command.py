"""The stand-in as a program of its own."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click
import pytest
import urllib3
from click.testing import CliRunner

from sandbox.thrive_api.command import thrive_api
from tests.support.plain_client import basic

if TYPE_CHECKING:
    from collections.abc import Iterator

    import trustme

    from sandbox.thrive_api import StandIn

ROOT = Path(__file__).parents[2]


@contextmanager
def program(*options: str, lines: int) -> Iterator[tuple[subprocess.Popen[str], list[str]]]:
    """Run the program on a free port; yield the process and the first lines that it prints."""
    process = subprocess.Popen(
        [sys.executable, "-m", "sandbox", "thrive-api", "--port", "0", *options],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        assert process.stdout is not None
        yield process, [process.stdout.readline().strip() for _ in range(lines)]
    finally:
        process.kill()
        process.communicate()


def test_generated_credentials_are_printed_and_work() -> None:
    """Without a secret one must be made up, be printed with the tenant id, and open the API."""
    with program(lines=3) as (_, (where, tenant, secret)):
        url = where.removeprefix("stand-in Thrive API on ")
        authorization = basic(tenant.removeprefix("tenant id "), secret.removeprefix("client secret "))
        with urllib3.PoolManager(retries=False) as pool:
            answer = pool.request("GET", f"{url}/rest/v1/users/ref/x", headers={"Authorization": authorization})

    assert answer.status == 404


@pytest.mark.parametrize("stop", [signal.SIGTERM, signal.SIGINT])
def test_a_given_secret_is_never_printed(stop: signal.Signals) -> None:
    """A secret that the caller knows must not be printed, and a signal must end the program in order."""
    with program("--secret", "canary", "--tenant", "t", lines=1) as (process, [where]):
        with urllib3.PoolManager(retries=False) as pool:
            url = where.removeprefix("stand-in Thrive API on ")
            answer = pool.request(
                "POST",
                f"{url}/oauth2/token/t",
                fields={"grant_type": "client_credentials", "client_id": "t", "client_secret": "canary"},
                encode_multipart=False,
            )
        process.send_signal(stop)
        rest, _ = process.communicate(timeout=10)

    assert answer.status == 200
    assert "canary" not in where + rest
    assert rest == ""
    assert process.returncode == 0


def test_every_option_reaches_the_server(tmp_path: Path, thrive_ca: trustme.CA) -> None:
    """Client id, lifetime, users, unknown ids and TLS files must all take effect."""
    leaf = thrive_ca.issue_cert("127.0.0.1")
    leaf.cert_chain_pems[0].write_to_path(str(tmp_path / "cert.pem"))
    leaf.private_key_pem.write_to_path(str(tmp_path / "key.pem"))
    thrive_ca.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    (tmp_path / "users.json").write_text(json.dumps({"E-1": {"id": "user-1"}}))
    options = ["--secret", "s", "--tenant", "t", "--client-id", "c", "--token-lifetime", "60", "--unknown-user", "u"]
    options += ["--users", str(tmp_path / "users.json")]
    options += ["--cert", str(tmp_path / "cert.pem"), "--key", str(tmp_path / "key.pem")]
    body = json.dumps({"userId": "u", "contentId": "c", "completedAt": "2021-01-01T09:00:00Z"})

    with (
        program(*options, lines=1) as (_, [where]),
        urllib3.PoolManager(retries=False, ca_certs=str(tmp_path / "ca.pem")) as pool,
    ):
        url = where.removeprefix("stand-in Thrive API on ")
        credentials = {"grant_type": "client_credentials", "client_id": "c", "client_secret": "s"}
        token = pool.request("POST", f"{url}/oauth2/token/t", fields=credentials, encode_multipart=False).json()
        headers = {"Authorization": f"Bearer {token['access_token']}", "Content-Type": "application/json"}
        user = pool.request("GET", f"{url}/rest/v1/users/ref/E-1", headers=headers)
        completion = pool.request("POST", f"{url}/rest/v1/learning/completions", body=body, headers=headers)

    assert url.startswith("https://")
    assert token["expires_in"] == 60
    assert user.json()["id"] == "user-1"
    assert completion.status == 422


def test_the_command_can_join_a_group() -> None:
    """The command must work as a member of another command group."""
    group = click.Group("completion-sync")
    group.add_command(thrive_api)

    result = CliRunner().invoke(group, ["thrive-api", "--help"])

    assert result.exit_code == 0
    assert "--unknown-user" in result.output


def test_bad_options_end_in_one_sentence(tmp_path: Path, api: StandIn) -> None:
    """A taken port, a users file or TLS files that cannot be read must end in a sentence, not in a traceback."""
    not_users = tmp_path / "file"
    not_users.write_text("[]")
    cases = {
        "cannot listen": ["--port", str(api.port)],
        "from ref to user": ["--users", str(not_users)],
        "no matching certificate": ["--cert", str(not_users)],
        "--key needs --cert": ["--key", str(not_users)],
    }
    for sentence, options in cases.items():
        with program(*options, lines=0) as (process, _):
            output, _ = process.communicate(timeout=10)
        assert process.returncode != 0
        assert sentence in output
        assert "Traceback" not in output
