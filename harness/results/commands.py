"""The commands that texts advise, with the options without which they would not find the run or its plugins."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from harness.results.places import default_store_path
from harness.results.plugins import option_of

if TYPE_CHECKING:
    from harness.api import Json, RunInfo

_RUNS = "runs"
"""The folder of runs in a store."""


def command(info: RunInfo, words: str) -> str:
    """Return a command on a run, ready to paste: ``words`` between the run's ``-p`` options and its ``--store``."""
    options = [option for option in map(option_of, info.plugins) if option]
    return " ".join(filter(None, ["harness", *options, words, _store(info)]))


def options_of(settings: Mapping[str, Json], task: str = "") -> str:
    """Return the options that name a user's own model and data in a suite's settings; empty where there are none.

    Which columns were named only the families know: these are guessed anew.
    """
    if not settings.get("model") or not settings.get("data"):
        return ""
    given = {"model": settings["model"], "data": settings["data"], "task": task, "base": settings.get("base")}
    return " ".join(f"--{name} {shlex.quote(str(value))}" for name, value in given.items() if value)


def _store(info: RunInfo) -> str:
    """Return --store where the run is not in the store that a command without it reads."""
    store = info.folder.parent.parent
    if info.folder.parent.name != _RUNS or store == default_store_path():
        return ""
    here = Path.cwd()
    shown = store.relative_to(here) if store.is_relative_to(here) else store
    return f"--store {shlex.quote(str(shown))}"
