"""Rows of unlike machines do not get into one run."""

from __future__ import annotations

from dataclasses import replace

import pytest

from harness.api import Reply, Row, UsageError
from harness.execution.alike import Alike
from tests.execution.conftest import make_case

HERE = {"machine": "x86_64", "cpu": {"model": "A", "flags": ("avx2",)}, "gpu": [], "cores": 2, "hostname": "one"}


def row_of(seed: int, *, workload: str = "toys/toy", status: str = "ok", **facts: object) -> Row:
    case = replace(make_case("Seeded", seed=seed), workload=workload)
    return Row(run="r", case=case, reply=Reply(status=status), started="", environment={**HERE, **facts})


@pytest.mark.parametrize("fact", ["machine", "cpu", "gpu"])
def test_a_row_of_another_processor_or_card_than_the_stored_ones_is_refused(fact: str) -> None:
    written: list[Row] = []
    record = Alike(written.append, [row_of(0)])
    record(row_of(1, cores=64, hostname="two"))
    record(row_of(2, workload="toys/other", **{fact: "B"}))
    with pytest.raises(UsageError, match=rf"^run r: two has another {fact} \(B\) than .* toys/toy .*resume the run on"):
        record(row_of(3, hostname="two", **{fact: "B"}))
    assert [row.case.seed for row in written] == [1, 2]


def test_rows_as_they_are_read_back_are_of_the_same_machine() -> None:
    written: list[Row] = []
    Alike(written.append, [row_of(0, cpu={"model": "A", "flags": ["avx2"]})])(row_of(1))
    assert len(written) == 1


def test_a_case_that_computed_nothing_says_nothing_of_a_machine() -> None:
    written: list[Row] = []
    record = Alike(written.append, [row_of(0, status="skipped", cpu="driver")])
    for at, status in enumerate(("ok", "skipped", "lost", "ok")):
        record(row_of(at, status=status, cpu="node" if status == "ok" else "driver"))
    assert len(written) == 4
