"""What asv is shown: names from the working tree, one run a technique, failures with their reasons."""

from __future__ import annotations

import math
import statistics
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from asv_runner.benchmarks._base import get_setup_cache_key
from asv_runner.discovery import _get_benchmark
from hypothesis import given
from hypothesis import strategies as st

from harness.measure.clock import order_interval
from suites import benchmarks

SUITE: dict[str, Any] = {
    "suite": "toy",
    "version": 3,
    "workloads": ["toy/a", "toy/b"],
    "techniques": ["toy/base", "toy/init-a:rate=0.5"],
    "quality": "accuracy",
    "unit": "%",
    "higher_is_better": True,
    "phases": {"train": "a training step", "infer": "an inference batch"},
    "sizes": {"trainable_parameters": "parameters"},
}
NAMES = [name for name, _, _ in benchmarks.measured_of(SUITE["phases"], SUITE["sizes"])]
QUALITY = benchmarks.quality_of(SUITE)


def row(lane: str = "accuracy", seed: int = 0, **changes: Any) -> dict[str, Any]:
    plain = {"workload": "toy/a", "stage": "final", "status": "ok", "reason": "", "metrics": {}, "samples": {}}
    return {**plain, "lane": lane, "seed": seed, **changes}


def test_quality_becomes_an_error_sampled_by_seed() -> None:
    rows = [row(seed=seed, metrics={"accuracy": value}) for seed, value in ((0, 90.0), (1, 92.0))]
    data = {"values": benchmarks.values_of(rows, QUALITY, NAMES)}
    assert benchmarks.report(data, "toy/a", "error") == {"samples": [10.0, 8.0], "number": 1}


def test_a_metric_of_which_less_is_better_stays_as_it_is() -> None:
    suite = {**SUITE, "quality": "loss", "unit": "nats", "higher_is_better": False}
    quality = benchmarks.quality_of(suite)
    data = {"values": benchmarks.values_of([row(metrics={"loss": 0.7})], quality, NAMES)}
    assert benchmarks.report(data, "toy/a", "loss") == 0.7


def test_a_quality_of_which_more_is_better_and_that_is_no_share_becomes_its_inverse() -> None:
    quality = benchmarks.quality_of({**SUITE, "quality": "tau", "unit": "tokens"})
    assert (quality["series"], quality["unit"]) == ("inverse_tau", "1/(tokens)")
    rows = [row(seed=seed, metrics={"tau": value}) for seed, value in ((0, 4.0), (1, 0.0))]
    data = {"values": benchmarks.values_of(rows, quality, NAMES)}
    assert benchmarks.report(data, "toy/a", "inverse_tau") == {"samples": [0.25, 1e12], "number": 1}


def test_every_phase_of_the_workloads_has_its_time_and_its_memory() -> None:
    names = [name for name, _, _ in benchmarks.measured_of({"quantize": "packing", "infer": "an inference batch"}, {})]
    assert {"quantize_time", "infer_time", "quantize_tensor_peak", "infer_tensor_peak"} <= {*names}
    rows = [row("time", metrics={"quantize_time": 0.2}, samples={"quantize": [0.19, 0.2]})]
    assert benchmarks.values_of(rows, QUALITY, names)["toy/a"]["quantize_time"] == [0.19, 0.2]


def test_times_are_the_rounds_and_memory_is_a_number() -> None:
    time = row("time", metrics={"train_time": 0.3}, samples={"train": [0.28, 0.3, 0.32]})
    memory = row("memory", metrics={"train_tensor_peak": 2048.0})
    data = {"values": benchmarks.values_of([time, memory], QUALITY, NAMES)}
    assert benchmarks.report(data, "toy/a", "train_time") == {"samples": [0.28, 0.3, 0.32], "number": 1}
    assert benchmarks.report(data, "toy/a", "train_tensor_peak") == 2048.0


def test_a_time_is_followed_relative_to_the_baselines_of_the_same_rounds() -> None:
    time = row("time", metrics={"train_time": 0.3}, samples={"train": [0.1, 0.3], "baseline.train": [0.2, 0.5]})
    baseline = row("time", workload="toy/b", metrics={"train_time": 0.3}, samples={"train": [0.2, 0.2]})
    data = {"values": benchmarks.values_of([time, baseline], QUALITY, NAMES)}
    assert benchmarks.report(data, "toy/a", "train_ratio") == {"samples": [0.5, 0.3 / 0.5], "number": 1}
    assert math.isnan(benchmarks.report(data, "toy/b", "train_ratio"))


