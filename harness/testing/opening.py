"""Opens a technique by its name on a workload in its small form, for benchmarks in a plugin's own tests."""

from __future__ import annotations

from pathlib import Path

from harness.api import NotApplicable, OpenCase
from harness.host import load_host
from harness.testing.smoke import in_small


def opened(technique: str, cache: Path) -> OpenCase:
    """Return an installed technique, opened on the first workload of its contract that accepts it.

    ``technique`` is the full id, ``cache`` a folder for base models. The phases of the result are as the harness times
    them: each has a function ``run``. Raises LookupError where no workload accepts it.
    """
    host = load_host()
    if technique not in host.techniques:
        raise LookupError(f"no technique {technique!r} is installed: run pip install -e . in the folder of the plugin")
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
