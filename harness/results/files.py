"""Keeps the folders of a store in order: entries on disk, and drafts of processes that were killed."""

from __future__ import annotations

import os
import shutil
import time
from contextlib import suppress
from pathlib import Path
from typing import Final

_DRAFT_AGE_S: Final = 86_400.0
"""The age at which a draft belongs to no living process: drafts live for milliseconds."""


def sweep(folder: Path, pattern: str) -> None:
    """Remove the drafts of processes that were killed, which are those older than a day."""
    for draft in folder.glob(pattern):
        with suppress(OSError):
            if draft.lstat().st_mtime > time.time() - _DRAFT_AGE_S:
                continue
            if draft.is_dir() and not draft.is_symlink():
                shutil.rmtree(draft, ignore_errors=True)
            else:
                draft.unlink()


def sync_folder(folder: Path) -> None:
    """Flush the entries of a folder to disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
