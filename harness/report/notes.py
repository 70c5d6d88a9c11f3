"""The texts around the tables: heading, legend, footnotes, claims and the next commands."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Container, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from harness.analysis.ranking import unequal_looks
from harness.analysis.repeatability import rests_on_rounding, shaken
from harness.analysis.significance import ALPHA
from harness.analysis.summary import BEHIND, FRONT
from harness.api.text import as_typed, source_name
from harness.report import units
from harness.report.columns import beyond, is_unjudged, with_interval
from harness.report.findings import difference_text, finding_text
from harness.report.naming import short
from harness.results.commands import command

if TYPE_CHECKING:
    from harness.analysis.claims import ClaimResult
    from harness.analysis.compare import Comparison
    from harness.analysis.summary import Repeatability, TechniqueSummary
    from harness.analysis.view import RunView, WorkloadView
    from harness.api import Suite

_ISA = (("avx512f", "AVX512"), ("avx2", "AVX2"), ("sve", "SVE"), ("asimd", "NEON"))

_TESTS: Final[Mapping[str, str]] = {
    "moderated": "the moderated paired t test (variances shrunk towards their common one)",
    "t": "the paired t test",
    "permutation": "the sign-flip permutation test",
}
"""The names of the tests by what decided a verdict."""

MOST_SHAKEN: Final = 3
"""The most techniques whose repeatability is told in a line."""

_FORMS: Final[Mapping[str, str]] = {
    "quick": " (quick: a short form, for a first look only)",
    "track": " (track: the form followed over commits, at defaults, not tuned)",
}


def run_label(view: RunView) -> str:
    """Return the last part of a run's id, which identifies the run in a store."""
    return view.info.id.rpartition("-")[2]


def named_label(view: RunView) -> str:
    """Return the label of a run, behind the name that a user gave it, if there is one."""
    return f"{view.info.name} ({run_label(view)})" if view.info.name else run_label(view)


def heading(view: RunView, workload: WorkloadView) -> str:
    """Return suite, workload, seeds, tuning, device, date and run in one line."""
    info = view.info
    lengths = [summary.seeds for summary in workload.techniques if summary.quality]
    seeds = max(lengths, default=0)
    fewest = f"{min(lengths)} to " if info.suite.looks and lengths and min(lengths) < seeds else ""
    parts = [
        f"{info.suite.id}{_FORMS.get(info.suite.form, '')}",
        short(workload.workload),
        source_of(info.suite),
        "" if is_unjudged(workload) else f"{fewest}{seeds} seed{'s' if seeds != 1 else ''}",
        _tuning(view, workload),
        device_of(info.environment, workload),
        info.started[:10],
        f"run {run_label(view)}",
        f"{view.reused} of {view.rows} rows of earlier runs" if view.reused else "",
    ]
    return " · ".join(part for part in parts if part)


def source_of(suite: Suite) -> str:
    """Return the names of the user's own model and data that a suite ran on; empty where there are none."""
    names = [source_name(str(suite.settings.get(key, ""))) for key in ("model", "data")]
    return " on ".join(names) if all(names) else ""


def footnotes(view: RunView, workload: WorkloadView) -> list[str]:
    """Return the footnotes of a table: choices at the edge of a grid, failures, verdicts to explain."""
    run = run_label(view)
    notes = []
    if edges := _edges(workload.techniques):
        notes.append(
            f"^ tuning chose the smallest or largest value tried, a better one may lie outside: {edges} · "
            + command(view.info, f"show tuning {run}")
        )
    by_reason: dict[str, list[str]] = {}
    for summary in workload.techniques:
        if summary.failures:
            by_reason.setdefault(summary.reason, []).append(summary.technique)
    notes += [
        f"! {', '.join(names)}: {reason} · {command(view.info, 'show row ' + shlex.quote(f'{run}/{names[0]}'))}"
        for reason, names in by_reason.items()
    ]
    notes += [f"{text}: {', '.join(names)}" for text, names in _explanations(view, workload).items()]
    return [*notes, *_pairs(view, workload), *_repeatability(view, workload)]


