"""Revisions of a project, each installed in an environment of its own."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path

import pytest

from harness.api import UsageError
from harness.measure import git
from harness.revisions.checkout import check_out
from harness.revisions.commits import KEPT, Installed, install
from harness.revisions.repository import Repository, Revision

from .repositories import Folder

PLUGIN = {"__init__.py": "HARNESS_API = 1\n"}


@pytest.fixture(scope="module")
def history(tmp_path_factory: pytest.TempPathFactory) -> Folder:
    """Two commits of a plugin; the second, tagged v2, has a second plugin too."""
    folder = Folder(path=tmp_path_factory.mktemp("history"))
    folder.plugin("mini", {**PLUGIN, "value.py": "VALUE = 1\n"})
    folder.write(".gitignore", "*.log\n")
    folder.commit("first")
    folder.git("tag", "v1")
    folder.plugin("mini", {**PLUGIN, "value.py": "VALUE = 2\n"})
    folder.plugin("extra", PLUGIN, folder="plugins/extra/")
    folder.commit("second")
    folder.git("tag", "v2")
    folder.git("tag", "nightly")
    return folder


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def repository(history: Folder) -> Repository:
    found = Repository.around(history.path / "plugins")
    assert found is not None
    return found


def find(repository: Repository, name: str) -> Revision:
    found = repository.find(name)
    assert found is not None
    return found


def output(installed: Installed, code: str) -> str:
    command = [str(installed.python), "-P", "-c", code]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def test_every_revision_sees_its_own_packages_and_this_environment_s_third_party_ones(repository, cache) -> None:
    for name, value, plugins in (("v1", "1", ["mini"]), ("v2", "2", ["extra", "mini"])):
        installed = install(repository, find(repository, name), cache)
        assert output(installed, "from harness_mini.value import VALUE; print(VALUE)") == value
        code = "from importlib.metadata import entry_points as e; print(*{p.name for p in e(group='harness.plugins')})"
        assert sorted({"extra", "mini"} & {*output(installed, code).split()}) == plugins
        assert output(installed, "import importlib.metadata as m; print(m.version('click'))") == version("click")


def test_a_revision_s_own_harness_command_runs(repository, cache) -> None:
    done = install(repository, find(repository, "v2"), cache).run("plugins", "--json")
    assert done.returncode == 0, done.stderr
    assert '"extra"' in done.stdout


def test_an_environment_is_made_once(repository, cache) -> None:
    first = install(repository, find(repository, "v1"), cache)
    marker = first.folder / "marker"
    marker.touch()
    assert install(repository, find(repository, "v1"), cache).folder == first.folder
    assert marker.exists()


def test_a_copy_of_the_project_in_this_environment_does_not_leak_into_a_commit_without_it(
    repository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    info = tmp_path / "site/harness_extra-9.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: harness_Extra\nVersion: 9\n")
    (info / "entry_points.txt").write_text("[harness.plugins]\nextra = harness_extra\n")
    (info / "RECORD").write_text("harness_extra/__init__.py,,\nharness_extra-9.dist-info/METADATA,,\n")
    (tmp_path / "site/harness_extra").mkdir()
    (tmp_path / "site/harness_extra/__init__.py").write_text("HARNESS_API = 1\n")
    (tmp_path / "site/stays.py").touch()
    monkeypatch.syspath_prepend(tmp_path / "site")
    installed = install(repository, find(repository, "v1"), tmp_path / "cache")
    plugins = installed.run("plugins", "--json").stdout
    assert '"mini"' in plugins
    assert '"extra"' not in plugins
    code = "import importlib.util as u; print(u.find_spec('harness_extra'), u.find_spec('stays') is not None)"
    assert output(installed, code) == "None True"


def test_who_looked_for_pip_can_still_compile() -> None:
    code = (
        "from harness.revisions.commits import has_pip; assert has_pip(); import setuptools, distutils.core as core; "
    )
    done = subprocess.run(
        [sys.executable, "-c", code + "print(core.__file__)"], capture_output=True, text=True, check=False
    )
    assert "setuptools" in done.stdout, done.stderr


def test_the_working_tree_is_a_revision_with_its_new_files_and_without_ignored_ones(history, cache) -> None:
    repository = Repository(history.path)
    assert find(repository, ".") == Revision(name=".", commit=find(repository, "v2").commit)
    try:
        history.write("harness_mini/value.py", "VALUE = 3\n")
        history.write("harness_mini/fresh.py", "VALUE = 4\n")
        history.write("harness_mini/noise.log", "")
        changed = find(repository, ".")
        assert changed.label.startswith("working tree on ")
        installed = install(repository, changed, cache)
        code = "from harness_mini import fresh, value; print(value.VALUE, fresh.VALUE)"
        assert output(installed, code) == "3 4"
        assert not list(installed.source.rglob("*.log"))
        history.write("harness_mini/fresh.py", "VALUE = 5\n")
        assert find(repository, ".").tree != changed.tree
    finally:
        history.git("checkout", "--", ".")
        history.git("clean", "--force", "-d", "-x")


def test_names_of_nothing_find_nothing(repository, tmp_path: Path) -> None:
    assert repository.find("nowhere") is None
    assert repository.find("--help") is None
    assert Repository.around(tmp_path) is None


def test_the_last_release_is_the_nearest_version_tag_before_the_head(history) -> None:
    repository = Repository(history.path)
    release = repository.release(find(repository, "v2"))
    assert release is not None
    assert release.name == "v1"
    assert repository.release(find(repository, "v1")) is None


def test_a_revision_that_cannot_be_installed_says_why_in_one_line_and_leaves_nothing(tmp_path: Path) -> None:
    folder = Folder(path=tmp_path / "broken")
    folder.plugin("mini", PLUGIN, version="not a version")
    folder.commit("broken")
    repository = Repository(folder.path)
    with pytest.raises(UsageError, match=r"cannot be installed: .*not a version") as caught:
        install(repository, find(repository, "HEAD"), tmp_path / "cache")
    assert len(caught.value.problems) == 1
    assert not list((tmp_path / "cache/commits").iterdir())


def test_a_revision_without_a_project_is_refused(tmp_path: Path) -> None:
    folder = Folder(path=tmp_path / "empty")
    folder.write("README.md", "nothing here\n")
    folder.commit("empty")
    repository = Repository(folder.path)
    with pytest.raises(UsageError, match="nothing to install"):
        install(repository, find(repository, "HEAD"), tmp_path / "cache")


def test_environments_used_longest_ago_are_removed(history, tmp_path: Path) -> None:
    commits = tmp_path / "commits"
    for number in range(KEPT + 3):
        (commits / f"old-{number:02}").mkdir(parents=True)
        stamp = time.time() - 1000 + number
        os.utime(commits / f"old-{number:02}", (stamp, stamp))
    repository = Repository(history.path)
    installed = install(repository, find(repository, "v1"), tmp_path)
    left = sorted(one.name for one in commits.iterdir())
    assert len(left) == KEPT
    assert installed.folder.name in left
    assert "old-00" not in left
    assert f"old-{KEPT + 2:02}" in left


def test_a_branch_and_a_tag_of_one_name_are_ambiguous(tmp_path: Path) -> None:
    folder = Folder(path=tmp_path / "both")
    folder.path.mkdir()
    folder.write("a.txt", "1")
    folder.commit("first")
    folder.git("branch", "topic")
    folder.git("tag", "same", "HEAD")
    folder.git("branch", "same")
    folder.write("a.txt", "2")
    folder.commit("second")
    folder.git("tag", "topic")
    repository = Repository.around(folder.path)
    assert repository is not None
    with pytest.raises(UsageError, match="'topic' is ambiguous: a branch and a tag"):
        repository.find("topic")
    branch, tag = repository.find("heads/topic"), repository.find("tags/topic")
    assert branch is not None
    assert tag is not None
    assert branch.commit != tag.commit
    assert repository.find("same") is not None


def test_a_refusal_of_git_is_told_in_its_words(history, monkeypatch) -> None:
    monkeypatch.setenv("GIT_TEST_ASSUME_DIFFERENT_OWNER", "1")
    with pytest.raises(UsageError, match=r"dubious ownership.*safe\.directory"):
        Repository.around(history.path)


def test_a_commit_without_files_has_nothing_to_install(tmp_path: Path) -> None:
    folder = Folder(path=tmp_path / "empty")
    folder.write("a.txt", "a")
    folder.commit("first")
    folder.git("rm", "--quiet", "a.txt")
    folder.git("commit", "--quiet", "--message=empty")
    repository = Repository(folder.path)
    with pytest.raises(UsageError, match="nothing to install"):
        install(repository, find(repository, "HEAD"), tmp_path / "cache")


def test_a_repository_inside_the_working_tree_is_left_out(tmp_path: Path) -> None:
    folder = Folder(path=tmp_path / "outer")
    folder.plugin("mini", PLUGIN)
    folder.commit("first")
    inner = Folder(path=folder.path / "nested")
    inner.write("a.txt", "a")
    inner.commit("inner")
    folder.write("new.txt", "new")
    repository = Repository(folder.path)
    (tmp_path / "exported").mkdir()
    check_out(repository, find(repository, "."), tmp_path / "exported")
    assert (tmp_path / "exported/new.txt").read_text() == "new"
    assert not (tmp_path / "exported/nested").exists()


def test_git_is_asked_without_a_lock_of_the_index(monkeypatch) -> None:
    monkeypatch.setenv("GIT_DIR", "/nowhere")
    assert git.environment()["GIT_OPTIONAL_LOCKS"] == "0"
    assert "GIT_DIR" not in git.environment()
