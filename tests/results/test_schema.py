from __future__ import annotations

import json
import math
from dataclasses import fields, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.api import STATUSES, Case, Reply, Row, UsageError
from harness.results.checking import check
from harness.results.schema import (
    dump_line,
    metric_to_json,
    metrics_from_json,
    row_from_json,
    row_to_json,
    run_from_json,
    run_to_json,
)
from harness.results.store import Store

text = st.text(max_size=20)
finite = st.floats(allow_nan=False, allow_infinity=False)
scalars = st.none() | st.booleans() | st.integers(-(2**60), 2**60) | finite | text
json_values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(text, inner, max_size=3)
)
objects = st.dictionaries(text, json_values, max_size=4)
vectors = st.dictionaries(text, st.lists(finite, max_size=4).map(tuple), max_size=3)

cases = st.builds(
    Case,
    **{one.name: text for one in fields(Case) if one.type == "str"},
    **dict.fromkeys(("params", "settings", "tuned"), objects),
    **dict.fromkeys(("suite_version", "workload_version", "seed"), st.integers(0, 2**40)),
    lane=st.sampled_from(("accuracy", "memory", "time")),
    stage=st.sampled_from(("tuning", "final")),
    form=st.sampled_from(["full", "quick", "track"]),
)
replies = st.builds(
    Reply,
    status=st.sampled_from(STATUSES),
    reason=text,
    detail=text,
    metrics=st.dictionaries(text, finite, max_size=4),
    series=vectors,
    samples=vectors,
    phases=st.dictionaries(text, finite, max_size=3),
    notes=st.lists(text, max_size=3).map(tuple),
    wall_s=finite,
    cpu_s=finite,
    load=finite,
)
rows = st.builds(Row, run=text, case=cases, reply=replies, started=text, environment=objects)


@given(rows)
def test_a_row_reads_back_as_it_was_written(row: Row) -> None:
    assert row_from_json(json.loads(dump_line(row)), "here") == row


@given(rows)
def test_a_row_is_exactly_one_ascii_line(row: Row) -> None:
    line = dump_line(row)
    assert line.endswith(b"\n")
    assert len(line.splitlines()) == 1
    assert line.isascii()


def test_every_field_of_case_and_reply_is_stored(builders) -> None:
    stored = row_to_json(builders.make_row())
    expected = {one.name for spec in (Case, Reply, Row) for one in fields(spec)} - {"case", "reply"}
    assert set(stored) == expected


def test_what_became_of_the_case_stands_first_in_the_line(builders) -> None:
    line = dump_line(builders.make_row(status="timeout", reason="after 120 s in init"))
    assert line.startswith(b'{"schema": 3, "status": "timeout", "reason": "after 120 s in init", "technique"')


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_number_that_is_not_finite_is_stored_as_null_and_read_as_nan(builders, value: float) -> None:
    row = builders.make_row(metrics={"loss": value}, samples={"train": (1.0, value)})
    stored = json.loads(dump_line(row), parse_constant=pytest.fail)
    assert stored["metrics"] == {"loss": None}
    read = row_from_json(stored, "here")
    assert math.isnan(read.reply.metrics["loss"])
    assert math.isnan(read.reply.samples["train"][1])


def test_numpy_numbers_are_stored_as_plain_ones(builders) -> None:
    np = pytest.importorskip("numpy")
    stored = row_to_json(builders.make_row(metrics={"a": np.float32(0.5), "b": np.int64(3), "c": np.float64("nan")}))
    assert stored["metrics"] == {"a": 0.5, "b": 3, "c": None}


