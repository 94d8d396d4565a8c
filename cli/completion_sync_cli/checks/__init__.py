"""The checks of a deployed stack from outside. Each module has a list ``CHECKS``."""
