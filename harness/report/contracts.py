"""A contract and a workload as pages of text for the author of a technique."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Mapping
from typing import Any, Final

from harness.api import BUILD_PHASE, Contract, Defaults, Metric, WorkloadSpec, phase_metrics
from harness.report.reference import Described, Reference

WIDTH: Final = 80


def show_contract(contract: Contract, reference: Reference, workloads: Mapping[str, WorkloadSpec]) -> str:
    """Return the interface of a contract's techniques, their arguments, and how cost is measured, as text."""
    lines = [*_wrapped(f"{contract.id}: {contract.summary}", ""), "", *_class(reference.protocol), ""]
    lines += _wrapped(
        f"A technique's target returns an object like this ({reference.module}); it need not inherit.", ""
    )
    if reference.handed:
        lines += ["", "What it is handed, and what it answers with:"]
        for described in reference.handed:
            lines += ["", *_class(described)]
    lines += ["", "Phases whose memory and time are measured:"]
    for phase, call in contract.phases.items():
        names = ", ".join(metric.id for metric in phase_metrics(phase, call))
        lines += [f"  {phase}: {call}", *_wrapped(names, "    ")]
    lines += ["", "Workloads:", *_wrapped(", ".join(workloads) or "none", "  ")]
    lines += ["", "Hold a technique to it by a test:", "  class TestConformance(harness.testing.PluginConformance):"]
    lines += ['      plugin = "NAME"']
    return "\n".join(lines)


def contract_json(contract: Contract, reference: Reference, workloads: Iterable[str]) -> dict[str, Any]:
    """Return the interface of a contract's techniques, their arguments and the phases, as JSON."""
    return {
        "id": contract.id,
        "summary": contract.summary,
        "protocol": contract.protocol,
        "members": _members_json(reference.protocol),
        "handed": {described.name: _members_json(described) for described in reference.handed},
        "phases": dict(contract.phases),
        "workloads": list(workloads),
    }


def show_workload(name: str, spec: WorkloadSpec, metrics: Mapping[str, Metric]) -> str:
    """Return a workload's summary, metrics, and settings with range and default, as text."""
    lines = [f"{name}: {spec.summary}", f"  contract    {spec.contract}", f"  version     {spec.version}"]
    lines += [f"  target      {spec.target}", f"  phases      {', '.join([BUILD_PHASE, *spec.phases])}"]
    if spec.requires:
        lines.append(f"  requires    {', '.join(spec.requires)}")
    lines += ["", "Settings:" if spec.settings else "It has no settings."]
    for knob in setting_lines(spec):
        lines += [f"  {knob['name']} = {knob['default']}" + (f" ({knob['expected']})" if knob["expected"] else "")]
        lines += _wrapped(knob["about"], "    ")
    lines += ["", "Metrics:"]
    for metric_name in spec.metrics:
        metric = metrics[metric_name]
        better = "more" if metric.higher_is_better else "less"
        unit = f"{metric.unit}, " if metric.unit else ""
        lines += [f"  {metric_name} ({unit}{better} is better)", *_wrapped(metric.summary, "    ")]
    return "\n".join(lines)


def setting_lines(spec: WorkloadSpec) -> list[dict[str, Any]]:
    """Return each setting's name, default, range and description; undeclared ones are empty texts."""
    if isinstance(spec.settings, Defaults):
        return [
            {"name": knob.name, "default": knob.default, "expected": knob.expected, "about": knob.about}
            for knob in spec.settings.knobs
        ]
    return [{"name": key, "default": value, "expected": "", "about": ""} for key, value in spec.settings.items()]


def _class(described: Described) -> list[str]:
    lines = [described.name, *_paragraphs(described.text, "  ")]
    for member in described.members:
        lines += ["", *_wrapped(member.signature, "  ", hanging="      "), *_paragraphs(member.text, "    ")]
    return lines


def _members_json(described: Described) -> list[dict[str, str]]:
    return [{"name": member.name, "signature": member.signature, "text": member.text} for member in described.members]


def _paragraphs(text: str, indent: str) -> list[str]:
    lines: list[str] = []
    for paragraph in text.split("\n\n") if text else []:
        lines += [*([""] if lines else []), *_wrapped(" ".join(paragraph.split()), indent)]
    return lines


def _wrapped(text: str, indent: str, hanging: str = "") -> list[str]:
    return textwrap.wrap(
        text, WIDTH, initial_indent=indent, subsequent_indent=hanging or indent, break_on_hyphens=False
    )
