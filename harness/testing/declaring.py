"""The tests of every plugin's declaration, and the shared parts of the conformance tests."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import ClassVar, NoReturn

import pytest

from harness.discovery import PluginRecord
from harness.host import Host, load_host
from harness.testing import declaration
from harness.testing.smoke import one_thread as one_thread
from harness.testing.told import Mistake, Untried


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
        with told():
            return declaration.record_of(self.plugin, host.plugins)

    def test_loads(self, record: PluginRecord) -> None:
        """Check that the host loads the plugin and that names and arguments of all hooks match the specification."""
        with told():
            declaration.loads(record)

    def test_states_the_interface_it_speaks(self, record: PluginRecord) -> None:
        """Check that ``HARNESS_API`` is the version of this host."""
        with told():
            declaration.states_the_interface_it_speaks(record)

    def test_marks_its_hooks(self, record: PluginRecord) -> None:
        """Check that each function named like a hook has the mark, without which the host would not call it."""
        with told():
            declaration.marks_its_hooks(record)

    def test_declares_without_torch(self, record: PluginRecord) -> None:
        """Check that the plugin declares without importing torch, which would delay every command."""
        with told():
            declaration.declares_without_torch(record)


def cache_folder(config: pytest.Config, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the session's folder for base models, which persists between sessions where pytest's cache does."""
    kept: pytest.Cache | None = getattr(config, "cache", None)
    if kept:
        return kept.mkdir("harness")
    folder = tmp_path_factory.getbasetemp() / "harness"
    folder.mkdir(exist_ok=True)
    return folder


@cache
def installed() -> Host:
    """Return a host with every installed plugin, loaded once for the whole session."""
    return load_host()


@contextmanager
def told() -> Iterator[None]:
    """Fail the test without a traceback where a check finds a mistake, and skip it where it cannot be tried."""
    try:
        yield
    except Mistake as error:
        fail(str(error))
    except Untried as error:
        pytest.skip(str(error))


def fail(*lines: str) -> NoReturn:
    """Fail the test with these lines and no traceback, as the fault is in the plugin."""
    pytest.fail("\n".join(line for line in lines if line), pytrace=False)
