"""Renders the changes between two runs or commits for a terminal, a pull request or another program."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Final

from harness.analysis.vacuous import lost_lines
from harness.api.text import printable
from harness.report import units
from harness.report.escapes import markdown, markdown_cell
from harness.report.layout import wrapped
from harness.report.naming import short

if TYPE_CHECKING:
    from harness.analysis.changes import Change, Changes, Listed
    from harness.analysis.compare import Verdict
    from harness.analysis.vacuous import Lost

FORMATS: Final = ("table", "markdown", "json")

LONGEST: Final = 20
"""The largest number of lines of a kind; the others are counted, and are in the JSON form."""

_HEADINGS: Final = ("technique", "workload", "metric", "before", "now", "change", "since")

_LEAST: Final = 10
"""The narrowest column of changes."""


@dataclass(frozen=True, kw_only=True)
class ChangeReport:
    """The result of comparing ``base`` with ``head``: the changes, and what could not be compared.

    ``release`` is empty where there was no release to compare with. ``refused`` are the reasons why the gate cannot
    decide, ``untold`` those why the only metric that is judged has no answer at head. ``lost`` are the values that only
    base has, of techniques that both sides have.
    """

    base: str
    head: str
    release: str
    changes: Changes
    refused: Sequence[str] = ()
    untold: Sequence[str] = ()
    lost: Sequence[Lost] = ()
    notes: Sequence[str] = ()

    @property
    def outcome(self) -> Verdict | str:
        """``worse``, ``refused``, ``untold``, ``better``, ``undecided`` or ``same``: the first that applies."""
        if self.changes.of("worse"):
            return "worse"
        if self.refused:
            return "refused"
        if self.untold:
            return "untold"
        for verdict in _MINOR:
            if self.changes.of(verdict):
                return verdict
        return "same"

    @property
    def headline(self) -> str:
        """The outcome in one line."""
        worse = self.changes.of("worse")
        if worse:
            parts = []
            if since_base := [change for change in worse if not change.since_release]:
                parts.append(f"{_count(since_base, 'change')} since {self.base}")
            if since_release := [change for change in worse if change.since_release]:
                parts.append(f"{_count(since_release, 'change')} since the release {self.release}")
            return f"Worse: {' and '.join(parts)}, at {self.head}"
        if self.refused:
            return f"Not comparable: {self.head} with {self.base}"
        if self.untold:
            return f"Cannot be told: {self.head} with {self.base}"
        removed = len(self.removed)
        without = f"; {removed} removed, and so not compared" if removed else ""
        better = self.changes.of("better")
        if better:
            return f"Better: {_count(better, 'change')} from {self.base} to {self.head}, and nothing worse{without}"
        if self.changes.of("undecided"):
            return f"Nothing worse from {self.base} to {self.head}, with some of it undecided{without}"
        return f"No change from {self.base} to {self.head}{without}"

    @property
    def removed(self) -> list[Listed]:
        """What base has and head has not, so that nothing of it was compared."""
        return [entry for entry in self.changes.listed if entry.presence == "removed"]

    @property
    def counts(self) -> str:
        """The number of comparisons by outcome, in one line."""
        gated = [change for change in self.changes.changes if change.gated]
        verdicts = Counter("accepted" if change.accepted else change.verdict for change in gated)
        parts = [
            f"{verdicts[verdict]} {verdict}"
            for verdict in ("worse", "accepted", "better", "same", "undecided")
            if verdicts[verdict]
        ]
        against = f" with {self.base}" + (f" and with the release {self.release}" if self.release else "")
        return f"{_count(gated, 'comparison')}{against}: {', '.join(parts) or 'none'}"


_MINOR: Final[tuple[Verdict, ...]] = ("better", "undecided")


def render_changes(report: ChangeReport, format_: str, *, color: bool = False, width: int = 120) -> str:
    """Return the text of a comparison in one of `FORMATS`; a table is for a terminal of ``width`` columns."""
    if format_ == "json":
        import json

        return json.dumps(_plain(report), indent=2, allow_nan=False)
    return _markdown(report) if format_ == "markdown" else _table(report, color=color, width=width)


# ------------------------------------------------------------------------------------------------ terminal


def _table(report: ChangeReport, *, color: bool, width: int) -> str:
    import click

    colours = {"worse": "red", "better": "green", "refused": "yellow", "untold": "yellow"}
    headline = printable(report.headline)
    blocks = [click.style(headline, fg=colours.get(report.outcome), bold=True) if color else headline]
    for title, rows in _tables(report):
        rows = [[printable(cell) for cell in row] for row in rows]
        blocks.append(f"{title}\n{_laid_out(rows, with_since=bool(report.release), width=width)}")
    blocks += [
        "\n".join(wrapped(lines, width)) for lines in (_listed(report.changes.listed), _remarks(report)) if lines
    ]
    return "\n\n".join([*blocks, "\n".join(wrapped([report.counts], width))])


def _laid_out(rows: Sequence[Sequence[str]], *, with_since: bool, width: int) -> str:
    """Return the lines of a table; where it is wider than the terminal, a plugin's name goes, and changes are wrapped.

    Without a release all changes are since the base, which the first line names: ``with_since`` is False.
    """
    from tabulate import tabulate

    headings, shown = _filled(rows, () if with_since else ("since",))
    changed = headings.index("change")
    for cut in (str, short) if len({row[0].partition("/")[0] for row in shown}) == 1 else (str,):
        shown = [[cut(row[0]), *row[1:]] for row in shown]
        text = tabulate(shown, headers=headings, tablefmt="simple", disable_numparse=True)
        over = max(map(len, text.splitlines())) - width
        if over <= 0:
            return text
    room = max(max(len(row[changed]) for row in shown) - over, _LEAST)
    widths = [room if column == changed else None for column in range(len(headings))]
    return tabulate(shown, headers=headings, tablefmt="simple", disable_numparse=True, maxcolwidths=widths)


# ------------------------------------------------------------------------------------------------ markdown


def _markdown(report: ChangeReport) -> str:
    from tabulate import tabulate

    parts = [f"**{markdown(report.headline)}**"]
    for title, rows in _tables(report):
        headings, filled = _filled([[markdown_cell(cell) for cell in row] for row in rows])
        table = tabulate(filled, headers=headings, tablefmt="github", disable_numparse=True)
        if title.startswith("worse:"):
            parts.append(table)
        else:
            parts.append(f"<details><summary>{title}</summary>\n\n{table}\n\n</details>")
    if new := _listed([entry for entry in report.changes.listed if entry.presence == "new"]):
        lines = "\n".join(f"- {markdown(line)}" for line in new)
        parts.append(f"<details><summary>{len(new)} new</summary>\n\n{lines}\n\n</details>")
    told_last = [report.counts, *_listed(report.removed), *_remarks(report)]
    parts.append("\n".join(f"- {markdown(line)}" for line in told_last))
    return "\n\n".join(parts)


# -------------------------------------------------------------------------------------------- shared parts


def _filled(rows: Sequence[Sequence[str]], without: Collection[str] = ()) -> tuple[list[str], list[list[str]]]:
    """Return the headings and cells of the columns in which a row has anything; times have no value before and now."""
    kept = [place for place, name in enumerate(_HEADINGS) if name not in without and any(row[place] for row in rows)]
    return [_HEADINGS[place] for place in kept], [[row[place] for place in kept] for row in rows]


def _tables(report: ChangeReport) -> list[tuple[str, list[list[str]]]]:
    """Return title and rows of the changes: worse, better, undecided, and those that are shown but not gated."""
    tables = []
    for verdict in ("worse", *_MINOR):
        changes = sorted(report.changes.of(verdict), key=size_in_margins, reverse=True)
        if changes:
            tables.append((f"{verdict}: {len(changes)}", _rows(changes, report)))
    if accepted := [change for change in report.changes.changes if change.accepted]:
        tables.append((f"worse, and accepted: {len(accepted)}", _rows(accepted, report)))
    shown = [change for change in report.changes.changes if not change.gated and change.difference is not None]
    if shown:
        shown.sort(key=size_in_margins, reverse=True)
        tables.append((f"times, measured apart and so not judged: {len(shown)}", _rows(shown, report)))
    return tables


def size_in_margins(change: Change) -> float:
    """Return the size of a change in margins of its metric; infinity for a failure."""
    if change.kind == "status":
        return float("inf")
    return abs(change.difference.value) / (change.margin or 1.0) if change.difference else 0.0


def _rows(changes: Sequence[Change], report: ChangeReport) -> list[list[str]]:
    rows = [_row(change, report) for change in changes[:LONGEST]]
    if len(changes) > LONGEST:
        rows.append([f"... and {len(changes) - LONGEST} more", *[""] * (len(_HEADINGS) - 1)])
    return rows


def _row(change: Change, report: ChangeReport) -> list[str]:
    place = change.place
    since = report.release if change.since_release else report.base
    if change.kind == "status":
        what = change.reason
        return [place.technique, short(place.workload), "", "", "", what, since]
    values = [_value(value, change) for value in (change.reference, change.head)]
    text = difference_text(change)
    if change.verdict == "undecided" and change.gated and change.reason:
        text += f" ({change.reason})"
    return [place.technique, short(place.workload), change.metric, *values, text, since]


def _value(value: float | None, change: Change) -> str:
    if value is None:
        return ""
    if change.unit == "B":
        return units.size(value)
    return units.count(value) if change.kind == "exact" else units.significant(value, 4)


def told(change: Change) -> str:
    """Return a change in one line: the values before and now, and the difference."""
    values = [_value(value, change) for value in (change.reference, change.head)]
    parts = [f"{' to '.join(values)}," if all(values) else "", difference_text(change) or change.reason]
    return " ".join(filter(None, parts))


def difference_text(change: Change) -> str:
    """Return '+10.2 % [+8.1, +12.3]' for a relative change, '-5.1 points [-6.0, -4.2]' for another."""
    estimate = change.difference
    if estimate is None:
        return ""
    scale, unit = (100.0, " %") if change.relative else (1.0, " points" if change.unit == "%" else f" {change.unit}")
    places = 1 if change.relative or change.unit == "%" else units.decimals([], [change.margin or estimate.value])
    bounds = ""
    if estimate.low is not None and estimate.high is not None and estimate.low != estimate.high:
        low, high = (units.fixed(bound * scale, places, signed=True) for bound in (estimate.low, estimate.high))
        bounds = f" [{low}, {high}]"
    return f"{units.fixed(estimate.value * scale, places, signed=True)}{unit.rstrip()}{bounds}"


def _listed(listed: Sequence[Listed]) -> list[str]:
    """Return a line for each of what only one side has, up to `LONGEST` of a kind."""
    lines = []
    for presence in ("new", "removed"):
        entries = [entry for entry in listed if entry.presence == presence]
        for entry in entries[:LONGEST]:
            reason = f" ({entry.reason})" if entry.reason else ""
            lines.append(f"{presence}: {entry.place.technique} on {short(entry.place.workload)}{reason}")
        if len(entries) > LONGEST:
            lines.append(f"... and {len(entries) - LONGEST} more {presence}")
    return lines


def _remarks(report: ChangeReport) -> list[str]:
    apart = [change for change in report.changes.changes if not change.gated and change.difference is None]
    lines = [f"not comparable: {line}" for line in report.refused]
    lines += [*(f"cannot be told: {line}" for line in report.untold), *lost_lines(report.lost), *report.notes]
    lines += dict.fromkeys(
        f"accepted: {change.place.technique} on {short(change.place.workload)}, {change.metric}: {change.accepted}"
        for change in report.changes.changes
        if change.accepted
    )
    if apart:
        lines.append(
            f"{_count(apart, 'time')} not comparable: measured apart; compare the commits to have them in turns"
        )
    return lines


def _count(things: Sequence[object], noun: str) -> str:
    return f"{len(things)} {noun}{'' if len(things) == 1 else 's'}"


def _plain(report: ChangeReport) -> Mapping[str, Any]:
    """Return the JSON form, with every comparison in full."""
    from harness.results.schema import encode

    return {
        "outcome": report.outcome,
        "headline": report.headline,
        "base": report.base,
        "head": report.head,
        "release": report.release,
        "changes": [encode(asdict(change)) for change in report.changes.changes],
        "listed": [encode(asdict(entry)) for entry in report.changes.listed],
        "refused": list(report.refused),
        "untold": list(report.untold),
        "lost": [asdict(value) for value in report.lost],
        "notes": [*lost_lines(report.lost), *report.notes],
    }
