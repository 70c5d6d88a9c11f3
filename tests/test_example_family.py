"""The family in ``examples/harness-retrieve`` is used like a built-in one, and nothing of the host knows it."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT

EXAMPLE = ROOT / "examples/harness-retrieve"
LIMIT_S = 400


def run(*arguments: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        arguments,
        cwd=cwd,
        env={**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "200", **environment},
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=False,
    )


def harness(*arguments: str, cwd: Path) -> str:
    """Run the command with the family loaded from its checkout; return what it prints."""
    command = (sys.executable, "-m", "harness", "-p", "harness_retrieve", *arguments)
    done = run(*command, cwd=cwd, PYTHONPATH=str(EXAMPLE))
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository with two runs of the tracked form, in the store of the folder."""
    place = tmp_path_factory.mktemp("retrieve")
    for _ in range(2):
        harness("run", "--suite", "retrieve", "--track", cwd=place)
    return place


def test_no_file_of_the_host_names_the_family() -> None:
    found = run("git", "grep", "-il", "retrieve", "--", "harness", "suites", cwd=ROOT)
    # a guide may point to the example
    assert set(found.stdout.split()) <= {"harness/families/README.md", "harness/testing/families.py"}


def test_contract_metrics_and_settings_are_listed(folder: Path) -> None:
    metrics = harness("list", "metrics", cwd=folder)
    for name in ("recall_at_10", "index_bytes", "search_time", "search_throughput", "index_tensor_peak"):
        assert name in metrics
    assert "retrieve/passages" in harness("list", "workloads", cwd=folder)
    assert "doi:10.1109/TPAMI.2010.57" in harness("show", "technique", "retrieve/inverted-lists", cwd=folder)


@pytest.mark.slow
def test_the_quick_form_has_a_table_with_its_front_and_its_claims(tmp_path: Path) -> None:
    table = harness("run", "--suite", "retrieve", "--quick", cwd=tmp_path)
    for technique in ("retrieve/exact", "retrieve/8-bit", "retrieve/inverted-lists:probes=1"):
        assert technique in table
    baseline = next(line for line in table.splitlines() if line.startswith("retrieve/exact"))
    assert "100.0" in baseline
    assert "baseline" in baseline
    assert "tuned over 3 values on val recall at 10" in " ".join(table.split())
    assert "claim eight-bits-suffice" in table
    assert "claim more-probes-find-more" in table
    assert "on the Pareto front of recall_at_10 and" in table


@pytest.mark.slow
def test_a_run_has_a_page(folder: Path) -> None:
    page = Path(harness("report", "--output", "pages", cwd=folder).split()[-1])
    text = (folder / page).read_text(encoding="utf-8")
    assert "Nearest neighbours among embeddings" in text
    assert "retrieve/random-projections" in text
    assert "Pareto front" in text


@pytest.mark.slow
def test_two_runs_compare_as_the_same(folder: Path) -> None:
    first, second = _runs(folder)
    found = json.loads(harness("compare", first, second, "--format", "json", cwd=folder))
    accuracy = [change for change in _changes(found) if change["metric"] in ("recall_at_10", "index_bytes")]
    assert accuracy
    assert {change["verdict"] for change in accuracy} == {"same"}


@pytest.mark.slow
def test_a_tracked_run_gives_series_of_asv(folder: Path) -> None:
    from asv.results import iter_results

    place = folder / "results"
    harness("export", "asv", *_runs(folder)[:1], "--output", str(place), cwd=folder)
    names = {name for results in iter_results(str(place)) for name in results.get_all_result_keys()}
    assert any("retrieve" in name and "recall_at_10" in name for name in names), names
    assert any("search_time" in name for name in names), names


@pytest.mark.slow
def test_the_family_passes_its_own_tests(tmp_path: Path) -> None:
    site = tmp_path / "site"
    install = ("-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "--target", str(site))
    assert run(sys.executable, *install, str(EXAMPLE), cwd=tmp_path).returncode == 0
    done = run(
        sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests", cwd=EXAMPLE, PYTHONPATH=str(site)
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
    assert re.search(r"\d+ passed", done.stdout)
    assert "failed" not in done.stdout


def _runs(folder: Path) -> list[str]:
    """The ids of the stored runs, the first one first."""
    return [path.parent.name for path in sorted((folder / ".harness").rglob("run.json"), key=lambda one: one.stat().st_ctime)]
