"""Keeps what the gate found of the times of two commits, so that a history may rest on it: a file for each pair."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from harness.api import UsageError
from harness.results.writer import replace_file

COMPARISONS: Final = "comparisons"
"""The folder of the files in a store."""

ALL: Final = "*"

_SCHEMA: Final = 1


@dataclass(frozen=True, kw_only=True)
class TimeFound:
    """The verdict on the time of a phase; the metric is the ratio that a history has of it, or `ALL` for all phases."""

    suite: str
    workload: str
    technique: str
    metric: str
    verdict: str


@dataclass(frozen=True, kw_only=True)
class Compared:
    """Two commits, by their full hashes, and what was found of their times."""

    base: str
    head: str
    times: tuple[TimeFound, ...]


def keep(store: Path, compared: Compared) -> None:
    """Write a comparison into a store, which is made as needed, in place of an earlier one of these commits.

    Raises UsageError where the store cannot be written.
    """
    folder = store / COMPARISONS
    content = {"schema": _SCHEMA, **asdict(compared)}
    try:
        is_new = not store.exists()
        folder.mkdir(parents=True, exist_ok=True)
        if is_new:
            (store / ".gitignore").write_text("*\n", encoding="utf-8")
        name = f"{compared.base[:12]}-{compared.head[:12]}.json"
        replace_file(folder, name, (json.dumps(content, indent=1) + "\n").encode("ascii"))
    except OSError as error:
        raise UsageError(
            f"cannot write to {store}: {error.strerror}", "choose a store that you may write to: --store PATH"
        ) from error


def comparisons(store: Path) -> Iterator[Compared]:
    """Yield the comparisons of a store; a file that is damaged, or of a later form, is left out."""
    for file in sorted((store / COMPARISONS).glob("*.json")):
        try:
            content = json.loads(file.read_text(encoding="utf-8"))
            if content["schema"] == _SCHEMA:
                yield Compared(base=content["base"], head=content["head"], times=tuple(_times(content["times"])))
        except (OSError, ValueError, TypeError, KeyError, RecursionError):
            continue


def _times(entries: Iterable[dict[str, Any]]) -> Iterator[TimeFound]:
    for entry in entries:
        yield TimeFound(**{name: str(entry[name]) for name in TimeFound.__dataclass_fields__})
