"""The hosted CI's workflow is well-formed, asks for little, and calls commands that exist."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest
import yaml

from harness.cli import cli
from tests.conftest import ROOT

WORKFLOW = ROOT / ".github/workflows/track.yml"


@pytest.fixture(scope="module")
def workflow() -> dict[Any, Any]:
    return yaml.safe_load(WORKFLOW.read_text(encoding="utf-8"))


def steps(workflow: dict[Any, Any]) -> Iterator[dict[str, Any]]:
    for job in workflow["jobs"].values():
        yield from job["steps"]


def scripts() -> list[str]:
    return [step["run"] for step in steps(yaml.safe_load(WORKFLOW.read_text(encoding="utf-8"))) if "run" in step]


def commands() -> list[list[str]]:
    """The harness commands of the workflow, as the shell would split them."""
    found = re.findall(r"\.venv/bin/harness ([^\n]*?)(?: >|\s*\|\||$)", "\n".join(scripts()), re.MULTILINE)
    return [shlex.split(line) for line in found]


def parse(arguments: list[str]) -> click.Context:
    """Parse a command line down to its last command, and run nothing. Raises click's errors."""
    command: click.Command = cli
    name = "harness"
    parent: click.Context | None = None
    while True:
        context = command.make_context(name, list(arguments), parent=parent)
        if not isinstance(command, click.Group):
            return context
        found, child, arguments = command.resolve_command(context, [*context._protected_args, *context.args])
        assert found is not None
        assert child is not None
        name, command, parent = found, child, context


def test_every_harness_command_in_it_exists_with_its_options() -> None:
    contexts = [parse(command) for command in commands()]
    assert {context.command_path for context in contexts} == {
        "harness track run", "harness track publish", "harness compare",
    }  # fmt: skip


def test_a_command_that_does_not_exist_would_be_noticed() -> None:
    with pytest.raises(click.ClickException):
        parse(["track", "publish", "--no-such-option"])


