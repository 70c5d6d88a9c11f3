"""``harness track publish``: the site of all that was tracked, which needs no network."""

from __future__ import annotations

from pathlib import Path

import click

from harness.cli.app import current, plugin_options


@click.command()
@click.option(
    "-o", "--output", type=click.Path(file_okay=False, path_type=Path),
    help="Write the site to this folder, in place of what is there.  [default: .asv/html]",
)  # fmt: skip
@click.option(
    "--store", type=click.Path(file_okay=False, path_type=Path), envvar="HARNESS_STORE", show_envvar=True,
    help="Show the runs in this store, too, each at its commit.",
)  # fmt: skip
@plugin_options
def publish(output: Path | None, store: Path | None) -> None:
    """Make the site of all results: each series over the commits, its regressions, and every run's report page.

    The site loads nothing from elsewhere. Its scripts are fetched with npm the first time, then kept.
    """
    from harness.api import UsageError
    from harness.results.store import Store, default_cache_path
    from harness.tracking.asv import find_project, require_asv, run_asv
    from harness.tracking.offline import make_offline
    from harness.tracking.pages import add_runs

    require_asv()
    project = find_project(Path.cwd())
    site = (output or project / ".asv/html").absolute()
    if not (project / ".asv/results/benchmarks.json").is_file():
        raise UsageError(f"nothing was tracked in {project} yet, so there is nothing to publish; first: harness track")
    _check_replaceable(site)
    run_asv(project, ["publish", "--no-pull", "--html-dir", str(site)], quiet=True)
    make_offline(site, default_cache_path())
    pages = add_runs(project, site, current().host.metrics, Store(store.absolute()) if store else None)
    click.echo(f"{site}: the series over commits, and {pages} page{'' if pages == 1 else 's'} of runs")
    click.echo(f"look at it: python -m http.server --bind 127.0.0.1 --directory {site}")


def _check_replaceable(site: Path) -> None:
    """Refuse to empty a folder that is no site: asv would remove whatever is in it."""
    from harness.api import UsageError

    if site.is_dir() and any(site.iterdir()) and not (site / "regressions.json").is_file():
        raise UsageError(f"--output {site}: is a folder with other things in it; expected a new one or an older site")
