"""The demonstration: a workload, bad weather, and a check that every message is accounted for."""
