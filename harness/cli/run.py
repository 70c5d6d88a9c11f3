"""``harness run``: run a suite and print its table."""

from __future__ import annotations

import signal
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any, Final

import click

from harness.api import DEVICES, LANES
from harness.api.text import named
from harness.cli.app import App, complete_from, current, plugin_options, store_option
from harness.cli.chosen import RunOptions, form_of, reading_of, resources_of, selection_of
from harness.cli.kinds import Bytes, Seconds
from harness.cli.output import check_format, say, show_view, width_of_terminal
from harness.streams import aside

if TYPE_CHECKING:
    from harness.api import Form, Json, Suite
    from harness.execution.session import Session
    from harness.host import Host
    from harness.results.store import Store, StoredRun
    from harness.results.writer import RunWriter

LAST = "last"
"""The run of ``--resume`` without a value."""


_OWN_OPTIONS: Final = (
    *("model", "data", "task", "column", "base", "download", "technique", "workload", "seeds", "until"),
    *("repeatability", "rounds", "param", "lane", "quick", "track"),
)
"""The options that say what a run is; a resumed one has its own."""

_NARROWEST_TRIALS: Final = 16
"""The narrowest column of trials in the table of a dry run."""


@click.command()
@click.option("--suite", metavar="NAME|FILE", shell_complete=complete_from("suites"), help="The suite to run.")
@click.option(
    "--model", metavar="MODEL",
    help="Run on this model of transformers: a folder, FILE.gguf, package:NAME, or REPO@REVISION of a hub.",
)  # fmt: skip
@click.option(
    "--data", metavar="DATA",
    help="The model learns these data: .csv, .tsv, .jsonl, .parquet, .txt, a folder, or REPO@REVISION of a hub.",
)  # fmt: skip
@click.option("--task", metavar="NAME", help="What is learned from the data.  [default: as their columns tell]")
@click.option(
    "--column", multiple=True, metavar="WHAT=NAME",
    help="The column of the data that has the text, label, prompt, completion or messages, like text=review.",
)  # fmt: skip
@click.option("--download", is_flag=True, help="Fetch the model and the data from the hub, if they are its ids.")
@click.option(
    "--base", metavar="NAME", shell_complete=complete_from("bases"),
    help="The form of the model under what trains: float32, bfloat16, nf4…  [default: float32]",
)  # fmt: skip
@click.option(
    "--technique", multiple=True, metavar="GLOB", shell_complete=complete_from("techniques"),
    help="Run only these techniques (and the baseline).",
)  # fmt: skip
@click.option(
    "--workload", multiple=True, metavar="GLOB", shell_complete=complete_from("workloads"),
    help="Run only these workloads.",
)  # fmt: skip
@click.option("--seeds", metavar="N|LIST", help="The number of seeds, or a list: 5, or 0,1,7.")
@click.option(
    "--until", metavar="decided|SEEDS|TIME",
    help="Run further seeds of what is undecided: until all is decided, up to 20 seeds, or for 10min.",
)  # fmt: skip
@click.option(
    "--repeatability", type=int, metavar="N",
    help="Train the first N seeds once more, to see what rounding does (0: none).  [default: as the suite says]",
)  # fmt: skip
@click.option(
    "--rounds", type=int, metavar="N",
    help="Let all techniques take N turns in the time lane.  [default: as the suite says]",
)  # fmt: skip
@click.option("--param", multiple=True, metavar="K=V", help="Fix a parameter or setting, which is then not tuned.")
@click.option("--device", type=click.Choice(DEVICES), default="cpu", show_default=True)
@click.option(
    "--lane", multiple=True, type=click.Choice(LANES), help="Measure only quality, memory or time.  [default: all]"
)
@click.option("--quick", is_flag=True, help="Run the suite's short form; the results are labelled as quick.")
@click.option("--track", is_flag=True, help="Run the form that is tracked over commits: defaults, without tuning.")
@click.option(
    "--stack/--no-stack", default=True,
    help="Train a technique's seeds and trials in one process, by recorded or batched steps, where the workload can: "
    "on a CPU the same numbers in less time.  [default: stack]",
)  # fmt: skip
@click.option(
    "--jobs", type=click.IntRange(min=1), metavar="N", help="Cases run concurrently.  [default: one per core]"
)
@click.option(
    "--time-limit", type=Seconds(), default=300.0, show_default=True, metavar="S",
    help="Seconds after which a case is terminated.",
)  # fmt: skip
@click.option("--memory-limit", type=Bytes(), metavar="BYTES", help="Largest memory of a case, like 2GiB.")
@click.option(
    "--executor", default="local", show_default=True, help="The executor of the cases; inline is for a debugger."
)
@click.option("--address", default="", metavar="ADDR", help="The cluster of an executor that runs on one.")
@click.option(
    "--observe", multiple=True, metavar="TRACKER",
    help="Write each row as it ends for mlflow, tensorboard or wandb, too.",
)  # fmt: skip
@click.option(
    "--resume", is_flag=False, flag_value=LAST, metavar="[RUN]", help="Run the missing cases of a run (the last one)."
)
@click.option(
    "--retry-failed", is_flag=True,
    help="With --resume: also run again what ended in an error, a crash, a timeout or out of memory.",
)  # fmt: skip
@click.option("--fail-fast", is_flag=True, help="Stop at the first case that fails; --resume runs the others.")
@click.option("--fresh", is_flag=True, help="Compute all rows; take none from earlier runs of the store.")
@store_option
@click.option("--format", default="table", show_default=True, help="table, json, or any of tabulate's: github, latex…")
@click.option("--dry-run", is_flag=True, help="Show the planned cases without running any.")
@click.option("--quiet", is_flag=True, help="No progress display.")
@plugin_options
@click.pass_context
def run(context: click.Context, /, **options: Any) -> None:
    """Run a suite: tune every technique equally, measure, and print one table per workload."""
    context.exit(execute(current(), RunOptions(**options)))


