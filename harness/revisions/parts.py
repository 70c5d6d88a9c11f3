"""Runs a part of a suite at a revision, or takes it from the revision's store where it has been run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from harness.api import Lane, UsageError
from harness.host import matches, warn
from harness.results.store import Store, StoredRun
from harness.revisions.asked import last_line
from harness.revisions.commits import Installed


@dataclass(frozen=True, kw_only=True)
class Part:
    """The part of a suite to run, in its tracked form.

    ``suite`` is a name, or the path of a file relative to the project. ``techniques`` are globs or names, none for all
    techniques; so are ``workloads``. ``seeds`` is the number of seeds, None for the suite's.
    """

    suite: str
    lanes: tuple[Lane, ...]
    techniques: tuple[str, ...] = ()
    workloads: tuple[str, ...] = ()
    seeds: int | None = None


def run_part(installed: Installed, part: Part) -> StoredRun | str:
    """Return the finished run of a part at a revision, stored or new; or, as text, why the part cannot be run."""
    name = str(installed.source / part.suite) if part.suite.endswith(".toml") else part.suite
    stored = stored_part(installed, part)
    if stored is not None:
        return stored
    options = [option for technique in part.techniques for option in ("--technique", technique)]
    options += [option for workload in part.workloads for option in ("--workload", workload)]
    options += [option for lane in part.lanes for option in ("--lane", lane)]
    options += ["--seeds", str(part.seeds)] if part.seeds else []
    done = installed.run("run", "--suite", name, "--track", *options, "--store", str(installed.store), "--quiet")
    if done.returncode == 130:
        raise KeyboardInterrupt
    if done.returncode not in (0, 1) or not Store(installed.store).ids():
        return last_line(done.stderr)
    return Store(installed.store).read("last")


def stored_part(installed: Installed, part: Part) -> StoredRun | None:
    """Return the latest finished run with the same choices that can be read, narrowed to the techniques; or None."""
    store = Store(installed.store)
    chosen = {"lanes": [*part.lanes], "seeds": list(range(part.seeds or 0)), "workloads": [*part.workloads]}
    techniques = list(part.techniques)
    for run in reversed(store.ids()):
        try:
            info = store.info(run)
            same = all(info.selection.get(key) == value for key, value in chosen.items())
            if (
                not same
                or info.exit_code not in (0, 1)
                or not _is_of(info.suite.id, part)
                or info.suite.form != "track"
            ):
                continue
            if (given := info.selection.get("techniques")) == techniques or not given:
                return store.read(run) if given == techniques else narrowed(store.read(run), techniques)
        except UsageError as error:
            warn(f"run {run} of {installed.revision.label} is left out: {error.problems[0]}")
    return None


def narrowed(run: StoredRun, techniques: Sequence[str]) -> StoredRun:
    """Return a run with only the rows of its baseline and of the techniques that a glob matches."""
    patterns = [run.info.suite.baseline, *techniques]
    rows = [row for row in run.rows if any(matches(pattern, row.case.technique) for pattern in patterns)]
    return replace(run, rows=tuple(rows))


def _is_of(suite: str, part: Part) -> bool:
    """Return whether a suite's id is that of a part, whose suite is given by its id or by the path of its file."""
    return suite == part.suite.rpartition("/")[2].removesuffix(".toml")
