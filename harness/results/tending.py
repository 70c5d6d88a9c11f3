"""Names and deletes stored runs, while other processes may read and write the store."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from harness.api import UsageError
from harness.results.files import sync_folder
from harness.results.locks import locked
from harness.results.names import is_name
from harness.results.store import DELETED, Store, unlocked
from harness.results.writer import NAME_FILE, ROWS_FILE, RUNS, replace_file


def name_run(store: Store, text: str, name: str) -> str:
    """Give a run a name in place of any that it has, and return the run's id.

    Raises UsageError for a name that cannot be told from an id or that another run has, and where it cannot be written.
    """
    if not is_name(name):
        raise UsageError(
            f"name {name!r}: expected at most 64 letters, digits and any of _ . + -, a letter or digit first; "
            "neither 'last' nor the form of an id"
        )
    run = store.resolve(text)
    with _alone(store):
        if alike := [other for other in store.ids() if other.startswith(name) or other.endswith(name)]:
            raise UsageError(f"name {name!r}: the id of run {alike[-1]} begins or ends with it; choose another name")
        if taken := [other for other in store.named(name) if other != run]:
            raise UsageError(
                f"name {name!r} is that of run {taken[-1]}",
                f"choose another name, or take it away first: harness runs name {taken[-1]} --remove",
            )
        try:
            replace_file(store.folder(run), NAME_FILE, f"{name}\n".encode("ascii"))
        except OSError as error:
            raise UsageError(f"cannot name run {run}: {error.strerror}") from error
    return run


def remove_name(store: Store, text: str) -> str:
    """Take a run's name away, where it has one, and return the run's id. Raises UsageError where this is forbidden."""
    run = store.resolve(text)
    with _alone(store):
        try:
            (store.folder(run) / NAME_FILE).unlink(missing_ok=True)
        except OSError as error:
            raise UsageError(f"cannot take the name of run {run} away: {error.strerror}") from error
    return run


@contextmanager
def held(store: Store, runs: Sequence[str]) -> Iterator[None]:
    """Keep every other process from writing these runs, given by their full ids, so that they may be deleted.

    Raises UsageError where a process writes one of them.
    """
    with ExitStack() as undo:
        for run in runs:
            path = store.folder(run) / ROWS_FILE
            try:
                descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)  # of a pipe, too
            except FileNotFoundError:  # a damaged run, which nobody can write
                continue
            except OSError as error:
                raise _undeleted(run, error) from error
            undo.callback(os.close, descriptor)
            _lock(descriptor, run, path)
        yield


def delete_runs(store: Store, runs: Sequence[str]) -> None:
    """Delete runs that are `held`. Each leaves the store in one step. Raises UsageError where one cannot be deleted."""
    for run in runs:
        folder = store.folder(run)
        try:
            if folder.is_symlink():
                folder.unlink()
                continue
            bin_ = Path(tempfile.mkdtemp(prefix=DELETED, dir=store.path / RUNS))
            try:
                folder.rename(bin_ / run)
            except OSError:
                bin_.rmdir()
                raise
            sync_folder(folder.parent)
        except OSError as error:
            raise _undeleted(run, error) from error
        shutil.rmtree(bin_, ignore_errors=True)


def _undeleted(run: str, error: OSError) -> UsageError:
    """Return the error of a run that cannot be deleted."""
    return UsageError(f"cannot delete run {run}: {error.strerror}", "check the permissions of the store's folders")


def _lock(descriptor: int, run: str, path: Path) -> None:
    """Lock the rows of a run. Raises UsageError where another process holds the lock, and where there are no locks."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise UsageError(
            f"run {run} is being written by another process", "wait for that process to end; nothing is deleted"
        ) from error
    except OSError as error:
        raise unlocked(path, error) from error


@contextmanager
def _alone(store: Store) -> Iterator[None]:
    """Keep other processes from naming runs meanwhile, so that no two get the same name."""
    folder = store.path / RUNS
    with ExitStack() as undo:
        try:
            undo.enter_context(locked(folder))
        except OSError as error:
            raise unlocked(folder, error) from error
        yield
