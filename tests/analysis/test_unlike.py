"""What forbids to compare two runs."""

from __future__ import annotations

from dataclasses import replace

import pytest

from harness.analysis.unlike import code_of, unlike
from harness.results.store import StoredRun

ENVIRONMENT = {
    "python": "3.11.7",
    "machine": "x86_64",
    "cpu": {"model": "A", "flags": ["avx2"]},
    "gpu": [],
    "case_threads": 1,
    "packages": {"technique-harness": "0.1.0", "torch": "2.13.0"},
    "code": {"harness": {"commit": "0123456789abcdef", "dirty": False, "version": "0.1.0", "digest": "d1"}},
}
SELECTION = {"device": "cpu", "params": {}}


@pytest.fixture
def run(builders):
    def make(suite=None, rows=(), **changes) -> StoredRun:
        environment = {**ENVIRONMENT, **changes.pop("environment", {})}
        selection = {**SELECTION, **changes.pop("selection", {})}
        info = builders.make_run(builders.make_suite(**suite or {}))
        info = replace(info, environment=environment, selection=selection, **changes)
        return StoredRun(info=info, rows=tuple(rows))

    return make


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ({"suite": {"version": 2}}, "suite toy: version 1 and 2"),
        ({"selection": {"params": {"double": True, "file": None}}}, "params: none and double=true, file=null"),
        ({"environment": {"gpu": [{"name": "H200", "memory": 1}]}}, "gpu: none and name=H200, memory=1"),
        ({"suite": {"id": "other"}}, "suite: toy and other"),
        ({"suite": {"form": "track"}}, "form: full and track"),
        ({"environment": {"python": "3.12.1"}}, "python: 3.11.7 and 3.12.1"),
        ({"environment": {"cpu": {"model": "B", "flags": []}}}, "cpu: A and B"),
        ({"environment": {"gpu": ["one"]}}, "gpu: none and one"),
        ({"environment": {"packages": {"torch": "2.12.0"}}}, "torch: 2.13.0 and 2.12.0"),
        ({"environment": {"packages": {"torch": "2.13.0", "peft": "1"}}}, "peft: none and 1"),
        ({"selection": {"device": "cuda"}}, "device: cpu and cuda"),
        ({"selection": {"params": {"lr": 1}}}, "params: none and lr=1"),
        ({"environment": {"cores": 4}}, "cores: none and 4"),
        ({"environment": {"cpu_quota": 1.5}}, "cpu_quota: none and 1.5"),
        ({"environment": {"memory_limit": 2**30}}, "memory_limit: none and 1073741824"),
        ({"environment": {"case_threads": 2}}, "case_threads: 1 and 2"),
    ],
    ids=str,
)
def test_each_thing_besides_the_code_under_test_is_told(change, line, run) -> None:
    assert unlike(run(), run(**change)) == (line,)


def test_another_version_of_what_a_technique_that_ran_requires_is_told_and_of_another_s_not(run, builders) -> None:
    rows = [builders.make_row()]
    name = f"technique {rows[0].case.technique}"
    first, second = (
        run(rows=rows, environment={"requirements": {name: {"lib": version}, "technique toy/absent": {"far": version}}})
        for version in ("1", "2")
    )
    assert unlike(first, second) == ("lib: 1 and 2",)
    added = run(rows=rows, environment={"requirements": {name: {"lib": "1", "more": "1"}}})
    assert unlike(first, added) == ()


def test_another_version_of_a_workload_is_told(run, builders) -> None:
    rows = [[builders.make_row(workload_version=version)] for version in (1, 2)]
    assert unlike(run(rows=rows[0]), run(rows=rows[1])) == ("workload core/alpha: version 1 and 2",)


def test_the_code_under_test_may_differ(run) -> None:
    mine = {"name": "toys", "distribution": "harness-toys"}
    packages = {"technique-harness": "0.2.0", "torch": "2.13.0", "harness-toys": "3"}
    code = {"harness": {"commit": None, "dirty": None, "version": "0.2.0", "digest": "d2345678901"}}
    other = run(environment={"packages": packages, "code": code}, plugins=(mine,))
    assert unlike(run(), other) == ()
    assert code_of(run().info) == {"harness": "012345678"}
    assert code_of(other.info) == {"harness": "0.2.0 (d2345678)"}


def test_a_run_that_went_on_with_another_package_is_unlike_one_that_did_not(run) -> None:
    resumed = ({"started": "2026-01-01", "environment": {"python": "2.7"}},)
    mixed = run(resumed=resumed)
    assert unlike(run(), mixed) == (f"python: {run().info.environment['python']} and 2.7",)
    assert unlike(mixed, run()) == (f"python: 2.7 and {run().info.environment['python']}",)


def test_rows_that_other_machines_computed_are_compared_by_these_and_not_by_the_driver(run, builders) -> None:
    def on(*models: str, driver: str = "A") -> StoredRun:
        machines = [{**ENVIRONMENT, "hostname": f"n{at}", "cpu": {"model": name}} for at, name in enumerate(models)]
        rows = [replace(builders.make_row(seed=at), environment=facts) for at, facts in enumerate(machines)]
        return run(rows=rows, environment={"cpu": {"model": driver}})

    assert unlike(on("B", "B"), on("B", driver="C")) == ()
    assert unlike(on("B", "B"), on("B", "C")) == ("cpu: B and C",)
    assert unlike(on("B"), run()) == ("cpu: B and A",)


def test_of_a_run_that_went_on_without_a_cluster_both_environments_are_compared(run, builders) -> None:
    there = replace(builders.make_row(seed=0), environment={**ENVIRONMENT, "hostname": "n", "cores": 8})
    here = replace(builders.make_row(seed=1), environment=ENVIRONMENT)
    assert unlike(run(rows=[there, here]), run()) == ("cores: 8 and none",)
    assert unlike(run(), run(rows=[there, here])) == ("cores: none and 8",)
