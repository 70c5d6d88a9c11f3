"""The toy history that trackers are tested on is what it says it is."""

from __future__ import annotations

import itertools
from pathlib import Path

from tests.tracking.history import BROKEN, LATE_FROM, RELEASE, History, make_history, steps


def test_each_commit_changes_one_thing_beside_the_creep() -> None:
    states = [vars(step.state) for step in steps()]
    changed = [{key for key in old if old[key] != new[key]} - {"creep_ms"} for old, new in itertools.pairwise(states)]
    assert changed == [set(), {"train_ms"}, {"accuracy"}, {"late"}, {"mebibytes"}, {"starts"}, {"starts"}]
    assert all(1.019 < new["creep_ms"] / old["creep_ms"] < 1.021 for old, new in itertools.pairwise(states))


def test_a_history_is_a_repository_of_its_commits(tmp_path: Path) -> None:
    history: History = make_history(tmp_path / "history")
    git = history.folder.git
    assert git("log", "--reverse", "--format=%H").split() == [step.commit for step in history.steps]
    assert git("rev-parse", RELEASE) == history.steps[0].commit
    assert git("status", "--porcelain") == ""
    assert "raise" in git("show", "--format=", history.commit(BROKEN))
    assert "plugins/late/pyproject.toml" in git("show", "--stat=200", "--format=", history.commit(LATE_FROM))
