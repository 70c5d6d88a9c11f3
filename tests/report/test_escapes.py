"""Foreign names and reasons in the languages that they are printed in."""

from __future__ import annotations

import csv
import io
import unicodedata
from dataclasses import replace

import pytest

from harness.analysis import RunView
from harness.api.text import printable
from harness.report import render
from harness.report.changes import render_changes
from harness.report.detail import show_row
from harness.report.escapes import cell, latex, markdown, markdown_cell, spreadsheet
from harness.report.page import render_page
from harness.results.export import to_csv
from tests.report.test_changes import CRASH, report_of

NASTY = "\x1b[31mred\x1b]0;t\x07 \x00 \u202e \x9b \udc80 \u2028"


def test_printable_text_has_nothing_that_a_terminal_acts_on() -> None:
    text = printable(NASTY + "\n", keep="\n")
    assert text.endswith("\n")
    assert all(unicodedata.category(character) not in ("Cc", "Cf", "Cs", "Zl", "Zp") for character in text[:-1])
    assert text.startswith("\\x1b[31mred")
    assert text.encode("utf-8")
    assert printable("±0.6 µs · naïve 日本 x²") == "±0.6 µs · naïve 日本 x²"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("lora/pissa_qr", "lora/pissa_qr"),
        ("+1.2 % [+0.1, +2.3]", "`+1.2 % [+0.1, +2.3]`"),
        ("3 of 9 cases failed: ValueError: no", "3 of 9 cases failed: ValueError: no"),
        ("@someone", "`@someone`"),
        ("![i](http://a.b/c.png)", "`![i](http://a.b/c.png)`"),
        ("<img src=x>", "`<img src=x>`"),
        ("see https://a.b", "`see https://a.b`"),
        ("_bold_", "`_bold_`"),
        ("__init__", "`__init__`"),
        ("#12", "`#12`"),
        ("a`b", "``a`b``"),
        ("`", "`` ` ``"),
        ("two\nlines", "two lines"),
    ],
)
def test_markdown_shows_the_text_itself(text: str, shown: str) -> None:
    assert markdown(text) == shown


def test_a_bar_ends_no_cell() -> None:
    assert markdown_cell("a|b") == "`a\\|b`"
    assert cell("a|b", "jira") == "a\\|b"
    assert cell("a|b", "mediawiki") == "a&#124;b"
    assert cell("a|b", "orgtbl") == "a\\vert{}b"


def test_latex_and_spreadsheets_compute_nothing() -> None:
    assert latex(r"a_b & 5 % \x") == r"a\_b \& 5 \% \textbackslash{}x"
    assert [spreadsheet(text) for text in ("=1+1", "+a", "-a", "@a", "a=b")] == ["'=1+1", "'+a", "'-a", "'@a", "a=b"]


@pytest.fixture
def foreign(builders) -> RunView:
    """A run with a technique of a hostile name that failed for a hostile reason."""
    return RunView.build(builders.make_run(), _rows(builders), builders.METRICS)


def _rows(builders):
    good = builders.scored("toys/base", (80.0, 81.0, 82.0))
    return [*good, builders.make_row(technique="toys/a|b=\x1b[2J", status="error", reason=f"=cmd|@you <img> {NASTY}")]


@pytest.mark.parametrize("format_", ["github", "pipe"])
def test_a_row_of_a_markdown_table_has_as_many_cells_as_its_heading(foreign: RunView, format_: str) -> None:
    lines = render(foreign, format_).splitlines()
    bars = {line.replace("\\|", "").count("|") for line in lines}
    assert len(bars) == 1
    assert "`1 of 1 cases failed: error: =cmd" in render(foreign, format_)


@pytest.mark.parametrize(
    "format_", ["table", "github", "latex", "latex_raw", "html", "unsafehtml", "tsv", "rst", "simple"]
)
def test_no_format_has_control_characters_or_what_no_encoding_takes(foreign: RunView, format_: str) -> None:
    text = render(foreign, format_, color=False)
    assert not set(NASTY) - {" "} - set("[31mred]0;t") & set(text)
    text.encode("utf-8")
    assert "<img>" not in text or "html" not in format_


def test_a_page_of_a_lone_surrogate_can_be_written(foreign: RunView, builders, tmp_path) -> None:
    from harness.report.page import write_page

    page = write_page(foreign, tmp_path, tuple(_rows(builders))).read_text(encoding="utf-8")
    assert "<img>" not in page
    assert "\x1b" not in page
    assert "<img>" not in render_page(foreign)


def test_a_formula_in_csv_is_text_and_a_negative_number_a_number(builders) -> None:
    row = builders.make_row(technique="=toys/a", metrics={"loss": -1.5})
    (line,) = csv.DictReader(io.StringIO(to_csv([row])))
    assert line["technique"] == "'=toys/a"
    assert line["value"] == "-1.5"


def test_a_comparison_as_a_comment_notifies_nobody_and_loads_nothing() -> None:
    crash = replace(CRASH, reason="@someone ![i](http://x/y) <img src=z> a|b")
    text = render_changes(report_of(crash, notes=["@other was not there", "<b>"], base="@me"), "markdown")
    assert "`@someone ![i](http://x/y) <img src=z> a\\|b`" in text
    assert "- `@other was not there`" in text
    assert "- `<b>`" in text
    assert "**`" in text


def test_a_comparison_on_a_terminal_has_no_foreign_control_characters() -> None:
    crash = replace(CRASH, reason=NASTY)
    text = render_changes(report_of(crash, base=NASTY), "table", color=True)
    assert "\x1b[31mred" not in text
    assert "\\x1b[31mred" in text
    text.encode("utf-8")


def test_a_row_in_full_names_a_hostile_reason(builders) -> None:
    assert "no luck" in show_row(builders.make_row(status="error", reason="no luck"))
