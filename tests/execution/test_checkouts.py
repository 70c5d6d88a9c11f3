"""A revision is written as a git checkout of its own, and the user's repository stays as it was."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.api import UsageError
from harness.revisions.checkout import check_out
from harness.revisions.commits import _missing_for_build, install
from harness.revisions.repository import Repository, Revision

from .repositories import Folder

VERSIONED = """
    [build-system]
    requires = ["hatchling"]
    build-backend = "hatchling.build"

    [project]
    name = "harness-mini"
    dynamic = ["version"]

    [tool.hatch.version]
    source = "code"
    path = "version.py"

    [tool.hatch.build.targets.wheel]
    packages = ["harness_mini"]
"""
DESCRIBED = """
    import subprocess

    command = ["git", "describe", "--tags", "--long", "--dirty", "--match", "v*"]
    tag, distance, rest = subprocess.check_output(command, text=True).strip().split("-", 2)
    __version__ = f"{tag[1:]}.post{distance}" + ("+dirty" if rest.endswith("-dirty") else "")
"""


def checked_out(folder: Folder, name: str, target: Path, place: Path | None = None) -> Folder:
    """The checkout of a revision in a new folder."""
    repository = Repository.around(place or folder.path)
    assert repository is not None
    revision = repository.find(name)
    assert revision is not None
    target.mkdir()
    check_out(repository, revision, target)
    return Folder(path=target)


@pytest.fixture
def tagged(tmp_path: Path) -> Folder:
    """Two commits, of which the first is tagged v0.1.0; a folder is left out of archives."""
    folder = Folder(path=tmp_path / "tagged")
    folder.write("data/levels.txt", "1")
    folder.write(".gitattributes", "data export-ignore\n")
    folder.commit("first")
    folder.git("tag", "--annotate", "v0.1.0", "--message", "a release")
    folder.write("data/levels.txt", "2")
    folder.commit("second")
    return folder


@pytest.fixture
def nested(tmp_path: Path) -> Folder:
    """A repository with a submodule in which there is another submodule; each has two commits."""
    folders = [Folder(path=tmp_path / name) for name in ("innermost", "inner", "outer")]
    for folder, below in zip(folders, [None, *folders], strict=False):
        folder.write("value.txt", "1")
        folder.commit("first")
        if below is not None:
            folder.git("-c", "protocol.file.allow=always", "submodule", "add", str(below.path), "parts/below")
        folder.write("value.txt", "2")
        folder.commit("second")
    folders[2].git("-c", "protocol.file.allow=always", "submodule", "update", "--init", "--recursive")
    return folders[2]


def state(folder: Folder) -> list[str]:
    """Everything in a repository's git folder but its index, whose times git may refresh, and what its refs are."""
    names = sorted(str(path.relative_to(folder.path)) for path in (folder.path / ".git").rglob("*"))
    return [*names, folder.git("for-each-ref"), folder.git("worktree", "list"), folder.git("rev-parse", "HEAD")]


def test_a_version_that_comes_from_tags_is_found_at_every_commit(tmp_path: Path) -> None:
    folder = Folder(path=tmp_path / "project")
    folder.write("pyproject.toml", VERSIONED)
    folder.write("version.py", DESCRIBED)
    folder.write("harness_mini/__init__.py", "HARNESS_API = 1\n")
    folder.commit("first")
    folder.git("tag", "v0.1.0")
    folder.write("harness_mini/__init__.py", "HARNESS_API = 1  # changed\n")
    folder.commit("second")
    repository = Repository(folder.path)
    before = state(folder)
    revision = repository.find("HEAD")
    assert revision is not None
    installed = install(repository, revision, tmp_path / "cache")
    (info,) = installed.folder.glob("venv/lib/*/site-packages/harness_mini-*.dist-info")
    assert info.name == "harness_mini-0.1.0.post1.dist-info"
    assert state(folder) == before


def test_a_checkout_has_the_tags_and_every_file_and_the_repository_stays_as_it_was(tagged, tmp_path: Path) -> None:
    before = state(tagged)
    first = checked_out(tagged, "v0.1.0", tmp_path / "first")
    second = checked_out(tagged, "main", tmp_path / "second")
    assert [(copy.path / "data/levels.txt").read_text() for copy in (first, second)] == ["1", "2"]
    assert first.git("describe") == "v0.1.0"
    assert second.git("describe") == tagged.git("describe")
    assert first.git("status", "--porcelain") == second.git("status", "--porcelain") == ""
    assert state(tagged) == before


def test_a_changed_working_tree_is_a_changed_checkout(tagged, tmp_path: Path) -> None:
    tagged.write("data/levels.txt", "3")
    tagged.write("new.txt", "new")
    (tagged.path / ".gitattributes").unlink()
    copy = checked_out(tagged, ".", tmp_path / "copy")
    assert (copy.path / "data/levels.txt").read_text() == "3"
    assert copy.git("status", "--porcelain") == tagged.git("status", "--porcelain")
    assert copy.git("describe", "--dirty") == tagged.git("describe", "--dirty")


