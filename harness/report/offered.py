"""A suite and a metric as pages of text, for whoever runs a suite, copies it, or reads its table."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from harness.analysis.claims import margin_of
from harness.api import Claim, Metric, Suite, phase_metrics
from harness.api.text import as_typed, named
from harness.report.findings import claimed
from harness.report.layout import PAGE_WIDTH, facts, filled

FORMS: Final = {
    "quick": "With --quick:",
    "track": "With --track (nothing is tuned, unless tuning is named here):",
    "own": "With --model and --data:",
}
"""The tables of a suite file that change a part of the rest, with the heading of each."""


@dataclass(frozen=True, kw_only=True)
class SuitePage:
    """A checked suite with what a page adds: the suite's file, its name, the full ids of its techniques, its forms."""

    name: str
    path: Path
    suite: Suite
    techniques: tuple[str, ...]
    metrics: Mapping[str, Metric]
    forms: Mapping[str, Mapping[str, Any]]


def direction(metric: Metric) -> str:
    """Return which values of a metric are better, in words."""
    return "more is better" if metric.higher_is_better else "less is better"


def show_suite(page: SuitePage) -> str:
    """Return what a suite asks, what it compares by which metrics, how often, and what its short forms change."""
    suite = page.suite
    lines = [*filled(f"{page.name}: {suite.title}", ""), ""]
    judged = ", ".join(filter(None, [suite.judged, "against equal " + suite.equal if suite.equal else ""]))
    stated = {
        "contract": suite.contract,
        "version": str(suite.version),
        "file": str(page.path),
        "baseline": suite.baseline,
        "references": ", ".join(suite.references),
        "workloads": ", ".join(suite.workloads),
        "techniques": f"{len(page.techniques)}: {', '.join(page.techniques)}",
        "verdicts by": judged,
        "unchanged": ", ".join(suite.unchanged),
        "beside": ", ".join(suite.beside),
        "costs": ", ".join(suite.costs),
        "seeds": _seeds(suite),
        "rounds": f"{suite.rounds} in the time lane",
        "tuning": _tuning(suite),
        "settings": named(suite.settings),
    }
    lines.append(facts(stated, width=PAGE_WIDTH, indent="  "))
    lines += ["", "Metrics:"]
    for metric in _shown(page):
        margin = margin_of(metric, suite)
        words = ", ".join(filter(None, [metric.unit, direction(metric), f"margin {margin:g}" if margin else ""]))
        lines += [f"  {metric.id} ({words})", *filled(metric.summary, "    ")]
    lines += _claims(suite.claims)
    for form, table in page.forms.items():
        lines += ["", FORMS[form], *_table(table)]
    return "\n".join(lines)


def suite_json(page: SuitePage) -> dict[str, Any]:
    """Return the same as JSON, with the claims and all keys of the checked suite."""
    return {
        **asdict(page.suite),
        "id": page.name,
        "source": str(page.path),
        "techniques": list(page.techniques),
        "metrics": [
            {**asdict(metric), "margin": margin_of(metric, page.suite)}
            for metric in (page.metrics[name] for name in page.suite.metrics)
        ],
        "forms": {form: dict(table) for form, table in page.forms.items()},
    }


def show_metric(metric: Metric, emitted: Iterable[str], margins: Mapping[str, float]) -> str:
    """Return what a metric is, which workloads emit it, and the margin of each suite that shows it."""
    lines = [*filled(f"{metric.id}: {metric.summary}", ""), ""]
    stated = {
        "unit": metric.unit or "none",
        "direction": direction(metric),
        "lane": metric.lane,
        "tuning": "may choose by it: it is computed on validation data" if metric.selects else "",
        "limit": f"{metric.limit:g}: no value can be larger" if metric.limit is not None else "",
        "workloads": ", ".join(emitted) or "none emits it",
    }
    lines.append(facts(stated, width=PAGE_WIDTH, indent="  "))
    unit = f" {metric.unit}" if metric.unit else ""
    lines += ["", "Margin by suite, the smallest difference that matters:" if margins else "No suite shows it."]
    lines += [f"  {name}: {f'{margin:g}{unit}' if margin else 'none'}" for name, margin in margins.items()]
    return "\n".join(lines)


def emitters(metric: str, workloads: Mapping[str, Any]) -> list[str]:
    """Return the names of the registered workloads that emit a metric, directly or by one of their phases."""
    return [
        full
        for full, entry in sorted(workloads.items())
        if metric in entry.spec.metrics
        or any(metric == derived.id for phase in entry.spec.phases for derived in phase_metrics(phase, ""))
    ]


def shows(suite: Suite) -> set[str]:
    """Return the metrics that a suite names: those of its table, its verdicts, its costs and its claims."""
    return {
        *suite.metrics,
        *suite.costs,
        *suite.unchanged,
        *suite.beside,
        *(claim.metric for claim in suite.claims),
        *filter(None, [suite.judge, suite.equal, suite.select if suite.tuning else ""]),
    }


def _shown(page: SuitePage) -> list[Metric]:
    """Return the metrics of a suite: those of the table first, in their order, then the others by name."""
    suite = page.suite
    names = dict.fromkeys([*suite.metrics, *sorted(shows(suite))])
    return [page.metrics[name] for name in names if name in page.metrics]


def _seeds(suite: Suite) -> str:
    looks = f"; what is undecided gets more, up to {suite.looks[-1]}" if len(suite.looks) > 1 else ""
    repeated = f"; {suite.repeatability} trained again from weights that rounding moved" if suite.repeatability else ""
    return f"{len(suite.seeds)} ({', '.join(map(str, suite.seeds))}){looks}{repeated}"


def _tuning(suite: Suite) -> str:
    if not suite.tuning:
        return "none"
    grid = "; ".join(f"{key} over {', '.join(map(as_typed, values))}" for key, values in suite.tuning.items())
    return f"{grid}; chosen by {suite.select} on {suite.tuning_seeds} seeds"


def _claims(claims: Iterable[Claim]) -> list[str]:
    lines: list[str] = []
    for claim in claims:
        lines += filled(f"{claim.id} ({claim.source}): {claim.says}", "  ", hanging="    ")
        lines += filled(claimed(claim), "    ", hanging="      ")
    return ["", "Claims:", *lines] if lines else []


def _table(table: Mapping[str, Any], indent: str = "  ") -> list[str]:
    """Return the keys of a table of a suite file with their values; tables within it below, under their names."""
    lines: list[str] = []
    for key, value in table.items():
        if isinstance(value, dict) and any(isinstance(inner, dict | list) for inner in value.values()):
            lines += [f"{indent}{key}:", *_table(value, f"{indent}  ")]
        else:
            lines += filled(f"{key} = {_as_text(value)}", indent, hanging=f"{indent}  ")
    return lines


def _as_text(value: object) -> str:
    if isinstance(value, list):
        return ", ".join(named(item) if isinstance(item, dict) else as_typed(item) for item in value) or "none"
    return (named(value) or "none") if isinstance(value, dict) else as_typed(value)
