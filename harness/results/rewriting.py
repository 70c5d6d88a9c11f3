"""Rewrites the rows of a stored run in one step: in the current form, without what later rows have replaced."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from harness.api import Row, RunInfo, UsageError
from harness.results.environments import Environment
from harness.results.files import sweep, sync_folder
from harness.results.reading import contents, read_rows
from harness.results.schema import dump_stored
from harness.results.store import Store, latest, unlocked
from harness.results.writer import ROWS_FILE, RUN_FILE, plain, reference_to, write_header


@dataclass(frozen=True, kw_only=True)
class Rewritten:
    """What a rewritten run took before and takes now, in bytes, and how many of its rows later ones had replaced."""

    before: int
    after: int
    replaced: int

    @property
    def is_changed(self) -> bool:
        """Whether the files differ from those before."""
        return self.before != self.after


def compact(store: Store, run: str) -> Rewritten:
    """Rewrite a run, by its full id: each environment once, and of each case only the row that counts.

    Raises `UsageError` where the run can't be read or written, and where another process writes it.
    """
    return rewrite(store, run, lambda info, rows: (info, latest(rows)))


def rewrite(
    store: Store, run: str, change: Callable[[RunInfo, Sequence[Row]], tuple[RunInfo, Sequence[Row]]]
) -> Rewritten:
    """Replace the header and the rows of a run by what ``change`` makes of them, while no other process writes the run.

    First the header gets all environments that old or new rows refer to, then the rows are replaced, and then the
    header loses what no row refers to: whenever the process is killed, every row can be read. Raises `UsageError` as
    `compact` does.
    """
    folder = store.folder(run)
    with ExitStack() as undo:
        undo.enter_context(_alone(store, run))
        data = contents(folder / ROWS_FILE)
        info, environments = store.load(run)
        rows, _ = read_rows(data, folder / ROWS_FILE, environments)
        before = len(data) + (folder / RUN_FILE).stat().st_size
        changed, kept = change(info, rows)
        lines, others = _dumped(kept, changed)
        new = b"".join(lines)
        try:
            if (new, others, changed) != (data, environments.others, info):
                write_header(changed, folder, {**environments.others, **others})
                undo.callback(os.close, _replace_rows(folder, new))
                if environments.others.keys() - others.keys():
                    write_header(changed, folder, others)
            sweep(folder, f".{ROWS_FILE}.*", folder / RUN_FILE)
        except OSError as error:
            raise UsageError(
                f"cannot rewrite run {run}: {error.strerror}; it is as it was", "free disk space, then try again"
            ) from error
        after = len(new) + (folder / RUN_FILE).stat().st_size
    return Rewritten(before=before, after=after, replaced=len(rows) - len(latest(rows)))


def _replace_rows(folder: Path, data: bytes) -> int:
    """Replace the rows of a run in one step; return a descriptor that holds the lock of the new file."""
    draft = folder / f".{ROWS_FILE}.{os.getpid()}"
    descriptor = os.open(draft, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)  # before anybody can find it: the header is still to be written
        with open(descriptor, "wb", closefd=False) as file:
            file.write(data)
        os.fsync(descriptor)
        draft.rename(folder / ROWS_FILE)
        sync_folder(folder)
    except BaseException as error:
        os.close(descriptor)
        if isinstance(error, OSError):  # on a full disk, a part of the rows would take what space there is
            draft.unlink(missing_ok=True)
        raise
    return descriptor


def _dumped(rows: Sequence[Row], info: RunInfo) -> tuple[list[bytes], dict[str, Environment]]:
    """Return the lines of rows, and the environments that these refer to besides that of the run."""
    lines: list[bytes] = []
    others: dict[str, Environment] = {}
    last: tuple[Environment, str | None] | None = None
    for row in rows:
        if last is None or last[0] is not row.environment:
            last = (row.environment, reference_to(row.environment, info.environment))
            if last[1] is not None:
                others[last[1]] = plain(row.environment)
        lines.append(dump_stored(row, last[1]))
    return lines, others


@contextmanager
def _alone(store: Store, run: str) -> Iterator[None]:
    """Hold the lock of a run. Raises `UsageError` where another process writes the run, or it can't be opened."""
    path = store.folder(run) / ROWS_FILE
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}", f"repair or remove {path.parent}") from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError as error:
        raise UsageError(f"run {run} is being written by another process", "wait for that process to end") from error
    except OSError as error:
        raise unlocked(path, error) from error
    finally:
        os.close(descriptor)
