"""Renders what a search for the commit of a change found."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from harness.api.text import printable
from harness.report.changes import told
from harness.report.layout import wrapped
from harness.report.naming import short

if TYPE_CHECKING:
    from harness.analysis.bisection import Commit, Found
    from harness.analysis.changes import Change


@dataclass(frozen=True, kw_only=True)
class Bisected:
    """The result of a search along ``line``, of which the first commit is the base and the last one head.

    ``whole`` is the change from base to head, ``change`` the one between the last commit before it and the first one
    after it; None where these cannot be compared. ``error`` is the probability that the search may err with.
    """

    whole: Change
    change: Change | None
    line: Sequence[Commit]
    found: Found
    error: float
    notes: list[str] = field(default_factory=list)

    @property
    def suspects(self) -> list[Commit]:
        """The commits of which one made the change, or most of it."""
        return [self.line[number] for number in self.found.suspects]

    @property
    def commit(self) -> Commit | None:
        """The commit that made the change; None where the search ended with several."""
        return self.suspects[0] if len(self.suspects) == 1 else None

    @property
    def is_partial(self) -> bool:
        """Whether less than half of the whole change came with the commits that were found."""
        sizes = [
            change.difference.value if change is not None and change.difference is not None else None
            for change in (self.change, self.whole)
        ]
        return sizes[0] is not None and sizes[1] is not None and abs(sizes[0]) < abs(sizes[1]) / 2

    @property
    def next_commands(self) -> list[str]:
        """The commands that show more of what was found."""
        place, metric = self.whole.place, self.whole.metric
        ends = [self.line[number].commit[:9] for number in (self.found.low, self.found.high)]
        chosen = f"--suite {place.suite} --technique {place.technique}"
        commands = [f"git show {ends[1]}" if self.commit else f"git log --first-parent {ends[0]}..{ends[1]}"]
        commands.append(f"harness compare {ends[0]} {ends[1]} {chosen} --release none")
        if self.is_partial:
            commands.append(
                f"harness compare {ends[1]} {self.line[-1].commit[:9]} {chosen} --bisect {self.whole.metric}"
            )
        if self.commit and self.whole.verdict == "worse":
            metric = (
                self.whole.metric.removesuffix("_time") + "_ratio" if self.whole.kind == "time" else self.whole.metric
            )
            commands.append(f'harness accept {ends[1]} --metric {metric} --technique {place.technique} --reason "..."')
        return commands


def render_bisected(bisected: Bisected, *, as_json: bool, width: int = 120) -> str:
    """Return what a search found, for a terminal of ``width`` columns or as JSON."""
    if as_json:
        return json.dumps(_plain(bisected), indent=2, allow_nan=False)
    return "\n".join(wrapped([printable(line) for line in _lines(bisected)], width))


def _lines(bisected: Bisected) -> list[str]:
    whole, line = bisected.whole, bisected.line
    what = f"{whole.metric} of {whole.place.technique} on {short(whole.place.workload)}"
    if bisected.commit:
        lines = [f"{what} changed at {_named(bisected.commit)}"]
    else:
        lines = [f"{what} changed at one of {len(bisected.suspects)} commits, between which nothing could be told:"]
        lines += [f"  {_named(commit)}" for commit in bisected.suspects]
    ends = [line[number].commit[:9] for number in (bisected.found.low, bisected.found.high)]
    if bisected.change is not None:
        lines.append(f"from {ends[0]} to {ends[1]}: {told(bisected.change)}")
    lines.append(f"from {line[0].commit[:9]} to {line[-1].commit[:9]}: {told(whole)} ({whole.verdict})")
    if bisected.is_partial:
        lines.append("less than half of the change is in this step: it came bit by bit, or several commits made it")
    lines.append(
        f"{len(bisected.found.answers)} of the {len(line) - 2} commits between them answered, {_certainty(bisected)}"
    )
    for number, untold in bisected.found.untold.items():
        lines.append(f"not told: {line[number].commit[:9]} {line[number].subject}: {untold.reason}")
    lines += bisected.notes
    return [*lines, *(f"see: {command}" for command in bisected.next_commands)]


def _certainty(bisected: Bisected) -> str:
    """Return how sure the answers are."""
    if bisected.error:
        return f"each by times in turns; at most {100 * bisected.error:g} % of such searches name a wrong commit"
    return "each by one measurement" if bisected.whole.kind == "process" else "each by a value that its code determines"


def _named(commit: Commit) -> str:
    return f"{commit.commit[:9]} {commit.subject} ({commit.author}, {commit.date[:10]})"


def _plain(bisected: Bisected) -> dict[str, Any]:
    """Return the JSON form."""
    from harness.results.schema import encode

    found = bisected.found
    asked = {number: {"answer": answer, "reason": ""} for number, answer in found.answers.items()}
    asked |= {number: {"answer": "untold", "reason": untold.reason} for number, untold in found.untold.items()}
    place = asdict(bisected.whole.place)
    return {
        **place,
        "metric": bisected.whole.metric,
        "base": asdict(bisected.line[0]),
        "head": asdict(bisected.line[-1]),
        "commit": asdict(bisected.commit) if bisected.commit else None,
        "suspects": [asdict(commit) for commit in bisected.suspects],
        "change": encode(asdict(bisected.change)) if bisected.change else None,
        "whole": encode(asdict(bisected.whole)),
        "asked": [{**asdict(bisected.line[number]), **told_of} for number, told_of in asked.items()],
        "error": bisected.error,
        "notes": list(bisected.notes),
        "commands": bisected.next_commands,
    }
