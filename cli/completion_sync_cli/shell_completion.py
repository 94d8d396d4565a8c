"""`completion`: prints a shell completion script."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

_FILES = {
    "bash": "echo 'eval \"$(completion-sync completion bash)\"' >> ~/.bashrc",
    "zsh": "echo 'eval \"$(completion-sync completion zsh)\"' >> ~/.zshrc",
    "fish": "completion-sync completion fish > ~/.config/fish/completions/completion-sync.fish",
}


@click.command("completion")
@click.argument("shell", type=click.Choice(list(_FILES)))
def command(shell: str) -> None:
    """Print the completion script of bash, zsh or fish.

    \b
    Example:
      eval "$(completion-sync completion bash)"     # in ~/.bashrc
    """
    kind = get_completion_class(shell)
    if kind is None:
        raise click.UsageError(f"click does not support completion for {shell}")
    root = click.get_current_context().find_root().command
    click.echo(kind(root, {}, "completion-sync", "_COMPLETION_SYNC_COMPLETE").source())
    click.echo(f"To enable it in every new shell: {_FILES[shell]}", err=True)
