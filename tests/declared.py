"""What the built-in families declare, for tests that walk over it."""

from __future__ import annotations

from functools import lru_cache

from harness.api import Metric, WorkloadSpec
from harness.host import Host, load_host


@lru_cache
def host() -> Host:
    """Return a host with the built-in families and no installed plugin."""
    return load_host(entry_points=False)


def specs(contract: str = "") -> dict[str, WorkloadSpec]:
    """Return the built-in workloads by short id, those of one contract where it is named."""
    found = (entry.spec for entry in host().workloads.values())
    return {spec.id: spec for spec in found if contract in ("", spec.contract)}


def metrics() -> dict[str, Metric]:
    """Return the metrics of the built-in families by id."""
    return host().metrics


def declared_here(family: str, lane: str) -> set[str]:
    """Return the metrics of a lane that one family declares itself."""
    entries = host().declared.metrics.values()
    return {entry.spec.id for entry in entries if entry.plugin == family and entry.spec.lane == lane}
