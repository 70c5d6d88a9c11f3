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
"""Return the logits ``(n, classes)`` of a model for a batch's inputs, in the model's current mode."""


@dataclass(frozen=True, kw_only=True)
class RegularizeTask:
    """What a technique may know of the task, and the dotted names of the places of the model where it may act.

    Slots are modules that return their input, to be replaced through ``model.set_submodule(name, module)``; most are
    ``nn.Identity`` and see tensors ``(batch, ..., width)``. A place that the model lacks is an empty tuple; raise
    `harness.api.NotApplicable` where there is nothing to act on. torch's global generator is the technique's own: the
    judge seeds it from the case before ``attach`` and before every prediction, and draws nothing from it.
    """

    inputs: Sequence[str]
    """Slots before the first layer, on what enters it: features, or embedded tokens where the inputs are integers."""

    preactivations: Sequence[str]
    """Slots between a hidden layer and its activation, where normalisation layers go."""

    hidden: Sequence[str]
    """Slots after each hidden activation."""

    maps: Sequence[str]
    """Those of ``hidden`` that see feature maps ``(batch, channels, height, width)``."""

    activations: Sequence[str]
    """The ``nn.ReLU`` modules, one for each of ``preactivations``, in the same order."""

    linears: Sequence[str]
    """The ``nn.Linear`` modules that end in a hidden activation, in order of depth.

    Each may be replaced by a module with the same forward signature.
    """

    output: str
    """The ``nn.Linear`` that gives the logits; may be replaced by a module with the same forward signature."""

    branches: Sequence[str]
    """`Residual` modules, ``x + slot(body(x))``, in order of depth; their ``slot`` or the whole may be replaced."""

    recurrent: Sequence[str]
    """`Recurrent` modules: an ``nn.LSTMCell`` named ``cell``, applied step by step, with four slots.

    ``on_input`` and ``on_state`` are `StepSlot` modules, called with ``(x, step)`` on tensors ``(batch, width)``;
    ``carry_hidden`` and ``carry_cell`` are `Carry` modules, called with ``(previous, new, step)``. ``step`` counts from
    0 in every sequence.
    """

    classes: int
    """Number of classes."""

    examples: int
    """Number of training examples."""

    batch_size: int
    """Examples of a batch; the last batch of an epoch may be smaller."""

    epochs: int
    """Passes over the training examples."""

    steps: int
    """Optimiser steps of the whole training."""

    generator: torch.Generator
    """A generator on the CPU, seeded from the case, for the technique alone."""


