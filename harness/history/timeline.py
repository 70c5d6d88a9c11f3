"""Orders the runs of a history: by the commits of the repository, and by time where code was no commit."""

from __future__ import annotations

import bisect
import datetime as dt
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Final

from harness.measure import git

_HASH: Final = re.compile("[0-9a-f]{40}|[0-9a-f]{64}")


@dataclass(frozen=True)
class Timeline:
    """The commits of a repository up to the ones that were measured, in the order of their history.

    ``places`` numbers the commits from the first one; ``times`` are in seconds since 1970, and never fall.
    """

    places: Mapping[str, int] = field(default_factory=dict)
    times: Mapping[str, float] = field(default_factory=dict)

    @classmethod
    def of(cls, folder: Path, commits: Iterable[str]) -> Timeline:
        """Return the timeline of a folder's repository; an empty one outside of a repository.

        What is no commit of it is left out. ``commits`` are full hashes; another name would mean other commits to git.
        """
        asked = sorted({commit for commit in commits if _HASH.fullmatch(commit)})
        if not asked:
            return cls()
        options = ("--topo-order", "--reverse", "--timestamp", "--ignore-missing", "--end-of-options")
        listed = git.ask(folder, "rev-list", *options, *asked, "--")
        places: dict[str, int] = {}
        times: dict[str, float] = {}
        latest = -math.inf
        for line in (listed or "").splitlines():
            seconds, _, commit = line.partition(" ")
            latest = max(latest, float(seconds))
            places[commit] = len(places)
            times[commit] = latest
        return cls(places=places, times=times)

    @cached_property
    def _sorted(self) -> list[str]:
        return sorted(self.places)

    def find(self, beginning: str) -> str | None:
        """Return the full hash of the only commit whose hash begins so; None where there is none or several."""
        start = bisect.bisect_left(self._sorted, beginning)
        matches = [commit for commit in self._sorted[start : start + 2] if commit.startswith(beginning)]
        return matches[0] if len(matches) == 1 else None

    def moment(self, commit: str, started: str) -> tuple[float, float]:
        """Return what points are sorted by: the time of their commit and its place, else the start of the run."""
        if commit in self.places:
            return self.times[commit], self.places[commit]
        return dt.datetime.fromisoformat(started).timestamp(), math.inf

    def is_between(self, commit: str, before: str, after: str) -> bool:
        """Return whether a commit comes after ``before``, if that is a commit, and not after ``after``."""
        if commit not in self.places or after not in self.places:
            return False
        return self.places.get(before, -1) < self.places[commit] <= self.places[after]


def subjects(folder: Path, commits: Iterable[str]) -> dict[str, str]:
    """Return the first line of the message of each commit that a folder's repository has."""
    asked = sorted(set(commits))
    if not asked:
        return {}
    options = ("--no-walk=unsorted", "--no-show-signature", "--ignore-missing", "--format=%H%x00%s", "--end-of-options")
    lines = (git.ask(folder, "log", *options, *asked, "--") or "").splitlines()
    return {commit: subject for commit, _, subject in (line.partition("\0") for line in lines)}


def tags(folder: Path, commit: str) -> dict[str, str]:
    """Return the tags of a folder's repository that a commit has in its past, by their commits; it may have one itself.

    Of several tags of one commit the highest by its version counts.
    """
    fields = "%(objectname) %(*objectname) %(refname:strip=2)"
    options = ("--sort=version:refname", f"--merged={commit}", f"--format={fields}")
    found = {}
    for line in (git.ask(folder, "for-each-ref", *options, "refs/tags") or "").splitlines():
        tagged, pointed, name = line.split(" ", 2)  # an annotated tag is an object that points at its commit
        found[pointed or tagged] = name
    return found
