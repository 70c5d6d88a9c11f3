"""Fixtures that several rooms' tests use."""

from __future__ import annotations

import importlib.util
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from textwrap import dedent
from types import ModuleType

import pytest

from harness.cli import main
from harness.execution.isolation import supervisors
from tests import nursery

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as where the tests were started in the background
    signal.signal(signal.SIGINT, signal.default_int_handler)

ROOT = Path(__file__).parent.parent


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what has a command of its own, unless it is asked for, and let files with a slow test come first.

    Workers take whole files, and a long one at the end leaves the others idle.
    """
    others = [name for name in ("exhaustive", "thorough") if name not in config.getoption("markexpr")]
    left_out = [item for item in items if any(item.get_closest_marker(name) for name in others)]
    config.hook.pytest_deselected(items=left_out)
    items[:] = [item for item in items if item not in left_out]
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)


@pytest.fixture(scope="session")
def builders() -> ModuleType:
    """What makes suites, cases, rows and runs for tests of what is stored."""
    spec = importlib.util.spec_from_file_location("builders", ROOT / "tests/results/builders.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@dataclass(frozen=True, kw_only=True)
class Site:
    """A folder of installed distributions, as pip would leave them."""

    folder: Path

    def install(self, distribution: str, entry_points: Mapping[str, str], modules: Mapping[str, str]) -> None:
        """Install a distribution with these entry points (name -> module) and sources (module -> text)."""
        info = self.folder / f"{distribution.replace('-', '_')}-1.0.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1.0\n")
        lines = "".join(f"{name} = {module}\n" for name, module in entry_points.items())
        (info / "entry_points.txt").write_text(f"[harness.plugins]\n{lines}")
        for name, text in modules.items():
            (self.folder / f"{name}.py").write_text(dedent(text))

    def plugin(self, name: str, text: str) -> None:
        """Install a distribution ``harness-NAME`` of one module ``harness_NAME`` with this source."""
        module = f"harness_{name.replace('-', '_')}"
        self.install(f"harness-{name}", {name: module}, {module: text})


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    """An empty site on the import path, also of processes that a test starts; its modules are forgotten afterwards."""
    folder = tmp_path / "site"
    folder.mkdir()
    monkeypatch.syspath_prepend(folder)
    monkeypatch.setenv("PYTHONPATH", str(folder))
    yield Site(folder=folder)
    for name, module in list(sys.modules.items()):
        told = vars(module)
        if any(str(place).startswith(str(folder)) for place in (told.get("__file__"), *(told.get("__path__") or ()))):
            del sys.modules[name]


@pytest.fixture(autouse=True)
def forked_bases(monkeypatch: pytest.MonkeyPatch) -> None:
    """Spare an executor of a test in this process the import of torch; those of a session start their own."""
    monkeypatch.setattr(supervisors, "_popen", nursery.forked_bases())


Harness = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def harness(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Harness:
    """Run the harness command in a process of its own, in an empty folder; a run's begins with torch imported."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    for name in ("HARNESS_STORE", "HARNESS_PLUGINS"):
        monkeypatch.delenv(name, raising=False)
    place = tmp_path / "cwd"
    place.mkdir()

    def run(*arguments: str, timeout: float = 900, **environment: str) -> subprocess.CompletedProcess[str]:
        return nursery.run_harness(arguments, place=place, environment={**os.environ, **environment}, timeout=timeout)

    return run


@pytest.fixture
def called(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Harness:
    """Run the harness command in this process, in the folder of the tests, where no run of a suite begins.

    It saves the seconds that an interpreter takes to start. Plugins are found on PYTHONPATH as by a process.
    """
    for name in ("HARNESS_STORE", "HARNESS_PLUGINS"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "cwd").mkdir(exist_ok=True)

    def call(*arguments: str, timeout: float = 900, **environment: str) -> subprocess.CompletedProcess[str]:
        del timeout  # of a process of its own
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        for folder in filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep)):
            monkeypatch.syspath_prepend(folder)
        monkeypatch.chdir(tmp_path / "cwd")
        with pytest.raises(SystemExit) as left:
            main([*arguments])
        assert isinstance(left.value.code, int)
        printed = capsys.readouterr()
        return subprocess.CompletedProcess(arguments, left.value.code, printed.out, printed.err)

    return call


def copy_of_the_run(store: Path) -> str:
    """Copy the only run of a store under an earlier id, and return the id: no run is compared with itself."""
    (folder,) = (store / "runs").iterdir()
    earlier = "20000101-000000-aaaa"
    shutil.copytree(folder, folder.with_name(earlier))
    return earlier
