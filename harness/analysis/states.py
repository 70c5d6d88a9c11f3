"""Tells apart the states of code, packages and machine that computed the rows of a run, which a resume may change."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from harness.api import Json, Row
from harness.api.text import as_text
from harness.results.store import latest
from harness.results.trials import trial_id

_FACTS: Final = (
    "python", "platform", "machine", "cpu", "cores", "cpu_quota", "memory_limit", "gpu", "memory", "governor",
    "transparent_hugepages", "threads", "variables", "case_threads",
)  # fmt: skip
"""The facts of an environment that make a state, besides packages and code; what plugins add may vary by the minute."""

_RESULT_PACKAGES: Final = ("torch", "numpy", "scipy", "transformers", "peft", "scikit-learn")
"""The packages whose versions are part of every key: rows of different versions are not put into one table."""

_HOST: Final = "harness"

_Place = tuple[object, ...]

SHOWN_RUNS: Final = 3
"""The most earlier runs that a line names."""


@dataclass(frozen=True, kw_only=True)
class OneIdentity:
    """The rows of a run that one version of the code and packages computed, and a line on those left out, or none."""

    rows: tuple[Row, ...]
    left_out: str = ""


@dataclass(kw_only=True)
class _Version:
    """The rows of one version of the code and packages, the code of each contestant, and the key of each case.

    ``environment`` is that of the first row.
    """

    environment: Mapping[str, Json]
    packages: tuple[Json, ...]
    rows: list[Row] = field(default_factory=list)
    codes: dict[tuple[str, str], str] = field(default_factory=dict)
    keys: dict[tuple[object, ...], str] = field(default_factory=dict)

    def fits(self, row: Row, place: _Place) -> bool:
        """Return whether nothing says that another version computed a row, whose place is told."""
        case = row.case
        return (
            (row.environment is self.environment or self.packages == _packages_of(row))
            and self.codes.get((case.technique, case.workload), case.code) == case.code
            and self.keys.get(place, case.key) == case.key
        )

    def has_code_of(self, row: Row) -> bool:
        """Return whether this version has the code that computed a row."""
        return self.codes.get((row.case.technique, row.case.workload)) == row.case.code

    def add(self, row: Row, place: _Place) -> None:
        """Add a row that fits, and its place."""
        self.rows.append(row)
        self.codes[row.case.technique, row.case.workload] = row.case.code
        self.keys[place] = row.case.key


@dataclass(frozen=True, kw_only=True)
class _Code:
    """The code of a package: commits of the same code are one state."""

    digest: str
    commit: str = field(compare=False)

    def __str__(self) -> str:
        return " ".join(filter(None, [self.commit[:9], f"({self.digest[:8]})"]))


def of_one_identity(rows: Iterable[Row]) -> OneIdentity:
    """Return the latest row of each case, of the version of code and packages with most rows; of two, the later one.

    A run that was resumed by an earlier version of the harness after its code had changed may hold several versions.
    ``rows`` are in the order in which they were written.
    """
    versions: list[_Version] = []
    current: _Version | None = None
    for row in latest(rows):
        place = _place(row)
        if current is None or not current.fits(row, place):
            known = (version for version in versions if version.has_code_of(row) and version.fits(row, place))
            current = next(known, None)
            if current is None:
                current = _Version(environment=row.environment, packages=_packages_of(row))
                versions.append(current)
        current.add(row, place)
    if len(versions) < 2:
        return OneIdentity(rows=tuple(versions[0].rows) if versions else ())
    _, kept = max(enumerate(versions), key=lambda numbered: (len(numbered[1].rows), numbered[0]))
    total = sum(len(version.rows) for version in versions)
    states = _states_of([version.rows[-1].environment for version in versions])
    changed = "; ".join(_differences(states)) or "the code or settings of its cases"
    return OneIdentity(
        rows=tuple(kept.rows),
        left_out=f"{total - len(kept.rows)} of {total} rows are left out, as other code or packages computed them than "
        f"the {len(kept.rows)} rows shown: {changed}",
    )


def remarks_on(rows: Iterable[Row]) -> tuple[str, ...]:
    """Return the lines on the rows of a run: which of those that are shown other runs computed, and in which states.

    Another line tells which rows are left out.
    """
    return remarks_of(of_one_identity(rows))


def remarks_of(chosen: OneIdentity) -> tuple[str, ...]:
    """Return the lines of `remarks_on` where the rows that are shown have been chosen."""
    return tuple(filter(None, [told_reused(chosen.rows), told_states(chosen.rows), chosen.left_out]))


def told_reused(rows: Sequence[Row]) -> str:
    """Return a line on the rows that earlier runs computed, or an empty text where there is none."""
    counts = Counter(row.reused_from for row in rows if row.reused_from)
    if not counts:
        return ""
    named = ", ".join(f"{count} of run {run}" for run, count in counts.most_common(SHOWN_RUNS))
    more = f", others of {len(counts) - SHOWN_RUNS} more" if len(counts) > SHOWN_RUNS else ""
    return (
        f"{counts.total()} of {len(rows)} rows are not computed again but those of earlier runs with the same code, "
        f"packages, machine and settings: {named}{more}; --fresh computes all"
    )


def told_states(rows: Iterable[Row]) -> str:
    """Return a line on the states that computed the rows, or an empty text where no fact differs between the rows."""
    states: list[tuple[Mapping[str, object], list[Row]]] = []
    found = _by_environment(rows)
    for state, (_, own) in zip(_states_of([environment for environment, _ in found]), found, strict=True):
        same = next((members for other, members in states if other == state), None)
        if same is None:
            states.append((state, own))
        else:
            same += own
    if len(states) < 2:
        return ""
    counts = " and ".join(str(len(own)) for _, own in states)
    differences = "; ".join(_differences([state for state, _ in states]))
    return f"computed in {len(states)} states ({counts} rows): {differences}"


def _by_environment(rows: Iterable[Row]) -> list[tuple[Mapping[str, Json], list[Row]]]:
    """Return the different environments of rows, each with its rows; most often there is one."""
    found: list[tuple[Mapping[str, Json], list[Row]]] = []
    for row in rows:
        own = next((members for known, members in reversed(found) if _is_same(known, row.environment)), None)
        if own is None:
            found.append((row.environment, [row]))
        else:
            own.append(row)
    return found


def _is_same(one: Mapping[str, Json], other: Mapping[str, Json]) -> bool:
    """Return whether two environments are equal; rows of a run share theirs, which is quickly told."""
    return one is other or one == other


def _packages_of(row: Row) -> tuple[Json, ...]:
    """Return the facts that all rows of a version share: Python, the packages of every key, the code of the host."""
    environment = row.environment
    packages, code = (_mapping(environment.get(name)) for name in ("packages", "code"))
    host = _mapping(code.get(_HOST)).get("digest")
    return (environment.get("python"), *(packages.get(name) for name in _RESULT_PACKAGES), host)


def _place(row: Row) -> _Place:
    """Return the place of a case in its run: two keys for one place are of two versions."""
    case = row.case
    tuned = trial_id(case.tuned)
    return (case.technique, case.workload, case.seed, case.lane, case.stage, case.device, tuned, case.perturbed)


def _states_of(environments: Sequence[Mapping[str, Json]]) -> list[dict[str, object]]:
    """Return the facts of each state by name, in the order in which they are told.

    What some environments do not list is no difference: a plugin that came in between computed no row of theirs.
    """
    states = [_state_of(environment) for environment in environments]
    return [{name: fact for name, fact in state.items() if all(name in other for other in states)} for state in states]


def _state_of(environment: Mapping[str, Json]) -> dict[str, object]:
    """Return the facts of an environment by name."""
    packages = dict(_mapping(environment.get("packages")))
    for versions in _mapping(environment.get("requirements")).values():
        packages.update(_mapping(versions))
    code = {f"the code of {name}": _code(_mapping(state)) for name, state in _mapping(environment.get("code")).items()}
    return {**{name: environment.get(name) for name in _FACTS}, **packages, **code}


def _differences(states: Sequence[Mapping[str, object]]) -> list[str]:
    """Return a text for each fact that differs between states, with its values."""
    told = []
    for name in dict.fromkeys(name for state in states for name in state):
        values = [state[name] for state in states]
        unlike = [value for at, value in enumerate(values) if value not in values[:at]]
        if len(shown := dict.fromkeys(map(_shown, unlike))) > 1:
            told.append(f"{name} {' and '.join(shown)}")
    return told


def _shown(value: Any) -> str:
    """Return a short text for a fact."""
    if isinstance(value, _Code):
        return str(value)
    if isinstance(value, Mapping):
        model = value.get("model") or ", ".join(f"{name}={as_text(item)}" for name, item in value.items())
        return as_text(model or "none")
    if isinstance(value, list | tuple):
        return "; ".join(map(_shown, value)) or "none"
    return "none" if value in (None, "") else as_text(value)


def _code(state: Mapping[str, Any]) -> _Code:
    """Return the state of a package's code: its digest, and its commit where that is known."""
    return _Code(digest=str(state.get("digest")), commit=str(state.get("commit") or ""))


def _mapping(value: object) -> Mapping[str, Any]:
    """Return a mapping as it is, and an empty one for any other value."""
    return value if isinstance(value, Mapping) else {}
