"""The table of a run for a terminal of a given width."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import accumulate
from typing import TYPE_CHECKING, Final

from harness.api.text import printable
from harness.report.answer import answer
from harness.report.columns import Column, beside_columns, measured_columns, quality_columns, tuned_column, verdict_cell
from harness.report.layout import wrapped
from harness.report.naming import short
from harness.report.notes import closing, footnotes, heading, legend, run_label
from harness.results.commands import command

if TYPE_CHECKING:
    from harness.analysis.summary import TechniqueSummary
    from harness.analysis.view import RunView, WorkloadView

LONGEST_NAME: Final = 32
SHORT_NAMES: Final = (24, 20)
"""The longest names where the columns that answer the suite's question have no room otherwise."""

FEW_COLUMNS: Final = 3
"""The most hidden columns that a note names."""

_PARTS: Final = re.compile(r"[^_]*_|[^_]+")
"""The parts of a title, after which a line may end."""

_NARROW: Final = re.compile("[ -~±…]*")
"""Texts whose characters each take one place of a terminal."""

_GAP: Final = 2
"""The places between two columns."""

_COLOURS: Final = {
    "better": "green",
    "worse": "red",
    "same": "cyan",
    "undecided": "yellow",
    "changed": "red",
    "baseline": "bright_black",
    "reference": "bright_black",
    "front": "green",
    "behind": "bright_black",
}


def terminal_table(view: RunView, *, color: bool, width: int) -> str:
    """Return all tables of a run with notes; columns that do not fit are left out, and named in a note."""
    if not view.workloads:
        return f"run {view.info.id} has no rows yet"
    blocks, phases = [], set()
    for workload in view.workloads:
        shown, hidden = _fitting(view, workload, width)
        phases |= {column.phase for column in shown}
        blocks.append(_block(view, workload, (shown, hidden), color=color, width=width))
    blocks.append("\n".join(wrapped([*legend(view, phases), *closing(view)], width)))
    return "\n\n".join(blocks)


def _block(
    view: RunView, workload: WorkloadView, columns: tuple[list[Column], list[Column]], *, color: bool, width: int
) -> str:
    """Return the heading, table and footnotes of one workload; ``columns`` are those that fit and those that do not."""
    shown, hidden = columns
    title = "\n".join(wrapped([heading(view, workload)], width))
    notes = footnotes(view, workload)
    if hidden:
        notes.append(_how_to_see(view, workload, shown, hidden))
    said = [_styled(line, "bold", color=color) for line in wrapped(answer(view, workload), width)]
    parts = [title, *said, _laid_out(workload, shown, color=color), *wrapped(notes, width)]
    return "\n".join(parts)


def _fitting(view: RunView, workload: WorkloadView, width: int) -> tuple[list[Column], list[Column]]:
    """Return the columns that fit the width, the most relevant first, and the columns that do not.

    The columns that answer the suite's question always stay. Where these and what the question asks beside are too
    wide, titles are shortened, names go without the plugin that all share, titles get several lines, and intervals are
    left out, in this order; then columns of the latter go, and at last names are shortened. Where any column has no
    room, the others have titles of several lines, too, so that more of them fit.
    """
    beside = [_written(column) for column in beside_columns(view, workload)]
    answering = [_name_column(workload), *map(_written, quality_columns(view, workload))]
    stay = len(beside)
    while _width_of(workload, needed := _squeezed(workload, answering, beside[:stay], width)) > width and stay:
        stay -= 1
    for longest in SHORT_NAMES:
        if _width_of(workload, needed) > width:
            needed[0] = _name_column(workload, longest, own=True)
    tuned = tuned_column(workload)
    measured = [_written(column) for column in (*measured_columns(view, workload), *([tuned] if tuned else []))]
    optional = [*beside[stay:], *measured]
    if _width_of(workload, [*needed, *optional]) > width:
        optional = [_folded(workload, column) for column in optional]
    kept = len(optional) if stay == len(beside) else 0
    while kept and _width_of(workload, [*needed, *optional[:kept]]) > width:
        kept -= 1
    return [*needed, *optional[:kept]], optional[kept:]


