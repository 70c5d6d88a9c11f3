from __future__ import annotations

import csv
import io
import json
import sys
from pathlib import Path

import pytest

from harness.api import UsageError
from harness.results.export import COLUMNS, export, long_form, write_parquet
from harness.results.schema import metric_to_json, row_from_json, units_of


@pytest.fixture
def rows(builders):
    return [
        *builders.scored("toys/a", [90.1, 1 / 3], metrics={"loss": float("nan")}, tuned={"lr": 0.1}),
        builders.make_row(technique="toys/b", status="timeout", reason='after 120 s, in "init"\nand more'),
    ]


def test_json_reads_back_as_the_same_rows(rows) -> None:
    text = export(rows[2:], "json")
    assert [row_from_json(item, "here") for item in json.loads(text)] == rows[2:]


def test_the_long_form_has_one_record_a_metric_and_keeps_failures(rows) -> None:
    records = list(long_form(rows))
    assert [(one["technique"], one["seed"], one["metric"]) for one in records] == [
        ("toys/a", 0, "accuracy"),
        ("toys/a", 0, "loss"),
        ("toys/a", 1, "accuracy"),
        ("toys/a", 1, "loss"),
        ("toys/b", 0, ""),
    ]
    assert records[1]["value"] is None
    assert (records[4]["status"], records[4]["value"]) == ("timeout", None)


def test_csv_reads_back_the_same_numbers_and_text(rows) -> None:
    read = list(csv.DictReader(io.StringIO(export(rows, "csv"))))
    assert tuple(read[0]) == COLUMNS
    assert [float(one["value"]) for one in read if one["metric"] == "accuracy"] == [90.1, 1 / 3]
    assert read[4]["reason"] == rows[2].reply.reason
    assert json.loads(read[0]["tuned"]) == {"lr": 0.1}


def test_each_value_has_its_unit_where_the_run_says_it(rows, builders) -> None:
    metrics = [metric_to_json(builders.METRICS[name]) for name in ("accuracy", "loss")]
    units = units_of(builders.make_run(plugins=[{"name": "toys", "metrics": metrics[:1]}]))
    read = list(csv.DictReader(io.StringIO(export(rows, "csv", None, units))))
    assert {(line["metric"], line["unit"]) for line in read} == {("accuracy", "%"), ("loss", ""), ("", "")}
    assert {line["unit"] for line in csv.DictReader(io.StringIO(export(rows, "csv")))} == {""}


def test_parquet_reads_back_the_long_form(rows, tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    assert export(rows, "parquet", tmp_path / "rows.parquet") is None
    table = parquet.read_table(tmp_path / "rows.parquet")
    assert table.to_pylist() == list(long_form(rows))
    assert str(table.schema.field("value").type) == "double"


@pytest.mark.parametrize("name", ["rows-\udc80.parquet", "mock:rows", "s3:rows.parquet"])
def test_parquet_is_written_to_a_file_of_any_name(rows, tmp_path: Path, monkeypatch, name: str) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    monkeypatch.chdir(tmp_path)
    export(rows, "parquet", Path(name))
    with Path(name).open("rb") as file:
        assert parquet.read_table(file).num_rows == len(list(long_form(rows)))


def test_a_format_written_to_a_file_is_the_text_that_would_be_printed(rows, tmp_path: Path) -> None:
    export(rows, "csv", tmp_path / "rows.csv")
    assert (tmp_path / "rows.csv").read_text() == export(rows, "csv")


def test_without_pyarrow_parquet_says_what_to_install(rows, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(UsageError, match=r"pip install 'technique-harness\[parquet\]'"):
        export(rows, "parquet", tmp_path / "rows.parquet")


def test_usage_errors_say_what_was_expected(rows, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"'parket': expected one of csv, json, parquet; did you mean 'parquet'\?"):
        export(rows, "parket")
    with pytest.raises(UsageError, match="needs a file"):
        export(rows, "parquet")
    with pytest.raises(UsageError, match="cannot write"):
        export(rows, "csv", tmp_path / "missing" / "rows.csv")


def test_a_seed_beyond_64_bits_is_text_in_parquet(builders, tmp_path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    rows = [builders.make_row(seed=seed, metrics={"accuracy": 1.0}) for seed in (3, 2**63)]
    write_parquet(rows, tmp_path / "rows.parquet")
    assert parquet.read_table(tmp_path / "rows.parquet")["seed"].to_pylist() == ["3", str(2**63)]
