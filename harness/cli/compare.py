"""``harness compare``: the changes between two commits or two stored runs, and a gate on these."""

from __future__ import annotations

import contextlib
import datetime as dt
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from harness.cli.app import complete_from, current, plugin_options, store_option
from harness.cli.commits import (
    CANNOT_TELL,
    decisions_here,
    find_revisions,
    installed,
    left_out,
    release_of,
    repository_here,
    require_compared,
    suite_paths,
    tell,
)
from harness.cli.output import width_of_terminal
from harness.collecting import no_collection
from harness.streams import is_coloured

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from harness.analysis.changes import Changes, Pairing
    from harness.history.compared import Within
    from harness.report.changes import ChangeReport
    from harness.results.store import Store, StoredRun
    from harness.revisions.repository import Repository, Revision
    from harness.revisions.rounds import Side

ROUNDS = 16


@dataclass(frozen=True, kw_only=True)
class CompareOptions:
    """The options of ``harness compare``, as parsed."""

    base: str
    head: str
    suite: tuple[str, ...]
    technique: tuple[str, ...]
    release: str | None
    rounds: int | None
    metric: str | None
    bisect: str | None
    gate: bool
    format: str
    store: Path | None


@click.command()
@click.argument("base")
@click.argument("head", default=".")
@click.option(
    "--suite", multiple=True, metavar="NAME|FILE", shell_complete=complete_from("suites"),
    help="Compare only these suites.  [default: the project's, with a [track] table]",
)  # fmt: skip
@click.option(
    "--technique", multiple=True, metavar="GLOB", shell_complete=complete_from("techniques"),
    help="Compare only these techniques (and the baseline).",
)  # fmt: skip
@click.option(
    "--release", metavar="TAG", help="Also compare with this release, or none.  [default: the last v* tag before HEAD]"
)
@click.option(
    "--rounds", type=click.IntRange(min=3), metavar="N",
    help=f"Rounds of timing; a quarter or half of the rounds where these decide.  [default: {ROUNDS}]",
)  # fmt: skip
@click.option(
    "--gate", is_flag=True,
    help="Exit with 1 if anything is worse, with 2 if nothing can be compared; with --metric also with 125 if its "
    "change cannot be told, as git bisect run expects.",
)  # fmt: skip
@click.option("--metric", metavar="NAME", help="Judge only this metric, and no release unless --release names one.")
@click.option(
    "--bisect", metavar="METRIC", help="Find the commit after BASE, up to HEAD, at which this metric changed."
)
@click.option("--json", "format", flag_value="json", help="Short for --format json.")
@click.option(
    "--format", type=click.Choice(["table", "markdown", "json", "junit", "badge"]), default="table", show_default=True
)
@store_option
@plugin_options
@click.pass_context
def compare(context: click.Context, /, **options: Any) -> None:
    """Compare BASE with HEAD: two commits, tags or branches, or two stored runs.

    HEAD defaults to the working tree. Commits are installed side by side and timed in interleaved rounds, unlike stored
    runs. The comparison with a release also finds slow drifts that no single commit shows.
    """
    context.exit(execute(CompareOptions(**options)))


def execute(options: CompareOptions) -> int:
    """Run ``harness compare`` and return the exit code."""
    from harness.results.places import default_store_path
    from harness.results.store import Store

    store = Store(default_store_path(options.store))
    with no_collection():
        runs = _runs(options, store)
        if runs and options.bisect is None:
            return _told(options, _of_runs(options, *runs))
    if options.bisect is not None:
        return _bisect(options, is_of_runs=runs is not None)
    return _told(options, _of_revisions(options))


def _told(options: CompareOptions, report: ChangeReport) -> int:
    """Print a report in the format of the options, and return the exit code."""
    from harness.report.gate import render_gate

    width = width_of_terminal()
    click.echo(render_gate(report, options.format, color=is_coloured(sys.stdout), width=width))
    if not options.gate:
        return 0
    return {"worse": 1, "refused": 2, "untold": CANNOT_TELL}.get(report.outcome, 0)


def _bisect(options: CompareOptions, *, is_of_runs: bool) -> int:
    from harness.api import UsageError
    from harness.cli.bisect import BisectOptions, bisect

    given = [f"--{name}" for name in ("gate", "metric", "release") if getattr(options, name)]
    if given:
        raise UsageError(f"--bisect searches among all commits by itself; leave out {given[0]}")
    if options.format not in ("table", "json"):
        raise UsageError(f"--format {options.format}: what --bisect finds is a table or json")
    if is_of_runs:
        raise UsageError(
            f"{options.base} and {options.head} are stored runs; --bisect expects two commits",
            "see the commits: git log --oneline --first-parent",
        )
    return bisect(
        BisectOptions(
            names=(options.base, options.head),
            metric=str(options.bisect),
            suites=options.suite,
            techniques=options.technique,
            rounds=options.rounds or ROUNDS,
            as_json=options.format == "json",
        )
    )


