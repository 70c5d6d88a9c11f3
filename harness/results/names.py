"""Names of runs: new ids that sort by time, and the names of folders that count as runs."""

from __future__ import annotations

import datetime as dt
import os
import re
from collections.abc import Sequence
from typing import Final

_ID: Final = re.compile(r"(\d{8}-\d{6})-([0-9a-f]{4})", re.ASCII)
_SAFE: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.+-]{0,199}")
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.+-]{0,63}")
LAST: Final = "last"
"""What stands for the newest run."""
_SECOND: Final = "%Y%m%d-%H%M%S"


def is_safe(name: str) -> bool:
    """Return whether the name of a folder can be an id: no separator, space or character that needs escaping."""
    return _SAFE.fullmatch(name) is not None


def is_name(text: str) -> bool:
    """Return whether a user may give a run this name: nothing that stands for another run, or needs escaping."""
    return _NAME.fullmatch(text) is not None and text != LAST and not is_id(text)


def is_id(name: str) -> bool:
    """Return whether a name has the form of the ids that `new_id` gives: a date, a time and four hexadecimal digits."""
    return _second(name) is not None


def new_id(now: dt.datetime, others: Sequence[str], attempt: int = 0) -> str:
    """Return a new id for ``now`` that sorts after ``others``, also where the clock was set back.

    The four hexadecimal digits hold the fraction of the second (ten bits) before six random bits. ``attempt`` counts
    the ids that were refused before, so that another one follows.
    """
    noise = os.urandom(1)[0] >> 2
    run = f"{now:{_SECOND}}-{(now.microsecond * 1024 // 1_000_000) << 6 | noise:04x}"
    newest = max((other for other in others if is_id(other)), default="")
    second = _second(newest)
    if second is None or run > newest:
        return run
    seconds, fraction = divmod((int(newest[-4:], 16) >> 6) + 1 + attempt, 1 << 10)
    try:
        second += dt.timedelta(seconds=seconds)
    except OverflowError:  # the last second that a date can name
        fraction = (1 << 10) - 1
    return f"{second:{_SECOND}}-{fraction << 6 | noise:04x}"


def confusable(run: str, other: str) -> bool:
    """Return whether a new id ends like another id."""
    return other.endswith(run[-4:])


def _second(name: str) -> dt.datetime | None:
    """Return the second that an id names; None where the name is no id."""
    match = _ID.fullmatch(name)
    if match is None:
        return None
    try:
        return dt.datetime.strptime(match[1], _SECOND)
    except ValueError:
        return None
