"""``harness new``: a package with a technique of a contract, or with a family of one's own, to begin with."""

from __future__ import annotations

from pathlib import Path

import click

from harness.cli.app import complete_from, current, plugin_options
from harness.cli.output import say

_path_option = click.option(
    "--path",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path(),
    metavar="DIR",
    help="The folder in which the package's folder is made.  [default: this folder]",
)


@click.group()
def new() -> None:
    """Write a package to begin with: a technique of a contract, or a family with a contract of its own."""


@new.command()
@click.argument("name")
@click.option(
    "--contract",
    required=True,
    shell_complete=complete_from("contracts"),
    help="The contract of the technique; harness list contracts lists them.",
)
@_path_option
@plugin_options
def technique(name: str, contract: str, path: Path) -> None:
    """Write the package harness-NAME: a technique that works, a baseline, a suite and tests.

    What it holds beside these: a benchmark, a README, a workflow for CI, and a page for coding assistants.
    """
    from harness.report.contracts import show_contract
    from harness.report.reference import reference_of
    from harness.starting import named, own_template, require_free, technique_files, with_template, write

    made, host = named(name), current().host
    require_free(made, [record.name for record in host.plugins])
    full = _contract(contract, with_template(host))
    spec, own = host.contracts[full].spec, own_template(host, full)
    workloads = {key: entry.spec for key, entry in sorted(host.workloads.items()) if entry.spec.contract == full}
    reference = show_contract(spec, reference_of(spec.protocol), workloads)
    write(technique_files(made, full, own, reference), path / made.folder)
    _tell(path / made.folder, made.name, made.package)
    if not own.distribution:
        owner = host.contracts[full].plugin
        say(f"\nplugin {owner!r}, whose contract it has, is not installed: add its package to the dependencies")


@new.command()
@click.argument("name")
@_path_option
@plugin_options
def family(name: str, path: Path) -> None:
    """Write the package harness-NAME: a contract NAME, metrics, workloads, techniques, a suite and tests.

    It begins as the example that the documentation explains, under the new name: replace its parts one by one.
    """
    from harness.api import UsageError
    from harness.starting import family_files, named, require_free, write

    made, host = named(name), current().host
    require_free(made, [record.name for record in host.plugins])
    if made.name in host.contracts:
        raise UsageError(f"name {made.name!r} is that of a contract already; choose another one")
    write(family_files(made), path / made.folder)
    _tell(path / made.folder, made.name, made.package)


def _contract(name: str, offered: list[str]) -> str:
    """Return the contract of a name. Raises UsageError with the nearest one where there is none."""
    from harness.api import UsageError, nearest

    host = current().host
    if name in host.contracts:
        return name  # which is refused later where its family has no template
    raise UsageError(f"no contract {name!r}{nearest(name, offered) or '; one of ' + ', '.join(offered)}")


def _tell(folder: Path, name: str, package: str) -> None:
    """Say what was written, and which commands lead to the row in the table."""
    from shlex import quote

    say(
        f"wrote {folder}; its code is in {package}/techniques.py. What comes next:\n\n"
        f"  cd {quote(str(folder))}\n"
        '  python -m pip install -e ".[test]"\n'
        f"  harness check {name}\n"
        f"  harness run --suite {name} --quick\n"
        "  harness report\n"
        "  python -m pytest"
    )
