"""Takes regressions that the project accepted out of a published site's list, as with those of series that ended."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from harness.api import Metric
from harness.history.decisions import Accepted, Decisions, find, read
from harness.history.judging import is_within
from harness.history.timeline import Timeline
from harness.tracking.asv import Regression, read_regressions, regressions_of
from harness.tracking.ended import drop_from_feed

_SLACK: Final = 0.05
"""By how much a change may exceed the limit of its entry, relative to the value before: asv's own threshold."""

AcceptedOne = tuple[Regression, Accepted]
"""A regression, and the entry that accepts it."""


def drop_accepted(project: Path, site: Path, metrics: Mapping[str, Metric]) -> list[AcceptedOne]:
    """Remove the regressions that the project accepted from a site's list and feed, and return them with the entries.

    ``metrics`` are those of the loaded plugins. Raises UsageError for mistakes in the project's decisions.
    """
    decisions = read(find(project))
    if not decisions.accepted:
        return []
    timeline = Timeline.of(project, (regression.commit for regression in read_regressions(site)))
    index = json.loads((site / "index.json").read_text(encoding="utf-8"))
    file = site / "regressions.json"
    content = json.loads(file.read_text(encoding="utf-8"))
    accepted: list[AcceptedOne] = []
    kept, gone = [], set()
    for entry in content["regressions"]:
        steps = []
        for step, regression in zip(entry[6], regressions_of(entry, index), strict=True):
            found = _entry(regression, decisions, timeline, metrics)
            if found is None:
                steps.append(step)
            else:
                accepted.append((regression, found))
        if steps:
            kept.append([*entry[:6], steps, *entry[7:]])
        else:
            gone.add(str(entry[0]))
    if accepted:
        file.write_text(json.dumps({**content, "regressions": kept}), encoding="utf-8")
        drop_from_feed(site / "regressions.xml", gone)
    return accepted


def _entry(
    regression: Regression, decisions: Decisions, timeline: Timeline, metrics: Mapping[str, Metric]
) -> Accepted | None:
    """Return the entry that accepts a regression, if there is one."""
    if not regression.suite:
        return None
    today = dt.datetime.now(dt.UTC).date()
    names = {"suite": regression.suite, "technique": regression.technique, "workload": regression.key}
    size = regression.after / regression.before - 1 if regression.before > 0 else float("inf")
    for entry in decisions.accepted:
        commit = timeline.find(entry.commit)
        if commit is None or not entry.counts_on(today) or not _is_at(commit, regression, timeline):
            continue
        metric = next((name for name in names_of(regression.metric, metrics)
                       if entry.is_for({**names, "metric": name})), "")  # fmt: skip
        is_quality = metric in metrics and metrics[metric].lane == "accuracy" and regression.unit != "parameters"
        change = regression.after - regression.before if is_quality else size
        if metric and is_within(entry, change, 0.0 if is_quality else _SLACK):
            return entry
    return None


def _is_at(commit: str, regression: Regression, timeline: Timeline) -> bool:
    """Return whether a commit may have made a regression: those before it were not measured where ``since`` says so."""
    if not regression.since:
        return commit == regression.commit
    return timeline.is_between(commit, regression.since, regression.commit)


def names_of(series: str, metrics: Mapping[str, Metric]) -> Sequence[str]:
    """Return the names by which a series of asv may be accepted: its own, and that of the metric it is made of."""
    if series == "error":
        return [series, *(name for name, metric in metrics.items() if _is_share(metric))]
    if series.endswith("_time"):
        return [series, f"{series.removesuffix('_time')}_ratio"]
    return [series, series.removeprefix("inverse_")]


def _is_share(metric: Metric) -> bool:
    return metric.unit == "%" and metric.higher_is_better and metric.lane == "accuracy"
