"""The family in ``examples/harness-retrieve`` is used like a built-in one, and nothing of the host knows it."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from asv.results import iter_results

from harness.host import load_host
from harness.results.store import Store
from harness.tracking.results import write_asv
from tests.conftest import ROOT
from tests.nursery import run_harness

EXAMPLE = ROOT / "examples/harness-retrieve"
LIMIT_S = 900
COMMIT = "1234567890" * 4
AUTHOR = ("-c", "user.name=Somebody", "-c", "user.email=somebody@example.org")


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
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "200", "PYTHONPATH": str(EXAMPLE)}
    done = run_harness(("-p", "harness_retrieve", *arguments), place=cwd, environment=environment, timeout=LIMIT_S)
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
    found = run("git", "grep", "-ilw", "retrieve", "--", "harness", "suites", cwd=ROOT)
    assert found.stdout.split() == []
    assert found.returncode == 1  # nothing found, and no error


def test_contract_metrics_and_settings_are_listed(tmp_path: Path) -> None:
    metrics = harness("list", "metrics", cwd=tmp_path)
    for name in ("recall_at_10", "index_bytes", "search_time", "search_throughput", "index_tensor_peak"):
        assert name in metrics
    assert "retrieve/passages" in harness("list", "workloads", cwd=tmp_path)
    assert "doi:10.1109/TPAMI.2010.57" in harness("show", "technique", "retrieve/inverted-lists", cwd=tmp_path)
    shown = harness("show", "contract", "retrieve", cwd=tmp_path)
    assert "search(queries: Tensor, k: int) -> Tensor" in shown
    assert "retrieve/clusters" in shown
    assert "vectors that are indexed" in harness("show", "workload", "retrieve/passages", cwd=tmp_path)


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


@pytest.mark.thorough
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
    accuracy = [change for change in found["changes"] if change["metric"] in ("recall_at_10", "index_bytes")]
    assert accuracy
    assert {change["verdict"] for change in accuracy} == {"same"}


@pytest.mark.slow
def test_a_tracked_run_gives_series_of_asv(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The commit is given here: a checkout that is being worked on has none, and a run of it is refused.

    Series of time are left out of the assertion: a point is written only where the machine was steady enough.
    """
    monkeypatch.syspath_prepend(EXAMPLE)
    host = load_host(["harness_retrieve"])
    stored = Store(folder / ".harness").read("last")
    code = {"code": {"harness": {"commit": COMMIT, "dirty": False}}}
    run = replace(stored, info=replace(stored.info, environment={**stored.info.environment, **code}))
    contracts = {name: entry.spec for name, entry in host.contracts.items()}
    write_asv([run], host.metrics, contracts, tmp_path, {COMMIT: 1})
    names = {name for results in iter_results(str(tmp_path)) for name in results.get_all_result_keys()}
    for technique in ("exact", "8_bit", "inverted_lists", "random_projections"):
        for metric in ("search_tensor_peak", "index_tensor_peak", "index_bytes", "error"):
            assert f"benchmarks.retrieve_retrieve_{technique}.track_{metric}" in names


@pytest.mark.thorough
def test_a_checkout_of_the_family_has_a_site_of_its_own_over_its_commits(tmp_path: Path) -> None:
    place = tmp_path / "retrieve"
    shutil.copytree(EXAMPLE, place, ignore=shutil.ignore_patterns("__pycache__"))
    for arguments in (("init", "--quiet"), ("add", "--all"), (*AUTHOR, "commit", "--quiet", "--message=first")):
        assert run("git", *arguments, cwd=place).returncode == 0
    commit = run("git", "rev-parse", "HEAD", cwd=place).stdout.strip()
    command = (sys.executable, "-m", "harness", "-p", "harness_retrieve")
    tracked = run(*command, "run", "--suite", "retrieve", "--track", cwd=place, PYTHONPATH=str(place))
    assert tracked.returncode == 0, tracked.stderr
    exported = run(*command, "export", "asv", "--output", ".asv/results", cwd=place, PYTHONPATH=str(place))
    if exported.returncode:  # the checkout of the harness is being worked on: its commit is not what was measured
        assert "had uncommitted changes" in exported.stderr
        return
    assert exported.stdout.strip().endswith(f"{commit[:8]}-harness.json")
    published = run(*command, "track", "publish", cwd=place, PYTHONPATH=str(place))
    assert published.returncode == 0, published.stderr
    assert (place / ".asv/html/index.html").is_file()


@pytest.mark.thorough
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
    """Return the ids of the stored runs, the first one first."""
    files = sorted((folder / ".harness/runs").glob("*/run.json"), key=lambda path: path.parent.stat().st_mtime)
    return [path.parent.name for path in files]