def test_times_of_a_machine_too_busy_to_tell_are_not_told() -> None:
    noisy = {"train": [0.1, 0.2, 0.3, 0.1, 0.2], "baseline.train": [0.1] * 5}
    drifting = {"infer": [0.1, 0.2, 0.3, 0.1, 0.2], "baseline.infer": [0.1, 0.2, 0.3, 0.1, 0.2]}
    metrics = {"train_time": 0.2, "infer_time": 0.2}
    rows = [row("time", metrics=metrics, samples={**noisy, **drifting})]
    data = {"values": benchmarks.values_of(rows, QUALITY, NAMES)}
    assert math.isnan(benchmarks.report(data, "toy/a", "train_ratio"))
    assert math.isnan(benchmarks.report(data, "toy/a", "train_time"))
    assert benchmarks.report(data, "toy/a", "infer_ratio") == 1.0


@given(st.lists(st.floats(1e-6, 1e3), min_size=1, max_size=30))
def test_a_time_is_steady_by_the_interval_of_its_median(seconds: list[float]) -> None:
    low, high = order_interval(seconds)
    middle = statistics.median(seconds)
    assert benchmarks.steady(seconds) == (low >= middle - 0.1 * middle and high <= middle + 0.1 * middle)


def test_tuning_rows_are_not_reported() -> None:
    rows = [row(metrics={"accuracy": 90.0}), row(stage="tuning", metrics={"accuracy": 10.0})]
    assert benchmarks.report({"values": benchmarks.values_of(rows, QUALITY, NAMES)}, "toy/a", "error") == 10.0


def test_a_failed_case_fails_its_series_with_the_reason_and_no_other() -> None:
    rows = [
        row(seed=0, metrics={"accuracy": 90.0}),
        row(seed=1, status="error", reason="ValueError: nothing to see"),
        row("memory", metrics={"train_tensor_peak": 2048.0}),
        row(workload="toy/b", metrics={"accuracy": 80.0}),
    ]
    data = {"values": benchmarks.values_of(rows, QUALITY, NAMES)}
    with pytest.raises(RuntimeError, match="seed 1: error: ValueError: nothing to see"):
        benchmarks.report(data, "toy/a", "error")
    assert benchmarks.report(data, "toy/a", "train_tensor_peak") == 2048.0
    assert benchmarks.report(data, "toy/b", "error") == 20.0


def test_what_was_not_measured_because_of_a_failure_failed_too() -> None:
    data = {"values": benchmarks.values_of([row(status="timeout", reason="120 s in init")], QUALITY, NAMES)}
    with pytest.raises(RuntimeError, match="120 s in init"):
        benchmarks.report(data, "toy/a", "train_time")


def test_a_case_that_does_not_apply_is_no_value_and_no_failure() -> None:
    data = {"values": benchmarks.values_of([row(status="skipped", reason="nothing to act on")], QUALITY, NAMES)}
    assert math.isnan(benchmarks.report(data, "toy/a", "error"))
    assert math.isnan(benchmarks.report(data, "toy/elsewhere", "error"))


def family(make: Callable[[], dict[str, Any]]) -> Any:
    return benchmarks._family("toy", "toy_a", "A", "1", ("workload", ["toy/a"]), [("error", "%", "error")], make)()


