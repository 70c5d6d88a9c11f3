"""Timed steps and predictions of a model: on batches never seen before, and verified against an untouched copy.

The copy is made before the first call of a timed lane and takes over the parameters and buffers of the model. Whatever
a contestant keeps from call to call elsewhere in the model (answers, counts of calls, addresses) is not in it. What is
kept outside of the model, such as a count of a class, a copy shares; so a copy is asked something before the first call
and must give the same answer later. It also has its learning rate, by which a timed model could tell that it is timed.
Timed steps move every parameter, if only by its last digits: what a contestant computed from the weights of the step
before is of other weights, as in a training.
"""

from __future__ import annotations

import copy
import math
import weakref
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Generic, Protocol, TypeVar

import torch
from torch import Tensor, nn

from harness.api import Incorrect
from harness.judge.copies import deep_copy
from harness.judge.fresh import require_close, require_tensor
from harness.judge.graphs import CapturedStep

GRADIENTS_DIFFER: Final = 0.3
"""Largest difference of a timed step's gradients from the copy's, relative to their norm.

A technique may keep some state outside of its buffers, such as a moving average, and so differ a little; gradients of
another batch differ by more than their norm.
"""

REPEATED: Final = 1e-3
"""Largest difference of two steps of a copy from the same state, relative to their norm, that counts as repetition."""

MORE_COPIES: Final = 2
STEPS_OF_COPY: Final = 3
"""Further copies, and steps of each, where no two steps of a copy are alike.

A copy takes few steps, as a contestant may compute only as long as it has not been called often.
"""

COPIES_OF_DOUBT: Final = 16
"""Further copies where a step's gradients lie outside of those of so few."""

FURTHER: Final = 1.5
"""How far noisy gradients may be from the mean of the copy's, relative to the furthest of these."""

LEAST_GRADIENT: Final = 0.1
"""Least norm of a parameter's gradient, relative to the least of the copy's."""

NEGLIGIBLE: Final = 1e-4
"""Part of the norm of all gradients below which a parameter's may come and go: that of what starts at zero does."""