def test_a_new_file_is_a_change_though_the_user_has_git_list_none(tagged) -> None:
    tagged.git("config", "status.showUntrackedFiles", "no")
    tagged.write("new.txt", "new")
    found = Repository(tagged.path).find(".")
    assert found is not None
    assert found.tree


def test_a_change_that_git_was_told_not_to_see_is_a_change(tagged, tmp_path: Path) -> None:
    tagged.git("update-index", "--assume-unchanged", "data/levels.txt")
    tagged.write("data/levels.txt", "3")
    assert (checked_out(tagged, ".", tmp_path / "copy").path / "data/levels.txt").read_text() == "3"


def test_submodules_are_written_from_this_machine(nested, tmp_path: Path) -> None:
    before = state(nested)
    copy = checked_out(nested, "HEAD", tmp_path / "copy")
    assert (copy.path / "parts/below/value.txt").read_text() == "2"
    assert (copy.path / "parts/below/parts/below/value.txt").read_text() == "2"
    assert copy.git("status", "--porcelain") == ""
    assert state(nested) == before


def test_a_submodule_that_the_working_tree_no_longer_has_is_found_at_an_older_commit(nested, tmp_path: Path) -> None:
    nested.git("rm", "--quiet", "parts/below")
    nested.git("commit", "--quiet", "--message=without")
    assert not list(checked_out(nested, "HEAD", tmp_path / "new").path.glob("parts/**/value.txt"))
    copy = checked_out(nested, "HEAD~1", tmp_path / "old")
    assert (copy.path / "parts/below/value.txt").read_text() == "2"


def test_a_change_in_a_submodule_is_a_change_of_the_working_tree(nested, tmp_path: Path) -> None:
    repository = Repository(nested.path)
    nested.git("config", "submodule.parts/below.ignore", "all")
    trees = []
    for text in ("3", "4"):
        (nested.path / "parts/below/value.txt").write_text(text)
        found = repository.find(".")
        assert found is not None
        trees.append(found.tree)
    assert len({"", *trees}) == 3
    copy = checked_out(nested, ".", tmp_path / "copy")
    assert (copy.path / "parts/below/value.txt").read_text() == "4"
    assert (copy.path / "parts/below/parts/below/value.txt").read_text() == "2"


def test_a_submodule_that_was_never_fetched_is_named(nested, tmp_path: Path) -> None:
    clone = Folder(path=tmp_path / "clone")
    nested.git("clone", "--quiet", str(nested.path), str(clone.path))
    repository = Repository(clone.path)
    head = repository.find("HEAD")
    assert head is not None
    assert repository.missing_submodules(head) == ["parts/below"]
    assert (checked_out(clone, "HEAD", tmp_path / "copy").path / "value.txt").read_text() == "2"


def test_a_filter_of_the_repository_is_applied_and_no_hook_is_run(tagged, tmp_path: Path) -> None:
    tagged.write(".gitattributes", "*.txt filter=shout\n")
    tagged.commit("filtered")
    tagged.git("config", "filter.shout.smudge", "sed s/2/two/")
    tagged.git("config", "core.hooksPath", str(tmp_path))
    (tmp_path / "post-checkout").write_text(f"#!/bin/sh\ntouch {tmp_path}/ran\n")
    (tmp_path / "post-checkout").chmod(0o755)
    assert (checked_out(tagged, "HEAD", tmp_path / "copy").path / "data/levels.txt").read_text() == "two"
    assert not (tmp_path / "ran").exists()


def test_odd_repositories_are_checked_out_as_any_other(tagged, tmp_path: Path) -> None:
    tagged.git("clone", "--quiet", "--bare", str(tagged.path), str(tmp_path / "bare"))
    tagged.git("clone", "--quiet", "--depth=1", f"file://{tagged.path}", str(tmp_path / "shallow"))
    tagged.git("worktree", "add", "--quiet", "--detach", str(tmp_path / "linked"))
    tagged.git("checkout", "--quiet", "--detach")
    tagged.write("data/levels.txt", "3")
    tagged.commit("on no branch")
    for name, expected in (("bare", "2"), ("shallow", "2"), ("linked", "2"), ("tagged", "3"), ("tagged/.git", "3")):
        copy = checked_out(tagged, "HEAD", tmp_path / f"{name.replace('/', '-')}-copy", tmp_path / name)
        assert (copy.path / "data/levels.txt").read_text() == expected
        assert copy.git("status", "--porcelain") == ""


