"""The store: one folder a run, whose rows are on disk before anyone hears of them."""

from __future__ import annotations

import datetime as dt
import fcntl
import json
import os
import secrets
import shutil
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from harness.api import HarnessError, Json, Row, RunInfo, Suite, UsageError
from harness.results.schema import dump_line, row_from_json, run_from_json, run_to_json

RUNS: Final = "runs"
RUN_FILE: Final = "run.json"
ROWS_FILE: Final = "rows.jsonl"


def default_store_path(option: str | os.PathLike[str] | None = None) -> Path:
    """Where results lie: the ``--store`` option, else ``HARNESS_STORE``, else ``.harness`` in the current folder."""
    return Path(option or os.environ.get("HARNESS_STORE") or ".harness").expanduser().absolute()


def default_cache_path() -> Path:
    """Return the folder of trained base models: ``HARNESS_CACHE``, or the user's cache folder."""
    if chosen := os.environ.get("HARNESS_CACHE"):
        return Path(chosen)
    from platformdirs import user_cache_path

    try:
        return user_cache_path("technique-harness", appauthor=False)
    except RuntimeError as error:  # a user without an entry in the account database, as in a container
        raise UsageError(
            "this user has no home directory, and so no folder for trained base models",
            "name a folder: HARNESS_CACHE=/path",
        ) from error


def latest(rows: Iterable[Row]) -> tuple[Row, ...]:
    """One row a key: where a case was run again, the last one counts."""
    by_key: dict[str, Row] = {}
    for row in rows:
        by_key.pop(row.case.key, None)
        by_key[row.case.key] = row
    return tuple(by_key.values())


@dataclass(frozen=True, kw_only=True)
class StoredRun:
    """A run as read: its header, one row a key (the last one written), whether a torn last line was left out."""

    info: RunInfo
    rows: tuple[Row, ...]
    torn: bool = False


class RunWriter:
    """Writes one run and holds its lock; a context manager. Made by `Store.create_run` and `Store.open_run`."""

    def __init__(self, info: RunInfo, rows: tuple[Row, ...], descriptor: int) -> None:
        self.info = info
        self.rows = rows
        """The rows that were there when the run was opened, one a key."""
        self._descriptor = descriptor

    def append(self, row: Row) -> None:
        """Write a row; when this returns it survives a crash of the process and of the machine.

        Raises `HarnessError` where the disk refuses; the file then ends with the row before.
        """
        line = dump_line(row)
        before = os.fstat(self._descriptor).st_size
        try:
            written = os.write(self._descriptor, line)
            while written < len(line):  # a nearly full disk takes a part, and refuses the rest aloud
                written += os.write(self._descriptor, line[written:])
            os.fsync(self._descriptor)
        except OSError as error:
            os.ftruncate(self._descriptor, before)  # so that a later row doesn't continue half of this one
            raise HarnessError(
                f"cannot write to {self.info.folder / ROWS_FILE}: {error.strerror}\n"
                f"all earlier rows are safe; make room, then: harness run --resume {self.info.id}"
            ) from error

    def finish(self, exit_code: int) -> RunInfo:
        """Record how the run ended, let go of its lock and return its final header."""
        self.info = replace(self.info, finished=_now().isoformat(timespec="milliseconds"), exit_code=exit_code)
        _write_header(self.info)
        self.close()
        return self.info

    def close(self) -> None:
        """Let go of the lock without recording an end, so that the run counts as unfinished; idempotent."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class Store:
    """The runs below one folder. Reading and writing from several processes at once is safe."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def ids(self) -> list[str]:
        """The ids of all runs, oldest first."""
        folder = self.path / RUNS
        names = [one.name for one in folder.iterdir()] if folder.is_dir() else []
        return sorted(name for name in names if not name.startswith("."))

    def folder(self, run: str) -> Path:
        """Where a run with this full id lies."""
        return self.path / RUNS / run

    def resolve(self, text: str) -> str:
        """The full id of ``last``, or of the one run whose id begins or ends with ``text``.

        Raises `UsageError` where none or several do.
        """
        ids = self.ids()
        if not ids:
            raise UsageError(f"run {text!r}: there are no runs in {self.path}", "make one: harness run --suite NAME")
        if text == "last":
            return ids[-1]
        found = [text] if text in ids else [one for one in ids if text and (one.startswith(text) or one.endswith(text))]
        if len(found) == 1:
            return found[0]
        if found:
            some = ", ".join(found[-5:])
            raise UsageError(f"run {text!r} may be any of {len(found)}: {some}", "type more of the id you mean")
        raise UsageError(
            f"run {text!r} is not in {self.path}; expected the beginning or end of an id like {ids[-1]}, or 'last'",
            "see them all: harness runs",
        )

    def info(self, text: str) -> RunInfo:
        """The header of a run; raises `UsageError` where it can't be found or read."""
        return self._header(self.resolve(text))

    def runs(self) -> list[RunInfo]:
        """The headers of all runs, oldest first; raises `UsageError` at one that can't be read."""
        return [self._header(run) for run in self.ids()]

    def read(self, text: str) -> StoredRun:
        """A run with its rows; raises `UsageError` where it can't be found or read."""
        run = self.resolve(text)
        path = self.folder(run) / ROWS_FILE
        data = _contents(path)
        rows, whole = _read_rows(data, path)
        return StoredRun(info=self._header(run), rows=latest(rows), torn=whole < len(data))

    def create_run(
        self,
        *,
        suite: Suite,
        selection: Mapping[str, Json],
        plugins: Sequence[Mapping[str, Json]],
        environment: Mapping[str, Json],
        planned: int,
    ) -> RunWriter:
        """Begin a run: its folder appears whole, with its header and no rows, locked for this process."""
        runs = self.path / RUNS
        try:
            runs.mkdir(parents=True, exist_ok=True)
            draft = Path(tempfile.mkdtemp(prefix=".new-", dir=runs))
        except OSError as error:
            raise UsageError(
                f"cannot make a run in {self.path}: {error.strerror}", "choose a folder you may write to: --store PATH"
            ) from error
        draft.chmod(0o755)  # mkdtemp's 0700 would keep colleagues from reading shared results

        def header(run: str, folder: Path) -> RunInfo:
            return RunInfo(
                id=run,
                suite=suite,
                started=_now().isoformat(timespec="milliseconds"),
                folder=folder,
                selection=selection,
                plugins=plugins,
                environment=environment,
                planned=planned,
            )

        descriptor = _open_rows(draft / ROWS_FILE, create=True)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            info = self._settle(draft, header)
        except BaseException:
            os.close(descriptor)
            shutil.rmtree(draft, ignore_errors=True)
            raise
        return RunWriter(info, (), descriptor)

    def open_run(self, text: str) -> RunWriter:
        """Open a run to go on with it: a torn last line is cut off, its end is forgotten, its lock is taken.

        Raises `UsageError` where it can't be found or read, or another process writes it.
        """
        run = self.resolve(text)
        path = self.folder(run) / ROWS_FILE
        info = replace(self._header(run), finished="", exit_code=None)
        descriptor = _open_rows(path, create=False)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            os.close(descriptor)
            raise UsageError(
                f"run {run} is being written by another process",
                "wait for it to end, or start another run without --resume",
            ) from error
        try:
            rows, whole = _read_rows(_contents(path), path)
            os.ftruncate(descriptor, whole)
            os.fsync(descriptor)
            _write_header(info)
        except BaseException:
            os.close(descriptor)
            raise
        return RunWriter(info, latest(rows), descriptor)

    def _header(self, run: str) -> RunInfo:
        path = self.folder(run) / RUN_FILE
        try:
            data = json.loads(_contents(path))
        except ValueError as error:
            raise UsageError(f"{path}: not JSON ({error})", f"mend or remove {path.parent}") from error
        return run_from_json(data, path.parent, str(path))

    def _settle(self, draft: Path, header: Callable[[str, Path], RunInfo]) -> RunInfo:
        """Give a draft folder its id and name: later than every other id, with an ending of its own."""
        while True:
            run = _new_id()
            if any(_confusable(run, one) for one in self.ids()[-1000:]):
                time.sleep(0.001)
                continue
            info = header(run, self.folder(run))
            _write_header(info, draft)
            try:
                draft.rename(info.folder)
            except OSError:
                if not info.folder.exists():
                    raise
                continue  # another process took this id between the look and the rename
            _sync_folder(info.folder.parent)
            return info


