"""Keeps Python's collector of cycles from searching what holds none: the rows of a run, and a process that ends."""

from __future__ import annotations

import atexit
import gc
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache


@contextmanager
def no_collection() -> Iterator[None]:
    """Collect no garbage meanwhile: rows are no cycles, and looking for some takes a fifth of the time of reading.

    What was made meanwhile is taken for old, which is searched rarely, and not at once.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            if not gc.get_freeze_count():  # else what others have frozen would thaw
                gc.freeze()
                gc.unfreeze()
            gc.enable()


@cache
def end_without_collection() -> None:
    """Let this process end without a search for cycles, whose memory the system takes back anyway.

    Python would search all objects that are left, several times: a tenth of a second after a run of 5,000 rows. What
    other modules do at the end, they still do before.
    """
    atexit.register(gc.freeze)


def end_with_collection() -> None:
    """Let this process end with a search for cycles all the same: foreign code has been loaded.

    A file that it holds in a cycle and leaves open is written and closed, or removed, by nothing else than that search.
    """
    atexit.unregister(gc.freeze)
