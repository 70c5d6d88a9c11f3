"""Brings the runs of one store into another one, where no result may be lost and none may count twice."""

from __future__ import annotations

import errno
import json
import math
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Final

from harness.api import Row, RunInfo, UsageError
from harness.results.comparisons import COMPARISONS
from harness.results.files import sweep, sync_folder
from harness.results.reading import contents, read_rows
from harness.results.rewriting import rewrite
from harness.results.store import Store, latest
from harness.results.writer import NAME_FILE, ROWS_FILE, RUN_FILE, RUNS, replace_file

_SHOWN: Final = 3
"""How many conflicting rows of a run are told one by one."""


@dataclass(frozen=True, kw_only=True)
class Brought:
    """What became of a run: whether it is new in the store, how many rows it got and how many it had already.

    ``problems`` are lines that say what was left out, and why: the run itself, its name, or rows of the same key with
    other numbers.
    """

    run: str
    is_new: bool = False
    added: int = 0
    known: int = 0
    problems: Sequence[str] = ()


def require_store(path: Path) -> Store:
    """Return the store of a folder. Raises `UsageError` where the folder is none."""
    if not (path / RUNS).is_dir():
        raise UsageError(
            f"{path} is no store; expected a folder that has a folder {RUNS}",
            "name a store, such as .harness",
        )
    return Store(path)


def bring(source: Store, target: Store) -> Iterator[Brought]:
    """Bring each run of a store into another one, and yield what became of it; the comparisons of commits come last.

    A run that is new appears in one step. A run that both have gets the rows of the cases that it lacks. What can't be
    read, or contradicts what is there, is left out and told. Nothing is removed from either, and whatever was brought
    when the process is killed is complete: the next call brings the rest. Raises `UsageError` for a store and itself,
    and where ``target`` can't be written.
    """
    if source.path.resolve() == target.path.resolve():
        raise UsageError(f"{source.path} and {target.path} are one store; expected two")
    for run in source.ids():
        yield _tried(run, target, partial(_brought, source, target, run))
    for run in source.misplaced():
        yield Brought(run=run, problems=[_misplaced(source, run)])
    for file in sorted((source.path / COMPARISONS).glob("*.json")):
        found = _tried(f"{COMPARISONS}/{file.name}", target, partial(_comparison, file, target))
        if found.problems:
            yield found


def _tried(name: str, target: Store, step: Callable[[], Brought]) -> Brought:
    """Return what a step has brought, or why it could not. Raises `UsageError` where the target can't be written."""
    try:
        return step()
    except UsageError as error:
        return Brought(run=name, problems=[error.problems[0]])
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EROFS):
            raise UsageError(
                f"cannot write to {target.path}: {error.strerror}; {name} and what comes after it are left out",
                "free disk space or choose another store, then repeat the command",
            ) from error
        return Brought(run=name, problems=[f"cannot be copied: {error.strerror}"])


def _brought(source: Store, target: Store, run: str) -> Brought:
    """Bring a run, which may be new or not."""
    place = target.folder(run)
    if place.is_dir():
        return _united(source, target, run)
    if place.exists() or place.is_symlink():
        raise UsageError(_misplaced(target, run))
    return _copied(source, target, run)


def _misplaced(store: Store, run: str) -> str:
    return f"{store.folder(run)} is no folder: a file, or a link to what is not there"


def _copied(source: Store, target: Store, run: str) -> Brought:
    """Copy a run that is new: its complete lines byte for byte, in a draft that is then renamed."""
    folder = source.folder(run)
    data = contents(folder / ROWS_FILE)
    header = contents(folder / RUN_FILE)
    info, environments = source.load(run)
    rows, complete = read_rows(data, folder / ROWS_FILE, environments)
    runs = target.path / RUNS
    is_first = not runs.exists()
    runs.mkdir(parents=True, exist_ok=True)
    if is_first and {entry.name for entry in target.path.iterdir()} == {RUNS}:
        (target.path / ".gitignore").write_text("*\n", encoding="utf-8")
    draft = Path(tempfile.mkdtemp(prefix=".new-", dir=runs))
    sweep(runs, ".new-*", draft)
    problems = []
    try:
        draft.chmod(0o755)
        replace_file(draft, ROWS_FILE, data[:complete])
        replace_file(draft, RUN_FILE, header)
        if info.name and target.named(info.name):
            problems.append(f"the name {info.name} is that of another run here, and was left out")
        elif info.name:
            replace_file(draft, NAME_FILE, f"{info.name}\n".encode("ascii"))
        draft.rename(target.folder(run))
        sync_folder(runs)
    except BaseException:
        shutil.rmtree(draft, ignore_errors=True)
        raise
    return Brought(run=run, is_new=True, added=len(latest(rows)), problems=problems)


@dataclass(frozen=True, kw_only=True)
class _Union:
    """The rows of a run in two stores, compared case by case."""

    added: Sequence[Row]
    known: int
    conflicts: Sequence[str]


