"""Reads ``harness-history.toml``: the changes that a project accepted, and the names that it changed."""

from __future__ import annotations

import datetime as dt
import math
import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Final

from harness.api import UsageError, nearest
from harness.api.text import quoted

FILE: Final = "harness-history.toml"
"""The name of the file, which lies at the top of the repository."""

KINDS: Final = ("suite", "technique", "workload")
"""What may be renamed, and what narrows an accepted change."""

_COMMIT: Final = re.compile("[0-9a-f]{7,40}")
_TEXTS: Final = ("metric", "commit", "reason", "author")
_ACCEPTED: Final = (*KINDS, *_TEXTS, "until", "limit")
_RENAMED: Final = (*KINDS, "was")


@dataclass(frozen=True, kw_only=True)
class Accepted:
    """A change that somebody accepted, as an entry of the file has it.

    ``suite``, ``technique``, ``workload`` and ``metric`` are globs. ``commit`` is the beginning of the hash of the
    commit that made the change. The entry counts up to and including the day ``until``. ``limit`` is the largest change
    that is accepted, relative to the value before, or in the metric's unit for a quality; None accepts any.
    """

    metric: str
    commit: str
    reason: str
    author: str
    suite: str = "*"
    technique: str = "*"
    workload: str = "*"
    until: dt.date | None = None
    limit: float | None = None

    def is_for(self, names: Mapping[str, str]) -> bool:
        """Return whether the entry is for the series with this suite, technique, workload and metric."""
        return all(
            fits(getattr(self, kind), names[kind]) for kind in (*KINDS, "metric")
        )  # fmt: skip

    def is_of(self, commit: str) -> bool:
        """Return whether the entry names this commit, given by its full hash."""
        return commit.startswith(self.commit)

    def counts_on(self, day: dt.date) -> bool:
        """Return whether the entry still counts on a day."""
        return self.until is None or day <= self.until

    @property
    def note(self) -> str:
        """The reason and who gave it, in one line."""
        until = f", until {self.until.isoformat()}" if self.until else ""
        return f"{self.reason} ({self.author}{until})"


@dataclass(frozen=True, kw_only=True)
class Decisions:
    """The content of the file: the accepted changes, and the present name of each former one, by kind."""

    accepted: tuple[Accepted, ...] = ()
    renamed: Mapping[str, Mapping[str, str]] = field(default_factory=dict)

    def present(self, kind: str, name: str) -> str:
        """Return the present name of a suite, technique or workload, whose former name may be given."""
        names = self.renamed.get(kind, {})
        while name in names:
            name = names[name]
        return name


def find(place: Path) -> Path | None:
    """Return the file in a folder or in the nearest one above it; the search ends at the top of a repository."""
    for folder in (place, *place.parents):
        if (folder / FILE).exists():  # a folder of this name is told when it is read
            return folder / FILE
        if (folder / ".git").exists():
            return None
    return None


