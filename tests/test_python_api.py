"""Harness from Python: the same runs as the command line's, and as cheap to import."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import harness
from harness.api import UsageError
from harness.results.store import Store

TOYS = Path(__file__).parent / "toy"


@pytest.fixture(name="command")
def command_(request: pytest.FixtureRequest):
    return request.getfixturevalue("harness")


@pytest.fixture(autouse=True)
def toys_on_the_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(TOYS)
    monkeypatch.setenv("PYTHONPATH", str(TOYS))


def numbers(rows) -> dict:
    return {row.case.key: (row.case.technique, row.case.seed, dict(row.reply.metrics)) for row in rows}


def test_a_run_from_python_has_the_rows_of_the_command(command, tmp_path: Path) -> None:
    view = harness.run(
        "toys",
        techniques=["good"],
        seeds=[0, 1],
        lanes=["accuracy"],
        plugins=["harness_toy"],
        store=tmp_path / "python",
    )
    done = command(
        "run", "-p", "harness_toy", "--suite", "toys", "--technique", "good", "--seeds", "0,1", "--lane", "accuracy",
        "--quiet", "--store", str(tmp_path / "command"), PYTHONPATH=str(TOYS),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert numbers(Store(tmp_path / "python").read("last").rows) == numbers(
        Store(tmp_path / "command").read("last").rows
    )
    assert {summary.technique for summary in view.workloads[0].techniques} == {"toy/base", "toy/good"}


def test_a_stored_run_is_loaded_as_it_was_returned(tmp_path: Path) -> None:
    options = {"plugins": ["harness_toy"], "store": tmp_path}
    view = harness.run("toys", techniques=["good"], seeds=[0], lanes=["accuracy"], executor="inline", **options)
    assert harness.load(view.info.id, **options) == harness.load(**options) == view


def test_what_makes_no_sense_is_refused_and_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="did you mean"):
        harness.run("toys", techniques=["god"], plugins=["harness_toy"], store=tmp_path / "store")
    assert not (tmp_path / "store").exists()


def test_importing_is_cheap() -> None:
    code = "import harness, sys; assert harness.run and not {'torch', 'numpy', 'rich', 'scipy'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
