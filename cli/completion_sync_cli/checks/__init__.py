"""What can be wrong with a deployed stack, seen from outside. Each module has a list ``CHECKS``."""