@pytest.mark.parametrize("script", scripts())
def test_every_script_in_it_is_one_that_a_shell_can_read(script: str) -> None:
    done = subprocess.run(["bash", "-n"], input=script, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_actions_are_pinned_by_commit_with_the_version_beside_it() -> None:
    text = "".join(file.read_text(encoding="utf-8") for file in sorted(WORKFLOW.parent.glob("*.yml")))
    actions = re.findall(r"uses: (.*)", text)
    assert len(actions) > 10
    assert [one for one in actions if not re.fullmatch(r"actions/[a-z-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", one)] == []
    versions = {one.partition("@")[0]: one for one in actions}
    assert set(versions.values()) == set(actions)


def test_no_token_is_left_where_a_job_runs_packages(workflow: dict[Any, Any]) -> None:
    for name, job in workflow["jobs"].items():
        texts = [str(step) for step in job["steps"]]
        checkouts = [step for step in job["steps"] if "checkout" in step.get("uses", "")]
        assert all(step["with"]["persist-credentials"] is False for step in checkouts)
        installs = [number for number, text in enumerate(texts) if "make setup" in text]
        with_token = [number for number, text in enumerate(texts) if "github.token" in text]
        assert not [number for number in with_token if number > min(installs, default=len(texts))], name
        assert not installs or job["permissions"] == {"contents": "read"}


def test_no_job_may_write_more_than_its_task_takes(workflow: dict[Any, Any]) -> None:
    assert workflow["permissions"] == {}
    jobs = workflow["jobs"]
    assert {name: job["permissions"] for name, job in jobs.items()} == {
        "track": {"contents": "read"},
        "keep": {"contents": "write"},
        "publish": {"pages": "write", "id-token": "write"},
        "gate": {"contents": "read"},
        "comment": {"pull-requests": "write"},
    }
    assert not [step for step in jobs["comment"]["steps"] if "run" in step or "checkout" in step["uses"]]
    assert "pull_request_target" not in workflow[True]  # YAML reads the key 'on' as true


def test_no_text_of_a_pull_request_is_put_into_a_script() -> None:
    assert not [script for script in scripts() if "${{" in script]


def in_shell(command: str, code: int, folder: Path) -> int:
    """What the hosted shell makes of the line with this command, where the harness prints a line and ends with code."""
    (script,) = (script for script in scripts() if f"harness {command}" in script)
    (line,) = (line for line in script.splitlines() if f"harness {command}" in line)
    program = folder / ".venv/bin/harness"
    program.parent.mkdir(parents=True)
    program.write_text(f"#!/bin/sh\necho the summary\nexit {code}\n")
    program.chmod(0o755)
    return subprocess.run(["bash", "-e", "-c", line], cwd=folder, capture_output=True, check=False).returncode


@pytest.mark.parametrize("code", [0, 1, 2])
def test_the_gate_s_exit_code_is_the_job_s_and_its_summary_is_kept(code: int, tmp_path: Path) -> None:
    assert in_shell("compare", code, tmp_path) == code
    assert (tmp_path / "gate.md").read_text() == "the summary\n"


@pytest.mark.parametrize(("code", "expected"), [(0, 0), (1, 0), (2, 1), (137, 1)])
def test_a_series_without_a_value_keeps_no_site_from_being_made(code: int, expected: int, tmp_path: Path) -> None:
    assert in_shell('track "', code, tmp_path) == expected


def test_results_are_kept_from_push_to_push_in_a_branch_of_their_own(
    workflow: dict[Any, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(tmp_path / "gitconfig"))
    jobs = [workflow["jobs"][name]["steps"] for name in ("track", "keep")]
    named = {step.get("name"): step.get("run", "") for steps in jobs for step in steps}

    def step(name: str, folder: Path) -> None:
        environment = {**os.environ, "GITHUB_SHA": folder.name, "TOKEN": "secret"}
        subprocess.run(["bash", "-e", "-c", named[name]], cwd=folder, env=environment, capture_output=True, check=True)

    def git(*arguments: str, folder: Path = tmp_path) -> str:
        command = ["git", "-c", "user.name=a", "-c", "user.email=a@example.org", *arguments]
        return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True).stdout

    git("init", "--quiet", "--bare", "--initial-branch=main", "origin")
    git("clone", "--quiet", "origin", "first")
    (tmp_path / "first/.gitignore").write_text(".asv/\n")
    git("add", ".", folder=tmp_path / "first")
    git("commit", "--quiet", "--message=one", folder=tmp_path / "first")
    git("push", "--quiet", "origin", "HEAD:main", folder=tmp_path / "first")
    for name in ("second", "third"):
        measuring, keeping = tmp_path / name, tmp_path / f"{name}-kept"
        git("clone", "--quiet", "origin", measuring.name)
        git("clone", "--quiet", "origin", keeping.name)
        step("Fetch earlier results", measuring)
        (measuring / ".asv/results/ci").mkdir(exist_ok=True)
        (measuring / f".asv/results/ci/{name}.json").write_text("{}")
        step("Take the results out of a folder that counts as hidden", measuring)
        shutil.move(measuring / "results", keeping / "results")
        assert git("status", "--porcelain", folder=measuring) == ""
        (keeping / "results/.git").write_text("gitdir: /nowhere")
        (keeping / "results/ci/link.json").symlink_to("/etc/passwd")
        step("Keep the results", keeping)
    kept = git("ls-tree", "-r", "--name-only", "tracking-results", folder=tmp_path / "origin").split()
    assert kept == ["ci/second.json", "ci/third.json"]
    assert sorted(path.name for path in (tmp_path / "third-kept/results/ci").iterdir()) == ["second.json", "third.json"]
    assert git("ls-tree", "--name-only", "main", folder=tmp_path / "origin").split() == [".gitignore"]


RUN_COMMENT = """
const AsyncFunction = (async () => {}).constructor;
const [script, comments] = [process.argv[1], JSON.parse(process.argv[2])];
const told = [];
const issues = {
  listComments: "listComments",
  updateComment: async one => told.push({ what: "update", ...one }),
  createComment: async one => told.push({ what: "create", ...one }),
};
const github = { rest: { issues }, paginate: async () => comments };
const context = { repo: { owner: "o", repo: "r" }, issue: { number: 7 } };
new AsyncFunction("require", "github", "context", script)(require, github, context)
  .then(() => console.log(JSON.stringify(told)));
"""

MARKER = "<!-- the gate of harness compare -->"
PERSON = {"id": 1, "user": {"type": "User"}, "body": f"{MARKER}\nquoted by a person"}
OTHER_BOT = {"id": 2, "user": {"type": "Bot"}, "body": "coverage"}
OWN = {"id": 3, "user": {"type": "Bot"}, "body": f"{MARKER}\nold"}


@pytest.mark.parametrize(
    ("comments", "summary", "expected"),
    [
        ([PERSON, OTHER_BOT], "worse", {"what": "create", "issue_number": 7, "body": f"{MARKER}\nworse"}),
        ([PERSON, OWN, OTHER_BOT], "worse", {"what": "update", "comment_id": 3, "body": f"{MARKER}\nworse"}),
        (
            [],
            "",
            {"what": "create", "issue_number": 7, "body": f"{MARKER}\nThe gate could not compare; see the run's log."},
        ),
    ],
)
def test_there_is_one_comment_which_is_kept_up_to_date(
    workflow: dict[Any, Any], comments: list[dict[str, Any]], summary: str, expected: dict[str, Any], tmp_path: Path
) -> None:
    node = shutil.which("node")
    if node is None:
        pytest.skip("node is not here")
    (script,) = (one["with"]["script"] for one in workflow["jobs"]["comment"]["steps"] if "script" in one["with"])
    (tmp_path / "gate.md").write_text(summary)
    done = subprocess.run(
        [node, "-e", RUN_COMMENT, script, json.dumps(comments)],
        cwd=tmp_path, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert json.loads(done.stdout) == [{"owner": "o", "repo": "r", **expected}]


# ------------------------------------------------------------------------------------------- documentation


def documented() -> list[list[str]]:
    """The harness commands that docs/tracking.md shows."""
    text = (ROOT / "docs/tracking.md").read_text(encoding="utf-8")
    lines = [line for block in re.findall(r"```console\n(.*?)```", text, re.DOTALL) for line in block.splitlines()]
    return [shlex.split(line)[2:] for line in lines if line.startswith("$ harness ")]


def test_every_documented_command_exists_with_its_options() -> None:
    assert len(documented()) >= 6
    for arguments in documented():
        parse(arguments)


def test_a_project_that_follows_the_recipe_declares_what_is_followed(tmp_path: Path) -> None:
    toys = ROOT / "tests/toy"
    plugin = tmp_path / "plugins/toy"
    shutil.copytree(toys, plugin, ignore=shutil.ignore_patterns("__pycache__"))
    points = '[project]\nname = "harness-toy"\nversion = "1"\n[project.entry-points."harness.plugins"]\n'
    (plugin / "pyproject.toml").write_text(f'{points}toy = "harness_toy"\n')
    done = subprocess.run(
        [sys.executable, "-P", "-m", "harness.tracking.declared", str(tmp_path)],
        cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(tmp_path)}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    (suite,) = json.loads(done.stdout)
    assert (suite["suite"], suite["workloads"]) == ("toys", ["toy/formula"])
    assert suite["techniques"] == ["toy/base", "toy/good", "toy/twin"]
