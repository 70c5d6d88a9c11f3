"""Renders a history for a terminal or another program: a line for each series, and what got worse or was accepted."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import groupby
from typing import TYPE_CHECKING, Any, Final

from harness.api.text import printable
from harness.history.judging import is_exact
from harness.report import units
from harness.report.forms import of_form
from harness.report.layout import wrapped
from harness.report.naming import machine_text, short
from harness.results.points import RATIO
from harness.results.schema import encode

if TYPE_CHECKING:
    from harness.analysis.intervals import Estimate
    from harness.history.gaps import Gap
    from harness.history.judging import Judged, Mark
    from harness.history.series import Measured, Name, Series

_LEVELS: Final = "▁▂▃▄▅▆▇█"
_WIDEST_NAME: Final = 24
_NARROWEST_NAME: Final = 12
_WIDEST_SPARK: Final = 24
_NARROWEST_SPARK: Final = 6
_MOST_GAPS: Final = 20
FLAT: Final = 0.02
"""The range, relative to the values, below which a line of values that vary is drawn as flat."""

_HEADINGS: Final = ("technique", "history", "last", "change", "verdict")


@dataclass(frozen=True, kw_only=True)
class HistoryReport:
    """The judged series, the first lines of the messages of their commits, and remarks.

    ``gaps`` are the series without a value in the newest run that was to measure them. ``address`` returns where a page
    of a series with one of its changes marked is, or an empty text. ``home`` is the address of the first page of the
    site that the history is a part of; empty where it is in none.
    """

    judged: Sequence[Judged]
    gaps: Mapping[Name, Gap] = field(default_factory=dict)
    subjects: Mapping[str, str] = field(default_factory=dict)
    notes: Sequence[str] = ()
    address: Callable[[Series, Mark], str] = lambda _series, _mark: ""
    home: str = ""

    @property
    def headline(self) -> str:
        """What the whole history says, in one line."""
        counts = Counter(entry.state for entry in self.judged)
        series = f"{len(self.judged)} series"
        accepted = sum(mark.accepted is not None for entry in self.judged for mark in entry.marks)
        tail = f"; {accepted} change{'s' if accepted > 1 else ''} accepted" if accepted else ""
        tail += f"; {counts['undecided']} undecided" if counts["undecided"] else ""
        if counts["worse"]:
            return f"Worse: {counts['worse']} of {series}{tail}"
        few = f"; {counts['few']} too short to judge their times" if counts["few"] else ""
        better = f", {counts['better']} got better" if counts["better"] else ""
        return f"Nothing got worse: {series}{better}{tail}{few}"


def render_history(report: HistoryReport, *, as_json: bool = False, width: int = 80) -> str:
    """Return the text of a history for a terminal of ``width`` columns, or as JSON."""
    if as_json:
        return json.dumps(plain(report), indent=2, allow_nan=False)
    blocks = [report.headline]
    for heading, group in groups(report.judged):
        blocks.append("\n".join([*wrapped([heading], width), *_table(group, width)]))
    blocks += ["\n".join(wrapped(lines, width)) for lines in told(report) if lines]
    if report.notes:
        blocks.append("\n".join(wrapped(report.notes, width)))
    return printable("\n\n".join(blocks), keep="\n")


def groups(judged: Sequence[Judged]) -> Iterator[tuple[str, list[Judged]]]:
    """Yield the series of one suite, workload, metric and machine together, with their heading."""
    for _, group in groupby(judged, key=lambda entry: _block(entry.series.name)):
        members = list(group)
        yield heading(members[0].series), members


def heading(series: Series) -> str:
    """Return what the series of a block share: suite, workload, metric with its unit, and machine."""
    name = series.name
    metric = name.metric
    if metric.endswith(RATIO) and series.lane == "time":
        metric = f"{metric} (time relative to the baseline's)"
    suite = f"{name.suite} v{name.version}{of_form(name.form)}"
    return f"{suite} · {short(name.workload)} · {metric} · {machine_text(name.machine)}"


def _block(name: Name) -> tuple[str, int, str, str, str, str]:
    return name.suite, name.version, name.form, name.machine, name.workload, name.metric


# --------------------------------------------------------------------------------------------------- table


def _table(judged: Sequence[Judged], width: int) -> list[str]:
    """Return the lines of a block: the sparkline takes the columns that the others leave."""
    rows = [
        (
            short(entry.series.name.technique),
            value_text(entry.series, entry.series.points[-1].value),
            change_text(entry.series, chosen(entry)),
            verdict_text(entry),
        )
        for entry in judged
    ]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    others = sum(widths[1:]) + 2 * len(_HEADINGS)
    widths[0] = min(widths[0], _WIDEST_NAME, max(width - others - _NARROWEST_SPARK, _NARROWEST_NAME))
    longest = max(len(entry.series.points) for entry in judged)
    spark = max(min(longest, width - others - widths[0], _WIDEST_SPARK), _NARROWEST_SPARK)
    rows = [(_cut(name, widths[0]), last, change, verdict) for name, last, change, verdict in rows]
    return [
        f"  {name:{widths[0]}}  {sparkline(entry.series, spark):{spark}}  {last:>{widths[1]}}  "
        f"{change:{widths[2]}}  {verdict}".rstrip()
        for entry, (name, last, change, verdict) in zip(judged, rows, strict=True)
    ]


def sparkline(series: Series, width: int) -> str:
    """Return the values as bars, the latest last; of several values that share a bar the last is drawn."""
    values = [point.value for point in series.points]
    count = min(len(values), width)
    drawn = [values[(place + 1) * len(values) // count - 1] for place in range(count)]
    low, high = min(values), max(values)
    least = 0.0 if is_exact(series) else FLAT * abs(high)
    if high - low <= least:
        return _LEVELS[len(_LEVELS) // 2 - 1] * count
    return "".join(_LEVELS[round((value - low) / (high - low) * (len(_LEVELS) - 1))] for value in drawn)


def chosen(judged: Judged) -> Mark | None:
    """Return the mark that stands for a series: the one that is worse, else the last that matters, else the last."""
    last = [mark for mark in judged.marks if mark.verdict != "changed"][-1:] or [*judged.marks][-1:]
    return judged.standing or next(iter(last), None)


def verdict_text(judged: Judged) -> str:
    """Return the verdict on a series in words, with the commit of its change."""
    mark = chosen(judged)
    if judged.suspect:
        points = "point" if judged.suspect == 1 else f"{judged.suspect} points"
        return f"newest {points} off: too early"
    if mark is None:
        only = "one point" if len(judged.series.points) == 1 else "same"
        return {"few": "too few points", "undecided": "undecided"}.get(judged.state, only)
    word = "accepted" if mark.accepted else mark.verdict
    return f"{word} at {place_of(judged.series.points[mark.position])}"


def place_of(point: Measured | Gap) -> str:
    """Return the name of a point: the beginning of its commit, or the end of the id of its run."""
    return point.commit[:9] if point.commit else f"run {point.run.rpartition('-')[2]}"


def value_text(series: Series, value: float) -> str:
    """Return a value of a series in units that people read."""
    if series.name.metric.endswith(RATIO) and series.lane == "time":
        return units.ratio(value)
    if series.unit == "B":
        return units.size(value)
    if series.unit in ("parameters", "count"):
        return units.count(value)
    if series.unit == "%":
        return f"{value:.1f} %"
    return f"{units.significant(value, 4)} {series.unit}".rstrip()


def change_text(series: Series, mark: Mark | None) -> str:
    """Return the size of a change, such as '+10.2 % [+8.1, +12.3]'; empty without a change."""
    return "" if mark is None else difference_text(series, mark.change, relative=mark.relative)


def difference_text(series: Series, change: Estimate, *, relative: bool) -> str:
    """Return a difference of a series' values with its interval, as far as it has one."""
    if not math.isfinite(change.value):
        return "from nothing"
    scale, unit = (100.0, " %") if relative else (1.0, " points" if series.unit == "%" else f" {series.unit}")
    places = 1 if relative or series.unit == "%" else units.decimals([], [series.margin or change.value])
    bounds = ""
    if change.low is not None and change.high is not None and change.low != change.high:
        low, high = (units.fixed(bound * scale, places, signed=True) for bound in (change.low, change.high))
        bounds = f" [{low}, {high}]"
    return f"{units.fixed(change.value * scale, places, signed=True)}{unit.rstrip()}{bounds}"


