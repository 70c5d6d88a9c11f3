"""How asv is started, and how the regressions it found are read."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from asv.util import load_json

from harness.api import UsageError
from harness.cli.track import _summarise, asv_range
from harness.tracking.asv import (
    Regression,
    asv_environment,
    find_project,
    local_submodules,
    read_regressions,
    require_arguments,
    require_asv,
    require_environments,
    require_history,
    uv_settings,
    with_settings,
)
from tests.conftest import ROOT, Harness
from tests.execution.repositories import Folder


def test_uv_is_told_what_pip_was_told() -> None:
    settings = "global.index-url='https://one/simple'\nglobal.extra-index-url='https://two https://three'\n"
    assert uv_settings(settings + "global.find-links='a\\nb'\nglobal.timeout='5'\n") == {
        "UV_INDEX_URL": "https://one/simple",
        "UV_EXTRA_INDEX_URL": "https://two https://three",
        "UV_FIND_LINKS": "a,b",
        "UV_INDEX_STRATEGY": "unsafe-best-match",
    }


def test_what_the_environment_tells_pip_counts_more_than_its_files() -> None:
    for lines in ((0, 1), (1, 0)):
        both = [":env:.index-url='https://mine'", "global.index-url='https://theirs'"]
        assert uv_settings("\n".join(both[line] for line in lines))["UV_INDEX_URL"] == "https://mine"


def test_a_pip_without_settings_says_nothing_to_uv() -> None:
    assert uv_settings("") == {}


def test_what_uv_was_told_itself_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_INDEX_URL", "https://theirs")
    monkeypatch.setenv("UV_INDEX_URL", "https://mine")
    environment = asv_environment()
    assert environment["UV_INDEX_URL"] == "https://mine"
    assert environment["PATH"].split(os.pathsep)[0] == str(Path(sys.executable).parent)


UV = """#!/bin/sh
for last; do case "$last" in */broken/|*[*]*) exit 1;; /*) echo "$last";; esac; done >> "$LOG.tried"
cat "$LOG.tried" >> "$LOG"
"""
"""Installs what it is given, and writes it down, unless there is a package named broken or none of that name."""


@pytest.mark.parametrize(
    ("plugins", "expected"), [(["a", "b"], ["", "a", "b"]), (["a", "broken", "c"], ["", "a", "c"]), ([], [""])]
)
def test_a_plugin_that_cannot_be_installed_costs_only_itself(
    plugins: list[str], expected: list[str], tmp_path: Path
) -> None:
    (tmp_path / "uv").write_text(UV.replace("$LOG.tried", "$LOG.$$"))
    (tmp_path / "uv").chmod(0o755)
    for name in plugins:
        (tmp_path / "build/plugins" / name).mkdir(parents=True)
    command = load_json(ROOT / "asv.conf.json", js_comments=True)["install_command"][-1]
    build = str(tmp_path / "build")
    words = shlex.split(command.replace("{env_dir}", "/env").replace("{build_dir}", build))
    around = {"PATH": f"{tmp_path}:{os.defpath}", "LOG": str(tmp_path / "log"), "FLAGS": words[0].partition("=")[2]}
    done = subprocess.run(words[1:], env=around, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    installed = [one for one in (tmp_path / "log").read_text().splitlines() if one.startswith(build)]
    assert [one.removeprefix(build).removeprefix("/plugins/").rstrip("/") for one in installed] == expected
    assert ("cannot be installed" in done.stdout) == (plugins != ["a", "b"])


def test_a_missing_asv_is_one_line_with_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "asv" else object())
    with pytest.raises(UsageError, match=r"needs asv: pip install 'technique-harness\[track\]'"):
        require_asv()


def test_options_that_asv_would_refuse_are_told_before_anything_is_installed() -> None:
    require_arguments(["run", "HEAD", "--bench", "toy.*", "--steps", "5"])
    require_arguments(["run", "--help"])
    with pytest.raises(UsageError, match=r"options for asv: unrecognized arguments: --nosuch"):
        require_arguments(["run", "HEAD", "--nosuch"])
    with pytest.raises(UsageError, match=r"--bench '\[' is no regular expression"):
        require_arguments(["run", "HEAD", "--bench", "["])


def test_a_folder_that_is_no_checkout_is_refused(harness: Harness) -> None:
    done = harness("track")
    assert done.returncode == 2
    assert "asv.conf.json" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_project_is_found_from_below(tmp_path: Path) -> None:
    (tmp_path / "asv.conf.json").touch()
    (tmp_path / "a/b").mkdir(parents=True)
    assert find_project(tmp_path / "a/b") == tmp_path


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Folder:
    """Two commits, the first tagged v1."""
    folder = Folder(path=tmp_path_factory.mktemp("repository"))
    for number in (1, 2):
        folder.write("file", str(number))
        folder.commit(str(number))
        folder.git("tag", f"v{number}")
    return folder


@pytest.mark.parametrize(
    ("text", "expected"),
    [("v1", "v1^!"), ("main^!", "main^!"), ("v1..main", "v1..main"), ("NEW", "NEW"), ("HASHFILE:x", "HASHFILE:x")],
)
def test_a_name_means_one_commit_and_a_range_all_of_it(repository: Folder, text: str, expected: str) -> None:
    assert asv_range(repository.path, text) == expected


@pytest.mark.parametrize("text", ["nowhere", "v1..nowhere", "main..v1"])
def test_a_range_of_nothing_is_refused(repository: Folder, text: str) -> None:
    with pytest.raises(UsageError, match=r"expected something like v0.1.0..HEAD"):
        asv_range(repository.path, text)


def test_a_range_of_a_shallow_clone_says_how_to_fetch_the_rest(repository: Folder, tmp_path: Path) -> None:
    repository.git("clone", "--quiet", "--depth=1", f"file://{repository.path}", str(tmp_path / "shallow"))
    with pytest.raises(UsageError, match=r"the clone is shallow: git fetch --unshallow --tags$"):
        asv_range(tmp_path / "shallow", "v1..HEAD")


def test_variables_that_point_to_another_repository_are_not_passed_on(
    repository: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GIT_DIR", "/nowhere")
    assert asv_range(repository.path, "v1") == "v1^!"
    assert "GIT_DIR" not in asv_environment()


def test_asv_takes_submodules_from_this_machine(repository: Folder, tmp_path: Path) -> None:
    outer = Folder(path=tmp_path / "outer")
    outer.write("file", "outer")
    outer.commit("first")
    repository.git("clone", "--quiet", "--bare", str(repository.path), str(tmp_path / "origin"))
    outer.git("-c", "protocol.file.allow=always", "submodule", "add", f"file://{tmp_path}/origin", "parts/inner")
    outer.commit("second")
    (tmp_path / "origin").rename(tmp_path / "gone")
    settings = local_submodules(outer.path)
    environment = with_settings({**os.environ, "GIT_CONFIG_COUNT": "0"}, settings)
    command = ["git", "clone", "--quiet", "--shared", "--recursive", str(outer.path), str(tmp_path / "copy")]
    subprocess.run(command, env=environment, check=True)
    assert (tmp_path / "copy/parts/inner/file").read_text() == "2"
    more = with_settings({"GIT_CONFIG_COUNT": "2"}, {"a.b": "c"})
    assert more == {"GIT_CONFIG_COUNT": "3", "GIT_CONFIG_KEY_2": "a.b", "GIT_CONFIG_VALUE_2": "c"}


def test_a_folder_without_a_history_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="it is in no git repository"):
        require_history(tmp_path)
    Folder(path=tmp_path).git("init")
    with pytest.raises(UsageError, match="the repository has no commit yet"):
        require_history(tmp_path)


def test_a_refusal_of_git_is_told_in_its_words(
    repository: Folder, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    subprocess.run(["git", "clone", "--quiet", str(repository.path), str(tmp_path / "cwd/copy")], check=True)
    monkeypatch.setenv("GIT_TEST_ASSUME_DIFFERENT_OWNER", "1")
    (tmp_path / "cwd/copy/asv.conf.json").touch()
    (tmp_path / "cwd/copy/.asv/results").mkdir(parents=True)
    (tmp_path / "cwd/copy/.asv/results/benchmarks.json").touch()
    monkeypatch.chdir(tmp_path / "cwd/copy")
    for command in (["track", "v1..HEAD"], ["track"], ["track", "publish"]):
        done = subprocess.run([sys.executable, "-m", "harness", *command], capture_output=True, text=True, check=False)
        assert done.returncode == 2
        assert re.search(r"dubious ownership.*safe\.directory", done.stderr)
        assert "Traceback" not in done.stderr


def test_regressions_are_read_worst_first(tmp_path: Path) -> None:
    index = {
        "revision_to_hash": {"1": "aaa", "2": "bbb", "5": "ccc"},
        "benchmarks": {
            "b.x.track_error": {"pretty_name": "toy · toys/a:n=1: error", "unit": "%"},
            "b.y.track_n": {"unit": "bytes"},
        },
    }
    entries = [
        ["b.y.track_n", "path", {}, None, 15, 10, [[1, 5, 10.0, 15.0]]],
        ["b.x.track_error('toy/a')", "path", {}, 0, 20, 10, [[None, 2, 10.0, 20.0]]],
    ]
    (tmp_path / "index.json").write_text(json.dumps(index))
    (tmp_path / "regressions.json").write_text(json.dumps({"regressions": entries}))
    first, second = read_regressions(tmp_path)
    assert first == Regression(
        series="toy · toys/a:n=1: error", key="toy/a", unit="%", commit="bbb", since="", before=10.0, after=20.0,
        suite="toy", technique="toys/a:n=1", metric="error",
    )  # fmt: skip
    assert second == Regression(
        series="b.y.track_n", key="", unit="bytes", commit="ccc", since="aaa", before=10.0, after=15.0, metric="n"
    )


@pytest.mark.parametrize(("unit", "told"), [("seconds", True), ("bytes", False)])
def test_a_slower_time_is_to_be_checked_in_turns(
    unit: str, told: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = Folder(path=tmp_path)
    folder.write("file", "content")
    commit = folder.commit("a change")
    worse = Regression(series="a series", key="", unit=unit, commit=commit, since="", before=1.0, after=2.0)
    _summarise(tmp_path, [worse])
    assert (f"harness compare {commit[:9]}^ {commit[:9]}" in capsys.readouterr().out) == told


@pytest.mark.parametrize(
    ("text", "line"),
    [('{"version": 1}', "has no environment_type, by which asv would"), ('{"version": ', "cannot be read: ")],
)
def test_a_configuration_that_installs_no_commit_is_told_what_to_do(tmp_path: Path, text: str, line: str) -> None:
    (tmp_path / "asv.conf.json").write_text(f"// a comment\n{text}")
    with pytest.raises(UsageError) as caught:
        require_environments(tmp_path)
    assert caught.value.problems[0].startswith(f"{tmp_path}/asv.conf.json: {line}")
    assert all("\n" not in problem for problem in caught.value.problems)


def test_the_configuration_of_this_project_installs_commits() -> None:
    require_environments(ROOT)
