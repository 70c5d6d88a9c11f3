"""Rules that the parts of a suite keep together: nothing twice, metrics that are emitted, no choice on test data."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

from harness.api import Metric, UsageError, WorkloadSpec, nearest
from harness.api.text import quoted
from harness.api.values import is_finite
from harness.suite_comparison import comparison_problems
from harness.until import MOST_SEEDS

MOST_OF_A_SUITE: Final = 100_000
LARGEST_SEED: Final = 2**63 - 1  # of those that torch takes

WORDS: Final[Mapping[Any, str]] = {
    str: "a string",
    int: "a whole number",
    float: "a number",
    list: "a list",
    dict: "a table",
    (int, list): "a whole number or a list of whole numbers",
}
"""How an error calls each type of value of a suite file."""


def fits(value: object, kind: Any) -> bool:
    """Return whether a value of a suite file has a type; a boolean is no number, and a number is finite."""
    if isinstance(value, bool):
        return kind is bool
    return is_finite(value) if kind is float else isinstance(value, kind)


class Problems:
    """A collector of the errors in one suite file."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lines: list[str] = []

    def add(self, key: str, text: str) -> None:
        """Add what is wrong with a key, once."""
        line = f"{self._path}: {key}: {text}"
        if line not in self._lines:
            self._lines.append(line)

    def keys(self, table: Mapping[str, object], known: Iterable[str], prefix: str = "") -> None:
        """Add the keys of a table that are not known, each with the nearest one that is."""
        for key in table:
            if key not in known:
                self.add(f"{prefix}{key}", f"unknown key{nearest(key, known) or '; known: ' + ', '.join(known)}")

    def add_new(self, others: Problems, prefix: str) -> None:
        """Add the problems of the same file that are not among these yet, each behind a prefix."""
        for line in others._lines:
            if line not in self._lines:
                key_and_text = line.removeprefix(f"{self._path}: ")
                name = f"{prefix.rstrip(': ')}."
                self._lines.append(f"{self._path}: {'' if key_and_text.startswith(name) else prefix}{key_and_text}")

    def raise_if_any(self) -> None:
        """Raise UsageError with a line for each problem, where there is any."""
        if self._lines:
            raise UsageError(*self._lines)

    def __bool__(self) -> bool:
        return bool(self._lines)


def problems(
    data: Mapping[str, Any], workloads: Mapping[str, WorkloadSpec], select: str, metrics: Mapping[str, Metric]
) -> Iterator[tuple[str, str]]:
    """Yield the key and the text of each problem of a suite whose values have the right types.

    ``workloads`` are the suite's own by name (none where not all of them are known), ``metrics`` those that plugins
    declare; ``select`` is the metric that tuning chooses by.
    """
    for key in ("workloads", "metrics", "techniques", "costs"):
        yield from ((key, f"{name!r} is listed twice") for name in _repeated(data.get(key, [])))
    if not data["title"].strip():
        yield "title", f"{data['title']!r}: expected a line to show above the table"
    if all(name.startswith("!") for name in data["techniques"]):
        yield (
            "techniques",
            f"only leaves out ({', '.join(data['techniques'])}): expected a name or a glob of who takes part",
        )
    claims = [claim.get("id") for claim in data.get("claims", []) if isinstance(claim, dict)]
    yield from (("claims", f"two claims have the id {name!r}") for name in _repeated(claims))
    yield from _looks(data)
    yield from _repeated_trainings(data, workloads)
    yield from comparison_problems(data, workloads, metrics)
    yield from _not_emitted(data, workloads, select, metrics)
    chosen = metrics.get(select)
    if data.get("tuning") and chosen is not None and not chosen.selects:
        named = ", ".join(sorted(name for name, metric in metrics.items() if metric.selects))
        yield "select", f"{select} is not computed on validation data, so nothing may be tuned by it; expected {named}"