def test_a_partial_clone_is_checked_out_as_far_as_git_can_fetch_the_rest(tagged, tmp_path: Path) -> None:
    tagged.git("config", "uploadpack.allowFilter", "true")
    tagged.git("config", "uploadpack.allowAnySHA1InWant", "true")
    tagged.git("clone", "--quiet", "--filter=blob:none", f"file://{tagged.path}", str(tmp_path / "partial"))
    copy = checked_out(tagged, "HEAD^", tmp_path / "copy", tmp_path / "partial")
    assert (copy.path / "data/levels.txt").read_text() == "1"
    tagged.git("clone", "--quiet", "--filter=blob:none", f"file://{tagged.path}", str(tmp_path / "cut-off"))
    Folder(path=tmp_path / "cut-off").git("remote", "set-url", "origin", "file:///nowhere")
    with pytest.raises(UsageError, match="could not fetch"):
        checked_out(tagged, "HEAD^", tmp_path / "other", tmp_path / "cut-off")


@pytest.mark.parametrize("default", ["sha1", "sha256"])
def test_the_user_s_default_of_new_repositories_does_not_matter(tagged, default, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("GIT_DEFAULT_HASH", default)
    assert (checked_out(tagged, "HEAD", tmp_path / "copy").path / "data/levels.txt").read_text() == "2"


def test_a_repository_of_longer_hashes_is_checked_out(tmp_path: Path) -> None:
    folder = Folder(path=tmp_path / "long")
    folder.path.mkdir()
    folder.git("init", "--object-format=sha256")
    folder.write("a.txt", "a")
    assert len(folder.commit("first")) == 64
    assert (checked_out(folder, "HEAD", tmp_path / "copy").path / "a.txt").read_text() == "a"


def test_a_file_whose_name_is_no_text_is_part_of_the_working_tree(tagged, tmp_path: Path) -> None:
    name = b"caf\xe9.txt".decode("utf-8", "surrogateescape")
    (tagged.path / name).write_text("content")
    assert (checked_out(tagged, ".", tmp_path / "copy").path / name).read_text() == "content"


def test_a_repository_without_a_working_tree_has_none_to_compare(tagged, tmp_path: Path) -> None:
    tagged.git("clone", "--quiet", "--bare", str(tagged.path), str(tmp_path / "bare"))
    repository = Repository.around(tmp_path / "bare")
    assert repository is not None
    with pytest.raises(UsageError, match="no working tree"):
        repository.find(".")
    assert repository.find("v0.1.0") is not None


def test_a_missing_commit_is_explained_by_the_state_of_the_repository(tagged, tmp_path: Path) -> None:
    tagged.git("clone", "--quiet", "--depth=1", f"file://{tagged.path}", str(tmp_path / "shallow"))
    tagged.git("init", "--quiet", str(tmp_path / "new"))
    assert Repository(tagged.path).why_unknown() == ""
    assert Repository(tmp_path / "new").why_unknown() == "the repository has no commit yet"
    tagged.git("switch", "--quiet", "--orphan", "fresh")
    assert Repository(tagged.path).why_unknown() == "the branch that is checked out has no commit yet"
    shallow = Repository(tmp_path / "shallow")
    assert shallow.find("HEAD^") is None
    assert shallow.why_unknown() == "the clone is shallow: git fetch --unshallow --tags"


@pytest.mark.parametrize(
    ("system", "missing"),
    [
        ('requires = ["hatchling"]\nbuild-backend = "hatchling.build"', []),
        ('requires = ["hatchling", "no-such-thing>=1"]\nbuild-backend = "hatchling.build"', ["no-such-thing>=1"]),
        ('requires = ["hatchling>=999"]\nbuild-backend = "hatchling.build"', ["hatchling>=999"]),
        ('requires = ["hatchling", "no-such-thing; python_version < \'3\'"]', []),
        ('requires = []\nbuild-backend = "own"\nbackend-path = ["."]', []),
        ('requires = ["not a requirement"]', ["not a requirement"]),
        ("", []),
    ],
)
def test_all_that_a_build_requires_decides_whether_it_is_isolated(system: str, missing: list[str], tmp_path) -> None:
    (tmp_path / "pyproject.toml").write_text(f"[build-system]\n{system}\n" if system else "")
    assert _missing_for_build(tmp_path) == missing


def test_a_missing_part_of_the_build_is_named_where_the_installation_fails(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    folder = Folder(path=tmp_path / "project")
    folder.plugin("mini", {"__init__.py": "HARNESS_API = 1\n"})
    folder.write("pyproject.toml", (folder.path / "pyproject.toml").read_text().replace('"]', '", "no-such-thing"]', 1))
    folder.commit("first")
    with pytest.raises(UsageError, match="its build needs no-such-thing, not installed here"):
        install(Repository(folder.path), Revision(name="x", commit=folder.git("rev-parse", "HEAD")), tmp_path / "cache")
