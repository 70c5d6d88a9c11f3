"""Writes a revision as a git checkout of its own, for packages that ask git about their version or their files.

The checkout borrows the objects of the user's repository and registers nothing there, so that an end at any moment
leaves the repository as it was. Submodules are taken from this machine; nothing is fetched for them.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from harness.measure import git
from harness.revisions.repository import Repository, Revision


def check_out(repository: Repository, revision: Revision, folder: Path) -> None:
    """Make an empty folder a checkout of a revision with the repository's tags and its submodules.

    Submodules that this machine does not have are left empty. Raises UsageError, in git's words, where git fails.
    """
    _borrow(repository, revision.commit, folder)
    if revision.tree:
        git.demand(folder, "read-tree", "HEAD")
        for name in repository.files():
            target = folder / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(repository.folder / name, target, follow_symlinks=False)
    else:
        git.demand(folder, "reset", "--quiet", "--hard", "HEAD")
    for submodule, found, state in repository.inner(revision):
        if found is not None:
            inner = folder / submodule.path
            inner.mkdir(parents=True, exist_ok=True)
            check_out(found, state, inner)


def _borrow(repository: Repository, commit: str, folder: Path) -> None:
    """Make a folder a repository at a commit, with the objects, the settings and the tags of another repository."""
    kind = repository.demand("rev-parse", "--show-object-format")
    git.demand(folder, "init", "--quiet", "--template=", f"--object-format={kind}")
    own = folder / ".git"
    (own / "objects/info").mkdir(parents=True, exist_ok=True)
    (own / "objects/info/alternates").write_text(f"{repository.path_of('objects').resolve()}\n", encoding="utf-8")
    boundary = repository.path_of("shallow")
    if boundary.is_file():
        shutil.copy(boundary, own / "shallow")
    with (own / "config").open("a", encoding="utf-8") as file:
        file.write(_settings(repository.common.resolve()))
    tags = repository.ask("for-each-ref", "--format=create %(refname) %(objectname)", "refs/tags") or ""
    git.demand(folder, "update-ref", "--stdin", given=f"{tags}\n" if tags else "")
    git.demand(folder, "update-ref", "--no-deref", "HEAD", commit)


def _settings(source: Path) -> str:
    """Return settings for git: those of another repository, such as its filters, without what runs or hides anything.

    ``source`` is the git folder of the other repository. Its store of large files is used as well.
    """
    return f"""[include]
\tpath = {_quoted(source / "config")}
[core]
\tbare = false
\thooksPath = /dev/null
\tfsmonitor = false
\tsparseCheckout = false
[submodule]
\trecurse = false
[gc]
\tauto = 0
[maintenance]
\tauto = false
[lfs]
\tstorage = {_quoted(source / "lfs")}
"""


def _quoted(path: Path) -> str:
    """Return a path as a quoted value of a git configuration."""
    escaped = str(path).replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'
