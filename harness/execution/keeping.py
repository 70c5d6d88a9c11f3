"""Evaluates stored cases once more, to keep what they train: the same seeds, and so the same figures and adapters."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from harness.api import ExecutorOptions, Limits, Reply, Row, Unit, UsageError
from harness.execution.executors.local import LocalExecutor
from harness.host import Host

LIMIT_S: Final = 3600.0
"""Seconds after which a case is terminated."""

_KEY: Final = re.compile(r"[0-9a-f]+")
NOT_SAVED: Final = "not saved: "
"""How a judge's note begins that says why nothing was kept."""

SAVED: Final = "saved: "
"""How a judge's note begins that says what has to be known to use what was kept."""


@dataclass(frozen=True, kw_only=True)
class Saved:
    """What became of a row's case: the ``folder`` of its files, or ``why_not``; ``wrong`` where it went wrong.

    ``remark`` is what has to be known to use the files.
    """

    row: Row
    folder: Path | None = None
    remark: str = ""
    why_not: str = ""
    wrong: bool = False


def first_finals(rows: Sequence[Row], pattern: str) -> list[Row]:
    """Return the row of quality of the first seed of each technique that matches, with the values that it was tuned to.

    Raises UsageError where there is none.
    """
    found: dict[tuple[str, str], Row] = {}
    final = {(row.case.workload, row.case.technique): row.case.tuned for row in rows if row.case.stage == "final"}
    for row in rows:
        case = row.case
        name = case.workload, case.technique
        if not row.ok or case.lane != "accuracy" or case.perturbed or case.tuned != final.get(name, case.tuned):
            continue
        earlier = found.get(name)
        if fnmatchcase(case.technique, pattern) and (earlier is None or case.seed < earlier.case.seed):
            found[name] = row
    if not found:
        raise UsageError(f"--technique {pattern!r}: the run has no results of such a technique")
    return list(found.values())


def saved(host: Host, rows: Sequence[Row], folder: Path, cache: Path) -> Iterator[Saved]:
    """Evaluate the cases of rows, one after the other, and yield where each has left its files, within ``folder``.

    Files are copied only where the case has given the figures of its row again.
    """
    with TemporaryDirectory(prefix="harness-keep-") as place:
        for row in rows:
            if not _KEY.fullmatch(row.case.key):
                raise UsageError(f"the key {row.case.key!r} of a row: expected hexadecimal digits")
            yield _saved(row, folder, _options(host, row, Path(place), cache))


def _options(host: Host, row: Row, keep: Path, cache: Path) -> ExecutorOptions:
    case = row.case
    return ExecutorOptions(
        jobs=1,
        limits=Limits(time_s=LIMIT_S),
        cache=cache,
        preload=[case.workload_target.partition(":")[0]],
        techniques={case.technique.partition("/")[0]: [case.technique_target.partition(":")[0]]},
        rounds=1,
        device=case.device,
        protocol=host.contracts[host.resolve("contracts", case.contract)].spec.protocol,
        keep=keep,
    )


def _saved(row: Row, folder: Path, options: ExecutorOptions) -> Saved:
    executor = LocalExecutor(options)
    try:
        executor.submit(Unit(cases=(replace(row.case, stacked=False),)))
        ((_, (reply,)),) = executor.wait()
    finally:
        executor.close()
    if reply.status != "ok":
        return Saved(row=row, why_not=f"{reply.status}: {reply.reason}", wrong=True)
    differs = [name for name, value in row.reply.metrics.items() if reply.metrics.get(name) != value]
    if differs:
        name = differs[0]
        why = f"{name} is now {reply.metrics.get(name)}, in the run it is {row.reply.metrics[name]}"
        return Saved(row=row, why_not=f"{why}; the code, a library, the model or the data have changed", wrong=True)
    if refused := _told(reply, NOT_SAVED):
        return Saved(row=row, why_not=refused)
    assert options.keep is not None
    kept = options.keep / row.case.key
    if not kept.is_dir():
        return Saved(row=row, why_not="its workload keeps no files")
    target = folder / f"{row.case.technique.replace('/', '-')}-seed{row.case.seed}"
    target.mkdir(parents=True, exist_ok=True)
    for path in sorted(kept.iterdir()):
        if path.is_file() and not path.is_symlink():  # plain files only: nothing of a case leads elsewhere
            shutil.copyfile(path, target / path.name)
    return Saved(row=row, folder=target, remark=_told(reply, SAVED))


def _told(reply: Reply, start: str) -> str:
    """Return what follows in the note that begins so; empty where there is none."""
    return next((note.removeprefix(start) for note in reply.notes if note.startswith(start)), "")
