"""The invariants: honest techniques pass, and each mutant is caught by name and with a figure."""

from __future__ import annotations

import pytest

from harness.api import Incorrect
from harness.families.finetune.digits import DigitsWorkload
from tests.families.conftest import Context
from tests.families.finetune import techniques

HONEST = [techniques.Honest(), techniques.NotExactAndSaysSo(), techniques.Nothing(), techniques.Exactly(7)]

MUTANTS = {
    techniques.NotExact: r"differs from the base model before the first step: logits by up to \d\.\d\de",
    techniques.ChangesFrozen: r"of \d+ frozen parameters changed in 3 steps; \S+\.base\.weight by up to 0\.0003",
    techniques.MergesWrong: r"the merged model differs from the adapted one: logits by up to \d\.\d\de",
    techniques.MergesToNan: r"the merged model differs from the adapted one: \d+ of \d+ logits are nan or infinite",
    techniques.StartsAtNan: r"before the first step: \d+ of \d+ logits are nan or infinite",
    techniques.TrainsAtNan: r"a parameter group has lr = nan; expected a finite number",
    techniques.ListsNames: r"a parameter group lists str; expected parameters of the model",
    techniques.ListsNoGroups: r"parameter_groups returned Parameter as a group; expected a list of mappings, like",
    techniques.ReturnsNothing: r"adapt returned NoneType; expected the model",
    techniques.MergesToNothing: r"merge returned NoneType; expected the model",
    techniques.LeavesOut: r"leave out 1 trainable parameters, the first is \S+\.added",
    techniques.ListsTwice: r"list \S+\.added twice",
    techniques.ListsFrozen: r"lists \S+\.base\.weight, which does not require a gradient",
    techniques.ListsForeign: r"lists a tensor \(3,\) that the model does not have",
    techniques.ListsHead: r"lists \S+, which is the judge's head",
    techniques.FreezesHead: r"the head's parameter \S+ no longer trains",
    techniques.ChangesHead: r"the head's parameter \S+ was changed by up to 0\.5 while adapting",
    techniques.TrainsUnused: r"1 of the \d+ parameters .* got no gradient in 3 steps; the first is \S+\.unused",
    techniques.TrainsAtRateZero: r"1 of the \d+ parameters .* did not change in 3 steps; the first is \S+\.added",
    techniques.ReplacesHead: r"the head's parameter \S+ is no longer part of the model: leave the head as it is",
}


@pytest.mark.parametrize("technique", HONEST, ids=lambda technique: type(technique).__name__)
def test_an_honest_technique_passes(
    workload: DigitsWorkload, name: str, context: Context, technique: techniques.Honest
) -> None:
    workload.check(technique, context(name))


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.__name__)
def test_a_mutant_is_caught(
    workload: DigitsWorkload, name: str, context: Context, mutant: type[techniques.Honest]
) -> None:
    with pytest.raises(Incorrect, match=MUTANTS[mutant]):
        workload.check(mutant(), context(name))


def test_every_mutant_is_listed() -> None:
    breaks_nothing = {"Honest", "Added", "Exactly", "Nothing", "Poisoned", "NotExactAndSaysSo"}
    classes = {
        name
        for name, value in vars(techniques).items()
        if isinstance(value, type) and value.__module__.endswith("techniques")
    }
    assert classes - breaks_nothing == {mutant.__name__ for mutant in MUTANTS}
