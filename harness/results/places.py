"""Where results and trained base models are kept: what the options and the environment name, or the default."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from harness.api import UsageError
from harness.results.files import folder_path

INDEXES: Final = "indexes"
"""The folder of a cache that has the indexes of stores which their user may not write."""


def default_store_path(option: str | os.PathLike[str] | None = None) -> Path:
    """Return the path of the store: the ``--store`` option, ``HARNESS_STORE``, or ``.harness``.

    Raises `UsageError` for a path that no folder can have.
    """
    return folder_path(option or os.environ.get("HARNESS_STORE") or ".harness", "the store", "--store PATH")


def default_cache_path() -> Path:
    """Return the folder of trained base models: ``HARNESS_CACHE``, or the user's cache folder."""
    if chosen := os.environ.get("HARNESS_CACHE"):
        return folder_path(chosen, "the cache", "HARNESS_CACHE=/path")
    from platformdirs import user_cache_path

    try:
        return user_cache_path("technique-harness", appauthor=False)
    except RuntimeError as error:  # a user without an entry in the account database, as in a container
        raise UsageError(
            "this user has no home directory, and so no folder for trained base models",
            "name a folder: HARNESS_CACHE=/path",
        ) from error