def _judged(report: ChangeReport, options: CompareOptions, at_head: Sequence[str]) -> ChangeReport:
    """Return a report of the metric of the options alone, where they name one; ``at_head`` is why head is not judged.

    Where no metric is named, what is not judged is a reason to refuse.
    """
    if options.metric is None:
        return replace(report, refused=[*report.refused, *at_head])
    from harness.analysis.sought import seek
    from harness.host import matches

    def is_meant(technique: str) -> bool:
        return any(matches(pattern, technique) for pattern in options.technique or ("*",))

    found = seek(report.changes, options.metric, is_meant)
    lost = [value for value in report.lost if value.metric == options.metric and is_meant(value.place.technique)]
    untold = () if found.changes.of("worse") else (*found.untold, *at_head)
    nothing: tuple[str, ...] = ()
    if not (found.changes.changes or untold):
        new = [entry.place.technique for entry in found.changes.listed]
        untold = tuple(f"{technique} is new: base does not have it" for technique in new)
        nothing = () if new else (f"nothing has a {options.metric} on both sides",)
    return replace(report, changes=found.changes, lost=lost, refused=[*report.refused, *nothing], untold=untold)


def _runs(options: CompareOptions, store: Store) -> tuple[StoredRun, StoredRun] | None:
    """Return the two stored runs of the options, or None where the names are names of commits."""
    from harness.api import UsageError

    ids = []
    for name in (options.base, options.head):
        try:
            ids.append(store.resolve(name))
        except UsageError:
            continue
    if len(ids) < 2:
        return None
    repository = None
    with contextlib.suppress(UsageError):  # stored runs need no repository
        repository = repository_here()
    if repository and all(repository.find(name) for name in (options.base, options.head)):
        raise UsageError(
            f"{options.base} and {options.head} are names of stored runs and of commits; give longer names",
            f"the runs are {ids[0]} and {ids[1]}",
        )
    base, head = store.read_apart((options.base, options.head))
    return base, head


# --------------------------------------------------------------------------------------------- stored runs


def _of_runs(options: CompareOptions, base: StoredRun, head: StoredRun) -> ChangeReport:
    from harness.analysis.changes import Pairing, find_changes
    from harness.analysis.known import known_metrics
    from harness.analysis.seeds import seeds_left_out
    from harness.analysis.states import of_one_identity, remarks_on
    from harness.analysis.unlike import code_of, unlike
    from harness.analysis.vacuous import lost_values, undecidable
    from harness.api import UsageError
    from harness.history.compared import renamed, with_accepted
    from harness.history.likely import possible_renames
    from harness.report.changes import ChangeReport
    from harness.revisions.parts import narrowed

    given = [name for name in ("suite", "release", "rounds") if getattr(options, name)]
    if given:
        raise UsageError(f"--{given[0]} applies to commits only: a stored run has its suite and its times")
    metrics = current().metrics
    remarks: list[str] = []
    for stored in (base, head):
        metrics = known_metrics(stored.info, metrics)
        remarks += [f"run {stored.info.id}: {line}" for line in remarks_on(stored.rows)]
    if options.metric:
        require_compared("--metric", options.metric, metrics)
    decisions = decisions_here()
    base, head = (
        renamed(replace(stored, rows=of_one_identity(stored.rows).rows), decisions) for stored in (base, head)
    )
    lines = unlike(base, head)
    if options.technique:
        base, head = (narrowed(run, options.technique) for run in (base, head))
    pairings = [] if lines else [Pairing(reference=base, head=head)]
    codes = [code_of(run.info) for run in (base, head)]
    notes = [
        f"code under test: {name} {codes[0][name]} and {codes[1][name]}"
        for name in codes[0]
        if name in codes[1] and codes[0][name] != codes[1][name]
    ]
    suites = [run.info.environment.get("suite") for run in (base, head)]
    digests = {suite.get("digest") for suite in suites if isinstance(suite, dict)} - {None}
    notes += ["the files of the two suites differ"] if len(digests) > 1 else []
    found = with_accepted(find_changes(pairings, metrics), decisions, _between_runs(base, head), _today())
    report = ChangeReport(
        base=_labelled(base),
        head=_labelled(head),
        release="",
        changes=found,
        refused=[] if lines or options.metric else undecidable(found.changes, pairings),
        lost=lost_values(pairings, metrics),
        notes=[*remarks, *notes, *seeds_left_out(pairings, metrics), *possible_renames(pairings)],
    )
    return _judged(report, options, lines)


