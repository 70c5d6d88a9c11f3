"""``harness show``: a suite, technique, contract, workload or metric as declared; a run, row or tuning as stored."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from harness.api import UsageError
from harness.api.text import named
from harness.cli.app import complete_from, current, json_option, plugin_options, print_json, store_option
from harness.cli.output import check_format, say, show_view, width_of_terminal
from harness.collecting import no_collection

if TYPE_CHECKING:
    from harness.api import Suite
    from harness.host import Host
    from harness.results.store import StoredRun


@click.group()
def show() -> None:
    """Show a suite, technique, contract, workload or metric as declared, or a run, row or tuning as stored."""


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
@click.argument("name", shell_complete=complete_from("suites"))
@click.option("--path", "as_path", is_flag=True, help="Print the path of the suite's file, and nothing else.")
@click.option("--toml", "as_toml", is_flag=True, help="Print the suite's file, to be copied and edited.")
@plugin_options
@json_option
def suite(name: str, as_path: bool, as_toml: bool, as_json: bool) -> None:
    """Show the suite NAME, or the one of a file: its question, metrics, seeds, tuning, claims and short forms."""
    from harness.entrants import techniques_of
    from harness.report.offered import FORMS, SuitePage, show_suite, suite_json
    from harness.suite import read_suite
    from harness.suite_files import find_suite, parse

    host = current().host
    path = find_suite(name, host)
    table = parse(path)
    if as_path or as_toml:
        say(str(path) if as_path else path.read_text(encoding="utf-8-sig").removesuffix("\n"))
        return
    checked = read_suite(name, host)
    page = SuitePage(
        name=host.resolve("suites", name) if path in _paths(host) else path.stem,
        path=path,
        suite=checked,
        techniques=tuple(entrant.name for entrant in techniques_of(checked, host)),
        metrics=host.metrics,
        forms={form: table[form] for form in FORMS if form in table},
    )
    if as_json:
        print_json(suite_json(page))
        return
    say(show_suite(page))


@show.command()
@click.argument("name", shell_complete=complete_from("metrics"))
@plugin_options
@json_option
def metric(name: str, as_json: bool) -> None:
    """Show the metric NAME: its unit, direction and lane, and which workloads emit it, which suites show it."""
    from harness.analysis.claims import margin_of
    from harness.report.offered import emitters, show_metric, shows

    host = current().host
    if name not in host.metrics:
        raise UsageError(host.unknown("metric", name, host.metrics))
    spec = host.metrics[name]
    emitted = emitters(name, host.workloads)
    margins = {full: margin_of(spec, suite) for full, suite in _suites(host) if name in shows(suite)}
    if as_json:
        print_json({**vars(spec), "workloads": emitted, "margins": margins})
        return
    say(show_metric(spec, emitted, margins))


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

    app = current()
    metrics = app.metrics
    check_format(format_, app)
    with no_collection():
        stored = _read(name, store)
        view = RunView.build(stored.info, stored.rows, metrics)
        if details:
            say(show_run(view, width=width_of_terminal()))
        else:
            click.echo(show_view(view, format_, app))


@show.command()
@click.argument("name", metavar="RUN/TECHNIQUE[@WORKLOAD]|RUN/KEY")
@store_option
@json_option
def row(name: str, store: Path | None, as_json: bool) -> None:
    """Show the rows of a technique, each distinct failure in full; or the row with a key."""
    from harness.report.detail import find_rows, show_rows
    from harness.results.schema import row_to_json

    run_name, _, rest = name.partition("/")
    run = _read(run_name, store)
    matching = find_rows(run.rows, rest)
    if as_json:
        print_json([row_to_json(match) for match in matching])
        return
    say(show_rows(matching, run.info, width=width_of_terminal()))


@show.command()
@click.argument("name", metavar="[RUN]", default="last")
@click.option("--technique", "technique_", metavar="NAME", default="", help="One technique, trial by trial.")
@store_option
@plugin_options
def tuning(name: str, technique_: str, store: Path | None) -> None:
    """Show the tried and the chosen values of each technique's tuning, and choices at the edge."""
    from harness.analysis.view import RunView
    from harness.report.detail import show_tuning

    metrics = current().metrics
    with no_collection():
        stored = _read(name, store)
        say(show_tuning(RunView.build(stored.info, stored.rows, metrics), technique_))


def _suites(host: Host) -> Iterator[tuple[str, Suite]]:
    """Yield the suites that can be read, by full id; harness list suites tells what is wrong with the others."""
    from harness.suite import read_suite

    for full in sorted(host.declared.suites):
        try:
            yield full, read_suite(full, host)
        except UsageError:
            continue


def _paths(host: Host) -> set[Path]:
    return {entry.spec for entry in host.declared.suites.values()}


def _read(name: str, store: Path | None) -> StoredRun:
    from harness.results.places import default_store_path
    from harness.results.store import Store

    return Store(default_store_path(store)).read(name)
