"""The protocol of the contract ``regularize``, for any data and model: train, predict, measure."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import ClassVar, Final

import torch
from torch import Tensor, nn

from harness.api import WARNING, CaseContext, Json, OpenCase, Outcome, Phase
from harness.families.regularize import checks
from harness.families.regularize.contract import RegularizeTask, RegularizeTechnique
from harness.families.regularize.data import Examples, Parts, divided, flipped
from harness.families.regularize.models import Slotted
from harness.families.regularize.settings import Settings
from harness.families.regularize.stacking import fit_stacked
from harness.families.regularize.training import Problem, Stepper, Trained, fit, predict, quality, start
from harness.judge import training
from harness.judge.cache import sources_of
from harness.judge.checks import TrainingWatch
from harness.judge.datasets import Dataset, cached
from harness.judge.fresh import FreshBatches
from harness.judge.generators import GlobalGenerators
from harness.judge.perturbation import perturb_start
from harness.judge.seeds import generator, global_seed, seed_of
from harness.judge.settings import read_settings, require_same
from harness.judge.timed import RepeatedPrediction, RepeatedStep

OVERFIT_GAP: Final = 2.0
"""Difference of training and test accuracy, in points, below which a model counts as not overfitted."""


class RegularizeWorkload(ABC):
    """A `harness.api.Workload` for one data set and one model.

    The seed determines the split, the wrong labels, the model's start and the order of batches, for every technique
    alike: each is drawn from a generator of its own, and torch's global one is left to the technique.
    """

    name: ClassVar[str]
    classes: ClassVar[int]

    def __init_subclass__(cls) -> None:
        """Compute the digest of the subclass's sources once, at import."""
        super().__init_subclass__()
        sources_of(cls.__module__)

    @abstractmethod
    def read(self) -> Dataset:
        """Return the data set, read from the library that provides it."""

    @abstractmethod
    def libraries(self) -> Mapping[str, str]:
        """Return the versions of the libraries that provide the data set."""

    @abstractmethod
    def examples(self, dataset: Dataset) -> Examples:
        """Return the whole data set in the shape and dtype of the model's inputs."""

    @abstractmethod
    def build(self) -> Slotted:
        """Return a randomly initialised model, drawn from torch's global generator."""

    def parts(self, dataset: Dataset, settings: Settings, draw: torch.Generator) -> Parts:
        """Return a random split; workloads whose examples are connected override it."""
        return divided(
            self.examples(dataset), draw, train=settings.train_examples, validation=settings.validation_examples
        )

    def check_settings(self, settings: Mapping[str, Json]) -> None:
        """Raise UsageError for settings that are unknown or out of range."""
        read_settings(Settings, settings)

    def prepare(self, context: CaseContext) -> None:
        """Read the data set if the cache lacks it."""
        self.dataset(context.cache)

    def evaluate(self, technique: RegularizeTechnique, context: CaseContext) -> Outcome:
        """Train, predict and measure. Raises FloatingPointError at an epoch whose loss is not finite."""
        with global_seed(context.seed, context.device):
            with context.phase("load"):
                problem = self.problem(context)
            with context.phase("init"):
                trained = start(technique, problem)
            perturb_start(training.trained(trained.optimizer), context)
            with context.phase("train"):
                fit(technique, trained, problem)
            with context.phase("test"):
                metrics = quality(technique, trained.model, problem)
        return _outcome(technique, trained, problem, metrics)

    def evaluate_stacked(
        self, techniques: Sequence[RegularizeTechnique], contexts: Sequence[CaseContext]
    ) -> list[Outcome]:
        """Return the outcome of `evaluate` for each, trained together.

        Raises `harness.api.CannotStack` where stacking would change a number.
        """
        require_same(contexts, but=("lr",))
        first = contexts[0]
        generators = GlobalGenerators(first.device)
        with first.phase("load"):
            problems = [self._seeded_problem(context) for context in contexts]
        trained = []
        for technique, problem, context in zip(techniques, problems, contexts, strict=True):
            with global_seed(context.seed, context.device), first.phase("init"):
                trained.append(start(technique, problem))
            perturb_start(training.trained(trained[-1].optimizer), context)
        with first.phase("train"):
            notes = fit_stacked(techniques, trained, problems)
        outcomes = []
        for technique, model_state, problem in zip(techniques, trained, problems, strict=True):
            with first.phase("test"):
                metrics = quality(technique, model_state.model, problem)
            outcomes.append(_outcome(technique, model_state, problem, metrics, notes))
        generators.require_untouched()
        return outcomes

    def _seeded_problem(self, context: CaseContext) -> Problem:
        with global_seed(context.seed, context.device):
            return self.problem(context)

    def open(self, technique: RegularizeTechnique, context: CaseContext) -> OpenCase:
        """Prepare a training step and the prediction of a batch, on examples like the first ``batch_size`` ones."""
        with global_seed(context.seed, context.device):
            problem = self.problem(context)
            with context.phase("init"):
                trained = start(technique, problem)
        batch = problem.parts.train.at(torch.arange(min(problem.settings.batch_size, len(problem.parts.train))))
        fresh = FreshBatches({"inputs": batch.inputs, "targets": batch.targets})
        steps = problem.task.steps  # not the problem, which holds all examples

        def step(stepper: Stepper, examples: Mapping[str, Tensor], number: int) -> None:
            # counted round and round, as schedules of a technique go by the number of a step
            stepper(examples["inputs"], examples["targets"], number % steps)

        def predicted(fitted: RegularizeTechnique, model: nn.Module, examples: Mapping[str, Tensor]) -> Tensor:
            return predict(fitted, model, Examples(**examples), context.seed)

        train = RepeatedStep(Stepper(technique, trained), fresh, step)

        def of(copied: Callable[[], Stepper], examples: Mapping[str, Tensor]) -> Tensor:
            stepper = copied()
            return predicted(stepper.technique, stepper.model, examples)

        infer = RepeatedPrediction(
            fresh,
            partial(predicted, technique, trained.model),
            partial(of, train.later()),
            before=partial(of, train.later(as_it_was=True)),
        )
        return OpenCase(
            phases={
                "train": Phase(run=train, samples=len(batch), verify=train.verify, refresh=train.refresh),
                "infer": Phase(run=infer, samples=len(batch), verify=infer.verify, refresh=infer.refresh),
            }
        )

    def check(self, technique: RegularizeTechnique, context: CaseContext) -> None:
        """Check the contract's invariants on this workload's model and data. Raises Incorrect at the first failure."""
        with global_seed(context.seed, context.device):
            problem = self.problem(context)
            places = problem.model.places().names()  # type: ignore[operator]  # a Slotted
            before = checks.modules_at(problem.model, places)
            neutral = technique.neutral()
            trained = start(technique, problem)
            trains = TrainingWatch(trained.model)
            fit(technique, trained, problem, steps=checks.STEPS)
            trains.require(checks.STEPS)
            checks.require_prediction(technique, trained, problem)
            entered = checks.entered(trained.model, before, problem.parts.train.inputs[: checks.EXAMPLES])
            for name, module, arguments in entered:
                checks.require_dead_where_dropped(name, module, arguments)
                if technique.mean_preserving:
                    checks.require_mean(name, module, arguments)
            if neutral is not None:
                checks.require_neutral(neutral, self.problem(context), self.problem(context))

    def dataset(self, cache: Path) -> Dataset:
        """Return the data set, from the cache or read now."""
        return cached(cache, self.name, self.read, self.libraries())

    def problem(self, context: CaseContext) -> Problem:
        """Return the data, the initialised model and the task of a case. Raises UsageError for invalid settings."""
        settings = read_settings(Settings, context.settings)
        dataset = self.dataset(context.cache)
        parts = self.parts(dataset, settings, generator(context.seed, "split"))
        labels = flipped(parts.train.targets, settings.flipped, self.classes, generator(context.seed, "labels"))
        parts = Parts(
            train=Examples(inputs=parts.train.inputs, targets=labels).to(context.device),
            validation=parts.validation.to(context.device),
            test=parts.test.to(context.device),
        )
        torch.manual_seed(seed_of(context.seed, "model"))
        model = self.build().to(context.device)
        return Problem(
            model=model,
            task=self._task(model, parts, settings, context.seed),
            parts=parts,
            settings=settings,
            seed=context.seed,
            notes=(f"data: {len(dataset.targets)} examples, SHA-256 {dataset.sha256}",),
        )

    def _task(self, model: nn.Module, parts: Parts, settings: Settings, seed: int) -> RegularizeTask:
        assert isinstance(model, Slotted)
        count = len(parts.train)
        return RegularizeTask(
            **asdict(model.places()),
            classes=self.classes,
            examples=count,
            batch_size=settings.batch_size,
            epochs=settings.epochs,
            steps=settings.epochs * -(-count // settings.batch_size),
            generator=generator(seed, "technique"),
        )


def _outcome(
    technique: RegularizeTechnique,
    trained: Trained,
    problem: Problem,
    metrics: Mapping[str, float],
    notes: Sequence[str] = (),
) -> Outcome:
    return Outcome(
        metrics=metrics,
        series=_series(technique, trained),
        notes=(*problem.notes, *_warnings(technique, metrics), *notes),
    )


def _series(technique: RegularizeTechnique, trained: Trained) -> dict[str, Sequence[float]]:
    """Return losses by epoch and the technique's curves, prefixed by ``technique_``."""
    series = {"train_loss": trained.losses, **({"val_loss": trained.validation} if trained.validation else {})}
    series.update({f"technique_{name}": [float(value) for value in curve] for name, curve in technique.curves.items()})
    return {name: [float(f"{value:.6g}") for value in curve] for name, curve in series.items()}


def _warnings(technique: RegularizeTechnique, metrics: Mapping[str, float]) -> tuple[str, ...]:
    """Return warnings: that the technique did nothing, and that the model does not overfit."""
    if technique.acted:
        return ()
    gap = metrics["train_accuracy"] - metrics["accuracy"]
    if gap >= OVERFIT_GAP:
        return ("the technique did nothing here",)
    return ("the technique did nothing here", f"{WARNING}the model does not overfit: a regulariser has nothing to gain")
