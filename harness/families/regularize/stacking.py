"""Several seeds of one technique as one batched model, whose numbers are those of each seed alone.

Each seed keeps a model, a technique and generators of its own, made as they are without stacking; another trial, with
other values of the technique's parameters, is one more seed. Only the plain linear layers are computed together: their
weights lie in one tensor ``(seeds, out, in)``, of which each model's parameters are views, so that whatever a technique
does to its own model's weights holds for the batch. Every other module is applied seed by seed. What cannot be done so
without changing a number raises `harness.api.CannotStack`, and is then done seed by seed.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import torch
from torch import Tensor, nn

from harness.api import CannotStack
from harness.families.regularize.contract import RegularizeTechnique
from harness.families.regularize.models import CharacterMlp, Hidden, Mlp
from harness.families.regularize.stacking_checks import (
    Structure,
    altered,
    hooked,
    require_equal_products,
    require_one_way,
)
from harness.families.regularize.training import Problem, Trained, epoch_mean
from harness.judge import training
from harness.judge.generators import GlobalGenerators
from harness.judge.seeds import generator

CONTAINERS: Final = (Mlp, Hidden, CharacterMlp, nn.ModuleList)
"""Modules that only hand on what others compute, whatever dimensions come before the last ones."""

ROUNDED: Final = "products of seeds trained together may differ from those of a seed alone by rounding"
"""The note on seeds whose numbers are not bit for bit those of each alone."""


class BatchedLinear(torch.autograd.Function):
    """``x W^T + b`` for every seed, in the very products that a linear layer alone would compute."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        """Return outputs ``(seeds, n, out)`` of ``x`` ``(seeds, n, in)`` with weights ``(seeds, out, in)``."""
        ctx.save_for_backward(x, weight)
        return torch.baddbmm(bias.unsqueeze(1), x, weight.transpose(1, 2))

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor, Tensor]:
        """Return the gradients of all three arguments, None for inputs that need none."""
        x, weight = ctx.saved_tensors
        (gradient,) = gradients
        inputs = torch.bmm(gradient, weight) if ctx.needs_input_grad[0] else None
        return inputs, torch.bmm(gradient.transpose(1, 2), x), gradient.sum(1)


class StackedLinear(nn.Module):
    """The linear layers of all seeds, whose own parameters become views of the batched ones."""

    def __init__(self, layers: Sequence[nn.Linear]) -> None:
        super().__init__()
        weights = [layer.weight for layer in layers]
        biases = [layer.bias for layer in layers]
        self.leaves = [_together(weights), _together(biases)]
        self.rounded = False
        self._checked: set[int] = set()

    def forward(self, x: Tensor) -> Tensor:
        """Return ``(seeds, n, out)`` of ``(seeds, n, in)``; the first call of each n is checked against the layers."""
        weight, bias = (leaf.batched for leaf in self.leaves)
        if x.shape[1] not in self._checked:
            self.rounded |= require_equal_products(_batched_linear, x, weight, bias)
            self._checked.add(x.shape[1])
        return _batched_linear(x, weight, bias)


def _batched_linear(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    result: Tensor = BatchedLinear.apply(x, weight, bias)  # type: ignore[no-untyped-call]
    return result


class PerSeed(nn.Module):
    """One module a seed, applied to that seed's part; kept in a plain list, since they belong to their models."""

    def __init__(self, modules: Sequence[nn.Module]) -> None:
        super().__init__()
        self.own = list(modules)

    def forward(self, x: Tensor) -> Tensor:
        """Return the stacked outputs of the modules for ``x`` ``(seeds, ...)``."""
        return torch.stack([module(part) for module, part in zip(self.own, x.unbind(0), strict=True)])


@dataclass(frozen=True, kw_only=True)
class Leaf:
    """A parameter of all seeds: one tensor to compute with, and each model's view of it."""

    batched: Tensor
    views: Sequence[Tensor]

    def hand_out(self) -> None:
        """Add to each view its part of the gradient, beside that of the technique's own loss."""
        assert self.batched.grad is not None
        for view, gradient in zip(self.views, self.batched.grad.unbind(0), strict=True):
            view.grad = gradient if view.grad is None else view.grad + gradient
        self.batched.grad = None


