"""A run has each environment of its rows once, in its header; the rows refer to it."""

from __future__ import annotations

import errno
import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from harness.api import HarnessError, Row, UsageError
from harness.results import writer as writer_module
from harness.results.schema import row_to_json, run_to_json
from harness.results.store import Store
from harness.results.writer import ROWS_FILE, RUN_FILE, RunWriter

HERE = {"cpu": "this", "packages": {"torch": "1"}, "threads": (1, 2)}
THERE = {"cpu": "other", "packages": {"torch": "1"}, "threads": [1, 2]}


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path)


def begin(store: Store, builders) -> RunWriter:
    return store.create_run(suite=builders.make_suite(), selection={}, plugins=(), environment=HERE, planned=3)


def row(builders, seed: int, environment: Mapping[str, Any]) -> Row:
    return replace(builders.make_row(seed=seed), environment=environment)


def stored(store: Store) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The header and the rows of the last run, as its files have them."""
    folder = store.folder(store.ids()[-1])
    lines = (folder / ROWS_FILE).read_text().splitlines()
    return json.loads((folder / RUN_FILE).read_text()), [json.loads(line) for line in lines]


def test_rows_of_the_runs_environment_do_not_repeat_it(store: Store, builders) -> None:
    with begin(store, builders) as writer:
        for seed in range(3):
            writer.append(row(builders, seed, dict(reversed(HERE.items()))))
    header, rows = stored(store)
    assert [line["environment"] for line in rows] == [None] * 3
    assert "environments" not in header
    assert [read.environment for read in store.read("last").rows] == [{**HERE, "threads": [1, 2]}] * 3


def test_a_row_that_was_computed_elsewhere_keeps_its_environment_which_is_stored_once(store: Store, builders) -> None:
    with begin(store, builders) as writer:
        for seed, environment in enumerate((HERE, THERE, dict(THERE), HERE)):
            writer.append(row(builders, seed, environment))
    header, rows = stored(store)
    (digest,) = header["environments"]
    assert [line["environment"] for line in rows] == [None, digest, digest, None]
    assert [read.environment["cpu"] for read in store.read("last").rows] == ["this", "other", "other", "this"]


def test_environments_outlive_a_resume_and_its_new_header(store: Store, builders) -> None:
    third = {**THERE, "cpu": "third"}
    with begin(store, builders) as writer:
        writer.append(row(builders, 0, THERE))
    with store.open_run("last") as writer:
        writer.go_on_in(third, ())
        writer.append(row(builders, 1, third))
        writer.append(row(builders, 2, THERE))
        writer.finish(0)
    assert [read.environment["cpu"] for read in store.read("last").rows] == ["other", "third", "other"]
    assert len(stored(store)[0]["environments"]) == 2


def test_a_run_without_rows_that_goes_on_elsewhere_is_of_there(store: Store, builders) -> None:
    with begin(store, builders) as writer:
        writer.go_on_in(THERE, ())
        writer.append(row(builders, 0, THERE))
        writer.append(row(builders, 1, HERE))
    header, rows = stored(store)
    assert rows[0]["environment"] is None
    assert header["environments"][rows[1]["environment"]]["cpu"] == "this"


def test_the_header_has_an_environment_before_a_row_refers_to_it(store: Store, builders, monkeypatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with begin(store, builders) as writer:
        writer.append(row(builders, 0, HERE))
        with monkeypatch.context() as patched:
            patched.setattr(writer_module, "write_entries", full)
            with pytest.raises(HarnessError, match="No space left"):
                writer.append(row(builders, 1, THERE))
    assert len(store.read("last").rows) == 1


@pytest.mark.parametrize("schema", [1, 2])
def test_runs_of_earlier_schemas_are_read_and_go_on(store: Store, builders, schema: int) -> None:
    def as_earlier(flat: dict[str, Any]) -> dict[str, Any]:
        if schema == 2:
            return {**flat, "schema": 2}
        return {**{name: value for name, value in flat.items() if name != "form"}, "quick": False, "schema": 1}

    folder = store.folder("20250101-000000-0000")
    folder.mkdir(parents=True)
    header = run_to_json(builders.make_run(environment=HERE))
    header["suite"] = {**as_earlier(header["suite"])}
    del header["suite"]["schema"]
    (folder / RUN_FILE).write_text(json.dumps({**header, "schema": schema}))
    lines = [as_earlier(row_to_json(row(builders, seed, where))) for seed, where in enumerate((HERE, THERE, THERE))]
    (folder / ROWS_FILE).write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    earlier = store.read("last").rows
    assert [read.environment["cpu"] for read in earlier] == ["this", "other", "other"]
    assert earlier[1].environment is earlier[2].environment, "equal environments take memory once"
    with store.open_run("last") as writer:
        writer.append(row(builders, 3, HERE))
        writer.append(row(builders, 4, {**HERE, "cpu": "third"}))
    assert [read.environment["cpu"] for read in store.read("last").rows] == ["this", "other", "other", "this", "third"]
    assert [line["schema"] for line in stored(store)[1]] == [schema] * 3 + [3] * 2


@pytest.mark.parametrize("reference", ["0" * 16, 3, [], True])
def test_a_row_of_an_unknown_environment_is_an_error_that_names_it(store: Store, builders, reference: object) -> None:
    with begin(store, builders) as writer:
        writer.append(row(builders, 0, HERE))
        writer.append(row(builders, 1, HERE))
    path = writer.info.folder / ROWS_FILE
    first, second = path.read_text().splitlines()
    path.write_text(f"{first}\n{json.dumps({**json.loads(second), 'environment': reference})}\n")
    with pytest.raises(UsageError, match=rf"{ROWS_FILE}:2: .*environment"):
        store.read("last")


@pytest.mark.parametrize("damage", [None, [], {"a": 1}, "x"])
def test_damaged_environments_of_a_header_are_an_error(store: Store, builders, damage: object) -> None:
    with begin(store, builders) as writer:
        path = writer.info.folder / RUN_FILE
    path.write_text(json.dumps({**json.loads(path.read_text()), "environments": damage}))
    with pytest.raises(UsageError, match="field 'environments' should be an object of objects"):
        store.info("last")
