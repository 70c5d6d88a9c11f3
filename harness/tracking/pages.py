"""Puts the report pages of the tracked runs into asv's site, and a list of them that its navigation leads to."""

from __future__ import annotations

import html
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from harness.api import Metric, RunInfo, UsageError
from harness.host import warn
from harness.results.store import Store, StoredRun

if TYPE_CHECKING:
    from harness.analysis.view import RunView

STORES: Final = ".asv/store"
"""Where suites/benchmarks.py keeps the runs of a commit: a store each, in a folder of the commit's hash."""

RUNS: Final = "runs"
"""The folder of the pages in the site."""

_NAVIGATION: Final = '<li id="nav-li-regressions"><a href="#/regressions">Regressions</a></li>'
_LINK: Final = f'<li id="nav-li-runs"><a href="{RUNS}/index.html">Runs</a></li>'


@dataclass(frozen=True, kw_only=True)
class Page:
    """A report page in the site: what of, and where, relative to the list of all."""

    commit: str
    suite: str
    address: str
    failed: int


def add_runs(project: Path, site: Path, metrics: Mapping[str, Metric]) -> int:
    """Write a page for each tracked commit and suite, list them, and return how many; runs unreadable are named.

    ``metrics`` are those of the loaded plugins. Commits are listed newest first. Takes about a second a page.
    """
    stores = {folder.name: Store(folder) for folder in (project / STORES).glob("*") if folder.is_dir()}
    pages: list[Page] = []
    for commit in _newest_first(project, sorted(stores)):
        try:
            pages += _pages_of(commit, stores[commit], site / RUNS, metrics)
        except UsageError as error:
            warn(f"no page of the runs of {commit[:8]}: {error.problems[0]}")
    if pages:
        subjects = {commit: _subject(project, commit) for commit in {page.commit for page in pages}}
        (site / RUNS / "index.html").write_text(_listing(pages, subjects), encoding="utf-8")
        _link(site / "index.html")
    return len(pages)


def merged(runs: Sequence[StoredRun]) -> StoredRun:
    """Several runs of parts of one suite as one: their techniques side by side, a case that ran again as it ran last.

    ``runs`` are oldest first; the header is the last one's.
    """
    last = runs[-1].info
    techniques = tuple(dict.fromkeys(name for run in runs for name in run.info.suite.techniques))
    info = replace(
        last,
        suite=replace(last.suite, techniques=techniques),
        started=runs[0].info.started,
        planned=sum(run.info.planned for run in runs),
        exit_code=max(run.info.exit_code or 0 for run in runs),
    )
    return StoredRun(info=info, rows=tuple(row for run in runs for row in run.rows))


def _pages_of(commit: str, store: Store, folder: Path, metrics: Mapping[str, Metric]) -> Iterator[Page]:
    from harness.report.page import write_page

    runs: dict[tuple[str, int], list[StoredRun]] = {}
    for name in store.ids():
        run = store.read(name)
        if run.info.finished:
            runs.setdefault((run.info.suite.id, run.info.suite.version), []).append(run)
    for (suite, version), parts in sorted(runs.items()):
        view = _view(merged(parts), metrics)
        path = write_page(view, folder / commit[:12] / f"{suite}-{version}")
        address = path.relative_to(folder).as_posix()
        yield Page(commit=commit, suite=suite, address=address, failed=view.failed)


def _view(run: StoredRun, metrics: Mapping[str, Metric]) -> RunView:
    from harness.analysis.view import RunView

    info: RunInfo = run.info
    return RunView.build(info, run.rows, metrics)


def _newest_first(project: Path, commits: Sequence[str]) -> list[str]:
    """The commits that the repository has, newest first."""
    if not commits:
        return []
    command = ["git", "-C", str(project), "rev-list", "--ignore-missing", "--topo-order", *commits, "--"]
    listed = subprocess.run(command, capture_output=True, text=True, check=False).stdout.split()
    return [commit for commit in listed if commit in set(commits)]


def _subject(project: Path, commit: str) -> str:
    command = ["git", "-C", str(project), "show", "--no-patch", "--format=%cs %s", commit]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()


def _link(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    if _NAVIGATION not in text:
        raise UsageError(
            f"asv's {page.name} has no navigation where the list of runs could be linked from",
            "install the asv that this version was made for: pip install 'technique-harness[track]'",
        )
    page.write_text(text.replace(_NAVIGATION, f"{_NAVIGATION}\n\t{_LINK}"), encoding="utf-8")


def _listing(pages: Sequence[Page], subjects: Mapping[str, str]) -> str:
    """The page that lists all pages, by commit."""
    by_commit: dict[str, list[Page]] = {}
    for page in pages:
        by_commit.setdefault(page.commit, []).append(page)
    rows = "\n".join(
        f"<tr><td><code>{commit[:8]}</code></td><td>{html.escape(subjects[commit])}</td>"
        f"<td>{', '.join(map(_anchor, own))}</td></tr>"
        for commit, own in by_commit.items()
    )
    return _LISTING.replace("ROWS", rows)


def _anchor(page: Page) -> str:
    failed = f" ({page.failed} failed)" if page.failed else ""
    return f'<a href="{html.escape(page.address)}">{html.escape(page.suite)}</a>{failed}'


_LISTING: Final = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Runs</title>
<style>
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 60rem; padding: 0 1rem; color: #222;
  background: #fff; }
table { border-collapse: collapse; width: 100%; }
th, td { text-align: left; padding: 0.3rem 1rem 0.3rem 0; border-bottom: 1px solid #ddd; vertical-align: top; }
a { color: #1f5fa8; }
@media (prefers-color-scheme: dark) {
  body { color: #ddd; background: #181a1b; }
  th, td { border-color: #3a3d3f; }
  a { color: #7db3ee; }
}
</style>
</head>
<body>
<p><a href="../index.html">Series over commits</a></p>
<h1>Runs</h1>
<p>What each commit's runs found, every technique beside its baseline.</p>
<table>
<thead><tr><th>commit</th><th></th><th>suites</th></tr></thead>
<tbody>
ROWS
</tbody>
</table>
</body>
</html>
"""