def _together(parameters: Sequence[Tensor]) -> Leaf:
    batched = torch.stack([parameter.detach() for parameter in parameters]).requires_grad_()
    for parameter, part in zip(parameters, batched.detach().unbind(0), strict=True):
        parameter.data = part
    return Leaf(batched=batched, views=parameters)


def stacked(models: Sequence[nn.Module]) -> nn.Module:
    """Return one module that computes ``(seeds, n, ...)`` as each of the models computes its ``(n, ...)``.

    Raises CannotStack for a container with tensors of its own.
    """
    first = models[0]
    kind = type(first)
    plain = all(type(model) is kind and not altered(model) for model in models)
    if plain and kind in (nn.Identity, nn.ReLU):
        return first
    if plain and kind is nn.Linear and _alike(models):
        return StackedLinear([model for model in models if isinstance(model, nn.Linear)])
    if plain and kind in CONTAINERS:
        if first._parameters or first._buffers:
            raise CannotStack(f"{kind.__name__} holds tensors of its own")
        together = copy.copy(first)
        together._modules = {
            name: stacked([model.get_submodule(name) for model in models]) for name, _ in first.named_children()
        }
        return together
    return PerSeed(models)


def _alike(layers: Sequence[nn.Module]) -> bool:
    """Return whether all are trainable linear layers of one shape, without hooks on their parameters."""
    shapes = set()
    for layer in layers:
        if not isinstance(layer, nn.Linear) or layer.bias is None:
            return False
        if hooked(layer.weight) or hooked(layer.bias) or not (layer.weight.requires_grad and layer.bias.requires_grad):
            return False
        shapes.add(layer.weight.shape)
    return len(shapes) == 1


class _Given:
    """The ``forward`` that a technique's loss calls, which returns logits computed for all seeds together.

    The loss must call it once, with the model and inputs that it was given, and must not draw before: without stacking,
    its slots draw during the call. Raises CannotStack otherwise.
    """

    def __init__(self, model: nn.Module, inputs: Tensor, logits: Tensor, drawn: Callable[[], bool]) -> None:
        self._model = model
        self._inputs = inputs
        self._logits: Tensor | None = logits
        self._drawn = drawn

    def __call__(self, model: nn.Module, inputs: Tensor) -> Tensor:
        if self._logits is None:
            raise CannotStack("its loss passes through the model more than once")
        if model is not self._model or inputs is not self._inputs:
            raise CannotStack("its loss passes something else than the batch through the model")
        if self._drawn():
            raise CannotStack("its loss draws before it passes through the model")
        logits, self._logits = self._logits, None
        return logits

    def require_asked(self) -> None:
        """Raise CannotStack where the loss did not call it: without stacking, the slots would then draw nothing."""
        if self._logits is not None:
            raise CannotStack("its loss does not pass through the model")


