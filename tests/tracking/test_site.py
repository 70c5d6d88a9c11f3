"""The published site, as a reader without a network sees it."""

from __future__ import annotations

import html
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from harness.analysis.view import RunView
from harness.results.store import Store
from harness.tracking.pages import merged
from harness.tracking.results import write_asv
from tests.browser import dom, serve
from tests.conftest import ROOT
from tests.execution.repositories import Folder
from tests.report.elements import Elements
from tests.results.builders import METRICS, make_suite, scored
from tests.tracking.test_results import SUITE, run_of

COMMITS = 8
SERIES = "benchmarks.toy_toys_a.track_error"

# Counts the coloured pixels of the visible plots, and says at which height the first one's lie at its left and right.
LOOK = """
setTimeout(() => {
  const plots = [...document.querySelectorAll("#summarygrid-display canvas, #main-graph canvas")];
  const seen = plots.filter(one => one.offsetParent).map(canvas => {
    const { width, height } = canvas;
    const data = canvas.getContext("2d").getImageData(0, 0, width, height).data;
    const points = [];
    for (let i = 0; i < data.length; i += 4) {
      const [r, g, b, a] = data.slice(i, i + 4);
      if (a > 128 && Math.max(r, g, b) - Math.min(r, g, b) > 60)
        points.push({ x: (i / 4) % width / width, y: Math.floor(i / 4 / width) / height });
    }
    const mean = some => some.reduce((sum, one) => sum + one.y, 0) / some.length;
    return { count: points.length, left: mean(points.filter(one => one.x < 0.3)),
             right: mean(points.filter(one => one.x > 0.7)) };
  });
  document.body.dataset.seen = JSON.stringify(seen);
  document.body.dataset.loaded = JSON.stringify(
    performance.getEntriesByType("resource").map(one => ({ name: one.name, status: one.responseStatus })));
}, 4000);
"""


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Folder:
    """A repository of eight commits, from the fifth of which on a technique errs twice as often."""
    folder = Folder(path=tmp_path_factory.mktemp("project"))
    shutil.copy(ROOT / "asv.conf.json", folder.path)
    folder.write(".gitignore", ".asv/\n")
    for number in range(COMMITS):
        folder.write("number", str(number))
        commit = folder.commit(f"commit <{number}>")
        accuracy = [90.0, 90.2, 89.8] if number < 4 else [80.0, 80.2, 79.8]
        rows = [*scored("toys/base", [85.0] * 3), *scored("toys/a", accuracy)]
        write_asv([run_of(rows, commit=commit)], METRICS, {}, folder.path / ".asv/results", {commit: 10**9 + number})
        store = Store(folder.path / ".asv/store" / commit)
        for technique in ("toys/base", "toys/a"):
            run = store.create_run(
                suite=SUITE, selection={"device": "cpu", "lanes": ["accuracy"], "params": {}}, plugins=[],
                environment={"code": {}}, planned=3,
            )  # fmt: skip
            for row in rows:
                if row.case.technique in (technique, "toys/base"):
                    run.append(row)
            run.finish(0)
    return folder


