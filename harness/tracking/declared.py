"""Lists what to track of a working tree: the suites with a [track] table, their techniques and workloads.

``python -m harness.tracking.declared ROOT``, with the working tree's sources on the path, prints the list as JSON. The
list comes from the sources of the tree, never from what is installed, so that a series has one name at every commit.
"""

from __future__ import annotations

import json
import sys
import tomllib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from harness.api import ENTRY_POINT_GROUP, UsageError
from harness.host import load_host, warn
from harness.streams import answering

if TYPE_CHECKING:
    from harness.host import Host


@dataclass(frozen=True, kw_only=True)
class Followed:
    """A suite that is tracked; ``quality`` is the suite's first metric, and ``unit`` that metric's unit.

    ``phases`` maps each phase that the suite's workloads run to the words for one call; ``sizes`` maps each cost that
    the seed determines to the cost's unit.
    """

    suite: str
    version: int
    workloads: tuple[str, ...]
    techniques: tuple[str, ...]
    quality: str
    unit: str
    higher_is_better: bool
    phases: Mapping[str, str]
    sizes: Mapping[str, str]


def plugin_modules(root: Path) -> dict[str, Path]:
    """Return the declaring modules of the plugins in ``root/plugins``, each with the folder to import it from."""
    modules: dict[str, Path] = {}
    for file in sorted(root.glob("plugins/*/pyproject.toml")):
        try:
            project = tomllib.loads(file.read_text(encoding="utf-8")).get("project", {})
        except tomllib.TOMLDecodeError as error:
            warn(f"{file}: not valid TOML, so its plugins are not tracked: {error}")
            continue
        for value in project.get("entry-points", {}).get(ENTRY_POINT_GROUP, {}).values():
            modules[value] = file.parent
    return modules


def followed_suites(host: Host) -> list[Followed]:
    """Return the suites with a [track] table, sorted by name; warn of a suite that cannot be read and leave it out."""
    from harness.plan import Identity, Plan
    from harness.selection import Selection
    from harness.suite import read_suite
    from harness.suite_files import has_form
    from harness.tracking.results import sizes_of

    suites = []
    for full in sorted(host.declared.suites):
        try:
            if not has_form(full, host, "track"):
                continue
            plan = Plan(read_suite(full, host, form="track"), host, Selection(), Identity(code={}, packages={}))
        except UsageError as error:
            warn(f"suite {full} is not tracked: {error.problems[0]}")
            continue
        quality = host.metrics[plan.suite.quality]
        calls = host.contracts[plan.suite.contract].spec.phases
        stepped = (contestant.problem.spec.phases for contestant in plan.contestants)
        suites.append(
            Followed(
                suite=plan.suite.id,
                version=plan.suite.version,
                workloads=plan.suite.workloads,
                techniques=tuple(dict.fromkeys(contestant.technique for contestant in plan.contestants)),
                quality=quality.id,
                unit=quality.unit,
                higher_is_better=quality.higher_is_better,
                phases={phase: calls[phase] for phases in stepped for phase in phases},
                sizes=sizes_of(plan.suite, host.metrics),
            )
        )
    return suites


def declared(root: Path) -> list[Followed]:
    """Return the suites to track in a working tree, whose sources must be on ``sys.path`` before installed ones."""
    host = load_host(list(plugin_modules(root)), entry_points=False)
    for record in host.broken:
        warn(f"plugin {record.name!r} is broken, so its techniques are not tracked: {record.cause}")
    return followed_suites(host)


if __name__ == "__main__":
    root = Path(sys.argv[1])
    sys.path[1:1] = [str(folder) for folder in plugin_modules(root).values()]
    with answering() as out:
        out.write(json.dumps([asdict(suite) for suite in declared(root)]))
