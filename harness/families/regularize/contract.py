"""The contract ``regularize``: what a technique may do to training so that a model generalises better.

The judge owns model, data, initialisation, optimiser, learning rate and order of batches; a technique says what
happens to activations, weights, branches and recurrent states, to the batch, the loss, the gradient, the weights
after a step, and how the trained model predicts. Whatever it does, the model's start and the batches stay the same.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn
from torch.nn import functional

Forward = Callable[[nn.Module, Tensor], Tensor]
"""Logits ``(n, classes)`` of a model for a batch's inputs, in the model's current mode."""


@dataclass(frozen=True, kw_only=True)
class RegularizeTask:
    """What a technique may know of the task, and the dotted names of the places of the model where it may enter.

    Slots are modules that do nothing, to be replaced through ``model.set_submodule(name, module)``. All but the
    last kind are ``nn.Identity`` and see tensors ``(batch, ..., width)``:

    - ``inputs``: before the first layer, on what enters it (features; embedded tokens where ``inputs`` are integers)
    - ``preactivations``: between a hidden layer and its activation, where norms go
    - ``hidden``: after each hidden activation
    - ``maps``: those of ``hidden`` that see feature maps ``(batch, channels, height, width)``
    - ``branches``: names of `Residual` modules, in order of depth
    - ``recurrent``: names of `Recurrent` modules, whose slots `StepSlot` and `Carry` know the time step

    ``activations`` are the names of the ``nn.ReLU`` modules, one for each of ``preactivations``. ``linears`` are the
    names of the ``nn.Linear`` modules that end in a hidden activation, in order of depth, and ``output`` that of the
    linear that gives the logits: both may be replaced by a module of the same forward signature. A place that the
    model lacks is an empty tuple; raise `harness.api.NotApplicable` where there is nothing to act on.

    ``examples`` counts training examples, ``batch_size`` those of a batch (the last of an epoch may be smaller),
    ``epochs`` and ``steps`` (in all) tell how long training goes on, ``classes`` how many there are. ``generator`` is
    on the CPU, seeded from the case and the technique's own. torch's global generator is the technique's own as well:
    the judge seeds it from the case before ``attach`` and before every prediction, and draws nothing from it.
    """

    inputs: Sequence[str]
    preactivations: Sequence[str]
    hidden: Sequence[str]
    maps: Sequence[str]
    activations: Sequence[str]
    linears: Sequence[str]
    output: str
    branches: Sequence[str]
    recurrent: Sequence[str]
    classes: int
    examples: int
    batch_size: int
    epochs: int
    steps: int
    generator: torch.Generator


@runtime_checkable
class RegularizeTechnique(Protocol):
    """What a technique of this contract builds. One object serves one training.

    ``mean_preserving``: whether, at every place where it replaced a module, the mean of the training output equals
    the evaluation output. ``validates``: whether it wants the loss on validation examples after every epoch.
    """

    mean_preserving: bool
    validates: bool

    @property
    def acted(self) -> bool:
        """Whether anything it does has had an effect, such as a value dropped or clipped; read after training."""

    @property
    def curves(self) -> Mapping[str, Sequence[float]]:
        """What it learned or counted, for the reader, by name; read after training."""

    def neutral(self) -> RegularizeTechnique | None:
        """A new technique of this kind at rate or strength 0, which must train bit for bit as if there were none.

        None where no setting is the identity.
        """

    def attach(self, model: nn.Module, task: RegularizeTask) -> nn.Module:
        """Enter the freshly initialised model (in place or wrapped) and return it."""

    def parameter_groups(self, model: nn.Module, lr: float) -> list[dict[str, Any]]:
        """AdamW's groups of all trainable parameters, each once; ``weight_decay`` is 0 where a group states none."""

    def batch(self, inputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """The batch to train on. ``targets`` are int64 classes ``(n,)``; probabilities ``(n, classes)`` may go out.

        ``n`` is the length of the batch, times that of its sequences where each position has a class. Inputs may
        be integers (tokens), which cannot be mixed: raise `harness.api.NotApplicable`.
        """

    def loss(self, model: nn.Module, inputs: Tensor, targets: Tensor, forward: Forward) -> Tensor:
        """The scalar to minimise, of what ``batch`` returned; `cross_entropy` of one forward where there is no more."""

    def before_update(self, model: nn.Module, step: int) -> None:
        """Called with the gradients in place, before the optimiser's step number ``step`` (from 0)."""

    def after_update(self, model: nn.Module, step: int) -> None:
        """Called after the optimiser's step number ``step`` (from 0): constraints on weights, schedules of rates."""

    def observe(self, model: nn.Module, epoch: int, validation_loss: float) -> bool:
        """Called after each epoch (from 0) if ``validates``, model in evaluation mode; true ends the training."""

    def finish(self, model: nn.Module) -> None:
        """Called once after the last step, under ``no_grad``: restore the best weights, fold a scale into them."""

    def predict(self, model: nn.Module, inputs: Tensor, forward: Forward) -> Tensor:
        """Log-probabilities ``(n, classes)``, under ``no_grad``; `predict_once` where there is nothing to average.

        The same answer every time: what is drawn at test time comes from torch's global generator, or from one
        seeded anew in each call. The model is in evaluation mode, and is left so.
        """


class Residual(nn.Module):
    """``x + slot(body(x))``, of one shape. ``slot`` is an ``nn.Identity``; the whole may be replaced as well."""

    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        self.body = body
        self.slot: nn.Module = nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """From any shape to the same."""
        added: Tensor = x + self.slot(self.body(x))
        return added


class StepSlot(nn.Module):
    """A slot inside a recurrence: ``step`` counts from 0 in every sequence, so 0 is when to draw a new mask."""

    def forward(self, x: Tensor, step: int) -> Tensor:  # noqa: ARG002  what replaces it uses it
        """From ``(batch, width)`` to the same."""
        return x


class Carry(nn.Module):
    """The slot where a recurrent state is handed on; zoneout keeps some of ``previous`` here."""

    def forward(self, previous: Tensor, new: Tensor, step: int) -> Tensor:  # noqa: ARG002
        """The state to go on with, from two of shape ``(batch, width)``."""
        return new


class Recurrent(nn.Module):
    """An LSTM of one layer over ``(batch, time, inputs)``, step by step, that gives the hidden states.

    Slots: ``on_input`` sees x_t and ``on_state`` h_(t-1) before they enter the ``cell`` (an ``nn.LSTMCell``);
    ``carry_hidden`` and ``carry_cell`` see the states of before and after it.
    """

    def __init__(self, inputs: int, width: int) -> None:
        super().__init__()
        self.cell = nn.LSTMCell(inputs, width)
        self.on_input: nn.Module = StepSlot()
        self.on_state: nn.Module = StepSlot()
        self.carry_hidden: nn.Module = Carry()
        self.carry_cell: nn.Module = Carry()

    def forward(self, x: Tensor) -> Tensor:
        """Hidden states ``(batch, time, width)``; the first step starts from zeros."""
        hidden = cell = x.new_zeros(x.shape[0], self.cell.hidden_size)
        states = []
        for step, entering in enumerate(x.unbind(1)):
            new_hidden, new_cell = self.cell(self.on_input(entering, step), (self.on_state(hidden, step), cell))
            hidden = self.carry_hidden(hidden, new_hidden, step)
            cell = self.carry_cell(cell, new_cell, step)
            states.append(hidden)
        return torch.stack(states, 1)


def cross_entropy(model: nn.Module, inputs: Tensor, targets: Tensor, forward: Forward) -> Tensor:
    """Mean cross-entropy of one forward in nats, a scalar; targets are classes or probabilities."""
    return functional.cross_entropy(forward(model, inputs), targets)


def predict_once(model: nn.Module, inputs: Tensor, forward: Forward) -> Tensor:
    """Log-probabilities ``(n, classes)`` of one forward."""
    return forward(model, inputs).log_softmax(-1)


def all_parameters(model: nn.Module, lr: float) -> list[dict[str, Any]]:
    """One group of all that trains, without weight decay."""
    return [{"params": [one for one in model.parameters() if one.requires_grad], "lr": lr}]