def _looks(data: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield the problems of a suite's ``[sequential]`` table."""
    if "sequential" not in data:
        return
    table: Mapping[str, Any] = data["sequential"]
    yield from ((f"sequential.{key}", "unknown key; known: looks") for key in table if key != "looks")
    looks, seeds = table.get("looks"), data["seeds"]
    first = seeds if isinstance(seeds, int) else len(seeds)
    if not isinstance(looks, list) or not _rise(looks):
        expected = f"expected two or more rising numbers of seeds, at most {MOST_SEEDS}, like [5, 10, 15, 20]"
        yield "sequential.looks", f"{quoted(looks)}: {expected}"
    elif looks[0] != first:
        yield "sequential.looks", f"the first look is at {looks[0]} seeds; expected {first}, as seeds says"


def _repeated_trainings(data: Mapping[str, Any], workloads: Mapping[str, WorkloadSpec]) -> Iterator[tuple[str, str]]:
    """Yield what is wrong with the number of seeds on which trainings are repeated."""
    value = data.get("repeatability", 0)
    seeds = len(seeds_of(data["seeds"]))
    if not 0 <= value <= seeds:
        yield "repeatability", f"{value}: expected a number of seeds from 0 to {seeds}, which are all of the suite"
    elif value and workloads and not any(spec.perturbs for spec in workloads.values()):
        named = ", ".join(workloads)
        yield "repeatability", f"{named} cannot be trained from perturbed weights, so nothing is repeated; leave it out"


def looks_in(data: Mapping[str, Any]) -> tuple[int, ...]:
    """Return the looks of a suite; none where it has no table for them, or one that is refused."""
    looks = data.get("sequential", {}).get("looks")
    return tuple(looks) if isinstance(looks, list) and _rise(looks) else ()


def _rise(looks: Sequence[Any]) -> bool:
    """Return whether these are two or more whole numbers in rising order, as looks have to be."""
    whole = all(isinstance(look, int) and not isinstance(look, bool) for look in looks)
    return whole and len(looks) > 1 and all(a < b for a, b in pairwise(looks)) and looks[-1] <= MOST_SEEDS


def _repeated(names: Sequence[Any]) -> list[Any]:
    return [name for number, name in enumerate(names) if name in names[:number]]


def _not_emitted(
    data: Mapping[str, Any], workloads: Mapping[str, WorkloadSpec], select: str, metrics: Mapping[str, Metric]
) -> Iterator[tuple[str, str]]:
    """Yield each metric of quality that no workload emits, or not every one where rows are sorted or chosen by it.

    Nothing is yielded where no workload is known.
    """
    if not workloads:
        return
    quality, *others = data["metrics"]
    named = [("metrics", name) for name in others]
    named += [("margins", name) for name in data.get("margins", {})]
    for claim in data.get("claims", []):
        test = claim.get("test") if isinstance(claim, dict) else None
        if isinstance(test, dict) and "sooner" not in test:  # a series is no metric that a workload emits
            keys = ("metric", "correlates_with", "opposed_to")
            named += [("claims", test[key]) for key in keys if isinstance(test.get(key), str)]
    emitted = {name for spec in workloads.values() for name in spec.metrics}
    for key, name in named:
        if name in metrics and metrics[name].lane == "accuracy" and name not in emitted:
            yield key, f"no workload of the suite emits {name!r}{nearest(name, emitted)}"
    for key, name in (("metrics", quality), ("select", select)):
        for workload, spec in workloads.items():
            if name in metrics and name not in spec.metrics:
                yield key, f"{workload} emits no {name!r}; it emits {', '.join(spec.metrics)}"


def seeds_of(value: object) -> tuple[int, ...]:
    """Return the seeds of a count (3 means 0, 1 and 2) or a list; raise ValueError with what was expected."""
    if isinstance(value, int) and not isinstance(value, bool):
        if not 1 <= value <= MOST_OF_A_SUITE:
            raise ValueError(f"expected a count of seeds from 1 to {MOST_OF_A_SUITE:,}, or a list of seeds")
        return tuple(range(value))
    seeds = tuple(value) if isinstance(value, list | tuple | range) else ()
    if not seeds or not all(
        isinstance(seed, int) and not isinstance(seed, bool) and 0 <= seed <= LARGEST_SEED for seed in seeds
    ):
        expected = "expected a count of at least 1, or a list of whole numbers from 0 to 2^63 - 1"
        raise ValueError(f"{quoted(value)}: {expected}")
    if len(set(seeds)) != len(seeds):
        raise ValueError(f"{quoted(value)}: a seed is listed twice")
    return seeds
