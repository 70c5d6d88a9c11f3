"""``harness run``: run a suite and print its table."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from harness.cli.app import App, cache_folder, complete_from, current, plugin_options, store_option

if TYPE_CHECKING:
    from harness.api import Executor, Json
    from harness.host import Host
    from harness.plan import Plan, Selection
    from harness.results.store import RunWriter, Store

LAST = "last"
"""What ``--resume`` without a run means."""

TIME_LIMIT_S = 300.0
"""The default hard limit of one case: far above what a suite's cases take, so that it ends only what hangs."""

_UNITS = {"": 1, "B": 1, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30, "KB": 10**3, "MB": 10**6, "GB": 10**9}


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """The options of ``harness run``, as parsed."""

    suite: str | None
    technique: tuple[str, ...]
    workload: tuple[str, ...]
    seeds: str | None
    param: tuple[str, ...]
    device: str
    quick: bool
    jobs: int | None
    time_limit: float
    memory_limit: int | None
    executor: str
    resume: str | None
    store: Path | None
    format: str
    dry_run: bool
    quiet: bool


class _Bytes(click.ParamType):
    """A number of bytes, with or without a unit."""

    name = "bytes"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        if isinstance(value, int):
            return value
        text = value.strip()
        number = text.rstrip("BKMGibkmg ")
        unit = text[len(number) :].strip().upper()
        try:
            size = int(float(number) * _UNITS[unit])
        except (ValueError, KeyError, OverflowError):
            self.fail(f"{value!r}: expected bytes, like 2000000000, 500MiB or 2GiB", param, ctx)
        if size <= 0:
            self.fail(f"{value!r}: expected more than 0 bytes", param, ctx)
        return size


@click.command()
@click.option("--suite", metavar="NAME|FILE", shell_complete=complete_from("suites"), help="The suite to run.")
@click.option(
    "--technique", multiple=True, metavar="GLOB", shell_complete=complete_from("techniques"),
    help="Run only these techniques (and the baseline).",
)  # fmt: skip
@click.option(
    "--workload", multiple=True, metavar="GLOB", shell_complete=complete_from("workloads"),
    help="Run only these workloads.",
)  # fmt: skip
@click.option("--seeds", metavar="N|LIST", help="How many seeds, or which: 5, or 0,1,7.")
@click.option("--param", multiple=True, metavar="K=V", help="Fix a parameter or a setting; it is then not tuned.")
@click.option("--device", type=click.Choice(["cpu", "cuda", "mps"]), default="cpu", show_default=True)
@click.option("--quick", is_flag=True, help="The suite's short form, labelled as such.")
@click.option("--jobs", type=click.IntRange(min=1), metavar="N", help="Cases side by side.  [default: one a core]")
@click.option(
    "--time-limit", type=click.FloatRange(min=0, min_open=True), default=TIME_LIMIT_S, show_default=True, metavar="S",
    help="Seconds after which a case is ended.",
)  # fmt: skip
@click.option("--memory-limit", type=_Bytes(), metavar="BYTES", help="Memory a case may take, like 2GiB.")
@click.option("--executor", default="local", show_default=True, help="What runs the cases; inline is for a debugger.")
@click.option(
    "--resume", is_flag=False, flag_value=LAST, metavar="[RUN]", help="Run what is missing of a run (the last one)."
)
@store_option
@click.option("--format", default="table", show_default=True, help="table, json, or any of tabulate's: github, latex…")
@click.option("--dry-run", is_flag=True, help="Show what would run, and run nothing.")
@click.option("--quiet", is_flag=True, help="No progress display.")
@plugin_options
@click.pass_context
def run(context: click.Context, **options: Any) -> None:
    """Run a suite: tune every technique equally, measure, and print one table a workload."""
    context.exit(execute(current(), RunOptions(**options)))


def execute(app: App, options: RunOptions) -> int:
    """Do what ``harness run`` does and return its exit code."""
    from harness.report.table import check_format
    from harness.results.store import Store, default_store_path

    if not options.format_is_of(app.host):
        check_format(options.format)
    _check_device(options.device)
    store = Store(default_store_path(options.store))
    if options.resume is not None:
        return _resume(app, options, store)
    return _fresh(app, options, store)
