"""The commands that texts advise, with the options without which they would not find the run or its plugins."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING

from harness.results.store import default_store_path

if TYPE_CHECKING:
    from harness.api import RunInfo

_RUNS = "runs"
"""The folder of runs in a store."""


def command(info: RunInfo, words: str) -> str:
    """Return a command on a run, ready to paste: ``words`` between the run's ``-p`` options and its ``--store``."""
    return " ".join(filter(None, ["harness", *_modules(info), words, _store(info)]))


def _modules(info: RunInfo) -> list[str]:
    """Return -p for each plugin of the run's suite that was loaded without an installation."""
    suite = info.suite
    concerned = {name.partition("/")[0] for name in (suite.baseline, *suite.techniques, *suite.workloads)}
    return [
        f"-p harness_{str(plugin['name']).replace('-', '_')}"
        for plugin in info.plugins
        if plugin.get("distribution") == "" and plugin.get("status") == "ok" and plugin.get("name") in concerned
    ]


def _store(info: RunInfo) -> str:
    """Return --store where the run is not in the store that a command without it reads."""
    store = info.folder.parent.parent
    if info.folder.parent.name != _RUNS or store == default_store_path():
        return ""
    here = Path.cwd()
    shown = store.relative_to(here) if store.is_relative_to(here) else store
    return f"--store {shlex.quote(str(shown))}"
