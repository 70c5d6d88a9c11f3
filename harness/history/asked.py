"""Finds the names that a user asked a history for and that nothing has, each with the nearest that there is."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from harness.api import nearest
from harness.history import decisions as decided
from harness.history.decisions import Accepted, Decisions
from harness.history.following import Origin
from harness.history.series import Wanted, read
from harness.results.points import RATIO

KINDS: Final = ("metric", "suite", "technique", "workload")

_ALL: Final = ("", "*")
_TIME: Final = "_time"
_LISTED: Final = 8
"""The largest number of names that a line lists where none is near; the others are counted."""

Names = Mapping[str, Iterable[str]]
"""The names of each of `KINDS`."""


@dataclass(frozen=True, kw_only=True)
class Misnamed:
    """What is wrong with a name of a kind, and whether it is a slip: a known one is near, or it is a metric's.

    Another name may be one of a suite's file, or of a plugin that is not installed here.
    """

    kind: str
    text: str
    is_slip: bool


def measured_names(origin: Origin) -> dict[str, set[str]]:
    """Return the names of what the runs of an origin measured: the present ones, where a project renamed something."""
    decisions = decided.read(decided.find(origin.folder))
    found: dict[str, set[str]] = {kind: set() for kind in KINDS}
    for source in read(origin.stores, origin.project, Wanted(metric="*"), decisions):
        found["metric"].add(source.point.metric)
        found["suite"].add(decisions.present("suite", source.run.suite))
        found["technique"].add(decisions.present("technique", source.point.technique))
        found["workload"].add(decisions.present("workload", source.point.workload))
    return found


def with_ratios(metrics: Iterable[str]) -> set[str]:
    """Return metrics, and of each time the ratio to the baseline's that a history shows."""
    names = set(metrics)
    return names | {f"{name.removesuffix(_TIME)}{RATIO}" for name in names if name.endswith(_TIME)}


def former_names(entry: Accepted, decisions: Decisions) -> list[str]:
    """Return the present name for each former one in an accepted change, which counts by present names alone."""
    names = {kind: getattr(entry, kind) for kind in decided.KINDS}
    present = {kind: decisions.present(kind, name) for kind, name in names.items()}
    return [f"{kind} {name!r} is {present[kind]!r} now" for kind, name in names.items() if present[kind] != name]


def misnamed(wanted: Wanted | Accepted, known: Names) -> list[Misnamed]:
    """Return the globs of a user that no known name fits; a name may pin values, as in ``nf4:block=32``."""
    wrong = []
    for kind in KINDS:
        pattern, names = getattr(wanted, kind), sorted(known[kind])
        if pattern not in _ALL and not any(_fits(pattern, name) for name in names):
            near = nearest(pattern, names)
            text = f"no {kind} {pattern!r}{near or _there_are(names)}"
            wrong.append(Misnamed(kind=kind, text=text, is_slip=bool(near) or kind == "metric"))
    return wrong


def _fits(pattern: str, name: str) -> bool:
    return decided.fits(pattern, name) or decided.fits(pattern.partition(":")[0], name)


def _there_are(names: Sequence[str]) -> str:
    others = f" and {len(names) - _LISTED} more" if len(names) > _LISTED else ""
    return f"; there are: {', '.join(names[:_LISTED]) or 'none'}{others}"
