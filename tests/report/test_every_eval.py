"""Records of Every Eval Ever: they fulfil the schema of that project, and have the figures of the run."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import jsonschema
import pytest

from harness.analysis import RunView
from harness.report.every_eval import SCHEMA_VERSION, write_every_eval
from tests.conftest import ROOT

SCHEMA = json.loads((ROOT / "tests/data/every_eval_ever/eval.schema.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def validator() -> jsonschema.Draft7Validator:
    jsonschema.Draft7Validator.check_schema(SCHEMA)
    return jsonschema.Draft7Validator(SCHEMA)


def written(view: RunView, folder: Path) -> dict[str, dict]:
    exported = write_every_eval(view, folder)
    return {record["model_info"]["id"]: record for record in (json.loads(path.read_text()) for path in exported.files)}


def test_records_fulfil_the_schema_of_the_version_that_they_name(
    validator, full_view: RunView, builders, tmp_path: Path
) -> None:
    assert SCHEMA["version"] == SCHEMA_VERSION
    odd = [
        *builders.scored("toys/base", [80.0, 81.0]),
        *builders.scored("toys/../<script> & 'x'", [80.0, 82.0], metrics={"loss": math.inf}, tuned={"lr": 0.1}),
        builders.make_row(technique="toys/bad", status="error", reason="no luck"),
    ]
    unlike = RunView.build(builders.make_run(finished=""), odd, builders.METRICS)
    for name, view in (("full", full_view), ("odd", unlike)):
        found = written(view, tmp_path / name)
        assert len(found) == 2
        for record in found.values():
            validator.validate(record)
            assert record["schema_version"] == SCHEMA_VERSION
    assert write_every_eval(unlike, tmp_path / "odd").left_out == ["toys/bad"]
    files = [path.relative_to(tmp_path / "odd") for path in (tmp_path / "odd").rglob("*.json")]
    assert len(files) == 2, "a second export writes the same files, within the folder"
    assert {len(path.parts) for path in files} == {4}


def test_results_have_the_figures_of_the_run_with_their_intervals_and_bounds(
    full_view: RunView, tmp_path: Path
) -> None:
    record = written(full_view, tmp_path)["toys/a"]
    results = {
        (result["evaluation_name"], result["metric_config"]["metric_name"]): result
        for result in record["evaluation_results"]
    }
    assert len(results) == len(record["evaluation_results"])
    summary = next(own for own in full_view.workloads[0].techniques if own.technique == "toys/a")
    figures = {name: figure for name, figure in summary.figures.items() if name in full_view.metrics}
    assert len(figures) >= 4
    for name, figure in figures.items():
        result = results["core/alpha", name]
        estimate, details = figure.estimate, result["score_details"]
        assert details["score"] == estimate.value
        assert details["uncertainty"]["num_samples"] == estimate.n
        interval = details["uncertainty"].get("confidence_interval")
        assert (interval["lower"], interval["upper"]) == (estimate.low, estimate.high) if interval else True
        assert (interval is None) == (estimate.low is None)
    accuracy, loss = results["core/alpha", "accuracy"], results["core/alpha", "loss"]
    assert accuracy["score_details"]["details"]["verdict"] == summary.verdict
    assert accuracy["metric_config"]["max_score"] == 100
    assert accuracy["metric_config"]["lower_is_better"] is False
    assert "score_type" not in loss["metric_config"], "nothing is invented where a scale has no bounds"
    assert loss["metric_config"]["lower_is_better"] is True


def test_a_wrong_value_breaks_the_schema(validator, full_view: RunView, tmp_path: Path) -> None:
    record = next(iter(written(full_view, tmp_path).values()))
    for field, value in (("schema_version", 3), ("model_info", {"name": "a"}), ("evaluation_results", [{}]), ("x", 1)):
        assert not validator.is_valid({**record, field: value})


def test_the_same_run_has_the_same_record_and_another_one_has_another(full_view: RunView, tmp_path: Path) -> None:
    other = replace(full_view, info=replace(full_view.info, id="20260102-000000-abcd"))
    first, second = (write_every_eval(view, tmp_path).files for view in (full_view, other))
    assert not {*first} & {*second}
    assert write_every_eval(full_view, tmp_path).files == first
