"""How commits are asked on which side of a change they are: values, times in turns, and how often these err."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from harness.analysis.bisection import Commit, Found, Untold, level_of, search
from harness.analysis.changes import Place
from harness.api import UsageError
from harness.results.store import StoredRun
from harness.revisions import probes
from harness.revisions.probes import ExactProbe, Means, Runs, Series, TimeProbe
from harness.revisions.rounds import BASE, HEAD, Turns
from tests.conftest import ROOT
from tests.results.builders import METRICS, make_row, scored
from tests.tracking.test_results import run_of

PLACE = Place(suite="toy", workload="core/alpha", technique="toys/a")
MOST = 40
RUNS = [run_of([make_row(technique="toys/a", lane="memory", code=f"{number:04x}")]) for number in range(MOST + 1)]

Rounds = Callable[[int], Sequence[float]]
"""Draws the noise of so many rounds of log ratios."""


class Line(Runs):
    """The runs of commits that cost nothing; the interpreter of a commit is its number."""

    def installed(self, number: int) -> Any:
        return SimpleNamespace(python=number)

    def _run(self, number: int) -> StoredRun | Untold:
        return RUNS[number]


def runs_of(last: int, metric: str = "train_time", made: dict[int, Any] | None = None) -> Line:
    line = [Commit(commit=f"{number:040x}", subject="", author="", date="") for number in range(last + 1)]
    means = Means(
        repository=None,  # type: ignore[arg-type]  # nothing is installed
        cache=Path(), metrics=METRICS, renamed=lambda run: run, present=lambda name: name, report=lambda _: None,
    )  # fmt: skip
    series = Series(suite="toy", place=PLACE, metric=metric, lane="memory")
    return Line(line=line, series=series, means=means, made=made or {})


@pytest.fixture
def timing(monkeypatch: pytest.MonkeyPatch):
    """Return a function that lets rounds measure these log ratios to the base, with noise."""

    def prepare(truth: Sequence[float], draw: Rounds, failing: frozenset[int] = frozenset()) -> None:
        def round_of(contests: Any, pythons: Any, *_: Any) -> list[Turns]:
            assert len(contests) == 1
            ratio = truth[pythons[HEAD]] - truth[pythons[BASE]] + draw(1)[0]
            seconds = {BASE: 1.0, HEAD: math.exp(ratio)}
            failed = {side: "crash" for side, number in pythons.items() if number in failing}
            return [
                Turns(
                    samples={side: {"train": [(seconds[side], False)]} for side in seconds if side not in failed},
                    failed=failed,
                )
            ]

        monkeypatch.setattr(probes, "measure_round", round_of)

    return prepare


def searched(last: int, rounds: int = 16) -> tuple[Found, TimeProbe] | None:
    """Search the commit of a change of times; None where head does not surely differ from the base."""
    probe = TimeProbe(runs=runs_of(last), rounds=rounds, level=level_of(last))
    try:
        probe.start()
    except UsageError:
        return None
    return search(last, probe.ask), probe


def normal(sd: float) -> Rounds:
    generator = np.random.default_rng(0)
    return lambda n: list(generator.normal(0.0, sd, n))


def heavy(sd: float) -> Rounds:
    generator = np.random.default_rng(0)
    return lambda n: list(sd / math.sqrt(2) * generator.standard_t(4, n))


def recorded(scale: float) -> Rounds:
    """The noise of two processes of one commit, as the gate recorded it on a machine, scaled."""
    data = json.loads((ROOT / "tests/data/gate_noise.json").read_text())["rounds"]
    ratios = np.array([pair[0] for pairs in data.values() for pair in pairs]) / 10_000 * scale
    generator = np.random.default_rng(0)
    return lambda n: list(generator.choice(ratios - ratios.mean(), n))


SEARCHES = 100


@pytest.mark.parametrize(
    ("draw", "found_in"),
    [(normal(0.01), 0.95), (normal(0.04), 0.3), (heavy(0.02), 0.8), (recorded(1.0), 0.95), (recorded(3.0), 0.35)],
    ids=["quiet", "loud", "heavy tails", "recorded", "recorded, three times as loud"],
)
def test_a_search_names_a_wrong_commit_at_most_once_in_twenty_times(timing, draw: Rounds, found_in: float) -> None:
    """Each search is one in up to forty commits, for a step of 10 % or for a creep to it."""
    places = np.random.default_rng(1)
    wrong = exact = 0
    for number in range(SEARCHES):
        last = int(places.integers(1, MOST + 1))
        first = int(places.integers(1, last + 1))
        creeps = number % 5 == 0
        truth = [0.1 * k / last if creeps else 0.1 * (k >= first) for k in range(last + 1)]
        timing(truth, draw)
        outcome = searched(last)
        if outcome is None:
            continue
        found, probe = outcome
        wrong += not truth[found.low] <= probe.middle <= truth[found.high]
        exact += creeps or [*found.suspects] == [first]
    assert wrong <= 0.05 * SEARCHES
    assert exact >= found_in * SEARCHES


def test_where_nothing_changed_hardly_any_search_begins(timing) -> None:
    timing([0.0] * 9, normal(0.02))
    begun = sum(searched(8) is not None for _ in range(SEARCHES))
    assert begun <= 0.05 * SEARCHES


def test_a_commit_with_the_code_of_base_or_head_is_not_timed(timing) -> None:
    timing([0.0, 0.0, 0.1, 0.1], normal(0.005))
    runs = runs_of(3, made={1: RUNS[0], 2: RUNS[3]})
    probe = TimeProbe(runs=runs, rounds=16, level=level_of(3))
    probe.start()
    timing([math.nan] * 4, normal(0.005))
    assert [probe.ask(number) for number in (1, 2)] == ["before", "after"]


def test_a_commit_whose_case_fails_gives_no_answer_and_is_not_undecided(timing) -> None:
    timing([0.0, 0.0, 0.1, 0.1], normal(0.005), frozenset({1, 2}))
    probe = TimeProbe(runs=runs_of(3), rounds=8, level=level_of(3))
    probe.start()
    assert probe.ask(1) == Untold(reason="crash")
    found = search(3, probe.ask)
    assert [*found.suspects] == [1, 2, 3]


def test_the_change_of_the_commit_has_the_interval_of_its_own_rounds(timing) -> None:
    timing([0.0, 0.02, 0.12, 0.12], normal(0.004))
    outcome = searched(3)
    assert outcome is not None
    found, probe = outcome
    assert (found.low, found.high) == (1, 2)
    change = probe.between(1, 2)
    assert change is not None
    assert change.verdict == "worse"
    assert change.difference is not None
    assert change.difference.low is not None
    assert change.difference.high is not None
    assert change.difference.low < math.expm1(0.1) < change.difference.high
    assert change.difference.high - change.difference.low < 0.03


def test_values_that_the_code_determines_are_compared_as_they_are() -> None:
    def peak(value: float) -> StoredRun:
        return run_of([make_row(technique="toys/a", lane="memory", metrics={"train_tensor_peak": value})])

    broken = Untold(reason="it does not start")
    made = {0: peak(16.0), 1: peak(16.0), 2: broken, 3: peak(24.0), 4: peak(24.0)}
    probe = ExactProbe(runs=runs_of(4, "train_tensor_peak", made))
    found = search(4, probe.ask)
    assert ([*found.suspects], found.untold) == ([2, 3], {2: broken})
    change = probe.between(found.low, found.high)
    assert change is not None
    assert (change.reference, change.head, change.verdict) == (16.0, 24.0, "worse")


def test_a_quality_is_compared_by_its_mean_over_the_seeds_of_base_and_head() -> None:
    made: dict[int, Any] = {
        0: run_of(scored("toys/a", [90.0, 91.0, 92.0])),
        1: run_of(scored("toys/a", [89.0, 92.0, 91.0])),
        2: run_of(scored("toys/a", [80.0, 81.0])),
        3: run_of(scored("toys/a", [80.0, 81.0, 83.0])),
    }
    probe = ExactProbe(runs=runs_of(3, "accuracy", made))
    assert probe.ask(1) == "before"
    assert probe.ask(2) == Untold(reason="it has no accuracy of toys/a")
