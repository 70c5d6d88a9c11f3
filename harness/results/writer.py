"""Writes one run: its rows, each on disk before its case is reported as done, and its header."""

from __future__ import annotations

import datetime as dt
import json
import os
import shutil
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from harness.api import HarnessError, Json, Row, RunInfo
from harness.digest import short_digest
from harness.results.commands import command
from harness.results.environments import ENVIRONMENTS, Environment
from harness.results.files import sync_folder
from harness.results.schema import dump_stored, encode, run_to_json

RUNS: Final = "runs"
RUN_FILE: Final = "run.json"
ROWS_FILE: Final = "rows.jsonl"
NAME_FILE: Final = "name"
"""The name that a user gave a run: a file of its own, since the header is the writer's while the run goes on."""


@dataclass(frozen=True, kw_only=True)
class Earlier:
    """The files of a run before it was opened: its header, and the incomplete last line of its rows.

    ``environments`` are those that its rows refer to by digest.
    """

    header: bytes
    tail: bytes
    environments: Mapping[str, Environment]


class RunWriter:
    """A context manager that writes one run and holds the run's lock; see `Store.create_run` and `Store.open_run`."""

    def __init__(self, info: RunInfo, rows: tuple[Row, ...], descriptor: int, earlier: Earlier | None = None) -> None:
        self.info = info
        self.rows = rows
        """The rows that were stored when the run was opened, the latest of each case."""
        self._descriptor = descriptor
        self._earlier = earlier
        self._others = {digest: entry_of(facts) for digest, facts in earlier.environments.items()} if earlier else {}
        """The entries of the header by digest."""
        self._known: dict[int, tuple[Environment, str | None]] = {}
        """The environment of the last row, and how the row refers to it."""

    def append(self, row: Row) -> None:
        """Append a row. Once the method has returned, the row survives a crash of the process and of the machine.

        Raises `HarnessError` where the row can't be written; the file then ends with the previous row.
        """
        line = dump_stored(row, self._reference(row.environment))
        state = os.fstat(self._descriptor)
        if state.st_nlink == 0:
            raise unwritten(self.info, ROWS_FILE, FileNotFoundError())
        before = state.st_size
        try:
            written = os.write(self._descriptor, line)
            while written < len(line):  # a nearly full disk writes a part; the next write then fails
                written += os.write(self._descriptor, line[written:])
            os.fsync(self._descriptor)
        except OSError as error:
            with suppress(OSError):
                os.ftruncate(self._descriptor, before)  # so that a later row doesn't follow a part of this one
            raise unwritten(self.info, ROWS_FILE, error) from error

    def _reference(self, environment: Environment) -> str | None:
        """Return how a row refers to its environment; the header on disk then has that environment.

        Raises `HarnessError` where it cannot be written.
        """
        if id(environment) not in self._known:
            reference = reference_to(environment, self.info.environment)
            if reference is not None and reference not in self._others:
                self._others[reference] = entry_of(environment)
                self._write_header()
            self._known[id(environment)] = environment, reference
        return self._known[id(environment)][1]

    def finish(self, exit_code: int, *, stopped: bool = False) -> RunInfo:
        """Record the exit code of the run and, unless it was ``stopped`` early, its end; return its final header.

        The run's lock is released.
        """
        finished = "" if stopped else now().isoformat(timespec="milliseconds")
        self.info = replace(self.info, finished=finished, exit_code=exit_code)
        try:
            self._write_header()
        finally:
            self.close()
        return self.info

    def go_on_in(self, environment: Mapping[str, Json], plugins: Sequence[Mapping[str, Json]]) -> None:
        """Note in the header in which environment the run goes on: the only one where the run has no rows yet.

        Of an environment that differs from the last one, the header gets the facts that differ from those of its start.
        """
        start: Mapping[str, Json] = plain(self.info.environment)
        current = plain(environment)
        facts = {name: current.get(name) for name in (*start, *current) if current.get(name) != start.get(name)}
        last = self.info.resumed[-1].get("environment") if self.info.resumed else {}  # None where a header is damaged
        if facts == last:
            return
        if self.rows:
            entry: Mapping[str, Json] = {"started": now().isoformat(timespec="milliseconds"), "environment": facts}
            self.info = replace(self.info, resumed=(*self.info.resumed, entry))
        else:
            self.info = replace(self.info, environment=current, plugins=plugins, resumed=())
            self._known.clear()
        self._write_header()

    def expect(self, estimate: Mapping[str, Json], params: Mapping[str, Json]) -> None:
        """Note in the header what the run is expected to take, and the values that are fixed for all its cases."""
        self.info = replace(self.info, estimate=estimate, selection={**self.info.selection, "params": dict(params)})
        self._write_header()

    def _write_header(self) -> None:
        """Replace the header. Raises `HarnessError` where it cannot be written."""
        try:
            write_entries(self.info, self.info.folder, self._others)
        except OSError as error:
            raise unwritten(self.info, RUN_FILE, error) from error

    def discard(self) -> None:
        """Remove a new run that has no row; leave a resumed one as it was before."""
        if self._earlier is None:
            shutil.rmtree(self.info.folder, ignore_errors=True)
        self.withdraw()

    def withdraw(self) -> None:
        """Restore the files that a resumed run had before it was opened, byte for byte, and release the lock."""
        if self._earlier is not None:
            replace_file(self.info.folder, RUN_FILE, self._earlier.header)
            os.write(self._descriptor, self._earlier.tail)
        self.close()

    def close(self) -> None:
        """Release the lock without recording an end, so that the run counts as unfinished; further calls do nothing."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def plain(environment: Mapping[str, Json]) -> dict[str, Json]:
    """Return an environment as it is read back."""
    return {name: json.loads(json.dumps(encode(value))) for name, value in environment.items()}


def reference_to(environment: Environment, own: Environment) -> str | None:
    """Return how a row refers to an environment: by None where it is the run's own, else by its digest."""
    text, own_text = (json.dumps(encode(facts), sort_keys=True, separators=(",", ":")) for facts in (environment, own))
    return None if text == own_text else short_digest(text.encode())