def _written(column: Column) -> Column:
    """Return a column whose cells are written once each, however often the width of a table is looked at."""
    brief = column.brief and _once(column.brief)
    return replace(column, cell=_once(column.cell), brief=brief)


def _once(cell: Callable[[TechniqueSummary], str]) -> Callable[[TechniqueSummary], str]:
    texts: dict[int, str] = {}

    def written(summary: TechniqueSummary) -> str:
        if (text := texts.get(id(summary))) is None:
            text = texts[id(summary)] = printable(cell(summary))
        return text

    return written


def _squeezed(workload: WorkloadView, answering: list[Column], beside: list[Column], width: int) -> list[Column]:
    """Return the columns with as short titles, and as few intervals, as the width makes necessary."""
    columns = [*answering, *beside]
    if _width_of(workload, columns) > width:
        columns[1:] = map(_with_narrow_titles, columns[1:])
    if _width_of(workload, columns) > width:
        columns[0] = _name_column(workload, own=True)
    if _width_of(workload, columns) > width:
        columns[1:] = [_folded(workload, column) for column in columns[1:]]
    for first in (len(answering), 1):
        if _width_of(workload, columns) > width:
            columns[first:] = [_folded(workload, _with_brief_cells(column)) for column in columns[first:]]
    return columns


def _how_to_see(view: RunView, workload: WorkloadView, shown: Sequence[Column], hidden: Sequence[Column]) -> str:
    """Return the hidden columns by name where they are few, and else their number and how to see them."""
    if len(hidden) <= FEW_COLUMNS:
        return f"not shown at this width: {', '.join(column.heading for column in hidden)}"
    run = run_label(view)
    seen = f"{command(view.info, f'report {run}')}, {command(view.info, f'show run {run} --format json')}"
    wide = _width_of(workload, [*shown, *hidden])
    return f"{len(hidden)} more columns do not fit; to see them: {seen}, or a terminal {wide} characters wide"


def _with_narrow_titles(column: Column) -> Column:
    narrow = column.narrow and len(column.narrow) < len(column.title)
    return replace(column, title=column.narrow) if narrow else column


def _folded(workload: WorkloadView, column: Column) -> Column:
    """Return a column with its title on several lines, broken behind underscores, where it is wider than the cells."""
    if column.left:
        return column
    widest = max(map(len, (column.unit, *(column.cell(summary) for summary in workload.techniques))))
    lines = [""]
    for part in _PARTS.findall(column.title.replace("\n", "")):
        if lines[-1] and len(lines[-1] + part) > widest:
            lines.append("")
        lines[-1] += part
    return replace(column, title="\n".join(lines))


def _with_brief_cells(column: Column) -> Column:
    return replace(column, cell=column.brief) if column.brief else column


def _name_column(workload: WorkloadView, longest: int = LONGEST_NAME, *, own: bool = False) -> Column:
    """Return the column of the names; ``own`` leaves out the plugin where all techniques are of one."""
    techniques = [summary.technique for summary in workload.techniques]
    names = {name: printable(shown) for name, shown in _names(techniques, longest, own=own).items()}
    return Column(title="technique", unit="", cell=lambda summary: names[summary.technique], left=True)


def _names(techniques: Sequence[str], longest: int, *, own: bool) -> dict[str, str]:
    """Return the names as a table shows them; one that would be like another one is not shortened."""
    shared = own and len({name.partition("/")[0] for name in techniques}) == 1
    names = {name: short(name) if shared else name for name in techniques}
    counts = Counter(_shortened(name, longest) for name in names.values())
    alike = {cut for cut, count in counts.items() if count > 1}
    return {full: name if (cut := _shortened(name, longest)) in alike else cut for full, name in names.items()}


