"""A plugin whose rules of acceptance are wrong, through a whole run: the judge gives it no number, and says why."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from harness.testing import cache_folder
from tests.conftest import Harness
from tests.mutants.harness_mutants import RIGHT, WRONG, WRONG_WHEN_GREEDY

MUTANTS = Path(__file__).parent / "mutants"
PLUGINS = ("--no-plugins", "-p", "harness_speculative", "-p", "harness_mutants")


@pytest.fixture(autouse=True)
def installed(
    monkeypatch: pytest.MonkeyPatch, pytestconfig: pytest.Config, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """The plugin on the path, and the judge's models from where the tests keep them."""
    monkeypatch.setenv("PYTHONPATH", str(MUTANTS))
    monkeypatch.setenv("HARNESS_CACHE", str(cache_folder(pytestconfig, tmp_path_factory)))


@pytest.mark.thorough
def test_wrong_rules_of_acceptance_have_rows_that_say_so_and_no_number(harness: Harness) -> None:
    done = harness(
        "run", *PLUGINS, "--suite", "mutants", "--quiet", "--lane", "accuracy", "--lane", "time", timeout=900
    )
    assert done.returncode == 1, done.stderr
    rows = json.loads(harness("export", "json").stdout)
    for name in ("speculative/autoregressive", "speculative/draft", f"mutants/{RIGHT}"):
        mine = [row for row in rows if row["technique"] == name]
        assert {(row["lane"], row["status"]) for row in mine} == {("accuracy", "ok"), ("time", "ok")}
        assert all(row["metrics"] for row in mine)
    for name in WRONG:
        mine = [row for row in rows if row["technique"] == f"mutants/{name}"]
        assert {row["status"] for row in mine} == {"incorrect"}
        assert not any(row["metrics"] for row in mine)
        greedy = name in WRONG_WHEN_GREEDY
        found = "greedy text differs from plain decoding at token" if greedy else "sampled text is not distributed as"
        assert all(found in row["reason"] for row in mine), name
        line = next(line for line in done.stdout.splitlines() if line.startswith(f"mutants/{name}"))
        assert "incorrect" in line
    shown = harness("show", "row", "last/mutants/residual-from-target")
    assert "sampled text is not distributed as the target's: p = " in shown.stdout