def now() -> dt.datetime:
    """Return the current time in UTC."""
    return dt.datetime.now(dt.UTC)


def unwritten(info: RunInfo, name: str, error: OSError) -> HarnessError:
    """Return the error of a file of a run that can't be written."""
    if isinstance(error, FileNotFoundError):
        return HarnessError(f"{info.folder / name} was removed during the run\nstart another run")
    return HarnessError(
        f"cannot write to {info.folder / name}: {error.strerror}\n"
        f"all earlier rows are stored; free disk space, then: {command(info, f'run --resume {info.id}')}"
    )


def write_header(
    info: RunInfo, folder: Path | None = None, environments: Mapping[str, Environment] | None = None
) -> None:
    """Replace ``run.json`` in one step, so that a reader sees either the old header or the new one.

    ``environments`` are those that rows refer to by digest.
    """
    entries = {digest: entry_of(environment) for digest, environment in (environments or {}).items()}
    write_entries(info, folder or info.folder, entries)


def entry_of(environment: Environment) -> str:
    """Return the JSON of an environment as an entry of a header, on a line."""
    return json.dumps(encode(environment), allow_nan=False)


def write_entries(info: RunInfo, folder: Path, entries: Mapping[str, str]) -> None:
    """Replace ``run.json`` with entries by digest, which were made once: a run on a cluster adds many, one by one."""
    text = json.dumps(run_to_json(info), allow_nan=False, indent=1)
    if entries:
        lines = ",\n".join(f"  {json.dumps(digest)}: {entry}" for digest, entry in entries.items())
        text = f'{text.removesuffix("}").rstrip()},\n "{ENVIRONMENTS}": {{\n{lines}\n }}\n}}'
    replace_file(folder, RUN_FILE, f"{text}\n".encode("ascii"))


def replace_file(folder: Path, name: str, data: bytes) -> None:
    """Replace the bytes of a file of a run in one step; where that fails, nothing is left of the new ones."""
    draft = folder / f".{name}.{os.getpid()}"
    try:
        with draft.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        draft.rename(folder / name)
    except OSError:
        with suppress(OSError):
            draft.unlink()
        raise
    sync_folder(folder)