def publish(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return harness(folder, "track", "publish", *arguments)


def harness(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    around = {name: value for name, value in os.environ.items() if name != "HARNESS_STORE"}
    return subprocess.run(
        [sys.executable, "-m", "harness", *arguments],
        cwd=folder, env=around, capture_output=True, text=True, timeout=900, check=False,
    )  # fmt: skip


@pytest.fixture(scope="module")
def site(project: Folder) -> Path:
    if shutil.which("npm") is None:
        pytest.skip("npm is not here")
    done = publish(project.path)
    assert done.returncode == 0, done.stderr
    assert f"{project.path}/.asv/html: " in done.stdout
    assert f"{COMMITS} pages" in done.stdout
    return project.path / ".asv/html"


def noted(text: str, name: str) -> list[dict[str, Any]]:
    """What `LOOK` noted in a page."""
    found = re.search(rf'data-{name}="([^"]*)"', text)
    assert found is not None, text
    return json.loads(html.unescape(found[1]))


@pytest.mark.thorough
def test_a_series_is_plotted_without_a_network(site: Path, tmp_path: Path) -> None:
    with serve(site, LOOK) as address:
        # as older links have it: the first page sends the reader on
        text = dom(f"{address}/index.html#{SERIES}?workload='core/alpha'", tmp_path)
        loaded = noted(text, "loaded")
        assert len(loaded) > 20
        assert not [one for one in loaded if one["status"] != 200 or not one["name"].startswith(f"{address}/")]
        plots = noted(text, "seen")
        line = max(plots, key=lambda one: one["count"])
        assert line["count"] > 300
        assert line["right"] < line["left"] - 0.3  # twice the error stands higher on the screen
        grid = noted(dom(f"{address}/asv.html", tmp_path), "seen")
        assert sum(one["count"] > 100 for one in grid) >= 2


@pytest.mark.thorough
def test_a_regression_is_listed_at_its_commit_and_the_runs_are_linked(
    site: Path, project: Folder, tmp_path: Path
) -> None:
    fifth = project.git("rev-parse", f"HEAD~{COMMITS - 5}")
    with serve(site) as address:
        text = dom(f"{address}/asv.html#/regressions", tmp_path)
        assert re.findall(r">([0-9a-f]{8})</a>", text) == [fifth[:8]]
        assert SERIES in text
        assert 'href="runs/index.html"' in text
        runs = dom(f"{address}/runs/index.html", tmp_path)
    assert re.findall(r"<code>([0-9a-f]{8})</code>", runs) == [
        project.git("rev-parse", f"HEAD~{number}")[:8] for number in range(COMMITS)
    ]
    assert "commit &lt;7&gt;" in runs
    pages = re.findall(r'<a href="([^"]+\.html)">toy</a>', runs)
    assert len(pages) == COMMITS
    for page in pages:
        text = (site / "runs" / page).read_text()
        assert "toys/a" in text
        assert "toys/base" in text


@pytest.mark.thorough
def test_the_first_page_leads_to_lines_and_runs_that_exist_and_a_second_site_is_the_same(
    site: Path, project: Folder, tmp_path: Path
) -> None:
    page = (site / "index.html").read_text()
    assert "No tag before it has results" in page
    addresses = {attributes["href"] for tag, attributes in Elements(page).tags if tag == "a"}
    files = {str(address).partition("#")[0] for address in addresses} - {""}
    assert {"asv.html", "history/index.html", "runs/index.html"} < files
    assert all((site / file).is_file() for file in files)
    (line,) = {str(address) for address in addresses if str(address).startswith(f"asv.html#{SERIES}?p-workload")
               and "commits=" not in str(address)}  # fmt: skip
    with serve(site, LOOK) as address:
        plots = noted(dom(f"{address}/{line}", tmp_path), "seen")
    assert max(one["count"] for one in plots) > 300
    done = publish(project.path, "--output", str(tmp_path / "site"))
    again = publish(project.path, "--output", str(tmp_path / "site"))
    assert (done.returncode, again.returncode) == (0, 0), done.stderr + again.stderr
    assert (tmp_path / "site/index.html").read_text() == page
    assert (tmp_path / "site/asv.html").read_text() == (site / "asv.html").read_text()


@pytest.mark.thorough
def test_runs_of_elsewhere_have_their_pages_at_their_commits(project: Folder, tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    states = [(project.git("rev-parse", "HEAD~1"), False), (project.git("rev-parse", "HEAD"), True), ("0" * 40, False)]
    for commit, dirty in states:
        run = store.create_run(
            suite=make_suite(), selection={"device": "cuda", "lanes": ["accuracy"], "params": {}}, plugins=[],
            environment={"code": {"harness": {"commit": commit, "dirty": dirty}}}, planned=1,
        )  # fmt: skip
        for row in scored("toys/base", [70.0]):
            run.append(row)
        run.finish(0)
    done = publish(project.path, "--store", str(store.path), "--output", str(tmp_path / "site"))
    assert done.returncode == 0, done.stderr
    assert f"{COMMITS + 1} pages" in done.stdout
    (line,) = re.findall(r"<tr>.*cuda.*", (tmp_path / "site/runs/index.html").read_text())
    assert f"<code>{states[0][0][:8]}</code>" in line
    (page,) = re.findall(r'<a href="([^"]+)">toy \(full, cuda\)</a>', line)
    assert "toys/base" in (tmp_path / "site/runs" / page).read_text()


@pytest.mark.thorough
def test_a_run_of_elsewhere_joins_the_site_as_the_documentation_says(project: Folder, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(project.path, tmp_path / "copy", symlinks=True))
    gpu = {"gpu": [{"name": "NVIDIA H200"}], "code": {"harness": {"commit": project.git("rev-parse", "HEAD")}}}
    run = Store(copy / ".harness").create_run(
        suite=SUITE, selection={"device": "cuda", "lanes": ["accuracy"], "params": {}}, plugins=[], environment=gpu,
        planned=3,
    )  # fmt: skip
    for row in scored("toys/a", [75.0, 75.2, 74.8]):
        run.append(row)
    run.finish(0)
    text = (ROOT / "docs/tracking.md").read_text(encoding="utf-8").partition("## Runs from other machines")[2]
    first, *others = re.findall(r"^\$ harness (.*)$", text, re.MULTILINE)[:3]
    assert first.startswith("run ")  # which takes a GPU
    for command in others:
        done = harness(copy, *shlex.split(command))
        assert done.returncode == 0, f"{command}\n{done.stderr}"
    (graph,) = (copy / ".asv/html/graphs").glob(f"**/machine-NVIDIA_H200/**/{SERIES}.json")
    assert json.loads(graph.read_text()) == [[COMMITS - 1, [25.0, None]]]
    assert "toy (track, cuda)" in (copy / ".asv/html/runs/index.html").read_text()


def test_a_page_of_runs_has_every_technique_once_and_a_case_that_ran_again_as_it_ran_last() -> None:
    first = run_of([*scored("toys/base", [80.0]), *scored("toys/a", [90.0])])
    later = run_of([*scored("toys/base", [81.0]), *scored("toys/b", [70.0])])
    both = merged([first, later])
    (table,) = RunView.build(both.info, both.rows, METRICS).workloads
    found = [(one.technique, one.quality.estimate.value) for one in table.techniques if one.quality]
    assert found == [("toys/a", 90.0), ("toys/base", 81.0), ("toys/b", 70.0)]


def test_nothing_tracked_is_nothing_to_publish(tmp_path: Path) -> None:
    shutil.copy(ROOT / "asv.conf.json", tmp_path)
    done = publish(tmp_path)
    assert (done.returncode, "Traceback" in done.stderr) == (2, False)
    assert "first: harness track" in done.stderr


def test_a_folder_of_other_things_is_not_emptied(project: Folder, tmp_path: Path) -> None:
    (tmp_path / "letters.txt").write_text("keep me")
    done = publish(project.path, "--output", str(tmp_path))
    assert done.returncode == 2
    assert "other files" in done.stderr
    assert (tmp_path / "letters.txt").read_text() == "keep me"