def _united(source: Store, target: Store, run: str) -> Brought:
    """Add to a run that both stores have the rows of the cases that it lacks, and its end where it has none."""
    theirs, ours = source.read(run), target.read(run)
    _require_like(source, target, run)
    found = _compared(ours.rows, theirs.rows)
    ends = theirs.info.finished and not ours.info.finished and _goes_on(ours.rows, theirs.rows, found)
    if not found.added and not ends:
        return Brought(run=run, known=found.known, problems=_told(found.conflicts))
    united = []

    def change(info: RunInfo, rows: Sequence[Row]) -> tuple[RunInfo, Sequence[Row]]:
        found = _compared(latest(rows), theirs.rows)  # again, as no other process writes the run now
        united.append(found)
        if _goes_on(latest(rows), theirs.rows, found):  # its environment stays that which stored rows refer to
            info = replace(theirs.info, folder=info.folder, name=info.name, environment=info.environment)
        return info, [*rows, *found.added]

    rewrite(target, run, change)
    (found,) = united
    return Brought(run=run, added=len(found.added), known=found.known, problems=_told(found.conflicts))


def _compared(ours: Iterable[Row], theirs: Iterable[Row]) -> _Union:
    """Return which rows of theirs are new, known and in conflict. One that is ok takes the place of one that failed."""
    known = {row.case.key: row for row in ours}
    added: list[Row] = []
    conflicts: list[str] = []
    same = 0
    for row in theirs:
        own = known.get(row.case.key)
        if own is None or (row.ok and not own.ok):
            added.append(row)
        elif row.ok and not _equal(own, row):
            conflicts.append(_conflict(own, row))
        else:
            same += 1
    return _Union(added=added, known=same, conflicts=conflicts)


def _goes_on(ours: Iterable[Row], theirs: Iterable[Row], found: _Union) -> bool:
    """Return whether a run went on in the other store: it has all rows of ours, and none that failed in their place."""
    ok = {row.case.key: row.ok for row in theirs}
    return not found.conflicts and all(row.case.key in ok and ok[row.case.key] >= row.ok for row in ours)


def _equal(one: Row, other: Row) -> bool:
    """Return whether two rows of a case have the same numbers."""
    ours, theirs = one.reply.metrics, other.reply.metrics
    return ours.keys() == theirs.keys() and all(_same(value, theirs[name]) for name, value in ours.items())


def _same(one: float, other: float) -> bool:
    return one == other or (math.isnan(one) and math.isnan(other))


def _conflict(own: Row, other: Row) -> str:
    """Return a line about two rows of one case that have other numbers."""
    case, ours, theirs = own.case, own.reply.metrics, other.reply.metrics
    differing = [name for name in {**ours, **theirs} if not _same(ours.get(name, math.nan), theirs.get(name, math.nan))]
    name = next(iter(differing or {**ours, **theirs}))
    values = " here and ".join(f"{metrics[name]:g}" if name in metrics else "none" for metrics in (ours, theirs))
    return f"{case.technique} on {case.workload}, seed {case.seed}, key {case.key}: {name} is {values} there"


def _told(conflicts: Sequence[str]) -> list[str]:
    """Return the lines about conflicts: some in full, then how many more there are."""
    more = len(conflicts) - _SHOWN
    return [*conflicts[:_SHOWN], *([f"and {more} more rows that differ"] if more > 0 else [])]


def _require_like(source: Store, target: Store, run: str) -> None:
    """Raise `UsageError` where a run is another one in each store, or is stored with another schema."""
    (ours, own), (theirs, other) = (_facts(store, run) for store in (target, source))
    for name, here in ours.items():
        if here != theirs[name]:
            raise UsageError(f"is another run here: its {name} is {here} here and {theirs[name]} there")
    if own != other:
        raise UsageError(
            f"is stored with schema {_versions(own)} here and {_versions(other)} there; "
            "bring both to one: harness store compact"
        )


def _facts(store: Store, run: str) -> tuple[dict[str, str], frozenset[object]]:
    """Return what makes a run the same in two stores, and the schemas of its header and its rows."""
    info = store.info(run)
    facts = {"suite": f"{info.suite.id} v{info.suite.version} ({info.suite.form})", "start": info.started}
    folder = store.folder(run)
    lines = [contents(folder / RUN_FILE), *contents(folder / ROWS_FILE).splitlines()]
    return facts, frozenset(_schema_of(line) for line in lines) - {None}


def _schema_of(line: bytes) -> object:
    """Return the schema that an object states; None for the incomplete last line."""
    try:
        return json.loads(line).get("schema")
    except (ValueError, AttributeError, RecursionError):
        return None


def _versions(schemas: Iterable[object]) -> str:
    return " and ".join(sorted(map(str, schemas)))


def _comparison(file: Path, target: Store) -> Brought:
    """Copy what the gate found of a pair of commits; where the target has another finding, it is kept and told."""
    name = f"{COMPARISONS}/{file.name}"
    data = contents(file)
    kept = target.path / COMPARISONS / file.name
    if not kept.exists():
        kept.parent.mkdir(parents=True, exist_ok=True)
        replace_file(kept.parent, kept.name, data)
    elif contents(kept) != data:
        return Brought(run=name, problems=["differs from what is here, which is kept"])
    return Brought(run=name)
