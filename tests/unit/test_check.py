"""The function's answer to ``{"completionSync": "check"}``: each thing that can be wrong, and nothing else."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from completion_sync import bootstrap
from completion_sync.errors import UnsupportedEventError
from sandbox.thrive_api import Fault
from tests.support.fakes import CANARY, client_error, secret_text
from tests.support.function import functioning, secret_of
from tests.support.s3 import CONFIG_URI, FakeS3
from tests.support.sqs import FakeSqs, fail_with

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.support.function import Function
    from tests.support.thrive import ContractedStandIn

REFUSED = client_error("AWS.SimpleQueueService.BatchEntryIdsNotDistinct", 400, "SendMessageBatch")


@pytest.fixture
def check(monkeypatch: pytest.MonkeyPatch, thrive: ContractedStandIn) -> Callable[..., dict[str, dict[str, str]]]:
    """Return what checks a function, well configured by default, and returns the checks by name."""
    build = bootstrap.build

    def run(
        event: dict[str, Any] | None = None,
        prepare: Callable[[Function], None] = lambda _: None,
        config: dict[str, str] | None = None,
        **more: Any,
    ) -> dict[str, dict[str, str]]:
        sqs = FakeSqs()
        sqs.on_call = fail_with(REFUSED)
        secret = more.pop("secret", secret_of(thrive))
        if config is not None:
            more["CONFIG_URI"] = CONFIG_URI
            s3 = FakeS3(**config)
            monkeypatch.setattr(bootstrap, "build", lambda *args, **parts: build(*args, s3=s3.client, **parts))
        with functioning(monkeypatch, thrive.url, secret=secret, sqs=sqs, **more) as function:
            prepare(function)
            answer = function.invoke({"completionSync": "check", **(event or {})})
        assert set(answer) == {"checks"}
        assert all(set(one) == {"name", "status", "detail", "remedy"} for one in answer["checks"])
        assert CANARY not in json.dumps(answer)
        assert thrive.client_secret not in json.dumps(answer)
        assert len(thrive.ledger) == 0
        return {one["name"].removeprefix("function-"): one for one in answer["checks"]}

    return run


def statuses(checks: dict[str, dict[str, str]]) -> dict[str, str]:
    """Return the status of each check; every warning or failure has a remedy."""
    assert all(one["remedy"] for one in checks.values() if one["status"] in {"warning", "failed"})
    return {name: one["status"] for name, one in checks.items()}


def test_nothing_is_wrong_when_nothing_is(check: Any, thrive: ContractedStandIn) -> None:
    assert statuses(check()) == {
        "dead-letters": "ok",
        "config": "skipped",
        "secret": "ok",
        "token": "ok",
        "read-scope": "ok",
    }
    assert len(thrive.requests.of("completion")) == 0


def test_webhook_token_and_write_are_tested_on_request(check: Any, thrive: ContractedStandIn) -> None:
    thrive.contract_checked = False  # an empty completion is no valid one

    found = check({"webhooks": True, "write": True})

    assert (found["webhook-token"]["status"], found["write-scope"]["status"]) == ("ok", "ok")
    assert [arrival.body for arrival in thrive.requests.of("completion")] == [b"{}"]


@pytest.mark.parametrize(
    ("secret", "detail"),
    [
        ("not JSON", "must be a JSON object"),
        (secret_text(clientSecret="REPLACE_ME"), "placeholder"),
        (secret_text(tenantId=None), "tenantId: is missing"),
    ],
)
def test_a_bad_secret_is_named(check: Any, secret: str, detail: str) -> None:
    found = check(secret=secret)

    assert statuses(found) == {"dead-letters": "ok", "config": "skipped", "secret": "failed", "token": "skipped"}
    assert detail in found["secret"]["detail"]


@pytest.mark.parametrize(
    ("code", "detail", "remedy"),
    [
        ("ResourceNotFoundException", "has no value yet", "put-secret-value"),
        ("AccessDeniedException", "answered AccessDeniedException", "put-secret-value"),
        ("ThrottlingException", "answered ThrottlingException", "Try again"),
    ],
)
def test_the_reason_why_a_secret_cannot_be_read_is_named(check: Any, code: str, detail: str, remedy: str) -> None:
    def fail(function: Function) -> None:
        function.secrets.failure = client_error(code)

    found = check(prepare=fail)

    assert found["secret"]["status"] == "failed"
    assert detail in found["secret"]["detail"]
    assert remedy in found["secret"]["remedy"]


def test_a_tenant_of_another_environment_is_refused_a_token(check: Any) -> None:
    found = check(secret=secret_text())

    assert found["token"]["status"] == "failed"
    assert "staging and production" in found["token"]["remedy"].lower()
    assert "read-scope" not in found


def test_basic_credentials_need_no_token(check: Any, thrive: ContractedStandIn) -> None:
    found = check(secret=secret_of(thrive, authMethod="basic"))

    assert (found["token"]["status"], found["read-scope"]["status"]) == ("skipped", "ok")


@pytest.mark.parametrize(
    ("fault", "status", "remedy"),
    [
        ({"status": 403}, "warning", "Ask Thrive for the scope api/read"),
        ({"status": 401}, "failed", "Do tenantId and clientSecret belong to"),
        ({"status": 302}, "failed", "Do tenantId and clientSecret belong to"),
        ({"status": 429}, "failed", "Try again"),
        ({"status": 500}, "failed", "Try again"),
        ({"status": 404, "spoil": "html"}, "failed", "Try again"),
        (
            {"status": 200, "body": "{}"},
            "failed",
            "Is something in between that answers for Thrive? Check THRIVE_BASE_URL.",
        ),
    ],
)
def test_only_thrives_own_404_shows_that_people_can_be_looked_up(
    check: Any, thrive: ContractedStandIn, fault: dict[str, Any], status: str, remedy: str
) -> None:
    thrive.faults.add(Fault(route="user", times=None, **fault))

    found = check()["read-scope"]

    assert found["status"] == status
    assert found["remedy"].startswith(remedy)
    if "status" in fault and status == "failed":
        assert found["detail"].startswith(f"Thrive answered {fault['status']}")


def test_a_scope_that_is_refused_matters_only_to_references(check: Any, thrive: ContractedStandIn) -> None:
    found = check(THRIVE_READ_SCOPE="api/none")

    assert (found["token"]["status"], found["read-scope"]["status"]) == ("ok", "warning")


@pytest.mark.parametrize("status", [400, 422])
def test_an_empty_completion_that_is_refused_as_invalid_shows_that_the_client_may_write(
    check: Any, thrive: ContractedStandIn, status: int
) -> None:
    thrive.contract_checked = False
    thrive.faults.add(Fault(route="completion", status=status))

    assert check({"write": True})["write-scope"]["status"] == "ok"


@pytest.mark.parametrize(
    ("fault", "detail"),
    [
        ({"status": 403}, "the scope api/write"),
        ({"status": 201, "body": '{"statementId": "s"}', "commit": False}, "answered 201"),
        ({"ending": "reset"}, "connection"),
    ],
)
def test_a_write_that_is_not_refused_as_invalid_has_failed(
    check: Any, thrive: ContractedStandIn, fault: dict[str, Any], detail: str
) -> None:
    thrive.contract_checked = False
    thrive.faults.add(Fault(route="completion", times=None, **fault))

    found = check({"write": True})["write-scope"]

    assert found["status"] == "failed"
    assert detail in found["detail"]


def test_a_refused_webhook_scope_is_reported(check: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bootstrap, "WEBHOOK_SCOPE", "api/none")

    assert check({"webhooks": True})["webhook-token"]["status"] == "failed"


@pytest.mark.parametrize("code", ["AccessDenied", "AWS.SimpleQueueService.NonExistentQueue"])
def test_a_role_that_may_not_dead_letter_is_found(check: Any, code: str) -> None:
    def fail(function: Function) -> None:
        function.sqs.on_call = fail_with(client_error(code, 403))

    assert check(prepare=fail)["dead-letters"]["status"] == "failed"


def test_a_missing_dead_letter_queue_is_a_warning(check: Any) -> None:
    assert check(DEAD_LETTER_QUEUE_URL="")["dead-letters"]["status"] == "warning"


def test_a_changed_secret_is_read_again(check: Any, thrive: ContractedStandIn) -> None:
    """The check does not answer from a cache that a later message would still use."""

    def change(function: Function) -> None:
        function.application.credentials.get()
        function.secrets.rotate("not JSON")

    assert check(prepare=change)["secret"]["status"] == "failed"


MAPPING = json.dumps({"version": 1, "sources": [{"name": "x", "userRef": "a", "contentId": "b", "completedAt": "c"}]})


@pytest.mark.parametrize(
    ("files", "status", "detail"),
    [
        ({"mapping__json": MAPPING}, "ok", "a mapping (sources: 1)"),
        ({"content__csv": "code,contentId\na,b\n"}, "ok", "no mapping, a content table"),
        ({"mapping__json": "{"}, "failed", "mapping.json: line 1"),
        ({"content__csv": "code\n"}, "failed", "content.csv: line 1"),
        ({}, "failed", "neither mapping.json nor content.csv"),
    ],
)
def test_the_configuration_is_read(check: Any, files: dict[str, str], status: str, detail: str) -> None:
    found = check(config=files)["config"]

    assert found["status"] == status
    assert detail in found["detail"]
    assert found["remedy"].startswith("completion-sync config validate") == (status == "failed")


@pytest.mark.parametrize(
    ("mapping", "status"),
    [(MAPPING, "failed"), (MAPPING.replace("userRef", "userId"), "warning"), ("{", "warning")],
    ids=["references", "ids", "invalid"],
)
def test_only_a_mapping_with_references_needs_the_read_scope(
    check: Any, thrive: ContractedStandIn, mapping: str, status: str
) -> None:
    thrive.faults.add(Fault(route="user", times=None, status=403))

    assert check(config={"mapping__json": mapping})["read-scope"]["status"] == status


@pytest.mark.parametrize("event", [{"completionSync": "else"}, {"completionSync": True}, {"check": True}])
def test_other_events_stay_unsupported(
    monkeypatch: pytest.MonkeyPatch, thrive: ContractedStandIn, event: dict[str, Any]
) -> None:
    with functioning(monkeypatch, thrive.url) as function, pytest.raises(UnsupportedEventError):
        function.invoke(event)
