"""``harness list``: the suites, techniques, workloads and metrics there are, and whether each can run here."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from harness.cli.app import current, json_option, plugin_options, print_json

if TYPE_CHECKING:
    from harness.host import Host


@click.command("list")
@click.argument("what", type=click.Choice(["suites", "techniques", "workloads", "metrics"]))
@plugin_options
@json_option
def list_(what: str, as_json: bool) -> None:
    """List suites, techniques, workloads or metrics, and whether each can run here."""
    host = current().host
    entries = _suites(host) if what == "suites" else _metrics(host) if what == "metrics" else _specs(host, what)
    if as_json:
        print_json(entries)
        return
    from tabulate import tabulate

    headers = ["id", *(["unit"] if what == "metrics" else ["contract"]), "summary", ""]
    rows = [
        [
            entry["id"],
            entry["unit"] if what == "metrics" else entry["contract"],
            entry["summary"],
            "" if entry["available"] else entry["reason"],
        ]
        for entry in entries
    ]
    click.echo(tabulate(rows, headers=headers, tablefmt="simple", maxcolwidths=[None, None, 70, 50]))


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
        found = _entry(full, entry.plugin, entry.spec.contract, entry.spec.summary, _missing(entry.spec.requires))
        if what == "techniques":
            found["reference"] = entry.spec.reference
        entries.append(found)
    return entries


def _missing(requires: Sequence[str]) -> str:
    if not requires:
        return ""
    from harness.plan import install_hint, missing_requirements

    missing = missing_requirements(requires)
    return install_hint(missing) if missing else ""


def _metrics(host: Host) -> list[dict[str, Any]]:
    return [
        {
            **_entry(name, entry.plugin, None, entry.spec.summary, ""),
            "unit": entry.spec.unit,
            "higher_is_better": entry.spec.higher_is_better,
            "lane": entry.spec.lane,
        }
        for name, entry in sorted(host.declared.metrics.items())
    ]


def _suites(host: Host) -> list[dict[str, Any]]:
    from harness.api import UsageError
    from harness.suite import has_form, read_suite

    entries = []
    for full, entry in sorted(host.declared.suites.items()):
        try:
            suite = read_suite(full, host)
        except UsageError as error:
            more = f" (and {len(error.problems) - 1} more)" if len(error.problems) > 1 else ""
            entries.append(_entry(full, entry.plugin, None, "", error.problems[0] + more))
        else:
            found = _entry(full, entry.plugin, suite.contract, suite.title, "")
            entries.append({**found, "track": has_form(full, host, "track")})
    return entries
