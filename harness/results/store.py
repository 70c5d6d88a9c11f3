"""Stores runs: one folder for each run, in which a row is on disk before its case is reported as done."""

from __future__ import annotations

import fcntl
import itertools
import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from harness.api import HarnessError, Json, Row, RunInfo, Suite, UsageError
from harness.results.environments import Environments, environments_of
from harness.results.files import sweep, sync_folder
from harness.results.names import LAST, confusable, is_id, is_name, is_safe, new_id
from harness.results.reading import contents, read_flat, read_rows
from harness.results.schema import run_from_json
from harness.results.writer import (
    NAME_FILE,
    ROWS_FILE,
    RUN_FILE,
    RUNS,
    Earlier,
    RunWriter,
    now,
    unwritten,
    write_header,
)

DELETED: Final = ".deleted-"
"""How the name of a folder begins in which a run lies that is being deleted; a killed process may leave one."""

_LISTED: Final = "list all runs: harness runs"

_LONGEST_NAME: Final = 100
"""How much of a name is read."""


def latest(rows: Iterable[Row]) -> tuple[Row, ...]:
    """Return one row for each case key: the last one, where a case was run again. The rows stay in order."""
    by_key: dict[str, Row] = {}
    for row in rows:
        by_key.pop(row.case.key, None)
        by_key[row.case.key] = row
    return tuple(by_key.values())


@dataclass(frozen=True, kw_only=True)
class StoredRun:
    """A run as read: its header, the latest row of each case, and whether an incomplete last line was left out."""

    info: RunInfo
    rows: tuple[Row, ...]
    torn: bool = False


