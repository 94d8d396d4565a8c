"""The command as a process: on a deployed stack with the function in Lambda's runtime behind it, and killed at work."""

from __future__ import annotations

import json
import signal
import time
from typing import TYPE_CHECKING

import pytest

from completion_sync_cli.queue_pass import depth
from sandbox.pipeline import mail
from sandbox.pipeline.front import lambda_front
from sandbox.pipeline.rig import Plan, running_rig
from tests.cli.conftest import Deployed, completion, process, start
from tests.cli.test_backfill import write
from tests.cli.test_check import enable

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from sandbox.pipeline.artefact import Artefact
    from sandbox.pipeline.emulator import Emulator
    from tests.support.thrive import ContractedStandIn

PATIENCE = 60.0


@pytest.mark.e2e
def test_check_redrive_and_reconcile_with_the_function_behind(
    emulator: Emulator, code: Artefact, thrive: ContractedStandIn, tmp_path: Path
) -> None:
    """Two completions are refused; once the cause is gone, the command finds, redrives and verifies them."""
    thrive.contract_checked = False  # --write sends an empty completion
    thrive.directory.unknown_users.update(["user-1", "user-2"])
    plan = Plan(environments=1, parameters={"AlarmEmail": "a@example.com"})
    with running_rig(emulator, thrive, code, tmp_path, name="cli-e2e", plan=plan) as rig, lambda_front(rig) as url:
        deployed = Deployed(emulator, rig.stack, "cli-e2e")
        env = deployed.env | {"AWS_ENDPOINT_URL": url}
        mail.send(emulator.sqs, rig.queue_url, [json.dumps(completion(number)) for number in range(4)])
        rig.poller.start()
        wait(lambda: rig.backlog() == 0)
        history = write(tmp_path / "history.jsonl", [completion(number) for number in range(4)])

        before = process("reconcile", history, "--json", env=env)
        assert (before.status, before.document["missing"]) == (1, 2), before.err
        groups = process("dead-letters", "--json", env=env).document["groups"]
        assert [(group["reason"], group["status"], group["count"]) for group in groups] == [("refused", 422, 2)]
        thrive.directory.unknown_users.clear()
        moved = process("redrive", "--reason", "refused", "--yes", "--json", env=env)
        assert (moved.status, moved.document["moved"]) == (0, 2), moved.err
        wait(lambda: rig.backlog() == 0)
        after = process("reconcile", history, "--json", env=env)
        assert (after.status, after.document["present"]) == (0, 4), after.err
        rig.poller.stop()

        enable(deployed)
        checked = process("check", "--webhooks", "--write", "--yes", "--json", env=env)
        checks = checked.document["checks"]
        assert [one for one in checks if one["status"] not in {"ok", "skipped"}] == []
        assert checked.status == 0
        own = {one["name"] for one in checks if one["name"].startswith("function-") and one["status"] == "ok"}
        assert own >= {"function-secret", "function-token", "function-read-scope", "function-write-scope"}
        assert len(thrive.ledger) == 4
        emulator.secrets.put_secret_value(SecretId=deployed.outputs["ThriveSecretArn"], SecretString="{}")
        broken = process("check", env=env)
        assert broken.status == 1
        assert "tenantId: is missing" in broken.out


def wait(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, f"not within {PATIENCE:g} s"
        time.sleep(0.05)


def visible(deployed: Deployed, url: str) -> int:
    """Return how many messages of a queue can be received now."""
    found = deployed.emulator.sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["ApproximateNumberOfMessages"])
    return int(found["Attributes"]["ApproximateNumberOfMessages"])


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL], ids=lambda number: number.name)
def test_redrive_can_be_ended_at_any_moment(deploy: Callable[..., Deployed], number: signal.Signals) -> None:
    deployed = deploy()
    bodies = [json.dumps(completion(n)) for n in range(60)]
    mail.send(deployed.emulator.sqs, deployed.dead, bodies)
    child = start("redrive", "--yes", "--json", "--rate", "20", env=deployed.env)
    wait(lambda: visible(deployed, deployed.source) >= 20)
    child.send_signal(number)
    out, err = child.communicate(timeout=PATIENCE)
    moved = visible(deployed, deployed.source)

    assert "Traceback" not in err
    if number is signal.SIGKILL:
        assert child.returncode == -number
        # at worst, one batch was sent and not yet deleted
        assert 60 - moved <= depth(deployed.emulator.sqs, deployed.dead) <= 70 - moved
    else:
        assert child.returncode == 1, err
        assert json.loads(out)["moved"] == moved
        # handed back on the way out
        assert visible(deployed, deployed.dead) == 60 - moved
        again = process("redrive", "--yes", "--json", "--rate", "1000", env=deployed.env)
        assert (again.status, again.document["moved"]) == (0, 60 - moved)
        assert sorted(deployed.bodies(deployed.source)) == sorted(bodies)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL], ids=lambda number: number.name)
def test_backfill_can_be_ended_at_any_moment(
    deploy: Callable[..., Deployed], tmp_path: Path, number: signal.Signals
) -> None:
    deployed = deploy()
    file = write(tmp_path / "history.jsonl", [completion(n) for n in range(80)])
    child = start("backfill", file, "--yes", "--rate", "20", env=deployed.env)
    wait(lambda: visible(deployed, deployed.source) >= 40)
    child.send_signal(number)
    child.communicate(timeout=PATIENCE)
    assert child.returncode == (1 if number is signal.SIGTERM else -number)

    again = process("backfill", file, "--yes", "--json", "--rate", "1000", env=deployed.env)

    assert again.status == 0, again.err
    assert again.document["skipped"] >= (40 if number is signal.SIGTERM else 10)
    users = [json.loads(body)["userId"] for body in deployed.bodies(deployed.source)]
    assert set(users) == {f"user-{n}" for n in range(80)}
    assert len(users) <= 80 + (0 if number is signal.SIGTERM else 30)
