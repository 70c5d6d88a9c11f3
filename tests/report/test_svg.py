"""Charts on paper: each value is where its axis says, and a name is never markup."""

from __future__ import annotations

import re
import sys
from itertools import pairwise
from pathlib import Path
from xml.etree import ElementTree

import pytest

from harness.analysis import RunView
from harness.api import UsageError
from harness.report.charts import charts
from harness.report.drawing import COLOURS, SERIES, SYMBOLS, axis, bars, listed, marker, plot, trace
from harness.report.paper import names, write_charts
from harness.report.scales import scale_of
from harness.report.svg import svg

SVG = "{http://www.w3.org/2000/svg}"


def drawn(traces, axes=None, **more) -> ElementTree.Element:
    return ElementTree.fromstring(svg(plot(traces, axes or (axis("x"), axis("y")), "drawn", height=300, **more)))


def circles(root: ElementTree.Element) -> list[tuple[float, float]]:
    return [(float(circle.attrib["cx"]), float(circle.attrib["cy"])) for circle in root.iter(f"{SVG}circle")]


def texts(root: ElementTree.Element) -> dict[str, tuple[float, float]]:
    return {text.text or "": (float(text.attrib["x"]), float(text.attrib["y"])) for text in root.iter(f"{SVG}text")}


DOT = {"color": "#000000", "size": 8, "symbol": "circle"}


def test_a_point_lies_between_the_marks_around_its_value() -> None:
    root = drawn([trace([0.0, 5.0, 10.0], [1.0, 2.0, 3.0], "markers", marker=DOT)])
    places, marks = circles(root), texts(root)
    assert places[1][0] == pytest.approx((marks["4"][0] + marks["6"][0]) / 2, abs=0.2)
    assert places[0][0] == pytest.approx(marks["0"][0], abs=0.2)
    assert places[2][1] < places[1][1] < places[0][1], "up is more"
    assert places[1][1] == pytest.approx((places[0][1] + places[2][1]) / 2, abs=0.2)


def test_powers_of_ten_are_equally_far_apart_on_a_logarithmic_axis() -> None:
    root = drawn(
        [trace([1.0, 10.0, 100.0], [0.0, 0.0, 0.0], "markers", marker=DOT)], (axis("x", type="log"), axis("y"))
    )
    (first, second, third), marks = [x for x, _ in circles(root)], texts(root)
    assert second - first == pytest.approx(third - second, abs=0.2)
    assert [marks[text][0] for text in ("1", "10", "100")] == pytest.approx([first, second, third], abs=0.2)


def test_the_first_of_listed_names_is_at_the_top() -> None:
    traces = [trace([1.0, 2.0], [0, 1], "markers", marker=DOT)]
    root = drawn(traces, (axis(), listed(["first", "second"])))
    marks, places = texts(root), circles(root)
    assert marks["first"][1] < marks["second"][1]
    assert [y for _, y in places] == pytest.approx([marks["first"][1] - 4, marks["second"][1] - 4], abs=0.2)


def test_an_interval_reaches_from_its_low_to_its_high(full_view: RunView) -> None:
    estimate = next(own for own in full_view.workloads[0].techniques if own.technique == "toys/a").quality.estimate
    traces = [
        trace([estimate.low, estimate.high], [0, 0], "markers", marker=DOT),
        trace([estimate.value], [0], "markers", marker=DOT, error_x=bars([estimate], "#00ff00")),
    ]
    root = drawn(traces)
    (interval,) = [line for line in root.iter(f"{SVG}line") if line.attrib["stroke"] == "#00ff00"]
    ends = [float(interval.attrib[name]) for name in ("x1", "x2")]
    assert ends == pytest.approx([x for x, _ in circles(root)[:2]], abs=0.2)


def test_a_value_that_is_none_leaves_a_gap_and_a_front_is_a_staircase() -> None:
    line = {"color": "#123456", "width": 2}
    gap = drawn([trace([1, 2, 3, 4, 5], [1.0, 2.0, None, 1.0, 2.0], "lines", line=line)])
    assert len(list(gap.iter(f"{SVG}polyline"))) == 2
    stairs = drawn([trace([1, 2, 3], [1.0, 2.0, 3.0], "lines", line={**line, "shape": "hv"})])
    (drawing,) = stairs.iter(f"{SVG}polyline")
    points = [tuple(map(float, point.split(","))) for point in drawing.attrib["points"].split()]
    assert len(points) == 5
    assert all(first[0] == second[0] or first[1] == second[1] for first, second in pairwise(points))


