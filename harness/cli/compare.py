"""``harness compare``: what two commits or two stored runs make better or worse, and a gate on it."""

from __future__ import annotations

import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from harness.cli.app import complete_from, current, plugin_options, store_option

if TYPE_CHECKING:
    from harness.report.changes import ChangeReport
    from harness.results.store import Store, StoredRun
    from harness.revisions.commits import Installed, Repository, Revision

ROUNDS = 16
NO_RELEASE = "none"


@dataclass(frozen=True, kw_only=True)
class CompareOptions:
    """The options of ``harness compare``, as parsed."""

    base: str
    head: str
    suite: tuple[str, ...]
    technique: tuple[str, ...]
    release: str | None
    rounds: int | None
    gate: bool
    format: str
    store: Path | None


@click.command()
@click.argument("base")
@click.argument("head", default=".")
@click.option(
    "--suite", multiple=True, metavar="NAME|FILE", shell_complete=complete_from("suites"),
    help="Compare only these suites.  [default: all with a [track] table]",
)  # fmt: skip
@click.option(
    "--technique", multiple=True, metavar="GLOB", shell_complete=complete_from("techniques"),
    help="Compare only these techniques (and the baseline).",
)  # fmt: skip
@click.option(
    "--release", metavar="TAG", help="Compare with this release too, or none.  [default: the last v* tag before HEAD]"
)
@click.option(
    "--rounds", type=click.IntRange(min=3), metavar="N",
    help=f"Rounds in which times are taken; a quarter or half of them where that decides.  [default: {ROUNDS}]",
)  # fmt: skip
@click.option("--gate", is_flag=True, help="Leave with 1 if anything is worse, with 2 if it cannot be told.")
@click.option("--format", type=click.Choice(["table", "markdown", "json"]), default="table", show_default=True)
@store_option
@plugin_options
@click.pass_context
def compare(context: click.Context, /, **options: Any) -> None:
    """Compare BASE with HEAD: two commits, tags or branches, or two stored runs.

    HEAD is the working tree where it is left out. Commits are installed side by side; their times are taken in turns,
    which stored runs cannot offer. With a release to compare with, a creep that no single commit shows is found too.
    """
    context.exit(execute(CompareOptions(**options)))


def execute(options: CompareOptions) -> int:
    """Do what ``harness compare`` does and return its exit code."""
    from harness.report.changes import render_changes
    from harness.results.store import Store, default_store_path

    store = Store(default_store_path(options.store))
    runs = _runs(options, store)
    report = _of_runs(options, *runs) if runs else _of_revisions(options)
    click.echo(render_changes(report, options.format, color=sys.stdout.isatty()))
    if not options.gate:
        return 0
    return {"worse": 1, "refused": 2}.get(report.outcome, 0)


def _runs(options: CompareOptions, store: Store) -> tuple[StoredRun, StoredRun] | None:
    """The two stored runs that are meant, None where the names are those of commits."""
    from harness.api import UsageError

    ids = []
    for name in (options.base, options.head):
        try:
            ids.append(store.resolve(name))
        except UsageError:
            continue
    if len(ids) < 2:
        return None
    repository = _repository()
    if repository and all(repository.find(name) for name in (options.base, options.head)):
        raise UsageError(
            f"{options.base} and {options.head} are stored runs and commits alike; write more of what you mean",
            f"the runs are {ids[0]} and {ids[1]}",
        )
    return store.read(ids[0]), store.read(ids[1])


def _repository() -> Repository | None:
    from harness.revisions.commits import Repository

    return Repository.around(Path.cwd())


# --------------------------------------------------------------------------------------------- stored runs


def _of_runs(options: CompareOptions, base: StoredRun, head: StoredRun) -> ChangeReport:
    from harness.analysis.changes import Pairing, find_changes
    from harness.analysis.unlike import code_of, unlike
    from harness.api import UsageError
    from harness.report.changes import ChangeReport
    from harness.revisions.measure import narrowed

    given = [name for name in ("suite", "release", "rounds") if getattr(options, name)]
    if given:
        raise UsageError(f"--{given[0]} is for commits: a stored run has its suite and its times already")
    lines = unlike(base, head)
    if options.technique:
        base, head = (narrowed(run, options.technique) for run in (base, head))
    pairings = [] if lines else [Pairing(reference=base, head=head)]
    codes = [code_of(run.info) for run in (base, head)]
    notes = [
        f"code under test: {name} {codes[0][name]} and {codes[1][name]}"
        for name in codes[0]
        if name in codes[1] and codes[0][name] != codes[1][name]
    ]
    return ChangeReport(
        base=f"run {base.info.id}",
        head=f"run {head.info.id}",
        release="",
        changes=find_changes(pairings, current().host.metrics),
        refused=lines,
        notes=notes,
    )


