"""``harness track publish``: the site of all tracked results, which needs no network."""

from __future__ import annotations

from pathlib import Path

import click

from harness.cli.app import FolderOfPages, current, plugin_options
from harness.cli.output import say


@click.command()
@click.option(
    "-o", "--output", type=FolderOfPages(),
    help="Write the site to this folder and replace its content.  [default: .asv/html]",
)  # fmt: skip
@click.option(
    "--store", type=click.Path(file_okay=False, path_type=Path), envvar="HARNESS_STORE", show_envvar=True,
    help="Also show the runs of this store, each at its commit.",
)  # fmt: skip
@plugin_options
def publish(output: Path | None, store: Path | None) -> None:
    """Make the site of all results: where each suite stands, each series over the commits, and every run's report page.

    The site loads no other site. Its scripts are fetched once with npm and cached.
    """
    from harness.api import UsageError
    from harness.history.decisions import find, read
    from harness.history.following import Origin, follow
    from harness.history.gaps import find_gaps
    from harness.history.series import Wanted
    from harness.results.places import default_cache_path
    from harness.results.store import Store
    from harness.tracking.accepted import drop_accepted
    from harness.tracking.asv import find_project, make_site, require_asv, require_history
    from harness.tracking.first_page import add_first_page
    from harness.tracking.marks import add_history
    from harness.tracking.offline import make_offline
    from harness.tracking.pages import add_runs

    require_asv()
    project = find_project(Path.cwd())
    site = (output or project / ".asv/html").absolute()
    if not (project / ".asv/results/benchmarks.json").is_file():
        raise UsageError(f"nothing was tracked in {project} yet, so there is nothing to publish; first: harness track")
    require_history(project)
    _check_replaceable(site)
    read(find(project))  # mistakes there are told before the old site is replaced
    ended = make_site(project, site)
    accepted = drop_accepted(project, site, current().host.metrics)
    make_offline(site, default_cache_path())
    place = Store(store.absolute()) if store else None
    metrics = current().host.metrics
    pages = add_runs(project, site, metrics, place)
    origin = Origin(
        stores=[place] if place else [], project=project, folder=project, metrics=metrics, committed=True
    )  # fmt: skip
    history = follow(origin, Wanted())
    if history.judged:
        add_history(site, history, find_gaps(origin, history))
    add_first_page(project, site, history, pages)
    counted = f"{len(pages)} page{'' if len(pages) == 1 else 's'} of runs"
    say(f"{site}: an overview, the series over commits, their history, and {counted}")
    for regression, entry in accepted:
        say(f"accepted: {regression.series}, {regression.key}, at {regression.commit[:9]}: {entry.note}")
    if ended:
        say(f"not among the regressions, as they ended: {', '.join(ended)}")
    say(f"view the site: python -m http.server --bind 127.0.0.1 --directory {site}")


def _check_replaceable(site: Path) -> None:
    """Raise UsageError for a folder that is not a site, as asv would remove its files."""
    from harness.api import UsageError

    if site.is_dir() and any(site.iterdir()) and not (site / "regressions.json").is_file():
        raise UsageError(f"--output {site}: the folder has other files; expected a new folder or an older site")
