"""``harness accept``: writes down that a change for the worse was meant."""

from __future__ import annotations

import datetime as dt
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from harness.cli.app import complete_from, plugin_options, store_option
from harness.cli.output import say

if TYPE_CHECKING:
    from harness.history.judging import Judged
    from harness.history.series import Wanted


def _finite(_: click.Context, __: click.Parameter, value: float | None) -> float | None:
    """Return a number as it is; raise BadParameter for infinity and for no number, which a range lets pass."""
    if value is not None and not math.isfinite(value):
        raise click.BadParameter(f"{value} is no size; leave the option out for that of the history")
    return value


@click.command()
@click.argument("commit")
@click.option("--metric", required=True, metavar="GLOB", help="The metric, such as train_ratio.")
@click.option(
    "--suite", default="*", metavar="GLOB", shell_complete=complete_from("suites"), help="Only in these suites."
)
@click.option(
    "--technique", default="*", metavar="GLOB", shell_complete=complete_from("techniques"),
    help="Only of these techniques.",
)  # fmt: skip
@click.option(
    "--workload", default="*", metavar="GLOB", shell_complete=complete_from("workloads"),
    help="Only on these workloads.",
)  # fmt: skip
@click.option("--reason", required=True, metavar="TEXT", help="Why the change is accepted.")
@click.option("--author", metavar="NAME", help="Who accepts it.  [default: user.name of git]")
@click.option("--until", metavar="DAY", help="The last day on which this counts, such as 2027-06-30.")
@click.option(
    "--limit", type=click.FloatRange(min=0, min_open=True), callback=_finite, metavar="SIZE",
    help="The largest change that is accepted: 0.12 for 12 %, or in the unit of a quality.  "
    "[default: that of the history]",
)  # fmt: skip
@store_option
@plugin_options
def accept(commit: str, reason: str, store: Path | None, **options: Any) -> None:
    """Accept what COMMIT made worse in a metric: write an entry to harness-history.toml of the repository.

    harness history, harness track and harness compare --gate then show the change as accepted, and judge what comes
    after it.
    """
    from harness.history.accepting import accept as write
    from harness.history.decisions import Accepted

    options |= {name: _said(f"--{name}", options[name]) for name in ("metric", "suite", "technique", "workload")}
    folder = _repository()
    known = _are_known(store, options)
    full = _commit(folder, commit)
    shown = _sizes(store, options, full)
    entry = Accepted(
        metric=options["metric"],
        commit=full,
        reason=_said("--reason", reason),
        author=_said("--author", options["author"] or _user(folder)),
        suite=options["suite"],
        technique=options["technique"],
        workload=options["workload"],
        until=_day(options["until"]),
        limit=options["limit"] or _limit(shown),
    )
    file = write(folder, entry)
    up_to = "of any size" if entry.limit is None else f"up to {entry.limit:.4g}"
    say(f"{file}: accepted {entry.metric} at {entry.commit[:9]}, {up_to}; commit the file with the change")
    if known and not shown:
        names = [f"{name} {options[name]}" for name in ("suite", "technique", "workload") if options[name] != "*"]
        what = ", ".join([f"metric {entry.metric}", *names])
        say(f"harness: no history here has this change ({what}); check names and commit: harness history", err=True)


def _repository() -> Path:
    """Return the top of the repository around this folder; raise UsageError outside of one."""
    from harness.api import UsageError
    from harness.measure import git

    top = git.ask(Path.cwd(), "rev-parse", "--show-toplevel")
    if not top or not top.strip():
        why = git.refusal(Path.cwd()) or "this folder is in no git repository with a working tree"
        raise UsageError(f"there is nowhere to write the entry: {why}", "go to a checkout of the project")
    return Path(top.removesuffix("\n"))


def _commit(folder: Path, name: str) -> str:
    """Return the full hash of a commit; raise UsageError for a name that git does not know."""
    from harness.api import UsageError
    from harness.history.following import full_hash

    commit = full_hash(folder, name)
    if not commit:
        raise UsageError(f"{name!r} is no commit, tag or branch of {folder}", "see the commits: git log --oneline")
    return commit


def _are_known(store: Path | None, options: dict[str, Any]) -> bool:
    """Raise UsageError for a slip, as an entry of a name that nothing has would never count; tell other unknown names.

    Return whether all are known.
    """
    from harness.api import UsageError
    from harness.cli.history import known_names, origin_of
    from harness.history.asked import misnamed
    from harness.host import warn

    wrong = misnamed(_wanted(options), known_names(origin_of(store)))
    if slips := [name for name in wrong if name.is_slip]:
        raise UsageError(*(f"--{name.kind}: {name.text}" for name in slips))
    for name in wrong:
        warn(f"--{name.kind}: {name.text}; the entry counts once there is one")
    return not wrong


def _wanted(options: dict[str, Any]) -> Wanted:
    from harness.history.series import Wanted

    return Wanted(**{name: options[name] for name in ("metric", "suite", "technique", "workload")})


def _said(option: str, text: str) -> str:
    """Return a text in one line; raise UsageError for one that says nothing, or that is not in the terminal's code."""
    from harness.api import UsageError

    if not text.strip():
        raise UsageError(f"{option} is empty; expected a text")
    if any("\ud800" <= letter <= "\udfff" for letter in text):  # a byte that Python could not decode
        raise UsageError(f"{option} {text!r} has bytes that are no text; expected UTF-8")
    return " ".join(text.split())


def _user(folder: Path) -> str:
    from harness.measure import git

    return git.ask(folder, "config", "user.name") or ""


def _day(text: str | None) -> dt.date | None:
    """Return a day, of which today is the first; raise UsageError for another text and for a day that is over."""
    from harness.api import UsageError

    if text is None:
        return None
    try:
        day = dt.date.fromisoformat(text)
    except ValueError as error:
        raise UsageError(f"--until {text!r}: expected a day such as 2027-06-30") from error
    if day < dt.datetime.now(dt.UTC).date():
        raise UsageError(f"--until {text}: this day is over, so the entry would never count")
    return day


def _limit(sizes: list[float]) -> float | None:
    """Return the largest size of some changes; None without one, and where it is infinite: of what was 0 before."""
    largest = max(sizes, default=math.inf)
    return largest if math.isfinite(largest) else None


def _sizes(store: Path | None, options: dict[str, Any], commit: str) -> list[float]:
    """Return the sizes of the changes that an entry for a commit, named in full, is for, as the history shows them."""
    from harness.cli.history import origin_of
    from harness.history.following import follow

    found = follow(origin_of(store), _wanted(options))

    def is_there(judged: Judged, earliest: int, latest: int) -> bool:
        points = judged.series.points
        return found.timeline.is_between(commit, points[earliest - 1].commit, points[latest].commit)

    return [
        abs(mark.change.value)
        for judged in found.judged
        for mark in judged.marks
        if mark.verdict == "worse" and is_there(judged, mark.earliest, mark.latest)
    ]