# ------------------------------------------------------------------------------------------------- commits


def _of_revisions(options: CompareOptions) -> ChangeReport:
    from harness.analysis.changes import Changes, fails, find_changes
    from harness.report.changes import ChangeReport
    from harness.results.store import default_cache_path
    from harness.revisions.measure import Wanted, measure
    from harness.revisions.rounds import BASE, HEAD, RELEASE

    repository, base, head = _found(options)
    revisions = {BASE: base, HEAD: head}
    release = _release(options, repository, head)
    if release is not None and release.commit != base.commit:
        revisions[RELEASE] = release
    sides, why = _installed(repository, revisions)
    if HEAD in why:
        changes = Changes(changes=(fails("harness", why[HEAD]),), listed=())
        return ChangeReport(base=base.label, head=head.label, release="", changes=changes)
    notes = [f"not compared with the release {revisions[name].label}: {cause}" for name, cause in why.items()]
    suites = tuple(_suite(name, repository) for name in options.suite)
    wanted = Wanted(suites=suites, techniques=options.technique, rounds=options.rounds or ROUNDS)
    measured = measure(sides, wanted, default_cache_path(), _say)
    found = find_changes(measured.pairings, measured.metrics)
    return ChangeReport(
        base=base.label,
        head=head.label,
        release=revisions[RELEASE].label if RELEASE in sides else "",
        changes=replace(found, changes=(*measured.failures, *found.changes)),
        refused=measured.refused,
        notes=[*notes, *measured.notes],
    )


def _installed(repository: Repository, revisions: dict[str, Revision]) -> tuple[dict[str, Installed], dict[str, str]]:
    """The environments of those that can be compared; why the release can't, or that the head's harness is broken.

    Raises UsageError for a base that can't be compared, and for a head that is too old.
    """
    from harness.api import UsageError
    from harness.results.store import default_cache_path
    from harness.revisions.commits import install
    from harness.revisions.measure import start_failure, too_old
    from harness.revisions.rounds import BASE, RELEASE

    sides: dict[str, Installed] = {}
    why: dict[str, str] = {}
    for name, revision in revisions.items():
        _say(f"installing {revision.label}")
        installed = install(repository, revision, default_cache_path())
        broken = start_failure(installed)
        old = "" if broken else too_old(installed)
        if (broken and name == BASE) or (old and name != RELEASE):
            raise UsageError(f"{revision.label}: {broken or old}", "choose another commit")
        if broken or old:
            why[name] = broken or old
        else:
            sides[name] = installed
    return sides, why


def _found(options: CompareOptions) -> tuple[Repository, Revision, Revision]:
    """The repository and its two revisions; raises UsageError for a name that is neither run nor revision."""
    from harness.api import UsageError

    repository = _repository()
    if repository is None:
        raise UsageError(
            f"{options.base} and {options.head} are not both stored runs, and this folder is in no git repository",
            "see the runs: harness runs; or go to a checkout to compare commits",
        )
    found = []
    problems = []
    for name in (options.base, options.head):
        revision = repository.find(name)
        if revision is None:
            problems.append(f"{name!r} is no commit, tag or branch of {repository.folder}, nor are both stored runs")
        else:
            found.append(revision)
    if problems:
        raise UsageError(*problems, "see the runs: harness runs; see the commits: git log --oneline")
    return repository, found[0], found[1]


def _suite(name: str, repository: Repository) -> str:
    """A suite's name, or where its file is in every commit: relative to the project."""
    if not name.endswith(".toml"):
        return name
    path = Path(name).resolve()
    if not path.is_relative_to(repository.folder.resolve()):
        from harness.api import UsageError

        raise UsageError(f"--suite {name!r}: commits can't have it, as it is not in {repository.folder}")
    return path.relative_to(repository.folder.resolve()).as_posix()


def _release(options: CompareOptions, repository: Repository, head: Revision) -> Revision | None:
    if options.release == NO_RELEASE:
        return None
    if options.release is None:
        return repository.release(head)
    found = repository.find(options.release)
    if found is None:
        from harness.api import UsageError

        raise UsageError(f"--release {options.release!r}: no such tag or commit; or say --release {NO_RELEASE}")
    return found


def _say(line: str) -> None:
    click.echo(f"harness: {line}", err=True)
