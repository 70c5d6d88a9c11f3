from __future__ import annotations

from collections.abc import Iterator
from types import ModuleType

import pytest

from harness.analysis import RunView
from harness.api import Row


@pytest.fixture(scope="session")
def full_view(builders: ModuleType) -> RunView:
    """Two techniques and a failed one on two workloads, tuned, timed, with curves and two claims."""
    claims = (
        builders.make_claim(better="toys/a", than="toys/full", source="arXiv:2406.08447"),
        builders.make_claim(id="none-such", better="toys/c", than="toys/d"),
    )
    workloads = ("core/alpha", "core/beta")
    suite = builders.make_suite(workloads=workloads, baseline="toys/full", claims=claims)
    rows = [row for workload in workloads for row in _rows(builders, workload)]
    code = {name: {"commit": "c0ffee1234567890", "dirty": name == "toys"} for name in ("harness", "toys")}
    run = builders.make_run(suite, environment={"code": code, "packages": {"torch": "2.13.0"}})
    return RunView.build(run, rows, builders.METRICS)


def _rows(builders: ModuleType, workload: str) -> Iterator[Row]:
    for name, shift in (("toys/full", 0.0), ("toys/a", 5.0)):
        for seed, noise in enumerate((0.0, 0.5, -0.5, 0.2, -0.2)):
            for rate in (0.1, 0.2) if seed < 2 else (0.2,):
                yield builders.make_row(
                    technique=name, workload=workload, seed=seed, tuned={"lr": rate},
                    stage="tuning" if seed < 2 else "final",
                    series={"train_loss": [2.0, 1.0 + noise], "technique_rate": [0.1, 0.2]} if shift else
                    {"train_loss": [2.0, 1.5, 1.0]},
                    metrics={"accuracy": 80 + shift + noise * (1 + shift / 10), "val_accuracy": 70 + rate,
                             "loss": 1.0, "val_loss": 1 - rate},
                )  # fmt: skip
        yield builders.make_row(
            technique=name, workload=workload, lane="memory", tuned={"lr": 0.2},
            metrics={"train_tensor_peak": 2e6 + 1e6 * shift},
        )  # fmt: skip
        times = [0.01, 0.011, 0.0105]
        yield builders.make_row(
            technique=name, workload=workload, lane="time", tuned={"lr": 0.2},
            metrics={"train_throughput": 3200.0 * (1 + shift)},
            samples={"train": times, "baseline.train": [2 * seconds for seconds in times[::-1]]},
        )  # fmt: skip
    yield builders.make_row(technique="toys/bad", workload=workload, status="error", reason="no luck", detail="Trace")