def _laid_out(workload: WorkloadView, columns: Sequence[Column], *, color: bool) -> str:
    """Return the lines of a table; tabulate lays out those in which a character may not be one wide."""
    lines, is_left = _lines(workload, columns, color=color), _alignment(columns)
    plain = _narrow(workload, columns)
    if plain is None:
        from tabulate import tabulate

        text = tabulate(
            lines,  # tabulate's own headers would widen every column
            tablefmt="plain",
            colalign=["left" if left else "right" for left in is_left],
            disable_numparse=True,
        )
        return "\n".join(line.rstrip() for line in text.splitlines())
    widths = [max(map(len, cells)) for cells in zip(*plain, strict=True)]
    laid_out = []
    for line, narrow in zip(lines, plain, strict=True):
        cells = []
        for cell, bare, width, left in zip(line, narrow, widths, is_left, strict=True):
            space = " " * (width - len(bare))
            cells.append(f"{cell.strip()}{space}" if left else f"{space}{cell.strip()}")
        laid_out.append((" " * _GAP).join(cells).rstrip())
    return "\n".join(laid_out)


def _alignment(columns: Sequence[Column]) -> list[bool]:
    """Return whether the cells of each column begin below each other; those of verdicts and marks do."""
    return [*(column.left for column in columns), True, True]


def _narrow(workload: WorkloadView, columns: Sequence[Column]) -> list[list[str]] | None:
    """Return the cells of each line without colours; None where a character of one may not be one wide."""
    lines = [[cell.strip() for cell in line] for line in _lines(workload, columns, color=False)]
    return lines if all(_NARROW.fullmatch(cell) for line in lines for cell in line) else None


def _lines(workload: WorkloadView, columns: Sequence[Column], *, color: bool) -> list[list[str]]:
    """Return the cells of each line: titles, units, and a line for each technique, with its verdict and marks."""
    titles = [[printable(line) for line in column.title.split("\n")] for column in columns]
    deepest = max(map(len, titles))
    above = [["" for _ in range(deepest - len(lines))] + lines for lines in titles]
    headers = [
        *(
            [*row, "verdict" if number == deepest - 1 else "", ""]
            for number, row in enumerate(zip(*above, strict=True))
        ),
        [*(column.unit for column in columns), "", ""],
    ]
    if not any(headers[-1]):
        del headers[-1]
    rows = [
        [*(column.cell(summary) for column in columns), _verdict(summary, color=color), _marks(summary)]
        for summary in workload.techniques
    ]
    return [*headers, *rows]


def _verdict(summary: TechniqueSummary, *, color: bool) -> str:
    return _styled(verdict_cell(summary), _COLOURS.get(summary.verdict, "red"), color=color)


def _marks(summary: TechniqueSummary) -> str:
    edge = summary.tuning is not None and summary.tuning.edge
    marks = (("*", summary.pareto), ("^", edge), ("!", bool(summary.failures)))
    return "".join(mark for mark, there in marks if there)


def _styled(text: str, style: str, *, color: bool) -> str:
    if not color:
        return text
    import click

    return click.style(text, bold=True) if style == "bold" else click.style(text, fg=style)


def _shortened(name: str, longest: int) -> str:
    """Return a long name without its middle: plugins differ at the beginning, variants at the end."""
    if len(name) <= longest:
        return name
    half = (longest - 1) // 2
    return f"{name[:half]}…{name[-half:]}"


def _width_of(workload: WorkloadView, columns: Sequence[Column]) -> int:
    """Return the width of the longest line of a table."""
    lines, is_left = _narrow(workload, columns), _alignment(columns)
    if lines is None:
        return max(map(len, _laid_out(workload, columns, color=False).splitlines()), default=0)
    widths = [max(map(len, cells)) for cells in zip(*lines, strict=True)]
    starts = [*accumulate((width + _GAP for width in widths), initial=0)]
    longest = 0
    for line in lines:
        last = max((place for place, cell in enumerate(line) if cell), default=0)
        longest = max(longest, starts[last] + (len(line[last]) if is_left[last] else widths[last]))
    return longest