def _repeatability(view: RunView, workload: WorkloadView) -> list[str]:
    """Return for whom rounding alone moves the quality by much, and whether the verdicts rest on that."""
    found = shaken(workload.techniques)
    if not found:
        return []
    baseline = workload.baseline
    named = [*found[:MOST_SHAKEN], *([baseline] if baseline and baseline.repeatability else [])]
    texts = [_moved(view, summary.technique, measured) for summary in named if (measured := summary.repeatability)]
    others = f"; and {len(found) - MOST_SHAKEN} more" if len(found) > MOST_SHAKEN else ""
    what = f"repeatability of {view.quality.id}, trained again from weights one rounding apart"
    lines = [f"{what}: {'; '.join(texts)}{others}"]
    if rests_on_rounding(workload.techniques):
        of = sum(bool(summary.repeatability and summary.comparison) for summary in workload.techniques)
        lines.append(
            f"! these verdicts rest on rounding, which moves {len(found)} of {of} techniques by half the spread of "
            "seeds or half the margin: another processor gives other numbers"
        )
    return lines


def _moved(view: RunView, name: str, measured: Repeatability) -> str:
    """Return how far a technique moved, beside the spread of its seeds."""
    places = 1 if view.quality.unit == "%" else units.decimals([measured.change], [measured.change])
    beside = "" if measured.spread is None else f" (seeds spread by {measured.spread:.{places}f})"
    return f"{name} moves by {measured.change:.{places}f}{beside}"


def _pairs(view: RunView, workload: WorkloadView) -> list[str]:
    """Return which techniques are compared with which reference, and at which equal value."""
    equal = view.info.suite.equal
    pairs: dict[str, list[str]] = {}
    for summary in workload.techniques:
        if summary.against:
            pairs.setdefault(summary.against, []).append(summary.technique)
    values = {own.technique: own.figures[equal].estimate.value for own in workload.techniques if equal in own.figures}
    lines = [
        f"compared with {reference}, at {units.significant(values[reference], 3)} {equal}: {', '.join(names)}"
        for reference, names in pairs.items()
    ]
    missing = [] if is_unjudged(workload) else [name for name in view.info.suite.references if name not in values]
    run = {own.technique for own in workload.techniques}
    for what, names in (
        ("without a result", [name for name in missing if name in run]),
        ("that were not run here", [name for name in missing if name not in run]),
    ):
        if names:
            lines.append(f"references {what}, so that nothing is compared with them: {', '.join(names)}")
    return lines


def _explanations(view: RunView, workload: WorkloadView) -> dict[str, list[str]]:
    """Return explanations of unusual results, and the techniques that each applies to."""
    notes: dict[str, list[str]] = {}
    if (workload.baseline is None or workload.baseline.quality is None) and not is_unjudged(workload):
        notes["not compared, as the baseline has no result"] = [view.info.suite.baseline]
    most = max((summary.seeds for summary in workload.techniques if summary.quality), default=0)
    for summary in workload.techniques:
        for text, count in summary.warnings.items():
            warning = f"warning: {text} ({count} of {summary.seeds} seeds)"
            notes.setdefault(warning, []).append(summary.technique)
        waits = summary.quality and summary.seeds < most and not summary.failed_seeds
        if waits and summary.look is None:
            notes.setdefault(f"only {summary.seeds} of {most} seeds yet", []).append(summary.technique)
        for text, detail in _changes(view, summary):
            notes.setdefault(text, []).append(f"{summary.technique} {detail}".rstrip())
        for metric in (view.metrics[name] for name in summary.figures if name in view.metrics):
            if beyond(metric, summary):
                bound = f"{metric.limit:g} {metric.unit}"
                what = f"{metric.id} above {bound}: more than the limit as measured, so it ranks nobody"
                notes.setdefault(what, []).append(
                    f"{summary.technique} {summary.figures[metric.id].estimate.value:.0f}"
                )
        comparison = summary.comparison
        if comparison is None:
            continue
        if comparison.reason == "identical":
            other = summary.against or "the baseline"
            what = view.judged_phase or view.quality.id
            notes.setdefault(f"the same {what} as {other} on every {view.repeat}", []).append(summary.technique)
        elif comparison.verdict == "undecided" and not comparison.seeds_needed:
            notes.setdefault(f"undecided, {comparison.reason}", []).append(summary.technique)
    return notes


def _changes(view: RunView, summary: TechniqueSummary) -> list[tuple[str, str]]:
    """Return in what a technique is changed, or may be, that the suite wants unchanged, each with by how much."""
    if summary.baseline or not summary.quality:
        return []
    texts = []
    for name in (name for name in view.info.suite.unchanged if name != view.quality.id):
        comparison = summary.unchanged.get(name)
        difference = comparison.difference if comparison else None
        if comparison is None or difference is None:
            texts.append((f"not ranked by the suite's rule, as {name} was not measured", ""))
        elif comparison.verdict == "worse":
            metric = view.metrics[name]
            unit = "points" if metric.unit == "%" else metric.unit
            from_ = f"{unit}, from the baseline's" if unit else "from the baseline's"
            texts.append((f"changed: {name} ({from_})", difference_text(difference, metric)))
        elif comparison.verdict == "undecided":
            texts.append((f"whether {name} is unchanged is undecided", f"({comparison.reason})"))
    return texts


