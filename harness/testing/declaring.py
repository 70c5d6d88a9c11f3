"""What every plugin has to pass before anything that it declares is looked at, and what the kits for authors share."""

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
from harness.host import Host, load_host

HOOKS: Final = tuple(name for name in vars(hookspecs) if hasattr(getattr(hookspecs, name), f"{PROJECT}_spec"))
DECLARING: Final = tuple(name for name in HOOKS if name.startswith("register_") and name != "register_commands")

IMPORT_SECONDS: Final = 60


class Declares:
    """The tests of a plugin's declaration, whatever it declares; ``plugin`` is the name of its entry point."""

    plugin: ClassVar[str]

    @pytest.fixture
    def host(self) -> Host:
        """All installed plugins."""
        return installed()

    @pytest.fixture
    def record(self, host: Host) -> PluginRecord:
        """The plugin, as it was found."""
        found = {record.name: record for record in host.plugins}
        if self.plugin not in found:
            fail(
                f"no plugin {self.plugin!r} is installed{nearest(self.plugin, found)}; run pip install -e . "
                "in its folder, with an entry point of that name in the group harness.plugins"
            )
        return found[self.plugin]

    def test_loads(self, record: PluginRecord) -> None:
        """The host finds the plugin, and every hook is well-formed: named as specified, its arguments too."""
        if record.status != "ok":
            fail(f"plugin {record.name!r} is {record.status}: {record.cause}", record.detail)

    def test_states_the_interface_it_speaks(self, record: PluginRecord) -> None:
        """``HARNESS_API`` is that of this host."""
        version = getattr(module_of(record), "HARNESS_API", None)
        if version != API_VERSION:
            fail(f"{record.module} has HARNESS_API = {version!r}; this host speaks {API_VERSION}")

    def test_marks_its_hooks(self, record: PluginRecord) -> None:
        """No function is named like a hook and lacks the mark: it would never be called."""
        module = module_of(record)
        unmarked = [name for name in HOOKS if hasattr(module, name) and not _is_marked(getattr(module, name))]
        if unmarked:
            fail(f"{record.module} does not mark {', '.join(unmarked)}: put @harness.api.hookimpl above it")

    def test_declares_without_torch(self, record: PluginRecord) -> None:
        """Importing the plugin and asking for what it declares leaves torch out; every command would wait for it."""
        code = (
            "import importlib, sys\n"
            f"module = importlib.import_module({record.module!r})\n"
            f"for name in {DECLARING!r}:\n"
            "    getattr(module, name, list)()\n"
            "print('torch' in sys.modules)\n"
        )
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, timeout=IMPORT_SECONDS, check=False
        )
        if done.returncode:
            fail(f"{record.module} cannot be imported on its own", done.stderr)
        if done.stdout.split()[-1] == "True":
            fail(
                f"{record.module} imports torch when it is imported or declares; "
                "move what needs torch to another module and name that in the targets"
            )


def cache_folder(config: pytest.Config, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for base models that outlives the session, unless pytest's cache is switched off."""
    kept: pytest.Cache | None = getattr(config, "cache", None)
    return kept.mkdir("harness") if kept else tmp_path_factory.mktemp("harness")


@cache
def installed() -> Host:
    """Return a host with every installed plugin, loaded once for the whole session."""
    return load_host()


@contextmanager
def one_thread() -> Iterator[None]:
    """As in the worker, so that sums have one order."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def module_of(record: PluginRecord) -> ModuleType:
    """Import and return a plugin's module; fail the test with the reason where that cannot be."""
    try:
        return importlib.import_module(record.module)
    except BaseException as error:  # a plugin may raise anything while it is imported, SystemExit too
        fail(f"{record.module} cannot be imported: {type(error).__name__}: {error}")


def _is_marked(function: object) -> bool:
    return hasattr(function, f"{PROJECT}_impl")


def fail(*lines: str) -> NoReturn:
    """Fail the test with these lines and no traceback: the fault is the plugin's, not the kit's."""
    pytest.fail("\n".join(line for line in lines if line), pytrace=False)
