"""Starts asv on a checkout, and reads the regressions it found."""

from __future__ import annotations

import ast
import importlib.util
import io
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from harness.api import DISTRIBUTION, UsageError
from harness.measure import git
from harness.tracking.ended import RESULTS, drop_ended
from harness.tracking.machines import adopt, record_here, recorded_here

CONFIGURATION: Final = "asv.conf.json"

PAGE: Final = "asv.html"
"""The page of asv's site, which asv itself calls index.html: that is the site's own first page."""

_INDEX: Final = "index.html"

_UV: Final[Mapping[str, str]] = {
    "index-url": "UV_INDEX_URL",
    "extra-index-url": "UV_EXTRA_INDEX_URL",
    "find-links": "UV_FIND_LINKS",
    "cert": "SSL_CERT_FILE",
}
"""The environment variable of uv for each setting of pip, since uv does not read pip's settings."""


@dataclass(frozen=True, kw_only=True)
class Regression:
    """A series that got worse at a commit and is still worse: the values before and after, in the series' unit.

    ``since`` is the last commit measured before ``commit`` where commits between the two were not measured; it is empty
    where ``commit`` alone is responsible. ``suite`` and ``technique`` are empty where the series is of no suite's short
    form; ``metric`` is the name that asv's series has.
    """

    series: str
    key: str
    unit: str
    commit: str
    since: str
    before: float
    after: float
    suite: str = ""
    technique: str = ""
    metric: str = ""


def find_project(place: Path) -> Path:
    """Return the nearest folder, ``place`` or above, with a configuration of asv.

    Raises UsageError where there is none.
    """
    for folder in (place, *place.parents):
        if (folder / CONFIGURATION).is_file():
            return folder
    raise UsageError(
        f"{place}: expected an {CONFIGURATION} in this folder or one above it",
        "run the command in a checkout of the project",
    )


def require_history(project: Path) -> None:
    """Raise UsageError, in git's words where it refuses, unless a folder is in a repository that has commits."""
    why = git.why_no_commit(project)
    if not why and git.ask(project, "rev-parse", "--git-dir") is None:
        why = "it is in no git repository"
    if why:
        raise UsageError(f"there is no history of {project}: {why}")


def require_asv() -> None:
    """Raise UsageError with the command that installs asv and uv, unless both are installed.

    asv creates its environments with uv.
    """
    missing = [name for name in ("asv", "uv") if importlib.util.find_spec(name) is None]
    if missing:
        raise UsageError(f"tracking needs {' and '.join(missing)}: pip install '{DISTRIBUTION}[track]'")


def require_arguments(arguments: Sequence[str]) -> None:
    """Raise UsageError where asv would refuse the arguments of ``asv run``, or fail on one of its patterns.

    asv's exit code for a wrong option is that for a series without a value.
    """
    from asv import commands

    said = io.StringIO()
    try:
        with redirect_stderr(said), redirect_stdout(io.StringIO()):
            patterns = commands.make_argparser()[0].parse_args(arguments).bench or []
    except SystemExit as error:
        if not error.code:  # asv's own help
            return
        last = (said.getvalue().strip().splitlines() or ["it refuses them"])[-1].partition("error: ")
        raise UsageError(f"options for asv: {last[2] or last[0]}", "see: asv run --help") from error
    for pattern in patterns:
        try:
            re.compile(pattern)
        except re.error as error:
            raise UsageError(f"--bench {pattern!r} is no regular expression: {error}") from error


def require_environments(project: Path) -> None:
    """Raise UsageError where a configuration cannot be read, or does not say how asv installs a commit."""
    from asv.util import UserError, load_json

    path = project / CONFIGURATION
    try:
        found = load_json(str(path), js_comments=True)
    except (UserError, OSError, ValueError) as error:
        raise UsageError(f"{path}: cannot be read: {str(error).partition(chr(10))[0]}") from error
    if "environment_type" not in found:
        raise UsageError(
            f"{path}: has no environment_type, by which asv would install each commit",
            "to add the checked out commit: harness run --suite NAME --track, then harness export asv --output "
            "RESULTS, then harness track publish",
        )


def run_asv(project: Path, arguments: Sequence[str], *, quiet: bool = False) -> int:
    """Run asv in a checkout and return asv's exit code; ``quiet`` keeps asv's output from the terminal.

    With ``quiet``, raises UsageError with the last line of asv's output where asv fails.
    """
    done = subprocess.run(
        [sys.executable, "-m", "asv", *arguments],
        cwd=project,
        env=with_settings(asv_environment(), local_submodules(project)),
        stdout=subprocess.PIPE if quiet else None,
        stderr=subprocess.STDOUT if quiet else None,
        text=True,
        check=False,
    )
    if quiet and done.returncode:
        last = (done.stdout.strip().splitlines() or ["it printed nothing"])[-1]
        raise UsageError(f"asv {arguments[0]} failed: {last}")
    return done.returncode


def asv_environment() -> dict[str, str]:
    """Return the environment variables for asv: uv on the path, and the package sources that pip is configured with."""
    scripts = str(Path(sys.executable).parent)
    path = os.pathsep.join([scripts, os.environ.get("PATH", os.defpath)])
    return {**uv_settings(_pip_settings()), **git.environment(), "PATH": path}


