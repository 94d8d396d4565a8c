"""A stand-in for the Thrive API, on a real socket. It keeps to the contract and fails on request.

`service` has the answers of a healthy API, `faults` what can go wrong, `delivery` how a fault changes an answer on its
way to the client, `control` the routes for curl, and `stand_in` the object that tests use.
"""

from sandbox.thrive_api.arrivals import Arrival
from sandbox.thrive_api.faults import Drip, Fault
from sandbox.thrive_api.ledger import Entry, Key
from sandbox.thrive_api.stand_in import EXAMPLE_TENANT, StandIn

__all__ = ["EXAMPLE_TENANT", "Arrival", "Drip", "Entry", "Fault", "Key", "StandIn"]
