"""Finds the metrics of a run: as the run keeps them, and else as loaded plugins declare them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Set
from dataclasses import dataclass

from harness.api import DISTRIBUTION, Metric, RunInfo, Suite, UsageError
from harness.results.plugins import option_of
from harness.results.schema import metrics_from_json


@dataclass(frozen=True, kw_only=True, eq=False)
class Known(Mapping[str, Metric]):
    """The metrics by id: those that a run keeps as they were declared when it was made, and ``others``.

    The others are looked at for what the run does not keep, and not before: to know them, plugins may have to be
    loaded.
    """

    own: Mapping[str, Metric]
    others: Mapping[str, Metric]

    def __getitem__(self, name: str) -> Metric:
        return self.own[name] if name in self.own else self.others[name]

    def __iter__(self) -> Iterator[str]:
        yield from self.own
        yield from (name for name in self.others if name not in self.own)

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def among(self, names: Set[str]) -> dict[str, Metric]:
        """Return those of the names that are known, the run's own ones first."""
        own = {name: metric for name, metric in self.own.items() if name in names}
        return own | {name: self[name] for name in sorted(names - own.keys()) if name in self}


def known_metrics(info: RunInfo, metrics: Mapping[str, Metric]) -> Known:
    """Return the metrics of a run and, after these, other ``metrics``.

    Raises `UsageError` where a metric of the run's suite is not among them, with the plugins of the run.
    """
    suite = info.suite
    known = Known(own=metrics_from_json(info.plugins, f"run {info.id}"), others=metrics)
    claimed = (claim.metric for claim in suite.claims)
    needed = dict.fromkeys([*suite.metrics, suite.select, *of_comparison(suite), *claimed])
    missing = [name for name in needed if name not in known]
    if missing:
        raise UsageError(
            f"suite {suite.id!r} uses the metric {missing[0]!r}, which no loaded plugin declares",
            f"install or enable the plugin that did when run {info.id} was made: {_plugins_of(info) or 'unknown'}",
        )
    return known


def of_comparison(suite: Suite) -> tuple[str, ...]:
    """Return the metrics that techniques are compared by."""
    return (suite.judged, *suite.unchanged, *filter(None, [suite.equal]))


def _plugins_of(info: RunInfo) -> str:
    """Return the plugins of a run's techniques and workloads that do not ship with the harness."""
    ids = (info.suite.baseline, *info.suite.techniques, *info.suite.workloads)
    concerned = {name.partition("/")[0] for name in ids}
    names = []
    for plugin in info.plugins:
        name, owner = str(plugin.get("name")), plugin.get("distribution")
        if name in concerned and owner != DISTRIBUTION:
            names.append(name if owner else f"{name} (with {option_of(plugin)})")
    return ", ".join(names)
