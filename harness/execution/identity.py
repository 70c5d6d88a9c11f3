"""Refuses to resume a run under other code or packages, which would mix two versions in one table."""

from __future__ import annotations

import shlex
from collections import ChainMap
from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from harness.api import Json, Row, RunInfo, Suite, UsageError
from harness.plan import Plan, files_of
from harness.results.commands import command, options_of

_FACTS: Final = ("python", "cpu", "gpu")


def check_same_code(
    plan: Plan, info: RunInfo, rows: Iterable[Row], environment: Mapping[str, Json], offered: Collection[str] = ()
) -> None:
    """Raise UsageError where a stored row would have another key today: its code, packages or machine changed.

    Rows of cases that the plan no longer has, such as those of a removed technique, count as changed too. ``offered``
    are the files of the suites that plugins offer, which a command may name by their id.
    """
    contestants = {(contestant.technique, contestant.workload): contestant for contestant in plan.contestants}
    changed: dict[str, str] = {}
    for row in rows:
        case = row.case
        contestant = contestants.get((case.technique, case.workload))
        now = plan.case_like(contestant, case) if contestant else case
        if contestant is None or now.key != case.key:
            name = f"{case.technique} on {case.workload}"
            files = files_of(now, contestant) if contestant and replace(now, key=case.key) == case else {}
            held = " or ".join(f"{what} {str(path)!r}" for (_, what), path in files.items())
            changed[name] = f"what is in {held}" if held else f"the code or settings of {name}"
    if not changed:
        return
    reasons = list(differences(info.environment, environment, _FACTS)) or [next(iter(changed.values()))]
    raise UsageError(
        f"run {info.id} cannot be resumed: what computes its results has changed since: {'; '.join(reasons)}",
        f"the stored rows of {len(changed)} of {len(contestants)} contestants would be mixed with new ones",
        "restore what has changed, or start another: "
        + command(info, f"run --suite {_name_of(info.suite, offered)} {_source_of(plan)}".strip()),
    )


def _source_of(plan: Plan) -> str:
    """Return the options of a command that name the user's own model and data; empty where there are none."""
    tasks = [contestant.problem.spec.task for contestant in plan.contestants]
    return options_of(plan.suite.settings, tasks[0]) if plan.on_source else ""


def _name_of(suite: Suite, offered: Collection[str]) -> str:
    """Return what ``--suite`` takes for a suite: its id, or its file where no plugin offers that."""
    is_own = suite.source not in offered and Path(suite.source).is_file()
    return shlex.quote(suite.source) if is_own else suite.id


def differences(before: Mapping[str, Any], now: Mapping[str, Any], facts: Iterable[str]) -> Iterable[str]:
    """Yield a text for each of the facts, version, also of what parts require, and digest of code that differs."""
    for name in facts:
        if before.get(name) != now.get(name):
            yield name
    old, new = (_versions(facts) for facts in (before, now))
    for name in sorted({*old, *new}):
        if old.get(name) != new.get(name):
            yield f"{name} {old.get(name, 'not installed')}, now {new.get(name, 'not installed')}"
    old, new = (mapping(facts.get("code")) for facts in (before, now))
    for name in sorted({*old, *new}):
        if mapping(old.get(name)).get("digest") != mapping(new.get(name)).get("digest"):
            yield f"the code of {name}"


def _versions(facts: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the versions of the packages that all cases and that single parts use."""
    parts = mapping(facts.get("requirements")).values()
    return dict(ChainMap(*(dict(mapping(versions)) for versions in (facts.get("packages"), *parts))))


def mapping(value: object) -> Mapping[str, Any]:
    """Return a mapping as it is, and an empty one for any other value."""
    return value if isinstance(value, Mapping) else {}
