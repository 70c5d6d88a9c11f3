"""A folder of pages with an index: what is written there, and what is not lost."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from harness.api import UsageError
from harness.api.text import printable
from harness.report.frame import INDEX, SCRIPT, Head, facts_of, plotly, rendered, write_script

KEPT: Final = "\n\t"
"""The control characters of our own pages."""

_LISTS: Final = "<h1>Runs</h1>"
"""The heading by which a list of runs is recognised."""


@contextmanager
def opened(folder: Path) -> Iterator[None]:
    """Make a folder ready for pages, with Plotly's JavaScript.

    Raises `harness.api.UsageError` where the folder cannot be written to, now or within the context, or has an index
    that is not a list of runs.
    """
    index = folder / INDEX
    try:
        if index.is_file() and _LISTS not in index.read_text(encoding="utf-8", errors="replace"):
            raise UsageError(
                f"cannot write pages to {folder}: its {INDEX} is not a list of runs, and would be lost",
                "choose a folder of its own",
            )
        folder.mkdir(parents=True, exist_ok=True)
        write_script(folder)
        yield
    except OSError as error:
        raise UsageError(
            f"cannot write pages to {folder}: {error.strerror}", "choose a folder you may write to"
        ) from error


def write(text: str, folder: Path, name: str) -> Path:
    """Write a page and the index of its folder; return the page's path. Raises as `opened` does."""
    path = folder / f"{name}.html"
    with opened(folder):
        save(text, path)
        write_index(folder)
    return path


def save(text: str, path: Path) -> None:
    """Write a page, with what no reader of it could print as escapes."""
    path.write_text(printable(text, keep=KEPT), encoding="utf-8")


def write_whole(text: str, path: Path) -> None:
    """Write a page whose charts are drawn by code within it; raises `harness.api.UsageError` where that fails.

    ``text`` is a page that was rendered as a whole one.
    """
    before, link, after = text.partition(f'<script src="{SCRIPT}" defer></script>')  # the first is in the page's head
    if not link:
        raise AssertionError(f"the page does not load {SCRIPT}")
    write_file(f"{printable(before, keep=KEPT)}<script>{plotly()}</script>{printable(after, keep=KEPT)}", path)


def write_alone(text: str, path: Path) -> None:
    """Write a page that needs no other file; raises `harness.api.UsageError` where that fails."""
    write_file(printable(text, keep=KEPT), path)


def write_file(text: str, path: Path) -> None:
    """Write a file whose name the user gave, as it is; raises `harness.api.UsageError` where that fails."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise UsageError(f"cannot write {path}: {error.strerror}", "name a file that you may write to") from error


def pages_of(folder: Path) -> dict[Path, dict[str, str]]:
    """Return the facts of each page of ours in a folder, the one with the last name first."""
    paths = sorted(folder.glob("*.html"), reverse=True)
    found = {path: facts_of(path) for path in paths if path.name != INDEX and path.is_file()}
    return {path: facts for path, facts in found.items() if facts}


def write_index(folder: Path, unreadable: Mapping[str, str] | None = None) -> None:
    """Write the index of a folder's pages; ``unreadable`` are the reasons why runs have none, by the run's id."""
    pages = [
        {
            "address": path.name,
            **{name: facts.get(name, "") for name in ("title", "description", "suite", "started", "state")},
        }
        for path, facts in pages_of(folder).items()
    ]
    head = Head(title="Runs", description=f"{len(pages)} pages", charts=False)
    save(rendered("index.html", head, pages=pages, unreadable=unreadable or {}), folder / INDEX)
