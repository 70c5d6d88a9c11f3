"""Lists the commits between two revisions along the first parents, as they came into the branch."""

from __future__ import annotations

from typing import Final

from harness.analysis.bisection import Commit
from harness.api import UsageError
from harness.measure import git
from harness.revisions.repository import Repository, Revision

_FIELDS: Final = ("%H", "%P", "%an", "%aI", "%s")


def line_of(repository: Repository, base: Revision, head: Revision) -> list[Commit]:
    """Return the commits from base to head along the first parents, both included, oldest first.

    Raises UsageError where one of them is a working tree with changes, or where head does not lead back to base.
    """
    for revision in (base, head):
        if revision.tree:
            raise UsageError(
                f"the {revision.label} has changes that are not committed; --bisect expects two commits",
                "commit the changes, or name a commit such as HEAD",
            )
    names = (base.label, head.label)
    if repository.ask("merge-base", "--is-ancestor", base.commit, head.commit) is None:
        if repository.ask("merge-base", "--is-ancestor", head.commit, base.commit) is not None:
            raise UsageError(f"{names[1]} is before {names[0]}; --bisect expects the older one first")
        cut = f"; {git.SHALLOW}" if repository.is_shallow else ""
        common = repository.ask("merge-base", base.commit, head.commit)
        advice = [f"they have {common[:9]} in common, which may be BASE"] if common else []
        raise UsageError(f"{names[0]} is no ancestor of {names[1]}, so no commits lie between them{cut}", *advice)
    entries = _log(repository, f"{base.commit}..{head.commit}")
    parent = entries[0][1].partition(" ")[0]
    if parent != base.commit:
        raise UsageError(
            f"{names[0]} came into {names[1]} by a merge, and is not among its first parents",
            f"choose a commit of git log --oneline --first-parent {head.commit[:9]}, such as {parent[:9]}",
        )
    return [_commit(fields) for fields in [*_log(repository, "-1", base.commit), *entries]]


def _log(repository: Repository, *which: str) -> list[list[str]]:
    """Return the fields of commits along the first parents, oldest first."""
    shown = "%x1f".join(_FIELDS)
    options = ("--first-parent", "--reverse", "--no-show-signature", f"--format={shown}")
    return [line.split("\x1f") for line in repository.demand("log", *options, *which, "--").splitlines()]


def _commit(fields: list[str]) -> Commit:
    commit, _, author, date, subject = fields
    return Commit(commit=commit, subject=subject, author=author, date=date)
