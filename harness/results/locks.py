"""Keeps other processes from changing what lies in a folder meanwhile."""

from __future__ import annotations

import fcntl
import math
import os
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final

_PAUSE_S: Final = 0.01
"""Seconds until a lock is asked for again."""


@contextmanager
def locked(folder: Path, patience_s: float = math.inf) -> Iterator[None]:
    """Hold the lock of a folder: another process that asks for it waits, at most ``patience_s`` seconds.

    Raises TimeoutError where these are over, and another OSError where no lock can be had.
    """
    descriptor = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        if patience_s == math.inf:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        else:
            _ask(descriptor, time.monotonic() + patience_s)
        yield
    finally:
        os.close(descriptor)


def hold(held: ExitStack, folder: Path, patience_s: float = math.inf) -> TimeoutError | None:
    """Hold the lock of a folder until ``held`` ends, as far as there are locks; return an error where patience ends.

    Without it this process goes on as if it were alone: on a drive without locks, or in a folder that it may not list.
    """
    try:
        held.enter_context(locked(folder, patience_s))
    except TimeoutError as error:
        return error
    except OSError:
        pass
    return None


def _ask(descriptor: int, until: float) -> None:
    """Take a lock that is free in time."""
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            if time.monotonic() > until:
                raise TimeoutError("another process holds the lock of its folder") from error
            time.sleep(_PAUSE_S)
        else:
            return
