"""Refuses to resume a run under other code or packages, which would mix two versions in one table."""

from __future__ import annotations

import shlex
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any, Final

from harness.api import Json, Row, RunInfo, Suite, UsageError
from harness.plan import Plan
from harness.results.commands import command

_FACTS: Final = ("python", "cpu", "gpu")


def check_same_code(
    plan: Plan, info: RunInfo, rows: Iterable[Row], environment: Mapping[str, Json], offered: Collection[str] = ()
) -> None:
    """Raise UsageError where a stored row would have another key today: its code, packages or machine changed.

    Rows of cases that the plan no longer has, such as those of a removed technique, count as changed too. ``offered``
    are the files of the suites that plugins offer, which a command may name by their id.
    """
    contestants = {(contestant.technique, contestant.workload): contestant for contestant in plan.contestants}
    changed: dict[str, None] = {}
    for row in rows:
        case = row.case
        contestant = contestants.get((case.technique, case.workload))
        if contestant is None or plan.case_like(contestant, case).key != case.key:
            changed[f"{case.technique} on {case.workload}"] = None
    if not changed:
        return
    reasons = list(_differences(info.environment, environment)) or [f"the code or settings of {next(iter(changed))}"]
    raise UsageError(
        f"run {info.id} cannot be resumed: what computes its results has changed since: {'; '.join(reasons)}",
        f"the stored rows of {len(changed)} of {len(contestants)} contestants would be mixed with new ones",
        "restore the code and packages of the run, or start another: "
        + command(info, f"run --suite {_name_of(info.suite, offered)}"),
    )


def _name_of(suite: Suite, offered: Collection[str]) -> str:
    """Return what ``--suite`` takes for a suite: its id, or its file where no plugin offers that."""
    is_own = suite.source not in offered and Path(suite.source).is_file()
    return shlex.quote(suite.source) if is_own else suite.id


def _differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> Iterable[str]:
    """Yield a text for each version, device and digest of code that differs."""
    for name in _FACTS:
        if before.get(name) != now.get(name):
            yield name
    old, new = (mapping(facts.get("packages")) for facts in (before, now))
    for name in sorted({*old, *new}):
        if old.get(name) != new.get(name):
            yield f"{name} {old.get(name, 'not installed')}, now {new.get(name, 'not installed')}"
    old, new = (mapping(facts.get("code")) for facts in (before, now))
    for name in sorted({*old, *new}):
        if mapping(old.get(name)).get("digest") != mapping(new.get(name)).get("digest"):
            yield f"the code of {name}"


def mapping(value: object) -> Mapping[str, Any]:
    """Return a mapping as it is, and an empty one for any other value."""
    return value if isinstance(value, Mapping) else {}
