"""The timed generation of populations, held against those of a copy of the technique that nobody has called."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Final

import torch

from harness.api import Incorrect
from harness.families.control.contract import ControlTask, ControlTechnique, Population
from harness.judge.timed import Untouched

RECENT: Final = 25
"""Populations of which the last timed ones are compared with as many of the copy."""

CHANCE: Final = 1e-6
"""Chance that two honest sets of populations are found to differ."""


FEWEST: Final = 17
"""Populations from which on a difference can be found: of fewer, the largest possible one has more than `CHANCE`."""


class Generation:
    """A timed callable: each call generates one population with new draws."""

    def __init__(self, technique: ControlTechnique, task: ControlTask, draw: torch.Generator) -> None:
        self._technique = technique
        self._task = task
        self._draw = draw
        self._untouched = Untouched(technique)
        self._usual: list[tuple[float, int]] = []
        self._recent: deque[tuple[float, int]] = deque(maxlen=RECENT)
        self._before: Population | None = None

    def refresh(self) -> None:
        """Generate populations by a copy, at the first call: before any is timed.

        What a technique keeps outside of itself, such as a count of its class, a later copy would share.
        """
        if not self._usual:
            technique = self._untouched()
            self._usual = [self._generated(technique)[1] for _ in range(RECENT)]

    def __call__(self) -> Population:
        """Generate a population, and record its estimate and how much was asked for it."""
        population, figures = self._generated(self._technique)
        self._recent.append(figures)
        return population

    def _generated(self, technique: ControlTechnique) -> tuple[Population, tuple[float, int]]:
        before = _asked(self._task)
        population = technique.generate(self._task, self._draw)
        return population, (population.evidence, _asked(self._task) - before)

    def verify(self, population: Population) -> None:
        """Raise Incorrect unless populations are well-formed, new, and distributed like those of the copy.

        The distribution is compared from `FEWEST` populations on. Of `RECENT` ones, a shift by 2.4 standard
        deviations is found with a chance of 95 %.
        """
        require_form(population, self._task)
        if population == self._before and len(set(population.texts)) > 1:
            raise Incorrect("other draws give the same population")
        self._before = population
        if len(self._recent) < FEWEST:
            return
        for place, what in enumerate(("estimates of Z", "numbers of queries")):
            timed, expected = ([pair[place] for pair in pairs] for pairs in (self._recent, self._usual))
            if _chance(timed, expected) < CHANCE:
                raise Incorrect(f"the {what} of timed populations are not distributed like those of a copy")


def require_form(population: Population, task: ControlTask) -> None:
    """Raise Incorrect where a population is not what the task asks for: so many allowed texts, weights of 0 or more."""
    texts, weights = population.texts, population.weights
    if len(texts) != task.particles or len(weights) != task.particles:
        raise Incorrect(
            f"the technique gave {len(texts)} texts and {len(weights)} weights where {task.particles} were asked for"
        )
    for text, weight in zip(texts, weights, strict=True):
        if not weight >= 0:
            raise Incorrect(f"a weight is {weight}; expected 0 or more")
        if weight and (
            len(text) != task.length or not all(task.allowed(text[:place], text[place]) for place in range(task.length))
        ):
            raise Incorrect(f"the text {text} has a weight, and is not allowed")


def _asked(task: ControlTask) -> int:
    return sum(task.asked.values())


def _chance(first: Sequence[float], second: Sequence[float]) -> float:
    """Return the p value of two samples under one distribution (Mann and Whitney, with ties)."""
    from scipy.stats import mannwhitneyu

    if len({*first, *second}) == 1:
        return 1.0
    return float(mannwhitneyu(first, second, method="asymptotic").pvalue)
