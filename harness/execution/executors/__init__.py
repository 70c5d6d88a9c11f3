"""Executors that come with the host: processes of this machine, and the calling process."""

from __future__ import annotations

from typing import cast

from harness.api import Executor, UsageError


def fulfilled(executor: object, name: str) -> Executor:
    """Return what a plugin offers as the executor ``name``; raise UsageError where it lacks a member of `Executor`."""
    members = sorted({*vars(Executor), *Executor.__annotations__})
    lacking = [member for member in members if not member.startswith("_") and not hasattr(executor, member)]
    if lacking:
        raise UsageError(f"executor {name!r} lacks {', '.join(lacking)} of harness.api.Executor; update its plugin")
    return cast(Executor, executor)
