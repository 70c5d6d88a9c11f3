"""What is stored is shown without plugins, as far as the runs keep what there is to know."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.benchmarks.stores import make_store
from tests.conftest import Harness, Site

BROKEN = "plugin 'bad' is broken: ValueError: loaded"


@pytest.fixture
def store(tmp_path: Path, site: Site) -> str:
    """A store of two runs that keep their metrics, where a plugin that is broken is installed."""
    site.plugin("bad", "raise ValueError('loaded')\n")
    return str(make_store(tmp_path / "S", 800, 400).path)


@pytest.mark.parametrize(
    "words",
    [
        ("show", "run"),
        ("show", "run", "--details"),
        ("show", "run", "--format", "json"),
        ("show", "run", "--format", "github"),
        ("show", "tuning"),
        ("report",),
        ("history",),
        ("compare", "FIRST", "last"),
    ],
    ids=" ".join,
)
def test_what_runs_keep_is_shown_without_plugins(store: str, called: Harness, words: tuple[str, ...]) -> None:
    first = min(path.name for path in Path(store, "runs").iterdir())
    done = called(*(word.replace("FIRST", first) for word in words), "--store", store)
    assert done.returncode == 0
    assert done.stdout
    assert BROKEN not in done.stderr


def test_plugins_are_asked_for_a_metric_that_a_run_does_not_keep(store: str, called: Harness) -> None:
    for path in Path(store, "runs").glob("*/run.json"):
        header = json.loads(path.read_text())
        header["plugins"][0]["metrics"] = []
        path.write_text(json.dumps(header))
    assert BROKEN in called("show", "run", "--store", store).stderr


@pytest.mark.parametrize("option", [("--strict-plugins",), ("-v",), ("-p", "harness_none")])
def test_options_of_plugins_load_them(store: str, called: Harness, option: tuple[str, ...]) -> None:
    done = called("show", "run", "--store", store, *option)
    assert BROKEN.removeprefix("plugin ") in done.stderr
    assert done.returncode == (2 if option == ("--strict-plugins",) else 0)


def test_plugins_that_the_environment_names_are_loaded(store: str, called: Harness) -> None:
    assert "harness_none" in called("show", "run", "--store", store, HARNESS_PLUGINS="harness_none").stderr


def test_a_format_of_a_plugin_is_looked_for(store: str, called: Harness) -> None:
    done = called("show", "run", "--store", store, "--format", "mine")
    assert done.returncode == 2
    assert BROKEN in done.stderr
    assert "format 'mine'" in done.stderr