def test_a_technique_that_is_not_there_is_not_applicable(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(NotImplementedError, match="no toy/base"):
        family(lambda: {"absent": "there is no toy/base at this commit"}).setup({}, "toy/a")


def test_readers_measure_once_between_them_and_anew_in_another_cache(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    calls = []

    def make() -> dict[str, Any]:
        calls.append(1)
        return {"values": {"toy/a": {"error": [7.0]}}}

    for number, name in enumerate(("one", "two"), start=1):
        (tmp_path / name).mkdir()
        monkeypatch.chdir(tmp_path / name)
        for _ in range(3):
            reader = family(make)
            reader.setup({}, "toy/a")
            assert reader.track_error({}, "toy/a") == 7.0
        assert len(calls) == number


def test_a_measurement_that_fails_is_not_tried_again_and_fails_every_reader(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    calls = []

    def make() -> dict[str, Any]:
        calls.append(1)
        raise RuntimeError("the ship is sunk")

    monkeypatch.chdir(tmp_path)
    for _ in range(2):
        reader = family(make)
        reader.setup({}, "toy/a")
        with pytest.raises(RuntimeError, match="the ship is sunk"):
            reader.track_error({}, "toy/a")
    assert len(calls) == 1


def test_every_class_has_a_safe_name_and_a_version_by_hand_and_each_suite_a_cache_of_its_own() -> None:
    families = list(benchmarks.technique_families(SUITE))
    other = next(iter(benchmarks.technique_families({**SUITE, "suite": "other"})))
    assert [one.__name__ for one in families] == ["toy_toy_base", "toy_toy_init_a_rate_0_5"]
    assert all(one.version == f"{benchmarks.VERSION}.3" for one in families)
    keys = [get_setup_cache_key(one().setup_cache) for one in (*families, other)]
    assert keys[0] == keys[1] != keys[2]


def test_asv_s_own_discovery_takes_the_classes() -> None:
    (family, _) = benchmarks.technique_families(SUITE)
    found = _get_benchmark("track_train_time", sys.modules[benchmarks.__name__], family, family.track_train_time)
    assert found.name == "benchmarks.toy_toy_base.track_train_time"
    assert (found.unit, found.type) == ("seconds", "track")
    assert found.params == [["'toy/a'", "'toy/b'"]]
    assert "toy/base" in found.pretty_name
    assert "-" not in found.name


def test_names_that_asv_would_confuse_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    suite = {**SUITE, "techniques": ["toy/a-b", "toy/a.b"]}
    monkeypatch.setattr(benchmarks, "declared", lambda: {"suites": [suite], "host": []})
    with pytest.raises(ValueError, match="toy_toy_a_b"):
        benchmarks.families()


@pytest.mark.parametrize(
    ("lists", "expected"),
    [
        ({"techniques": [], "plugins": []}, "there is no toy/base at this commit"),
        ({"techniques": ["toy/base"], "suites": []}, "suite 'toy' is not tracked at this commit"),
        ({"techniques": ["toy/base"], "suites": [{"id": "core/toy"}]}, "suite 'toy' is not tracked at this commit"),
        ({"techniques": ["toy/base"], "suites": [{"id": "core/toy", "track": True}]}, None),
    ],
)
def test_what_a_commit_lacks_is_named(monkeypatch: pytest.MonkeyPatch, lists: dict, expected: str | None) -> None:
    def answer(*what: str) -> list[dict]:
        return [one if isinstance(one, dict) else {"id": one} for one in lists[what[-1]]]

    monkeypatch.setattr(benchmarks, "_list", answer)
    assert benchmarks.why_absent("toy", "toy/base") == expected


def test_a_broken_plugin_is_a_failure_with_its_cause(monkeypatch: pytest.MonkeyPatch) -> None:
    broken = [{"name": "toy", "status": "broken", "cause": "SyntaxError: invalid syntax"}]
    monkeypatch.setattr(benchmarks, "_list", lambda *what: broken if what == ("plugins",) else [])
    with pytest.raises(RuntimeError, match="SyntaxError: invalid syntax"):
        benchmarks.why_absent("toy", "toy/base")


def test_the_working_tree_declares_its_tracked_suites_and_the_host_s_benchmarks(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(benchmarks, "STATE", tmp_path)
    found = benchmarks.declared()
    by_name = {one["suite"]: one for one in found["suites"]}
    tracked = {
        path.stem for path in (Path(__file__).parents[2] / "suites").glob("*/*.toml") if "[track]" in path.read_text()
    }
    assert {"peft", "dropout"} <= set(by_name) == tracked
    assert "lora/pissa" in by_name["peft"]["techniques"]
    assert "finetune/digits-mlp" in by_name["peft"]["workloads"]
    assert by_name["peft"]["phases"] == {"train": "a training step", "infer": "an inference batch"}
    assert by_name["peft"]["sizes"] == dict.fromkeys(("adapter_parameters", "trainable_parameters"), "parameters")
    assert by_name["dropout"]["sizes"] == {}
    assert "test_a_command_starts[--help]" in found["host"]
    monkeypatch.setattr(benchmarks, "_start", lambda *_, **__: pytest.fail("asked twice"))
    assert benchmarks.declared() == found


def ended(code: int, stderr: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.CompletedProcess(["harness"], code, stdout="", stderr=stderr)


def test_a_harness_that_does_not_start_fails_with_its_own_words(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(benchmarks, "_start", lambda *_, **__: ended(1, "RuntimeError: the ship is sunk"))
    with pytest.raises(RuntimeError, match="the ship is sunk"):
        benchmarks.measure("toy", "toy/base", QUALITY, NAMES)


def test_a_run_that_was_refused_for_another_reason_than_absence_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(benchmarks, "_start", lambda *_, **__: ended(2, "suite file: seeds: missing"))
    monkeypatch.setattr(benchmarks, "why_absent", lambda *_: None)
    with pytest.raises(RuntimeError, match="seeds: missing"):
        benchmarks.measure("toy", "toy/base", QUALITY, NAMES)
