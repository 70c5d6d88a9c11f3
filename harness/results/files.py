"""Keeps the folders of a store in order: their paths, entries on disk, and drafts of processes that were killed."""

from __future__ import annotations

import errno
import os
import reprlib
import shutil
from contextlib import suppress
from pathlib import Path
from typing import Final

from harness.api import UsageError

_DRAFT_AGE_S: Final = 86_400.0
"""The age at which a draft belongs to no living process: drafts live for milliseconds."""

_UNSUPPORTED: Final = (errno.EINVAL, errno.EBADF, errno.ENOTSUP, errno.ENOSYS)
"""What a file system answers that writes the entries of folders by itself, as some network drives do."""


def folder_path(text: str | os.PathLike[str], what: str, choice: str) -> Path:
    """Return an absolute path that a user gave for a folder, which need not exist.

    Raises `UsageError` for a path that no folder can have, and for one that may not be looked at; ``what`` is what the
    folder is for, and ``choice`` how a user names another.
    """
    try:
        path = Path(text).expanduser().absolute()
        with suppress(FileNotFoundError, NotADirectoryError):
            path.stat()
    except (OSError, RuntimeError, ValueError) as error:  # too long, no permission, the home of nobody, no text
        why = error.strerror if isinstance(error, OSError) else error
        raise UsageError(
            f"{what} cannot be {reprlib.repr(os.fspath(text))}: {why}", f"name another folder: {choice}"
        ) from error
    return path


def sweep(folder: Path, pattern: str, written: Path) -> None:
    """Remove the drafts of processes that were killed: those a day older than ``written``, which was written just now.

    A file system may have a clock of its own, as that of a server has, and this machine's may be wrong by a day: what
    others write at the moment would then be removed.
    """
    try:
        now = written.lstat().st_mtime
    except OSError:
        return
    for draft in folder.glob(pattern):
        with suppress(OSError):
            if draft.lstat().st_mtime > now - _DRAFT_AGE_S:
                continue
            if draft.is_dir() and not draft.is_symlink():
                shutil.rmtree(draft, ignore_errors=True)
            else:
                draft.unlink()


def sync_folder(folder: Path) -> None:
    """Flush the entries of a folder to disk, where its file system can do so for folders."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in _UNSUPPORTED:
            raise
    finally:
        os.close(descriptor)
