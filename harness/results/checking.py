"""Reads every file of a store, and tells what is damaged, what is left over, and what compacting would make smaller."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from harness.api import UsageError
from harness.results.reading import contents, read_flat
from harness.results.schema import SCHEMA
from harness.results.store import DELETED, Store
from harness.results.writer import ROWS_FILE, RUN_FILE, RUNS

_LEFT_OVER: Final = (".new-*", f"{DELETED}*", f"*/.{ROWS_FILE}.*", f"*/.{RUN_FILE}.*")
"""What a process that was killed may leave among the runs; the next one that writes removes it after a day."""


@dataclass(frozen=True, kw_only=True)
class Checked:
    """A run as found: how many rows count, why it cannot be read, and remarks on what is in order but not compact."""

    run: str
    rows: int = 0
    problem: str = ""
    remarks: tuple[str, ...] = ()


def check(store: Store) -> Iterator[Checked]:
    """Yield what is found of each run, of what is in the place of one, and of each folder that cannot be one."""
    for run in store.ids():
        found = _checked(store, run)
        if not found.problem or store.folder(run).is_dir():  # else it was deleted meanwhile
            yield found
    for name in store.misplaced():
        yield Checked(run=name, problem="is no folder: a file, or a link to what is not there")
    for name in store.strangers():
        yield Checked(run=ascii(name), problem="is a folder with a name that no run can have: rename or remove it")


def left_over(store: Store) -> list[Path]:
    """Return what killed processes left among the runs, which no command reads."""
    return sorted(path for pattern in _LEFT_OVER for path in (store.path / RUNS).glob(pattern))


def _checked(store: Store, run: str) -> Checked:
    path = store.folder(run) / ROWS_FILE
    try:
        data = contents(path)
        _, environments = store.load(run)
        flats, complete = read_flat(data, path, environments)
    except UsageError as error:
        return Checked(run=run, problem=error.problems[0])
    rows = len({flat["key"] for flat in flats})
    schemas = [json.loads(line)["schema"] for line in data[:complete].splitlines()]
    earlier = sum(schema != SCHEMA for schema in schemas)
    remarks = {
        "its last line is incomplete, and left out: a run that goes on, or a power failure": complete < len(data),
        f"{len(flats) - rows} rows were replaced by later ones": len(flats) > rows,
        f"{earlier} rows are of an earlier schema": earlier > 0,
    }
    return Checked(run=run, rows=rows, remarks=tuple(text for text, applies in remarks.items() if applies))