def _cut(text: str, width: int) -> str:
    return text if len(text) <= width else f"{text[: width - 1]}…"


# ------------------------------------------------------------------------------------------------- details


def told(report: HistoryReport) -> list[list[str]]:
    """Return a line for each change for the worse that stands, then for each that was accepted, then for gaps."""
    worse, accepted = [], []
    for entry in report.judged:
        if entry.standing is not None:
            worse.append(f"worse: {describe(report, entry, entry.standing)}")
        accepted += [
            f"accepted: {describe(report, entry, mark)}: {mark.accepted.note}" for mark in entry.marks if mark.accepted
        ]
    if worse:
        worse.append("Accept what was meant: harness accept COMMIT --metric M --technique T --reason TEXT")
    return [worse, accepted, _missing(report)]


def _missing(report: HistoryReport) -> list[str]:
    """Return a line for each technique that ended, or that has no value in the newest run, with the reason."""
    ended: dict[tuple[str, str, str, str], str] = {}
    without: dict[tuple[str, str, str, str, str], list[str]] = {}
    for series in (entry.series for entry in report.judged if entry.series.name in report.gaps):
        name, gap = series.name, report.gaps[series.name]
        of = (name.suite, name.technique, short(name.workload), place_of(gap))
        if gap.why:
            without.setdefault((*of, gap.why), []).append(name.metric)
        else:
            ended[of] = place_of(series.points[-1])
    lines = [
        f"ended: {suite}, {technique} on {workload}: last measured at {last}, and no longer at {newest}"
        for (suite, technique, workload, newest), last in ended.items()
    ]
    lines += [
        f"no value: {suite}, {technique} on {workload}, {', '.join(dict.fromkeys(metrics))}, at {newest}: {why}"
        for (suite, technique, workload, newest, why), metrics in without.items()
    ]
    others = len(lines) - _MOST_GAPS
    return lines[:_MOST_GAPS] + ([f"... and {others} more without a value; all are in --json"] if others > 0 else [])


