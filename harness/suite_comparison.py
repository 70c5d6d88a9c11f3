"""Reads the table ``[comparison]`` of a suite: which metric makes the verdicts, and what is compared with what."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from harness.api import Metric, WorkloadSpec, nearest
from harness.api.text import quoted

COMPARISON: Final[Mapping[str, type]] = {
    "judge": str,
    "unchanged": list,
    "equal": str,
    "references": list,
    "beside": list,
}
"""The keys of the table with their types; a list is one of strings."""

THROUGHPUT: Final = "_throughput"
"""The ending of the metrics of the time lane that are measured in rounds, together with the baseline's."""


@dataclass(frozen=True, kw_only=True)
class Stated:
    """What a suite states of its comparison, with the defaults of `harness.api.Suite` for what it does not."""

    judge: str = ""
    unchanged: tuple[str, ...] = ()
    equal: str = ""
    references: tuple[str, ...] = ()
    beside: tuple[str, ...] = ()


def stated_in(data: Mapping[str, Any], name_of: Callable[[str], str]) -> Stated:
    """Return the comparison that a suite states; values of a wrong type, which are refused elsewhere, are left out.

    ``name_of`` returns the full id of a technique's name.
    """
    table: Mapping[str, Any] = data.get("comparison", {})
    right = {key: table[key] for key, kind in COMPARISON.items() if _is(table.get(key), kind)}
    return Stated(
        judge=right.get("judge", ""),
        unchanged=tuple(right.get("unchanged", ())),
        equal=right.get("equal", ""),
        references=tuple(name_of(name) for name in right.get("references", ())),
        beside=tuple(right.get("beside", ())),
    )


def comparison_problems(
    data: Mapping[str, Any], workloads: Mapping[str, WorkloadSpec], metrics: Mapping[str, Metric]
) -> Iterator[tuple[str, str]]:
    """Yield the key and the text of each problem of the table ``[comparison]``, other than unknown techniques."""
    table: Mapping[str, Any] = data.get("comparison", {})
    for key, value in table.items():
        if key not in COMPARISON:
            yield f"comparison.{key}", f"unknown key{nearest(key, COMPARISON) or '; known: ' + ', '.join(COMPARISON)}"
        elif not _is(value, COMPARISON[key]):
            expected = "a list of at least one string" if COMPARISON[key] is list else "a string"
            yield f"comparison.{key}", f"{quoted(value)}: expected {expected}"
    if ("equal" in table) != ("references" in table):
        missing = "references" if "equal" in table else "equal"
        yield f"comparison.{missing}", "missing; equal names a metric, references the techniques to compare with"
    for key, name in _named(table):
        beside = key == "beside"
        reasons = _unseen(name, workloads, metrics) if beside else _unfit(key, name, workloads, metrics)
        yield from ((f"comparison.{key}", text) for text in reasons)
    phase = str(table.get("judge", "")).endswith(THROUGHPUT)
    if "sequential" in data and (phase or "equal" in table):
        what = "a throughput is judged over rounds" if phase else "techniques are compared at equal values"
        yield "sequential", f"has no effect on verdicts here, as {what}; leave it out"
    if phase and "equal" in table:
        yield "comparison.judge", "a throughput is relative to the baseline's; with equal, expected a metric of seeds"


def _named(table: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield each metric that the table names, with its key."""
    for key in ("judge", "unchanged", "equal", "beside"):
        value: Any = table.get(key)
        if _is(value, COMPARISON[key]):
            yield from ((key, name) for name in ([value] if isinstance(value, str) else value))


def _unseen(name: str, workloads: Mapping[str, WorkloadSpec], metrics: Mapping[str, Metric]) -> Iterator[str]:
    """Yield why a metric has no value to show in any table: it is unknown, or no workload emits it."""
    if name not in metrics:
        yield f"no metric {name!r}{nearest(name, metrics)}"
    elif metrics[name].lane == "accuracy" and not any(name in spec.metrics for spec in workloads.values()):
        emitted = dict.fromkeys(metric for spec in workloads.values() for metric in spec.metrics)
        yield f"no workload emits {name!r}; they emit {', '.join(emitted)}"


def _unfit(key: str, name: str, workloads: Mapping[str, WorkloadSpec], metrics: Mapping[str, Metric]) -> Iterator[str]:
    """Yield why a metric cannot be compared by: it is unknown, is not emitted by a workload, or has no repetitions."""
    if name not in metrics:
        yield f"no metric {name!r}{nearest(name, metrics)}"
    elif metrics[name].lane == "accuracy":
        lacking = [workload for workload, spec in workloads.items() if name not in spec.metrics]
        yield from (f"{workload} emits no {name!r}; it emits {', '.join(workloads[workload].metrics)}"
                    for workload in lacking)  # fmt: skip
    elif key != "judge" or not name.endswith(THROUGHPUT):
        also = ", or a throughput" if key == "judge" else ""
        yield f"{name} has one value in a run; expected a metric with one for each seed{also}"
    elif not any(name.removesuffix(THROUGHPUT) in spec.phases for spec in workloads.values()):
        phases = dict.fromkeys(phase for spec in workloads.values() for phase in spec.phases)
        yield f"no workload has the phase of {name}; phases are {', '.join(phases)}"


def _is(value: object, kind: type) -> bool:
    if kind is str:
        return isinstance(value, str)
    return isinstance(value, list) and bool(value) and all(isinstance(name, str) for name in value)
