"""The protocol of the contract ``route``, for any data and model: train, predict, measure the balance."""

from __future__ import annotations

import statistics
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar, Final

import torch
from torch import Tensor

from harness.api import CaseContext, Json, OpenCase, Outcome, Phase
from harness.families.route import checks as route_checks
from harness.families.route.contract import Everything, RouteTask, RouteTechnique, Tokens
from harness.families.route.experts import Passage, RoutedLayer
from harness.families.route.models import Batch, RoutedModel
from harness.families.route.settings import Settings
from harness.families.route.training import (
    Data,
    Problem,
    balance,
    curves,
    features_of,
    fit,
    parameters,
    quality,
    relief,
    start,
    step,
    testing,
)
from harness.judge import training
from harness.judge.fresh import FreshBatches
from harness.judge.perturbation import perturb_start
from harness.judge.seeds import generator, global_seed, seed_of
from harness.judge.settings import read_settings
from harness.judge.timed import RepeatedPrediction, RepeatedStep

ROUTING: Final = "routing_"
"""Prefix of the name of a phase's routing probe."""


class RouteWorkload(ABC):
    """A `harness.api.Workload` for one kind of data and one model.

    The seed determines data, the model's start and the order of batches for every technique alike: each is drawn from a
    generator of its own, and torch's global one is left to the technique.
    """

    vocabulary: ClassVar[int]

    @abstractmethod
    def data(self, settings: Settings, seed: int, cache: Path, device: str) -> tuple[Data, tuple[str, ...]]:
        """Return the batches of a seed, and notes on their source."""

    @abstractmethod
    def build(self) -> RoutedModel:
        """Return a randomly initialised model without its routed layers, drawn from torch's global generator."""

    def check_settings(self, settings: Mapping[str, Json]) -> None:
        """Raise UsageError for settings that are unknown or out of range."""
        read_settings(Settings, settings)

    def prepare(self, context: CaseContext) -> None:  # noqa: B027  the default does nothing
        """Prepare data that all cases share; by default none."""

    def gate(self, technique: RouteTechnique, model: RoutedModel, batch: Batch, seed: int) -> None:  # noqa: B027
        """Raise Incorrect or NotApplicable where a model cannot be scored on these data; by default never."""

    def remarks(self, model: RoutedModel, batch: Batch, seed: int) -> Sequence[str]:
        """Return notes on a trained model for the report."""
        del model, batch, seed
        return ()

    def evaluate(self, technique: RouteTechnique, context: CaseContext) -> Outcome:
        """Train, predict and measure. Raises FloatingPointError where a training loss is not finite."""
        with global_seed(context.seed, context.device):
            with context.phase("load"):
                problem = self.problem(context)
            with context.phase("init"):
                trained = start(technique, problem)
            data, model, seed = problem.data, trained.model, problem.seed
            with context.phase("check"):
                if not technique.causal:  # what will be refused need not be trained
                    self.gate(technique, model, data.validation[0], seed)
                removed = relief(model, data.validation[0], seed)
            perturb_start(training.trained(trained.optimizer), context)
            with context.phase("train"):
                fit(trained, problem)
            with context.phase("test"):
                self.gate(technique, model, data.validation[0], seed)
                remarks = self.remarks(model, data.validation[0], seed)
                validation = quality(model, data.validation, seed)
                test = quality(model, data.test, seed)
        return Outcome(
            metrics={
                "accuracy": test.accuracy,
                "loss": test.loss,
                "val_accuracy": validation.accuracy,
                "val_loss": validation.loss,
                **balance(test),
                "relief": removed,
                **parameters(model, test),
            },
            series=curves(trained),
            notes=(*problem.notes, *remarks),
        )

    def open(self, technique: RouteTechnique, context: CaseContext) -> OpenCase:
        """Prepare a training step and the prediction of one batch, with the routing of each as probes."""
        with global_seed(context.seed, context.device):
            problem = self.problem(context)
            with context.phase("init"):
                trained = start(technique, problem)
        batch = problem.data.train()
        fresh, seed = FreshBatches(vars(batch)), problem.seed
        train = RepeatedStep(trained, fresh, lambda trains, tokens, _: step(trains, Batch(**tokens)))
        model, untouched, before = trained.model, train.later(), train.later(as_it_was=True)
        infer = RepeatedPrediction(
            fresh,
            lambda tokens: _predicted(model, tokens, seed),
            lambda tokens: _predicted(untouched().model, tokens, seed),
            before=lambda tokens: _predicted(before().model, tokens, seed),
        )
        phases = {
            "train": Phase(run=train, samples=len(batch), verify=train.verify, refresh=train.refresh),
            "infer": Phase(run=infer, samples=len(batch), verify=infer.verify, refresh=infer.refresh),
        }
        return OpenCase(
            phases=phases,
            probes={
                f"{ROUTING}{name}": Phase(run=_Routing(trained.model, batch, name), samples=len(batch))
                for name in phases
            },
            figures=_routing_shares,
        )

    def check(self, technique: RouteTechnique, context: CaseContext) -> None:
        """Check the contract on this workload's model and data. Raises Incorrect at the first failure."""
        with global_seed(context.seed, context.device):
            problem = self.problem(context)
            trained = route_checks.check(technique, problem)
            self.gate(technique, trained.model, problem.data.validation[0], problem.seed)

    def problem(self, context: CaseContext) -> Problem:
        """Return the data, the initialised model and the task of a case. Raises UsageError for invalid settings."""
        settings = read_settings(Settings, context.settings)
        data, notes = self.data(settings, context.seed, context.cache, context.device)
        torch.manual_seed(seed_of(context.seed, "model"))
        model = self.build().to(context.device)
        task = RouteTask(
            width=model.width,
            vocabulary=self.vocabulary,
            layers=model.layers,
            experts=settings.experts,
            hidden=settings.hidden,
            active=settings.active,
            tokens=settings.batch_size,
            generator=generator(context.seed, "technique"),
        )
        return Problem(model=model, task=task, data=data, settings=settings, seed=context.seed, notes=notes)


