"""Adds report pages of the tracked runs to asv's site, and a list of the pages to the site's navigation."""

from __future__ import annotations

import html
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from harness.analysis.view import RunView
from harness.api import Metric, UsageError
from harness.host import warn
from harness.measure import git
from harness.results.store import Store, StoredRun
from harness.tracking.asv import PAGE
from harness.tracking.results import commit_of

STORES: Final = ".asv/store"
"""The folder in which suites/benchmarks.py keeps one store for each commit, named by the commit's hash."""

RUNS: Final = "runs"
"""The folder of the report pages in the site."""

NAVIGATION: Final = '<li id="nav-li-regressions"><a href="#/regressions">Regressions</a></li>'


@dataclass(frozen=True, kw_only=True)
class Shown:
    """A run that gets a page: the run's commit, its title in the list, the name of the page, and the run.

    ``parts`` are the ids of the stored runs of which it was made.
    """

    commit: str
    title: str
    name: str
    run: StoredRun
    parts: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Page:
    """A report page in the site: what it shows, its address relative to the list, and failed cases."""

    shown: Shown
    address: str
    failed: int


def add_runs(project: Path, site: Path, metrics: Mapping[str, Metric], store: Store | None = None) -> list[Page]:
    """Write a page for each tracked commit and suite, and a list of all pages; return the pages.

    ``store`` holds further runs: each finished run of a commit of the project gets a page as well. ``metrics`` are
    those of the loaded plugins. Commits are listed newest first. A run that cannot be read is left out with a
    warning. A page takes about a second. Raises UsageError where asv's page has no navigation to add the list to.
    """
    from harness.report.page import write_page

    shown = [*_tracked(project), *(_of_store(store) if store else ())]
    commits = _newest_first(project, sorted({item.commit for item in shown}))
    pages: list[Page] = []
    for commit in commits:
        for item in (item for item in shown if item.commit == commit):
            try:
                view = RunView.build(item.run.info, item.run.rows, metrics)
            except UsageError as error:
                warn(f"no page of {item.title} at {commit[:8]}: {error.problems[0]}")
                continue
            # all pages are in one folder, since the pages of a folder share a script of several megabytes
            path = write_page(view, site / RUNS, item.run.rows, name=item.name)
            pages.append(Page(shown=item, address=path.name, failed=view.failed))
    if pages:
        subjects = {commit: _subject(project, commit) for commit in commits}
        (site / RUNS / "index.html").write_text(_listing(pages, subjects), encoding="utf-8")
        add_link(site / PAGE, f"{RUNS}/index.html", "Runs")
    return pages


def merged(runs: Sequence[StoredRun]) -> StoredRun:
    """Merge several runs of one suite into one with the techniques of all; of a repeated case the last row counts.

    ``runs`` are sorted oldest first; the merged run has the header of the last one.
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


def _tracked(project: Path) -> Iterator[Shown]:
    """Yield the tracked runs of each commit, merged into one run for each suite and version."""
    for folder in sorted(path for path in (project / STORES).glob("*") if path.is_dir()):
        suites: dict[tuple[str, int], list[StoredRun]] = {}
        for run in _finished(Store(folder)):
            suites.setdefault((run.info.suite.id, run.info.suite.version), []).append(run)
        for (suite, version), runs in sorted(suites.items()):
            name = f"{folder.name[:12]}-{suite}-{version}"
            parts = tuple(run.info.id for run in runs)
            yield Shown(commit=folder.name, title=suite, name=name, run=merged(runs), parts=parts)


def _of_store(store: Store) -> Iterator[Shown]:
    """Yield the finished runs of a store whose code was that of a commit."""
    for run in _finished(store):
        try:
            commit = commit_of(run.info)
        except UsageError:  # the run measured changed files, or an unknown commit
            continue
        info = run.info
        title = f"{info.suite.id} ({info.suite.form}, {info.selection.get('device', 'cpu')})"
        yield Shown(commit=commit, title=title, name=f"{commit[:12]}-{info.id}", run=run, parts=(info.id,))


def _finished(store: Store) -> Iterator[StoredRun]:
    """Yield the finished runs of a store; warn of a run that cannot be read."""
    for name in store.ids():
        try:
            run = store.read(name)
        except UsageError as error:
            warn(f"no page of run {name}: {error.problems[0]}")
            continue
        if run.info.finished:
            yield run


def _newest_first(project: Path, commits: Sequence[str]) -> list[str]:
    """Return those of the commits that the repository has, newest first."""
    if not commits:
        return []
    listed = git.demand(
        project, "rev-list", "--ignore-missing", "--topo-order", "--end-of-options", *commits, "--"
    ).split()
    return [commit for commit in listed if commit in set(commits)]


def _subject(project: Path, commit: str) -> str:
    """Return the date and the subject of a commit."""
    options = ("--no-patch", "--no-show-signature", "--format=%cs %s")
    return git.demand(project, "show", *options, "--end-of-options", commit).strip()


def add_link(page: Path, address: str, title: str) -> None:
    """Add a link to the navigation of asv's page. Raises UsageError where no navigation is found."""
    text = page.read_text(encoding="utf-8")
    if NAVIGATION not in text:
        raise UsageError(
            f"asv's {page.name} has no navigation to which the page {title!r} can be added",
            "install the version of asv that this version supports: pip install 'technique-harness[track]'",
        )
    link = f'<li id="nav-li-{title.lower()}"><a href="{address}">{title}</a></li>'
    page.write_text(text.replace(NAVIGATION, f"{NAVIGATION}\n\t{link}"), encoding="utf-8")


def _listing(pages: Sequence[Page], subjects: Mapping[str, str]) -> str:
    """Return the HTML of the page that lists all pages by commit."""
    by_commit: dict[str, list[Page]] = {}
    for page in pages:
        by_commit.setdefault(page.shown.commit, []).append(page)
    rows = "\n".join(
        f"<tr><td><code>{commit[:8]}</code></td><td>{html.escape(subjects[commit])}</td>"
        f"<td>{', '.join(map(_anchor, own))}</td></tr>"
        for commit, own in by_commit.items()
    )
    return _LISTING.replace("ROWS", rows)


def _anchor(page: Page) -> str:
    """Return the HTML of a link to a page, with the number of failed cases."""
    failed = f" ({page.failed} failed)" if page.failed else ""
    return f'<a href="{html.escape(page.address)}">{html.escape(page.shown.title)}</a>{failed}'


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
<p><a href="../index.html">Overview</a></p>
<h1>Runs</h1>
<p>What each commit's runs found, every technique beside its baseline.</p>
<table>
<thead><tr><th>commit</th><th></th><th>runs</th></tr></thead>
<tbody>
ROWS
</tbody>
</table>
</body>
</html>
"""
