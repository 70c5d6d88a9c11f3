"""Tries a fine-tuning: a few steps and test batches of different lengths, from which the cost of all follows."""

from __future__ import annotations

from bisect import bisect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from statistics import mean
from typing import Final

from torch import Tensor, nn

from harness.api import CaseContext, Trial
from harness.families.finetune.problem import Adapted, Problem
from harness.families.finetune.scores import scored
from harness.judge import training
from harness.judge.seeds import global_seed
from harness.judge.training import Batch
from harness.measure.clock import PhaseClock, take

SAMPLES: Final = 3
"""Batches that are timed: the shortest, the longest, and others between; the cost of the rest is interpolated."""


@dataclass(frozen=True, kw_only=True)
class Attempt:
    """How a technique is adapted in a context, and how a model predicts a batch in evaluation mode."""

    adapt: Callable[[CaseContext], tuple[Problem, Adapted]]
    predict: Callable[[nn.Module, Batch], Tensor]


def tried(attempt: Attempt, context: CaseContext) -> Trial:
    """Return what a technique costs: load, initialisation, a step, a batch of the test, a call of each phase.

    The first step is not timed: it makes the optimiser's state. The longest batches of the training and of the test are
    among those that are timed, for the sake of the memory that they take. The lanes of time and memory take batches of
    their own.
    """
    clock = PhaseClock(context.device)
    with global_seed(context.seed, context.device):
        problem, adapted = attempt.adapt(replace(context, phase=clock))
        adapted.model.train()
        batches = sorted(problem.train.at(problem.order).batches(), key=size_of)
        timed, longest = (problem.train.measured(problem.order, lane).batch() for lane in ("time", "memory"))
        step = partial(_step, problem, adapted)
        step(timed)
        steps = priced(batches, step, context.device)
        groups = sorted(problem.tested(), key=size_of)

        def predict(batch: Batch) -> Tensor:
            return scored(attempt.predict(adapted.model, batch), batch["labels"])

        predict(groups[0])
        tests = priced(groups, predict, context.device)
        predictions = [seconds_of(partial(predict, batch), context.device) for batch in (timed, longest)]
    return Trial(
        seconds={
            **clock.seconds,
            "step": mean(steps(size_of(batch)) for batch in batches),
            "test batch": mean(tests(size_of(batch)) for batch in groups),
            "timed step": steps(size_of(timed)),
            "longest step": steps(size_of(longest)),
            "timed prediction": predictions[0],
            "longest prediction": predictions[1],
        },
        build={"load": 1, "init": 1},
        phases={"train": {"timed step": 1}, "infer": {"timed prediction": 1}},
        memory_phases={"train": {"longest step": 1}, "infer": {"longest prediction": 1}},
    )


def counted(problem: Problem) -> Mapping[str, float]:
    """Return how often an accuracy case does what `tried` prices."""
    retained = problem.material.retained
    further = retained.examples.groups(problem.material.test_batch) if retained else ()
    tests = sum(1 for _ in problem.tested()) + sum(1 for _ in further)
    return {"load": 1, "init": 1, "step": problem.settings.steps, "test batch": tests}


def _step(problem: Problem, adapted: Adapted, batch: Batch) -> None:
    """Take a training step and wait for its end."""
    limit = problem.settings.max_grad_norm
    training.step(adapted.model, adapted.optimizer, batch, loss=problem.loss, max_grad_norm=limit).item()


def priced(ordered: Sequence[Batch], run: Callable[[Batch], object], device: str) -> Price:
    """Return the price of batches, which are sorted by size, after running a few of them."""
    return Price.of([(size_of(batch), seconds_of(partial(run, batch), device)) for batch in spread(ordered)])


def seconds_of(call: Callable[[], object], device: str) -> float:
    """Return the seconds of a call, with the device synchronised on both sides."""
    return take(call, repeats=1, device=device).seconds


def size_of(batch: Batch) -> int:
    """Return how many numbers a batch has in its largest input, with padding: for texts its tokens."""
    return max(value.numel() for name, value in batch.items() if name != "labels")


def spread(ordered: Sequence[Batch], count: int = SAMPLES) -> list[Batch]:
    """Return ``count`` batches at even distances, the first and the last among them, or all where there are fewer."""
    if len(ordered) <= count:
        return list(ordered)
    return [ordered[round(place * (len(ordered) - 1) / (count - 1))] for place in range(count)]


@dataclass(frozen=True, kw_only=True)
class Price:
    """The seconds of a batch by its size: interpolated between the ``sizes`` that were timed, constant beyond."""

    sizes: Sequence[float]
    seconds: Sequence[float]

    @classmethod
    def of(cls, samples: Sequence[tuple[int, float]]) -> Price:
        """Return the price that samples of a size and its seconds tell; those of an equal size are averaged."""
        sizes = sorted({size for size, _ in samples})
        seconds = [mean(seconds for size, seconds in samples if size == other) for other in sizes]
        return cls(sizes=sizes, seconds=seconds)

    def __call__(self, size: float) -> float:
        """Return the seconds of a batch."""
        place = bisect(self.sizes, size)
        if place in (0, len(self.sizes)):
            return self.seconds[0 if place == 0 else -1]
        low, high = self.sizes[place - 1], self.sizes[place]
        share = (size - low) / (high - low)
        return self.seconds[place - 1] * (1 - share) + self.seconds[place] * share