def legend(view: RunView, phases: Container[str] | None = None) -> list[str]:
    """Return the meaning of the figures and marks that occur in the tables.

    ``phases`` are those whose speeds the tables show; None stands for all.
    """
    every = [summary for workload in view.workloads for summary in workload.techniques]
    lines = []
    if view.by_rounds and any(summary.quality and not summary.baseline for summary in every):
        lines.append(
            "x samples a second relative to the baseline's: the geometric mean of the rounds, with its test's interval"
        )
    elif not view.by_rounds and any(summary.quality and summary.quality.estimate.n > 1 for summary in every):
        differ = any(summary.comparison and summary.comparison.difference for summary in every)
        paired = "; differences are paired by seed, with the interval of their test"
        lines.append(f"± 95 % t interval over seeds{paired if differ else ''}")
    lines += _verdict_notes(view, every)
    if any(summary.place in (FRONT, BEHIND) and not summary.comparison for summary in every if summary.quality):
        equal = view.info.suite.equal
        lines.append(
            f"front, behind: no reference of this {equal} was run; on the front of it and {view.quality.id}, or not"
        )
    costs = sorted({workload.cost for workload in view.workloads if workload.cost})
    if any(summary.pareto for summary in every) and costs:
        lines.append(
            f"* on the Pareto front of {view.quality.id} and {' or '.join(_words(cost) for cost in costs)}; "
            "of equals, the fastest"
        )
    shown = [(summary, phase) for summary in every for phase in summary.ratios if phases is None or phase in phases]
    if any(phase != view.judged_phase for _, phase in shown):
        kind = "other ratios: " if view.by_rounds else "x samples a second relative to the baseline's, "
        lines.append(f"{kind}median of the ratios of interleaved rounds")
    if any(phase in summary.unstable for summary, phase in shown):
        lines.append("~ unstable: the interval of this ratio reaches further than 10 %")
    return lines


def _verdict_notes(view: RunView, every: Iterable[TechniqueSummary]) -> list[str]:
    comparisons = [summary.comparison for summary in every if summary.comparison]
    tested = [comparison for comparison in comparisons if comparison.decided_by in _TESTS]
    lines = []
    if tested:
        margin = view.workloads[0].rule.margin
        unit = "times the baseline's" if view.by_rounds else "points" if view.quality.unit == "%" else view.quality.unit
        sized = f"a margin of {units.amount(margin, unit)}, " if margin else ""
        families = sorted({comparison.family for comparison in tested})
        many = f"{families[0]}" if len(families) == 1 else f"{families[0]} to {families[-1]}"
        counted = "comparison" if families == [1] else "comparisons"
        lines.append(f"verdicts: {sized}Holm's correction over {many} {counted}, by {_deciders(tested)}")
    if comparisons and (looks := view.info.suite.looks) and not view.by_rounds:
        numbers = f"{', '.join(map(str, looks[:-1]))} and {looks[-1]}"
        unequal = any(unequal_looks(workload.techniques, view.info.suite) for workload in view.workloads)
        by = "; sorted by differences, as seeds are unequal" if unequal else ""
        lines.append(f"looks after {numbers} seeds, at Pocock's levels: what is decided gets no further seeds{by}")
    lines += _sign_flips(tested)
    needed = [own.seeds_needed for own in comparisons if own.verdict == "undecided" and own.seeds_needed]
    if needed:
        lines.append(f"n~{needed[0]}: about {needed[0]} {view.repeat}s would decide")
    return lines


def _deciders(tested: Sequence[Comparison]) -> str:
    """Return the tests that decided, the most frequent first."""
    counts = Counter(comparison.decided_by for comparison in tested).most_common()
    return ", in part by ".join(_TESTS[decider] for decider, _ in counts)


def _sign_flips(tested: Iterable[Comparison]) -> list[str]:
    """Return a line on the sign-flip test, where it stands beside differences that were found."""
    found = [
        comparison.p_sign_flip
        for comparison in tested
        if comparison.verdict in ("better", "worse") and comparison.p_sign_flip is not None
    ]
    if not found:
        return []
    agreeing = sum(p < ALPHA for p in found)
    return [
        f"a sign-flip test, which assumes no normal noise, gives p < .05 for {agreeing} of {len(found)} better or worse"
    ]


