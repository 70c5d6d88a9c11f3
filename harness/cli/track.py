"""``harness track``: follow every technique over the project's commits with asv."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from harness.api import resolve
from harness.cli.app import current
from harness.cli.output import say

if TYPE_CHECKING:
    from collections.abc import Sequence

    from harness.tracking.asv import Regression

_COMMANDS = {
    "run": "harness.cli.track:run",
    "publish": "harness.cli.publish:publish",
}

_SETS = ("NEW", "ALL", "EXISTING", "TAGS")
"""The sets of commits that asv defines."""


class _Track(click.Group):
    """The group of tracking commands; the first command is the default."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's names
        """Return the commands in the order of use."""
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        """Import and return a command; None where there is none of this name."""
        if cmd_name not in _COMMANDS:
            return None
        command: click.Command = resolve(_COMMANDS[cmd_name])
        return command

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse the arguments, with ``run`` as the default command."""
        if not args or args[0] not in (*_COMMANDS, *ctx.help_option_names):
            args = [next(iter(_COMMANDS)), *args]
        return super().parse_args(ctx, args)


@click.group(cls=_Track, context_settings={"help_option_names": ["-h", "--help"]})
def track() -> None:
    """Follow every technique of the tracked suites over the project's commits.

    harness track [RANGE] is short for harness track run [RANGE].
    """


@track.command(context_settings={"ignore_unknown_options": False})
@click.option("--bench", multiple=True, metavar="REGEX", help="Measure only series whose name matches REGEX.")
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED, metavar="[RANGE] [-- ASV_OPTIONS]...")
@click.pass_context
def run(context: click.Context, /, bench: tuple[str, ...], arguments: tuple[str, ...]) -> None:
    """Measure the commits of RANGE, then list the regressions with their commits.

    RANGE is a commit, a tag, a range as git takes it (v0.1.0..HEAD), or NEW, ALL, EXISTING or TAGS.
    The default is the last commit. Measured commits are not measured again. Options after -- are passed
    to asv run.
    """
    from harness.history.decisions import find, read
    from harness.tracking.asv import (
        ensure_machine,
        find_project,
        require_arguments,
        require_asv,
        require_environments,
        require_history,
        run_asv,
    )

    require_asv()
    project = find_project(Path.cwd())
    require_history(project)
    require_environments(project)
    read(find(project))  # mistakes there are told before hours are spent
    given = bool(arguments) and not arguments[0].startswith("-")
    commits = asv_range(project, arguments[0]) if given else "HEAD"
    rest = arguments[1:] if given else arguments
    selected = [part for regex in bench for part in ("--bench", regex)]
    asked = ["run", commits, "--show-stderr", "--skip-existing-successful", *selected, *rest]
    require_arguments(asked)
    ensure_machine(project)
    _warn_of_unmeasured(project, commits)
    code = run_asv(project, asked)
    if code not in (0, MEASURED_BUT_FAILED):
        context.exit(2)
    _tell(project)
    context.exit(1 if code else 0)


MEASURED_BUT_FAILED = 2
"""asv's exit code where some series of a commit has no value."""


def asv_range(project: Path, text: str) -> str:
    """Return the range for asv, which would take a single name for all commits up to the named commit.

    Raises UsageError for a range that git does not know.
    """
    if text in _SETS or text.startswith("HASHFILE:"):
        return text
    from harness.api import UsageError
    from harness.measure import git

    single = ".." not in text and " " not in text
    commits = f"{text.removesuffix('^!')}^!" if single else text
    found = git.call(project, "rev-list", "--max-count=1", *commits.split(), "--")
    if found.returncode:
        cause = f": {git.SHALLOW}" if git.is_shallow(project) else "; expected something like v0.1.0..HEAD"
        raise UsageError(f"RANGE {text!r} names no commits of {project}{cause}")
    if not found.stdout.strip():
        raise UsageError(f"RANGE {text!r} is empty; expected something like v0.1.0..HEAD")
    return commits


def _warn_of_unmeasured(project: Path, commits: str) -> None:
    """Tell the user of changes that are not committed, and of a history that is cut off, as none of it is measured."""
    from harness.measure import git

    if git.ask(project, "status", "--porcelain", "--untracked-files=no"):
        say("harness: uncommitted changes are not measured", err=True)
    if commits in _SETS and git.is_shallow(project):
        say(f"harness: older commits are not measured, for {git.SHALLOW}", err=True)


def _tell(project: Path) -> None:
    """List the regressions of all results so far, those that the project accepted apart."""
    from harness.tracking.accepted import drop_accepted
    from harness.tracking.asv import read_regressions, site_of

    with site_of(project) as site:
        accepted = drop_accepted(project, site, current().host.metrics)
        _summarise(project, read_regressions(site))
    for regression, entry in accepted:
        say(f"accepted: {_line(regression)}\n      at {_subject(project, regression.commit)}: {entry.note}")


def _line(regression: Regression) -> str:
    """Return a regression in a line: its series, and the values before and after."""
    before, after = (_value(value, regression.unit) for value in (regression.before, regression.after))
    percent = f" ({100 * (regression.after / regression.before - 1):+.0f} %)" if regression.before else ""
    return f"{regression.series}, {regression.key}: {before} -> {after}{percent}"


def _summarise(project: Path, regressions: Sequence[Regression]) -> None:
    if not regressions:
        say("\nno regressions")
    else:
        say(f"\n{len(regressions)} regression{'s' if len(regressions) > 1 else ''}:")
        for regression in regressions:
            say(f"  {_line(regression)}")
            say(f"      at {_subject(project, regression.commit)}{' or before' if regression.since else ''}")
    timed = next((regression.commit[:9] for regression in regressions if regression.unit == "seconds"), None)
    if timed:
        say("The two times were measured at different hours, perhaps under load; to measure them in turns:")
        say(f"  harness compare {timed}^ {timed}")
    say("Slow drifts are not listed here; harness history and harness compare --gate find them")


def _value(value: float, unit: str) -> str:
    from harness.report import units

    match unit:
        case "seconds":
            return units.duration(value)
        case "bytes":
            return units.size(value)
        case "%":
            return f"{value:.1f} %"
    return f"{units.count(value)} {unit}"


def _subject(project: Path, commit: str) -> str:
    from harness.measure import git

    options = ("--no-patch", "--no-show-signature", "--format=%h %s")
    return git.demand(project, "show", *options, "--end-of-options", commit).strip()
