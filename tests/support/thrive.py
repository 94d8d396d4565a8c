"""Fixtures: a running stand-in Thrive API that checks its callers' requests against the contract."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from sandbox.thrive_api import EXAMPLE_TENANT, StandIn
from tests.support.contract import assert_request_matches_contract

if TYPE_CHECKING:
    from collections.abc import Iterator


class ContractedStandIn(StandIn):
    """A stand-in whose fixture checks every request that it received, at the end of the test.

    A test that breaks the contract on purpose sets `contract_checked` to False.
    """

    contract_checked: bool = True

    def assert_contract_kept(self) -> None:
        """Fail on the first request that the contract does not describe."""
        if not self.contract_checked:
            return
        for arrival in self.requests:
            assert_request_matches_contract(arrival.method, arrival.path, arrival.headers, arrival.body)


@pytest.fixture
def thrive() -> Iterator[ContractedStandIn]:
    """Yield a fresh stand-in: tenant `eu-west-2_AbcdEfghI`, a random secret, plain HTTP on loopback."""
    stand_in = ContractedStandIn(tenant_id=EXAMPLE_TENANT)
    with stand_in.running():
        yield stand_in
    stand_in.assert_contract_kept()