class StackedStepper:
    """The optimiser steps of all seeds together."""

    def __init__(
        self, techniques: Sequence[RegularizeTechnique], trained: Sequence[Trained], draws: Sequence[torch.Generator]
    ) -> None:
        self._techniques = techniques
        self._models = [training_state.model for training_state in trained]
        self._draws = draws
        self._together = stacked(self._models)
        self._layers = [module for module in self._together.modules() if isinstance(module, StackedLinear)]
        self._leaves = [leaf for layer in self._layers for leaf in layer.leaves]
        if not self._leaves:
            raise CannotStack("no layer could be computed together")
        self.structure = Structure(self._models)
        groups = _merged([training_state.optimizer for training_state in trained])
        self._optimizer = training.adamw(groups, weight_decay=0.0)
        self._parameters = [parameter for group in groups for parameter in group["params"]]

    @property
    def rounded(self) -> bool:
        """Whether products differ by rounding from those of each seed alone, as they may on an accelerator."""
        return any(layer.rounded for layer in self._layers)

    def __call__(self, batches: Sequence[tuple[Tensor, Tensor]], number: int) -> list[Tensor]:
        """Take step ``number`` (from 0) on each seed's batch and return the losses before it, detached scalars."""
        for parameter in self._parameters:
            parameter.grad = None
        batches = [technique.batch(*batch) for technique, batch in zip(self._techniques, batches, strict=True)]
        inputs = [features for features, _ in batches]
        if len({(features.shape, features.dtype) for features in inputs}) > 1:
            raise CannotStack("its batches differ in shape")
        logits = self._together(torch.stack(inputs)).unbind(0)
        losses = [self._loss(index, batch, own) for index, (batch, own) in enumerate(zip(batches, logits, strict=True))]
        if number == 0:
            for index, loss in enumerate(losses):
                require_one_way(loss, [leaf.views[index] for leaf in self._leaves])
        torch.autograd.backward(losses)
        for leaf in self._leaves:
            leaf.hand_out()
        self._each("before_update", number)
        self._optimizer.step()
        self._each("after_update", number)
        return [loss.detach() for loss in losses]

    def _loss(self, index: int, batch: tuple[Tensor, Tensor], logits: Tensor) -> Tensor:
        model, draw = self._models[index], self._draws[index]
        before = draw.get_state()
        given = _Given(model, batch[0], logits, lambda: not torch.equal(before, draw.get_state()))
        loss = self._techniques[index].loss(model, *batch, given)
        given.require_asked()
        return loss

    def _each(self, call: str, number: int) -> None:
        for technique, model in zip(self._techniques, self._models, strict=True):
            getattr(technique, call)(model, number)


def _merged(optimizers: Sequence[torch.optim.Optimizer]) -> list[dict[str, Any]]:
    """Return the parameter groups of all seeds, those with equal options merged."""
    merged: list[dict[str, Any]] = []
    for group in (group for optimizer in optimizers for group in optimizer.param_groups):
        settings = {key: value for key, value in group.items() if key != "params"}
        same = [candidate for candidate in merged if all(candidate[key] == value for key, value in settings.items())]
        if not same:
            same = [{**settings, "params": []}]
            merged += same
        same[0]["params"] += group["params"]
    return merged


def fit_stacked(
    techniques: Sequence[RegularizeTechnique], trained: Sequence[Trained], problems: Sequence[Problem]
) -> tuple[str, ...]:
    """Train all seeds as `harness.families.regularize.training.fit` trains each of them; return notes.

    Raises CannotStack where the numbers would differ, or where a seed's loss is not finite, which is that seed's alone.
    """
    if any(technique.validates for technique in techniques):
        raise CannotStack("it looks at validation examples after every epoch, and may end one seed before another")
    stepper = StackedStepper(techniques, trained, [problem.task.generator for problem in problems])
    settings = problems[0].settings
    orders = [generator(problem.seed, "order") for problem in problems]
    generators = GlobalGenerators(str(problems[0].parts.train.inputs.device))
    number = 0
    for epoch in range(settings.epochs):
        losses: list[list[Tensor]] = [[] for _ in problems]
        for indices in zip(
            *(_batches(problem, order, settings.batch_size) for problem, order in zip(problems, orders, strict=True)),
            strict=True,
        ):
            batches = [
                (problem.parts.train.inputs[chosen], problem.parts.train.targets[chosen])
                for problem, chosen in zip(problems, indices, strict=True)
            ]
            for own, loss in zip(losses, stepper(batches, number), strict=True):
                own.append(loss)
            number += 1
        stepper.structure.require_unchanged()
        generators.require_untouched()
        for state, own in zip(trained, losses, strict=True):
            try:
                state.losses.append(epoch_mean(own, epoch))
            except FloatingPointError as error:
                raise CannotStack(str(error)) from error
    with torch.no_grad():
        for technique, state in zip(techniques, trained, strict=True):
            technique.finish(state.model)
    return (ROUNDED,) if stepper.rounded else ()


def _batches(problem: Problem, order: torch.Generator, size: int) -> Sequence[Tensor]:
    data = problem.parts.train
    return torch.split(torch.randperm(len(data), generator=order).to(data.targets.device), size)
