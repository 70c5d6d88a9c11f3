"""``harness claims``: every claim of every suite, with the verdict of the stored run that tests it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from harness.cli.app import App, complete_from, current, json_option, plugin_options, print_json, store_option
from harness.cli.output import say, width_of_terminal

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from harness.analysis.claim_runs import ClaimEntry
    from harness.api import Suite
    from harness.host import Host
    from harness.results.store import Store

INTERRUPTED = 130


@click.command()
@click.option(
    "--suite", multiple=True, metavar="NAME|FILE", shell_complete=complete_from("suites"),
    help="Only the claims of these suites.  [default: all]",
)  # fmt: skip
@click.option("--paper", metavar="ARXIV", help="Only the claims of this source, like 2406.08447.")
@click.option("--run", "runs", is_flag=True, help="Run the suites of claims that no stored run tests.")
@click.option(
    "-o", "--output", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE.html",
    help="Write a page of the claims by paper, which loads nothing.",
)  # fmt: skip
@store_option
@json_option
@plugin_options
@click.pass_context
def claims(
    context: click.Context,
    suite: tuple[str, ...],
    paper: str | None,
    runs: bool,
    output: Path | None,
    store: Path | None,
    as_json: bool,
) -> None:
    """List the claims of papers with their verdicts, by paper.

    Each claim is tested on the latest full run of its suite that can test it, else on the latest run of a short form,
    and has the interval, the scale it was tested at, how many more seeds or rounds would decide, and the run.
    """
    from harness.cli.history import unread
    from harness.report.claims import claims_json, claims_page, show_claims
    from harness.report.folder import write_alone
    from harness.results.places import default_store_path
    from harness.results.store import Store

    app, place = current(), Store(default_store_path(store))
    chosen = ", ".join(suite) or "any suite"
    suites = _suites(app.host, suite)
    entries = _of_paper(_entries(suites, place, app.host), paper, chosen)
    code = 0
    if runs and (names := dict.fromkeys(entry.suite for entry in entries if not (entry.results or entry.ran))):
        code = _run(context, app, names, place)
        entries = _of_paper(_entries(suites, place, app.host), paper, chosen)
    if output is not None:
        write_alone(claims_page(entries), output)
        say(str(output), err=as_json)
    for remark in unread(store):
        say(f"harness: {remark}", err=True)
    if as_json:
        print_json(claims_json(entries))
    elif output is None:
        say(show_claims(entries, min(80, width_of_terminal())) if entries else "no suite has a claim")
    context.exit(code)


def _suites(host: Host, names: tuple[str, ...]) -> dict[str, Suite]:
    """Return the suites by name: those that are named, or all; of all, one that is broken costs a line."""
    from harness.api import UsageError
    from harness.suite import read_suite

    if names:
        full = [name if name.endswith(".toml") else host.resolve("suites", name) for name in names]
        return {name: read_suite(name, host) for name in full}
    found = {}
    for name in sorted(host.declared.suites):
        try:
            found[name] = read_suite(name, host)
        except UsageError as error:
            say(f"harness: suite {name} cannot be read: {error.problems[0]}", err=True)
    return found


def _entries(suites: Mapping[str, Suite], store: Store, host: Host) -> list[ClaimEntry]:
    from harness.analysis.claim_runs import entries_of

    return entries_of(suites, store, host.metrics)


def _of_paper(entries: list[ClaimEntry], paper: str | None, chosen: str) -> list[ClaimEntry]:
    """Return the entries of a source, which is named in full or without ``arXiv:``; all where none is named.

    ``chosen`` are the suites that were asked for, in words.
    """
    from harness.api import UsageError, nearest

    if paper is None:
        return entries
    wanted = paper.lower().removeprefix("arxiv:").strip()
    sources = {entry.claim.source.lower().removeprefix("arxiv:"): entry.claim.source for entry in entries}
    if wanted not in sources:
        hint = nearest(wanted, sources) or f"; sources are {', '.join(sorted(sources.values())) or 'none'}"
        raise UsageError(f"--paper {paper!r}: no claim of {chosen} has this source{hint}")
    return [entry for entry in entries if entry.claim.source == sources[wanted]]


def _run(context: click.Context, app: App, names: Iterable[str], store: Store) -> int:
    """Run suites as ``harness run`` does, tables on standard error; return 1 where a case failed, 130 on Ctrl-C."""
    from harness.cli.chosen import RunOptions
    from harness.cli.run import execute
    from harness.cli.run import run as command
    from harness.streams import aside

    code = 0
    for name in names:
        say(f"harness: running {name}", err=True)
        given = command.make_context("run", ["--suite", name, "--store", str(store.path)], parent=context)
        with aside():
            code = max(code, execute(app, RunOptions(**given.params)))
        if code == INTERRUPTED:
            break
    return code
