"""`reconcile`: what Thrive holds of a history, found with few calls and by the function's rules for calls."""

from __future__ import annotations

import csv
import json
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

import pytest

from completion_sync_cli import reconcile, tenant
from sandbox.thrive_api import Fault
from sandbox.thrive_api.ledger import Key
from tests.cli.conftest import World, completion
from tests.cli.test_backfill import write
from tests.support.fakes import client_error

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.thrive import ContractedStandIn

HOUR = "2024-05-01T09:00:00"


@pytest.fixture
def world(world: World, thrive: ContractedStandIn) -> World:
    world.thrive = thrive
    return world


def hold(world: World, user: str, content: str = "content", at: str = f"{HOUR}.000Z") -> None:
    world.thrive.ledger.record(Key(user, content, at))


def queries(world: World) -> list[dict[str, list[str]]]:
    """Return the queries with which the list was asked for."""
    return [parse_qs(urlsplit(arrival.path).query) for arrival in world.thrive.requests.of("listing")]


def test_rows_are_present_ambiguous_or_missing(world: World, tmp_path: Path) -> None:
    hold(world, "user-1")
    hold(world, "user-2", at="2019-01-01T00:00:00Z")
    hold(world, "user-3", content="another")
    hold(world, "user-4", at=f"{HOUR}.999Z")
    hold(world, "someone else")
    file = write(tmp_path / "h.jsonl", [completion(number) for number in range(1, 6)])
    report = tmp_path / "report.csv"

    outcome = world.run("reconcile", file, "--report", report, "--json")

    assert outcome.document == {"rows": 5, "present": 2, "missing": 2, "ambiguous": 1}
    assert outcome.status == 1
    with report.open(newline="") as lines:
        assert list(csv.reader(lines)) == [["line", "state"], ["2", "ambiguous"], ["3", "missing"], ["5", "missing"]]
    assert "Missing: line 3, 5." in outcome.err
    assert world.source.messages == []


def test_exit_status_is_0_only_if_no_row_is_missing_or_rejected(world: World, tmp_path: Path) -> None:
    hold(world, "user-1")

    assert world.run("reconcile", write(tmp_path / "h.jsonl", [completion(1)])).status == 0
    assert world.run("reconcile", write(tmp_path / "h.jsonl", [completion(1), {}]), "--json").status == 1


def test_references_are_looked_up_once_each_and_never_printed(world: World, tmp_path: Path) -> None:
    world.thrive.directory.users["E-1"] = {"id": "user-1"}
    hold(world, "user-1", "a")
    rows = [completion(0, userId=None, userRef=ref, contentId=content) for ref in ("E-1", "E-2") for content in "ab"]

    outcome = world.run("reconcile", write(tmp_path / "h.jsonl", rows), "--json")

    assert outcome.document == {"rows": 4, "present": 1, "missing": 3, "ambiguous": 0}
    assert len(world.thrive.requests.of("user")) == 2
    assert "E-1" not in outcome.out + outcome.err


def test_many_people_in_a_short_time_are_read_by_time(world: World, tmp_path: Path) -> None:
    """Fifty people, of whom one is missing: three pages by time, and one person by name."""
    for number in range(1, 50):
        hold(world, f"user-{number}")
    file = write(tmp_path / "h.jsonl", [completion(number) for number in range(50)])

    outcome = world.run("reconcile", file, "--json")

    assert outcome.document == {"rows": 50, "present": 49, "missing": 1, "ambiguous": 0}
    asked = queries(world)
    assert len(asked) <= 4
    assert asked[0]["page"] == ["51"]
    assert (asked[0]["completedDateRangeStart"], asked[0]["completedDateRangeEnd"]) == (
        [f"{HOUR}.000Z"],
        [f"{HOUR}.999Z"],
    )
    assert [query["userId"] for query in asked if "userId" in query] == [["user-0"]]


def test_few_people_among_very_many_records_are_read_by_person(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tenant, "PER_PAGE", 5)
    for number in range(200):
        hold(world, f"other-{number}")
    for number in range(10):
        hold(world, f"user-{number}")
    file = write(tmp_path / "h.jsonl", [completion(number) for number in range(10)])

    outcome = world.run("reconcile", file, "--json")

    assert outcome.document["present"] == 10
    asked = queries(world)
    # one to find out, one for each person, and one to learn that a short page is the last
    assert len(asked) == 12
    assert sum("userId" in query for query in asked) == 11