def local_submodules(project: Path) -> dict[str, str]:
    """Return the settings of git with which a project's submodules come from this machine, as far as it has them."""
    listing = ("--null", "--name-only", "--file", ".gitmodules", "--get-regexp", r"\.path$")
    settings = {}
    for key in filter(None, (git.ask(project, "config", *listing) or "").split("\0")):
        name = key.removeprefix("submodule.").removesuffix(".path")
        place = git.ask(project, "rev-parse", "--git-path", f"modules/{name}")
        folder = (project / place.rstrip("\n")).resolve() if place else None
        if folder is not None and folder.is_dir():
            settings[f"submodule.{name}.url"] = str(folder)
    return {**settings, "protocol.file.allow": "always"} if settings else {}


def with_settings(environment: Mapping[str, str], settings: Mapping[str, str]) -> dict[str, str]:
    """Return environment variables that give git further settings, beside those that the variables give already."""
    if not settings:
        return dict(environment)
    first = int(environment.get("GIT_CONFIG_COUNT") or 0)
    added: dict[str, str] = {}
    for number, (key, value) in enumerate(settings.items(), first):
        added |= {f"GIT_CONFIG_KEY_{number}": key, f"GIT_CONFIG_VALUE_{number}": value}
    return {**environment, **added, "GIT_CONFIG_COUNT": str(first + len(settings))}


def uv_settings(pip_settings: str) -> dict[str, str]:
    """Return the environment variables of uv that equal the settings printed by ``pip config list``.

    Settings from pip's environment variables take precedence over those of a command, and these over global ones.
    """
    values: dict[str, str] = {}
    ranks: dict[str, int] = {}
    for line in pip_settings.splitlines():
        name, _, quoted = line.partition("=")
        section, _, key = name.rpartition(".")
        if key not in _UV or section not in (":env:", "install", "global"):
            continue
        rank = (":env:", "install", "global").index(section)
        if rank <= ranks.get(key, rank):
            ranks[key], values[key] = rank, " ".join(ast.literal_eval(quoted).split())
    variables = {_UV[key]: value for key, value in values.items()}
    if "UV_FIND_LINKS" in variables:
        variables["UV_FIND_LINKS"] = variables["UV_FIND_LINKS"].replace(" ", ",")
    # pip takes the best version from all indexes, but uv by default the first index that has the package
    return {**variables, "UV_INDEX_STRATEGY": "unsafe-best-match"} if variables else {}


def _pip_settings() -> str:
    """Return the output of ``pip config list``."""
    done = subprocess.run([sys.executable, "-m", "pip", "config", "list"], capture_output=True, text=True, check=False)
    return done.stdout


def ensure_machine(project: Path) -> None:
    """Let asv record this machine, unless it has: under the name in the project's results, or else its own."""
    if recorded_here() is None and not adopt(project / RESULTS):
        record_here()


@contextmanager
def site_of(project: Path) -> Iterator[Path]:
    """Make asv's site of all results so far in a folder that lasts as long as the context; takes seconds.

    Series that ended are not among its regressions.
    """
    with tempfile.TemporaryDirectory() as folder:
        make_site(project, Path(folder))
        yield Path(folder)


def make_site(project: Path, folder: Path) -> list[str]:
    """Let asv write its site to a folder, with asv's page as `PAGE`.

    Return the series that ended, which are not among the regressions there.
    """
    run_asv(project, ["publish", "--no-pull", "--html-dir", str(folder)], quiet=True)
    (folder / _INDEX).replace(folder / PAGE)
    feed = folder / "regressions.xml"
    if feed.is_file():
        text = feed.read_text(encoding="utf-8")
        feed.write_text(text.replace(f"{_INDEX}#", f"{PAGE}#"), encoding="utf-8")
    return drop_ended(project, folder)


def read_regressions(html: Path) -> list[Regression]:
    """Return the regressions of a published site, worst first."""
    index = json.loads((html / "index.json").read_text(encoding="utf-8"))
    entries = json.loads((html / "regressions.json").read_text(encoding="utf-8"))["regressions"]
    regressions = [regression for entry in entries for regression in regressions_of(entry, index)]
    return sorted(regressions, key=_ratio, reverse=True)


def regressions_of(entry: Sequence[Any], index: Mapping[str, Any]) -> list[Regression]:
    """Return the regressions in an entry of asv's regressions.json, with names and commits from its index.json."""
    name, key = str(entry[0]), ""
    if "(" in name:
        name, _, key = name.removesuffix(")").partition("(")
    benchmark = index["benchmarks"][name]
    commits = index["revision_to_hash"]
    suite, found, rest = str(benchmark.get("pretty_name") or "").partition(" · ")
    technique = rest.rpartition(": ")[0] if found else ""
    return [
        Regression(
            series=benchmark.get("pretty_name") or name,
            key=key.strip("'\""),
            unit=benchmark.get("unit", ""),
            commit=commits[str(after)],
            since="" if before is None else commits[str(before)],
            before=float(old),
            after=float(new),
            suite=suite if technique else "",
            technique=technique,
            metric=name.rpartition(".track_")[2],
        )
        for before, after, old, new in entry[6]
    ]


def _ratio(regression: Regression) -> float:
    """Return the value after a regression relative to the value before; infinite where that was not positive."""
    return regression.after / regression.before if regression.before > 0 else float("inf")