def _predicted(model: RoutedModel, tokens: Mapping[str, Tensor], seed: int) -> Tensor:
    """Return the logits of one batch."""
    with testing(model, seed):
        logits: Tensor = model(Batch(**tokens), [])
    return logits


class _Routing:
    """The timed routing of a step or a prediction, without the model, and with experts that return their inputs.

    It comprises the routers, the dispatch to a buffer grouped by expert, the weighted sum of what comes back, auxiliary
    losses, updates, and in training the gradients of all that.
    """

    def __init__(self, model: RoutedModel, batch: Batch, phase: str) -> None:
        self._training = phase == "train"
        with torch.no_grad():
            self._routed = [
                (layer, tokens)
                for layer, tokens in zip(model.routed(), features_of(model, batch), strict=True)
                if not isinstance(layer.router(tokens), Everything)
            ]

    def __call__(self) -> None:
        with torch.set_grad_enabled(self._training):
            for layer, tokens in self._routed:
                layer.router.train(self._training)
                self._pass(layer, tokens)

    def _pass(self, layer: RoutedLayer, tokens: Tokens) -> None:
        trace: list[Passage] = []
        features = tokens.features.detach().requires_grad_(self._training)
        output = layer(Tokens(features=features, ids=tokens.ids), trace, compute=torch.mul)
        if not self._training:
            return
        loss = output.sum() if trace[0].loss is None else output.sum() + trace[0].loss
        loss.backward()
        layer.router.zero_grad(set_to_none=True)
        with torch.no_grad():
            layer.router.after_step(trace[0].load)


def _routing_shares(seconds: Mapping[str, Sequence[float]]) -> dict[str, float]:
    """Return the share of routing in a training step and in a prediction, per cent: medians over rounds."""
    return {
        f"{name}_routing_share": 100
        * statistics.median(
            routing / whole for routing, whole in zip(seconds[f"{ROUTING}{name}"], seconds[name], strict=True)
        )
        for name in ("train", "infer")
    }
