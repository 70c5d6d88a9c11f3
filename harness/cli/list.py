"""``harness list``: suites, techniques, contracts, workloads, metrics and bases, and whether each can run here."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from harness.cli.app import current, json_option, plugin_options, print_json
from harness.cli.output import say

if TYPE_CHECKING:
    from harness.host import Host


@click.command("list")
@click.argument("what", type=click.Choice(["suites", "techniques", "contracts", "workloads", "metrics", "bases"]))
@plugin_options
@json_option
def list_(what: str, as_json: bool) -> None:
    """List suites, techniques, contracts, workloads, metrics or bases (--base), and whether each can run here."""
    host = current().host
    listing = {"suites": _suites, "metrics": _metrics, "contracts": _contracts, "bases": _bases}
    entries = listing[what](host) if what in listing else _specs(host, what)
    if as_json:
        print_json(entries)
        return
    if what == "contracts":
        from harness.report.contracts import list_contracts

        say(list_contracts(entries))
        return
    from harness.report.listing import list_entries

    if what == "bases":
        of_plugins, of_suites = ([entry for entry in entries if bool(entry["suite"]) == own] for own in (False, True))
        say("\n\n".join([list_entries(of_plugins, group="plugin"), list_entries(of_suites, group="suite")]).rstrip())
        return
    say(list_entries(entries, group="lane" if what == "metrics" else "contract"))


def _entry(name: str, plugin: str, contract: str | None, summary: str, reason: str) -> dict[str, Any]:
    return {
        "id": name,
        "plugin": plugin,
        "contract": contract,
        "summary": summary,
        "available": not reason,
        "reason": reason,
    }


def _specs(host: Host, what: str) -> list[dict[str, Any]]:
    entries = []
    for full, entry in sorted(getattr(host, what).items()):
        listed = _entry(full, entry.plugin, entry.spec.contract, entry.spec.summary, _missing(entry.spec.requires))
        if what == "techniques":
            listed["reference"] = entry.spec.reference
        elif what == "workloads":
            listed["metrics"] = list(entry.spec.metrics)
            listed["phases"] = list(entry.spec.phases)
            listed["settings"] = dict(entry.spec.settings)
        entries.append(listed)
    return entries


def _missing(requires: Sequence[str]) -> str:
    if not requires:
        return ""
    from harness.requirements import install_hint, missing_requirements

    missing = missing_requirements(requires)
    return install_hint(missing) if missing else ""


def _contracts(host: Host) -> list[dict[str, Any]]:
    def count(kind: str, contract: str) -> int:
        return sum(entry.spec.contract == contract for entry in getattr(host, kind).values())

    return [
        {
            **_entry(name, entry.plugin, None, entry.spec.summary, ""),
            "phases": dict(entry.spec.phases),
            "techniques": count("techniques", name),
            "workloads": count("workloads", name),
        }
        for name, entry in sorted(host.contracts.items())
    ]


def _metrics(host: Host) -> list[dict[str, Any]]:
    owners = host.declared.metrics
    return [
        {
            **_entry(name, owners[name].plugin if name in owners else "", None, metric.summary, ""),
            "unit": metric.unit,
            "higher_is_better": metric.higher_is_better,
            "lane": metric.lane,
        }
        for name, metric in sorted(host.metrics.items())
    ]


def _bases(host: Host) -> list[dict[str, Any]]:
    """Return the bases of plugins, and those by which suites choose techniques, which have the suite's id beside."""
    from harness.api import UsageError
    from harness.source import bases_of
    from harness.suite import read_suite
    from harness.suite_files import parse

    entries = []
    for name, base in sorted(host.declared.bases.items()):
        listed = _entry(name, base.plugin, None, base.spec.summary, _missing(base.spec.requires))
        entries.append({**listed, "suite": ""})
    for full, suite in sorted(host.declared.suites.items()):
        try:
            read_suite(full, host)
        except UsageError:  # what is wrong with a suite, the list of suites says
            continue
        for name, techniques in bases_of(parse(suite.spec)).items():
            entries.append({**_entry(name, suite.plugin, None, f"compares {', '.join(techniques)}", ""), "suite": full})
    return entries


def _suites(host: Host) -> list[dict[str, Any]]:
    from harness.api import UsageError
    from harness.selection import Selection, narrowed
    from harness.suite import read_suite
    from harness.suite_files import has_form

    entries = []
    for full, entry in sorted(host.declared.suites.items()):
        try:
            suite = read_suite(full, host)
            track = has_form(full, host, "track")
            compared = narrowed(read_suite(full, host, form="track") if track else suite, host, Selection()).suite
        except UsageError as error:
            more = f" (and {len(error.problems) - 1} more)" if len(error.problems) > 1 else ""
            entries.append(_entry(full, entry.plugin, None, "", error.problems[0] + more))
        else:
            listed = _entry(full, entry.plugin, suite.contract, suite.title, "")
            names = {"techniques": list(compared.techniques), "workloads": list(compared.workloads)}
            entries.append({**listed, "track": track, **names})
    return entries
