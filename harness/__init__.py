"""A plugin-based benchmarking harness for deep-learning techniques.

.. code-block:: python

    import harness

    view = harness.run("peft", techniques=["lora/*pissa*"], seeds=[0, 1, 2])
    for table in view.workloads:
        for summary in table.techniques:
            print(summary.technique, summary.quality and summary.quality.estimate)
    harness.load("last")  # the same from the store, without running anything

Importing this package imports neither torch nor numpy.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from os import fspath
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from os import PathLike

    from harness.analysis.view import RunView
    from harness.api import Form, Json, Lane, Limits
    from harness.host import Host

__all__ = ["load", "run"]

__version__ = "0.2.0"


def run(
    suite: str,
    *,
    model: Path | str | None = None,
    data: Path | str | None = None,
    task: str | None = None,
    columns: Mapping[str, str] | None = None,
    base: str | None = None,
    download: bool = False,
    techniques: Sequence[str] = (),
    workloads: Sequence[str] = (),
    seeds: int | Sequence[int] = (),
    params: Mapping[str, Json] | None = None,
    lanes: Sequence[Lane] = (),
    until: str | int | None = None,
    repeatability: int | None = None,
    rounds: int | None = None,
    form: Form = "full",
    device: str = "cpu",
    fresh: bool = False,
    fail_fast: bool = False,
    executor: str = "local",
    address: str = "",
    jobs: int | None = None,
    limits: Limits | None = None,
    observe: Sequence[str] = (),
    plugins: Sequence[str] = (),
    store: Path | str | None = None,
    cache: Path | str | None = None,
) -> RunView:
    """Run a suite as ``harness run`` does, and return what there is to say about the run.

    Args:
        suite: the suite's id, short name or file.
        model: a model of transformers in place of the suite's own workloads, with ``data``: a folder, a ``.gguf`` file,
            ``package:NAME``, or ``REPO@REVISION`` of a hub.
        data: what the model learns: a ``.csv``, ``.tsv``, ``.jsonl``, ``.parquet`` or ``.txt`` file, a folder, or
            ``REPO@REVISION`` of a hub.
        task: what is learned; as the data's columns tell where None.
        columns: columns of the data by what they are, like ``{"text": "review"}``.
        base: the form of the model under what trains, such as "bfloat16" or "nf4"; the workload's default where None.
        download: whether to fetch the model and the data from the hub, if they are its ids.
        techniques: globs or names; all of the suite where there are none. The baseline always runs.
        workloads: globs or names; all of the suite where there are none.
        seeds: the seeds or their count, in place of the suite's.
        params: parameters and settings that are fixed, and so not tuned.
        lanes: "accuracy", "memory" and "time"; all where there are none.
        until: how long undecided techniques get further seeds: "decided", a number of seeds, or a time like "10min".
        repeatability: on how many of the first seeds trainings are repeated, to see what rounding does; the suite's
            number where None, nothing where 0.
        rounds: how many turns all techniques take in the time lane; the suite's number where None.
        form: "full", "quick" or "track".
        device: "cpu", "cuda" or "mps".
        fresh: whether to compute all rows, and take none from earlier runs of the store.
        fail_fast: whether to stop at the first case that fails; `harness run --resume` runs the others.
        executor: what runs the cases; "inline" runs them in this process, without isolation.
        address: the cluster of an executor that runs on one.
        jobs: cases side by side; one a core where None.
        limits: hard limits of one case; five minutes where None.
        observe: trackers that get each row as it ends: "mlflow", "tensorboard", "wandb".
        plugins: modules of plugins that are not installed, besides those of the variable ``HARNESS_PLUGINS``.
        store: the folder of the results; ``.harness`` in the current folder where None.
        cache: the folder of trained base models; the user's cache folder where None.

    Raises:
        harness.api.UsageError: for whatever makes no sense; nothing is run or written then.
        KeyboardInterrupt: on Ctrl-C; the rows until then are stored, and `harness run --resume` goes on with them.

    """
    from harness.execution.choices import check_form, resources_of, selection_of
    from harness.execution.session import INTERRUPTED, Silent, begin
    from harness.observers.offered import load as load_observers
    from harness.origins.reading import Reading
    from harness.results.commands import command
    from harness.results.places import default_store_path
    from harness.results.store import Store
    from harness.source import source_of
    from harness.suite import read_suite

    check_form(form)
    selection = selection_of(
        techniques=techniques,
        workloads=workloads,
        seeds=seeds,
        params=params,
        lanes=lanes,
        device=device,
        until=until,
        repeatability=repeatability,
        rounds=rounds,
    )
    resources = resources_of(
        executor=executor,
        jobs=jobs,
        limits=limits,
        cache=cache,
        fresh=fresh,
        fail_fast=fail_fast,
        address=address,
    )
    host = _host_with(plugins)
    load_observers(host, [*dict.fromkeys(observe)])
    reading = Reading(columns=columns or {}, download=download, cache=resources.cache)
    source = source_of(model, data, task, reading, base=base)
    read = read_suite(suite, host, form=form, source=source, reading=reading)
    session = begin(host, read, selection, resources)
    folder = Store(default_store_path(Path(store) if store else None))
    with session.start(folder, selection, resources) as writer:
        info = session.carry_out(writer, Silent())
    if info.exit_code == INTERRUPTED:
        raise KeyboardInterrupt(f"finish the run with: {command(info, f'run --resume {info.id}')}")
    return load(info.id, plugins=plugins, store=store)


def load(run: str | PathLike[str] = "last", *, plugins: Sequence[str] = (), store: Path | str | None = None) -> RunView:
    """Return what there is to say about a stored run: its tables, comparisons, claims and rows.

    Args:
        run: the run's name, its id, the beginning or ending of the id, or "last"; or the path of the run's folder,
            which is then read where it is.
        plugins: modules of plugins that are not installed and whose metrics the run has.
        store: the folder of the results; ``.harness`` in the current folder where None.

    Raises:
        harness.api.UsageError: where there is no such run, where a path is not that of a run's folder, and where no
            loaded plugin declares a metric of the suite.

    """
    from harness.analysis.view import RunView
    from harness.results.places import default_store_path
    from harness.results.store import Store, run_in
    from harness.results.writer import RUN_FILE

    path = Path(run)
    # no name of a run has a separator; a path without one may be a name
    if path.name != fspath(run) or (not isinstance(run, str) and (path / RUN_FILE).is_file()):
        store, run = run_in(path)
    stored = Store(default_store_path(Path(store) if store else None)).read(str(run))
    host = _host_with(plugins)
    return RunView.build(stored.info, stored.rows, host.metrics)


def _host_with(plugins: Sequence[str]) -> Host:
    """Return the host with the plugins named here and in the environment. Raises UsageError where one is broken."""
    from harness.discovery import named_in_environment
    from harness.host import enabled_and_disabled, load_host

    enable, disable = enabled_and_disabled([*named_in_environment(), *plugins])
    host = load_host(enable, disable)
    host.require_loaded(enable)
    return host
