"""Provenance: the machine, the versions, and which code was under test."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.measure import environment as env
from harness.measure.distributions import PluginCode
from harness.measure.git import environment
from harness.measure.sources import below, digest_of


def git(folder, *arguments):
    identity = ["-c", "user.name=a", "-c", "user.email=a@b.c", "-c", "commit.gpgsign=false"]
    subprocess.run(["git", "-C", str(folder), *identity, *arguments], check=True, capture_output=True)


@pytest.fixture
def package(tmp_path):
    """A package in a git checkout, committed."""
    folder = tmp_path / "checkout" / "shiny"
    folder.mkdir(parents=True)
    (folder / "__init__.py").write_text("value = 1\n")
    (folder / "kernel.cpp").write_text("int main() {}\n")
    git(tmp_path / "checkout", "init")
    git(tmp_path / "checkout", "add", ".")
    git(tmp_path / "checkout", "commit", "-m", "one")
    return folder


def test_the_environment_is_json_and_names_what_matters_but_not_the_host():
    found = env.environment(["pytest", "no-such-distribution"])
    text = json.dumps(found)
    assert found["python"] == platform.python_version()
    assert found["packages"].keys() >= {"technique-harness", "torch", "pytest"}
    assert "no-such-distribution" not in text
    assert found["memory"] == os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    assert found["cpu"]["model"]
    assert platform.node() not in text


LISTINGS = [
    (b"No devices were found\n", []),
    (b"\xff\xfe", []),
    (b"\nwarning: infoROM is corrupted, at gpu 0, slot 1\n", []),
    (b"Card, 2nd edition, 550.54.15, 24576\n\n", [("Card, 2nd edition", "550.54.15", "24576")]),
]


@pytest.mark.parametrize(("printed", "expected"), LISTINGS)
def test_only_lines_that_describe_a_gpu_are_read(tmp_path, monkeypatch, printed, expected):
    (tmp_path / "printed").write_bytes(printed)
    tool = tmp_path / "nvidia-smi"
    tool.write_text(f"#!/bin/sh\ncat {tmp_path / 'printed'}\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    monkeypatch.setattr(env, "NVIDIA_DRIVERS", [tmp_path])
    found = [(gpu["name"], gpu["driver"], gpu["memory_mib"]) for gpu in env.environment()["gpu"]]
    assert found == expected


@pytest.mark.parametrize("knows", [True, False])
def test_the_compute_capability_is_read_where_the_tool_knows_it(tmp_path, monkeypatch, knows):
    def answer(name, query, *_):
        capable = "compute_cap" in query
        if capable and not knows:
            return None
        return "Card, big, 550.54.15, 24576" + (", 9.0" if capable else "") if name == "nvidia-smi" else None

    monkeypatch.setattr(env, "NVIDIA_DRIVERS", [tmp_path])
    monkeypatch.setattr(env, "_output", lambda *command: answer(*command) if command[0] == "nvidia-smi" else None)
    capability = {"capability": "9.0"} if knows else {}
    assert env.environment()["gpu"] == [
        {"name": "Card, big", "driver": "550.54.15", "memory_mib": "24576"} | capability
    ]


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the driver has no file")
def test_a_tool_without_a_driver_is_not_waited_for(tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(env, "NVIDIA_DRIVERS", [tmp_path / "nothing"])
    monkeypatch.setattr(env, "_output", lambda *command: asked.append(command[0]))
    assert env.environment()["gpu"] == []
    assert "nvidia-smi" not in asked


def test_reading_the_environment_imports_nothing_heavy():
    code = (
        "import sys; from harness.host import load_host; from harness.execution.surroundings import surroundings;"
        "surroundings(load_host())"
    )
    heavy = "print(sorted({'torch', 'numpy', 'psutil', 'scipy'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", f"{code}; {heavy}"], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def state_of(name="shiny"):
    """The state of the code of a plugin on the import path."""
    code = PluginCode(name, "", [])
    return env.code_state(code.sources, code.distribution, code.checkout, code.unknown)


@pytest.fixture
def on_path(package, monkeypatch):
    monkeypatch.syspath_prepend(str(package.parent))
    monkeypatch.setenv("GIT_DIR", str(package.parent.parent / "elsewhere"))


def head_of(folder):
    command = ["git", "-C", str(folder), "rev-parse", "HEAD"]
    return subprocess.run(command, env=environment(), capture_output=True, text=True, check=True).stdout.strip()


@pytest.mark.usefixtures("on_path")
def test_code_in_a_checkout_has_its_commit_wherever_one_stands_and_git_is_led(package, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    state = state_of()
    assert {**state, "digest": ""} == {"commit": head_of(package), "dirty": False, "version": None, "digest": ""}


@pytest.mark.usefixtures("on_path")
def test_code_is_dirty_when_its_own_files_differ(package):
    (package.parent / "notes.txt").write_text("unrelated")
    assert state_of()["dirty"] is False
    for name in ("new.py", "levels.json"):
        (package / name).write_text("")
        assert state_of()["dirty"] is True
        (package / name).unlink()
    (package / "__init__.py").write_text("value = 2\n")
    assert state_of()["dirty"] is True
    (package / "__init__.py").write_text("value = 1\n")
    (package / "kernel.cpp").unlink()
    assert state_of()["dirty"] is True


@pytest.mark.usefixtures("on_path")
@pytest.mark.parametrize("flag", ["--assume-unchanged", "--skip-worktree"])
def test_code_that_git_was_told_not_to_look_at_is_dirty(package, flag, monkeypatch):
    monkeypatch.delenv("GIT_DIR")
    git(package.parent, "update-index", flag, "shiny/__init__.py")
    (package / "__init__.py").write_text("value = 2\n")
    assert state_of()["dirty"] is True


@pytest.mark.usefixtures("on_path")
def test_code_in_a_submodule_is_dirty_when_the_submodule_is(package, monkeypatch, tmp_path):
    monkeypatch.delenv("GIT_DIR")
    git(tmp_path, "clone", str(package.parent), "origin")
    git(package.parent, "-c", "protocol.file.allow=always", "submodule", "add", str(tmp_path / "origin"), "shiny/part")
    git(package.parent, "commit", "-m", "two")
    git(package.parent, "config", "submodule.shiny/part.ignore", "all")
    assert state_of()["dirty"] is False
    (package / "part/shiny/__init__.py").write_text("value = 2\n")
    assert state_of()["dirty"] is True


@pytest.mark.usefixtures("on_path")
def test_a_package_is_read_without_being_imported(package):
    (package / "__init__.py").write_text("raise SystemExit")
    assert state_of()["digest"]
    assert "shiny" not in sys.modules


@pytest.mark.usefixtures("on_path")
def test_the_reason_for_an_unknown_commit_is_kept(package, monkeypatch):
    monkeypatch.setenv("GIT_TEST_ASSUME_DIFFERENT_OWNER", "1")
    state = state_of()
    assert (state["commit"], state["dirty"]) == (None, None)
    assert "dubious ownership" in state["commit_unknown"]
    monkeypatch.delenv("GIT_TEST_ASSUME_DIFFERENT_OWNER")
    assert "commit_unknown" not in state_of()
    monkeypatch.delenv("GIT_DIR")
    git(package.parent, "update-ref", "-d", "HEAD")
    assert state_of()["commit_unknown"] == "the repository has no commit yet"


def suite_of(file, *commits):
    """The commit of a suite's file and whether it is dirty, beside code of these commits."""
    code = {str(number): {"commit": commit} for number, commit in enumerate(commits)}
    state = env.suite_state(file, code)
    assert state["digest"]
    return state["commit"], state["dirty"]


