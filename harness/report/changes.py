"""Tells what changed between two runs or commits: for a terminal, a pull request, or another program."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Final

from harness.report import units
from harness.report.notes import short

if TYPE_CHECKING:
    from harness.analysis.changes import Change, Changes, Listed
    from harness.analysis.compare import Verdict

FORMATS: Final = ("table", "markdown", "json")

LONGEST: Final = 20
"""So many lines of a kind are shown; the rest is counted, and stands in the JSON form."""

_HEADINGS: Final = ("technique", "workload", "metric", "before", "now", "change", "since")


@dataclass(frozen=True, kw_only=True)
class Told:
    """A comparison ready to be told: what was compared with what, what was found, and what could not be compared.

    ``release`` is empty where there was none to compare with. ``refused`` are reasons for which the gate gives no
    answer.
    """

    base: str
    head: str
    release: str
    changes: Changes
    refused: Sequence[str] = ()
    notes: Sequence[str] = ()

    @property
    def outcome(self) -> Verdict | str:
        """``worse``, ``refused``, ``better``, ``undecided`` or ``same``: the first of these that applies."""
        if self.changes.of("worse"):
            return "worse"
        if self.refused:
            return "refused"
        for verdict in _TOLD:
            if self.changes.of(verdict):
                return verdict
        return "same"

    @property
    def headline(self) -> str:
        """The outcome in one line."""
        worse = self.changes.of("worse")
        if worse:
            parts = []
            if since_base := [one for one in worse if not one.since_release]:
                parts.append(f"{_count(since_base, 'change')} since {self.base}")
            if since_release := [one for one in worse if one.since_release]:
                parts.append(f"{_count(since_release, 'change')} since the release {self.release}")
            return f"Worse: {' and '.join(parts)}, at {self.head}"
        if self.refused:
            return f"Not comparable: {self.head} with {self.base}"
        better = self.changes.of("better")
        if better:
            return f"Better: {_count(better, 'change')} from {self.base} to {self.head}, and nothing worse"
        if self.changes.of("undecided"):
            return f"Nothing worse from {self.base} to {self.head}, with some of it undecided"
        return f"No change from {self.base} to {self.head}"

    @property
    def counts(self) -> str:
        """How many comparisons had which outcome."""
        gated = [one for one in self.changes.changes if one.gated]
        found = Counter(one.verdict for one in gated)
        parts = [
            f"{found[verdict]} {verdict}" for verdict in ("worse", "better", "same", "undecided") if found[verdict]
        ]
        against = f" with {self.base}" + (f" and with the release {self.release}" if self.release else "")
        return f"{_count(gated, 'comparison')}{against}: {', '.join(parts) or 'none'}"


_TOLD: Final[tuple[Verdict, ...]] = ("better", "undecided")


def tell(told: Told, format_: str, *, color: bool = False) -> str:
    """The text of a comparison in one of `FORMATS`."""
    if format_ == "json":
        import json

        return json.dumps(_plain(told), indent=2, allow_nan=False)
    return _markdown(told) if format_ == "markdown" else _table(told, color=color)


# ------------------------------------------------------------------------------------------------ terminal


def _table(told: Told, *, color: bool) -> str:
    import click
    from tabulate import tabulate

    colours = {"worse": "red", "better": "green", "refused": "yellow"}
    blocks = [click.style(told.headline, fg=colours.get(told.outcome), bold=True) if color else told.headline]
    for title, rows in _tables(told):
        blocks.append(f"{title}\n{tabulate(rows, headers=_HEADINGS, tablefmt='simple', disable_numparse=True)}")
    blocks += ["\n".join(lines) for lines in (_listed(told.changes.listed), _remarks(told)) if lines]
    return "\n\n".join([*blocks, told.counts])


# ------------------------------------------------------------------------------------------------ markdown


def _markdown(told: Told) -> str:
    from tabulate import tabulate

    parts = [f"**{told.headline}**"]
    for title, rows in _tables(told):
        rows = [[cell.replace("|", "\\|") for cell in row] for row in rows]
        table = tabulate(rows, headers=_HEADINGS, tablefmt="github", disable_numparse=True)
        if title.startswith("worse"):
            parts.append(table)
        else:
            parts.append(f"<details><summary>{title}</summary>\n\n{table}\n\n</details>")
    if listed := _listed(told.changes.listed):
        lines = "\n".join(f"- {line}" for line in listed)
        parts.append(f"<details><summary>{len(listed)} new or removed</summary>\n\n{lines}\n\n</details>")
    parts.append("\n".join(f"- {line}" for line in [told.counts, *_remarks(told)]))
    return "\n\n".join(parts)


# -------------------------------------------------------------------------------------------- what both tell


def _tables(told: Told) -> list[tuple[str, list[list[str]]]]:
    """Title and rows of what isn't the same: the worse, the better, the undecided, and what is shown only."""
    found = []
    for verdict in ("worse", *_TOLD):
        changes = sorted(told.changes.of(verdict), key=_size, reverse=True)
        if changes:
            found.append((f"{verdict}: {len(changes)}", _rows(changes, told)))
    shown = [one for one in told.changes.changes if not one.gated and one.difference is not None]
    if shown:
        shown.sort(key=_size, reverse=True)
        found.append((f"times, measured apart and so not judged: {len(shown)}", _rows(shown, told)))
    return found


