"""The checks of every plugin's declaration, as plain functions of its record."""

from __future__ import annotations

import importlib
import subprocess
import sys
from collections.abc import Callable, Iterable
from types import ModuleType
from typing import Final

from harness import hookspecs
from harness.api import API_VERSION, PROJECT, nearest
from harness.discovery import PluginRecord
from harness.foreign import contained, one_line
from harness.testing.told import mistake

HOOKS: Final = tuple(name for name in vars(hookspecs) if hasattr(getattr(hookspecs, name), f"{PROJECT}_spec"))
DECLARING: Final = tuple(name for name in HOOKS if name.startswith("register_") and name != "register_commands")

IMPORT_SECONDS: Final = 60
IMPORTED: Final = 86
"""Exit status of a process in which torch was imported; what a plugin prints, the check does not read."""


def record_of(plugin: str, plugins: Iterable[PluginRecord]) -> PluginRecord:
    """Return the record of the plugin with a name. Raises Mistake where it is not installed."""
    records = {record.name: record for record in plugins}
    if plugin not in records:
        mistake(
            f"no plugin {plugin!r} is installed{nearest(plugin, records)}; run pip install -e . "
            "in its folder, with an entry point of that name in the group harness.plugins"
        )
    return records[plugin]


def loads(record: PluginRecord) -> None:
    """Check that the host loads the plugin and that names and arguments of all hooks match the specification."""
    if record.status != "ok":
        mistake(f"plugin {record.name!r} is {record.status}: {record.cause}", record.detail)


def states_the_interface_it_speaks(record: PluginRecord) -> None:
    """Check that ``HARNESS_API`` is the version of this host."""
    version = getattr(module_of(record), "HARNESS_API", None)
    if version != API_VERSION:
        mistake(f"{record.module} has HARNESS_API = {version!r}; this host speaks {API_VERSION}")


def marks_its_hooks(record: PluginRecord) -> None:
    """Check that each function named like a hook has the mark, without which the host would not call it."""
    module = module_of(record)
    unmarked = [name for name in HOOKS if hasattr(module, name) and not _is_marked(getattr(module, name))]
    if unmarked:
        mistake(f"{record.module} does not mark {', '.join(unmarked)}: put @harness.api.hookimpl above it")


def declares_without_torch(record: PluginRecord) -> None:
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
        mistake(f"{record.module} cannot be imported on its own", done.stderr)
    if done.returncode == IMPORTED:
        mistake(
            f"{record.module} imports torch when it is imported or declares; "
            "move what needs torch to another module and name that in the targets"
        )


DECLARATION_CHECKS: Final[tuple[Callable[[PluginRecord], None], ...]] = (
    loads,
    states_the_interface_it_speaks,
    marks_its_hooks,
    declares_without_torch,
)
"""What ``harness check`` tries of a declaration, and `harness.testing.PluginConformance` by a test of each name."""


def module_of(record: PluginRecord) -> ModuleType:
    """Import and return a plugin's module. Raises Mistake with the reason where the import fails."""
    try:
        with contained():
            return importlib.import_module(record.module)
    except Exception as error:  # a plugin may raise anything while it is imported
        mistake(f"{record.module} cannot be imported: {one_line(error)}")


def _is_marked(function: object) -> bool:
    return hasattr(function, f"{PROJECT}_impl")