def _now() -> dt.datetime:
    return dt.datetime.now(dt.UTC)


def _new_id() -> str:
    """Day, second and four hex digits: the millisecond (ten bits) before six random bits, so that ids sort by time."""
    now = _now()
    low = (now.microsecond * 1024 // 1_000_000) << 6 | secrets.randbits(6)
    return f"{now:%Y%m%d-%H%M%S}-{low:04x}"


def _confusable(run: str, other: str) -> bool:
    """Whether a new id ends like another one, or would sort before one of the same second."""
    return other.endswith(run[-4:]) or (other[:-4] == run[:-4] and other > run)


def _open_rows(path: Path, *, create: bool) -> int:
    try:
        return os.open(path, os.O_RDWR | os.O_APPEND | os.O_CLOEXEC | (os.O_CREAT if create else 0), 0o644)
    except OSError as error:
        raise UsageError(
            f"cannot write to {path}: {error.strerror}", "check the folder's rights, or --store"
        ) from error


def _contents(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}", f"mend or remove {path.parent}") from error


def _read_rows(data: bytes, path: Path) -> tuple[list[Row], int]:
    """The rows and the length of what is whole: a power cut may leave a torn last line, never an earlier one."""
    rows: list[Row] = []
    whole = 0
    for number, line in enumerate(data.splitlines(keepends=True), start=1):
        where = f"{path}:{number}"
        last = whole + len(line) == len(data)
        if last and not line.endswith(b"\n"):
            break
        try:
            content = json.loads(line)
        except ValueError as error:
            if last:
                break
            raise UsageError(f"{where}: not JSON ({error})", f"mend or remove line {number}") from error
        rows.append(row_from_json(content, where))
        whole += len(line)
    return rows, whole


def _write_header(info: RunInfo, folder: Path | None = None) -> None:
    """Replace ``run.json`` as a whole: a reader sees the old one or the new one."""
    folder = folder or info.folder
    draft = folder / f".{RUN_FILE}.{os.getpid()}"
    with draft.open("w", encoding="ascii") as file:
        json.dump(run_to_json(info), file, allow_nan=False, indent=1)
        file.write("\n")
        file.flush()
        os.fsync(file.fileno())
    draft.rename(folder / RUN_FILE)
    _sync_folder(folder)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
