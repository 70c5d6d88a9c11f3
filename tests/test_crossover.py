"""The table and the chart of rates by the number of inputs are written from a benchmark, by tools/crossover.py."""

from __future__ import annotations

from types import ModuleType
from typing import Any
from xml.etree import ElementTree

import pytest

from tests.conftest import ROOT
from tests.tools import load_tool

RESULTS: dict[str, Any] = {
    "machine_info": {"cpu": {"brand_raw": "A & B"}},
    "benchmarks": [
        {"params": {"name": "kernel"}, "extra_info": {"bytes": 1}},
        {
            "params": {"columns": 4096},
            "extra_info": {
                "path": "avx2",
                "ms by inputs": {
                    "1": {"kernel": 0.5, "kernel-interleaved": 0.4, "bf16": 4.0, "int4pack": 1.0},
                    "64": {"kernel": 10.0, "kernel-interleaved": 8.0, "bf16": 12.0, "int4pack": 25.0},
                },
            },
        },
    ],
}


@pytest.fixture(scope="module")
def crossover() -> ModuleType:
    return load_tool("crossover")


def test_the_table_has_each_time_and_both_ratios_of_each_kernel(crossover: ModuleType) -> None:
    lines = crossover.table(crossover.measured(RESULTS)).splitlines()
    assert (
        "| columns | inputs | `kernel` | `kernel-interleaved` | `bf16` | `int4pack` | `kernel` times a 4-bit peer "
        "| `kernel` times bf16 | `kernel-interleaved` times a 4-bit peer | `kernel-interleaved` times bf16 |"
    ) in lines
    assert "| 4096 | 1 | 0.5 | 0.4 | 4 | 1 | 2.00 | 8.00 | 2.50 | 10.00 |" in lines
    assert "| 4096 | 64 | 10 | 8 | 12 | 25 | 2.50 | 1.20 | 3.12 | 1.50 |" in lines


def test_the_chart_has_a_line_for_each_technique_that_rises_with_its_rate(crossover: ModuleType) -> None:
    drawing = ElementTree.fromstring(crossover.chart(crossover.measured(RESULTS)))
    lines = drawing.findall(".//{*}polyline")
    points = [[tuple(map(float, point.split(","))) for point in line.attrib["points"].split()] for line in lines]
    assert len(points) == 4
    assert all(first[0] < second[0] and first[1] > second[1] for first, second in points)
    assert "A & B" in drawing.find("{*}title").text


def test_a_file_of_other_benchmarks_is_refused(crossover: ModuleType) -> None:
    with pytest.raises(ValueError, match="-k crossover"):
        crossover.measured({**RESULTS, "benchmarks": RESULTS["benchmarks"][:1]})


def test_the_page_has_the_places_that_are_filled(crossover: ModuleType) -> None:
    page = (ROOT / "docs/families/quantize.md").read_text(encoding="utf-8")
    assert [page.count(crossover.begin(path)) for path in crossover.PATHS] == [1] * page.count(crossover.END)
