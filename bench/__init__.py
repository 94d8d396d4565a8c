"""Measurements, and the peers measured beside the function; nothing here ships. `python -m bench` runs everything."""
