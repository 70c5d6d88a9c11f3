"""The suites that ``harness compare`` takes where none is named: those in which the project has a part."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.api import UsageError
from harness.revisions.asked import tracked_suites
from harness.revisions.commits import Installed, install
from harness.revisions.measure import Wanted, measure
from harness.revisions.repository import Repository, Revision
from harness.revisions.rounds import BASE, HEAD

from .repositories import Folder

DECLARES = """
    from pathlib import Path
    from harness.api import Technique, hookimpl

    HARNESS_API = 1

    @hookimpl
    def register_techniques():
        target = "harness_mini:Late"
        return [Technique(id="late", contract="finetune", target=target, summary="of a test", space={"lr": [0.01]})]

    @hookimpl
    def register_suites():
        return [Path(__file__).with_name("own.toml")]

    class Late:
        pass
"""

SUITE = """
    title = "Its own"
    version = 1
    contract = "finetune"
    baseline = "lora/full"
    workloads = ["digits-mlp"]
    techniques = ["lora/lora"]
    seeds = 2
    metrics = ["accuracy"]
    select = "val_loss"

    [track]
    seeds = 1
"""


def test_a_plugin_s_repository_compares_what_its_plugin_has_a_part_in(tmp_path: Path) -> None:
    folder = Folder(path=tmp_path / "history")
    folder.plugin("mini", {"__init__.py": DECLARES, "own.toml": SUITE})
    folder.commit("first")
    repository = Repository.around(folder.path)
    assert repository is not None
    revision = repository.find("HEAD")
    assert revision is not None
    found = tracked_suites(install(repository, revision, tmp_path / "cache"))
    assert found == {"finetune/peft": ("mini/*",), "mini/own": ()}


Speaking = Callable[..., Installed]


@pytest.fixture
def speaking(tmp_path: Path) -> Speaking:
    """A revision of a project, whose harness answers what a test says."""

    def make(project: str, suites: list[dict[str, object]]) -> Installed:
        plugins = [{"name": "mini", "distribution": "Harness_Mini"}, {"name": "lora", "distribution": "harness-lora"}]
        python = tmp_path / "venv/bin/python"
        python.parent.mkdir(parents=True)
        python.write_text(
            f"#!/bin/sh\ncase \"$4 $5\" in\n'list suites') echo '{json.dumps(suites)}';;\n"
            f"'plugins --json') echo '{json.dumps(plugins)}';;\n*) echo '[]';;\nesac\n"
        )
        python.chmod(0o755)
        (tmp_path / "source").mkdir()
        (tmp_path / "source/pyproject.toml").write_text(f'[project]\nname = "{project}"\n')
        return Installed(revision=Revision(name="new", commit="0" * 40), folder=tmp_path)

    return make


def suite(name: str, *, techniques: tuple[str, ...] = (), workloads: tuple[str, ...] = ("finetune/digits",)) -> dict:
    plugin = name.partition("/")[0]
    return {"id": name, "plugin": plugin, "track": True, "techniques": techniques, "workloads": workloads}


OFFERED = [
    suite("finetune/peft", techniques=("lora/lora", "mini/late:rank=2")),
    suite("route/moe", techniques=("moe/top-k",)),
    suite("lora/on-mini", techniques=("lora/lora",), workloads=("mini/problem",)),
    suite("mini/own", techniques=("lora/lora",)),
    {**suite("mini/long", techniques=("mini/late",)), "track": False},
]


def test_a_file_and_a_workload_concern_all_techniques_and_a_technique_itself(speaking: Speaking) -> None:
    found = tracked_suites(speaking("harness.mini", OFFERED))
    assert found == {"finetune/peft": ("mini/*",), "lora/on-mini": (), "mini/own": ()}


def test_the_project_of_the_harness_has_a_part_in_all_suites(speaking: Speaking) -> None:
    old = [{"id": "peft", "plugin": "finetune", "track": True}, {"id": "moe", "plugin": "route", "track": True}]
    assert tracked_suites(speaking("technique-harness", old)) == {"peft": (), "moe": ()}


def test_a_project_without_a_part_in_any_is_told_to_name_one(speaking: Speaking, tmp_path: Path) -> None:
    installed = speaking("another", OFFERED)
    wanted = Wanted(suites=(), techniques=(), rounds=3)
    with pytest.raises(UsageError, match="has a part in no suite with a \\[track\\] table") as told:
        measure({HEAD: installed, BASE: installed}, wanted, tmp_path, lambda _: None)
    assert "name a suite: --suite" in told.value.problems[1]
