"""Samplers that want to win the time lane without sampling are found; an honest one is not."""

from __future__ import annotations

import random
from typing import ClassVar

import numpy as np
import pytest
from scipy.stats import binom

from harness.api import Incorrect
from harness.families.control.contract import Population
from harness.families.control.timing import CHANCE, FEWEST, RECENT, _chance, require_form
from harness.families.control.workloads import Brackets, Verifier
from tests.families.control.test_workloads import SETTINGS, Exact, context

CALLS = 40
OFTEN = 30


class Kept(Exact):
    """Gives one population again and again, once it was asked often."""

    def __init__(self):
        super().__init__()
        self.calls = 0

    def generate(self, task, generator):
        self.calls += 1
        if self.calls < OFTEN:
            self.kept = super().generate(task, generator)
        return self.kept


class KeptInTurn(Exact):
    """Gives a few populations in turn, once it was asked often."""

    def __init__(self):
        super().__init__()
        self.kept = []

    def generate(self, task, generator):
        if len(self.kept) < OFTEN:
            self.kept.append(super().generate(task, generator))
            return self.kept[-1]
        self.kept.append(self.kept.pop(0))
        return self.kept[-1]


class NoWeights(Exact):
    """Spares the verifier, once it was asked often."""

    calls = 0

    def generate(self, task, generator):
        self.calls += 1
        found = super().generate(task, generator)
        return found if self.calls < OFTEN else Population(texts=found.texts, weights=[1.0] * len(found.texts))


class Forbidden(Exact):
    """Gives texts that are not allowed, once it was asked often."""

    calls = 0

    def generate(self, task, generator):
        self.calls += 1
        if self.calls < OFTEN:
            return super().generate(task, generator)
        return Population(texts=[(1,) * task.length] * task.particles, weights=[1.0] * task.particles)


class PoolOfItsClass(Exact):
    """Gives the first populations again, in random order, as each copy does too."""

    pool: ClassVar[list[Population]] = []

    def generate(self, task, generator):
        if len(self.pool) < OFTEN:
            self.pool.append(super().generate(task, generator))
            return self.pool[-1]
        return random.choice(self.pool)


class CountOfItsClass(Exact):
    """Spares the model and the verifier once it was asked often, and so do copies."""

    calls = 0

    def generate(self, task, generator):
        CountOfItsClass.calls += 1
        if self.calls < OFTEN:
            CountOfItsClass.kept = super().generate(task, generator)
        return Population(texts=self.kept.texts, weights=[random.random() for _ in self.kept.texts])


def found_in(workload, technique) -> str:
    phase = workload.open(technique, context()).phases["infer"]
    phase.refresh()
    try:
        for _ in range(4):
            for _ in range(CALLS):
                population = phase.run()
            phase.verify(population)
    except Incorrect as error:
        return str(error)
    return ""


@pytest.mark.parametrize("workload", [Brackets(), Verifier()], ids=["brackets", "verifier"])
def test_a_sampler_that_samples_passes(workload) -> None:
    assert found_in(workload, Exact()) == ""


@pytest.mark.parametrize("cheat", [Kept, KeptInTurn, NoWeights, Forbidden])
def test_populations_that_were_not_sampled_are_found(cheat) -> None:
    assert found_in(Brackets(), cheat())


@pytest.mark.parametrize("cheat", [PoolOfItsClass, CountOfItsClass])
@pytest.mark.parametrize("workload", [Brackets(), Verifier()], ids=["brackets", "verifier"])
def test_what_copies_share_is_found(workload, cheat) -> None:
    PoolOfItsClass.pool.clear()
    CountOfItsClass.calls = 0
    assert "not distributed like those of a copy" in found_in(workload, cheat())


WRONG = [
    (Population(texts=[(2,) * 6], weights=[1.0, 1.0]), "gave 1 texts and 2 weights where 2"),
    (Population(texts=[(2,) * 6] * 2, weights=[1.0, -1.0]), "a weight is -1.0"),
    (Population(texts=[(2,) * 6] * 2, weights=[1.0, float("nan")]), "a weight is nan"),
    (Population(texts=[(2,) * 6, (1,) * 6], weights=[1.0, 1.0]), "is not allowed"),
    (Population(texts=[(2,) * 6, (2,) * 5], weights=[1.0, 1.0]), "is not allowed"),
]


@pytest.mark.parametrize(("population", "words"), WRONG)
def test_a_population_has_the_form_that_the_task_asks_for(population: Population, words: str) -> None:
    task = Brackets().task(0, SETTINGS)
    require_form(Population(texts=[(2,) * 6, ()], weights=[1.0, 0.0]), task)
    with pytest.raises(Incorrect, match=words):
        require_form(population, task)


def test_fewer_populations_than_are_compared_could_show_no_difference():
    apart = [_chance(range(count), range(100, 100 + count)) for count in (FEWEST - 1, FEWEST)]
    assert apart[0] > CHANCE > apart[1]


def test_a_shift_of_the_stated_size_is_found_with_the_stated_chance():
    draw, trials = np.random.default_rng(0), 200
    found = sum(_chance(draw.normal(0, 1, RECENT), draw.normal(2.4, 1, RECENT)) < CHANCE for _ in range(trials))
    assert binom.ppf(1e-3, trials, 0.95) <= found < trials
    assert not any(_chance(draw.normal(0, 1, RECENT), draw.normal(0.8, 1, RECENT)) < CHANCE for _ in range(trials))
