"""``harness cache``: the trained base models that runs share."""

from __future__ import annotations

from pathlib import Path

import click

from harness.api import BASE_MODELS
from harness.cli.app import json_option, print_json
from harness.cli.output import say


@click.group()
def cache() -> None:
    """Show or clear the trained base models that runs share."""


@cache.command()
@json_option
def show(as_json: bool) -> None:
    """Show the folder of the cache and its files."""
    from harness.report.units import size
    from harness.results.places import default_cache_path

    folder = default_cache_path()
    files = [(path, path.stat().st_size) for path in _files(folder)]
    if as_json:
        entries = [{"name": str(path.relative_to(folder)), "bytes": length} for path, length in files]
        print_json({"folder": str(folder), "files": entries})
        return
    say(f"{folder}: {len(files)} files, {size(sum(length for _, length in files))}")
    for path, length in files:
        say(f"  {size(length):>10}  {path.relative_to(folder)}")


@cache.command()
@click.option("--yes", is_flag=True, help="Do not ask for confirmation.")
def clear(yes: bool) -> None:
    """Remove the cached base models; the next run trains them again."""
    from harness.results.places import default_cache_path

    folder = default_cache_path()
    files = _files(folder)
    if not files:
        say(f"{folder}: nothing to clear")
        return
    if not yes:
        click.confirm(f"Remove {len(files)} files from {folder}?", abort=True)
    for path in files:
        path.unlink(missing_ok=True)
    say(f"removed {len(files)} files from {folder}")


def _files(folder: Path) -> list[Path]:
    """Return the harness's own files, as HARNESS_CACHE may name a folder that other programs use too."""
    return sorted(path for path in (folder / BASE_MODELS).rglob("*") if path.is_file())
