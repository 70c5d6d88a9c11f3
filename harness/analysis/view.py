"""Analyses a run: sums up, compares and ranks the techniques on every workload, and tests the suite's claims."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, Self

from harness.analysis.claims import ClaimResult, judge_claims, rule_of
from harness.analysis.compare import Rule
from harness.analysis.decisions import decide_all
from harness.analysis.front import pareto
from harness.analysis.judging import as_measured, at_equal_values, with_unchanged
from harness.analysis.known import known_metrics, of_comparison
from harness.analysis.overall import Overall, overall
from harness.analysis.ranking import ranked, standings
from harness.analysis.repeatability import with_repeatability
from harness.analysis.states import of_one_identity, remarks_of
from harness.analysis.summary import BEHIND, FRONT, TechniqueSummary, summarise, withheld
from harness.api import Metric, Row, RunInfo, Suite

if TYPE_CHECKING:
    import pandas
    import pyarrow

    from harness.analysis.frames import By

RATIO: Final = "x"
"""The unit of a throughput that verdicts are made by: times the baseline's."""


@dataclass(frozen=True, kw_only=True)
class WorkloadView:
    """The table of a workload: its techniques, best first, with those without a quality last.

    ``rule`` is the rule behind the verdicts. ``cost`` is the cost metric of the Pareto front, which is the first of the
    suite's costs that any technique has; None where no technique has any.
    """

    workload: str
    techniques: tuple[TechniqueSummary, ...]
    rule: Rule
    cost: str | None

    @property
    def baseline(self) -> TechniqueSummary | None:
        """The summary of the baseline, or None where the baseline was not run on this workload."""
        return next((summary for summary in self.techniques if summary.baseline), None)

    def other(self, summary: TechniqueSummary) -> TechniqueSummary | None:
        """Return what a technique is compared with: its reference at an equal value, or else the baseline."""
        return next((other for other in self.techniques if other.technique == summary.against), self.baseline)


@dataclass(frozen=True, kw_only=True)
class RunView:
    """The analysis of a run, from which reports are made.

    ``metrics`` describes every metric that appears in the run. ``overall`` is empty for a single workload, and leaves
    out techniques that failed on a seed or lack a quality on some workload. ``rows`` is the number of stored rows, the
    latest for each case, and ``failed`` the number of failed ones among them. ``remarks`` are lines on the rows: which
    states of code and packages computed them, and which rows are left out. ``reused`` of the rows were computed by
    earlier runs. ``judged`` is the metric behind the verdicts: the one that the suite states, or its first where that
    was not measured; by default the former.
    """

    info: RunInfo
    metrics: Mapping[str, Metric]
    workloads: tuple[WorkloadView, ...]
    overall: tuple[Overall, ...]
    claims: tuple[ClaimResult, ...]
    rows: int
    failed: int
    remarks: tuple[str, ...] = ()
    judged: str = ""
    reused: int = 0

    @property
    def quality(self) -> Metric:
        """The metric by which tables are sorted and verdicts made; of a throughput, the ratio to the baseline's."""
        metric = self.metrics[self.judged or self.info.suite.judged]
        return replace(metric, unit=RATIO) if self.by_rounds else metric

    @property
    def judged_phase(self) -> str:
        """The phase whose throughput makes the verdicts; empty where a metric of the accuracy lane does."""
        return replace(self.info.suite, judge=self.judged or self.info.suite.judged).judged_phase

    @property
    def by_rounds(self) -> bool:
        """Whether verdicts are made over the rounds of the time lane, and not over seeds."""
        return bool(self.judged_phase)

    @property
    def repeat(self) -> str:
        """What verdicts are made over, in the singular: ``seed`` or ``round``."""
        return "round" if self.by_rounds else "seed"

    @property
    def finished(self) -> bool:
        """Whether the run was completed; False while the run is in progress, and after an interrupted or killed run."""
        return bool(self.info.finished) and self.info.exit_code in (0, 1)

    def to_arrow(self, by: By = "technique") -> pyarrow.Table:
        """Return a record for each metric of each technique on each workload, with its interval, as a table of Arrow.

        ``by="seed"`` gives a record for each seed instead. Raises `UsageError` where pyarrow is not installed.
        """
        from harness.analysis import frames

        return frames.to_arrow(self, by)

    def to_pandas(self, by: By = "technique") -> pandas.DataFrame:
        """Return what `to_arrow` does as a data frame. Raises `UsageError` where pandas is not installed."""
        from harness.analysis import frames

        return frames.to_pandas(self, by)

    @classmethod
    def build(cls, info: RunInfo, rows: Iterable[Row], metrics: Mapping[str, Metric]) -> Self:
        """Return the analysis of a run. ``metrics`` are the metrics that loaded plugins declare, by id.

        What the run itself keeps of a metric is preferred. Raises `UsageError` where a metric that the suite uses is
        declared by neither.
        """
        suite = info.suite
        known = known_metrics(info, metrics)
        chosen = of_one_identity(rows)
        remarks, rows = remarks_of(chosen), chosen.rows
        suite = as_measured(suite, rows)
        groups: dict[str, dict[str, list[Row]]] = {}
        for row in rows:
            groups.setdefault(row.case.workload, {}).setdefault(row.case.technique, []).append(row)
        order = [name for name in suite.workloads if name in groups]
        workloads = tuple(_workload(name, groups[name], suite, known) for name in order)
        shown = {name for view in workloads for summary in view.techniques for name in summary.figures}
        shown |= {claim.metric for claim in suite.claims}  # a series of which there need not be a figure
        return cls(
            info=info,
            metrics=known.among(shown | {*suite.metrics, suite.select, *of_comparison(info.suite)}),
            workloads=workloads,
            overall=overall([view.techniques for view in workloads], workloads[0].rule) if len(workloads) > 1 else (),
            claims=tuple(
                judge_claims(
                    suite,
                    {view.workload: {summary.technique: summary for summary in view.techniques} for view in workloads},
                    known,
                )
            ),
            rows=len(rows),
            failed=sum(row.failed for row in rows),
            remarks=remarks,
            judged=suite.judged,
            reused=sum(bool(row.reused_from) for row in rows),
        )


