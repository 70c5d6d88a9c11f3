"""The training loop of ``regularize``, which calls the technique at every point of a step."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.nn import functional

from harness.families.regularize.contract import RegularizeTask, RegularizeTechnique
from harness.families.regularize.data import Examples, Parts
from harness.families.regularize.settings import Settings
from harness.judge import training
from harness.judge.checks import groups_of, require_groups, require_model
from harness.judge.quality import quality as judge_quality
from harness.judge.seeds import generator, global_seed, seed_of


@dataclass(frozen=True, kw_only=True)
class Problem:
    """An initialised model with the data of a seed; a technique is given ``model`` and ``task`` only."""

    model: nn.Module
    task: RegularizeTask
    parts: Parts
    settings: Settings
    seed: int
    notes: tuple[str, ...] = ()


@dataclass(kw_only=True)
class Trained:
    """A model in training, with the mean training losses and, where measured, validation losses by epoch."""

    model: nn.Module
    optimizer: torch.optim.Optimizer
    losses: list[float] = field(default_factory=list)
    validation: list[float] = field(default_factory=list)


def forward(model: nn.Module, inputs: Tensor) -> Tensor:
    """Return the logits ``(n, classes)`` of a model for inputs ``(batch, ...)``."""
    logits: Tensor = model(inputs)
    return logits


def start(technique: RegularizeTechnique, problem: Problem) -> Trained:
    """Return the model with the technique attached, in training mode, and its optimiser.

    From here on torch's global generator is the technique's. Raises Incorrect where its parameter groups are not
    just what trains.
    """
    torch.manual_seed(seed_of(problem.seed, "technique"))
    model = require_model(technique.attach(problem.model, problem.task), "attach").train()
    groups = groups_of(technique.parameter_groups(model, problem.settings.lr))
    require_groups(model, [], groups)
    return Trained(model=model, optimizer=training.adamw(groups, weight_decay=0.0))


class Stepper:
    """The optimiser steps of one training."""

    def __init__(self, technique: RegularizeTechnique, trained: Trained) -> None:
        self.technique = technique
        self.model = trained.model
        self.optimizer = trained.optimizer
        self._parameters = [parameter for group in trained.optimizer.param_groups for parameter in group["params"]]

    def __call__(self, inputs: Tensor, targets: Tensor, number: int) -> Tensor:
        """Take step ``number`` (from 0) on a batch and return the loss before it, a detached scalar."""
        technique, model = self.technique, self.model
        for parameter in self._parameters:
            parameter.grad = None
        inputs, targets = technique.batch(inputs, targets)
        loss = technique.loss(model, inputs, targets, forward)
        loss.backward()  # type: ignore[no-untyped-call]
        technique.before_update(model, number)
        self.optimizer.step()
        technique.after_update(model, number)
        return loss.detach()


def fit(technique: RegularizeTechnique, trained: Trained, problem: Problem, *, steps: int | None = None) -> None:
    """Train for all epochs, until the technique stops training, or for ``steps``.

    Raises FloatingPointError after the first epoch with a loss that is not finite.
    """
    order = generator(problem.seed, "order")
    stepper = Stepper(technique, trained)
    data = problem.parts.train
    number = 0
    for epoch in range(problem.settings.epochs):
        indices = torch.randperm(len(data), generator=order).to(data.targets.device)
        losses = []
        for batch in torch.split(indices, problem.settings.batch_size):
            if number == steps:
                break
            losses.append(stepper(data.inputs[batch], data.targets[batch], number))
            number += 1
        if losses:
            trained.losses.append(epoch_mean(losses, epoch))
        if number == steps or (technique.validates and _observed(technique, trained, problem, epoch)):
            break
    with torch.no_grad():
        technique.finish(trained.model)


def epoch_mean(losses: list[Tensor], epoch: int) -> float:
    """Return the mean of an epoch's losses. Raises FloatingPointError where it is not finite."""
    value = torch.stack(losses).mean().item()
    if not math.isfinite(value):
        raise FloatingPointError(f"training loss is {value} in epoch {epoch + 1}")
    return value


def _observed(technique: RegularizeTechnique, trained: Trained, problem: Problem, epoch: int) -> bool:
    """Pass the validation loss to the technique and return whether training ends."""
    validation = problem.parts.validation
    found = predict(technique, trained.model, validation, problem.seed)
    trained.validation.append(functional.nll_loss(found, validation.targets).item())
    enough = technique.observe(trained.model.eval(), epoch, trained.validation[-1])
    trained.model.train()
    return enough


def predict(technique: RegularizeTechnique, model: nn.Module, examples: Examples, seed: int) -> Tensor:
    """Return log-probabilities ``(n, classes)``, with fixed random draws, and restore mode and generators."""
    before = model.training
    model.eval()
    try:
        with global_seed(seed_of(seed, "prediction"), str(examples.inputs.device)), torch.no_grad():
            return technique.predict(model, examples.inputs, forward)
    finally:
        model.train(before)


def quality(technique: RegularizeTechnique, model: nn.Module, problem: Problem) -> dict[str, float]:
    """Return losses and accuracies on training, validation and test examples, predicted together.

    Training accuracy is against the labels trained on, wrong ones included.
    """
    parts = {"train": problem.parts.train, "val": problem.parts.validation, "test": problem.parts.test}
    together = Examples(
        inputs=torch.cat([part.inputs for part in parts.values()]),
        targets=torch.cat([part.targets for part in parts.values()]),
    )
    sizes = [len(part) for part in parts.values()]
    found = predict(technique, model, together, problem.seed).split_with_sizes(sizes)
    targets = {name: part.targets for name, part in parts.items()}
    return judge_quality(dict(zip(parts, found, strict=True)), targets, functional.nll_loss)