OF_THE_RATE: Final = 2.0**-17
OF_THE_LARGEST: Final = 2.0**-22
"""A timed step's learning rate: the larger one of these shares of the training's rate and of the largest parameter.

AdamW moves a parameter by about its rate: here by a few of the parameter's last digits, and by less than a hundredth of
a step of the training in all timed steps together.
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
    states: tuple[bytes, ...]


class RepeatedStep(Generic[TrainsT, BatchT]):
    """A timed training step: each call trains on a fresh batch, in training mode and at a tiny learning rate.

    Every kernel runs as usual and every parameter moves, but all steps are alike: nothing diverges, and no gradient
    shrinks to denormal numbers, which are slow. ``step`` is called with what is trained, the batch and the number of
    the call, from 0. Where it is ``captured``, timed steps replay a CUDA graph, and copies take the step itself.
    """

    def __init__(
        self,
        trains: TrainsT,
        fresh: Callable[[], BatchT],
        step: Callable[[TrainsT, BatchT, int], object],
        *,
        captured: bool = False,
    ) -> None:
        self.trains = trains
        self.untouched: TrainsT | None = None
        self._fresh = fresh
        self._step = step
        self._own: Callable[[TrainsT, Any, int], object] = CapturedStep(trains, step) if captured else step
        self._number = 0
        self._device = next(trains.model.parameters()).device
        self._early: tuple[Taken[BatchT], list[list[Tensor]]] | None = None
        self._rates = [group["lr"] for group in trains.optimizer.param_groups]
        trains.model.train()
        _set_rates(trains, [_tiny(group) for group in trains.optimizer.param_groups])

    def __call__(self) -> Taken[BatchT]:
        """Take one step."""
        if not self.trains.model.training:
            self.trains.model.train()
        taken = Taken(batch=self._fresh(), number=self._number, states=_states(self._device))
        self._own(self.trains, taken.batch, taken.number)
        self._number += 1
        return taken

    def refresh(self) -> None:
        """Copy what is trained, at the first call: before any step is taken; and take steps of copies."""
        if self.untouched is None:
            self.untouched = deep_copy(self.trains, self.trains.model)
            taken = Taken(batch=copy.deepcopy(self._fresh()), number=0, states=_states(self._device))
            cloud = [self._of(self.as_it_was(), taken, taken.states) for _ in range(2)]
            if _distance(*cloud) > REPEATED * _norm(cloud[0]):
                for trains in (self.as_it_was() for _ in range(1 + MORE_COPIES)):
                    cloud += [self._of(trains, taken, ()) for _ in range(STEPS_OF_COPY)]
            self._early = taken, cloud

    def later(self, *, as_it_was: bool = False) -> Callable[[], TrainsT]:
        """Return a function for `as_it_is`, or for `as_it_was`, that keeps neither this step nor its model alive."""
        reference = weakref.ref(self)

        def copied() -> TrainsT:
            step = reference()
            assert step is not None, "the step is alive while its time is taken"
            return step.as_it_was() if as_it_was else step.as_it_is()

        return copied

    def as_it_was(self) -> TrainsT:
        """Return a copy of the untouched copy, with the learning rate that it had."""
        self.refresh()
        assert self.untouched is not None
        copied = deep_copy(self.untouched, self.untouched.model)
        if {id(value) for value in _trained(copied)} & {id(value) for value in _trained(self.trains)} or (
            copied.model is self.trains.model
        ):
            raise Incorrect("a deep copy of the model is, or shares parameters with, the model")
        _set_rates(copied, self._rates)
        return copied

    def model_as_it_was(self) -> nn.Module:
        """Return a copy of the untouched copy's model alone."""
        self.refresh()
        assert self.untouched is not None
        return deep_copy(self.untouched.model)

    def as_it_is(self) -> TrainsT:
        """Return a copy of the untouched copy, with the parameters and buffers that the model has now."""
        copied = self.as_it_was()
        copied.model.load_state_dict(self.trains.model.state_dict(), strict=False)
        return copied

    def verify(self, taken: Taken[BatchT]) -> None:
        """Raise Incorrect unless the last step has the gradients that a copy gets from the same batch.

        A technique that draws ahead of time gives other gradients in every step. Those have to lie as near to the mean
        of several of the copy's as these do, and no parameter may lack a gradient that all of these have.
        """
        found = _gradients(self.trains)
        self._require_as_before()
        copied = self.as_it_is()
        expected = self._of(copied, taken, taken.states)
        gap, size = _distance(found, expected), _norm(expected)
        if gap <= GRADIENTS_DIFFER * size:
            return
        again = self._of(copied, taken, taken.states)
        if _distance(expected, again) <= REPEATED * size:
            share = gap / size if size else math.inf
            raise Incorrect(
                f"the gradients of a step differ by {share:.2g} of their norm from those that an untouched copy of the "
                "model gets from the same batch"
            )
        cloud = [expected, again, *self._cloud(taken, 1 + MORE_COPIES)]
        try:
            _require_alike(found, cloud)
        except Incorrect:  # noise may have rare large values, of which so few steps show none
            _require_alike(found, [*cloud, *self._cloud(taken, COPIES_OF_DOUBT)])

    def _cloud(self, taken: Taken[BatchT], copies: int) -> list[list[Tensor]]:
        """Return the gradients that several copies get from a batch in a few noisy steps each."""
        return [
            self._of(trains, taken, ())
            for trains in (self.as_it_is() for _ in range(copies))
            for _ in range(STEPS_OF_COPY)
        ]

    def _require_as_before(self) -> None:
        """Raise Incorrect unless a copy takes the step that copies took before the first call as these did."""
        assert self._early is not None, "refresh comes before verify"
        taken, cloud = self._early
        found = self._of(self.as_it_was(), taken, taken.states)
        if len(cloud) > 2:
            try:
                _require_alike(found, cloud)
            except Incorrect:  # another draw, as a rare one may have been of these
                _require_alike(self._of(self.as_it_was(), taken, ()), cloud)
        elif not _distance(found, cloud[0]) <= GRADIENTS_DIFFER * _norm(cloud[0]):
            raise Incorrect(
                "a copy of the model that nobody has called gets other gradients from a batch than such a copy got "
                "before the timed calls"
            )

    def _of(self, trains: TrainsT, taken: Taken[BatchT], states: tuple[bytes, ...]) -> list[Tensor]:
        """Return the gradients that a copy gets from the batch of a step, by parameter; the parameters stay.

        torch's generators are put into the given ``states``; where there are none, they go on.
        """
        before = [parameter.detach().clone() for parameter in _trained(trains)]
        try:
            return self._gradients_of(trains, taken, states)
        finally:
            with torch.no_grad():
                for parameter, value in zip(_trained(trains), before, strict=True):
                    parameter.copy_(value)

    def _gradients_of(self, trains: TrainsT, taken: Taken[BatchT], states: tuple[bytes, ...]) -> list[Tensor]:
        trains.model.train()
        if not states:
            self._step(trains, taken.batch, taken.number)
            return _gradients(trains)
        with torch.random.fork_rng([] if self._device.type == "cpu" else [self._device]):
            torch.set_rng_state(_tensor_of(states[0]))
            if self._device.type == "cuda":
                torch.cuda.set_rng_state(_tensor_of(states[1]), self._device)
            self._step(trains, taken.batch, taken.number)
        return _gradients(trains)


def _states(device: torch.device) -> tuple[bytes, ...]:
    """Return the states of torch's generators on the CPU and on a CUDA device.

    A tensor of them, alive while a step is taken, would be a part of the step's peak.
    """
    states = [torch.get_rng_state(), *([torch.cuda.get_rng_state(device)] if device.type == "cuda" else [])]
    return tuple(state.numpy().tobytes() for state in states)