def describe(report: HistoryReport, judged: Judged, mark: Mark) -> str:
    """Return a change in words: series, values, size, commit, and between which points it may lie."""
    series, points = judged.series, judged.series.points
    at = points[mark.position]
    subject = report.subjects.get(at.commit, "")
    before, after = (value_text(series, value) for value in (mark.before, mark.after))
    where = f"at {place_of(at)}{f' ({subject})' if subject else ''}"
    if mark.earliest < mark.position or mark.latest > mark.position:
        where += f", between {place_of(points[mark.earliest - 1])} and {place_of(points[mark.latest])}"
    name = series.name
    what = f"{name.suite}, {name.technique} on {short(name.workload)}, {name.metric}"
    how = ", measured in turns" if mark.paired else ""
    if mark.provisional:
        count = len(points) - mark.position
        newest = "the newest point" if count == 1 else f"the newest {count} points"
        how = f", shown by {newest} only: the next ones confirm it or take it back"
    return f"{what}: {before} -> {after}, {change_text(series, mark)} {where}{how}"


def plain(report: HistoryReport) -> dict[str, Any]:
    """Return the history as JSON, with all points and changes."""
    return {
        "headline": report.headline,
        "series": [
            {
                **asdict(entry.series.name),
                "unit": entry.series.unit,
                "higher_is_better": entry.series.higher_is_better,
                "state": entry.state,
                "suspect": entry.suspect,
                "missing": asdict(gap) if (gap := report.gaps.get(entry.series.name)) else None,
                "points": [_plain_point(point) for point in entry.series.points],
                "changes": [_plain_mark(entry, mark) for mark in entry.marks],
            }
            for entry in report.judged
        ],
        "notes": list(report.notes),
    }


def _plain_point(point: Measured) -> dict[str, Any]:
    return {
        "commit": point.commit,
        "run": point.run,
        "started": point.started,
        "value": encode(point.value),
        "low": encode(point.low),
        "high": encode(point.high),
        "seeds": encode(point.seeds),
    }


def _plain_mark(judged: Judged, mark: Mark) -> dict[str, Any]:
    points = judged.series.points
    return {
        "verdict": mark.verdict,
        "stands": mark is judged.standing,
        "position": mark.position,
        "earliest": mark.earliest,
        "latest": mark.latest,
        "commit": points[mark.position].commit,
        "run": points[mark.position].run,
        "before": encode(mark.before),
        "after": encode(mark.after),
        "change": encode(asdict(mark.change)),
        "relative": mark.relative,
        "paired": mark.paired,
        "provisional": mark.provisional,
        "accepted": mark.accepted.note if mark.accepted else None,
    }
