"""The search of ``harness compare --bisect``: which commit changed a metric."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import click

from harness.cli.commits import (
    CANNOT_TELL,
    decisions_here,
    find_revisions,
    installed,
    left_out,
    require_compared,
    suite_paths,
    tell,
)
from harness.cli.output import width_of_terminal

if TYPE_CHECKING:
    from collections.abc import Sequence

    from harness.analysis.changes import Change
    from harness.history.decisions import Decisions
    from harness.report.bisected import Bisected
    from harness.revisions.measure import Measured, Wanted
    from harness.revisions.probes import Runs, Series


@dataclass(frozen=True, kw_only=True)
class BisectOptions:
    """The options of ``harness compare`` that a search has; ``names`` are those of BASE and HEAD."""

    names: tuple[str, str]
    metric: str
    suites: tuple[str, ...]
    techniques: tuple[str, ...]
    rounds: int
    as_json: bool


def bisect(options: BisectOptions) -> int:
    """Search, print what is found, and return the exit code."""
    from harness.api import UsageError
    from harness.report.bisected import render_bisected
    from harness.results.places import default_cache_path
    from harness.revisions.asked import metrics_of
    from harness.revisions.line import line_of
    from harness.revisions.measure import measure
    from harness.revisions.probes import Means, Runs
    from harness.revisions.rounds import BASE, HEAD

    repository, base, head = find_revisions(options.names)
    line = line_of(repository, base, head)
    suites = suite_paths(options.suites, repository)
    sides, why = installed(repository, {BASE: base, HEAD: head})
    if HEAD in why:
        raise UsageError(f"{head.label}: {why[HEAD]}", "choose another commit as HEAD")
    metrics = metrics_of(sides[HEAD])
    require_compared("--bisect", options.metric, metrics)
    decisions = decisions_here()
    wanted = _wanted(options, suites, decisions)
    measured = measure(sides, wanted, default_cache_path(), tell)
    whole = _choose(options, measured)
    series = _series(whole, suites, measured, decisions)
    means = Means(
        repository=repository,
        cache=default_cache_path(),
        metrics=metrics,
        renamed=wanted.renamed,
        present=wanted.present,
        report=tell,
    )
    runs = Runs(line=line, series=series, means=means)
    found = _search(runs, whole, options.rounds)
    found.notes.extend([*left_out(sides), *measured.notes])
    click.echo(render_bisected(found, as_json=options.as_json, width=width_of_terminal()))
    return 0 if found.commit is not None else CANNOT_TELL


def _wanted(options: BisectOptions, suites: tuple[str, ...], decisions: Decisions) -> Wanted:
    """Return what BASE and HEAD are compared by first: as by ``harness compare``, and times only to search a time."""
    from harness.history.compared import renamed
    from harness.revisions.measure import Wanted

    return Wanted(
        suites=suites,
        techniques=options.techniques,
        rounds=options.rounds if options.metric.endswith("_time") else 0,
        renamed=lambda run: renamed(run, decisions),
        present=lambda name: decisions.present("technique", name),
    )


def _choose(options: BisectOptions, measured: Measured) -> Change:
    """Return the change from BASE to HEAD whose commit is searched: that of one technique, where it is largest.

    Raises UsageError where there is none, and where several techniques changed.
    """
    from harness.analysis.changes import find_changes
    from harness.analysis.sought import concerned
    from harness.api import UsageError
    from harness.host import matches
    from harness.report.changes import told

    names = options.techniques or ("*",)
    changes = [
        change
        for change in find_changes(measured.pairings, measured.metrics).changes
        if any(matches(pattern, change.place.technique) for pattern in names)
    ]
    found = concerned(changes, options.metric)
    if not found:
        of = f" of {', '.join(options.techniques)}" if options.techniques else ""
        causes = [change.reason for change in (*measured.failures, *changes) if change.kind == "status"]
        causes += [*measured.refused, *measured.at_head]
        causes += [
            f"{change.place.technique}: {told(change) or change.verdict}"
            for change in changes
            if change.metric == options.metric and change.verdict == "undecided"
        ]
        raise UsageError(
            f"no difference in {options.metric}{of} between BASE and HEAD is sure, so there is no commit to find"
            + "".join(f"; {cause}" for cause in dict.fromkeys(causes))
        )
    techniques = sorted({change.place.technique for change in found})
    if len(techniques) > 1:
        raise UsageError(
            f"{options.metric} is {found[0].verdict} in {len(techniques)} techniques: {', '.join(techniques)}; "
            f"expected one: --technique {techniques[0]}"
        )
    return max(
        found, key=lambda change: abs(change.difference.value) / (change.margin or 1) if change.difference else 0
    )


def _series(whole: Change, suites: Sequence[str], measured: Measured, decisions: Decisions) -> Series:
    """Return the series of a change, with the least to run of it at each commit."""
    from harness.revisions.probes import Series

    place = whole.place
    pairing = next(pair for pair in measured.pairings if pair.head.info.suite.id == place.suite)
    seeds = {
        row.case.seed
        for row in pairing.head.rows
        if (row.case.technique, row.case.workload, row.case.lane) == (place.technique, place.workload, "accuracy")
    }
    asked = len(seeds) if whole.kind == "quality" and len(seeds) != len(pairing.head.info.suite.seeds) else None
    is_plain = ":" not in place.workload and not decisions.renamed.get("workload")
    ids = {path.rpartition("/")[2].removesuffix(".toml"): path for path in suites}
    return Series(
        suite=ids.get(place.suite, place.suite),
        place=place,
        metric=whole.metric,
        lane="memory" if whole.kind == "time" else measured.metrics[whole.metric].lane,
        workloads=(place.workload,) if is_plain else (),
        seeds=asked,
    )


def _search(runs: Runs, whole: Change, rounds: int) -> Bisected:
    """Search the commit of a change, and measure what the commit itself changed."""
    from harness.analysis.bisection import ERROR, level_of, search
    from harness.report.bisected import Bisected
    from harness.revisions.probes import ExactProbe, TimeProbe

    last = len(runs.line) - 1
    for number in (0, last):
        runs.demand(number)
    probe: ExactProbe | TimeProbe
    if whole.kind == "time":
        probe = TimeProbe(runs=runs, rounds=rounds, level=level_of(last))
        probe.start()
    else:
        probe = ExactProbe(runs=runs)
    found = search(last, probe.ask)
    return Bisected(
        whole=whole,
        change=probe.between(found.low, found.high),
        line=runs.line,
        found=found,
        error=ERROR if whole.kind == "time" else 0.0,
    )
