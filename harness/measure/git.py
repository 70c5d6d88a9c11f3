"""Asks git about the folder that holds code, even where environment variables point to another repository."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from harness.api import UsageError

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
        "GIT_ATTR_SOURCE",
        "GIT_DEFAULT_HASH",
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


def call(
    folder: Path, *arguments: str, given: str | None = None, timeout_s: float | None = None
) -> subprocess.CompletedProcess[str]:
    """Run a git command in a folder and return how it ended; every call of git in this package is made here.

    ``given`` is the text of the command's standard input. The output is in git's English, and bytes that are no UTF-8
    are kept as surrogates. Raises UsageError where git is not installed or where the time limit is exceeded.
    """
    command = ["git", "-C", str(folder), *arguments]
    try:
        return subprocess.run(
            command,
            env=environment() | {"LC_ALL": "C"},
            input=given,
            stdin=subprocess.DEVNULL if given is None else None,
            capture_output=True,
            encoding="utf-8",
            errors="surrogateescape",
            timeout=timeout_s,
            check=False,
        )
    except OSError as error:
        raise UsageError(f"git cannot be started: {error.strerror or error}", "install git") from error
    except subprocess.TimeoutExpired as error:
        raise UsageError(f"git {arguments[0]} has not ended after {timeout_s:g} s in {folder}") from error


def ask(folder: Path, *arguments: str) -> str | None:
    """Return what a git command prints in a folder; None where git is missing, fails or times out."""
    try:
        done = call(folder, *arguments, timeout_s=_TIMEOUT_S)
    except UsageError:
        return None
    return done.stdout if done.returncode == 0 else None


def demand(folder: Path, *arguments: str, given: str | None = None) -> str:
    """Return what a git command prints in a folder; raise UsageError with git's words where the command fails."""
    done = call(folder, *arguments, given=given)
    if done.returncode:
        raise UsageError(f"git cannot read the repository of {folder}: {words(done)}")
    return done.stdout


def words(done: subprocess.CompletedProcess[str]) -> str:
    """Return what git said of a failure, in one line."""
    return " ".join(done.stderr.split()) or f"git ended with status {done.returncode}"


def refusal(folder: Path) -> str:
    """Return git's words where it refuses to read a folder's repository, as it does where another user owns it.

    The text is empty where git reads the repository, and outside of repositories.
    """
    if not any((parent / ".git").exists() for parent in (folder, *folder.parents)):
        return ""
    try:
        done = call(folder, "rev-parse", "--git-dir", timeout_s=_TIMEOUT_S)
    except UsageError as error:
        return error.problems[0]
    return words(done) if done.returncode and "not a git repository" not in done.stderr else ""


def why_no_commit(folder: Path) -> str:
    """Return why git tells no commit of a folder that is in a repository; an empty text outside of repositories."""
    if why := refusal(folder):
        return why
    if ask(folder, "rev-parse", "--git-dir") is None or ask(folder, "rev-parse", "--verify", "HEAD") is not None:
        return ""
    return "the repository has no commit yet"


def hidden(folder: Path) -> list[str]:
    """Return the paths, relative to a folder, of the files there that git was told to take for unchanged.

    Git lists no change of such a file (``git update-index --assume-unchanged`` or ``--skip-worktree``).
    """
    listed = (ask(folder, "ls-files", "-v", "-z", "--", ".") or "").split("\0")
    names = (entry[2:] for entry in listed if entry[:1].islower() or entry[:1] == "S")
    return [name for name in names if (folder / name).is_file()]


def is_shallow(folder: Path) -> bool:
    """Return whether a folder's repository lacks the older part of its history."""
    return (ask(folder, "rev-parse", "--is-shallow-repository") or "").strip() == "true"


SHALLOW: Final = "the clone is shallow: git fetch --unshallow --tags"
"""What a user reads, and does, where a commit is missing in a shallow clone."""


@dataclass(frozen=True, kw_only=True)
class Checkout:
    """A folder of a git working tree: the commit, and the files below the folder that differ from the commit.

    ``ignored`` may contain folders, whose whole content is ignored. ``changed`` and ``untracked`` may contain folders
    of other repositories, submodules included, of which something differs. All paths are absolute and resolved.
    """

    commit: str
    changed: frozenset[Path]
    deleted: frozenset[Path]
    untracked: frozenset[Path]
    ignored: frozenset[Path]


def checkout(folder: Path) -> Checkout | None:
    """Return the git state of a folder; None outside of a working tree, or where the repository has no commit."""
    top, _, commit = (ask(folder, "rev-parse", "--show-toplevel", "HEAD") or "").removesuffix("\n").rpartition("\n")
    options = ("--untracked-files=all", "--ignored=matching", "--ignore-submodules=none")
    status = ask(folder, "status", "--porcelain=v1", "-z", *options, "--", ".") if top else None
    if status is None:
        return None
    kinds: dict[str, set[Path]] = {kind: set() for kind in ("changed", "deleted", "untracked", "ignored")}
    for code, name in _status_entries(status):
        path = Path(top, name).resolve()
        if code in ("??", "!!"):
            kinds["untracked" if code == "??" else "ignored"].add(path)
        else:
            kinds["deleted" if "D" in code else "changed"].add(path)
    kinds["changed"] |= {(folder / name).resolve() for name in hidden(folder)}
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
