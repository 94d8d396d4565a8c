"""The stand-in over TLS, and the fixtures that other tests build on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from urllib3.exceptions import NewConnectionError, ProtocolError, SSLError

from sandbox.thrive_api import Fault
from tests.support.plain_client import PlainClient

if TYPE_CHECKING:
    from tests.support.thrive import ContractedStandIn, TlsStandIn


def test_the_certificate_is_good_for_those_who_trust_its_authority(thrive_tls: TlsStandIn) -> None:
    """A client that trusts the authority must be served over https."""
    client = PlainClient(thrive_tls, ca_certs=str(thrive_tls.ca_path))

    assert thrive_tls.url.startswith("https://127.0.0.1:")
    assert client.complete(f"Bearer {client.token()}").status == 201
    client.close()


def test_the_certificate_is_refused_by_all_others(thrive_tls: TlsStandIn) -> None:
    """A client that trusts the usual authorities only must refuse the stand-in, and send it nothing."""
    client = PlainClient(thrive_tls)

    with pytest.raises(SSLError):
        client.complete()
    client.close()
    assert len(thrive_tls.requests) == 0


@pytest.mark.parametrize("ending", ["reset", "close"])
@pytest.mark.parametrize("route", ["completion", "connection"])
def test_connections_end_over_tls_too(thrive_tls: TlsStandIn, ending: Any, route: Any) -> None:
    """Connection faults must work under TLS: at the latest when the request is sent, the connection is gone."""
    client = PlainClient(thrive_tls, ca_certs=str(thrive_tls.ca_path))
    thrive_tls.faults.add(Fault(route=route, ending=ending))

    with pytest.raises((ProtocolError, SSLError)):
        client.complete()
    assert client.complete().status == 201
    client.close()


def test_going_down_over_tls_leaves_nothing_open(thrive_tls: TlsStandIn) -> None:
    """Down and up must work with open TLS connections."""
    client = PlainClient(thrive_tls, ca_certs=str(thrive_tls.ca_path))
    client.complete()

    thrive_tls.down()
    with pytest.raises(NewConnectionError):
        client.complete()
    thrive_tls.up()
    assert client.complete().status == 200
    client.close()


def test_the_fixture_holds_its_callers_to_the_contract(thrive: ContractedStandIn) -> None:
    """A request that breaks the contract must fail the check at the end, unless the test opted out."""
    client = PlainClient(thrive)
    client.complete()
    thrive.assert_contract_kept()

    client.complete(completedAt="2021-01-01T09:00:00")
    client.close()

    with pytest.raises(AssertionError, match="completedAt breaks 'format'"):
        thrive.assert_contract_kept()
    thrive.contract_checked = False
