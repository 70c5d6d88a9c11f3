"""Finds for each claim of some suites the stored run that tests it, with the scale at which it was tested."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Final

from harness.analysis.claims import ClaimResult
from harness.analysis.view import RunView
from harness.api import Claim, Json, Metric, RunInfo, Suite, UsageError
from harness.results.index import Index, RunSummary
from harness.results.store import Store

PARAMETERS: Final = "parameters"
"""The unit of the metrics that tell how large a model is."""


@dataclass(frozen=True, kw_only=True)
class ClaimEntry:
    """A claim of a suite with what is known of it: its results by workload, and the run that they come from.

    - ``results``: those that were tested; none where no stored run tests the claim, and ``reason`` says why then, of
      the newest run of the suite, if there is any.
    - ``scales``: the scale at which the claim was tested, by workload: settings, sizes and the device, by name.
    - ``ran``: whether a full run of this version of the suite is stored and finished, tested or not.
    """

    suite: str
    claim: Claim
    metric: Metric
    results: tuple[ClaimResult, ...] = ()
    run: RunInfo | None = None
    reason: str = ""
    scales: Mapping[str, Mapping[str, Json]] = field(default_factory=dict)
    ran: bool = False

    @property
    def verdict(self) -> str:
        """The verdict where it is the same on all workloads, ``mixed`` where it is not, or ``not tested``."""
        verdicts = {result.verdict for result in self.results}
        return next(iter(verdicts)) if len(verdicts) == 1 else "mixed" if verdicts else "not tested"


def entries_of(suites: Mapping[str, Suite], store: Store, metrics: Mapping[str, Metric]) -> list[ClaimEntry]:
    """Return an entry for each claim of the suites, which are given by their names.

    A claim is tested, as the suite states it now, on the rows of the latest full run of the suite's version that can
    test it; where there is none, on those of the latest run of a short form.
    """
    summaries = Index(store).runs()
    return [
        entry
        for name, suite in suites.items()
        if suite.claims
        for entry in _of_suite(name, suite, _candidates(suite, summaries), store, metrics)
    ]


def _candidates(suite: Suite, summaries: Iterable[RunSummary]) -> list[RunSummary]:
    """Return the readable runs of a suite, full ones first, of these the latest first."""
    own = [run for run in summaries if not run.problem and (run.suite, run.suite_version) == (suite.id, suite.version)]
    own.reverse()
    return sorted(own, key=lambda run: run.form != "full")


def _of_suite(
    name: str, suite: Suite, candidates: Iterable[RunSummary], store: Store, metrics: Mapping[str, Metric]
) -> Iterator[ClaimEntry]:
    """Yield the entries of the claims of a suite."""
    candidates = list(candidates)
    ran = any(run.form == "full" and run.finished and run.exit_code in (0, 1) for run in candidates)
    found = {
        claim.id: ClaimEntry(suite=name, claim=claim, metric=metrics[claim.metric], ran=ran) for claim in suite.claims
    }
    for candidate in candidates:
        missing = [entry.claim for entry in found.values() if not entry.results]
        if not missing:
            break
        view = _view(candidate.id, suite, missing, store, metrics)
        if view is not None:
            for claim in missing:
                found[claim.id] = _told(found[claim.id], view)
    yield from found.values()


def _view(
    run: str, suite: Suite, claims: Iterable[Claim], store: Store, metrics: Mapping[str, Metric]
) -> RunView | None:
    """Return the analysis of a run with these claims; None where it is of another suite or cannot be read."""
    try:
        stored = store.read(run)
        if stored.info.suite.contract != suite.contract or stored.info.suite.baseline != suite.baseline:
            return None  # another plugin's suite of the same name
        info = replace(stored.info, suite=replace(stored.info.suite, claims=tuple(claims)))
        return RunView.build(info, stored.rows, metrics)
    except UsageError:  # it was deleted or damaged after it was listed
        return None


def _told(entry: ClaimEntry, view: RunView) -> ClaimEntry:
    """Return an entry with what a run says of it."""
    results = [result for result in view.claims if result.claim.id == entry.claim.id]
    tested = tuple(result for result in results if result.tested)
    if not tested:
        return entry if entry.reason or not results else replace(entry, reason=results[0].reason)
    scales = {result.workload: _scale(view, result) for result in tested}
    return replace(entry, results=tested, run=view.info, scales=scales, reason="")


def _scale(view: RunView, result: ClaimResult) -> dict[str, Json]:
    """Return the scale of a test: the sizes of the technique's model, the settings of the workload, the device."""
    names = (result.claim.better, view.info.suite.baseline)
    on = next(workload for workload in view.workloads if workload.workload == result.workload)
    summary = next((own for name in names for own in on.techniques if own.technique == name), on.techniques[0])
    tuned = {name for point in summary.sweep for name in point.tuned}
    sizes: dict[str, Json] = {
        metric.replace("_", " "): round(figure.estimate.value)
        for metric, figure in summary.figures.items()
        if metric in view.metrics and view.metrics[metric].unit == PARAMETERS
    }
    settings = {name: value for name, value in summary.settings.items() if value != "" and name not in tuned}
    return {**sizes, **settings, "device": summary.device}
