"""Finds the revisions of a git repository: commits, tags, branches, releases, and the working tree with its changes."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from harness.api import UsageError
from harness.measure import git

WORKING_TREE: Final = "."
"""The name of the revision that stands for the working tree, with its uncommitted changes."""

RELEASES: Final = "v*"
"""The pattern of the tags that mark releases."""

_LINK: Final = "160000"
"""The mode of an entry that is a commit of another repository, as git lists files."""


@dataclass(frozen=True, kw_only=True)
class Revision:
    """A state of the project: a commit, or a working tree on top of a commit.

    ``commit`` is the full hash of the commit. ``tree`` is a digest of the files of a working tree with uncommitted
    changes; it is empty for a commit and for an unchanged working tree.
    """

    name: str
    commit: str
    tree: str = ""

    @property
    def label(self) -> str:
        """The name in a report: the name given, followed by the commit unless the name is the commit's hash."""
        short = self.commit[:9]
        if self.tree:
            return f"working tree on {short}"
        return short if self.commit.startswith(self.name) else f"{self.name} ({short})"


@dataclass(frozen=True, kw_only=True)
class Submodule:
    """A submodule of a revision: its path in the revision, its name in ``.gitmodules``, and its commit."""

    path: str
    name: str
    commit: str


class Repository:
    """The git repository that holds the project; ``folder`` is its working tree, or its git folder if it has none."""

    def __init__(self, folder: Path, *, has_tree: bool = True) -> None:
        self.folder = folder
        self.has_tree = has_tree

    @classmethod
    def around(cls, place: Path) -> Repository | None:
        """Return the repository around ``place``, None without one or without git; raise UsageError in git's words."""
        if shutil.which("git") is None:
            return None
        done = git.call(place, "rev-parse", "--is-inside-work-tree", "--absolute-git-dir")
        if done.returncode and "not a git repository" in done.stderr:
            return None
        if done.returncode:
            raise UsageError(f"git cannot read the repository of {place}: {git.words(done)}")
        inside, _, folder = done.stdout.removesuffix("\n").partition("\n")
        if inside == "true":
            return cls(Path(git.demand(place, "rev-parse", "--show-toplevel").removesuffix("\n")))
        return cls(Path(folder), has_tree=False)

    # ------------------------------------------------------------------------------------------- questions

    def ask(self, *command: str) -> str | None:
        """Return the output of a git command; None where the command fails."""
        done = git.call(self.folder, *self._place(), *command)
        return done.stdout.rstrip("\n") if done.returncode == 0 else None

    def demand(self, *command: str) -> str:
        """Return the output of a git command; raise UsageError with git's words where the command fails."""
        return git.demand(self.folder, *self._place(), *command).rstrip("\n")

    def _place(self) -> tuple[str, ...]:
        """Return the options that keep git from looking for a working tree that is not there."""
        return () if self.has_tree else ("--git-dir=.", "--work-tree=.")

    def path_of(self, name: str) -> Path:
        """Return the absolute path of a file or folder in the repository's git folder."""
        return self.folder / self.demand("rev-parse", "--git-path", name)

    @property
    def common(self) -> Path:
        """The git folder that all working trees of the repository share."""
        return self.folder / self.demand("rev-parse", "--git-common-dir")

    # ------------------------------------------------------------------------------------------- revisions

    def find(self, name: str) -> Revision | None:
        """Return the revision of a commit, a tag, a branch, or ``.`` (the working tree); None for an unknown name."""
        if name == WORKING_TREE and not self.has_tree:
            raise UsageError(
                f"{self.folder} has no working tree to compare: it is a bare repository, or the inside of a git folder",
                "name two commits",
            )
        commit = self.ask("rev-parse", "--verify", "--quiet", "--end-of-options", f"{_ref(name)}^{{commit}}")
        if commit is None:
            return None
        self._require_unambiguous(name)
        changed = name == WORKING_TREE and bool(self.changes())
        return Revision(name=name, commit=commit, tree=self.digest() if changed else "")

    def changes(self) -> str:
        """Return git's list of changed and new files, and those that git was told to take for unchanged.

        No setting of the user hides any of them.
        """
        listed = self.ask("status", "--porcelain", "--untracked-files=normal", "--ignore-submodules=none") or ""
        return "\n".join([listed, *git.hidden(self.folder)]).strip()

    def why_unknown(self) -> str:
        """Return why a commit may be unknown that the user named: the history is empty or cut off; else empty."""
        if not self.ask("rev-list", "--all", "--max-count=1"):
            return "the repository has no commit yet"
        if self.ask("rev-parse", "--verify", "--quiet", "HEAD") is None:
            return "the branch that is checked out has no commit yet"
        return git.SHALLOW if self.is_shallow else ""

    @property
    def is_shallow(self) -> bool:
        """Whether the repository lacks the older part of its history."""
        return self.ask("rev-parse", "--is-shallow-repository") == "true"

    def _require_unambiguous(self, name: str) -> None:
        """Raise UsageError for the name of a branch that is also the name of a tag of another commit."""
        references = (f"refs/{kind}/{name}^{{commit}}" for kind in ("heads", "tags"))
        found = {self.ask("rev-parse", "--verify", "--quiet", "--end-of-options", text) for text in references}
        if None not in found and len(found) > 1:
            raise UsageError(f"{name!r} is ambiguous: a branch and a tag", f"say heads/{name} or tags/{name}")

    def release(self, head: Revision) -> Revision | None:
        """Return the last release before ``head``; None where there is none. A release does not precede itself."""
        for start in (head.commit, f"{head.commit}^"):
            tag = self.ask("describe", "--tags", "--abbrev=0", "--match", RELEASES, start)
            release = self.find(tag) if tag else None
            if release is not None and (release.commit != head.commit or head.tree):
                return release
        return None

    # ----------------------------------------------------------------------------------------------- files

    def files(self) -> list[str]:
        """Return the paths of the working tree's files that git tracks, or that are new and not ignored.

        Repositories inside the working tree are left out, submodules included.
        """
        listed = self.ask("ls-files", "--cached", "--others", "--exclude-standard", "-z") or ""
        names = dict.fromkeys(listed.split("\0"))
        return [name for name in names if name and _is_file(self.folder / name)]

    def digest(self) -> str:
        """Return the SHA-256 digest, in hexadecimal, of the working tree's files and those of its submodules."""
        total = hashlib.sha256()
        for name in sorted(self.files()):
            path = self.folder / name
            content = os.fsencode(path.readlink()) if path.is_symlink() else path.read_bytes()
            total.update(f"{name}\0{len(content)}\0".encode("utf-8", "surrogateescape"))
            total.update(content)
        for submodule in self.submodules():
            found = self.submodule(submodule, as_it_is=True)
            if found is not None and found.has_tree:
                total.update(f"{submodule.path}\0{found.digest()}\0".encode("utf-8", "surrogateescape"))
        return total.hexdigest()

    # ------------------------------------------------------------------------------------------ submodules

    def submodules(self, commit: str = "") -> list[Submodule]:
        """Return the submodules of a commit, or those of the index if no commit is given."""
        if commit:
            listed = self.ask("ls-tree", "-r", "-z", "--full-tree", commit) or ""
            blob = ("--blob", f"{commit}:.gitmodules")
        else:
            listed = self.ask("ls-files", "--stage", "-z") or ""
            blob = ("--file", str(self.folder / ".gitmodules"))
        links = dict(_links(listed))
        if not links:
            return []
        named = self.ask("config", *blob, "--null", "--get-regexp", r"^submodule\..*\.path$") or ""
        entries = (entry.partition("\n") for entry in named.split("\0") if entry)
        names = {path: key.removeprefix("submodule.").removesuffix(".path") for key, _, path in entries}
        return [Submodule(path=path, name=names.get(path, path), commit=link) for path, link in links.items()]

    def submodule(self, wanted: Submodule, *, as_it_is: bool = False) -> Repository | None:
        """Return the repository of a submodule as far as this machine has it with its commit; nothing is fetched.

        With ``as_it_is`` the submodule's working tree is returned where there is one, whatever is checked out there.
        """
        candidates = []
        if self.has_tree and (self.folder / wanted.path / ".git").exists():
            candidates.append(Repository(self.folder / wanted.path))
        if candidates and as_it_is:
            return candidates[0]
        places = dict.fromkeys(folder / "modules" / wanted.name for folder in (self.path_of("."), self.common))
        candidates += [Repository(place, has_tree=False) for place in places if place.is_dir()]
        for candidate in candidates:
            if candidate.ask("cat-file", "-e", f"{wanted.commit}^{{commit}}") is not None:
                return candidate
        return None

    def inner(self, revision: Revision) -> Iterator[tuple[Submodule, Repository | None, Revision]]:
        """Yield each submodule of a revision with its repository, None where it is missing, and its own revision.

        In a working tree with changes a submodule is taken as it is checked out there.
        """
        for submodule in self.submodules("" if revision.tree else revision.commit):
            found = self.submodule(submodule, as_it_is=bool(revision.tree))
            tree = revision.tree if found is not None and found.has_tree else ""
            commit = (found.ask("rev-parse", "HEAD") if found is not None and tree else None) or submodule.commit
            yield submodule, found, Revision(name="", commit=commit, tree=tree)

    def missing_submodules(self, revision: Revision) -> list[str]:
        """Return the paths of a revision's submodules whose files this machine does not have."""
        missing = []
        for submodule, found, state in self.inner(revision):
            inner = [""] if found is None else [f"/{path}" for path in found.missing_submodules(state)]
            missing += [f"{submodule.path}{path}" for path in inner]
        return missing


def _ref(name: str) -> str:
    """Return git's name of a revision."""
    return "HEAD" if name == WORKING_TREE else name


def _is_file(path: Path) -> bool:
    """Return whether a path is a regular file or a symbolic link: not a folder, and no pipe that would never end."""
    return path.is_symlink() or path.is_file()


def _links(listed: str) -> Iterator[tuple[str, str]]:
    """Yield path and commit of each commit of another repository in the output of ``ls-tree`` or ``ls-files -s``."""
    for entry in listed.split("\0"):
        facts, _, path = entry.partition("\t")
        mode, *others = facts.split(" ")
        if mode == _LINK:
            yield path, next(other for other in others if len(other) >= 40)
