"""Reads the limits that control groups (cgroups) of Linux, version 1 or 2, set for this process."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import Final, TypeVar

MOUNT: Final = Path("/sys/fs/cgroup")
MEMBERSHIP: Final = Path("/proc/self/cgroup")

_UNLIMITED: Final = 1 << 62
"""A limit of memory at or above which version 1 means none: it writes the largest multiple of a page."""

_Limit = TypeVar("_Limit", int, float)


def cpu_quota() -> float | None:
    """Return the processors that a group of this process may use on average, such as 1.5; None without a quota."""
    return _smallest("cpu", _quota_of)


def memory_limit() -> int | None:
    """Return the bytes that a group of this process may use; None without a limit."""
    return _smallest("memory", _memory_of)


def memory_left() -> int | None:
    """Return the bytes that the fullest group of this process may still take; None without a limit.

    What a group holds of files that were read long ago counts as free: the system gives it back when asked.
    """
    return _smallest("memory", _left_of)


def _smallest(controller: str, limit_of: Callable[[Path], _Limit | None]) -> _Limit | None:
    """Return the smallest limit among the groups that this process is in."""
    limits = [limit for folder in _folders(controller) if (limit := limit_of(folder)) is not None]
    return min(limits, default=None)


def _folders(controller: str) -> Iterator[Path]:
    """Yield the folders of the groups of this process, from the innermost to the root.

    In a container the path of a group may name a folder that only the host sees; the root is then the container's.
    """
    for line in (_read(MEMBERSHIP) or "").splitlines():
        number, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if number == "0" and not controllers:
            mounts = [MOUNT, MOUNT / "unified"]
        elif controller in controllers.split(","):
            mounts = [MOUNT / controller, MOUNT / controllers]
        else:
            continue
        inner = PurePosixPath(path.lstrip("/"))
        parts = () if ".." in inner.parts else (inner, *inner.parents)
        for mount in mounts:
            yield from (mount / part for part in parts)
            yield mount


def _quota_of(folder: Path) -> float | None:
    """Return the quota in the files of a group, of either version."""
    if text := _read(folder / "cpu.max"):
        quota, _, period = text.partition(" ")
    else:
        quota, period = (_read(folder / f"cpu.cfs_{name}_us") or "" for name in ("quota", "period"))
    if not (quota.isdecimal() and period.isdecimal() and int(quota) and int(period)):
        return None  # "max" or -1
    return int(quota) / int(period)


def _memory_of(folder: Path) -> int | None:
    """Return the limit of memory in the files of a group, of either version."""
    text = _read(folder / "memory.max") or _read(folder / "memory.limit_in_bytes") or ""
    return int(text) if text.isdecimal() and int(text) < _UNLIMITED else None


def _left_of(folder: Path) -> int | None:
    """Return the bytes between the limit of a group and what it uses, of either version."""
    limit = _memory_of(folder)
    used = _read(folder / "memory.current") or _read(folder / "memory.usage_in_bytes") or ""
    if limit is None or not used.isdecimal():
        return limit
    lines = (line.split() for line in (_read(folder / "memory.stat") or "").splitlines())
    files = {name: int(value) for name, value in lines if value.isdecimal()}
    return limit - int(used) + files.get("total_inactive_file", files.get("inactive_file", 0))


def _read(path: Path) -> str | None:
    """Return the text of a file; None where the file can't be read."""
    try:
        return path.read_text(encoding="utf-8").strip()
    except (OSError, ValueError):
        return None
