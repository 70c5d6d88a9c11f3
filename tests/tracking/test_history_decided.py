"""A history with a rename and an accepted regression: command, site and gate show each at its commit, nothing else."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from harness.results.store import Store
from harness.tracking.asv import make_site
from tests.report.test_overview import text_of
from tests.tracking.history import RELEASE, RENAMED, History, decided_steps, make_history

pytestmark = pytest.mark.thorough


@dataclass(frozen=True, kw_only=True)
class Tracked:
    """The history once harness track went over it, and what that printed."""

    history: History
    around: dict[str, str]
    printed: str

    def ask(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-P", "-m", "harness", *arguments],
            cwd=self.history.folder.path, env={**os.environ, **self.around},
            capture_output=True, text=True, check=False,
        )  # fmt: skip


@pytest.fixture(scope="module")
def tracked(tmp_path_factory: pytest.TempPathFactory) -> Tracked:
    folder = tmp_path_factory.mktemp("decided")
    history = make_history(folder / "history", decided_steps())
    (folder / "home").mkdir()
    around = {"HOME": str(folder / "home"), "HARNESS_CACHE": str(folder / "cache"), "COLUMNS": "80"}
    made = Tracked(history=history, around=around, printed="")
    # asv takes the names of series from the working tree, so the commits before the rename are measured from there
    history.folder.git("checkout", "--quiet", history.commit("tidy up"))
    for commits in (RELEASE, f"{RELEASE}..HEAD"):
        before = made.ask("track", commits, "--bench", "toy_victim")
        assert before.returncode == 0, before.stdout[-3000:] + before.stderr
    history.folder.git("checkout", "--quiet", "main")
    after = made.ask("track", f"{history.commit('tidy up')}..main", "--bench", RENAMED)
    assert after.returncode == 0, after.stdout[-3000:] + after.stderr
    return Tracked(history=history, around=around, printed=after.stdout)


def test_the_history_is_one_line_with_each_change_at_its_commit(tracked: Tracked) -> None:
    done = tracked.ask("history", "--technique", RENAMED, "--json")
    assert done.returncode == 0, done.stderr
    series = {one["metric"]: one for one in json.loads(done.stdout)["series"]}
    peak, accuracy = series["train_tensor_peak"], series["accuracy"]
    assert [point["commit"] for point in peak["points"]] == [step.commit for step in tracked.history.steps]
    found = {
        (metric, change["commit"], change["verdict"], change["accepted"])
        for metric, one in series.items()
        for change in one["changes"]
        if change["verdict"] != "better"
    }
    note = "a cache (toy)"
    assert found >= {
        ("train_tensor_peak", tracked.history.commit("raise the memory"), "worse", note),
        ("accuracy", tracked.history.commit("drop the accuracy"), "worse", None),
    }
    assert {metric for metric, *_ in found} <= {"train_tensor_peak", "train_process_peak", "accuracy"}
    assert accuracy["state"] == "worse"
    assert {metric for metric, one in series.items() if one["state"] == "worse"} == {"accuracy"}


def test_the_list_of_regressions_has_the_accepted_one_apart(tracked: Tracked) -> None:
    regressions, _, accepted = tracked.printed.partition("accepted: ")
    assert "drop the accuracy" in regressions.rpartition("regression")[2]
    assert "live tensors, a toy's step, toy/bench: 16.0 MiB -> 24.0 MiB" in f"accepted: {accepted}"
    assert "a cache (toy)" in accepted


def test_the_gate_passes_what_was_accepted_and_stops_what_comes_after(tracked: Tracked) -> None:
    chosen = ("--rounds", "3")
    meant = tracked.ask("compare", tracked.history.commit("tidy up"), tracked.history.commit("accept the memory"),
                        "--gate", *chosen)  # fmt: skip
    assert meant.returncode == 0, meant.stdout + meant.stderr
    assert "worse, and accepted" in meant.stdout
    assert "removed" not in meant.stdout
    later = tracked.ask("compare", tracked.history.commit("accept the memory"), "main", "--gate", *chosen,
                        "--format", "json")  # fmt: skip
    assert later.returncode == 1, later.stdout + later.stderr
    worse = [change for change in json.loads(later.stdout)["changes"] if change["verdict"] == "worse"]
    assert {change["metric"] for change in worse if not change["accepted"]} == {"accuracy"}
    assert {change["metric"] for change in worse if change["accepted"]} <= {
        "train_tensor_peak", "train_process_peak"
    }  # fmt: skip


def test_the_site_has_the_history_and_not_the_accepted_regression(tracked: Tracked, tmp_path: Path) -> None:
    done = tracked.ask("track", "publish", "--output", str(tmp_path / "site"))
    assert done.returncode == 0, done.stdout + done.stderr
    listed = json.loads((tmp_path / "site/regressions.json").read_text())["regressions"]
    assert {entry[0].partition(".track_")[2].partition("(")[0] for entry in listed} == {"error"}
    page = (tmp_path / "site/history/index.html").read_text()
    assert 'stroke-dasharray="3 3"' in page
    commit = tracked.history.commit("drop the accuracy")
    address = f"../asv.html#benchmarks.toy_toy_casualty.track_error?p-workload='toy%2Fbench'&amp;commits={commit}"
    assert address.replace("'", "&#x27;") in page
    assert '<a href="history/index.html">History</a>' in (tmp_path / "site/asv.html").read_text()


def test_the_first_page_has_each_change_at_its_commit_and_nothing_else(tracked: Tracked, tmp_path: Path) -> None:
    done = tracked.ask("track", "publish", "--output", str(tmp_path / "site"))
    assert done.returncode == 0, done.stdout + done.stderr
    text = text_of((tmp_path / "site/index.html").read_text())
    assert re.search(r"Worse: 1 of \d+ series; [12] changes? accepted", text)
    worse, _, accepted = text.partition(" Accepted ")
    accepted = accepted.partition(" toy on bench ")[0]
    dropped, raised = (tracked.history.commit(message)[:9] for message in ("drop the accuracy", "raise the memory"))
    assert re.findall(r"toy · (\w+) on bench · (.*?) : .*?, at (\w+) \(", worse) == [("casualty", "accuracy", dropped)]
    tensors, process = (
        ("casualty", f"train memory ({what})", raised) for what in ("live tensors", "whole process")
    )  # fmt: skip
    found = set(re.findall(r"toy · (\w+) on bench · (.*?) : .*?, at (\w+) \(", accepted))
    assert {tensors} <= found <= {tensors, process}, "three points of a process's peak on either side tell little"
    assert accepted.count("; a cache (toy)") == len(found)
    assert f"Since the release {RELEASE}: 1 worse, {len(found)} accepted" in text


def test_what_is_exported_on_the_machine_that_tracks_joins_its_lines(tracked: Tracked, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(tracked.history.folder.path, tmp_path / "copy", symlinks=True))
    commit, store = tracked.history.commit("drop the accuracy"), Store(tmp_path / "store")
    made = Store(copy / ".asv/store" / commit).read("last")
    facts = {name: fact for name, fact in made.info.environment.items() if name not in ("code", "suite")}
    with store.create_run(
        suite=made.info.suite, selection=made.info.selection, plugins=made.info.plugins, planned=len(made.rows),
        environment={**facts, "code": {"harness": {"commit": commit, "dirty": False}}},
    ) as writer:  # fmt: skip
        for row in made.rows:
            writer.append(row)
        writer.finish(0)
    done = tracked.ask("export", "asv", "--store", str(store.path), "--output", str(copy / ".asv/results"))
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith(f"{commit[:8]}-harness.json\n")
    make_site(copy, tmp_path / "site")
    index = json.loads((tmp_path / "site/index.json").read_text())
    assert len(index["machines"]) == 1
    assert len(index["graph_param_list"]) == 1
