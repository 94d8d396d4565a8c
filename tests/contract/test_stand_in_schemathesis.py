"""The stand-in keeps to Thrive's OpenAPI file whatever it is sent; Schemathesis generates the requests."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import pytest
import schemathesis
import yaml
from hypothesis import HealthCheck, Phase, settings
from schemathesis.checks import not_a_server_error
from schemathesis.core.failures import FailureGroup
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    ignored_auth,
    negative_data_rejection,
    positive_data_acceptance,
    response_schema_conformance,
    status_code_conformance,
    unsupported_method,
)

from sandbox.thrive_api import Fault, Key, StandIn
from tests.support.contract import SPEC_PATH

if TYPE_CHECKING:
    from collections.abc import Iterator

CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
    negative_data_rejection,
    positive_data_acceptance,
    unsupported_method,
    ignored_auth,
]


def contract() -> dict[str, Any]:
    """Return the contract, with what it leaves open about the list: its times, and the answer to a senseless query."""
    document: dict[str, Any] = yaml.safe_load(SPEC_PATH.read_text())
    listing = document["paths"]["/rest/v1/learning/completions"]["get"]
    listing["responses"]["400"] = listing["responses"]["401"]
    for parameter in listing["parameters"]:
        if "DateRange" in parameter["name"]:
            parameter["schema"]["format"] = "date-time"
    return document


schema = schemathesis.openapi.from_dict(contract())


class EverySecondRef(dict[str, Mapping[str, Any]]):
    """A user for every second ref, because no generated ref would ever be found in a list."""

    def get(self, ref: str, default: Any = None) -> Any:
        """Return a user for a ref of even length."""
        return default if len(ref) % 2 else {"id": "user-1", "email": None, "status": "active"}


@pytest.fixture
def stand_in() -> Iterator[StandIn]:
    """Yield one stand-in per operation; at the end its route must have given every good answer of the contract."""
    with StandIn().running() as api:
        api.directory.users = EverySecondRef()
        api.ledger.record(Key("user-1", "content-1", "2021-01-01T09:00:00.123Z"))
        yield api
    good = {route: counts.keys() & {"200", "201"} for route, counts in api.requests.counts().items()}
    [(route, statuses)] = [(route, statuses) for route, statuses in good.items() if statuses]
    assert statuses == ({"200", "201"} if route == "completion" else {"200"})


@schema.parametrize()
@settings(
    max_examples=60,
    deadline=None,
    derandomize=True,
    database=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)
def test_the_stand_in_keeps_to_the_contract(case: Any, stand_in: StandIn) -> None:
    """Each answer is in the contract; valid data is accepted; invalid data and credentials are refused."""
    case.call_and_validate(base_url=stand_in.url, headers=_credentials(stand_in), checks=CHECKS)


@pytest.mark.parametrize(
    "fault",
    [
        Fault(status=418),
        Fault(status=503),
        Fault(body='{"statementId": 7}'),
        Fault(spoil="html"),
    ],
)
def test_the_checks_fail_an_answer_outside_the_contract(fault: Fault) -> None:
    case = schema["/rest/v1/learning/completions"]["POST"].Case(
        body={"userId": "u", "contentId": "c", "completedAt": "2021-01-01T09:00:00Z"}, media_type="application/json"
    )
    with StandIn().running() as api:
        api.faults.add(fault)

        with pytest.raises(FailureGroup):
            case.call_and_validate(base_url=api.url, headers=_credentials(api), checks=CHECKS)


def _credentials(stand_in: StandIn) -> dict[str, str]:
    pair = f"{stand_in.tenant_id}:{stand_in.client_secret}".encode()
    return {"Authorization": f"Basic {base64.b64encode(pair).decode()}"}
