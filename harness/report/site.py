"""The site of a whole store: a page for each run, and an index of all, in a folder of static files."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Final

from harness.analysis.view import RunView
from harness.api import UsageError
from harness.report.folder import opened, pages_of, save, write_index
from harness.report.page import render_page
from harness.results.writer import NAME_FILE, ROWS_FILE, RUN_FILE

if TYPE_CHECKING:
    from harness.api import Metric
    from harness.results.store import Store

_PACKAGE: Final = Path(__file__).parents[1]
_MAKERS: Final = ("analysis", "api", "report", "results")
"""The rooms whose code makes a page of stored rows."""


@dataclass(frozen=True, kw_only=True)
class Built:
    """What building a site has done: pages written, left as they were, and removed, and runs that cannot be read."""

    written: tuple[str, ...]
    unchanged: tuple[str, ...]
    removed: tuple[str, ...]
    unreadable: Mapping[str, str]


def build(store: Store, folder: Path, metrics: Mapping[str, Metric], told: Callable[[str], None]) -> Built:
    """Bring a folder up to date with a store: a page for each run that changed, and an index.

    ``told`` hears of each page before it is made. The page of a run that is no longer in the store is removed. Raises
    `harness.api.UsageError` where the folder cannot be written to, or has an index that is not a list of runs.
    """
    written, unchanged, unreadable = [], [], {}
    with opened(folder):
        have = {facts["run"]: (path, facts["stamp"]) for path, facts in pages_of(folder).items() if "stamp" in facts}
        for run in store.ids():
            stamp = _stamp(store.folder(run))
            if run in have and have[run][1] == stamp:
                unchanged.append(run)
                continue
            told(run)
            try:
                stored = store.read(run)
                view = RunView.build(stored.info, stored.rows, metrics)
                text = render_page(view, stored.rows, stamp=stamp)
            except UsageError as error:
                unreadable[run] = str(error).partition("\n")[0]
                continue
            save(text, folder / f"{run}.html")
            written.append(run)
        removed = _without([*written, *unchanged], have)
        write_index(folder, unreadable)
    return Built(written=tuple(written), unchanged=tuple(unchanged), removed=removed, unreadable=unreadable)


def _without(kept: Sequence[str], have: Mapping[str, tuple[Path, str]]) -> tuple[str, ...]:
    """Remove the pages that an earlier build made of runs that have none now; return the runs."""
    gone = sorted(have.keys() - {*kept})
    for run in gone:
        have[run][0].unlink()
    return tuple(gone)


def _stamp(folder: Path) -> str:
    """Return a digest of what a page is made of: the files of the run, and the code that makes pages."""
    digest = hashlib.sha256(_code().encode())
    for name in (RUN_FILE, ROWS_FILE, NAME_FILE):
        try:
            facts = (folder / name).stat()
        except OSError:
            continue  # why a run cannot be read is told when it is read
        digest.update(f"{name} {facts.st_size} {facts.st_mtime_ns}\n".encode())
    return digest.hexdigest()[:16]


@cache
def _code() -> str:
    """Return a digest of the code and the templates of pages, and the version of Plotly."""
    digest = hashlib.sha256(version("plotly").encode())
    for room in _MAKERS:
        for path in sorted((_PACKAGE / room).rglob("*")):
            if path.is_file() and path.suffix in (".py", ".html", ".css", ".js"):
                digest.update(path.read_bytes())
    return digest.hexdigest()