def execute(app: App, options: RunOptions) -> int:
    """Run ``harness run`` and return the exit code."""
    from harness.results.address import address
    from harness.results.places import default_store_path
    from harness.results.store import Store

    app.refuses_named = True
    address()  # a wrong one is told before hours of work, not after
    check_format(options.format, app)
    store = Store(default_store_path(options.store))
    _observe(app.host, options.observe)
    if options.resume is not None:
        return _resume(app.host, options, store)
    if options.retry_failed:
        from harness.api import UsageError

        raise UsageError("--retry-failed goes on with a stored run: name it with --resume RUN, or the last by --resume")
    if options.suite is None:
        from harness.api import UsageError

        names = sorted(
            {full.rpartition("/")[2] for full in app.host.declared.suites}, key=lambda name: (len(name), name)
        )
        example = f"like --suite {names[0]}" if names else "but no plugin brings one"
        raise UsageError(
            f"--suite is missing: expected the name of a suite or its file, {example}; see: harness list suites"
        )
    return _begin(app.host, options, store)


def _observe(host: Host, names: tuple[str, ...]) -> None:
    """Load an observer for each of the trackers; raises UsageError for one that is unknown or not installed."""
    if names:
        from harness.observers.offered import load

        load(host, dict.fromkeys(names))


def _begin(host: Host, options: RunOptions, store: Store) -> int:
    from harness.source import source_of
    from harness.suite import read_suite

    assert options.suite is not None
    suite_name = options.suite
    reading = reading_of(options)
    source = source_of(options.model, options.data, options.task, reading, base=options.base)

    def read(form: Form) -> Suite:
        return read_suite(suite_name, host, form=form, source=source, reading=reading)

    suite = read(form_of(options))
    short = read("quick") if source and suite.form == "full" else None
    with _torch_ahead(options):
        return _run(host, options, store, suite, short)


def _torch_ahead(options: RunOptions) -> AbstractContextManager[None]:
    """Return a context in which the processes of cases import torch while this one plans them."""
    if options.dry_run or options.executor != "local" or options.device != "cpu":
        return nullcontext()
    from harness.execution.isolation.supervisors import begun

    return begun()


def _run(host: Host, options: RunOptions, store: Store, suite: Suite, short: Suite | None) -> int:
    """Plan a suite, say how much that is, and run it; ``short`` is its quick form, where an estimate tells of it."""
    from harness.execution.session import begin

    selection, resources = selection_of(options), resources_of(options)
    session = begin(host, suite, selection, resources)
    if short is not None:
        session.tell_of(short, selection)
    if not options.quiet or options.dry_run:
        _announce(session, store, resources.jobs, full=options.dry_run)
    if options.dry_run:
        return 0
    return _finish(session, options, session.start(store, selection, resources))


