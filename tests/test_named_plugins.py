"""Plugins that a user names, with ``-p`` or in ``HARNESS_PLUGINS``: uninstalled modules, and installed plugins."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import harness as product
from harness.discovery import PluginRecord
from harness.host import Host, load_host
from harness.revisions.commits import clean_environment
from tests.conftest import Harness, Site
from tests.test_host import HEALTHY

TOYS = Path(__file__).parent / "toy"


def records(host: Host, name: str) -> list[PluginRecord]:
    return [record for record in host.plugins if record.name == name]


def listed(harness: Harness, *arguments: str, **environment: str) -> dict[str, str]:
    done = harness(*arguments, "plugins", "--json", **environment)
    assert done.returncode == 0, done.stderr
    return {plugin["name"]: plugin["status"] for plugin in json.loads(done.stdout)}


@pytest.mark.parametrize("named", ["healthy", "harness_healthy"])
def test_an_installed_plugin_may_be_named_by_its_name_or_its_module(site: Site, named: str) -> None:
    site.plugin("healthy", HEALTHY)
    assert records(load_host([named]), "healthy") == records(load_host(), "healthy")
    assert records(load_host([named]), "healthy")[0].status == "ok"


def test_an_installed_plugin_whose_module_has_another_name_is_loaded_once(site: Site) -> None:
    site.install("harness-odd", {"mine": "quite_different"}, {"quite_different": HEALTHY})
    host = load_host(["quite_different"])
    assert [record.status for record in records(host, "mine")] == ["ok"]
    assert not records(host, "quite-different")
    assert not host.broken


@pytest.mark.parametrize("named", ["finetune", "harness.families.finetune", "core", "harness.builtin"])
def test_what_the_host_brings_may_be_named(named: str) -> None:
    assert not load_host([named], entry_points=False).broken


def test_a_module_that_takes_the_name_of_an_installed_plugin_is_told(site: Site) -> None:
    site.install("harness-healthy", {"healthy": "quite_different"}, {"quite_different": HEALTHY})
    (site.folder / "harness_healthy.py").write_text("HARNESS_API = 1")
    assert "is claimed by" in records(load_host(["harness_healthy"]), "healthy")[0].cause


@pytest.mark.parametrize("path", ["./mine.py", "a b", "folder/mine"])
def test_a_path_is_no_name_of_a_module(path: str) -> None:
    (record,) = load_host([path]).broken
    assert record.cause.endswith(f"{path!r} is no name of a module or plugin; expected one like harness_my_lora")


def test_commands_load_what_the_environment_names_and_workers_run_it(harness: Harness, tmp_path: Path) -> None:
    (tmp_path / "cwd" / "harness_toy_two.py").write_text("HARNESS_API = 1\n")
    chosen = {"PYTHONPATH": str(TOYS), "HARNESS_PLUGINS": "harness_toy, harness_toy_two,"}
    found = listed(harness, **chosen)
    assert (found["toy"], found["toy-two"]) == ("ok", "ok")
    assert "toy/good" in harness("list", "techniques", **chosen).stdout
    done = harness(
        "run", "--suite", "toys", "--quick", "--technique", "good", "--lane", "accuracy", "--quiet", **chosen
    )
    assert done.returncode == 0, done.stderr
    assert "toy/good" in done.stdout
    assert "toy/good" in harness("show", "run", "last", **chosen).stdout


def test_the_environment_disables_plugins_and_p_adds_to_it(harness: Harness) -> None:
    found = listed(
        harness,
        "-p",
        "harness_toy",
        "-p",
        "no:finetune",
        HARNESS_PLUGINS="no:softmax,harness_toy",
        PYTHONPATH=str(TOYS),
    )
    assert (found["softmax"], found["finetune"], found["toy"]) == ("disabled", "disabled", "ok")


def test_a_broken_plugin_of_the_environment_is_told_with_its_origin(harness: Harness) -> None:
    named = {"HARNESS_PLUGINS": "surely_not_there"}
    done = harness("list", "suites", **named)
    assert done.returncode == 0
    (line,) = [line for line in done.stderr.splitlines() if "surely" in line]
    assert line.startswith("harness: plugin 'surely-not-there' (of HARNESS_PLUGINS) is broken: ModuleNotFoundError")
    refused = harness("run", "--suite", "peft", **named)
    assert refused.returncode == 2
    assert refused.stderr.splitlines() == [
        "harness: error: plugin surely_not_there (of HARNESS_PLUGINS): ModuleNotFoundError: "
        "No module named 'surely_not_there'"
    ]


def test_python_takes_what_the_environment_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(TOYS)
    monkeypatch.setenv("HARNESS_PLUGINS", "harness_toy")
    view = product.run(
        "toys", techniques=["good"], seeds=[0], lanes=["accuracy"], executor="inline", store=tmp_path / "store"
    )
    assert view.workloads[0].techniques


def test_a_commit_is_measured_without_plugins_that_are_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HARNESS_PLUGINS", "harness_toy")
    assert "HARNESS_PLUGINS" not in clean_environment()
