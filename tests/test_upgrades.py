"""Plugins as `harness new` wrote them in earlier versions work with this host, and others are told what to do."""

from __future__ import annotations

from pathlib import Path

import pytest

import harness as package
from harness.api import API_VERSION
from harness.host import load_host
from harness.suite import read_suite
from tests.conftest import ROOT, Harness, Site

KEPT = ROOT / "tests/data/plugins"
VERSIONS = sorted(path.name for path in KEPT.iterdir())
MODULES = {"harness_kept": "kept", "harness_kept_family": "kept-family"}


@pytest.fixture(params=VERSIONS)
def folder(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The plugins of one version, importable here and in processes that are started."""
    path = KEPT / request.param
    monkeypatch.syspath_prepend(path)
    monkeypatch.setenv("PYTHONPATH", str(path))
    return path


def test_the_plugins_of_this_version_are_kept() -> None:
    assert package.__version__ in VERSIONS


def test_plugins_of_earlier_versions_load_with_all_their_suites(folder: Path) -> None:
    host = load_host([*MODULES], entry_points=False)
    assert not host.broken
    suites = sorted(path.relative_to(folder) for path in folder.glob("*/suites/*.toml"))
    assert len(suites) == len(MODULES)
    for path in suites:
        for form in ("full", "quick"):
            assert read_suite(f"{MODULES[path.parts[0]]}/{path.stem}", host, form=form).techniques


@pytest.mark.thorough
@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize("module", MODULES)
def test_techniques_of_earlier_versions_have_rows(harness: Harness, module: str) -> None:
    name = MODULES[module]
    done = harness("-p", module, "--strict-plugins", "run", "--suite", name, "--quick", "--seeds", "2")
    assert done.returncode == 0, done.stdout + done.stderr
    rows = [line for line in done.stdout.splitlines() if line.startswith(f"{name}/")]
    assert len(rows) >= 2
    assert "baseline" in rows[0] + rows[1]


@pytest.mark.thorough
@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize("module", MODULES)
def test_techniques_of_earlier_versions_pass_the_checks_of_this_one(harness: Harness, module: str) -> None:
    done = harness("check", module)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("stated", "said"),
    [
        (f"{API_VERSION + 1}", "pip install --upgrade technique-harness"),
        (f"{API_VERSION - 1}", "look for a newer version of the plugin"),
        (f"'{API_VERSION}'", f"expected the whole number {API_VERSION}"),
        ("True", f"expected the whole number {API_VERSION}"),
    ],
)
def test_a_plugin_of_another_interface_is_told_what_to_do(site: Site, stated: str, said: str) -> None:
    site.plugin("late", f"HARNESS_API = {stated}")
    (record,) = (record for record in load_host().plugins if record.name == "late")
    assert record.status == "broken"
    assert said in record.cause
    assert stated in record.cause
