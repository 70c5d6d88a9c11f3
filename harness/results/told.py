"""Says on standard error, once in a process, what goes on in another way than was asked for."""

from __future__ import annotations

import sys
from functools import cache

from harness.api.text import printable


@cache
def tell_once(line: str) -> None:
    """Write a line to standard error, unless this process has written it before."""
    if sys.stderr is not None:  # a process that was started without it
        sys.stderr.write(f"harness: {printable(line)}\n")
