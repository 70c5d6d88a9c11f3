"""Stored runs become an asv results directory that asv itself reads."""

from __future__ import annotations

import json
import math
import statistics
from pathlib import Path
from typing import Any

import pytest
from asv.benchmarks import Benchmarks
from asv.results import Results, iter_results

from harness.api import Contract, Row, UsageError
from harness.results.schema import row_to_json
from harness.results.store import Store, StoredRun
from harness.tracking.results import commit_of, series_of, sizes_of, write_asv
from tests.conftest import ROOT, Harness
from tests.results.builders import METRICS, make_row, make_run, make_suite, scored, timed

COMMIT = "1234567890" * 4
CONTRACTS = {
    "toy": Contract(
        id="toy", protocol="toys:Toy", summary="a toy", phases={"train": "a training step", "infer": "an answer"}
    )
}
SUITE = make_suite(form="track", workloads=("core/alpha", "core/beta"), version=3)


def run_of(rows: list[Row], *, commit: str | None = COMMIT, dirty: bool = False, **changes: Any) -> StoredRun:
    code = {"harness": {"commit": commit, "dirty": dirty}, "harness_toys": {"commit": None, "dirty": None}}
    facts = {"code": code, "cpu": {"model": "A Chip"}, "python": "3.11.4", "cores": 2}
    suite = changes.pop("suite", SUITE)
    info = make_run(suite, environment=facts, selection={"device": "cpu", **changes.pop("selection", {})}, **changes)
    return StoredRun(info=info, rows=tuple(rows))


def rows_of(technique: str = "toys/a") -> list[Row]:
    memory = {"train_tensor_peak": 4096.0, "infer_tensor_peak": 1024.0}
    return [
        *scored(technique, [90.0, 91.0, 95.0], metrics={"trainable_parameters": 10.0}),
        make_row(technique=technique, lane="memory", metrics=memory),
        timed(technique, [0.2, 0.2, 0.2], [0.19, 0.21, 0.2]),
        make_row(technique=technique, workload="core/beta", status="oom", reason="took 9 GiB"),
    ]


def read(folder: Path) -> dict[str, Results]:
    return {one.commit_hash: one for one in iter_results(str(folder))}


class Configuration:
    """As much of asv's configuration as its list of benchmarks reads."""

    benchmark_dir = "suites"

    def __init__(self, folder: Path) -> None:
        self.results_dir = str(folder)


def values(folder: Path, name: str, commit: str = COMMIT) -> list[float | None]:
    """What asv shows of a series, on alpha and beta."""
    benchmarks = Benchmarks.load(Configuration(folder))
    return read(folder)[commit].get_result_value(name, benchmarks[name]["params"])


def test_asv_reads_every_series_with_its_samples(tmp_path: Path) -> None:
    write_asv([run_of(rows_of())], METRICS, CONTRACTS, tmp_path, {COMMIT: 1000})
    prefix = "benchmarks.toy_toys_a.track_"
    expected = {"error": 9.0, "train_time": 0.2, "train_tensor_peak": 4096.0, "infer_tensor_peak": 1024.0}
    assert {name: values(tmp_path, prefix + name) for name in expected} == {
        name: [value, None] for name, value in expected.items()
    }
    result = read(tmp_path)[COMMIT]
    assert result.date == 1_000_000
    statistics_of = result.get_result_stats(prefix + "train_time", [["'core/alpha'", "'core/beta'"]])
    assert statistics_of[0] == {"q_25": pytest.approx(0.195), "q_75": pytest.approx(0.205), "number": 1, "repeat": 3}
    benchmark = Benchmarks.load(Configuration(tmp_path))[prefix + "error"]
    assert (benchmark["unit"], benchmark["version"]) == ("%", "1.3")
    assert result.get_result_keys(Benchmarks.load(Configuration(tmp_path)))


def test_a_workload_that_a_technique_skips_is_not_applicable(tmp_path: Path) -> None:
    skipped = make_row(technique="toys/a", workload="core/beta", status="skipped", reason="nothing to act on")
    write_asv([run_of([*scored("toys/a", [90.0]), skipped])], METRICS, CONTRACTS, tmp_path, {})
    error, beta = values(tmp_path, "benchmarks.toy_toys_a.track_error")
    assert error == 10.0
    assert beta is not None
    assert math.isnan(beta)


