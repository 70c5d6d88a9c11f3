"""A series that ended is no regression: a technique that a project no longer has cannot be mended."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from harness.tracking.asv import make_site, read_regressions, site_of
from harness.tracking.ended import drop_ended
from harness.tracking.results import write_asv
from tests.conftest import ROOT
from tests.execution.repositories import Folder
from tests.results.builders import METRICS, make_row, scored
from tests.tracking.test_results import run_of

ABSENT, FAILED, UNMEASURED = math.nan, None, "unmeasured"
WORSE = [1.0, 1.0, 1.0, 1.5, 1.5, 1.5]
OTHERS = "benchmarks.toy_b"
LINE = "benchmarks.toy_a"


def write(project: Path, site: Path, series: dict[str, list[Any]], machine: str = "m") -> None:
    """Write asv's results of some series over commits, and a site with a regression of each series."""
    results = project / ".asv/results" / machine
    results.mkdir(parents=True)
    commits = [f"{number:040x}" for number in range(max(map(len, series.values())))]
    for number, commit in enumerate(commits):
        rows = {
            f"{name}.track_peak": [[values[number]], [["'core/alpha'"]]]
            for name, values in series.items()
            if values[number] != UNMEASURED
        }
        content = {"commit_hash": commit, "params": {"machine": machine}, "results": rows}
        (results / f"{commit[-8:]}-env.json").write_text(json.dumps(content))
    site.mkdir(exist_ok=True)
    benchmarks = {f"{name}.track_peak": {"pretty_name": f"toy · {name}: peak", "unit": "bytes"} for name in series}
    index = {"revision_to_hash": dict(enumerate(commits)), "benchmarks": benchmarks}
    (site / "index.json").write_text(json.dumps(index))
    entries = [
        [f"{name}.track_peak('core/alpha')", f"graphs/machine-{machine}/{name}", {}, 0, 1.5, 1.0, [[None, 3, 1.0, 1.5]]]
        for name in series
    ]
    (site / "regressions.json").write_text(json.dumps({"regressions": entries}))


@pytest.mark.parametrize(
    ("tail", "ended"),
    [
        ([1.5, 1.5], False),
        ([ABSENT, ABSENT], True),
        ([UNMEASURED, ABSENT], True),
        ([UNMEASURED, UNMEASURED], True),
        ([1.5, ABSENT], True),
        ([1.5, UNMEASURED], False),
        ([ABSENT, 1.5], False),
        ([FAILED, FAILED], False),
        ([UNMEASURED, FAILED], False),
    ],
)
def test_a_technique_that_is_gone_ended_and_one_that_fails_did_not(tail: list[Any], ended: bool, tmp_path) -> None:
    write(tmp_path, tmp_path / "site", {LINE: [*WORSE, *tail], OTHERS: [*WORSE, 1.5, 1.5]})
    assert drop_ended(tmp_path, tmp_path / "site") == ([f"{LINE}.track_peak('core/alpha')"] if ended else [])
    left = {regression.series for regression in read_regressions(tmp_path / "site")}
    assert left == {f"toy · {OTHERS}: peak", *([] if ended else [f"toy · {LINE}: peak"])}


def test_a_series_that_is_noisy_at_the_end_did_not_end(tmp_path: Path) -> None:
    write(tmp_path, tmp_path / "site", {LINE: [*WORSE, ABSENT, ABSENT]})
    for file in (tmp_path / ".asv/results/m").glob("*.json"):
        content = json.loads(file.read_text())
        content["results"][f"{LINE}.track_error"] = [[3.0], [["'core/alpha'"]]]
        file.write_text(json.dumps(content))
    assert drop_ended(tmp_path, tmp_path / "site") == []


def test_a_suite_that_another_machine_measures_did_not_end_on_this_one(tmp_path: Path) -> None:
    write(tmp_path, tmp_path / "site", {LINE: [*WORSE, UNMEASURED, UNMEASURED]})
    write(tmp_path, tmp_path / "other", {LINE: [*WORSE, 1.5, 1.5]}, machine="n")
    assert drop_ended(tmp_path, tmp_path / "site") == []


def test_asv_s_site_lists_no_regression_of_a_series_that_ended(tmp_path: Path) -> None:
    folder = Folder(path=tmp_path / "project")
    folder.path.mkdir()
    shutil.copy(ROOT / "asv.conf.json", folder.path)
    for number in range(8):
        folder.write("number", str(number))
        commit = folder.commit(f"commit {number}")
        peak = 4096.0 if number < 3 else 6144.0
        rows = []
        for technique in ("toys/kept", *(["toys/gone"] if number < 6 else [])):
            rows += scored(technique, [90.0])
            rows.append(make_row(technique=technique, lane="memory", metrics={"train_tensor_peak": peak}))
        write_asv([run_of(rows, commit=commit)], METRICS, {}, folder.path / ".asv/results", {commit: 10**9 + number})
    name = "benchmarks.toy_toys_gone.track_train_tensor_peak('core/alpha')"
    assert make_site(folder.path, tmp_path / "site") == [name]
    titles = [element.text or "" for element in ElementTree.parse(tmp_path / "site/regressions.xml").iter()]
    assert any("toys_kept" in title for title in titles)
    assert not any("toys_gone" in title for title in titles)
    with site_of(folder.path) as made:
        (regression,) = read_regressions(made)
    assert "toys/kept" in regression.series