def _size(change: Change) -> float:
    """By how many of its margins a metric changed; what fails comes first."""
    if change.kind == "status":
        return float("inf")
    return abs(change.difference.value) / (change.margin or 1.0) if change.difference else 0.0


def _rows(changes: Sequence[Change], told: Told) -> list[list[str]]:
    rows = [_row(one, told) for one in changes[:LONGEST]]
    if len(changes) > LONGEST:
        rows.append([f"... and {len(changes) - LONGEST} more", *[""] * (len(_HEADINGS) - 1)])
    return rows


def _row(change: Change, told: Told) -> list[str]:
    place = change.place
    since = told.release if change.since_release else told.base
    if change.kind == "status":
        what = change.reason
        return [place.technique, short(place.workload), "", "", "", what, since]
    values = [_value(value, change) for value in (change.reference, change.head)]
    text = _difference(change)
    if change.verdict == "undecided" and change.gated and change.reason:
        text += f" ({change.reason})"
    return [place.technique, short(place.workload), change.metric, *values, text, since]


def _value(value: float | None, change: Change) -> str:
    if value is None:
        return ""
    if change.unit == "B":
        return units.size(value)
    return units.count(value) if change.kind == "exact" else units.significant(value, 4)


def _difference(change: Change) -> str:
    """'+10.2 % [+8.1, +12.3]' of relative changes, '-5.1 [-6.0, -4.2] %' in the metric's unit of others."""
    found = change.difference
    if found is None:
        return ""
    scale, unit = (100.0, " %") if change.relative else (1.0, " points" if change.unit == "%" else f" {change.unit}")
    places = 1 if change.relative or change.unit == "%" else units.decimals([], [change.margin or found.value])
    bounds = ""
    if found.low is not None and found.high is not None and found.low != found.high:
        bounds = f" [{found.low * scale:+.{places}f}, {found.high * scale:+.{places}f}]"
    return f"{found.value * scale:+.{places}f}{unit.rstrip()}{bounds}"


def _listed(listed: Sequence[Listed]) -> list[str]:
    lines = []
    for one in listed:
        reason = f" ({one.reason})" if one.reason else ""
        lines.append(f"{one.presence}: {one.place.technique} on {short(one.place.workload)}{reason}")
    return lines


def _remarks(told: Told) -> list[str]:
    apart = [one for one in told.changes.changes if not one.gated and one.difference is None]
    lines = [f"not comparable: {line}" for line in told.refused] + list(told.notes)
    if apart:
        lines.append(
            f"{_count(apart, 'time')} not comparable: measured apart; compare the commits to have them in turns"
        )
    return lines


def _count(things: Sequence[object], noun: str) -> str:
    return f"{len(things)} {noun}{'' if len(things) == 1 else 's'}"


def _plain(told: Told) -> Mapping[str, Any]:
    """The JSON form: every comparison in full."""
    from harness.results.schema import encode

    return {
        "outcome": told.outcome,
        "headline": told.headline,
        "base": told.base,
        "head": told.head,
        "release": told.release,
        "changes": [encode(asdict(one)) for one in told.changes.changes],
        "listed": [encode(asdict(one)) for one in told.changes.listed],
        "refused": list(told.refused),
        "notes": list(told.notes),
    }
