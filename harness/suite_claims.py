"""Reads the claims of a suite: which of the forms of a test each one has, and what its keys say."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatch
from typing import Any, Final, Literal

from harness.api import Claim, ClaimDirection, ClaimKind, nearest
from harness.api.text import quoted
from harness.suite_rules import WORDS, Problems, fits

CLAIM: Final[Mapping[str, type]] = {"id": str, "source": str, "says": str, "test": dict}
"""The keys of a claim."""

Named = Literal["techniques", "workloads"]

_ON_EACH: Final[Mapping[str, type]] = {"workload": str, "margin": float}


@dataclass(frozen=True, kw_only=True)
class ClaimForm:
    """A form of a claim's test: its keys, beside the metric, with their types, and the kind of claim that it makes."""

    kind: ClaimKind
    keys: Mapping[str, type]
    extras: Mapping[str, type] = field(default_factory=dict)
    direction: ClaimDirection = "more"


FORMS: Final = (
    ClaimForm(kind="better", keys={"better": str, "than": str}, extras=_ON_EACH),
    ClaimForm(kind="same", keys={"same": str, "as": str}, extras=_ON_EACH),
    ClaimForm(
        kind="gain", keys={"gain_of": str, "over": str, "more_on": str, "than_on": str}, extras={"margin": float}
    ),
    ClaimForm(
        kind="interaction",
        keys={"gain_of": str, "over": str, "than_gain_of": str, "than_over": str},
        extras=_ON_EACH,
    ),
    ClaimForm(
        kind="ratio", keys={"ratio_of": str, "to": str, "at_least": float}, extras={"workload": str}
    ),
    ClaimForm(
        kind="ratio",
        keys={"ratio_of": str, "to": str, "at_most": float},
        extras={"workload": str},
        direction="less",
    ),
    ClaimForm(kind="steps", keys={"sooner": str, "than": str, "target": float}, extras={"phase": str, **_ON_EACH}),
    ClaimForm(kind="trend", keys={"rises_with": str, "of": str}, extras={"over": str, **_ON_EACH}),
    ClaimForm(kind="trend", keys={"falls_with": str, "of": str}, extras={"over": str, **_ON_EACH}, direction="less"),
    ClaimForm(kind="best", keys={"best": str, "larger_for": str, "than": str}, extras={"workload": str}),
    ClaimForm(
        kind="best", keys={"best": str, "smaller_for": str, "than": str}, extras={"workload": str}, direction="less"
    ),
    ClaimForm(
        kind="correlation",
        keys={"correlates_with": str},
        extras={"at_least": float, "among": list, "workload": str},
    ),
    ClaimForm(
        kind="correlation",
        keys={"opposed_to": str},
        extras={"at_least": float, "among": list, "workload": str},
        direction="less",
    ),
)  # fmt: skip
"""All forms; of several that fit a test equally well, the first one is meant."""

_FIRST: Final = ("better", "same", "gain_of", "ratio_of", "sooner", "of", "larger_for", "smaller_for")
_SECOND: Final = ("than", "as", "over", "to")
_OTHERS: Final = ("than_gain_of", "than_over")
_PARAMETER: Final = ("rises_with", "falls_with", "best")
_SECOND_METRIC: Final = ("correlates_with", "opposed_to")
_BOUND: Final = ("at_least", "at_most", "target")


@dataclass(frozen=True, kw_only=True)
class Known:
    """What a suite offers to its claims, and how a name of a claim is resolved.

    ``name`` returns the full id of a technique or workload, and ``metric`` checks one; both note a problem under the
    key that is given. ``parameters`` are those of the contract's techniques, ``settings`` those of the workloads, and
    ``phases`` the workloads' phases; all are empty where the workloads are not known. ``techniques`` and ``workloads``
    are the names that the full suite lists, and ``tuned`` what it tunes; a short form may leave out what a claim needs.
    """

    name: Callable[[Named, str, str], str]
    metric: Callable[[str, str], None]
    parameters: frozenset[str] = frozenset()
    settings: frozenset[str] = frozenset()
    phases: frozenset[str] = frozenset()
    techniques: tuple[str, ...] = ()
    workloads: tuple[str, ...] = ()
    tuned: frozenset[str] = frozenset()


def claims_in(tables: list[Any], known: Known, problems: Problems) -> tuple[Claim, ...]:
    """Return the claims of a suite; each mistake is added to the problems, and its claim left out."""
    claims = (_claim(table, f"claims[{number}]", known, problems) for number, table in enumerate(tables))
    return tuple(claim for claim in claims if claim is not None)


def form_of(test: Mapping[str, object]) -> ClaimForm:
    """Return the form that a test is nearest to: most keys, then the most similar ones, then the fewest missing."""
    every = {key for form in FORMS for key in form.keys}
    others = [key for key in test if key not in every and key != "metric"]

    def likeness(form: ClaimForm) -> tuple[int, int, int]:
        present = sum(key in test for key in form.keys)
        similar = sum(bool(difflib.get_close_matches(key, form.keys, n=1)) for key in others)
        return present, similar, present - len(form.keys) if present else 0

    return max(FORMS, key=likeness)


