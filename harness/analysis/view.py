"""What there is to say about a run: every technique on every workload, compared, ranked and held against claims."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Self

from harness.analysis.claims import ClaimResult, judge_claims, rule_of
from harness.analysis.compare import Rule, compare_family
from harness.analysis.intervals import Estimate, iqm_difference, iqm_interval
from harness.analysis.summary import TechniqueSummary, summarise, withheld
from harness.api import DISTRIBUTION, Metric, Row, RunInfo, Suite, UsageError
from harness.results.store import latest


@dataclass(frozen=True, kw_only=True)
class WorkloadView:
    """One table: the techniques on a workload, best first, those without a quality last.

    ``cost`` is the metric of the Pareto front: the first of the suite's costs that there is, or None. ``rule`` made the
    verdicts.
    """

    workload: str
    techniques: tuple[TechniqueSummary, ...]
    rule: Rule
    cost: str | None

    @property
    def baseline(self) -> TechniqueSummary | None:
        """The baseline's summary, where it has one."""
        return next((one for one in self.techniques if one.baseline), None)


@dataclass(frozen=True, kw_only=True)
class Overall:
    """A technique over all workloads: the interquartile mean of its quality, and its difference to the baseline's."""

    technique: str
    iqm: Estimate
    difference: Estimate | None


@dataclass(frozen=True, kw_only=True)
class RunView:
    """A run, ready to be shown.

    ``metrics`` describes every metric that appears. ``overall`` is empty for a single workload, and leaves out
    techniques that failed on a seed or have no quality on some workload. ``rows`` counts those stored, ``failed`` those
    that failed.
    """

    info: RunInfo
    metrics: Mapping[str, Metric]
    workloads: tuple[WorkloadView, ...]
    overall: tuple[Overall, ...]
    claims: tuple[ClaimResult, ...]
    rows: int
    failed: int

    @property
    def quality(self) -> Metric:
        """The metric that sorts the tables."""
        return self.metrics[self.info.suite.quality]

    @property
    def finished(self) -> bool:
        """Whether the run went to its end, rather than being under way, interrupted or killed."""
        return bool(self.info.finished) and self.info.exit_code in (0, 1)

    @classmethod
    def build(cls, info: RunInfo, rows: Iterable[Row], metrics: Mapping[str, Metric]) -> Self:
        """Sum up a run. ``metrics`` are those declared by the loaded plugins.

        Raises `UsageError` where a metric of the suite is among none of them.
        """
        suite = info.suite
        require_metrics(info, metrics)
        rows = latest(rows)
        groups: dict[str, dict[str, list[Row]]] = {}
        for row in rows:
            groups.setdefault(row.case.workload, {}).setdefault(row.case.technique, []).append(row)
        order = [name for name in suite.workloads if name in groups]
        workloads = tuple(_workload(name, groups[name], suite, metrics) for name in order)
        shown = {name for view in workloads for one in view.techniques for name in one.figures}
        return cls(
            info=info,
            metrics={
                name: metric for name, metric in metrics.items() if name in shown | {*suite.metrics, suite.select}
            },
            workloads=workloads,
            overall=_overall(workloads) if len(workloads) > 1 else (),
            claims=tuple(
                judge_claims(
                    suite,
                    {one.workload: {summary.technique: summary for summary in one.techniques} for one in workloads},
                    metrics,
                )
            ),
            rows=len(rows),
            failed=sum(row.failed for row in rows),
        )


def require_metrics(info: RunInfo, metrics: Mapping[str, Metric]) -> None:
    """Raise `UsageError` where a metric of a run's suite is not declared, with the plugins that the run was made with.

    ``metrics`` are those declared by the loaded plugins.
    """
    suite = info.suite
    needed = dict.fromkeys([*suite.metrics, suite.select, *(claim.metric for claim in suite.claims)])
    missing = [name for name in needed if name not in metrics]
    if missing:
        raise UsageError(
            f"suite {suite.id!r} uses the metric {missing[0]!r}, which no loaded plugin declares",
            f"install or enable the plugin that did when run {info.id} was made: {_plugins_of(info) or 'unknown'}",
        )


