"""``harness show``: a technique, contract or workload as declared; a run, a row or a tuning sweep as stored."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from harness.api.text import named
from harness.cli.app import complete_from, current, json_option, plugin_options, print_json, store_option
from harness.cli.output import check_format, say, show_view, width_of_terminal

if TYPE_CHECKING:
    from harness.results.store import StoredRun


@click.group()
def show() -> None:
    """Show a technique, contract or workload as declared, or a run, a row or a tuning sweep as stored."""


@show.command()
@click.argument("name", shell_complete=complete_from("techniques"))
@plugin_options
@json_option
def technique(name: str, as_json: bool) -> None:
    """Show the technique NAME: its paper, parameters and requirements."""
    from harness.requirements import install_hint, missing_requirements

    host = current().host
    full = host.resolve("techniques", name)
    entry = host.techniques[full]
    spec = entry.spec
    missing = missing_requirements(spec.requires)
    if as_json:
        available = {"available": not missing, "reason": install_hint(missing) if missing else ""}
        print_json({**vars(spec), "id": full, "plugin": entry.plugin, **available})
        return
    say(f"{full}: {spec.summary}")
    facts = {
        "contract": spec.contract,
        "reference": spec.reference,
        "parameters": named(spec.params),
        "own space": named({key: list(values) for key, values in spec.space.items()}),
        "target": spec.target,
        "plugin": f"{entry.plugin} {host.version_of(entry.plugin)}".strip(),
        "missing": install_hint(missing) if missing else "",
    }
    for label, text in facts.items():
        if text:
            say(f"  {label:<11} {text}")


@show.command()
@click.argument("name", shell_complete=complete_from("contracts"))
@plugin_options
@json_option
def contract(name: str, as_json: bool) -> None:
    """Show the contract NAME: the members of its techniques, their arguments, and the measured phases."""
    from harness.report.contracts import contract_json, show_contract
    from harness.report.reference import reference_of

    host = current().host
    spec = host.contracts[host.resolve("contracts", name)].spec
    workloads = {full: entry.spec for full, entry in sorted(host.workloads.items()) if entry.spec.contract == spec.id}
    reference = reference_of(spec.protocol)
    if as_json:
        print_json(contract_json(spec, reference, workloads))
        return
    say(show_contract(spec, reference, workloads))


@show.command()
@click.argument("name", shell_complete=complete_from("workloads"))
@plugin_options
@json_option
def workload(name: str, as_json: bool) -> None:
    """Show the workload NAME: its settings with ranges, metrics and phases."""
    from harness.report.contracts import show_workload, workload_json

    host = current().host
    full = host.resolve("workloads", name)
    entry = host.workloads[full]
    if as_json:
        print_json(workload_json(full, entry.plugin, entry.spec, host.metrics))
        return
    say(show_workload(full, entry.spec, host.metrics))


@show.command()
@click.argument("name", metavar="[RUN]", default="last")
@click.option("--format", "format_", default="table", show_default=True, help="As for harness run.")
@click.option("--details", is_flag=True, help="Show start, end, machine and plugins of the run.")
@store_option
@plugin_options
def run(name: str, format_: str, details: bool, store: Path | None) -> None:
    """Print the table of a stored run (the last one), or its details."""
    from harness.analysis.view import RunView
    from harness.report.detail import show_run

    host = current().host
    check_format(format_, host)
    stored = _read(name, store)
    view = RunView.build(stored.info, stored.rows, host.metrics)
    if details:
        say(show_run(view, width=width_of_terminal()))
    else:
        click.echo(show_view(view, format_, host))


@show.command()
@click.argument("name", metavar="RUN/TECHNIQUE[@WORKLOAD]|RUN/KEY")
@store_option
@json_option
def row(name: str, store: Path | None, as_json: bool) -> None:
    """Show the rows of a technique, each distinct failure in full; or the row with a key."""
    from harness.report.detail import find_rows, show_rows
    from harness.results.schema import row_to_json

    run_name, _, rest = name.partition("/")
    matching = find_rows(_read(run_name, store).rows, rest)
    if as_json:
        print_json([row_to_json(match) for match in matching])
        return
    say(show_rows(matching, width=width_of_terminal()))


@show.command()
@click.argument("name", metavar="[RUN]", default="last")
@click.option("--technique", "technique_", metavar="NAME", default="", help="One technique, trial by trial.")
@store_option
@plugin_options
def tuning(name: str, technique_: str, store: Path | None) -> None:
    """Show the tried and the chosen values of each technique's tuning, and choices at the edge."""
    from harness.analysis.view import RunView
    from harness.report.detail import show_tuning

    stored = _read(name, store)
    say(show_tuning(RunView.build(stored.info, stored.rows, current().host.metrics), technique_))


def _read(name: str, store: Path | None) -> StoredRun:
    from harness.results.places import default_store_path
    from harness.results.store import Store

    return Store(default_store_path(store)).read(name)
