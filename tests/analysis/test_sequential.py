"""Decisions while seeds are still run."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from harness.analysis.compare import Rule, compare_family
from harness.analysis.looks import levels
from harness.analysis.sequential import Family, Ledger, decide, replay
from harness.until import LOOKS

ANY = Rule(margin=0.0, higher_is_better=True)
POINT = Rule(margin=1.0, higher_is_better=True)


def drawn(effects: list[float], rule: Rule = ANY, seed: int = 0) -> Family:
    generator = np.random.default_rng(seed)
    scores = generator.normal(0, 1, (len(effects) + 1, 20))
    scores[1:] += np.array(effects)[:, None]
    contestants = {f"t{i}": dict(enumerate(row.tolist())) for i, row in enumerate(scores[1:])}
    return Family(
        contestants=contestants, baseline=dict(enumerate(scores[0].tolist())), rule=rule, seeds=tuple(range(20))
    )


def ended(family: Family, counts: dict[str, int] | None = None) -> dict[str, range]:
    return {name: range((counts or {}).get(name, 20)) for name in family.contestants}


def test_a_single_look_decides_as_a_table_does() -> None:
    family = drawn([0.0, 1.5, 3.0, -4.0, 6.0] * 3)
    ledger = decide(Ledger(looks=(20,)), 20, family)
    assert ledger.comparisons == compare_family(family.contestants, family.baseline, ANY)
    assert ledger.next_look is None


def test_clear_differences_are_decided_at_the_first_look_and_stay_as_they_were() -> None:
    family = drawn([0.0, 0.3, 1.5, 8.0, -9.0, 0.0])
    first = decide(Ledger(), 5, family)
    assert {name: decision.comparison.verdict for name, decision in first.decided.items()} == {
        "t3": "better",
        "t4": "worse",
    }
    assert {comparison.n for comparison in first.open.values()} == {5}
    second = decide(first, 10, family)
    assert {name: second.decided[name] for name in first.decided} == first.decided
    assert {comparison.n for comparison in second.open.values()} == {10}
    assert second.next_look == 15


def test_a_difference_is_found_where_its_p_value_is_below_the_level_of_its_step() -> None:
    family = drawn([0.5 * step for step in range(12)], seed=3)
    ledger = decide(Ledger(), 5, family)
    found = sorted(ledger.comparisons.values(), key=lambda comparison: comparison.p)
    steps = [comparison.p < level for comparison, level in zip(found, levels(LOOKS, 12), strict=True)]
    rejected = steps.index(False) if False in steps else len(steps)
    assert [comparison.verdict != "undecided" for comparison in found] == [True] * rejected + [False] * (12 - rejected)
    assert 0 < rejected < 12


def test_a_found_difference_leaves_its_level_to_the_others_and_a_same_one_does_not() -> None:
    family = drawn([0.0, 0.0, 0.0, 0.0, 0.0, 30.0], rule=dataclasses.replace(POINT, margin=3.0), seed=1)
    ledger = decide(Ledger(), 5, family)
    while ledger.next_look and not ledger.kept:
        ledger = decide(ledger, ledger.next_look, family)
    rejected = sum(decision.comparison.verdict == "better" for decision in ledger.decided.values())
    assert (rejected, ledger.kept > 0) == (1, True)
    if ledger.next_look and ledger.open:
        after = decide(ledger, ledger.next_look, family)
        fresh = [after.comparisons[name] for name in ledger.open]
        assert {comparison.family for comparison in fresh} == {6 - rejected}


def test_scores_beyond_a_decision_change_nothing() -> None:
    family = drawn([0.0, 0.5, 1.5, 8.0, -9.0, 0.0])
    ledger = replay(family, ended(family))
    fewer = {
        name: {seed: value for seed, value in scores.items() if seed < ledger.decided[name].look}
        if name in ledger.decided
        else scores
        for name, scores in family.contestants.items()
    }
    assert replay(dataclasses.replace(family, contestants=fewer), ended(family)) == ledger


def test_an_interrupted_run_comes_to_the_same_ledger() -> None:
    family = drawn([0.0, 0.5, 1.5, 8.0, -9.0, 0.0])
    whole = replay(family, ended(family))
    counts = dict.fromkeys(family.contestants, 12) | {"t3": 5, "t4": 5}
    part = replay(family, ended(family, counts))
    assert part.look == 10
    assert part.next_look == 15
    assert {name: whole.decided[name] for name in part.decided} == part.decided
    while part.next_look:
        part = decide(part, part.next_look, family)
    assert part == whole


def test_a_look_out_of_turn_is_refused() -> None:
    with pytest.raises(ValueError, match="the next look is at 5 seeds, not 10"):
        decide(Ledger(), 10, drawn([0.0]))


def test_nothing_is_looked_at_again_once_all_is_decided() -> None:
    ledger = decide(Ledger(), 5, drawn([40.0, -40.0, 50.0, 60.0, -70.0]))
    assert (ledger.open, ledger.next_look, ledger.look) == ({}, None, 5)