class Store:
    """The runs below one folder. Several processes may read and write the store at the same time."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def ids(self) -> list[str]:
        """Return the ids of all runs, oldest first: the names of folders, which need not have the form of an id."""
        return [name for name in self._folders() if is_safe(name)]

    def strangers(self) -> list[str]:
        """Return the names of folders beside the runs that no id may have, and that are never read."""
        return [name for name in self._folders() if not is_safe(name)]

    def misplaced(self) -> list[str]:
        """Return the names of runs that are no folders: links to what is not there, and files."""
        folder = self.path / RUNS
        names = [entry.name for entry in folder.iterdir() if not entry.is_dir()] if folder.is_dir() else []
        return sorted(name for name in names if is_id(name))

    def _folders(self) -> list[str]:
        """Return the sorted names of the folders among the runs, without hidden ones."""
        folder = self.path / RUNS
        names = [entry.name for entry in folder.iterdir() if entry.is_dir()] if folder.is_dir() else []
        return sorted(name for name in names if not name.startswith("."))

    def folder(self, run: str) -> Path:
        """Return the folder of the run with this full id."""
        return self.path / RUNS / run

    def resolve(self, text: str) -> str:
        """Return the full id of the newest run for ``last``, of the run with this name, or with this part of an id.

        A part is the beginning or the end.
        Raises `UsageError` where no run or several runs match.
        """
        ids = self.ids()
        if not ids:
            raise UsageError(
                f"run {text!r}: there are no runs in {self.path}{_elsewhere(text)}",
                "create a run: harness run --suite NAME",
            )
        if text == LAST:  # also where a folder has this name: another run must not be deleted in its place
            return next((run for run in reversed(ids) if is_id(run)), ids[-1])
        if text in ids:
            return text
        parts = [run for run in ids if text and (run.startswith(text) or run.endswith(text))]
        matches = self.named(text) or parts
        if len(matches) == 1:
            return matches[0]
        if matches:
            newest = ", ".join(matches[-5:])
            raise UsageError(f"run {text!r} may be any of {len(matches)}: {newest}", "type more of the id you mean")
        raise UsageError(
            f"run {text!r} is not in {self.path}; expected a name, the beginning or end of an id like "
            f"{ids[-1]}, or 'last'{_elsewhere(text)}",
            _LISTED,
        )

    def named(self, name: str) -> list[str]:
        """Return the ids of the runs with this name: one, unless somebody has copied folders."""
        return [run for run in self.ids() if self._name_of(run) == name] if is_name(name) else []

    def _name_of(self, run: str) -> str:
        """Return the name of a run; an empty text where it has none, or none that a run may have."""
        path = self.folder(run) / NAME_FILE
        try:
            if not path.is_file():  # a pipe would be waited for
                return ""
            with path.open("rb") as file:
                text = file.read(_LONGEST_NAME).decode("ascii").strip()
        except (OSError, UnicodeDecodeError):
            return ""
        return text if is_name(text) else ""

    def info(self, text: str) -> RunInfo:
        """Return the header of a run; raises `UsageError` where the run can't be found or read."""
        run = self.resolve(text)
        with self._undeleted(run, _LISTED):
            return self._header(run)

    def runs(self) -> list[RunInfo]:
        """Return the headers of all runs, oldest first; raises `UsageError` at the first header that can't be read."""
        return [self._header(run) for run in self.ids()]

    def read(self, text: str) -> StoredRun:
        """Return a run with its rows; raises `UsageError` where the run can't be found or read."""
        run = self.resolve(text)
        path = self.folder(run) / ROWS_FILE
        with self._undeleted(run, _LISTED):
            data = contents(path)
            info, environments = self.load(run)  # after the rows: it then has all environments that they refer to
        rows, complete = read_rows(data, path, environments)
        return StoredRun(info=info, rows=latest(rows), torn=complete < len(data))

    def read_flat(self, run: str) -> tuple[RunInfo, list[dict[str, Any]]]:
        """Return the header of a run, by its full id, and the fields of the latest row of each case, as `read` does."""
        path = self.folder(run) / ROWS_FILE
        data = contents(path)
        info, environments = self.load(run)
        by_key: dict[str, dict[str, Any]] = {}
        for flat in read_flat(data, path, environments)[0]:
            by_key.pop(flat["key"], None)
            by_key[flat["key"]] = flat
        return info, list(by_key.values())

    def read_apart(self, names: Iterable[str]) -> list[StoredRun]:
        """Return the runs of several names; raises `UsageError` as `read` does, and where two names mean one run."""
        ids: dict[str, str] = {}
        for name in names:
            run = self.resolve(name)
            if run in ids:
                raise UsageError(
                    f"{ids[run]} and {name} are one run, {run}; expected different ones", "see the runs: harness runs"
                )
            ids[run] = name
        return [self.read(run) for run in ids]

    def create_run(
        self,
        *,
        suite: Suite,
        selection: Mapping[str, Json],
        plugins: Sequence[Mapping[str, Json]],
        environment: Mapping[str, Json],
        planned: int,
    ) -> RunWriter:
        """Create a run without rows and return its writer, which holds the run's lock.

        The folder of the run appears in one step, complete with the header, so that no reader sees a part of the run.
        ``planned`` is the number of rows to expect. Raises `UsageError` where the folder can't be created.
        """
        runs = self.path / RUNS
        try:
            runs.mkdir(parents=True, exist_ok=True)
            if {entry.name for entry in self.path.iterdir()} == {RUNS}:  # no folder that holds the user's files
                (self.path / ".gitignore").write_text("*\n", encoding="utf-8")
            draft = Path(tempfile.mkdtemp(prefix=".new-", dir=runs))
        except OSError as error:
            raise UsageError(
                f"cannot create a run in {self.path}: {error.strerror}",
                "choose a folder you may write to: --store PATH",
            ) from error
        for pattern in (".new-*", f"{DELETED}*"):
            sweep(runs, pattern, draft)
        draft.chmod(0o755)  # mkdtemp's mode 0700 would prevent other users from reading shared results

        def header(run: str, folder: Path) -> RunInfo:
            return RunInfo(
                id=run,
                suite=suite,
                started=now().isoformat(timespec="milliseconds"),
                folder=folder,
                selection=selection,
                plugins=plugins,
                environment=environment,
                planned=planned,
            )

        descriptor = _open_rows(draft / ROWS_FILE, create=True)
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX)
            except OSError as error:
                raise unlocked(self.path, error) from error
            try:
                info = self._publish(draft, header)
            except OSError as error:
                raise UsageError(
                    f"cannot create a run in {self.path}: {error.strerror}",
                    "free disk space, or choose another store: --store PATH",
                ) from error
        except BaseException:
            os.close(descriptor)
            shutil.rmtree(draft, ignore_errors=True)
            raise
        return RunWriter(info, (), descriptor)

    def open_run(self, text: str) -> RunWriter:
        """Open a run to resume it and return its writer, which holds the run's lock.

        An incomplete last line is removed from the rows, and a recorded end from the header. Raises `UsageError` where
        the run can't be found, read or written, where another process holds the lock, and where one deletes the run.
        """
        run = self.resolve(text)
        with self._undeleted(run, "nothing is left to go on with; start another run without --resume"):
            return self._opened(run)

    @contextmanager
    def _undeleted(self, run: str, hint: str) -> Iterator[None]:
        """Let an error of reading a run say so where somebody has deleted it meanwhile; ``hint`` is what to do then."""
        try:
            yield
        except HarnessError as error:
            if self.folder(run).exists():
                raise
            raise UsageError(f"run {run} was deleted meanwhile", hint) from error

    def _opened(self, run: str) -> RunWriter:
        """Return the writer of a run, by its full id, as `open_run` does."""
        path = self.folder(run) / ROWS_FILE
        header = contents(path.parent / RUN_FILE)
        stored_info, environments = self.load(run)
        info = replace(stored_info, finished="", exit_code=None)
        descriptor = _open_rows(path, create=False)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            os.close(descriptor)
            raise UsageError(
                f"run {run} is being written by another process",
                "wait for that process to end, or start another run without --resume",
            ) from error
        except OSError as error:
            os.close(descriptor)
            raise unlocked(path, error) from error
        try:
            stored = contents(path)
            rows, complete = read_rows(stored, path, environments)
            earlier = Earlier(header=header, tail=stored[complete:], environments=environments.others)
            os.ftruncate(descriptor, complete)
            os.fsync(descriptor)
            write_header(info, info.folder, environments.others)
        except OSError as error:
            os.close(descriptor)
            raise unwritten(info, RUN_FILE, error) from error
        except BaseException:
            os.close(descriptor)
            raise
        sweep(path.parent, f".{RUN_FILE}.*", path.parent / RUN_FILE)
        return RunWriter(info, latest(rows), descriptor, earlier)

    def _header(self, run: str) -> RunInfo:
        """Return the header of the run with this full id."""
        return self.load(run)[0]

    def load(self, run: str) -> tuple[RunInfo, Environments]:
        """Return the header of the run with this full id, and the environments that its rows refer to."""
        path = self.folder(run) / RUN_FILE
        try:
            data = json.loads(contents(path))
        except (ValueError, RecursionError) as error:
            raise UsageError(f"{path}: not JSON ({error})", f"repair or remove {path.parent}") from error
        info = run_from_json(data, path.parent, str(path))
        # a header that was copied or forged may name another run, or a path
        info = replace(info, id=run, name=self._name_of(run))
        return info, environments_of(data, info.environment, str(path))

    def _publish(self, draft: Path, header: Callable[[str, Path], RunInfo]) -> RunInfo:
        """Rename a draft folder to a new id that sorts after all other ids and has an ending that no other id has."""
        for attempt in itertools.count():
            ids = self.ids()
            run = new_id(now(), ids, attempt)
            if any(confusable(run, other) for other in ids[-1000:]):
                time.sleep(0.001)
                continue
            info = header(run, self.folder(run))
            write_header(info, draft)
            try:
                draft.rename(info.folder)
            except OSError:
                if not info.folder.exists():
                    raise
                continue  # another process took this id after the check
            break
        sync_folder(info.folder.parent)
        return info