@pytest.mark.usefixtures("on_path")
def test_an_edited_or_new_suite_counts_as_changed_code(package):
    file, head = package / "__init__.py", head_of(package)
    assert suite_of(file, head, None) == (head, False)
    file.write_text("value = 2\n")
    assert suite_of(file, head) == (head, True)
    for name in ("new.toml", "ignored.toml"):
        (package / name).write_text("")
        (package / ".gitignore").write_text("ignored.toml")
        assert suite_of(package / name, head) == (head, True)


def test_a_suite_of_elsewhere_counts_as_changed_code(package, tmp_path):
    head = head_of(package)
    outside = tmp_path / "outside.toml"
    outside.write_text("")
    assert suite_of(outside, head) == (None, True)
    assert suite_of(package / "__init__.py", "another commit") == (head, True)
    (tmp_path / "link.toml").symlink_to(package / "__init__.py")
    assert suite_of(tmp_path / "link.toml", head) == (head, False)


def test_a_suite_that_was_installed_is_as_clean_as_its_distribution(package):
    installed = package / "venv/site-packages/glowing"
    installed.mkdir(parents=True)
    (installed / "suite.toml").write_text("")
    assert suite_of(installed / "suite.toml") == (None, False)


def test_code_outside_any_checkout_has_only_its_digest(tmp_path, monkeypatch):
    (tmp_path / "lonely.py").write_text("")
    monkeypatch.syspath_prepend(str(tmp_path))
    state = state_of("lonely")
    assert state.pop("digest")
    assert state == {"commit": None, "dirty": None, "version": None}