def _plugins_of(info: RunInfo) -> str:
    """Return the plugins of a run's techniques and workloads that do not ship with the harness."""
    ids = (info.suite.baseline, *info.suite.techniques, *info.suite.workloads)
    concerned = {name.partition("/")[0] for name in ids}
    names = []
    for plugin in info.plugins:
        name, owner = str(plugin.get("name")), plugin.get("distribution")
        if name in concerned and owner != DISTRIBUTION:
            names.append(name if owner else f"{name} (with -p harness_{name.replace('-', '_')})")
    return ", ".join(names)


def _workload(
    workload: str, groups: Mapping[str, Sequence[Row]], suite: Suite, metrics: Mapping[str, Metric]
) -> WorkloadView:
    quality = metrics[suite.quality]
    rule = rule_of(quality, suite)
    summaries = {name: summarise(rows, suite, metrics[suite.select]) for name, rows in groups.items()}
    summaries = _compared(summaries, suite, rule)
    cost = next((name for name in suite.costs if any(name in one.figures for one in summaries.values())), None)
    front = _pareto(summaries.values(), cost, quality) if cost else set()
    ranked = sorted(summaries.values(), key=lambda one: _rank(one, quality))
    return WorkloadView(
        workload=workload,
        techniques=tuple(replace(one, pareto=one.technique in front) for one in ranked),
        rule=rule,
        cost=cost,
    )


def _rank(summary: TechniqueSummary, quality: Metric) -> tuple[bool, float, str]:
    if summary.quality is None:
        return (True, 0.0, summary.technique)
    value = summary.quality.estimate.value
    return (False, -value if quality.higher_is_better else value, summary.technique)


def _compared(summaries: Mapping[str, TechniqueSummary], suite: Suite, rule: Rule) -> dict[str, TechniqueSummary]:
    """The summaries with their comparison to the baseline, where both have a quality."""
    baseline = summaries.get(suite.baseline)
    if baseline is None or baseline.quality is None:
        return dict(summaries)
    contestants = {
        name: one.quality.values for name, one in summaries.items() if one.quality is not None and not one.baseline
    }
    compared = compare_family(contestants, baseline.quality.values, rule)
    return {
        name: replace(one, comparison=withheld(compared[name], one, baseline)) if name in compared else one
        for name, one in summaries.items()
    }


def _pareto(summaries: Iterable[TechniqueSummary], cost: str, quality: Metric) -> set[str]:
    """Techniques without failed seeds that no other beats in quality or cost without losing in the other."""
    sign = -1 if quality.higher_is_better else 1
    points = {
        one.technique: (sign * one.quality.estimate.value, one.figures[cost].estimate.value)
        for one in summaries
        if one.quality is not None and not one.failed_seeds and cost in one.figures
    }

    def dominated(point: tuple[float, float]) -> bool:
        return any(other[0] <= point[0] and other[1] <= point[1] and other != point for other in points.values())

    return {name for name, point in points.items() if not dominated(point)}


def _overall(workloads: Sequence[WorkloadView]) -> tuple[Overall, ...]:
    """IQMs over all workloads, best first."""
    scores: dict[str, list[dict[int, float]]] = {}
    for view in workloads:
        for one in view.techniques:
            if one.quality is not None and not one.failed_seeds:
                scores.setdefault(one.technique, []).append(dict(one.quality.values))
    scores = {name: strata for name, strata in scores.items() if len(strata) == len(workloads)}
    baseline = next((one.technique for view in workloads for one in view.techniques if one.baseline), "")
    found = []
    for name, strata in scores.items():
        difference = None
        if name != baseline and baseline in scores:
            shared = [
                (own, base, sorted(set(own) & set(base))) for own, base in zip(strata, scores[baseline], strict=True)
            ]
            if all(seeds for _, _, seeds in shared):
                difference = iqm_difference(
                    [[own[seed] for seed in seeds] for own, _, seeds in shared],
                    [[base[seed] for seed in seeds] for _, base, seeds in shared],
                )
        found.append(
            Overall(technique=name, iqm=iqm_interval([list(one.values()) for one in strata]), difference=difference)
        )
    sign = -1 if workloads[0].rule.higher_is_better else 1
    return tuple(sorted(found, key=lambda one: (sign * one.iqm.value, one.technique)))
