"""Decides the comparisons of a workload from the summaries of its techniques, after one number of seeds or several."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from harness.analysis.claims import rule_of
from harness.analysis.compare import Comparison, Rule, compare_family
from harness.analysis.sequential import Family, Ledger, replay
from harness.analysis.summary import TechniqueSummary, summarise
from harness.api import Metric, Row, Suite
from harness.until import further_seeds


@dataclass(frozen=True, kw_only=True)
class Decisions:
    """The comparisons of a workload by technique; where there are several looks, the ledger that they come from."""

    comparisons: Mapping[str, Comparison] = field(default_factory=dict)
    ledger: Ledger | None = None

    def look(self, technique: str) -> int | None:
        """Return the number of seeds after which a technique was decided; None where it is open or has one look."""
        decided = self.ledger.decided.get(technique) if self.ledger else None
        return decided.look if decided else None


def decide_all(summaries: Mapping[str, TechniqueSummary], suite: Suite, rule: Rule) -> Decisions:
    """Return the comparisons of all techniques that have a quality with the baseline; none where that has none."""
    baseline = summaries.get(suite.baseline)
    if baseline is None or baseline.quality is None:
        return Decisions()
    contestants = {
        name: summary.quality.values
        for name, summary in summaries.items()
        if summary.quality is not None and not summary.baseline
    }
    if not suite.looks or suite.judged_phase:
        return Decisions(comparisons=compare_family(contestants, baseline.quality.values, rule))
    seeds = further_seeds(suite.seeds, suite.looks[-1])
    family = Family(contestants=contestants, baseline=baseline.quality.values, rule=rule, seeds=seeds)
    ended = {name: {*summaries[name].ended} & {*baseline.ended} for name in contestants}
    ledger = replay(family, ended, suite.looks)
    if ledger.look:
        return Decisions(comparisons=ledger.comparisons, ledger=ledger)
    unfinished = {
        name: replace(comparison, verdict="undecided", reason="the first seeds are unfinished", seeds_needed=None)
        for name, comparison in compare_family(contestants, baseline.quality.values, rule).items()
    }
    return Decisions(comparisons=unfinished, ledger=ledger)


def undecided_after(
    look: int, rows: Iterable[Row], suite: Suite, metrics: Mapping[str, Metric]
) -> tuple[set[tuple[str, str]], int]:
    """Return what is undecided after the seeds of a look, as workload and technique, and the number of comparisons.

    ``rows`` are those that the run has so far. Nothing is undecided where the look was not made.
    """
    groups: dict[str, dict[str, list[Row]]] = {}
    for row in rows:
        groups.setdefault(row.case.workload, {}).setdefault(row.case.technique, []).append(row)
    ledgers = {name: _ledger(group, suite, metrics) for name, group in groups.items()}
    looked = {name: ledger for name, ledger in ledgers.items() if ledger}
    undecided = {
        (name, technique) for name, ledger in looked.items() if ledger.look == look for technique in ledger.open
    }
    return undecided, sum(len(ledger.comparisons) for ledger in looked.values())


def _ledger(groups: Mapping[str, Sequence[Row]], suite: Suite, metrics: Mapping[str, Metric]) -> Ledger | None:
    summaries = {name: summarise(rows, suite, metrics[suite.select]) for name, rows in groups.items()}
    return decide_all(summaries, suite, rule_of(metrics[suite.judged], suite)).ledger
