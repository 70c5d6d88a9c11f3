"""``harness history``: every series over the stored runs and the tracked commits, with its changes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from harness.cli.app import complete_from, current, json_option, plugin_options, store_option
from harness.cli.output import say, width_of_terminal
from harness.collecting import no_collection

if TYPE_CHECKING:
    from collections.abc import Sequence

    from harness.history.following import History, Origin
    from harness.history.judging import Judged
    from harness.history.series import Wanted

_NAMED: Final = 5
"""The largest number of series that a remark names; the others are counted."""


@click.command()
@click.argument("metric", required=False)
@click.option("--suite", default="*", metavar="GLOB", shell_complete=complete_from("suites"), help="Only these suites.")
@click.option(
    "--technique", default="*", metavar="GLOB", shell_complete=complete_from("techniques"),
    help="Only these techniques.",
)  # fmt: skip
@click.option(
    "--workload", default="*", metavar="GLOB", shell_complete=complete_from("workloads"), help="Only these workloads."
)
@click.option("--since", default="", metavar="COMMIT|DAY", help="Only from this commit, tag or day (2026-11-01) on.")
@click.option(
    "-o", "--output", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE.html",
    help="Write a page with a drawing of each series, which loads nothing.",
)  # fmt: skip
@json_option
@store_option
@plugin_options
def history(
    metric: str | None, suite: str, technique: str, workload: str, since: str, output: Path | None, as_json: bool,
    store: Path | None,
) -> None:  # fmt: skip
    """Show METRIC (a name or a glob) of each technique over all stored runs and tracked commits.

    Without METRIC: the metrics that the suites ask about, times relative to the baseline, and peaks of memory. Changes
    that the project accepted (harness accept) are shown as such.
    """
    from harness.history.gaps import find_gaps
    from harness.history.series import Wanted
    from harness.report.history import HistoryReport, render_history

    wanted = Wanted(metric=metric or "", suite=suite, technique=technique, workload=workload)
    with no_collection():
        origin, found = origin_of(store), followed(store, wanted, since)
        report = HistoryReport(
            judged=found.judged,
            gaps=find_gaps(origin, found),
            subjects=found.subjects,
            notes=[*_notes(found), *_slips(origin, found), *unread(store)],
        )
        if output is None:
            click.echo(render_history(report, as_json=as_json, width=width_of_terminal()))
            return
    from harness.report.history_page import write_history

    write_history(report, output)
    say(str(output))


def followed(store: Path | None, wanted: Wanted, since: str = "") -> History:
    """Return the history of a store and of the tracked commits around this folder; raise UsageError for none."""
    from harness.api import UsageError
    from harness.history.asked import measured_names, misnamed
    from harness.history.following import follow

    origin = origin_of(store)
    found = follow(origin, wanted, since)
    if not found.judged:
        known = measured_names(origin)
        if known["metric"] and (wrong := misnamed(wanted, known)):
            raise UsageError(*(f"{name.text}; see all: harness history" for name in wrong))
        places = [str(kept.path) for kept in origin.stores]
        places += [f"the tracked commits of {origin.project}"] if origin.project else []
        chosen = [
            f"{name} {value!r}"
            for name, value in vars(wanted).items()
            if value not in ("", "*")
        ]  # fmt: skip
        asked = f" of {', '.join(chosen)}" if chosen else ""
        asked += f" since {since!r}" if since else ""
        raise UsageError(
            f"no results{asked} in {' and '.join(places)}",
            *unread(store),
            "see the runs: harness runs; make one: harness run; track commits: harness track",
        )
    return found


def origin_of(store: Path | None) -> Origin:
    """Return what a history is made of: a store, and the tracked commits of the project around this folder."""
    from harness.api import UsageError
    from harness.history.following import Origin
    from harness.results.places import default_store_path
    from harness.results.store import Store
    from harness.tracking.asv import find_project

    here = Path.cwd()
    try:
        project = find_project(here)
    except UsageError:  # no checkout that is tracked
        project = None
    place = Store(default_store_path(store))
    return Origin(stores=[place], project=project, folder=project or here, metrics=current().metrics)


def _notes(found: History) -> list[str]:
    """Return the remarks on a history: what its drawings and verdicts do not say by themselves."""
    from harness.results.team import told_places

    notes = []
    runs = {(point.run, point.place) for entry in found.judged for point in entry.series.points if point.place}
    notes += [f"from the team's index: {line}" for line in told_places(place for _, place in runs)]
    notes += _fewer_seeds(found.judged)
    if any(entry.suspect for entry in found.judged):
        notes.append("The newest points are too few to tell; measure them in turns: harness compare HEAD^ HEAD")
    unknown = [
        entry.commit for entry in found.decisions.accepted if found.timeline.find(entry.commit) is None
    ]  # fmt: skip
    if unknown:
        notes.append(f"accepted, but not among the commits up to the measured ones: {', '.join(sorted(set(unknown)))}")
    return notes


def _slips(origin: Origin, found: History) -> list[str]:
    """Return remarks on names in accepted changes that nothing here has but a near one: such an entry never counts."""
    from harness.history.asked import KINDS, former_names, misnamed
    from harness.history.decisions import FILE

    series = [entry.series.name for entry in found.judged]
    shown = {kind: {getattr(name, kind) for name in series} for kind in KINDS}
    whole: dict[str, set[str]] = {}
    slips: list[str] = []
    for number, entry in enumerate(found.decisions.accepted, start=1):
        texts = former_names(entry, found.decisions)
        if not texts and misnamed(entry, shown):
            whole = whole or known_names(origin)  # plugins, and all that was measured: they take longer to read
            texts = [name.text for name in misnamed(entry, whole) if name.is_slip]
        slips += [f"{FILE} entry {number}: {text}" for text in texts]
    others = [f"and {len(slips) - _NAMED} more"] if len(slips) > _NAMED else []
    return [f"accepted for a name that nothing here has: {line}" for line in [*slips[:_NAMED], *others]]


def known_names(origin: Origin) -> dict[str, set[str]]:
    """Return the names by kind that plugins declare and those that the runs of an origin measured."""
    from harness.history.asked import KINDS, measured_names, with_ratios

    host, measured = current().host, measured_names(origin)
    known = {kind: {*getattr(host.declared, f"{kind}s"), *measured[kind]} for kind in KINDS}
    return known | {"metric": with_ratios({*host.metrics, *measured["metric"]})}


def _fewer_seeds(judged: Sequence[Judged]) -> list[str]:
    """Return the remark on series whose newest point lacks seeds: one that diverged would look like no change."""
    lines = [
        f"{entry.series.name.technique}, {entry.series.name.metric}"
        for entry in judged
        if len(entry.series.points) > 1
        and entry.series.points[-1].seeds.keys() < entry.series.points[-2].seeds.keys()
    ]  # fmt: skip
    if not lines:
        return []
    others = f" and {len(lines) - _NAMED} more" if len(lines) > _NAMED else ""
    return [
        "the newest point lacks seeds of the one before, which diverged, failed or were not asked for, and the others "
        f"alone are compared: {'; '.join(lines[:_NAMED])}{others}"
    ]


def unread(store: Path | None) -> list[str]:
    """Return the remark on the runs of a store that an answer lacks, as their files cannot be read."""
    from harness.results.index import Index
    from harness.results.places import default_store_path
    from harness.results.store import Store

    place = Store(default_store_path(store))
    count = sum(bool(run.problem) for run in Index(place).runs())
    runs = "1 run that is" if count == 1 else f"{count} runs that are"
    return [f"without {runs} in {place.path} and cannot be read; see why: harness runs"] if count else []