@runtime_checkable
class RegularizeTechnique(Protocol):
    """A method of regularisation. One object serves one training; a step calls the methods in the order below.

    The gate trains for eight steps on the workload's own model. It raises `harness.api.Incorrect` where an invariant is
    broken: beside those below, where a module at a slot turns a nonzero input into a zero (drops it), no gradient may
    reach that input, and in these steps every parameter that trains must get a gradient, and change.
    ``forward`` is a function of model and inputs that returns logits ``(n, classes)``.
    """

    mean_preserving: bool
    """Whether the mean of the training output equals the evaluation output at every place where a module was replaced.

    Where true, the gate compares the mean of 300 passes with the evaluation output, within 4 standard errors.
    """

    validates: bool
    """Whether `observe` is called with the loss on validation examples after every epoch."""

    @property
    def acted(self) -> bool:
        """Whether the technique has had any effect, such as a value dropped or clipped; read after training."""

    @property
    def curves(self) -> Mapping[str, Sequence[float]]:
        """What the technique learned or counted, by name, for the report; read after training."""

    def neutral(self) -> RegularizeTechnique | None:
        """Return a new technique of this kind at rate or strength 0, or None where no setting is the identity.

        The gate requires that its training losses are bit for bit those without a technique, and its predicted
        log-probabilities the same within 1e-5.
        """

    def attach(self, model: nn.Module, task: RegularizeTask) -> nn.Module:
        """Modify the freshly initialised model, in place or wrapped, and return it.

        Raises `harness.api.NotApplicable` where the model has no place to act on.
        """

    def parameter_groups(self, model: nn.Module, lr: float) -> list[dict[str, Any]]:
        """Return AdamW's parameter groups: dictionaries with ``params``, ``lr`` and other options of AdamW.

        ``weight_decay`` is 0 where a group states none. The gate requires that the groups list each parameter of
        ``model`` that requires a gradient exactly once, and no other tensor. See `all_parameters`.
        """

    def batch(self, inputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Return the inputs and targets to train on.

        ``inputs`` are float32 ``(batch, ...)`` or int64 tokens ``(batch, time)``; ``targets`` are int64 classes
        ``(n,)``, and class probabilities ``(n, classes)`` may be returned. ``n`` is the length of the batch, times that
        of its sequences where each position has a class. Raises `harness.api.NotApplicable` where inputs are integers
        and the technique would mix them.
        """

    def loss(self, model: nn.Module, inputs: Tensor, targets: Tensor, forward: Forward) -> Tensor:
        """Return the scalar to minimise for what `batch` returned, with a gradient.

        `cross_entropy` of one forward pass is the loss without a technique. The model is in training mode.
        """

    def before_update(self, model: nn.Module, step: int) -> None:
        """Change the gradients, if need be: called after the backward pass, before optimiser step ``step`` (from 0)."""

    def after_update(self, model: nn.Module, step: int) -> None:
        """Constrain weights or advance schedules, if need be: called after optimiser step ``step`` (from 0)."""

    def observe(self, model: nn.Module, epoch: int, validation_loss: float) -> bool:
        """Return whether training ends: called after each epoch (from 0) if ``validates``.

        ``validation_loss`` is the mean negative log-likelihood in nats; the model is in evaluation mode.
        """

    def finish(self, model: nn.Module) -> None:
        """Restore the best weights or fold scales into them: called once after training, under ``torch.no_grad``."""

    def predict(self, model: nn.Module, inputs: Tensor, forward: Forward) -> Tensor:
        """Return log-probabilities ``(n, classes)``, under ``torch.no_grad``.

        `predict_once` is the prediction of one forward pass. The model is in evaluation mode and has to be left in it,
        with parameters and buffers unchanged. The gate requires that probabilities sum to 1, and the same bits in a
        second call: draw from torch's global generator, which the judge seeds before every call, or from a generator
        seeded anew in each.
        """


class Residual(nn.Module):
    """A residual branch ``x + slot(body(x))``. ``slot`` is an ``nn.Identity``; the whole may be replaced as well."""

    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        self.body = body
        self.slot: nn.Module = nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """Return a tensor of the shape of ``x``, any shape that ``body`` takes and gives."""
        added: Tensor = x + self.slot(self.body(x))
        return added


class StepSlot(nn.Module):
    """A slot inside a recurrence: ``step`` counts from 0 in every sequence, so 0 is when to draw a new mask."""

    def forward(self, x: Tensor, step: int) -> Tensor:  # noqa: ARG002  what replaces it uses it
        """Return ``x`` ``(batch, width)`` as it is; what replaces the slot returns the same shape."""
        return x


class Carry(nn.Module):
    """The slot between two steps of a recurrent state; zoneout keeps part of ``previous`` here."""

    def forward(self, previous: Tensor, new: Tensor, step: int) -> Tensor:  # noqa: ARG002
        """Return the state of the next step, ``(batch, width)`` like the previous and the new state: ``new``."""
        return new


class Recurrent(nn.Module):
    """An LSTM of one layer over ``(batch, time, inputs)``, computed step by step, that returns the hidden states.

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
        """Return the hidden states ``(batch, time, width)``; the first step starts from zeros."""
        hidden = cell = x.new_zeros(x.shape[0], self.cell.hidden_size)
        states = []
        for step, entering in enumerate(x.unbind(1)):
            new_hidden, new_cell = self.cell(self.on_input(entering, step), (self.on_state(hidden, step), cell))
            hidden = self.carry_hidden(hidden, new_hidden, step)
            cell = self.carry_cell(cell, new_cell, step)
            states.append(hidden)
        return torch.stack(states, 1)


def cross_entropy(model: nn.Module, inputs: Tensor, targets: Tensor, forward: Forward) -> Tensor:
    """Return the mean cross-entropy of one forward pass in nats; targets are classes or probabilities."""
    return functional.cross_entropy(forward(model, inputs), targets)


def predict_once(model: nn.Module, inputs: Tensor, forward: Forward) -> Tensor:
    """Return the log-probabilities ``(n, classes)`` of one forward pass."""
    return forward(model, inputs).log_softmax(-1)


def all_parameters(model: nn.Module, lr: float) -> list[dict[str, Any]]:
    """Return one group of all parameters that require a gradient, without weight decay."""
    return [{"params": [parameter for parameter in model.parameters() if parameter.requires_grad], "lr": lr}]
