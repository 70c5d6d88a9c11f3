"""``harness store``, as its commands print."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from harness.api import UsageError
from harness.cli.store import store as command
from harness.results.store import Store
from harness.results.writer import ROWS_FILE


def call(*words: object) -> Result:
    return CliRunner().invoke(command, [*map(str, words)], catch_exceptions=False)


@pytest.fixture
def store(tmp_path: Path, builders) -> Store:
    place = Store(tmp_path / "here")
    with place.create_run(suite=builders.make_suite(), selection={}, plugins=(), environment={}, planned=1) as writer:
        for score in (1.0, 2.0):
            writer.append(builders.make_row(metrics={"accuracy": score}))
        writer.finish(0)
    return place


def test_a_store_that_can_be_read_is_checked_with_0_and_a_damaged_one_with_1(store: Store) -> None:
    fine = call("check", "--store", store.path)
    assert fine.exit_code == 0
    assert f"{store.ids()[0]}: 1 rows were replaced by later ones" in fine.stdout
    assert fine.stdout.endswith(f"runs: 1, rows: 1 in {store.path}; all can be read\n")
    (store.folder(store.ids()[0]) / ROWS_FILE).write_text("{oops\n{}\n")
    damaged = call("check", "--store", store.path)
    assert damaged.exit_code == 1
    assert f"{ROWS_FILE}:1: not JSON" in damaged.stdout
    assert damaged.stdout.endswith("damaged: 1\n")


def test_compacting_tells_what_it_saves_and_what_it_leaves(store: Store) -> None:
    done = call("compact", "--store", store.path)
    assert done.exit_code == 0
    assert "without 1 replaced rows" in done.stdout
    with store.open_run("last"):
        busy = call("compact", "--store", store.path)
    assert busy.exit_code == 1
    assert "stays as it is: run" in busy.stdout


def test_a_store_is_imported_and_merged_and_conflicts_are_told_with_1(store: Store, tmp_path: Path) -> None:
    other = Store(tmp_path / "there")
    done = call("import", store.path, "--store", other.path)
    assert done.exit_code == 0
    assert done.stdout == f"{other.path}: 1 new runs, 0 runs with more rows, 1 rows in all\n"
    path = other.folder(other.ids()[0]) / ROWS_FILE
    *_, last = path.read_text().splitlines()
    path.write_text(json.dumps({**json.loads(last), "metrics": {"accuracy": 3.0}}) + "\n")
    conflict = call("merge", other.path, store.path)
    assert conflict.exit_code == 1
    assert "accuracy is 3 here and 2 there" in conflict.stdout
    assert other.read("last").rows[0].reply.metrics == {"accuracy": 3.0}


@pytest.mark.parametrize("words", [("check",), ("compact",), ("merge", "none", "none"), ("import", "none")])
def test_what_is_no_store_is_refused(tmp_path: Path, monkeypatch, words: tuple[str, ...]) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("HARNESS_STORE", raising=False)
    with pytest.raises(UsageError, match="is no store; expected a folder that has a folder runs"):
        call(*words)
    assert list(tmp_path.iterdir()) == []
