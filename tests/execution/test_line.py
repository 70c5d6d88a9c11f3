"""The commits that a search walks: those along the first parents from base to head."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from harness.api import UsageError
from harness.revisions.line import line_of
from harness.revisions.repository import Repository, Revision
from tests.execution.repositories import Folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Folder:
    """A repository: first, second, a merge of a side branch of two commits that began at first, third."""
    made = Folder(path=tmp_path_factory.mktemp("line"))

    def commit(name: str) -> None:
        made.write(name, name)
        made.commit(f"{name}: a | b")
        made.git("tag", name)

    commit("first")
    made.git("checkout", "-q", "-b", "side")
    commit("side1")
    commit("side2")
    made.git("checkout", "-q", "main")
    commit("second")
    made.git("merge", "-q", "--no-ff", "-m", "merge", "side")
    made.git("tag", "merge")
    commit("third")
    made.git("checkout", "-q", "--orphan", "other")
    made.git("commit", "-q", "-m", "apart")
    made.git("tag", "apart")
    made.git("checkout", "-q", "main")
    return made


def found(folder: Folder, name: str) -> tuple[Repository, Revision]:
    repository = Repository(folder.path)
    revision = repository.find(name)
    assert revision is not None
    return repository, revision


def test_the_line_has_a_merge_as_one_commit_and_nothing_of_its_branch(folder: Folder) -> None:
    repository, first = found(folder, "first")
    line = line_of(repository, first, found(folder, "main")[1])
    assert [commit.subject for commit in line] == ["first: a | b", "second: a | b", "merge", "third: a | b"]
    assert [commit.commit for commit in line] == [
        folder.git("rev-parse", name) for name in ("first", "second", "merge", "third")
    ]
    assert {commit.author for commit in line} == {"toy@example.org"}
    assert all(commit.date[10] == "T" for commit in line)


@pytest.mark.parametrize(
    ("base", "head", "text"),
    [
        ("third", "first", "first .* is before third .*; --bisect expects the older one first"),
        ("side1", "second", r"side1 .* is no ancestor of second .*have [0-9a-f]{9} in common"),
        ("apart", "main", "no ancestor of main"),
        ("side2", "main", "came into main .* by a merge, and is not among its first parents"),
    ],
)
def test_commits_that_are_not_in_a_line_are_refused(folder: Folder, base: str, head: str, text: str) -> None:
    repository, revision = found(folder, base)
    with pytest.raises(UsageError) as refused:
        line_of(repository, revision, found(folder, head)[1])
    assert re.search(text, " ".join(refused.value.problems))


def test_a_working_tree_with_changes_is_refused(folder: Folder) -> None:
    repository, first = found(folder, "first")
    changed = Revision(name=".", commit=first.commit, tree="digest")
    with pytest.raises(UsageError, match=r"working tree on .* has changes that are not committed"):
        line_of(repository, first, changed)


def test_a_line_in_a_bare_repository_is_the_same(folder: Folder, tmp_path: Path) -> None:
    folder.git("clone", "-q", "--bare", str(folder.path), str(tmp_path / "bare"))
    bare = Repository(tmp_path / "bare", has_tree=False)
    first, main = bare.find("first"), bare.find("main")
    assert first is not None
    assert main is not None
    assert len(line_of(bare, first, main)) == 4
