"""Fixtures: a running stand-in Thrive API that checks its callers' requests against the contract."""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING

import pytest
import trustme

from sandbox.thrive_api import EXAMPLE_TENANT, StandIn
from tests.support.contract import assert_request_matches_contract

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


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


class TlsStandIn(ContractedStandIn):
    """The same over TLS; `ca_path` is the PEM file of the authority that signed its certificate."""

    ca_path: Path


@pytest.fixture
def thrive() -> Iterator[ContractedStandIn]:
    """Yield a fresh stand-in: tenant `eu-west-2_AbcdEfghI`, a random secret, plain HTTP on loopback."""
    stand_in = ContractedStandIn(tenant_id=EXAMPLE_TENANT)
    with stand_in.running():
        yield stand_in
    stand_in.assert_contract_kept()


@pytest.fixture(scope="session")
def thrive_ca() -> trustme.CA:
    """Return the authority that signs the stand-in's certificates; nothing trusts it by default."""
    return trustme.CA()


@pytest.fixture
def thrive_tls(thrive_ca: trustme.CA, tmp_path: Path) -> Iterator[TlsStandIn]:
    """Yield a fresh stand-in over TLS, with a certificate for `127.0.0.1` and `localhost`."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    thrive_ca.issue_cert("127.0.0.1", "localhost").configure_cert(context)
    stand_in = TlsStandIn(tenant_id=EXAMPLE_TENANT, ssl_context=context)
    stand_in.ca_path = tmp_path / "thrive-ca.pem"
    thrive_ca.cert_pem.write_to_path(str(stand_in.ca_path))
    with stand_in.running():
        yield stand_in
    stand_in.assert_contract_kept()
