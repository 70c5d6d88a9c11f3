"""Timed steps and predictions of a model: on batches never seen before, and verified against an untouched copy.

The copy is made before the first call of a timed lane and takes over the parameters and buffers of the model. Whatever
a contestant keeps from call to call elsewhere (answers, counts of calls, addresses) is not in it.
"""

from __future__ import annotations

import copy
import math
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Generic, Protocol, TypeVar

import torch
from torch import Tensor, nn

from harness.api import Incorrect
from harness.judge.fresh import require_close, require_tensor

GRADIENTS_DIFFER: Final = 0.3
"""Largest difference of a timed step's gradients from the copy's, relative to their norm.

A technique may keep some state outside of its buffers, such as a moving average, and so differ a little; gradients of
another batch differ by more than their norm.
"""

OUTPUTS_DIFFER: Final = 1e-3
"""Largest difference of a timed prediction from the copy's, relative to the largest output."""


class Trains(Protocol):
    """What is trained: a model and the optimiser of its parameters, with all else that a step needs."""

    @property
    def model(self) -> nn.Module:
        """The model."""

    @property
    def optimizer(self) -> torch.optim.Optimizer:
        """The optimiser."""


TrainsT = TypeVar("TrainsT", bound=Trains)
BatchT = TypeVar("BatchT")


@dataclass(frozen=True, kw_only=True)
class Taken(Generic[BatchT]):
    """A step that was taken: its batch, its number, and the states of torch's generators before the step."""

    batch: BatchT
    number: int
    states: tuple[Tensor, ...]


class RepeatedStep(Generic[TrainsT, BatchT]):
    """A timed training step: each call trains on a fresh batch, in training mode and at a learning rate of zero.

    Every kernel runs as usual, but all steps are alike: nothing diverges, and no gradient shrinks to denormal numbers,
    which are slow. ``step`` is called with what is trained, the batch and the number of the call, from 0.
    """

    def __init__(
        self, trains: TrainsT, fresh: Callable[[], BatchT], step: Callable[[TrainsT, BatchT, int], object]
    ) -> None:
        self.trains = trains
        self.untouched: TrainsT | None = None
        self._fresh = fresh
        self._step = step
        self._number = 0
        self._device = next(trains.model.parameters()).device
        trains.model.train()
        for group in trains.optimizer.param_groups:
            group["lr"] = 0.0

    def __call__(self) -> Taken[BatchT]:
        """Take one step."""
        if not self.trains.model.training:
            self.trains.model.train()
        taken = Taken(batch=self._fresh(), number=self._number, states=_states(self._device))
        self._step(self.trains, taken.batch, taken.number)
        self._number += 1
        return taken

    def refresh(self) -> None:
        """Copy what is trained, at the first call: before any step is taken."""
        if self.untouched is None:
            self.untouched = copy.deepcopy(self.trains)

    def later(self) -> Callable[[], TrainsT]:
        """Return a function for `as_it_is` that does not keep this step and what it trains alive."""
        reference = weakref.ref(self)

        def as_it_is() -> TrainsT:
            step = reference()
            assert step is not None, "the step is alive while its time is taken"
            return step.as_it_is()

        return as_it_is

    def as_it_is(self) -> TrainsT:
        """Return the untouched copy, with the parameters and buffers that the model has now."""
        self.refresh()
        assert self.untouched is not None
        self.untouched.model.load_state_dict(self.trains.model.state_dict(), strict=False)
        return self.untouched

    def verify(self, taken: Taken[BatchT]) -> None:
        """Raise Incorrect unless the last step has the gradients that a copy gets from the same batch."""
        found = _gradients(self.trains)
        untouched = self.as_it_is()
        untouched.model.train()
        with torch.random.fork_rng([] if self._device.type == "cpu" else [self._device]):
            torch.set_rng_state(taken.states[0])
            if self._device.type == "cuda":
                torch.cuda.set_rng_state(taken.states[1], self._device)
            self._step(untouched, taken.batch, taken.number)
        expected = _gradients(untouched)
        size = float(expected.norm())
        gap = float((found - expected).norm())
        if not gap <= GRADIENTS_DIFFER * size:
            share = gap / size if size else math.inf
            raise Incorrect(
                f"the gradients of a step differ by {share:.2g} of their norm from those that an untouched copy of the "
                "model gets from the same batch"
            )


def _states(device: torch.device) -> tuple[Tensor, ...]:
    """Return the states of torch's generators on the CPU and on a CUDA device."""
    cpu = torch.get_rng_state()
    return (cpu, torch.cuda.get_rng_state(device)) if device.type == "cuda" else (cpu,)


def _gradients(trains: Trains) -> Tensor:
    """Return the gradients of all that the optimiser trains, float64, end to end; zeros where there is none."""
    parameters = [parameter for group in trains.optimizer.param_groups for parameter in group["params"]]
    gradients = [torch.zeros_like(value) if value.grad is None else value.grad for value in parameters]
    return torch.cat([gradient.detach().double().flatten() for gradient in gradients])


class RepeatedPrediction(Generic[BatchT]):
    """A timed prediction: each call predicts a fresh batch. ``verify`` compares it with ``expected`` of that batch."""

    def __init__(
        self,
        fresh: Callable[[], BatchT],
        predict: Callable[[BatchT], Tensor],
        expected: Callable[[BatchT], Tensor],
        *,
        tolerance: float = OUTPUTS_DIFFER,
    ) -> None:
        self._fresh = fresh
        self._predict = predict
        self._expected = expected
        self._tolerance = tolerance

    def __call__(self) -> tuple[BatchT, Tensor]:
        """Return a fresh batch and its prediction."""
        batch = self._fresh()
        return batch, self._predict(batch)

    def verify(self, result: tuple[BatchT, Tensor]) -> None:
        """Raise Incorrect where the last prediction is not what is expected for its batch."""
        batch, found = result
        expected = self._expected(batch)
        require_close(
            require_tensor(found, tuple(expected.shape), expected.dtype),
            expected,
            tolerance=self._tolerance,
            what="a prediction",
        )
