from __future__ import annotations

import json
import re
import subprocess
import sys

import pytest
from tabulate import tabulate_formats

from harness.analysis import RunView
from harness.api import UsageError
from harness.report import check, render

BASE = [90.0, 91.5, 89.0, 92.0, 90.5]


@pytest.fixture(scope="session")
def view(builders) -> RunView:
    rows = [
        *builders.scored("toys/base", BASE, metrics={"trainable_parameters": 69_200, "loss": 0.5}),
        *builders.scored("toys/a", [score - 7.1 + i / 5 for i, score in enumerate(BASE)], params={"rank": 4}),
        builders.make_row(technique="toys/b", status="oom", reason="3 GiB & more in train"),
    ]
    return RunView.build(builders.make_run(), rows, builders.METRICS)


@pytest.mark.parametrize("name", tabulate_formats)
def test_every_format_of_tabulate_has_each_technique_once_with_its_figures(view: RunView, name: str) -> None:
    text = render(view, name).replace("\\", "")
    for technique in ("toys/base", "toys/a", "toys/b"):
        assert len(re.findall(rf"(?<![\w/]){technique}(?![\w/])(?! \(points\))", text)) == 1
    assert "69.2k" in text
    assert "worse" in text
    assert "1 of 1 cases failed" in text


def test_markdown_has_one_line_a_technique_and_units_in_its_header(view: RunView) -> None:
    lines = render(view, "github").splitlines()
    header = [cell.strip() for cell in lines[0].strip("|").split("|")]
    assert header[:4] == ["technique", "accuracy (%)", "vs toys/base (points)", "trainable (parameters)"]
    assert header[-4:] == ["verdict", "decided by", "Pareto", "status"]
    assert len(lines) == 2 + 3
    assert all(line.count("|") == len(header) + 1 for line in lines)


def test_html_and_latex_are_escaped(view: RunView) -> None:
    assert "3 GiB &amp; more" in render(view, "html")
    assert r"3 GiB \& more" in render(view, "latex")


def assert_is_latex(text: str) -> list[list[str]]:
    """Read a table strictly, as pdfTeX would: known commands, closed groups and formulas; return its rows' cells."""
    assert text.isascii()
    commands = {"begin", "end", "toprule", "midrule", "bottomrule", "hline", "endhead", "textbackslash", "ensuremath"}
    commands |= {"textasciitilde", "textbar", "pm", "mu", "geq", "leq", "ldots", "times", "to", "approx"}
    assert set(re.findall(r"\\([a-zA-Z]+)", text.replace("\\\\\n", "\n"))) <= commands
    plain = re.sub(r"\\[&%$#_{}]", "", text.replace("\\\\", ""))
    assert not re.search(r"[#~]|(?<!\\)\^(?!\{\}|2\$)", plain), (
        "characters that only mean something in TeX are commands"
    )
    assert plain.count("$") % 2 == 0
    depth = 0
    for character in plain:
        depth += (character == "{") - (character == "}")
        assert depth >= 0
    assert depth == 0
    lines = [line for line in text.splitlines() if line.endswith(r"\\")]
    return [[part.strip() for part in re.split(r"(?<!\\)&", line[:-2])] for line in lines]


@pytest.mark.parametrize("name", [name for name in tabulate_formats if name.startswith("latex")])
def test_latex_has_intervals_signs_and_names_that_pdftex_prints(builders, name: str) -> None:
    evil = r"toys/a_b&5%<script>~^|x#{}$\\y"
    rows = [
        *builders.scored("toys/base", BASE),
        *builders.scored(evil, [score - 7.1 + i / 5 for i, score in enumerate(BASE)]),
        builders.make_row(technique="toys/b", status="error", reason="use --memory-limit ≥ 3 µs … – “it”"),
    ]
    text = render(RunView.build(builders.make_run(), rows, builders.METRICS), name)
    header, *cells = assert_is_latex(text)
    assert {len(row) for row in cells} == {len(header)} == {7}
    base, worse, failed = cells
    assert base[1] == r"90.6 $\pm$1.5", "Student's t of 5 values, 2.776 * 1.194 / sqrt(5)"
    assert worse[2] == r"$-$6.7 $\pm$0.4", "Student's t of 5 differences, 2.776 * 0.316 / sqrt(5)"
    assert failed[1] == "--"
    assert r"-{}-memory-limit $\geq$ 3 $\mu$s \ldots{} -- ``it''" in failed[-1]
    assert r"\textbar{}" in worse[0]
    assert ("\\toprule" in text) == (name == "latex_booktabs")


def test_json_holds_every_figure_with_its_values_by_seed(view: RunView) -> None:
    data = json.loads(render(view, "json"), parse_constant=pytest.fail)
    best, second, failed = data["workloads"][0]["techniques"]
    assert list(best["quality"]["values"].values()) == BASE
    assert best["figures"]["loss"]["estimate"] == {"value": 0.5, "low": 0.5, "high": 0.5, "n": 5}
    assert (best["verdict"], second["verdict"], failed["verdict"]) == ("baseline", "worse", "oom")
    assert second["comparison"]["difference"]["low"] < second["comparison"]["difference"]["value"]
    assert second["params"] == {"rank": 4}
    assert failed["quality"] is None
    assert failed["reason"] == "1 of 1 cases failed: oom: 3 GiB & more in train"
    assert data["run"]["suite"]["id"] == "toy"
    assert data["metrics"]["accuracy"]["unit"] == "%"


def test_two_workloads_share_one_plain_table(builders) -> None:
    rows = [row for w in ("core/alpha", "core/beta") for row in builders.scored("toys/base", BASE, workload=w)]
    suite = builders.make_suite(workloads=("core/alpha", "core/beta"))
    lines = render(RunView.build(builders.make_run(suite), rows, builders.METRICS), "tsv").splitlines()
    assert [line.split("\t")[0].strip() for line in lines] == ["workload", "alpha", "beta"]


def test_an_empty_run_is_an_empty_table(builders) -> None:
    view = RunView.build(builders.make_run(), [], builders.METRICS)
    assert render(view, "github").strip() == ""
    assert json.loads(render(view, "json"))["workloads"] == []


def test_an_unknown_format_is_a_usage_error_with_the_nearest_name(view: RunView) -> None:
    with pytest.raises(
        UsageError, match=r"format 'guthub': expected table, json or one of tabulate's; did you mean 'github'\?"
    ):
        render(view, "guthub")
    with pytest.raises(UsageError, match="did you mean 'mypage'"):
        check("mypag", also=["mypage"])
    check("mypage", also=["mypage"])


def test_the_report_loads_without_numpy_scipy_and_torch() -> None:
    code = (
        "import sys, harness.report.units, harness.report\n"
        "harness.report.check('github')\n"
        "assert not {'numpy', 'scipy', 'torch'} & set(sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