def closing(view: RunView) -> list[str]:
    """Return the lines on the whole run: its rows, quality over all workloads, claims, missing cases, next commands."""
    run = run_label(view)
    lines = [*view.remarks]
    if view.overall:
        lines.append(overall_line(view))
    lines += claim_lines(view)
    if not view.finished:
        lines.append(
            f"unfinished: {view.rows} of {view.info.planned} cases are done; go on: "
            + command(view.info, f"run --resume {view.info.id}")
        )
    tuned = any(summary.tuning for workload in view.workloads for summary in workload.techniques)
    words = [f"show tuning {run}"] if tuned else []
    words += [f"report {run} --open", f"export csv {run}"]
    return [*lines, f"next: {' · '.join(command(view.info, part) for part in words)}"]


def claim_lines(view: RunView) -> list[str]:
    """Return one line for each tested claim and workload, and one line for all untested claims."""
    tested = [result for result in view.claims if result.tested]
    lines = [_claim(view, result) for result in tested]
    tested_ids = {result.claim.id for result in tested}
    untested = sorted({result.claim.id for result in view.claims} - tested_ids)
    if untested:
        lines.append(f"claims not tested in this run: {', '.join(untested)}")
    return lines


def _claim(view: RunView, result: ClaimResult) -> str:
    claim = result.claim
    where = f" on {short(result.workload)}" if len(view.workloads) > 1 and claim.kind != "gain" else ""
    return f"claim {claim.id}{where}: {result.verdict}: {claim_text(view, result)} · {claim.source}"


def claim_text(view: RunView, result: ClaimResult) -> str:
    """Return the comparison and the result of a tested claim."""
    return finding_text(result, view.metrics[result.claim.metric])


def overall_line(view: RunView) -> str:
    """Return a line with the best techniques over all workloads."""
    places = 1 if view.quality.unit == "%" else 3
    best = []
    for entry in view.overall[:5]:
        text = f"{entry.technique} {entry.iqm.value:.{places}f}"
        if entry.difference is not None:
            text += f" ({with_interval(entry.difference, places, signed=True)})"
        best.append(text)
    return f"interquartile mean of {view.quality.id} over {len(view.workloads)} workloads: {', '.join(best)}"


def _edges(techniques: Iterable[TechniqueSummary]) -> str:
    """Return 'lr 0.02: lora/a, lora/b; lr 0.005: lora/c' for the choices at the edge of a grid."""
    by_value: dict[str, list[str]] = {}
    for summary in techniques:
        for name in summary.tuning.edges if summary.tuning else ():
            assert summary.tuning is not None
            by_value.setdefault(f"{name} {as_typed(summary.tuning.tuned[name])}", []).append(summary.technique)
    return "; ".join(f"{value}: {', '.join(names)}" for value, names in by_value.items())


def _tuning(view: RunView, workload: WorkloadView) -> str:
    choices = [summary.tuning for summary in workload.techniques if summary.tuning]
    if not choices:
        return "not tuned"
    names = sorted({name for choice in choices for name in choice.tuned})
    trials = sorted({len(choice.points) for choice in choices})
    many = f"{trials[0]}" if len(trials) == 1 else f"{trials[0]} to {trials[-1]}"
    return f"{', '.join(names)} tuned over {many} values on {_words(view.info.suite.select)}"


def device_of(environment: Mapping[str, Any], workload: WorkloadView) -> str:
    """Return the device of a table's measurements: 'cpu AVX2, 1 thread'."""
    device = workload.techniques[0].device
    if device == "cpu":
        cpu = environment.get("cpu")  # a stored text may be anything
        flags = cpu.get("flags") if isinstance(cpu, Mapping) else None
        isa = next((name for flag, name in _ISA if isinstance(flags, Sequence) and flag in flags), "")
        threads = environment.get("case_threads")
        counted = f", {threads} thread{'s' if threads != 1 else ''}" if threads else ""
        return f"cpu {isa}".strip() + counted
    gpus = environment.get("gpu")
    gpu = gpus[0] if isinstance(gpus, Sequence) and gpus else None
    return f"{device} {gpu['name']}" if isinstance(gpu, Mapping) and gpu.get("name") else device


def _words(metric: str) -> str:
    return metric.replace("_", " ")
