"""Finds and opens techniques by name, on a workload in its small form, for benchmarks in a plugin's own tests."""

from __future__ import annotations

from pathlib import Path

from harness.api import NotApplicable, OpenCase
from harness.host import Host, load_host
from harness.requirements import missing_requirements
from harness.testing.smoke import in_small


def opened(technique: str, cache: Path) -> OpenCase:
    """Return an installed technique, opened on the first workload of its contract that accepts it.

    ``technique`` is the full id, ``cache`` a folder for base models. The phases of the result are as the harness times
    them: each has a function ``run``. Raises LookupError where no workload accepts it.
    """
    host = load_host()
    _require_declared(host, technique)
    spec = host.techniques[technique].spec
    refusals = []
    for workload in host.workloads.values():
        if workload.spec.contract != spec.contract or workload.spec.task:  # others need a model of one's own
            continue
        try:
            return in_small(host, workload.id, technique, spec, cache).open()
        except NotApplicable as error:
            refusals.append(f"{workload.id}: {error}")
    raise LookupError(f"{technique} can run on no workload of its contract: {'; '.join(refusals) or 'there is none'}")


def rivals(baseline: str) -> list[str]:
    """Return the techniques to compare with ``baseline``: the others of its plugin and contract, in order of their ids.

    ``baseline`` is a full id. A technique whose requirements are not installed is left out, as it cannot be opened.
    Raises LookupError where no technique is called ``baseline``.
    """
    host = load_host()
    _require_declared(host, baseline)
    own = host.techniques[baseline]
    return sorted(
        name
        for name, entry in host.techniques.items()
        if name != baseline
        and (entry.plugin, entry.spec.contract) == (own.plugin, own.spec.contract)
        and not missing_requirements(entry.spec.requires)
    )


def _require_declared(host: Host, technique: str) -> None:
    """Raise LookupError, with what to do, where no technique of this name is declared."""
    if technique in host.techniques:
        return
    plugin = technique.partition("/")[0]
    record = next((record for record in host.plugins if record.name == plugin), None)
    if record is None:
        reason = f"plugin {plugin!r} is not installed; run pip install -e . in its folder"
    elif record.status != "ok":
        reason = f"plugin {plugin!r} is {record.status}; run harness plugins, which says why"
    else:
        mine = sorted(name for name, entry in host.techniques.items() if entry.plugin == plugin)
        reason = f"plugin {plugin!r} has {', '.join(mine) or 'none'}"
    raise LookupError(f"no technique {technique!r}: {reason}")