def test_an_installed_package_does_not_take_the_commit_of_the_checkout_its_environment_lies_in(package, monkeypatch):
    installed = package.parent / "venv" / "site-packages" / "glowing"
    installed.mkdir(parents=True)
    (installed / "__init__.py").write_text("")
    monkeypatch.syspath_prepend(str(installed.parent))
    assert state_of("glowing")["commit"] is None


def installed_gleam(tmp_path, monkeypatch, url):
    """The state of a package that was installed, with what pip noted of where it came from."""
    site = tmp_path / "site-packages"
    info = site / "gleam-1.5.dist-info"
    (site / "gleam").mkdir(parents=True)
    (site / "gleam" / "__init__.py").write_text("")
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: gleam\nVersion: 1.5\n")
    (info / "RECORD").write_text("gleam/__init__.py,,\n")
    (info / "direct_url.json").write_text(json.dumps(url))
    monkeypatch.syspath_prepend(str(site))
    code = PluginCode("gleam", "gleam", [])
    state = env.code_state(code.sources, code.distribution, code.checkout)
    return state["commit"], state["dirty"], state["version"]


def test_an_installation_from_version_control_has_the_commit_that_pip_noted(tmp_path, monkeypatch):
    monkeypatch.setenv("HARNESS_COMMIT", "a" * 40)
    url = {"url": "https://example.org/gleam", "vcs_info": {"vcs": "git", "commit_id": "c0ffee"}}
    assert installed_gleam(tmp_path, monkeypatch, url) == ("c0ffee", False, "1.5")


@pytest.mark.parametrize(("named", "known"), [("a" * 40, ("a" * 40, False)), ("", (None, None))])
def test_an_installation_from_a_folder_has_the_commit_that_its_installer_names(tmp_path, monkeypatch, named, known):
    monkeypatch.setenv("HARNESS_COMMIT", named)
    url = {"url": "file:///build/gleam", "dir_info": {}}
    assert installed_gleam(tmp_path, monkeypatch, url) == (*known, "1.5")


def test_a_package_of_an_index_does_not_have_the_commit_of_what_was_installed_beside_it(tmp_path, monkeypatch):
    monkeypatch.setenv("HARNESS_COMMIT", "a" * 40)
    assert installed_gleam(tmp_path, monkeypatch, {}) == (None, None, "1.5")


sources = st.dictionaries(st.sampled_from(["a.py", "b.npy", "c/d.so", "c/e.cpp"]), st.binary(max_size=8), min_size=1)


@given(sources, sources)
def test_the_digest_tells_sources_apart_and_nothing_else(tmp_path_factory, first, second):
    digests = []
    for files in (first, second, first):
        folder = tmp_path_factory.mktemp("code")
        for name, content in reversed(files.items()):
            path = folder / name
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(content)
        (folder / "__pycache__").mkdir()
        (folder / "__pycache__" / "a.cpython-311.pyc").write_text(str(folder))
        digests.append(digest_of(below(folder)))
    assert digests[0] == digests[2]
    assert (digests[0] == digests[1]) == (first == second)
