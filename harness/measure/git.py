"""Asks git about the folder that holds code, even where environment variables point to another repository."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

LEADING: Final = frozenset(
    {
        "GIT_DIR",
        "GIT_WORK_TREE",
        "GIT_IMPLICIT_WORK_TREE",
        "GIT_COMMON_DIR",
        "GIT_INDEX_FILE",
        "GIT_OBJECT_DIRECTORY",
        "GIT_ALTERNATE_OBJECT_DIRECTORIES",
        "GIT_GRAFT_FILE",
        "GIT_SHALLOW_FILE",
        "GIT_REPLACE_REF_BASE",
        "GIT_NO_REPLACE_OBJECTS",
        "GIT_NAMESPACE",
        "GIT_PREFIX",
        "GIT_LITERAL_PATHSPECS",
        "GIT_GLOB_PATHSPECS",
        "GIT_NOGLOB_PATHSPECS",
        "GIT_ICASE_PATHSPECS",
    }
)
"""Variables that point git to another repository, or change how git reads paths.

The variables that configure git are kept (``GIT_CONFIG_*``, which may declare a folder safe).
"""

_TIMEOUT_S: Final = 10.0
"""Seconds after which a git command that has not finished is given up."""


def environment() -> dict[str, str]:
    """Return the environment variables of this process without those of `LEADING`, for a git that only reads.

    git takes no optional lock: a command that reads must not make a commit of the user fail.
    """
    return {name: value for name, value in os.environ.items() if name not in LEADING} | {"GIT_OPTIONAL_LOCKS": "0"}


def ask(folder: Path, *arguments: str) -> str | None:
    """Return what a git command prints in a folder; None where git is missing, fails or times out."""
    if shutil.which("git") is None:
        return None
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), *arguments],
            env=environment(),
            capture_output=True,
            text=True,
            errors="surrogateescape",
            timeout=_TIMEOUT_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout if done.returncode == 0 else None


@dataclass(frozen=True, kw_only=True)
class Checkout:
    """A folder of a git working tree: the commit, and the files below the folder that differ from the commit.

    ``ignored`` may contain folders, whose whole content is ignored. All paths are absolute and resolved.
    """

    commit: str
    changed: frozenset[Path]
    deleted: frozenset[Path]
    untracked: frozenset[Path]
    ignored: frozenset[Path]


def checkout(folder: Path) -> Checkout | None:
    """Return the git state of a folder; None outside of a working tree, or where the repository has no commit."""
    answer = ask(folder, "rev-parse", "--show-toplevel", "HEAD")
    if answer is None or len(answer.splitlines()) != 2:
        return None
    top, commit = answer.splitlines()
    status = ask(folder, "status", "--porcelain=v1", "-z", "--untracked-files=all", "--ignored=matching", "--", ".")
    if status is None:
        return None
    kinds: dict[str, set[Path]] = {kind: set() for kind in ("changed", "deleted", "untracked", "ignored")}
    for code, name in _status_entries(status):
        path = Path(top, name).resolve()
        if code in ("??", "!!"):
            kinds["untracked" if code == "??" else "ignored"].add(path)
        else:
            kinds["deleted" if "D" in code else "changed"].add(path)
    return Checkout(commit=commit, **{kind: frozenset(paths) for kind, paths in kinds.items()})


def _status_entries(status: str) -> Iterator[tuple[str, str]]:
    """Yield the two status letters and the path of each entry; a rename yields a changed and a deleted file."""
    parts = iter(status.split("\0"))
    for part in parts:
        if not part:
            continue
        code, name = part[:2], part[3:]
        if code[0] in "RC":
            yield "M ", name
            yield ("D " if code[0] == "R" else "M "), next(parts)
        else:
            yield code, name