def _tensor_of(state: bytes) -> Tensor:
    return torch.frombuffer(bytearray(state), dtype=torch.uint8)


def _trained(trains: Trains) -> list[Tensor]:
    """Return all that the optimiser trains."""
    return [parameter for group in trains.optimizer.param_groups for parameter in group["params"]]


def _tiny(group: Mapping[str, Any]) -> float:
    """Return the rate at which a group of parameters moves by its last digits."""
    largest = max((float(value.detach().abs().max()) for value in group["params"] if value.numel()), default=0.0)
    return max(OF_THE_RATE * float(group["lr"]), OF_THE_LARGEST * largest)


def _set_rates(trains: Trains, rates: Sequence[float]) -> None:
    for group, rate in zip(trains.optimizer.param_groups, rates, strict=True):
        group["lr"] = rate


def _gradients(trains: Trains) -> list[Tensor]:
    """Return copies of the gradients of all that the optimiser trains, float64; zeros where there is none."""
    return [
        torch.zeros_like(value, dtype=torch.float64) if value.grad is None else value.grad.detach().double()
        for value in _trained(trains)
    ]


def _norm(gradients: Sequence[Tensor]) -> float:
    return math.sqrt(sum(float(gradient.square().sum()) for gradient in gradients))


def _distance(first: Sequence[Tensor], second: Sequence[Tensor]) -> float:
    return _norm([left - right for left, right in zip(first, second, strict=True)])


def _require_each(found: Sequence[Tensor], copies: Sequence[Sequence[Tensor]]) -> None:
    """Raise Incorrect where a parameter has no gradient, and a part of the whole gradient in every copy's step."""
    whole = min(_norm(copied) for copied in copies)
    for number, gradient in enumerate(found):
        least = min(float(copied[number].norm()) for copied in copies)
        if least > NEGLIGIBLE * whole and float(gradient.norm()) < LEAST_GRADIENT * least:
            raise Incorrect(f"trained parameter {number} has no gradient in a timed step, where others have one")


def _require_alike(found: Sequence[Tensor], copies: Sequence[Sequence[Tensor]]) -> None:
    """Raise Incorrect where gradients are not like those of several noisy steps on the same batch."""
    _require_each(found, copies)
    usual = max(_from_mean(copied, [other for other in copies if other is not copied]) for copied in copies)
    distance = _from_mean(found, copies)
    if not distance <= FURTHER * usual:
        raise Incorrect(
            f"the gradients of a step are {distance / max(usual, 1e-30):.2g} times as far from the mean of those that "
            "an untouched copy of the model gets from the same batch as any of these"
        )


def _from_mean(gradients: Sequence[Tensor], others: Sequence[Sequence[Tensor]]) -> float:
    """Return the distance of gradients from the mean of others."""
    means = [torch.stack(same).mean(0) for same in zip(*others, strict=True)]
    return _distance(gradients, means)


ItemT = TypeVar("ItemT")


class Untouched(Generic[ItemT]):
    """A copy of an item that is taken by ``refresh``, before the first timed call; a call returns a copy of that."""

    def __init__(self, item: ItemT) -> None:
        self._item = item
        self._copy: ItemT | None = None

    def refresh(self) -> None:
        """Copy the item at the first call."""
        if self._copy is None:
            self._copy = deep_copy(self._item)

    def __call__(self) -> ItemT:
        """Return another copy, which nobody has called."""
        self.refresh()
        assert self._copy is not None
        return deep_copy(self._copy)


class RepeatedPrediction(Generic[BatchT]):
    """A timed prediction: each call predicts a fresh batch. ``verify`` compares it with ``expected`` of that batch.

    ``before`` is what an untouched copy predicts in the state that it had before the first call, by default what is
    ``expected``. It must predict the same, later, of the batch that ``refresh`` asked it for.
    """

    def __init__(
        self,
        fresh: Callable[[], BatchT],
        predict: Callable[[BatchT], Tensor],
        expected: Callable[[BatchT], Tensor],
        *,
        tolerance: float = OUTPUTS_DIFFER,
        before: Callable[[BatchT], Tensor] | None = None,
    ) -> None:
        self._fresh = fresh
        self.predict = predict
        self._expected = expected
        self._before = before or expected
        self._tolerance = tolerance
        self._early: tuple[BatchT, Tensor] | None = None

    def refresh(self) -> None:
        """Ask a copy for a prediction, at the first call: before any prediction is timed."""
        if self._early is None:
            batch = copy.deepcopy(self._fresh())
            self._early = batch, self._before(batch).clone()

    def __call__(self) -> tuple[BatchT, Tensor]:
        """Return a fresh batch and its prediction."""
        batch = self._fresh()
        return batch, self.predict(batch)

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
        if self._early is not None:
            asked, answer = self._early
            what = "what a copy of the model that nobody has called predicts now"
            require_close(self._before(asked), answer, tolerance=self._tolerance, what=what)