def _resume(host: Host, options: RunOptions, store: Store) -> int:
    from harness.api import UsageError
    from harness.execution.rows import RETRIED
    from harness.execution.session import resume

    given = [
        name
        for name in _OWN_OPTIONS
        if getattr(options, name) or (name in ("repeatability", "rounds") and getattr(options, name) is not None)
    ]
    if given:
        raise UsageError(f"--resume continues a run with its own options: leave out --{', --'.join(given)}")
    assert options.resume is not None
    with store.open_run(options.resume) as writer:
        suite = writer.info.suite
        try:
            if options.suite not in (None, suite.id, suite.source):
                wrong = f"run {writer.info.id} is of suite {suite.id!r}, not {options.suite!r}: leave --suite out"
                raise UsageError(wrong)
            session = resume(host, writer.info, resources_of(options), retry_failed=options.retry_failed)
        except BaseException:  # also where the user stops it: a run that has ended stays one that has
            writer.withdraw()
            raise
        if options.retry_failed and not options.quiet:
            failed = sum(row.reply.status in RETRIED for row in writer.rows)
            say(f"harness: {failed} of {len(writer.rows)} cases failed and are run again", err=True)
        return _finish(session, options, writer)


def _finish(session: Session, options: RunOptions, writer: RunWriter) -> int:
    """Run the missing cases, print the table, and name the command that resumes an interrupted run."""
    import scipy.special  # noqa: F401  # the table needs it, and here another process imports torch meanwhile

    from harness.analysis.view import RunView
    from harness.cli.progress import make_progress
    from harness.execution.session import INTERRUPTED
    from harness.results.commands import command
    from harness.results.store import Store
    from harness.results.team import share_quietly

    signal.signal(signal.SIGTERM, _interrupt)
    with writer, make_progress(quiet=options.quiet, verbose=bool(current().verbose)) as progress, aside():
        info = session.carry_out(writer, progress)
    store = Store(info.folder.parent.parent)
    share_quietly(store)
    stored = store.read(info.id)
    view = RunView.build(stored.info, stored.rows, session.host.metrics)
    click.echo(show_view(view, options.format, current()))
    if not view.finished:
        why = "interrupted" if info.exit_code == INTERRUPTED else _stopped(stored)
        finish = command(stored.info, f"run --resume {info.id}")
        say(f"harness: {why}; finish it with: {finish}", err=True)
    return info.exit_code or 0


def _stopped(stored: StoredRun) -> str:
    """Return at which failure a run stopped, which is its latest, and how much of it was not run."""
    from harness.cli.progress import case_label

    row = next(row for row in reversed(stored.rows) if row.failed)
    left = max(0, stored.info.planned - len(stored.rows))
    why = f"{row.reply.status}: {row.reply.reason}"
    return f"stopped at {case_label(row.case)} ({why}); {left} of {stored.info.planned} cases were not run"


def _interrupt(_number: int, _frame: object) -> None:
    """Raise KeyboardInterrupt on SIGTERM (of a batch system), so that the run ends as on Ctrl-C."""
    raise KeyboardInterrupt


def _announce(session: Session, store: Store, jobs: int, *, full: bool) -> None:
    """Print the number of cases and, if earlier runs allow, an estimate of the duration."""
    from harness.execution.estimate import estimate
    from harness.report.units import duration

    plan = session.plan
    for note in plan.notes:
        say(f"harness: {note}", err=True)
    earlier = session.earlier(store)
    seconds = estimate(plan, store, jobs, earlier)
    size = f"{session.planned_rows} cases: {len(plan.contestants)} contestants, {len(plan.seeds)} seeds"
    known = sum(earlier.known(contestant).total() for contestant in plan.contestants) if earlier else 0
    size += f", {known} rows from earlier runs" if known else ""
    about = f", about {duration(seconds)}" if seconds else ""
    say(f"{plan.suite.title} ({plan.suite.id}): {size}{about}", err=not full)
    if not full:
        return
    from tabulate import tabulate

    rows = [
        [
            contestant.technique,
            contestant.workload,
            contestant.skip.reason if contestant.skip else "; ".join(_tuned(trial) for trial in contestant.trials),
            plan.size(contestant),
        ]
        for contestant in plan.contestants
    ]
    headings = ["technique", "workload", "trials", "cases"]
    text = tabulate(rows, headers=headings, tablefmt="simple")
    over = max(map(len, text.splitlines())) - width_of_terminal()
    if over > 0:  # trials and reasons are wrapped; names are not
        room = max(max(len(str(row[2])) for row in rows) - over, _NARROWEST_TRIALS)
        text = tabulate(rows, headers=headings, tablefmt="simple", maxcolwidths=[None, None, room, None])
    say(text)


def _tuned(trial: Mapping[str, Json]) -> str:
    return named(trial) or "not tuned"
