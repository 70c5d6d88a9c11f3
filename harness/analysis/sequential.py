"""Decides comparisons while seeds are still run: undecided ones get more seeds, decided ones stay as they are.

`harness.until.looks_of` gives the numbers of seeds at which to decide, `levels` of `harness.analysis.looks` what each
look costs. A `Ledger` holds what is decided; `decide` returns the next one. After every look, the seeds up to the next
look are run for the baseline and for what the ledger lists as open. All functions are pure: `replay` makes the same
ledger of stored rows again.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace

from harness.analysis.compare import Comparison, Rule, Scores, Sides, compare_open
from harness.analysis.significance import Correction
from harness.until import LOOKS


@dataclass(frozen=True, kw_only=True)
class Family:
    """What is compared: the contestants' scores by name, the baseline's, the rule, and the seeds in their order."""

    contestants: Mapping[str, Scores]
    baseline: Scores
    rule: Rule
    seeds: tuple[int, ...]

    def first(self, name: str, count: int) -> Sides:
        """Return both sides of a comparison on the first ``count`` seeds."""
        among = set(self.seeds[:count])
        own = {seed: value for seed, value in self.contestants[name].items() if seed in among}
        return Sides(own=own, other=self.baseline, rule=self.rule)


@dataclass(frozen=True, kw_only=True)
class Decision:
    """A comparison with the look, a number of seeds, at which its verdict was reached."""

    look: int
    comparison: Comparison


@dataclass(frozen=True, kw_only=True)
class Ledger:
    """What the looks so far have decided.

    - ``looks``: the numbers of seeds at which is decided.
    - ``look``: the last look that was made; 0 before the first.
    - ``decided``: the decisions by contestant; a decision is never changed.
    - ``open``: the comparisons at the last look of the contestants that are still undecided.
    """

    looks: tuple[int, ...] = LOOKS
    look: int = 0
    decided: Mapping[str, Decision] = field(default_factory=dict)
    open: Mapping[str, Comparison] = field(default_factory=dict)

    @property
    def next_look(self) -> int | None:
        """The next number of seeds to decide at; None where nothing is open or the last look was made."""
        if self.look and not self.open:
            return None
        return next((look for look in self.looks if look > self.look), None)

    @property
    def comparisons(self) -> dict[str, Comparison]:
        """All comparisons: those decided, as they were at their look, and those open, as they are now."""
        return {name: decision.comparison for name, decision in self.decided.items()} | dict(self.open)

    @property
    def kept(self) -> int:
        """The number of comparisons decided as the same, which still count in the correction of the others.

        A comparison without a test, of values that don't vary with the seed, does not count in any correction.
        """
        done = [decision.comparison for decision in self.decided.values()]
        return sum(comparison.p is not None and comparison.verdict == "same" for comparison in done)


def decide(ledger: Ledger, look: int, family: Family) -> Ledger:
    """Return the ledger after a look at the first ``look`` seeds of the contestants that are open.

    The verdicts are those of `compare_family`, at the levels of `levels`: a difference that was found leaves its level
    to the others at this and at later looks (Holm's steps). Contestants that are decided contribute, with the seeds
    up to their decision, to the variance that all share. The look must be the ledger's next one.
    """
    if look != ledger.next_look:
        raise ValueError(f"the next look is at {ledger.next_look} seeds, not {look}")
    names = [name for name in family.contestants if name not in ledger.decided]
    until = {name: ledger.decided[name].look if name in ledger.decided else look for name in family.contestants}
    sides = {name: family.first(name, count) for name, count in until.items()}
    found = compare_open(sides, names, Correction(kept=ledger.kept, looks=ledger.looks))
    decided = {
        name: Decision(look=look, comparison=comparison)
        for name, comparison in found.items()
        if comparison.verdict != "undecided"
    }
    still = {name: comparison for name, comparison in found.items() if name not in decided}
    return replace(ledger, look=look, decided={**ledger.decided, **decided}, open=still)


def replay(family: Family, ended: Mapping[str, Collection[int]], looks: tuple[int, ...] = LOOKS) -> Ledger:
    """Return the ledger that stored results lead to.

    ``ended`` has, for each contestant, the seeds whose case has ended on both sides, with or without a score. A look is
    made where the cases of all contestants that are open have ended, so that a run that was interrupted goes on with
    the same decisions.
    """
    ledger = Ledger(looks=looks)
    while (look := ledger.next_look) is not None:
        awaited = [name for name in family.contestants if name not in ledger.decided]
        if not all(set(family.seeds[:look]) <= set(ended[name]) for name in awaited):
            break
        ledger = decide(ledger, look, family)
    return ledger