def test_a_server_that_returns_fewer_than_asked_for_is_noticed(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(25):
        hold(world, "user-1", f"content-{number}")
    page = tenant.Tenant.page

    def capped(self: tenant.Tenant, query: Any, number: int) -> list[Any]:
        whole = [record for n in range(1, 4) for record in page(self, query, n)] if number == 1 else capped.all
        capped.all = whole
        return whole[(number - 1) * 10 : number * 10]

    monkeypatch.setattr(tenant.Tenant, "page", capped)
    rows = [completion(1, contentId=f"content-{number}") for number in range(26)]

    assert world.run("reconcile", write(tmp_path / "h.jsonl", rows), "--json").document["present"] == 25


@pytest.mark.parametrize("status", [404, 405])
def test_a_tenant_without_the_list_says_so(world: World, tmp_path: Path, status: int) -> None:
    world.thrive.faults.add(Fault(route="listing", times=None, status=status))

    outcome = world.run("reconcile", write(tmp_path / "h.jsonl", [completion(1)]), "--json")

    assert outcome.status == 1
    assert "does not offer its list of completions" in outcome.err
    assert outcome.out == ""


def test_credentials_that_may_not_read_are_explained(world: World, tmp_path: Path) -> None:
    world.thrive.faults.add(Fault(route="listing", times=None, status=403))

    outcome = world.run("reconcile", write(tmp_path / "h.jsonl", [completion(1)]))

    assert outcome.status == 2
    assert "api/read" in outcome.err


def test_thrives_rate_limit_and_failures_are_waited_for(world: World, tmp_path: Path) -> None:
    hold(world, "user-1")
    world.thrive.faults.add(Fault(route="listing", times=1, status=429, headers={"Retry-After": "40"}))
    world.thrive.faults.add(Fault(route="listing", times=8, status=503))
    began = world.clock.now().monotonic

    outcome = world.run("reconcile", write(tmp_path / "h.jsonl", [completion(1)]), "--json")

    assert outcome.document["present"] == 1
    assert world.clock.now().monotonic - began >= 40
    assert world.thrive.client_secret not in outcome.err


def test_thrive_that_stays_away_ends_the_run(world: World, tmp_path: Path) -> None:
    world.thrive.faults.add(Fault(route="listing", times=None, status=503))

    outcome = world.run("reconcile", write(tmp_path / "h.jsonl", [completion(1)]))

    assert outcome.status == 1
    assert "status page" in outcome.err
    assert len(world.thrive.requests.of("listing")) < 250


def test_missing_rows_are_sent_again_only_with_yes(world: World, tmp_path: Path) -> None:
    hold(world, "user-1")
    rows = [completion(number) for number in range(3)]
    file = write(tmp_path / "h.jsonl", rows)

    assert world.run("reconcile", file, "--resend").status == 1
    assert world.source.messages == []
    outcome = world.run("reconcile", file, "--resend", "--yes", "--json")

    assert outcome.status == 0
    assert outcome.document["missing"] == 2
    assert [json.loads(message.body) for message in world.source.messages] == [rows[0], rows[2]]
    assert len({message.group for message in world.source.messages}) == 1


def test_resending_ends_when_sqs_stays_away(world: World, tmp_path: Path) -> None:
    calls = []

    def fail(operation: str, request: dict[str, Any]) -> None:
        if operation == "SendMessageBatch":
            calls.append({entry["MessageBody"] for entry in request["Entries"]})
            raise client_error("ServiceUnavailable", 503)

    world.sqs.before = fail
    file = write(tmp_path / "h.jsonl", [completion(number) for number in range(30)])
    outcome = world.run("reconcile", file, "--resend", "--yes", "--json")

    assert (outcome.status, outcome.document["missing"]) == (1, 30)
    assert all(bodies == calls[0] for bodies in calls)
    assert "Run the command again" in outcome.err


def test_an_interruption_changes_nothing(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(self: reconcile.Reconciliation) -> None:
        world.interrupt()
        self._go_on()

    monkeypatch.setattr(reconcile.Reconciliation, "_read_by_person", stop)
    outcome = world.run("reconcile", write(tmp_path / "h.jsonl", [completion(1)]), "--resend", "--yes", "--json")

    assert (outcome.status, outcome.out) == (1, "")
    assert world.source.messages == []
