"""``harness show``: a technique as declared; a run, a row or a tuning sweep as stored."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from harness.cli.app import complete_from, current, json_option, plugin_options, print_json, store_option
from harness.cli.output import check_format, show_view

if TYPE_CHECKING:
    from harness.api import Row
    from harness.results.store import StoredRun


@click.group()
def show() -> None:
    """Show a technique as declared, or a run, a row or a tuning sweep as stored."""


@show.command()
@click.argument("name", shell_complete=complete_from("techniques"))
@plugin_options
@json_option
def technique(name: str, as_json: bool) -> None:
    """Show what the technique NAME is: its paper, its parameters, what it needs."""
    from harness.plan import install_hint, missing_requirements

    host = current().host
    full = host.resolve("techniques", name)
    entry = host.techniques[full]
    spec = entry.spec
    missing = missing_requirements(spec.requires)
    if as_json:
        available = {"available": not missing, "reason": install_hint(missing) if missing else ""}
        print_json({**asdict(spec), "id": full, "plugin": entry.plugin, **available})
        return
    click.echo(f"{full}: {spec.summary}")
    facts = {
        "contract": spec.contract,
        "reference": spec.reference,
        "parameters": ", ".join(f"{key} {value}" for key, value in spec.params.items()),
        "own space": ", ".join(f"{key} {list(values)}" for key, values in spec.space.items()),
        "target": spec.target,
        "plugin": f"{entry.plugin} {host.version_of(entry.plugin)}".strip(),
        "missing": install_hint(missing) if missing else "",
    }
    for label, text in facts.items():
        if text:
            click.echo(f"  {label:<11} {text}")


@show.command()
@click.argument("name", metavar="RUN", default="last")
@click.option("--format", "format_", default="table", show_default=True, help="As for harness run.")
@store_option
@plugin_options
def run(name: str, format_: str, store: Path | None) -> None:
    """Print the table of a stored run (the last one)."""
    from harness.analysis.view import RunView

    host = current().host
    check_format(format_, host)
    stored = _read(name, store)
    click.echo(show_view(RunView.build(stored.info, stored.rows, host.metrics), format_, host))


@show.command()
@click.argument("name", metavar="RUN/TECHNIQUE|RUN/KEY")
@click.option("--seed", type=int, help="Only rows of this seed.")
@click.option("--lane", type=click.Choice(["accuracy", "memory", "time"]), help="Only rows of this lane.")
@store_option
@json_option
def row(name: str, seed: int | None, lane: str | None, store: Path | None, as_json: bool) -> None:
    """Show rows in full: those of a technique that failed or, where none did, all of them; or the row with a key."""
    from harness.report.detail import row_text
    from harness.results.schema import row_to_json

    run_name, _, rest = name.partition("/")
    stored = _read(run_name, store)
    wanted = [
        one
        for one in _rows_of(stored, rest)
        if (seed is None or one.case.seed == seed) and (lane is None or one.case.lane == lane)
    ]
    if seed is None and lane is None:
        wanted = [one for one in wanted if not one.ok] or wanted
    if as_json:
        print_json([row_to_json(one) for one in wanted])
        return
    click.echo("\n\n".join(row_text(one) for one in wanted) or "no such row")


@show.command()
@click.argument("name", metavar="[RUN]", default="last")
@click.option("--technique", "technique_", metavar="GLOB", default="*", help="Only these techniques.")
@store_option
@plugin_options
def tuning(name: str, technique_: str, store: Path | None) -> None:
    """Show what each technique's tuning tried, what it chose, and whether that lies at the edge."""
    from harness.analysis.view import RunView
    from harness.host import matches
    from harness.report.detail import tuning_text

    stored = _read(name, store)
    rows = [one for one in stored.rows if matches(technique_, one.case.technique)]
    click.echo(tuning_text(RunView.build(stored.info, rows, current().host.metrics)))


def _read(name: str, store: Path | None) -> StoredRun:
    from harness.results.store import Store, default_store_path

    return Store(default_store_path(store)).read(name)


def _rows_of(stored: StoredRun, text: str) -> Sequence[Row]:
    """The rows that ``text`` means: a key or its beginning, a technique's full id, or its short name."""
    from harness.api import UsageError
    from harness.host import matches, nearest

    found = [one for one in stored.rows if one.case.key.startswith(text)] if len(text) > 3 else []
    found = found or [one for one in stored.rows if matches(text, one.case.technique)]
    if not found:
        names = {one.case.technique for one in stored.rows}
        raise UsageError(f"run {stored.info.id} has no row {text!r}{nearest(text, names)}; name a technique or a key")
    return found
