"""The tests of every plugin's declaration, and the shared parts of the conformance tests."""

from __future__ import annotations

import importlib
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import ClassVar, Final, NoReturn

import pytest
import torch

from harness import hookspecs
from harness.api import API_VERSION, PROJECT, nearest
from harness.discovery import PluginRecord
from harness.foreign import contained, one_line
from harness.host import Host, load_host

HOOKS: Final = tuple(name for name in vars(hookspecs) if hasattr(getattr(hookspecs, name), f"{PROJECT}_spec"))
DECLARING: Final = tuple(name for name in HOOKS if name.startswith("register_") and name != "register_commands")

IMPORT_SECONDS: Final = 60
IMPORTED: Final = 86
"""Exit status of a process in which torch was imported; what a plugin prints, the test does not read."""


class Declares:
    """The tests of a plugin's declaration, whatever it declares; ``plugin`` is the name of its entry point."""

    plugin: ClassVar[str]

    @pytest.fixture
    def host(self) -> Host:
        """Return a host with all installed plugins."""
        return installed()

    @pytest.fixture
    def record(self, host: Host) -> PluginRecord:
        """Return the record of the plugin; fail the test where the plugin is not installed."""
        records = {record.name: record for record in host.plugins}
        if self.plugin not in records:
            fail(
                f"no plugin {self.plugin!r} is installed{nearest(self.plugin, records)}; run pip install -e . "
                "in its folder, with an entry point of that name in the group harness.plugins"
            )
        return records[self.plugin]

    def test_loads(self, record: PluginRecord) -> None:
        """Check that the host loads the plugin and that names and arguments of all hooks match the specification."""
        if record.status != "ok":
            fail(f"plugin {record.name!r} is {record.status}: {record.cause}", record.detail)

    def test_states_the_interface_it_speaks(self, record: PluginRecord) -> None:
        """Check that ``HARNESS_API`` is the version of this host."""
        version = getattr(module_of(record), "HARNESS_API", None)
        if version != API_VERSION:
            fail(f"{record.module} has HARNESS_API = {version!r}; this host speaks {API_VERSION}")

    def test_marks_its_hooks(self, record: PluginRecord) -> None:
        """Check that each function named like a hook has the mark, without which the host would not call it."""
        module = module_of(record)
        unmarked = [name for name in HOOKS if hasattr(module, name) and not _is_marked(getattr(module, name))]
        if unmarked:
            fail(f"{record.module} does not mark {', '.join(unmarked)}: put @harness.api.hookimpl above it")

    def test_declares_without_torch(self, record: PluginRecord) -> None:
        """Check that the plugin declares without importing torch, which would delay every command."""
        code = (
            "import importlib, sys\n"
            f"module = importlib.import_module({record.module!r})\n"
            f"for name in {DECLARING!r}:\n"
            "    getattr(module, name, list)()\n"
            f"raise SystemExit({IMPORTED} if 'torch' in sys.modules else 0)\n"
        )
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, timeout=IMPORT_SECONDS, check=False
        )
        if done.returncode not in (0, IMPORTED):
            fail(f"{record.module} cannot be imported on its own", done.stderr)
        if done.returncode == IMPORTED:
            fail(
                f"{record.module} imports torch when it is imported or declares; "
                "move what needs torch to another module and name that in the targets"
            )


def cache_folder(config: pytest.Config, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder for base models that persists between sessions, unless pytest's cache is disabled."""
    kept: pytest.Cache | None = getattr(config, "cache", None)
    return kept.mkdir("harness") if kept else tmp_path_factory.mktemp("harness")


@cache
def installed() -> Host:
    """Return a host with every installed plugin, loaded once for the whole session."""
    return load_host()


@contextmanager
def one_thread() -> Iterator[None]:
    """Limit torch to one thread, as in the worker, so that the order of sums is fixed."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def module_of(record: PluginRecord) -> ModuleType:
    """Import and return a plugin's module; fail the test with the reason where the import fails."""
    try:
        with contained():
            return importlib.import_module(record.module)
    except Exception as error:  # a plugin may raise anything while it is imported
        fail(f"{record.module} cannot be imported: {one_line(error)}")


def _is_marked(function: object) -> bool:
    return hasattr(function, f"{PROJECT}_impl")


def fail(*lines: str) -> NoReturn:
    """Fail the test with these lines and no traceback, as the fault is in the plugin."""
    pytest.fail("\n".join(line for line in lines if line), pytrace=False)