def test_another_schema_version_is_refused_with_what_to_do(builders) -> None:
    stored = {**row_to_json(builders.make_row()), "schema": 4}
    with pytest.raises(UsageError, match=r"rows\.jsonl:7: written with schema 4.*\n.*upgrade: pip install -U"):
        row_from_json(stored, "rows.jsonl:7")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"seed": "three"}, "field 'seed' has the value 'three', expected int"),
        ({"seed": True}, "field 'seed' has the value True"),
        ({"status": "fine"}, "field 'status' has the value 'fine', expected Status"),
        ({"lane": "fast"}, "field 'lane'"),
        ({"metrics": [1]}, "field 'metrics'"),
        ({"metrics": {"x": "y"}}, "field 'metrics'"),
        ({"metrics": {"x": True}}, "field 'metrics'"),
        ({"metrics": {"x": 10**400}}, "field 'metrics'"),
        ({"samples": {"a": 5}}, "field 'samples'"),
        ({"samples": {"a": ["b"]}}, "field 'samples'"),
        ({"series": {"a": [[1]]}}, "field 'series'"),
        ({"phases": {"a": {}}}, "field 'phases'"),
        ({"notes": [{}]}, "field 'notes'"),
        ({"notes": [None]}, "field 'notes'"),
        ({"wall_s": 10**400}, "field 'wall_s'"),
        ({"surprise": 1}, "unknown field 'surprise'"),
    ],
)
def test_a_field_of_the_wrong_kind_is_refused_by_name(builders, change: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        row_from_json({**row_to_json(builders.make_row()), **change}, "here")


def test_a_missing_field_is_refused_by_name_unless_it_has_a_default(builders) -> None:
    stored = row_to_json(builders.make_row())
    del stored["form"]
    assert row_from_json(stored, "here").case.form == "full"
    del stored["technique"]
    with pytest.raises(UsageError, match="field 'technique' is missing"):
        row_from_json(stored, "here")


def test_a_run_reads_back_with_its_suite_claims_and_new_folder(builders, tmp_path) -> None:
    info = builders.make_run(builders.make_suite(claims=(builders.make_claim(),), tuning={"lr": (0.1, "auto")}))
    read = run_from_json(json.loads(json.dumps(run_to_json(info))), tmp_path, "here")
    assert read == replace(info, folder=tmp_path)


def test_a_run_stored_before_suites_had_costs_is_read_and_has_none(builders, tmp_path) -> None:
    stored = json.loads(json.dumps(run_to_json(builders.make_run())))
    assert stored["suite"].pop("costs")
    assert run_from_json(stored, tmp_path, "here").suite.costs == ()


@pytest.mark.parametrize("schema", ["3.0", "2.0", "true", '"3"', "null"])
@pytest.mark.parametrize("name", ["rows.jsonl", "run.json"])
def test_a_schema_that_is_no_whole_number_is_refused(builders, tmp_path, name: str, schema: str) -> None:
    store = Store(tmp_path)
    with store.create_run(suite=builders.make_suite(), selection={}, plugins=(), environment={}, planned=1) as writer:
        writer.append(builders.make_row())
        path = writer.finish(0).folder / name
    assert [found.problem for found in check(store)] == [""]
    path.write_text(path.read_text().replace('"schema": 3', f'"schema": {schema}'))
    (found,) = check(store)
    assert str(path) in found.problem
    assert f"written with schema {json.loads(schema)!r}" in found.problem


@pytest.mark.parametrize(("quick", "form"), [(True, "quick"), (False, "full")])
def test_what_the_first_schema_wrote_is_read_still(builders, tmp_path, quick: bool, form: str) -> None:
    def as_first(stored: dict) -> dict:
        return {**{name: value for name, value in stored.items() if name != "form"}, "quick": quick}

    row = {**as_first(row_to_json(builders.make_row())), "schema": 1}
    assert row_from_json(row, "here").case.form == form
    run = {**run_to_json(builders.make_run()), "schema": 1}
    run["suite"] = as_first(run["suite"])
    read = run_from_json(run, tmp_path, "here")
    assert (read.suite.form, read.selection["lanes"], read.schema) == (form, ["accuracy", "memory", "time"], 2)


def test_a_run_of_another_schema_or_with_a_damaged_suite_is_refused(builders, tmp_path) -> None:
    stored = run_to_json(builders.make_run())
    for damaged in (
        {**stored, "schema": None},
        {**stored, "suite": 3},
        {**stored, "suite": {**stored["suite"], "claims": 3}},
    ):
        with pytest.raises(UsageError):
            run_from_json(damaged, tmp_path, "here")


@pytest.mark.parametrize(
    ("place", "change"),
    [
        ("run", {"plugins": [1]}),
        ("run", {"selection": []}),
        ("suite", {"workloads": [1]}),
        ("suite", {"seeds": ["0"]}),
        ("suite", {"seeds": [True]}),
        ("suite", {"metrics": []}),
        ("suite", {"metrics": [None]}),
        ("suite", {"tuning": {"lr": 0.1}}),
        ("suite", {"margins": {"accuracy": "1"}}),
        ("suite", {"claims": [{"id": 1}]}),
    ],
)
def test_an_element_of_the_wrong_kind_in_a_header_is_refused(builders, tmp_path, place: str, change: dict) -> None:
    stored = json.loads(json.dumps(run_to_json(builders.make_run())))
    (stored if place == "run" else stored["suite"]).update(change)
    with pytest.raises(UsageError, match=r"^here: field "):
        run_from_json(stored, tmp_path, "here")


def test_a_version_that_was_stored_as_null_is_read_as_empty(builders) -> None:
    stored = {**row_to_json(builders.make_row()), "plugin_version": None}
    assert row_from_json(stored, "here").case.plugin_version == ""


def test_a_long_value_is_named_in_a_short_message(builders) -> None:
    with pytest.raises(UsageError) as caught:
        row_from_json({**row_to_json(builders.make_row()), "seed": "x" * 100_000}, "here")
    assert len(str(caught.value)) < 300


def test_metrics_that_a_header_keeps_are_read_back(builders, tmp_path) -> None:
    plugins = ({"name": "toys", "metrics": [metric_to_json(metric) for metric in builders.METRICS.values()]}, {})
    stored = json.loads(json.dumps(run_to_json(builders.make_run(plugins=plugins))))
    assert metrics_from_json(run_from_json(stored, tmp_path, "here").plugins, "here") == builders.METRICS


@pytest.mark.parametrize(
    "change", [{"unit": 3}, {"lane": "acuracy"}, {"id": "Not An Id"}, {"colour": "red"}, {"summary": None}]
)
def test_a_damaged_metric_in_a_header_is_refused(builders, change: dict) -> None:
    metric = {**metric_to_json(builders.METRICS["accuracy"]), **change}
    for plugin in ({"metrics": [metric]}, {"metrics": metric}, {"metrics": ["accuracy"]}):
        with pytest.raises(UsageError, match=r"^here: "):
            metrics_from_json([plugin], "here")
