"""Several seeds and trials of one technique in one process, whose steps are recorded once and then repeated.

Each case is adapted and trained as it is alone, on its own model, data and generators, one after the other. Its first
step is taken as alone and recorded, the later ones are repetitions of the recording, the last one is taken in both
ways: losses and gradients of the two ways must be the same bits. What is not raises `harness.api.CannotStack`, and is
then trained without a recording.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from harness.api import CannotStack
from harness.judge import training
from harness.judge.generators import GlobalGenerators
from harness.judge.remembered import remembered
from harness.judge.replay import Buffers, Program, Update, recorded
from harness.judge.training import Batch


@dataclass(frozen=True, kw_only=True)
class Training:
    """A model in training: its optimiser, its loss, and what its technique may draw from and remember."""

    model: nn.Module
    optimizer: torch.optim.Optimizer
    loss: Callable[[nn.Module, Batch], Tensor]
    max_grad_norm: float
    steps: int
    draw: torch.Generator
    technique: object


class RepeatedSteps:
    """The steps of one training, each called with its batch; the loss before it is returned, a detached scalar.

    ``watched`` says whether to look for changes in what the technique and the model remember.
    """

    def __init__(self, given: Training, buffers: Buffers, *, watched: bool) -> None:
        self._given = given
        self._buffers = buffers
        self._watched = watched
        self._parameters = training.trained(given.optimizer)
        self._update = Update(given.optimizer)
        self._number = 0

    def __call__(self, batch: Batch) -> Tensor:
        """Take the next step. Raises CannotStack where its repetition does not give the bits of the step itself."""
        self._number += 1
        expected = self._taken(batch) if self._number in (1, self._given.steps) else None
        if self._number == 1:
            self._batch = {name: value.clone() for name, value in batch.items()}
            self._program = self._recorded()
        for name, value in batch.items():
            self._batch[name].copy_(value)
        self._program()
        if expected is not None:
            self._require_equal(expected)
        loss, *gradients = self._program.results
        for parameter, gradient in zip(self._trains, gradients, strict=True):
            parameter.grad = gradient
        self._update()
        return loss

    def _taken(self, batch: Batch) -> list[Tensor]:
        """Return the loss of a batch and the gradients, without the optimiser's part of the step."""
        given = self._given
        loss = training.gradients(
            given.model, given.optimizer, batch, loss=given.loss, max_grad_norm=given.max_grad_norm
        )
        self._trains = [parameter for parameter in self._parameters if parameter.grad is not None]
        return [loss, *(parameter.grad for parameter in self._trains if parameter.grad is not None)]

    def _recorded(self) -> Program:
        """Return the program of a step. Raises CannotStack where the step leaves a trace."""
        generators = GlobalGenerators(str(next(iter(self._batch.values())).device))
        drawn = self._given.draw.get_state()
        before = self._remembered()
        program = recorded(lambda: self._taken(self._batch), self._buffers)
        if not torch.equal(self._given.draw.get_state(), drawn):
            raise CannotStack("its step draws from the task's generator")
        generators.require_untouched()
        if self._remembered() != before:
            raise CannotStack("its step changes what the technique or the model remembers")
        return program

    def _remembered(self) -> list[object]:
        return remembered(self._given.technique, self._given.model) if self._watched else []

    def _require_equal(self, expected: Sequence[Tensor]) -> None:
        found = self._program.results
        if not expected[0].isfinite():
            return  # the training ends with this loss
        if len(found) != len(expected) or not all(map(torch.equal, found, expected)):
            raise CannotStack(f"step {self._number} gives other numbers when it is repeated from a recording")
