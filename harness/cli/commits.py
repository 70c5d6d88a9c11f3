"""Finds and installs the commits that a command names."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from harness.cli.output import say

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from harness.history.decisions import Decisions
    from harness.revisions.commits import Installed
    from harness.revisions.repository import Repository, Revision
    from harness.revisions.rounds import Side

NO_RELEASE = "none"

CANNOT_TELL = 125
"""The exit code where what was asked has no answer, or no single one: ``git bisect run`` skips the commit."""


def repository_here() -> Repository | None:
    """Return the repository around this folder; None where there is none."""
    from harness.revisions.repository import Repository

    return Repository.around(Path.cwd())


def decisions_here() -> Decisions:
    """Return what the project around this folder accepted and renamed; raise UsageError for mistakes in its file."""
    from harness.history.decisions import find, read

    return read(find(Path.cwd()))


def find_revisions(names: tuple[str, str]) -> tuple[Repository, Revision, Revision]:
    """Return the repository and its two revisions; raise UsageError for a name that is neither run nor revision."""
    from harness.api import UsageError

    repository = repository_here()
    if repository is None:
        raise UsageError(
            f"{names[0]} and {names[1]} are not both stored runs, and this folder is in no git repository",
            "see the runs: harness runs; or go to a checkout to compare commits",
        )
    found = {name: repository.find(name) for name in names}
    unknown = [repr(name) for name, revision in found.items() if revision is None]
    if unknown:
        why = repository.why_unknown()
        raise UsageError(
            f"{', '.join(unknown)} is no commit, tag or branch of {repository.folder}" + (f": {why}" if why else ""),
            *([] if why else ["see the stored runs: harness runs; see the commits: git log --oneline"]),
        )
    base, head = (found[name] for name in names)
    assert base is not None
    assert head is not None
    if (base.commit, base.tree) == (head.commit, head.tree):
        raise UsageError(
            f"{names[0]} and {names[1]} are both {head.commit[:9]}: there is nothing to compare",
            "to compare with a release, name it as BASE",
        )
    return repository, base, head


def installed(
    repository: Repository, revisions: Mapping[Side, Revision], *, any_head: bool = False
) -> tuple[dict[Side, Installed], dict[Side, str]]:
    """Return the environments of comparable revisions, and why the release or the head cannot be compared.

    Raises UsageError for a base that cannot be compared, and for a head that cannot be installed or is too old; with
    ``any_head`` this is only a reason, too.
    """
    from harness.api import UsageError
    from harness.results.places import default_cache_path
    from harness.revisions.asked import start_failure, too_old
    from harness.revisions.commits import install
    from harness.revisions.rounds import BASE, HEAD, RELEASE

    sides: dict[Side, Installed] = {}
    why: dict[Side, str] = {}
    for name, revision in revisions.items():
        tell(f"installing {revision.label}")
        forgiven = any_head and name == HEAD
        try:
            side = install(repository, revision, default_cache_path())
        except UsageError as error:
            if not forgiven:
                raise
            why[name] = error.problems[0]
            continue
        broken = start_failure(side)
        old = "" if broken else too_old(side)
        if (broken and name == BASE) or (old and name != RELEASE and not forgiven):
            raise UsageError(f"{revision.label}: {broken or old}", "choose another commit")
        if broken or old:
            why[name] = broken or old
        else:
            sides[name] = side
    return sides, why


def suite_paths(names: Sequence[str], repository: Repository) -> tuple[str, ...]:
    """Return the names of suites, or the paths of their files relative to the project, valid in every commit."""
    return tuple(_suite(name, repository) for name in names)


def _suite(name: str, repository: Repository) -> str:
    if not name.endswith(".toml"):
        return name
    path = Path(name).resolve()
    if not path.is_relative_to(repository.folder.resolve()):
        from harness.api import UsageError

        raise UsageError(f"--suite {name!r}: the file is not in {repository.folder}, so no commit has it")
    return path.relative_to(repository.folder.resolve()).as_posix()


def release_of(name: str | None, repository: Repository, head: Revision) -> Revision | None:
    """Return the release of a name, or the last one before head where no name is given; None where there is none."""
    if name == NO_RELEASE:
        return None
    if name is None:
        return repository.release(head)
    release = repository.find(name)
    if release is None:
        from harness.api import UsageError

        raise UsageError(f"--release {name!r}: no such tag or commit; or give --release {NO_RELEASE}")
    return release


def require_compared(option: str, metric: str, known: Collection[str]) -> None:
    """Raise UsageError for a metric of an option that is not known, or that commits are not compared by."""
    from harness.analysis.sought import unknown_to
    from harness.api import UsageError

    if problem := unknown_to(metric, known):
        raise UsageError(f"{option}: {problem}")


def left_out(sides: Mapping[Side, Installed]) -> list[str]:
    """Return which submodules a comparison leaves out because this machine does not have them."""
    return [
        f"{side.revision.label} is installed without its submodule {path}: git submodule update --init --recursive"
        for side in sides.values()
        for path in side.missing
    ]


def tell(line: str) -> None:
    """Show a line of progress."""
    say(f"harness: {line}", err=True)