def test_a_technique_with_a_failed_seed_has_no_error(tmp_path: Path) -> None:
    rows = [*scored("toys/a", [90.0, 91.0]), make_row(technique="toys/a", seed=2, status="crash", reason="SIGSEGV")]
    write_asv([run_of(rows)], METRICS, CONTRACTS, tmp_path, {})
    assert values(tmp_path, "benchmarks.toy_toys_a.track_error")[0] is None


def test_runs_are_added_to_what_is_there(tmp_path: Path) -> None:
    later = run_of(
        scored("toys/b", [70.0], workload="core/beta"),
        suite=make_suite(form="track", workloads=("core/beta",), version=3),
    )
    write_asv([run_of(rows_of())], METRICS, CONTRACTS, tmp_path, {})
    write_asv([later, run_of(scored("toys/a", [50.0]), commit="f" * 40)], METRICS, CONTRACTS, tmp_path, {})
    assert set(read(tmp_path)) == {COMMIT, "f" * 40}
    assert values(tmp_path, "benchmarks.toy_toys_a.track_error")[0] == 9.0
    assert values(tmp_path, "benchmarks.toy_toys_a.track_error", "f" * 40)[0] == 50.0
    assert "benchmarks.toy_toys_b.track_error" in read(tmp_path)[COMMIT].get_all_result_keys()


def test_a_full_run_is_no_point_of_the_tracked_series(tmp_path: Path) -> None:
    write_asv([run_of(rows_of(), suite=make_suite())], METRICS, CONTRACTS, tmp_path, {})
    assert "benchmarks.toy_full_toys_a.track_error" in Benchmarks.load(Configuration(tmp_path))
    assert "benchmarks.toy_toys_a.track_error" not in Benchmarks.load(Configuration(tmp_path))


def test_a_gpu_is_a_machine_of_its_own(tmp_path: Path) -> None:
    run = run_of(rows_of(), selection={"device": "cuda"})
    run.info.environment["gpu"] = [{"name": "NVIDIA H200"}]  # type: ignore[index]
    files = write_asv([run, run_of(rows_of())], METRICS, CONTRACTS, tmp_path, {})
    assert [file.parent.name for file in files] == ["NVIDIA_H200", "A_Chip"]
    named = {"arch", "cpu", "machine", "num_cpu", "os", "ram", "python"}  # those of asv itself: one more splits a line
    assert all(one.params.keys() == named for one in iter_results(str(tmp_path)))


@pytest.mark.parametrize(
    ("changes", "reason"), [({"commit": None}, "is not known"), ({"dirty": True}, "harness had uncommitted changes")]
)
def test_a_run_of_no_commit_is_refused(changes: dict[str, Any], reason: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=reason):
        write_asv([run_of(rows_of()), run_of(rows_of(), **changes)], METRICS, CONTRACTS, tmp_path / "results", {})
    assert not (tmp_path / "results").exists()


@pytest.mark.parametrize(
    ("state", "reason"),
    [
        ({"commit": COMMIT, "dirty": True}, "the file of its suite toy had uncommitted changes"),
        ({"commit": None, "dirty": True}, "the file of its suite toy is not in the repository of the code"),
    ],
)
def test_a_run_of_a_changed_suite_is_refused_as_one_of_changed_code(state: Any, reason: str, tmp_path: Path) -> None:
    run = run_of(rows_of())
    run.info.environment["suite"] = state  # type: ignore[index]
    with pytest.raises(UsageError, match=reason):
        write_asv([run], METRICS, CONTRACTS, tmp_path / "results", {})
    run.info.environment["suite"] = {**state, "dirty": False}  # type: ignore[index]
    assert write_asv([run], METRICS, CONTRACTS, tmp_path / "results", {})


OTHERS = "fedcba0987" * 4


@pytest.mark.parametrize(
    ("suite", "known", "expected"),
    [
        (OTHERS, {}, OTHERS),
        (COMMIT, {}, COMMIT),
        (None, {}, COMMIT),
        ("5" * 40, {}, COMMIT),
        (COMMIT, {OTHERS: 1}, OTHERS),
        (OTHERS, {COMMIT: 1}, COMMIT),
        (OTHERS, {COMMIT: 1, OTHERS: 1}, OTHERS),
    ],
)
def test_a_run_of_an_outside_project_has_the_commit_of_the_place_or_of_its_suite(
    suite: str | None, known: dict[str, int], expected: str
) -> None:
    info = run_of(rows_of()).info
    info.environment["code"]["harness_toys"]["commit"] = OTHERS  # type: ignore[index, call-overload]
    info.environment["suite"] = {"commit": suite, "dirty": False}  # type: ignore[index]
    assert commit_of(info, known) == expected


