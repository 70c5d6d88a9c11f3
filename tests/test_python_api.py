"""Harness from Python: the same runs as the command line's, and as cheap to import."""

from __future__ import annotations

import math
import subprocess
import sys
from pathlib import Path, PurePath

import pytest

import harness
from harness.api import Limits, Row, UsageError
from harness.execution.runner import Runner
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


def test_a_stored_run_is_loaded_by_its_folder_or_by_a_path_that_names_it(tmp_path: Path) -> None:
    options = {"plugins": ["harness_toy"], "store": tmp_path}
    view = harness.run("toys", techniques=["good"], seeds=[0], lanes=["accuracy"], executor="inline", **options)
    folder = Store(tmp_path).folder(view.info.id)
    assert harness.load(folder, plugins=["harness_toy"]) == view
    assert harness.load(str(folder), plugins=["harness_toy"]) == view, "no name has a separator"
    assert harness.load(folder, plugins=["harness_toy"], store=tmp_path / "another") == view
    assert harness.load(PurePath("last"), **options) == view
    assert harness.load(Path(view.info.id[-4:]), **options) == view
    with pytest.raises(UsageError, match="is not in"):
        harness.load(Path("nothing"), **options)


def test_a_path_that_is_no_run_says_what_it_is_and_what_to_do(tmp_path: Path) -> None:
    listed = "list all runs: harness runs"
    (tmp_path / "store" / "runs" / "empty").mkdir(parents=True)
    for folder in ("elsewhere", "store/runs/two words"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "run.json").write_text("{}")
    file = tmp_path / "elsewhere" / "run.json"
    for name, why, mend in [
        ("nothing", "nothing is not the folder of a run: there is no such folder; expected STORE/runs/ID", listed),
        ("store/runs/empty", "empty is not the folder of a run: it has no run.json; expected STORE/runs/ID", listed),
        ("elsewhere", "elsewhere is not the folder of a run: it is not in the folder runs of a store;", listed),
        ("store/runs/two words", "two words is not the folder of a run: its name can be no id;", listed),
        (str(file), "run.json is not the folder of a run: it is a file; expected STORE/runs/ID", listed),
        ("store", "store is a store; expected the folder of one of its runs", "load the newest: harness.load('last', "),
        ("\0", "cannot be read: ", listed),
        ("x" * 300, "cannot be read: ", listed),
    ]:
        for path in (tmp_path / name, str(tmp_path / name)):
            with pytest.raises(UsageError) as caught:
                harness.load(path)
            first, second = caught.value.problems
            assert why in first
            assert second.startswith(mend)


def test_a_stored_run_is_loaded_without_the_plugin_that_made_it(tmp_path: Path) -> None:
    options = {"plugins": ["harness_toy"], "store": tmp_path}
    view = harness.run("toys", techniques=["good"], seeds=[0], lanes=["accuracy"], executor="inline", **options)
    assert harness.load(store=tmp_path) == view
    (plugin,) = [plugin for plugin in view.info.plugins if plugin["name"] == "toy"]
    assert [metric["id"] for metric in plugin["metrics"]][:2] == ["toy_score", "toy_val_score"]


def test_what_makes_no_sense_is_refused_and_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="did you mean"):
        harness.run("toys", techniques=["god"], plugins=["harness_toy"], store=tmp_path / "store")
    assert not (tmp_path / "store").exists()


REFUSED = [
    ({"techniques": "good"}, "techniques = 'good': expected a list of strings"),
    ({"workloads": [1]}, r"workloads = \[1\]: expected a list of strings"),
    ({"seeds": [-1]}, r"seeds: \[-1\]: expected a count"),
    ({"seeds": [0.5]}, r"seeds: \[0.5\]: expected a count"),
    ({"seeds": [0, 0]}, "a seed is listed twice"),
    ({"seeds": True}, "seeds: true: expected a count"),
    ({"seeds": 10**30}, "expected a count of seeds from 1 to 100,000"),
    ({"lanes": ["acuracy"]}, "lanes = 'acuracy': expected one of .*; did you mean 'accuracy'"),
    ({"lanes": "accuracy"}, "lanes = 'accuracy': expected a list of strings"),
    ({"device": "tpu"}, "device = 'tpu': expected one of 'cpu', 'cuda', 'mps'"),
    ({"form": "quik"}, "did you mean 'quick'"),
    ({"executor": "lokal"}, "did you mean 'local'"),
    ({"fresh": "yes"}, "fresh = 'yes': expected one of false, true"),
    ({"fail_fast": "yes"}, "fail_fast = 'yes': expected one of false, true"),
    ({"rounds": 0}, "rounds = 0: expected a whole number of at least 1"),
    ({"rounds": -3}, "rounds = -3: expected a whole number of at least 1"),
    ({"rounds": 2.5}, "rounds = 2.5: expected a whole number"),
    ({"rounds": 10**9}, "--rounds 1000000000: expected a number of rounds from 1 to 1000"),
    ({"rounds": 3, "lanes": ["accuracy"]}, "--rounds 3: .* add --lane time"),
    ({"jobs": 0}, "jobs = 0: expected a whole number of at least 1"),
    ({"limits": Limits(time_s=-1)}, "limits.time_s = -1: expected a finite number, more than 0"),
    ({"limits": Limits(time_s=1, memory_bytes=0)}, "limits.memory_bytes = 0: expected a whole number"),
    ({"params": {"lr": math.inf}}, "lr=Infinity: expected a finite number"),
    ({"params": {"lr": True}}, "lr=true: expected a number"),
    ({"params": ["lr=1"]}, r"params = \['lr=1'\]: expected a dict"),
]


@pytest.mark.parametrize(("wrong", "text"), REFUSED, ids=[f"{wrong}" for wrong, _ in REFUSED])
def test_each_kind_of_wrong_argument_is_refused_and_leaves_nothing(wrong: dict, text: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=text):
        harness.run("toys", **{"plugins": ["harness_toy"], "store": tmp_path / "store", **wrong})
    assert not (tmp_path / "store").exists()


def test_a_plugin_that_cannot_be_loaded_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="plugin no_such_module"):
        harness.run("toys", plugins=["no_such_module"], store=tmp_path / "store")
    assert not (tmp_path / "store").exists()


def test_all_wrong_arguments_are_told_at_once(tmp_path: Path) -> None:
    with pytest.raises(UsageError) as caught:
        harness.run("toys", seeds=[-1], device="tpu", techniques="good", store=tmp_path)
    assert len(caught.value.problems) == 3


def test_a_count_of_seeds_is_taken_as_the_command_line_does(tmp_path: Path) -> None:
    view = harness.run(
        "toys", techniques=["good"], seeds=2, lanes=["accuracy"], executor="inline",
        plugins=["harness_toy"], store=tmp_path,
    )  # fmt: skip
    assert view.info.suite.seeds == (0, 1)


def test_an_interrupted_run_is_raised_and_keeps_its_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    take = Runner._take

    def interrupt(self: Runner, row: Row) -> None:
        take(self, row)
        raise KeyboardInterrupt

    monkeypatch.setattr(Runner, "_take", interrupt)
    with pytest.raises(KeyboardInterrupt, match=f"harness -p harness_toy run --resume .* --store {tmp_path}"):
        harness.run("toys", seeds=1, executor="inline", plugins=["harness_toy"], store=tmp_path)
    stored = Store(tmp_path).read("last")
    assert stored.info.exit_code == 130
    assert len(stored.rows) == 1


def test_importing_is_cheap() -> None:
    code = "import harness, sys; assert harness.run and not {'torch', 'numpy', 'rich', 'scipy'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
