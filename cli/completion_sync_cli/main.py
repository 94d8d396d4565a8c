"""The entry point of `completion-sync`."""

import click


@click.group()
@click.version_option(package_name="thrive-completion-sync")
def main() -> None:
    """Operate a deployed thrive-completion-sync stack."""