def test_each_verdict_and_series_has_a_mark_that_differs_from_all_others() -> None:
    marks = {
        **{verdict: marker(verdict) for verdict in COLOURS},
        **{colour: {"color": colour, "symbol": symbol, "size": 10} for colour, symbol in SERIES},
    }
    shapes = set()
    for mark in marks.values():
        root = drawn([trace([1.0], [1.0], "markers", marker=mark)])
        found = [one for one in root if one.tag in (f"{SVG}circle", f"{SVG}polygon")]
        assert len(found) == 1
        shapes.add((found[0].tag, tuple(sorted(found[0].attrib.items()))))
    assert len(shapes) == len(marks)
    assert len({SYMBOLS[name] for name in COLOURS}) == len(COLOURS)


@pytest.mark.parametrize(("low", "high"), [(0.0, 1.0), (-3e-5, 7e-5), (81.25, 81.5), (-2e6, 9e6)])
def test_marks_are_round_and_lie_on_the_axis(low: float, high: float) -> None:
    scale = scale_of({}, [low, high])
    assert 3 <= len(scale.marks) <= 9
    assert all(scale.low <= place <= scale.high for place, _ in scale.marks)
    assert all(float(text) == pytest.approx(place, abs=(high - low) / 1e6) for place, text in scale.marks)
    assert len({text for _, text in scale.marks}) == len(scale.marks)


def test_every_chart_of_a_run_is_drawn(full_view: RunView) -> None:
    for chart in charts(full_view, full_view.workloads[0]):
        for drawn in chart.plots:
            root = ElementTree.fromstring(svg(drawn))
            assert root.attrib["width"] == "640"
            drawings = [*root.iter(f"{SVG}polygon"), *root.iter(f"{SVG}circle"), *root.iter(f"{SVG}polyline")]
            assert drawings, chart.title


def test_a_name_is_text_and_never_markup(builders) -> None:
    evil = "toys/<script>alert(1)</script>&\x07"
    rows = [row for name in ("toys/base", evil) for row in builders.scored(name, [80.0, 81.0, 80.5])]
    view = RunView.build(builders.make_run(), rows, builders.METRICS)
    for drawn in names(view).values():
        text = svg(drawn)
        assert "<script" not in text
        ElementTree.fromstring(text)
    assert "<script>alert(1)</script>&\\x07" in "".join(
        node.text or "" for one in names(view).values() for node in ElementTree.fromstring(svg(one)).iter(f"{SVG}text")
    )


# -------------------------------------------------------------------------------------------------- as files


def test_charts_are_written_by_name_or_glob(full_view: RunView, tmp_path: Path) -> None:
    (path,) = write_charts(full_view, "alpha-speed", "svg", tmp_path / "figures")
    assert path.name == f"{full_view.info.id}-alpha-speed.svg"
    assert ElementTree.parse(path).getroot().tag == f"{SVG}svg"
    assert len(write_charts(full_view, "*", "svg", tmp_path)) == len(names(full_view))
    assert len(names(full_view)) == sum(
        len(chart.plots) for workload in full_view.workloads for chart in charts(full_view, workload)
    )
    assert all(re.fullmatch(r"[a-z0-9-]+", name) for name in names(full_view))


def test_a_chart_that_is_not_there_is_one_clear_line_with_all_that_are(full_view: RunView, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"(?s)no chart of that name; did you mean 'alpha-speed'.*beta-speed"):
        write_charts(full_view, "alpha-sped", "svg", tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match=r"cannot write charts to .*file"):
        write_charts(full_view, "alpha-speed", "svg", tmp_path / "file" / "charts")


def test_without_cairosvg_png_and_pdf_say_what_to_install(
    full_view: RunView, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "cairosvg", None)
    with pytest.raises(UsageError, match=r"(?s)png needs cairosvg.*pip install 'technique-harness\[figures\]'"):
        write_charts(full_view, "alpha-speed", "png", tmp_path / "charts")
    assert not (tmp_path / "charts").exists()


@pytest.mark.parametrize(("format_", "begins"), [("png", b"\x89PNG\r\n"), ("pdf", b"%PDF-")])
def test_png_and_pdf_are_made_of_the_svg(full_view: RunView, tmp_path: Path, format_: str, begins: bytes) -> None:
    pytest.importorskip("cairosvg", exc_type=(ImportError, OSError))
    (path,) = write_charts(full_view, "alpha-speed", format_, tmp_path)
    assert path.read_bytes().startswith(begins)
    assert path.stat().st_size > 2000