def read(file: Path | None) -> Decisions:
    """Return the content of a file, none where there is no file. Raises UsageError with all mistakes at once."""
    if file is None:
        return Decisions()
    try:
        text = file.read_bytes().decode("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else f"not UTF-8 ({error.reason})"
        raise UsageError(f"{file} cannot be read: {why}", "repair the file, or remove it") from error
    return parse(text, str(file))


def parse(text: str, where: str) -> Decisions:
    """Return the content of a text in the form of the file; ``where`` names it. Raises UsageError as `read` does."""
    try:
        tables = tomllib.loads(text.removeprefix("\ufeff"))  # a mark that editors on Windows begin with
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise UsageError(f"{where}: not valid TOML: {error}", "repair the line that it names") from error
    problems: list[str] = []
    for key in tables.keys() - {"accepted", "renamed"}:
        hint = nearest(key, ["accepted", "renamed"])
        problems.append(f"unknown table {key!r}{hint}; expected [[accepted]] or [[renamed]]")
    accepted = [
        entry for number, table in _tables(tables, "accepted", problems)
        if (entry := _accepted(table, f"[[accepted]] {number}", problems)) is not None
    ]  # fmt: skip
    renamed: dict[str, dict[str, str]] = {}
    for number, table in _tables(tables, "renamed", problems):
        _add_renamed(table, f"[[renamed]] {number}", renamed, problems)
    problems += _circles(renamed)
    if problems:
        raise UsageError(*(f"{where}: {problem}" for problem in problems))
    return Decisions(accepted=tuple(accepted), renamed=renamed)


# ------------------------------------------------------------------------------------------------ entries


def _tables(tables: Mapping[str, Any], name: str, problems: list[str]) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """Yield the number and content of each table of a name, and tell what is no table."""
    entries = tables.get(name, [])
    if not isinstance(entries, list):
        problems.append(f"{name} is {quoted(entries)}; expected tables [[{name}]]")
        return
    for number, entry in enumerate(entries, start=1):
        if isinstance(entry, dict):
            yield number, entry
        else:
            problems.append(f"[[{name}]] {number} is {quoted(entry)}; expected a table")


def _accepted(table: Mapping[str, Any], where: str, problems: list[str]) -> Accepted | None:
    """Return an accepted change, or None where something in the table is wrong, which is added to the problems."""
    before = len(problems)
    problems += _unknown(table, _ACCEPTED, where)
    for key in (*KINDS, *_TEXTS):
        if key not in table and key in KINDS:
            continue
        value = table.get(key)
        if not isinstance(value, str) or not value.strip():
            problems.append(f"{where}: {key} {_is(table, key)}; expected {_EXPECTED[key]}")
        elif key == "commit" and not _COMMIT.fullmatch(value):
            problems.append(f"{where}: commit is {value!r}; expected {_EXPECTED[key]}")
    until, limit = table.get("until"), table.get("limit")
    day = until if until is None else _day(until)
    if until is not None and day is None:
        problems.append(f"{where}: until is {quoted(until)}; expected a day such as 2027-06-30")
    if limit is not None and not _is_limit(limit):
        problems.append(f"{where}: limit is {quoted(limit)}; expected a number above 0, such as 0.12 for 12 %")
    if len(problems) > before:
        return None
    texts = {key: " ".join(str(table[key]).split()) for key in (*KINDS, *_TEXTS) if key in table}
    return Accepted(**texts, until=day, limit=limit)


_EXPECTED: Final = {
    **{kind: f"the name of a {kind} or a glob" for kind in KINDS},
    "metric": "the name of a metric or a glob",
    "commit": "7 to 40 hexadecimal digits of a commit",
    "reason": "why the change is accepted",
    "author": "who accepted it",
}


def _add_renamed(table: Mapping[str, Any], where: str, renamed: dict[str, dict[str, str]], problems: list[str]) -> None:
    """Add a renamed name to those of its kind, or what is wrong with it to the problems."""
    before = len(problems)
    problems += _unknown(table, _RENAMED, where)
    kinds = [kind for kind in KINDS if kind in table]
    if len(kinds) != 1:
        problems.append(
            f"{where}: it has {' and '.join(kinds) or 'none'} of suite, technique and workload; expected one"
        )
    for key in (*kinds, "was"):
        value = table.get(key)
        if not isinstance(value, str) or not value.strip():
            problems.append(f"{where}: {key} {_is(table, key)}; expected {'the former' if key == 'was' else 'a'} name")
    if len(problems) > before:
        return
    names = renamed.setdefault(kinds[0], {})
    was, now = str(table["was"]), str(table[kinds[0]])
    if names.get(was, now) != now:
        problems.append(f"{where}: {kinds[0]} {was!r} became both {names[was]!r} and {now!r}; expected one name")
    names.setdefault(was, now)


def _circles(renamed: Mapping[str, Mapping[str, str]]) -> Iterator[str]:
    """Yield a problem for each kind whose new names lead back to an old one."""
    for kind, names in renamed.items():
        for first in names:
            name, steps = first, 0
            while name in names and steps <= len(names):
                name, steps = names[name], steps + 1
            if steps > len(names):
                yield f"[[renamed]]: {kind} {first!r} leads back to itself; remove the entry that does not hold"
                break


def _unknown(table: Mapping[str, Any], known: Sequence[str], where: str) -> Iterator[str]:
    """Yield a problem for each key that an entry may not have."""
    for key in table:
        if key not in known:
            yield f"{where}: unknown key {key!r}{nearest(key, list(known))}; expected {', '.join(known)}"


def _is(table: Mapping[str, Any], key: str) -> str:
    """Return how a key of a table is wrong."""
    return f"is {quoted(table[key])}" if key in table else "is missing"


def _day(value: object) -> dt.date | None:
    """Return a day of TOML or of a text; None where it is none."""
    if isinstance(value, dt.date) and not isinstance(value, dt.datetime):
        return value
    try:
        return dt.date.fromisoformat(value) if isinstance(value, str) else None
    except ValueError:
        return None


def _is_limit(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < math.inf


def fits(pattern: str, name: str) -> bool:
    """Return whether a glob fits a full name, or its last part where the pattern has no '/'."""
    return fnmatchcase(name, pattern) or ("/" not in pattern and fnmatchcase(name.rpartition("/")[2], pattern))