def _workload(
    workload: str,
    groups: Mapping[str, Sequence[Row]],
    suite: Suite,
    metrics: Mapping[str, Metric],
) -> WorkloadView:
    """Return the table of a workload from its rows by technique."""
    quality = metrics[suite.judged]
    rule = rule_of(quality, suite)
    summaries = {name: summarise(rows, suite, metrics[suite.select]) for name, rows in groups.items()}
    summaries = with_unchanged(_compared(summaries, suite, rule), suite, metrics)
    summaries = with_repeatability(summaries, suite.baseline, rule)
    names = (suite.equal,) if suite.equal else suite.costs
    cost = next((name for name in names if any(name in summary.figures for summary in summaries.values())), None)
    candidates = [own for own in summaries.values() if not own.changed]
    front = pareto(candidates, cost, quality, standings(summaries, suite)) if cost else set()
    placed = {
        name: replace(
            summary,
            pareto=name in front,
            place=summary.place or (suite.equal and (FRONT if name in front else BEHIND)),
        )
        for name, summary in summaries.items()
    }
    return WorkloadView(workload=workload, techniques=ranked(placed, suite, metrics), rule=rule, cost=cost)


def _compared(summaries: Mapping[str, TechniqueSummary], suite: Suite, rule: Rule) -> dict[str, TechniqueSummary]:
    """Return the summaries, each with its comparison with the baseline where both have a quality."""
    if suite.equal:
        return at_equal_values(summaries, suite, rule)
    found = decide_all(summaries, suite, rule)
    compared = found.comparisons
    if suite.judged_phase:
        compared = {
            name: replace(comparison, reason=comparison.reason.replace("seed", "round"))
            for name, comparison in compared.items()
        }
    return {
        name: replace(
            summary,
            comparison=withheld(compared[name], summary, summaries[suite.baseline]),
            look=found.look(name),
        )
        if name in compared
        else summary
        for name, summary in summaries.items()
    }