def _claim(table: object, where: str, known: Known, problems: Problems) -> Claim | None:
    if not shaped(table, CLAIM, where, problems):
        return None
    assert isinstance(table, dict)
    test, where = table["test"], f"{where}.test"
    form = form_of(test)
    if not shaped(test, {"metric": str, **form.keys}, where, problems, form.extras):
        return None
    known.metric(test["metric"], f"{where}.metric")

    def value(keys: tuple[str, ...], default: Any = "") -> Any:
        return next((test[key] for key in keys if key in test), default)

    def name(kind: Named, keys: tuple[str, ...]) -> str:
        key = next((key for key in keys if key in test), None)
        return known.name(kind, f"{where}.{key}", test[key]) if key else ""

    if other := value(_SECOND_METRIC):
        known.metric(other, f"{where}.{next(key for key in _SECOND_METRIC if key in test)}")
    claim = Claim(
        id=table["id"],
        source=table["source"],
        says=table["says"],
        metric=test["metric"],
        kind=form.kind,
        better=name("techniques", _FIRST),
        than=name("techniques", _SECOND),
        workload=name("workloads", ("workload", "more_on")),
        less_on=name("workloads", ("than_on",)),
        margin=test.get("margin"),
        direction=form.direction,
        bound=value(_BOUND, None),
        parameter=value(_PARAMETER),
        other_metric=other,
        others=tuple(test.get("among", ())) or tuple(filter(None, (name("techniques", (key,)) for key in _OTHERS))),
        phase=test.get("phase", ""),
    )
    for key, text in (*_ranges(test, claim), *_unvaried(test, claim, known), *_unknown_phase(claim, known)):
        problems.add(f"{where}.{key}", text)
    return claim


def _ranges(test: Mapping[str, Any], claim: Claim) -> Iterator[tuple[str, str]]:
    """Yield what is wrong with the size of a number, or with a list."""
    key = next((key for key in _BOUND if key in test), "")
    if claim.kind == "ratio" and claim.bound is not None and claim.bound <= 0:
        yield key, f"{claim.bound:g}: expected a ratio above 0"
    if claim.kind == "correlation" and claim.bound is not None and not 0 <= claim.bound < 1:
        yield key, f"{claim.bound:g}: expected the size of a correlation, from 0 to below 1"
    if claim.margin is not None and claim.margin < 0:
        yield "margin", f"{claim.margin:g}: expected 0 or more"
    if "among" in test and not (test["among"] and all(isinstance(glob, str) for glob in test["among"])):
        yield "among", f"{quoted(test['among'])}: expected a list of names or globs of techniques"


def _unvaried(test: Mapping[str, Any], claim: Claim, known: Known) -> Iterator[tuple[str, str]]:
    """Yield why nothing of the suite differs in the parameter that a claim is about; nothing where that is unknown."""
    if not claim.parameter or not known.settings | known.parameters:
        return
    key = next(key for key in _PARAMETER if key in test)
    every = known.parameters | known.settings
    if claim.parameter not in every:
        hint = nearest(claim.parameter, every) or f"; known: {', '.join(sorted(every))}"
        yield key, f"{claim.parameter!r} is no parameter of a technique and no setting of a workload{hint}"
        return
    if not known.techniques:
        return
    technique = claim.better.partition(":")[0]
    own = [name for name in known.techniques if name.partition(":")[0] == technique or fnmatch(technique, name)]
    varied = max(len(_values(claim.parameter, names)) for names in (own, known.workloads))
    if varied < 2 and claim.parameter not in known.tuned:
        yield (
            key,
            f"no two values of {claim.parameter!r} are compared: tune it, or list techniques or workloads with two of "
            f"its values, like {technique}:{claim.parameter}=...",
        )


def _values(parameter: str, names: Iterable[str]) -> set[str]:
    """Return the texts of the values of a parameter that names pin; an empty text stands for the default."""
    found = (re.search(rf"[:,]{re.escape(parameter)}=([^,]+)", name) for name in names)
    return {match[1] if match else "" for match in found}


def _unknown_phase(claim: Claim, known: Known) -> Iterator[tuple[str, str]]:
    """Yield that a phase is none of the suite's workloads."""
    if claim.phase and known.phases and claim.phase not in known.phases:
        hint = nearest(claim.phase, known.phases) or f"; phases are {', '.join(sorted(known.phases))}"
        yield "phase", f"no workload has the phase {claim.phase!r}{hint}"


def shaped(
    table: object,
    kinds: Mapping[str, type],
    where: str,
    problems: Problems,
    extras: Mapping[str, type] | None = None,
) -> bool:
    """Return whether a value is a table with all of ``kinds``; add each unknown, missing or wrong key to the problems.

    ``extras`` are keys that may be missing.
    """
    if not isinstance(table, dict):
        problems.add(where, f"{table!r}: expected a table with {', '.join(kinds)}")
        return False
    optional = extras or {}
    problems.keys(table, [*kinds, *optional], f"{where}.")
    right = True
    for key, kind in {**kinds, **{key: kind for key, kind in optional.items() if key in table}}.items():
        if not fits(table.get(key), kind):
            actual = f"{table[key]!r}: " if key in table else "missing; "
            problems.add(f"{where}.{key}", f"{actual}expected {WORDS[kind]}")
            right = False
    return right