def run_in(folder: Path) -> tuple[Path, str]:
    """Return the store and the id of the run whose folder this is; raises `UsageError` where it is that of no run."""
    try:
        whole = folder.resolve()
        is_there, is_folder, is_store, is_run = (
            whole.exists(), whole.is_dir(), (whole / RUNS).is_dir(), (whole / RUN_FILE).is_file(),
        )  # fmt: skip
    except (OSError, ValueError) as error:  # a name that no file may have, or a folder that may not be entered
        raise UsageError(f"{str(folder)!r} cannot be read: {error}", _LISTED) from error
    if is_run and whole.parent.name == RUNS and is_safe(whole.name):
        return whole.parent.parent, whole.name
    if is_store:
        newest = f"harness.load('{LAST}', store={str(folder)!r})"
        raise UsageError(f"{folder} is a store; expected the folder of one of its runs", f"load the newest: {newest}")
    if not is_there:
        why = "there is no such folder"
    elif not is_folder:
        why = "it is a file"
    elif not is_run:
        why = f"it has no {RUN_FILE}"
    elif is_safe(whole.name):
        why = f"it is not in the folder {RUNS} of a store"
    else:
        why = "its name can be no id"
    raise UsageError(f"{folder} is not the folder of a run: {why}; expected STORE/{RUNS}/ID", _LISTED)


def _elsewhere(text: str) -> str:
    """Return what the end of a message says of a run that is not in a store: where the team has it."""
    from harness.results.shared import whereabouts  # whose modules take longer to import than a run takes to be found

    return whereabouts(text)


def unlocked(path: Path, error: OSError) -> UsageError:
    """Return the error of a file system that gives no locks."""
    return UsageError(
        f"cannot lock {path}: {error.strerror}",
        "choose a store on a file system with locks, such as a local disk: --store PATH",
    )


def _open_rows(path: Path, *, create: bool) -> int:
    """Return a file descriptor that appends rows; raises `UsageError` where the file can't be opened."""
    try:
        return os.open(path, os.O_RDWR | os.O_APPEND | os.O_CLOEXEC | (os.O_CREAT if create else 0), 0o644)
    except OSError as error:
        raise UsageError(
            f"cannot write to {path}: {error.strerror}",
            "check the permissions of the folder, or choose another store: --store PATH",
        ) from error
