"""A contract and a workload as pages of text for the author of a technique."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any, Final

from harness.api import (
    BUILD_PHASE,
    Contract,
    Defaults,
    Metric,
    NotApplicable,
    Unavailable,
    UsageError,
    WorkloadSpec,
    phase_metrics,
)
from harness.api.text import as_typed, named
from harness.report.layout import filled
from harness.report.reference import Described, Reference

_RAISED: Final[Mapping[type[Exception], str]] = {
    UsageError: "by the target: a parameter has a value that makes no sense. A value that a user fixed is refused "
    "before the run.",
    NotApplicable: "by any method: there is nothing to act on here. The row is skipped, with the text as its reason.",
    Unavailable: "by any method: this machine lacks what the technique needs. The row is unavailable, with the text as "
    "its reason.",
}
"""What a technique may raise, and what comes of it; all else is a row with status error."""


def list_contracts(entries: Sequence[Mapping[str, Any]]) -> str:
    """Return a table of contracts, each with its summary and its phases below its line."""
    from tabulate import tabulate

    columns = ("id", "plugin", "techniques", "workloads")
    table = tabulate([[entry[key] for key in columns] for entry in entries], headers=columns, tablefmt="simple")
    header, rule, *rows = table.splitlines()
    lines = [header, rule]
    for entry, row in zip(entries, rows, strict=True):
        lines += [row, *filled(entry["summary"], "    ")]
        lines += filled(f"phases: {', '.join(entry['phases']) or 'none'}", "    ", hanging="      ")
    return "\n".join(lines)


def show_contract(contract: Contract, reference: Reference, workloads: Mapping[str, WorkloadSpec]) -> str:
    """Return what a technique of a contract must have, what it is handed, and how its cost is measured."""
    lines = [*filled(f"{contract.id}: {contract.summary}", ""), ""]
    lines += [*_paragraphs(reference.text, ""), ""] if reference.text else []
    lines += [*_class(reference.protocol), ""]
    lines += filled(
        f"The target of a technique returns an object that has all of these ({reference.module}); it need not inherit "
        "from the class.",
        "",
    )
    if reference.handed:
        lines += ["", "What it is handed, and what it answers with:"]
        for described in reference.handed:
            lines += ["", *_class(described)]
    lines += ["", "What it may raise (import it from harness.api):", *_errors()]
    lines += ["", "Phases whose memory and time are measured:"]
    for phase, call in contract.phases.items():
        names = ", ".join(metric.id for metric in phase_metrics(phase, call))
        lines += [f"  {phase}: {call}", *filled(names, "    ")]
    lines += ["", "Workloads (see: harness show workload ID):", *filled(", ".join(workloads) or "none", "  ")]
    lines += ["", *filled("Test a plugin against the contract by this class in its tests, and run pytest:", "")]
    lines += ["  from harness.testing import PluginConformance", "", "  class TestConformance(PluginConformance):"]
    lines += ['      plugin = "NAME"']
    return "\n".join(lines)


def contract_json(contract: Contract, reference: Reference, workloads: Iterable[str]) -> dict[str, Any]:
    """Return the interface of a contract's techniques, their arguments and the phases, as JSON."""
    return {
        "id": contract.id,
        "summary": contract.summary,
        "protocol": contract.protocol,
        "text": "\n\n".join(filter(None, [reference.text, reference.protocol.text])),
        "members": _members_json(reference.protocol),
        "handed": [
            {
                "name": described.name,
                "signature": described.signature,
                "text": described.text,
                "members": _members_json(described),
            }
            for described in reference.handed
        ],
        "raises": {error.__name__: words for error, words in _RAISED.items()},
        "phases": {
            phase: {"call": call, "metrics": [metric.id for metric in phase_metrics(phase, call)]}
            for phase, call in contract.phases.items()
        },
        "workloads": list(workloads),
    }


def show_workload(name: str, spec: WorkloadSpec, metrics: Mapping[str, Metric]) -> str:
    """Return what a workload is, what it measures, and each of its settings with range and default."""
    lines = filled(f"{name}: {spec.summary}", "")
    facts = {
        "contract": spec.contract,
        "version": str(spec.version),
        "target": spec.target,
        "phases": ", ".join([BUILD_PHASE, *spec.phases]),
        "requires": ", ".join(spec.requires),
        "small form": named(spec.small),
    }
    for label, text in facts.items():
        if text:
            lines += filled(text, f"  {label:<11} ", hanging=" " * 14)
    lines += ["", "Settings:" if spec.settings else "It has no settings."]
    for knob in setting_lines(spec):
        expected = f" ({knob['expected']})" if knob["expected"] else ""
        lines += filled(f"{knob['name']} = {as_typed(knob['default'])}{expected}", "  ", hanging="      ")
        lines += filled(knob["about"], "    ")
    lines += ["", "Metrics:"]
    for metric_name in spec.metrics:
        metric = metrics[metric_name]
        better = "more" if metric.higher_is_better else "less"
        unit = f"{metric.unit}, " if metric.unit else ""
        lines += [f"  {metric_name} ({unit}{better} is better)", *filled(metric.summary, "    ")]
    for phase in spec.phases:
        names = ", ".join(f"{metric.id} ({metric.unit})" for metric in phase_metrics(phase, ""))
        lines += [f"  of phase {phase}:", *filled(names, "    ")]
    return "\n".join(lines)


def workload_json(name: str, plugin: str, spec: WorkloadSpec, metrics: Mapping[str, Metric]) -> dict[str, Any]:
    """Return the same as JSON."""
    return {
        "id": name,
        "plugin": plugin,
        "contract": spec.contract,
        "summary": spec.summary,
        "version": spec.version,
        "target": spec.target,
        "phases": list(spec.phases),
        "settings": setting_lines(spec),
        "small": dict(spec.small),
        "requires": list(spec.requires),
        "metrics": [asdict(metrics[metric_name]) for metric_name in spec.metrics],
        "phase_metrics": [asdict(metrics[metric.id]) for phase in spec.phases for metric in phase_metrics(phase, "")],
    }


def setting_lines(spec: WorkloadSpec) -> list[dict[str, Any]]:
    """Return each setting's name, default, range and description; undeclared ones are empty texts."""
    if isinstance(spec.settings, Defaults):
        return [
            {"name": knob.name, "default": knob.default, "expected": knob.expected, "about": knob.about}
            for knob in spec.settings.knobs
        ]
    return [{"name": key, "default": value, "expected": "", "about": ""} for key, value in spec.settings.items()]


def _class(described: Described) -> list[str]:
    lines = [*filled(described.signature, "", hanging="    "), *_paragraphs(described.text, "  ")]
    for member in described.members:
        lines += ["", *filled(member.signature, "  ", hanging="      "), *_paragraphs(member.text, "    ")]
    return lines


def _errors() -> list[str]:
    lines: list[str] = []
    for error, words in _RAISED.items():
        lines += [f"  {error.__name__}", *filled(words, "    ")]
    return lines


def _members_json(described: Described) -> list[dict[str, str]]:
    return [{"name": member.name, "signature": member.signature, "text": member.text} for member in described.members]


def _paragraphs(text: str, indent: str) -> list[str]:
    """Return a docstring in lines: a paragraph or an item of a list each is filled, code is shown in one backtick."""
    lines: list[str] = []
    for paragraph in text.replace("``", "`").split("\n\n") if text else []:
        lines += [""] if lines else []
        for item in re.split(r"\n(?=- )", paragraph):
            hanging = f"{indent}  " if item.startswith("- ") else ""
            lines += filled(" ".join(item.split()), indent, hanging=hanging)
    return lines
