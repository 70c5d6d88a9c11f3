"""Runs on a model and data of one's own that get further seeds, are interrupted and resumed."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.families.finetune.tiny import save_model, save_texts
from tests.nursery import run_harness

pytestmark = pytest.mark.slow

SIZES = {"steps": 2, "train_examples": 24, "validation_examples": 12, "lr": 0.001}
OPTIONS = (
    *("--suite", "peft", "--model", "model", "--data", "texts.csv", "--technique", "lora/lora", "--quick"),
    *("--lane", "accuracy", "--seeds", "2", "--until", "3"),
    *(word for name, value in SIZES.items() for word in ("--param", f"{name}={value}")),
)


def harness(place: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "HARNESS_CACHE": str(place / "cache")}
    return run_harness(("run", "--quiet", *arguments), place=place, environment=environment)


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a model, texts and the run on them."""
    place = tmp_path_factory.mktemp("own")
    save_model(place / "model")
    save_texts(place / "texts.csv")
    finished = harness(place, *OPTIONS)
    assert finished.returncode == 0, finished.stderr
    return place


@pytest.fixture
def place(done: Path) -> Path:
    """The folder, with model and texts as they were at first and the whole run; a change is undone by the next test."""
    backup = done.with_name("backup")
    if backup.exists():
        shutil.rmtree(done)
        shutil.copytree(backup, done)
    else:
        shutil.copytree(done, backup)
    return done


def rows_file(place: Path) -> Path:
    (file,) = (place / ".harness/runs").glob("*/rows.jsonl")
    return file


def keep(place: Path, count: int) -> None:
    """Leave the first rows of the run only, as an interruption does."""
    lines = rows_file(place).read_text().splitlines(keepends=True)
    rows_file(place).write_text("".join(lines[:count]))


def results(place: Path) -> dict[tuple[str, int], str]:
    rows = [json.loads(line) for line in rows_file(place).read_text().splitlines()]
    return {(row["technique"], row["seed"]): json.dumps(row["metrics"], sort_keys=True) for row in rows}


@pytest.mark.thorough
def test_what_is_undecided_gets_further_seeds(place: Path) -> None:
    assert sorted(results(place)) == [(name, seed) for name in ("lora/full", "lora/lora") for seed in (0, 1, 2)]


def test_an_interrupted_run_is_resumed_from_any_folder_with_the_same_results(place: Path, tmp_path: Path) -> None:
    before = results(place)
    keep(place, 1)
    resumed = harness(tmp_path, "--resume", "--store", str(place / ".harness"))
    assert resumed.returncode == 0, resumed.stderr
    assert results(place) == before


@pytest.mark.thorough
def test_changed_data_are_told_with_the_command_for_another_run(place: Path) -> None:
    keep(place, 3)
    with (place / "texts.csv").open("a") as file:
        file.write("a new film,praise\n")
    left = rows_file(place).read_text()
    refused = harness(place, "--resume")
    assert refused.returncode == 2
    own = f"model '{place}/model' or data '{place}/texts.csv'"
    assert f"what computes its results has changed since: what is in {own}\n" in refused.stderr
    command = f"harness run --suite peft --model {place}/model --data {place}/texts.csv --task text-classification"
    assert refused.stderr.splitlines()[-1].endswith(f"restore what has changed, or start another: {command}")
    assert rows_file(place).read_text() == left


@pytest.mark.parametrize(
    ("kept", "name", "content", "message"),
    [
        (3, "texts.csv", None, "setting data = '{place}/texts.csv': there is no such file"),
        (0, "texts.csv", "text,label\na,b,c\n", "{place}/texts.csv: line 2: expected 2 fields, as in the first line"),
        (0, "model/config.json", "{", "model '{place}/model': its config.json cannot be read"),
    ],
)
def test_what_cannot_be_gone_on_with_is_one_line_and_the_run_is_kept(
    place: Path, kept: int, name: str, content: str | None, message: str
) -> None:
    keep(place, kept)
    if content is None:
        (place / name).unlink()
    else:
        (place / name).write_text(content)
    refused = harness(place, "--resume")
    assert refused.returncode == 2
    (line,) = refused.stderr.splitlines()
    assert line.startswith(f"harness: error: {message.format(place=place)}")
    assert len(rows_file(place).read_text().splitlines()) == kept
