"""A stand-in for the Thrive API: keeps to the contract, and goes wrong in any way one asks for.

with StandIn().running() as api:
    api.faults.add(Fault(route="completion", status=503, headers={"Retry-After": "1"}, times=2))
    ...
    assert len(api.ledger) == 1
"""

from sandbox.thrive_api.arrivals import Arrival
from sandbox.thrive_api.faults import BadFaultError, Drip, Fault
from sandbox.thrive_api.ledger import Entry, Key
from sandbox.thrive_api.stand_in import EXAMPLE_TENANT, StandIn

__all__ = ["EXAMPLE_TENANT", "Arrival", "BadFaultError", "Drip", "Entry", "Fault", "Key", "StandIn"]
