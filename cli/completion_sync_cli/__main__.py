"""``python -m completion_sync_cli``."""

from .main import main

main()