def _labelled(run: StoredRun) -> str:
    """Return what a comparison calls a run: its id, behind the name if it has one."""
    return f"run {run.info.name} ({run.info.id})" if run.info.name else f"run {run.info.id}"


# ------------------------------------------------------------------------------------------------- commits


def _of_revisions(options: CompareOptions) -> ChangeReport:
    from harness.analysis.changes import Changes, fails, find_changes
    from harness.analysis.seeds import seeds_left_out
    from harness.analysis.vacuous import lost_values, undecidable
    from harness.history.compared import renamed, with_accepted
    from harness.history.likely import possible_renames
    from harness.measure.git import SHALLOW
    from harness.report.changes import ChangeReport
    from harness.results.places import default_cache_path
    from harness.revisions.asked import metrics_of
    from harness.revisions.measure import Wanted, measure
    from harness.revisions.rounds import BASE, HEAD, RELEASE

    repository, base, head = find_revisions((options.base, options.head))
    revisions = {BASE: base, HEAD: head}
    release = None if options.metric and not options.release else release_of(options.release, repository, head)
    if release is not None and release.commit != base.commit:
        revisions[RELEASE] = release
    sides, why = installed(repository, revisions, any_head=options.metric is not None)
    if options.metric:
        require_compared("--metric", options.metric, metrics_of(sides[BASE]))
    if HEAD in why:
        changes = Changes(changes=(fails("harness", why[HEAD]),), listed=())
        report = ChangeReport(base=base.label, head=head.label, release="", changes=changes)
        return _judged(report, options, ())
    notes = [f"not compared with the release {revisions[name].label}: {cause}" for name, cause in why.items()]
    notes += left_out(sides)
    if release is None and options.release is None and repository.is_shallow:
        notes.append(f"not compared with a release, for {SHALLOW}")
    decisions = decisions_here()
    wanted = Wanted(
        suites=suite_paths(options.suite, repository),
        techniques=options.technique,
        rounds=0 if options.metric and not options.metric.endswith("_time") else options.rounds or ROUNDS,
        renamed=lambda run: renamed(run, decisions),
        present=lambda name: decisions.present("technique", name),
    )
    measured = measure(sides, wanted, default_cache_path(), tell)
    detected = find_changes(measured.pairings, measured.metrics)
    _keep(options, base, head, detected, measured.pairings)
    changes = replace(detected, changes=(*measured.failures, *detected.changes))
    changes = with_accepted(
        changes, decisions, _between(repository, {side: found.commit for side, found in revisions.items()}), _today()
    )
    vacuous = not (measured.refused or measured.at_head or options.metric)
    report = ChangeReport(
        base=base.label,
        head=head.label,
        release=revisions[RELEASE].label if RELEASE in sides else "",
        changes=changes,
        refused=undecidable(changes.changes, measured.pairings) if vacuous else measured.refused,
        lost=lost_values(measured.pairings, measured.metrics),
        notes=[
            *notes,
            *measured.notes,
            *seeds_left_out(measured.pairings, measured.metrics),
            *possible_renames(measured.pairings),
        ],
    )
    return _judged(report, options, measured.at_head)


def _today() -> dt.date:
    return dt.datetime.now(dt.UTC).date()


def _between(repository: Repository, revisions: Mapping[Side, str]) -> Within:
    """Return whether the beginning of a hash names a commit that head has and base, or the release, has not.

    ``revisions`` are the hashes of the sides.
    """
    from harness.revisions.rounds import BASE, HEAD, RELEASE

    commits = {
        side: (repository.ask("rev-list", f"{revisions[side]}..{revisions[HEAD]}", "--") or "").split()
        for side in (BASE, RELEASE)
        if side in revisions
    }
    return lambda beginning, since_release: any(
        commit.startswith(beginning) for commit in commits.get(RELEASE if since_release else BASE, ())
    )


def _between_runs(base: StoredRun, head: StoredRun) -> Within:
    """Return `_between` of the commits that two runs measured; nothing lies between those of unknown code."""
    from harness.api import UsageError
    from harness.revisions.rounds import BASE, HEAD
    from harness.tracking.results import commit_of

    with contextlib.suppress(UsageError):
        if (repository := repository_here()) is not None:
            return _between(repository, {BASE: commit_of(base.info), HEAD: commit_of(head.info)})
    return lambda _beginning, _since_release: False


def _keep(
    options: CompareOptions, base: Revision, head: Revision, changes: Changes, pairings: Sequence[Pairing]
) -> None:
    """Store what was found of the times of two commits, on which harness history then rests."""
    from harness.history.compared import found_times
    from harness.results.comparisons import keep
    from harness.results.places import default_store_path

    found = found_times(base.commit, head.commit, changes, pairings)
    if found.times and not base.tree and not head.tree:
        keep(default_store_path(options.store), found)
