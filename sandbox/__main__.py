"""`python -m sandbox`: the development commands. The operator's command is in `cli/`."""

import click

from sandbox.demo.command import demo
from sandbox.sam_local import sam_local
from sandbox.thrive_api.command import thrive_api


@click.group()
def main() -> None:
    """Run AWS and Thrive on this machine. None of this is deployed."""


for command in (demo, sam_local, thrive_api):
    main.add_command(command)

if __name__ == "__main__":
    main(prog_name="python -m sandbox")
