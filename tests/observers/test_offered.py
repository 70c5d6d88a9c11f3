"""Observers of trackers: who is told what, and that a tracker that fails or is missing costs no row."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path

import pytest

import harness
from harness.api import Row, UsageError
from harness.host import Host
from harness.observers import offered
from harness.observers.offered import OBSERVERS, Offered, load, observer_of, replay
from harness.observers.records import facts_of, flat, record_of
from tests.conftest import Harness

TOYS = Path(__file__).parents[1] / "toy"

TRACKER = """
from harness.api import hookimpl

class Tracker:
    HARNESS_API = 1
    told = []

    def __init__(self, folder=None):
        self.folder = folder

    @hookimpl
    def run_started(self, run):
        self.told.append(("started", run.id))

    @hookimpl
    def case_finished(self, row):
        self.told.append(("row", row.case.seed))
        if row.case.seed == 1:
            raise ValueError("the server is gone")

    @hookimpl
    def run_finished(self, run):
        self.told.append(("finished", run.exit_code))
"""


@pytest.fixture
def told(site, monkeypatch: pytest.MonkeyPatch) -> list:
    """What a tracker was told that fails at the row of seed 1."""
    (site.folder / "own_tracker.py").write_text(TRACKER)
    monkeypatch.delitem(sys.modules, "own_tracker", raising=False)
    monkeypatch.setitem(OBSERVERS, "own", Offered(target="own_tracker:Tracker", module="own_tracker"))
    import own_tracker

    return own_tracker.Tracker.told


def test_a_tracker_that_fails_is_told_of_once_and_left_out(
    told: list, builders, capsys: pytest.CaptureFixture[str]
) -> None:
    host = Host()
    load(host, ["own"])
    host.notify("run_started", run=builders.make_run())
    for seed in range(4):
        host.notify("case_finished", row=builders.make_row(seed=seed))
    host.notify("run_finished", run=builders.make_run())
    assert told == [("started", builders.make_run().id), ("row", 0), ("row", 1)]
    (line,) = capsys.readouterr().err.splitlines()
    assert line == (
        "harness: plugin 'observer own' failed in case_finished and is left out from here on: "
        "ValueError: the server is gone"
    )


def test_a_run_and_its_resume_tell_a_tracker_each_row_once(
    told: list, called: Harness, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(TOYS))
    monkeypatch.syspath_prepend(TOYS)
    store = tmp_path / "store"
    chosen = {"techniques": ["twin"], "seeds": [0, 2], "lanes": ["accuracy"], "params": {"lr": 0.1}}
    harness.run("toys", **chosen, plugins=["harness_toy"], executor="inline", observe=["own", "own"], store=store)
    (folder,) = (store / "runs").iterdir()
    expected = [("started", folder.name), *[("row", seed) for seed in (0, 2)] * 2, ("finished", 0)]
    assert sorted(map(str, told)) == sorted(map(str, expected))
    rows = (folder / "rows.jsonl").read_text().splitlines(keepends=True)
    (folder / "rows.jsonl").write_text("".join(rows[:-1]))
    told.clear()
    resume = ("run", "-p", "harness_toy", "--resume", "--quiet", "--executor", "inline", "--observe", "own")
    assert called(*resume, "--store", str(store)).returncode == 0
    last = json.loads(rows[-1])["seed"]
    assert told == [("started", folder.name), ("row", last), ("finished", 0)]


def test_a_stored_run_is_told_as_a_run_that_goes_on_and_a_failure_is_one_line(told: list, builders) -> None:
    run = builders.make_run(exit_code=0)
    replay("own", run, [builders.make_row(seed=0), builders.make_row(seed=2)])
    assert told == [("started", run.id), ("row", 0), ("row", 2), ("finished", 0)]
    with pytest.raises(UsageError, match="own failed: ValueError: the server is gone"):
        replay("own", run, [builders.make_row(seed=1)])


def test_what_is_unknown_or_not_installed_is_said_with_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match=r"'mlfow': expected one of mlflow, tensorboard, wandb; did you mean 'mlflow'"):
        observer_of("mlfow")
    monkeypatch.setattr(offered, "find_spec", lambda _: None)
    for name in OBSERVERS:
        with pytest.raises(
            UsageError, match=rf"(?s){name} is not installed.*pip install 'technique-harness\[{name}\]'"
        ):
            observer_of(name)


def test_no_tracker_is_imported_before_it_is_asked_for() -> None:
    code = (
        "import sys; from harness.observers.offered import OBSERVERS, resolve\n"
        "for each in OBSERVERS.values(): resolve(each.target)(None)\n"
        "print(({each.module for each in OBSERVERS.values()} | {'torch'}) & {*sys.modules})"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


@pytest.fixture(scope="module")
def row(builders) -> Row:
    return builders.make_row(
        technique="toys/a", seed=3, status="nan", reason="loss is\nnan", tuned={"lr": 0.1},
        params={"rank": 4, "deep": {"x": [1]}}, settings={"lr": 0.1, "epochs": 2},
        metrics={"accuracy": 80.5, "loss": math.nan}, series={"train_loss": [2.0, math.inf, 1.0]},
        notes=("a note", "another"),
    )  # fmt: skip


def test_a_record_has_the_values_the_finite_numbers_with_their_steps_and_the_reason(row: Row) -> None:
    record = record_of(row)
    assert record.name == "toys/a on alpha, accuracy, seed 3, lr 0.1"
    assert dict(record.params) == {
        "seed": 3, "param.rank": 4, "param.deep": {"x": [1]}, "setting.lr": 0.1, "setting.epochs": 2,
    }  # fmt: skip
    assert record.metrics == {"accuracy": 80.5}
    assert record.curves == {"train_loss": [(0, 2.0), (2, 1.0)]}
    assert (record.tags["status"], record.tags["reason"]) == ("nan", "loss is\\nnan")
    assert record.tags["notes"] == "a note; another"
    assert record.parts[:2] == ("core/alpha", "toys/a")


def test_facts_of_a_run_have_the_environment_and_are_flat_texts_for_tags(builders) -> None:
    facts = facts_of(builders.make_run(environment={"cpu": {"model": "A", "cores": 2}, "hostname": "here"}))
    assert flat(facts)["environment.cpu.cores"] == "2"
    assert flat(facts)["environment.hostname"] == "here"
    assert flat(facts)["suite.id"] == "toy"