def test_a_run_of_no_commit_says_why_git_told_none(tmp_path: Path) -> None:
    run = run_of(rows_of(), commit=None)
    run.info.environment["code"]["harness"]["commit_unknown"] = "dubious ownership"  # type: ignore[index, call-overload]
    with pytest.raises(UsageError, match="the commit of its code is not known: dubious ownership"):
        write_asv([run], METRICS, CONTRACTS, tmp_path / "results", {})


# ----------------------------------------------------------------------------- beside suites/benchmarks.py


@pytest.fixture
def benchmarks() -> Any:
    import importlib.util

    spec = importlib.util.spec_from_file_location("suites.benchmarks", ROOT / "suites/benchmarks.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_series_are_those_that_asv_measures(benchmarks: Any, tmp_path: Path) -> None:
    phases, sizes = dict(CONTRACTS["toy"].phases), sizes_of(SUITE, METRICS)
    assert sizes == dict.fromkeys(("adapter_parameters", "trainable_parameters"), "parameters")
    assert {name: (unit, text) for name, unit, text in benchmarks.measured_of(phases, sizes)} == series_of(
        phases, sizes
    )
    suite = {
        "suite": SUITE.id, "version": SUITE.version, "techniques": ["toys/a"], "workloads": list(SUITE.workloads),
        "quality": "accuracy", "unit": "%", "higher_is_better": True, "phases": phases, "sizes": sizes,
    }  # fmt: skip
    (family,) = benchmarks.technique_families(suite)
    instance = family()
    write_asv([run_of(rows_of())], METRICS, CONTRACTS, tmp_path, {})
    listed = Benchmarks.load(Configuration(tmp_path))
    measured = benchmarks.values_of(
        [row_to_json(row) for row in rows_of()],
        benchmarks.quality_of(suite),
        [name for name, _, _ in benchmarks.measured_of(phases, sizes)],
    )
    assert len(listed) > 4
    for name, one in listed.items():
        track = getattr(instance, name.rpartition(".")[2])
        assert name == f"benchmarks.{family.__name__}.{track.__name__}"
        assert (one["unit"], one["pretty_name"]) == (track.unit, track.pretty_name)
        assert one["version"] == instance.version
        assert one["params"] == [[repr(workload) for workload in instance.params[0]]]
        alpha, beta = values(tmp_path, name)
        series = name.rpartition(".track_")[2]
        samples = measured["core/alpha"].get(series, [math.nan])
        assert alpha == pytest.approx(statistics.median(samples), nan_ok=True)
        assert beta is None
        assert isinstance(measured["core/beta"][series], str)


# -------------------------------------------------------------------------------------------------- command


def test_the_command_takes_several_runs_and_a_folder(harness: Harness, tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    for technique in ("toys/a", "toys/b"):
        writer = store.create_run(
            suite=SUITE, selection={"device": "cpu"}, plugins=[], environment=run_of([]).info.environment, planned=3
        )
        for row in scored(technique, [80.0, 81.0]):
            writer.append(row)
        writer.finish(0)
    chosen = ("--store", str(store.path), *store.ids())
    done = harness("export", "asv", "--output", "results", *chosen)
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"results/A_Chip/{COMMIT[:8]}-harness.json\n"
    content = json.loads((tmp_path / "cwd" / done.stdout.strip()).read_text())
    assert {name.split(".")[1] for name in content["results"]} == {"toy_toys_a", "toy_toys_b"}
    for arguments, reason in ((("asv",), "--output .asv/results"), (("csv",), "takes one run, not 2")):
        wrong = harness("export", *arguments, *chosen)
        assert (wrong.returncode, "Traceback" in wrong.stderr) == (2, False)
        assert reason in wrong.stderr


@pytest.mark.parametrize("commit", ["--output=victim", "../../../x", "a" * 39, "HEAD", "a" * 40 + "\n"])
def test_a_commit_that_is_no_full_hash_is_refused(commit, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is not the id of a commit"):
        write_asv([run_of(scored("toys/a", [50.0]), commit=commit)], METRICS, CONTRACTS, tmp_path / "out", {})
    assert not (tmp_path / "out").exists()
