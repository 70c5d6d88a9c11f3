"""``harness completion``: the script with which a shell completes harness commands."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print the completion script of a shell.

    bash: eval "$(harness completion bash)" in ~/.bashrc; zsh: the same in ~/.zshrc; fish: harness completion fish |
    source in config.fish.
    """
    from harness.cli import cli

    kind = get_completion_class(shell)
    assert kind is not None  # click ships the three that the argument admits
    click.echo(kind(cli, {}, "harness", "_HARNESS_COMPLETE").source())
