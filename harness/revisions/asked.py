"""Asks the harness of a revision what it offers: its options, metrics, suites, and which of its plugins are broken."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final

from harness.api import DISTRIBUTION, Metric, UsageError
from harness.host import matches
from harness.revisions.commits import Installed, distributions_in, normalised

NEEDED: Final = ("--track", "--lane")
"""The options of ``harness run`` that a revision must have to be compared."""


def start_failure(installed: Installed) -> str:
    """Return why a revision's harness does not start; an empty string where the harness starts."""
    done = installed.run("list", "metrics")
    return f"its harness does not start: {last_line(done.stderr)}" if done.returncode else ""


def too_old(installed: Installed) -> str:
    """Return which options a revision's harness lacks for a comparison; an empty string where none is missing."""
    text = installed.run("run", "--help").stdout
    missing = [option for option in NEEDED if option not in text]
    return f"its harness run has no {' and no '.join(missing)} yet, so it cannot be compared" if missing else ""


def metrics_of(installed: Installed) -> dict[str, Metric]:
    """Return the metrics of a revision, by their ids."""
    return {
        entry["id"]: Metric(
            id=entry["id"],
            unit=entry["unit"],
            higher_is_better=entry["higher_is_better"],
            summary=entry["summary"],
            lane=entry["lane"],
        )
        for entry in listed(installed, "list", "metrics")
    }


def listed(installed: Installed, *command: str) -> list[dict[str, Any]]:
    """Return the entries that a command of a revision prints as JSON; raise UsageError where the command fails."""
    done = installed.run(*command, "--json")
    if done.returncode:
        raise UsageError(f"{installed.revision.label}: harness {' '.join(command)} fails: {last_line(done.stderr)}")
    entries: list[dict[str, Any]] = json.loads(done.stdout)
    return entries


def tracked_suites(installed: Installed) -> dict[str, tuple[str, ...]]:
    """Return the tracked suites that a revision's project has a part in, each with the globs of its techniques there.

    In the project of the harness these are all suites; in another, those that have a technique, a workload or the file
    of one of its plugins. No globs mean all techniques: where the project has the file or a workload, all are its
    concern.
    """
    tracked = [entry for entry in listed(installed, "list", "suites") if entry.get("track")]
    names = distributions_in(installed.source)
    if DISTRIBUTION in names:
        return {entry["id"]: () for entry in tracked}
    own = {entry["name"] for entry in listed(installed, "plugins") if normalised(entry["distribution"]) in names}
    found: dict[str, tuple[str, ...]] = {}
    for entry in tracked:
        techniques, workloads = (_plugins_of(entry[kind]) for kind in ("techniques", "workloads"))
        if entry["plugin"] in own or workloads & own:
            found[entry["id"]] = ()
        elif techniques & own:
            found[entry["id"]] = tuple(f"{plugin}/*" for plugin in sorted(techniques & own))
    return found


def technique_names(installed: Installed) -> list[str]:
    """Return the full names of a revision's techniques; raise UsageError where it cannot list them."""
    return [str(entry["id"]) for entry in listed(installed, "list", "techniques")]


def chosen_among(names: Sequence[str], globs: Iterable[str], present: Callable[[str], str]) -> tuple[str, ...]:
    """Return what chooses the techniques of ``globs`` at a revision that has the techniques ``names``.

    These are the globs that match a name, and the names whose present name, which ``present`` gives, is matched.
    """
    wanted = {glob: glob.partition(":")[0] for glob in globs}  # a glob may pin values
    own = [glob for glob, pattern in wanted.items() if any(matches(pattern, name) for name in names)]
    former = [
        name
        for name in names
        if present(name) != name and any(matches(pattern, present(name)) for pattern in wanted.values())
    ]
    return tuple(dict.fromkeys([*own, *former]))


def _plugins_of(names: Iterable[str]) -> set[str]:
    """Return the plugins of techniques or workloads with these full names."""
    return {name.partition("/")[0] for name in names}


def broken_plugins(installed: Installed) -> dict[str, str]:
    """Return why each broken plugin of a revision is broken, by the plugin's name; empty where it cannot tell."""
    try:
        plugins = listed(installed, "plugins")
    except UsageError:
        return {}
    return {entry["name"]: entry.get("cause", "") for entry in plugins if entry.get("status") == "broken"}


def with_broken(text: str, broken: Mapping[str, str]) -> str:
    """Return the reason of a failure, followed by why plugins are broken, which may be the cause of the failure."""
    return "; ".join([text, *(f"plugin {name!r} is broken: {cause}" for name, cause in broken.items())])


def last_line(text: str) -> str:
    """Return the last line of a command's error output, which names the error."""
    lines = [line.removeprefix("harness: error: ") for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else "no reason given"
