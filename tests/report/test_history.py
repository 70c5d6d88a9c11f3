"""A history is shown in 80 columns, as JSON and as a page, and foreign names are only text."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser

import pytest

from harness.history.decisions import Accepted
from harness.history.judging import judge
from harness.history.series import Measured, Name, Series
from harness.history.timeline import Timeline
from harness.report.history import HistoryReport, render_history, sparkline
from harness.report.history_page import render_page
from harness.report.naming import machine_text

COMMITS = [f"{number:040x}" for number in range(1, 31)]
TIMELINE = Timeline(places={commit: number for number, commit in enumerate(COMMITS)},
                    times={commit: float(number) for number, commit in enumerate(COMMITS)})  # fmt: skip
WILD = "toys/<script>alert(1)</script>"


def series(technique: str, metric: str, values: list[float], unit: str = "", lane: str = "time") -> Series:
    points = tuple(
        Measured(commit=commit, run="20260101-000000-abcd", started="2026-01-01T00:00:00+00:00", value=value,
                 seeds={} if lane == "time" else {0: value})
        for commit, value in zip(COMMITS, values, strict=False)
    )  # fmt: skip
    name = Name(suite="toy", version=2, form="track", workload="toy/bench", metric=metric, technique=technique,
                machine="A Chip of a rather long name @ 2.50GHz, 16 cores")  # fmt: skip
    return Series(name=name, lane=lane, unit=unit, higher_is_better=False, margin=0.0, points=points)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def report() -> HistoryReport:
    from datetime import date

    from harness.history.decisions import Decisions

    slow = [1.0, 1.01] * 10 + [1.2, 1.21] * 5
    given = [
        series("toys/a", "train_ratio", slow),
        series(WILD, "train_ratio", slow),
        series("toys/with-a-name-that-is-much-too-long-for-it", "train_ratio", [1.0, 1.01] * 15),
        series("toys/a", "train_tensor_peak", [2**20] * 10 + [2**21] * 20, "B", "memory"),
    ]
    entry = Accepted(metric="train_tensor_peak", commit=COMMITS[10], reason="a cache", author="me")
    judged = judge(given, TIMELINE, Decisions(accepted=(entry,)), date(2026, 11, 29))
    return HistoryReport(judged=judged, subjects={COMMITS[20]: "check\x1b[31m the mask"}, notes=["a note"])


def test_a_machine_has_cores_or_one_core() -> None:
    assert machine_text("A Chip, 1 cores") == "A Chip, 1 core"
    assert machine_text("A Chip, 11 cores") == "A Chip, 11 cores"
    assert machine_text("A GPU") == "A GPU"


def test_a_history_fits_eighty_columns_and_says_what_happened(report: HistoryReport) -> None:
    text = render_history(report, width=80)
    assert max(map(len, text.splitlines())) <= 80
    assert text.startswith("Worse: 2 of 4 series; 1 change accepted")
    joined = re.sub(r"\s+", " ", text)
    assert "worse: toy, toys/a on bench, train_ratio: x1.00 -> x1.20, +19.9 %" in joined
    assert f"at {COMMITS[20][:9]}" in joined
    assert "accepted: toy, toys/a on bench, train_tensor_peak: 1.0 MiB -> 2.0 MiB, +100.0 %" in joined
    assert "a cache (me)" in joined
    assert "\x1b" not in text
    line = next(line for line in text.splitlines() if "2.0 MiB" in line)
    assert re.search("▁+█+", line)


def test_nothing_worse_is_said_in_words(report: HistoryReport) -> None:
    quiet = HistoryReport(judged=[one for one in report.judged if one.state == "same"])
    assert render_history(quiet).startswith("Nothing got worse: 2 series; 1 change accepted")


def test_json_has_all_points_and_changes(report: HistoryReport) -> None:
    found = json.loads(render_history(report, as_json=True))
    (slow,) = [one for one in found["series"] if one["technique"] == "toys/a" and one["metric"] == "train_ratio"]
    assert len(slow["points"]) == 30
    (change,) = slow["changes"]
    assert (change["verdict"], change["commit"], change["stands"]) == ("worse", COMMITS[20], True)
    assert change["change"]["low"] < 0.2 < change["change"]["high"]


class Tags(HTMLParser):
    """The names of all elements of a page, and all addresses in it."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []
        self.addresses: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.names.append(tag)
        self.addresses += [value or "" for name, value in attrs if name in ("src", "href", "srcset", "action")]


def test_the_page_loads_nothing_and_a_script_in_a_name_is_text(report: HistoryReport) -> None:
    page = render_page(report)
    tags = Tags()
    tags.feed(page)
    assert tags.addresses == []
    assert "<script>alert" not in page
    assert tags.names.count("svg") == 4
    assert tags.names.count("line") == 3
    assert "&lt;script&gt;alert(1)" in page
    assert "url(" not in page
    assert "stroke-dasharray" in page


def test_marks_lead_where_the_caller_says(report: HistoryReport) -> None:
    linked = HistoryReport(judged=report.judged, address=lambda series, mark: f'x"{series.name.metric}&{mark.position}')
    tags = Tags()
    tags.feed(render_page(linked))
    assert 'x"train_ratio&20' in tags.addresses


@pytest.mark.parametrize(
    ("values", "width", "drawn"),
    [([1.0, 1.001], 6, "▄▄"), ([1.0, 2.0, 3.0], 6, "▁▄█"), ([1.0] * 50 + [2.0], 4, "▁▁▁█"), ([0.0], 6, "▄")],
)
def test_a_sparkline_shows_the_last_value_last(values: list[float], width: int, drawn: str) -> None:
    points = tuple(Measured(commit="", run="r", started="", value=value) for value in values)
    one = series("toys/a", "train_ratio", [1.0])
    assert sparkline(Series(**{**vars(one), "points": points}), width).replace("▅", "▄") == drawn
