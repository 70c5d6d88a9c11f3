"""The metrics of a run are those that it keeps; what plugins declare is looked at for others alone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import pytest

from harness.analysis import RunView
from harness.analysis.known import Known
from harness.api import Metric
from harness.results.schema import metric_to_json


class Untouched(Mapping[str, Metric]):
    """Metrics that nobody may look at."""

    def __getitem__(self, name: str) -> Metric:
        pytest.fail(f"{name} was looked for")

    def __iter__(self) -> Iterator[str]:
        pytest.fail("all were looked for")

    def __len__(self) -> int:
        pytest.fail("all were counted")


def test_a_run_that_keeps_its_metrics_is_analysed_without_others(builders) -> None:
    kept = {"name": "toys", "metrics": [metric_to_json(metric) for metric in builders.METRICS.values()]}
    info = builders.make_run(plugins=[kept])
    rows = builders.scored("toys/base", [90.0, 91.0])
    view = RunView.build(info, rows, Untouched())
    assert view == RunView.build(info, rows, builders.METRICS)
    assert [*view.metrics] == [name for name in builders.METRICS if name in view.metrics]


def test_the_run_s_own_metrics_come_first_and_before_others_of_their_name(builders) -> None:
    one, two, *_ = builders.METRICS.values()
    known = Known(own={two.id: two}, others={one.id: one, two.id: one})
    assert [*known] == [two.id, one.id]
    assert len(known) == 2
    assert known[two.id] is two
    assert known.among({one.id, two.id, "none"}) == {two.id: two, one.id: one}
    assert "none" not in known
