"""``harness cache``: the models that runs share, trained or converted, and the indexes of read-only stores."""

from __future__ import annotations

from pathlib import Path

import click

from harness.api import BASE_MODELS, CONVERTED
from harness.cli.app import json_option, print_json
from harness.cli.output import say


@click.group()
def cache() -> None:
    """Show or clear the trained and converted models that runs share, and the indexes of read-only stores."""


@cache.command()
@json_option
def show(as_json: bool) -> None:
    """Show the folder of the cache and what it holds; a converted model is one entry."""
    from harness.report.units import size
    from harness.results.places import default_cache_path

    folder = default_cache_path()
    sizes: dict[Path, int] = {}
    for path in _files(folder):
        entry = _entry(path, folder)
        sizes[entry] = sizes.get(entry, 0) + path.stat().st_size
    files = list(sizes.items())
    if as_json:
        entries = [{"name": str(path.relative_to(folder)), "bytes": length} for path, length in files]
        print_json({"folder": str(folder), "files": entries})
        return
    say(f"{folder}: {len(files)} entries, {size(sum(length for _, length in files))}")
    for path, length in files:
        say(f"  {size(length):>10}  {path.relative_to(folder)}")


@cache.command()
@click.option("--yes", is_flag=True, help="Do not ask for confirmation.")
def clear(yes: bool) -> None:
    """Remove the cached models and indexes; the next command that needs one makes it again."""
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
    for path in {_entry(path, folder) for path in files} - {*files}:
        path.rmdir()
    say(f"removed {len(files)} files from {folder}")


def _entry(path: Path, folder: Path) -> Path:
    """Return what a file of the cache belongs to: the folder of a converted model, or the file itself."""
    models = folder / BASE_MODELS / CONVERTED
    return models / path.relative_to(models).parts[0] if path.is_relative_to(models) else path


def _files(folder: Path) -> list[Path]:
    """Return the harness's own files, as HARNESS_CACHE may name a folder that other programs use too."""
    from harness.results.places import INDEXES

    return sorted(path for own in (BASE_MODELS, INDEXES) for path in (folder / own).rglob("*") if path.is_file())
